"""Variables of a user's shell do not affect connections to this machine."""

import json
import os

import pytest
from botocore.utils import get_environ_proxies

from arcanna_metrics_cli.endpoint import reach_loopback_directly
from tests.support.shell import NOBODY, PROXIES, python


def test_local_processes_get_no_settings_or_proxies_but_know_these_for_downloads() -> None:
    program = """
import json, os, subprocess, sys
from tests.support.this_machine import proxies
import boto3, httpx
httpx.Client().close()
client = boto3.client("s3", region_name="eu-west-1")
assert client.meta.endpoint_url.startswith("https://s3."), client.meta.endpoint_url
child = "import tests.support.this_machine as m, json; print(json.dumps(m.proxies()))"
known = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
assert json.loads(known.stdout) == proxies()
print(json.dumps([dict(os.environ), proxies()]))
"""
    environment, kept = json.loads(python("-c", program))
    assert not {"MOTO_ACCOUNT_ID", "INITIAL_NO_AUTH_ACTION_COUNT"} & environment.keys()
    assert not {name for name in environment if "proxy" in name.lower() or name == "SSL_CERT_FILE"}
    assert {name: kept[name] for name in PROXIES} == PROXIES


# --- The operators' commands -----------------------------------------------------------------------------


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An operator's shell behind a proxy."""
    for name in [name for name in os.environ if name.startswith("AWS_") or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("HTTPS_PROXY", NOBODY)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    for name in ("no_proxy", "NO_PROXY"):  # so that they are put back after the test
        monkeypatch.setenv(name, "")
    return monkeypatch


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:4566"])
def test_local_stack_is_reached_without_proxy_and_profile(shell: pytest.MonkeyPatch, endpoint: str) -> None:
    shell.setenv("AWS_ENDPOINT_URL", endpoint)
    shell.setenv("AWS_ACCESS_KEY_ID", "operator")
    reach_loopback_directly()
    assert get_environ_proxies(endpoint) == {}
    assert "AWS_PROFILE" not in os.environ


@pytest.mark.parametrize("endpoint", ["", "https://aws.example", "no URL", "http://[broken"])
def test_deployed_stack_is_reached_with_the_shells_proxy_and_profile(
    shell: pytest.MonkeyPatch, endpoint: str
) -> None:
    shell.setenv("AWS_ENDPOINT_URL", endpoint)
    shell.setenv("AWS_ACCESS_KEY_ID", "operator")
    reach_loopback_directly()
    assert get_environ_proxies("https://sqs.eu-west-1.amazonaws.com")["https"] == NOBODY
    assert os.environ["AWS_PROFILE"] == "nobody"


def test_profile_is_kept_for_a_local_stack_if_there_are_no_keys(shell: pytest.MonkeyPatch) -> None:
    shell.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    reach_loopback_directly()
    assert os.environ["AWS_PROFILE"] == "nobody"


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_existing_no_proxy_entries_are_kept(shell: pytest.MonkeyPatch, name: str) -> None:
    shell.delenv("no_proxy")
    shell.delenv("NO_PROXY")
    shell.setenv(name, "aws.example")
    reach_loopback_directly()
    assert get_environ_proxies("http://aws.example") == get_environ_proxies("http://127.0.0.1") == {}
    assert get_environ_proxies("http://other.example")["http"] == NOBODY
    shell.setenv("no_proxy", "*")
    reach_loopback_directly()
    assert get_environ_proxies("http://other.example") == {}
