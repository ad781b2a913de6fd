"""Keeps the process on this machine. It must be imported before moto.

A shell may set proxies, an AWS profile and an endpoint for what leaves this machine. The demo, the local
stack and the tests do not leave it, except to download packages. moto asks for AWS's regions as soon as it is
imported, and fails where the profile does not exist.
"""

import json
import os
from pathlib import Path

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SETTINGS = ("AWS_", "MOTO_", "INITIAL_NO_AUTH_ACTION_COUNT")
"""How the names of boto3's and moto's settings begin. moto's may name an account, or ask for credentials."""
_KEPT = "TESTS_PROXIES"
"""Holds the proxies as JSON, for child processes."""


def proxies() -> dict[str, str]:
    """The proxy variables of the caller's shell, for commands that download something."""
    kept: dict[str, str] = json.loads(os.environ.get(_KEPT, "{}"))
    return kept


def _keep_to_this_machine() -> None:
    kept = proxies()
    for name in list(os.environ):
        if name.lower() in _PROXIES:
            kept[name] = os.environ.pop(name)
        elif name.startswith(_SETTINGS) or (name in _CERTIFICATES and not Path(os.environ[name]).exists()):
            del os.environ[name]
    os.environ.update(
        {
            _KEPT: json.dumps(kept),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",  # moto requires credentials; these grant nothing
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )


_keep_to_this_machine()
