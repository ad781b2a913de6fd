"""The key is read from the secret, kept, and never quoted."""

import traceback
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from recompute.api_key import SecretApiKey
from recompute.errors import ApiKeyUnavailable
from recompute.sigv4 import Credentials, SigV4
from tests.doubles import Answer, answer, client, no_answer

ENDPOINT = "https://secretsmanager.eu-central-1.amazonaws.com"
MOTO = httpx.WSGITransport(DomainDispatcherApplication(create_backend_app))


def api_key(transport: httpx.BaseTransport, arn: str) -> SecretApiKey:
    auth = SigV4(Credentials("testing", "testing", None), "eu-central-1", "secretsmanager")
    return SecretApiKey(httpx.Client(transport=transport), ENDPOINT, auth, arn)


@pytest.fixture
def secret() -> Iterator["Secret"]:
    with mock_aws():
        yield Secret()


class Secret:
    """A secret in Secrets Manager, and the key read from it."""

    def __init__(self) -> None:
        self._secrets = client("secretsmanager")
        self.arn = self._secrets.create_secret(Name="api-key")["ARN"]
        self.api_key = api_key(MOTO, self.arn)

    def put(self, text: str) -> None:
        self._secrets.put_secret_value(SecretId=self.arn, SecretString=text)

    def put_bytes(self, data: bytes) -> None:
        self._secrets.put_secret_value(SecretId=self.arn, SecretBinary=data)

    def delete(self) -> None:
        self._secrets.delete_secret(SecretId=self.arn, ForceDeleteWithoutRecovery=True)


def test_the_key_is_read_once(secret: Secret) -> None:
    secret.put(" first\n")
    assert secret.api_key(False) == "first"
    secret.delete()
    assert secret.api_key(False) == "first"


def test_the_key_is_read_again_when_asked(secret: Secret) -> None:
    secret.put("first")
    assert secret.api_key(False) == "first"
    secret.put("second")
    assert secret.api_key(False) == "first"
    assert secret.api_key(True) == "second"
    assert secret.api_key(False) == "second"


def test_a_secret_that_was_never_filled_is_named(secret: Secret) -> None:
    with pytest.raises(ApiKeyUnavailable, match=secret.arn):
        secret.api_key(False)


def test_a_secret_that_is_gone_is_named(secret: Secret) -> None:
    secret.delete()
    with pytest.raises(ApiKeyUnavailable, match=secret.arn):
        secret.api_key(False)


@pytest.mark.parametrize(
    "failure",
    [
        no_answer(httpx.ReadTimeout("slow")),
        no_answer(httpx.ConnectError("nobody there")),
        answer(400, json={"__type": "AccessDeniedException", "Message": "not yours"}),
        answer(500, text="oops"),
        answer(302, headers={"Location": "https://elsewhere.example"}),
        answer(200, text="hidden"),
        answer(200, content=b'{"SecretString": "hidden'),
    ],
)
def test_a_secret_that_cannot_be_read_is_named(failure: Answer) -> None:
    with pytest.raises(ApiKeyUnavailable, match="my-arn could not be read") as raised:
        api_key(httpx.MockTransport(failure), "my-arn")(False)
    assert "hidden" not in "".join(traceback.format_exception(raised.value))


def test_why_a_read_was_refused_is_told() -> None:
    refused = answer(400, json={"__type": "AccessDeniedException", "Message": "not yours"})
    with pytest.raises(ApiKeyUnavailable, match=r"AccessDeniedException.*not yours"):
        api_key(httpx.MockTransport(refused), "my-arn")(False)


def test_a_failed_read_is_not_kept(secret: Secret) -> None:
    with pytest.raises(ApiKeyUnavailable):
        secret.api_key(False)
    secret.put("key")
    assert secret.api_key(False) == "key"


def test_a_binary_secret_is_no_key(secret: Secret) -> None:
    secret.put_bytes(b"hidden")
    with pytest.raises(ApiKeyUnavailable, match="does not hold an API key"):
        secret.api_key(False)


@pytest.mark.parametrize(
    "text", [" ", "hidden key", "hidden\nkey", "hiddén", '{"hidden": "key"}', "hidden\x00"]
)
def test_what_cannot_be_a_header_is_no_key_and_is_not_quoted(secret: Secret, text: str) -> None:
    secret.put(text)
    with pytest.raises(ApiKeyUnavailable, match="does not hold an API key") as raised:
        secret.api_key(False)
    assert "hidd" not in str(raised.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(text=st.text(min_size=1))
def test_whatever_the_secret_holds_it_is_a_header_value_or_refused(secret: Secret, text: str) -> None:
    secret.put(text)
    try:
        key = secret.api_key(True)
    except ApiKeyUnavailable:
        return
    assert key == text.strip()
    assert all("!" <= character <= "~" for character in key)
