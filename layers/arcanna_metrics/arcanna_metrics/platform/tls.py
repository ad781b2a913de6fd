"""The CAs that TLS trusts: the public CAs, and those in the parameter CaBundle and in a file of the layer.

No setting turns verification off. The public CAs come from the deployed certifi; SSL_CERT_FILE and
SSL_CERT_DIR are ignored. They are read from a folder with one file for each CA, if the build made one.
Reading certifi's single file would take a tenth of a status check's start-up.
"""

import binascii
import re
import ssl
from pathlib import Path

import certifi

from arcanna_metrics.errors import ConfigurationError

CA_FILE = Path(__file__).parents[1] / "ca.pem"
"""For bundles too long for a parameter: layers/arcanna_metrics/ca.pem, if it exists at build time."""

HASHED = "hashed"
"""The folder beside certifi's file that layers/dependencies/Makefile makes of it."""

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_LINE_END = re.compile(r"\s+|\\[nr]")
"""Consoles, shells and JSON turn line ends into these."""


def context(bundle: str = "") -> ssl.SSLContext:
    """A context for clients. Building one is slow, so build one and share it.

    `bundle` is the PEM text in CaBundle. Raises ConfigurationError, which never quotes the certificates.
    """
    made = _public()
    if bundle.strip():
        _add(made, "ARCANNA_CA_BUNDLE (the parameter CaBundle)", bundle)
    if CA_FILE.exists() and (bundle := CA_FILE.read_text(errors="replace").strip()):
        _add(made, f"layers/arcanna_metrics/{CA_FILE.name}", bundle)
    return made


def _public() -> ssl.SSLContext:
    file = Path(certifi.where())
    folder = file.parent / HASHED
    if folder.is_dir():
        return ssl.create_default_context(capath=folder)
    return ssl.create_default_context(cafile=file)


def _add(context: ssl.SSLContext, name: str, bundle: str) -> None:
    """Makes the context trust the certificates in a PEM text. Text between them counts as comments."""
    blocks = _BLOCK.findall(bundle)
    if "-----" in _BLOCK.sub("", bundle):
        raise _wrong(name, "it contains something else, such as a private key, or a certificate is cut off")
    if not blocks:
        raise _wrong(name, "it contains no certificate")
    for number, block in enumerate(blocks, 1):
        try:
            certificate = binascii.a2b_base64(_LINE_END.sub("", block), strict_mode=True)
            context.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError):
            raise _wrong(name, f"certificate {number} is not valid") from None
    # Python 3.13 also requires the form of RFC 5280, such as critical basic constraints. The CAs of many
    # companies do not have it. Chain, host name and dates are still verified.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT


def _wrong(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} must be empty or contain the certificates of CAs as PEM,"
        f" -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, and nothing else: {why}"
    )
