"""Whom TLS trusts: the public CAs, and those that ARCANNA_CA_BUNDLE names besides.

No setting switches the verification off, and none but this one changes it: the public CAs are certifi's, as
deployed, whatever SSL_CERT_FILE and SSL_CERT_DIR say.
"""

import binascii
import re
import ssl
from collections.abc import Iterator

import httpx

from recompute.errors import ConfigurationError
from recompute.settings import Environment

CA_BUNDLE = "ARCANNA_CA_BUNDLE"

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_LINE_END = re.compile(r"\s+|\\[nr]")
"""What becomes of line ends on the way through consoles, shells and JSON."""

_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
"""X509_V_ERR_*: an issuer's certificate is missing, or a self-signed one is not trusted.

https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
"""


def context(env: Environment) -> ssl.SSLContext:
    """A context for clients. Building one takes its time: make one, and share it.

    Raises ConfigurationError, which never quotes the variable.
    """
    made = httpx.create_ssl_context(trust_env=False)
    bundle = env.optional(CA_BUNDLE)
    if bundle is None:
        return made
    for number, certificate in enumerate(_certificates(bundle), 1):
        try:
            made.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError):
            raise _wrong(f"the {number}. certificate is none") from None
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
                ". If a private CA has signed Arcanna's certificate, give that CA as the parameter CaBundle"
            )
        cause = cause.__cause__ or cause.__context__  # httpcore raises it `from None`
    return ""


def _certificates(bundle: str) -> Iterator[bytes]:
    """The certificates of a PEM text, as DER. What stands between them is taken for comments."""
    blocks = _BLOCK.findall(bundle)
    if "-----" in _BLOCK.sub("", bundle):
        raise _wrong("something else is in there, or a certificate is cut off")
    if not blocks:
        raise _wrong("there is none")
    for number, block in enumerate(blocks, 1):
        try:
            yield binascii.a2b_base64(_LINE_END.sub("", block), strict_mode=True)
        except ValueError:
            raise _wrong(f"the {number}. certificate is not base64") from None


def _wrong(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{CA_BUNDLE} (the parameter CaBundle) must be empty or hold the certificates of CAs as PEM,"
        f" -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, and nothing else: {why}"
    )
