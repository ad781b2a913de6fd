"""A private CA, such as companies use, and the certificates that it signs."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


class Authority:
    """A CA with its own key. `pem` is its certificate.

    `by_the_book`: whether it has the extensions of RFC 5280, which older CAs of companies often lack.
    """

    def __init__(
        self, name: str = "A company's CA", *, by_the_book: bool = True, expired: bool = False
    ) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        until = datetime.now(UTC) + (-DAY if expired else DAY)
        certificate = (
            _certificate(self._name, self._name, self._key.public_key(), until - 2 * DAY, until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=by_the_book)
            .add_extension(self._identifier, critical=False)
            .add_extension(_MAY_SIGN, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = _pem(certificate)

    def issue(self, folder: Path, *hosts: str, expired: bool = False) -> tuple[Path, Path]:
        """A server's certificate for these names and addresses, and its key, as PEM files in `folder`."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = datetime.now(UTC) + (-DAY if expired else DAY)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        certificate = (
            _certificate(_named("arcanna"), self._name, key.public_key(), until - 2 * DAY, until)
            .add_extension(
                x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
            )
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _written(folder, certificate, key)

    @property
    def _identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that no CA has signed, and its key, as PEM files in `folder`."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), _named("arcanna"), datetime.now(UTC)
    certificate = (
        _certificate(name, name, key.public_key(), now - DAY, now + DAY)
        .add_extension(x509.SubjectAlternativeName([_alternative("127.0.0.1")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _written(folder, certificate, key)


_MAY_SIGN = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _written(
    folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    certfile, keyfile = folder / "certificate.pem", folder / "key.pem"
    certfile.write_text(_pem(certificate))
    keyfile.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certfile, keyfile


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
