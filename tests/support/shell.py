"""A shell with variables that would redirect a command: proxies, settings of AWS and moto, a locale."""

import os
import subprocess
import sys

from tests.support.deployment import ROOT

NOBODY = "http://127.0.0.1:9"
PROXIES = {
    "HTTP_PROXY": NOBODY,
    "http_proxy": NOBODY,
    "HTTPS_PROXY": NOBODY,
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "NO_PROXY": "intranet.example",
}
SHELL = {
    **PROXIES,
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "AWS_PROFILE": "nobody",
    "AWS_CONFIG_FILE": str(ROOT / "Makefile"),  # botocore cannot read this
    "AWS_DEFAULTS_MODE": "unheard-of",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_ENDPOINT_URL": NOBODY,
    "MOTO_ACCOUNT_ID": "111122223333",
    "INITIAL_NO_AUTH_ACTION_COUNT": "0",
    "LC_ALL": "C",
    "PYTHONPATH": "layers/arcanna_metrics",
}
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TESTS_"))}


def python(*arguments: str) -> str:
    """Runs Python in such a shell. Asserts that it succeeds, and returns its output."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**CLEAN, **SHELL},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
