"""Whom TLS trusts: the public CAs, and those of ARCANNA_CA_BUNDLE and of a file of the layer besides.

No setting switches the verification off, and nothing else changes it: the public CAs are certifi's, as
deployed, whatever SSL_CERT_FILE and SSL_CERT_DIR say.
"""

import binascii
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.observability import logger
from arcanna_metrics.settings import Environment

CA_BUNDLE = "ARCANNA_CA_BUNDLE"
CA_FILE = Path(__file__).parents[1] / "ca.pem"
"""For what is too long for a variable: layers/arcanna_metrics/ca.pem, if there is one at the build."""

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_LINE_END = re.compile(r"\s+|\\[nr]")
"""What becomes of line ends on the way through consoles, shells and JSON."""

_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
"""X509_V_ERR_*: an issuer's certificate is missing, or a self-signed one is not trusted.

https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
"""


def context(env: Environment) -> ssl.SSLContext:
    """A context for clients. Building one takes its time: make one, and share it.

    Raises ConfigurationError, which never quotes the certificates.
    """
    made = httpx.create_ssl_context(trust_env=False)
    bundles = list(_bundles(env))
    for name, bundle in bundles:
        for number, certificate in enumerate(_certificates(name, bundle), 1):
            try:
                made.load_verify_locations(cadata=certificate)
                _tell_if_expired(name, number, certificate)
            except (ssl.SSLError, ValueError):
                raise _wrong(name, f"the {number}. certificate is none") from None
    if not bundles:
        return made
    # Python 3.13 also wants the form of RFC 5280, such as critical basic constraints, which many companies'
    # CAs do not have. Chain, host name and dates are verified as ever.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return made


def advice(error: BaseException) -> str:
    """What to do about a certificate whose CA is not known; nothing about any other error."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _UNKNOWN_ISSUER:
            return (
                ". If a private CA has signed Arcanna's certificate, give that CA as the parameter CaBundle,"
                f" or in the file layers/arcanna_metrics/{CA_FILE.name}"
            )
        cause = cause.__cause__ or cause.__context__  # httpcore raises it `from None`
    return ""


def _bundles(env: Environment) -> Iterator[tuple[str, str]]:
    """What is given of PEM texts, each with its name."""
    if bundle := env.optional(CA_BUNDLE):
        yield f"{CA_BUNDLE} (the parameter CaBundle)", bundle
    if CA_FILE.exists() and (bundle := CA_FILE.read_text(errors="replace").strip()):
        yield f"layers/arcanna_metrics/{CA_FILE.name}", bundle


def _certificates(name: str, bundle: str) -> Iterator[bytes]:
    """The certificates of a PEM text, as DER. What stands between them is taken for comments."""
    blocks = _BLOCK.findall(bundle)
    if "PRIVATE KEY-----" in bundle:
        raise _wrong(name, "a private key is in there, where none belongs")
    if "-----" in _BLOCK.sub("", bundle):
        raise _wrong(name, "something else is in there, or a certificate is cut off")
    if not blocks:
        raise _wrong(name, "there is none")
    for number, block in enumerate(blocks, 1):
        try:
            yield binascii.a2b_base64(_LINE_END.sub("", block), strict_mode=True)
        except ValueError:
            raise _wrong(name, f"the {number}. certificate is not base64") from None


def _tell_if_expired(name: str, number: int, certificate: bytes) -> None:
    """Told, and no error: its successor often stands beside it, and an update can wait for one.

    Of a certificate that is no CA's, Python tells nothing here: its calls will fail, and say so.
    """
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    alone.load_verify_locations(cadata=certificate)
    for ca in alone.get_ca_certs():
        if ssl.cert_time_to_seconds(until := str(ca["notAfter"])) < time.time():
            logger.warning("a CA has expired", detail=f"{name}, the {number}. certificate: {until}")


def _wrong(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} must be empty or hold the certificates of CAs as PEM,"
        f" -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, and nothing else: {why}"
    )
