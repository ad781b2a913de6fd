"""The key is read from the secret, cached, and never quoted."""

import json
import traceback
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from arcanna_metrics.errors import (
    NO_WAY,
    NOT_ALLOWED,
    ApiKeyMissing,
    ApiKeyUnavailable,
    AwsUnavailable,
    RetryLater,
)
from arcanna_metrics.platform.key import SecretApiKey
from tests.support.aws_json import MOTO, aws_json, endpoint
from tests.support.deployment import resource
from tests.support.doubles import Answer, answer, client, no_answer
from tests.unit.strategies import any_json, any_text, at_most

ENDPOINT = endpoint("secretsmanager")


def api_key(transport: httpx.BaseTransport, arn: str, field: str | None = None) -> SecretApiKey:
    return SecretApiKey(aws_json("secretsmanager", transport), arn, field)


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
        self.api_key_in_json = api_key(MOTO, self.arn, "key")

    def put(self, text: str) -> None:
        self._secrets.put_secret_value(SecretId=self.arn, SecretString=text)

    def put_bytes(self, data: bytes) -> None:
        self._secrets.put_secret_value(SecretId=self.arn, SecretBinary=data)

    def delete(self) -> None:
        self._secrets.delete_secret(SecretId=self.arn, ForceDeleteWithoutRecovery=True)


def test_key_is_read_once(secret: Secret) -> None:
    secret.put(" first\n")
    assert secret.api_key(False) == "first"
    secret.delete()
    assert secret.api_key(False) == "first"


def test_key_is_read_again_when_asked(secret: Secret) -> None:
    secret.put("first")
    assert secret.api_key(False) == "first"
    secret.put("second")
    assert secret.api_key(False) == "first"
    assert secret.api_key(True) == "second"
    assert secret.api_key(False) == "second"


def test_empty_secret_is_named_with_the_command_that_fills_it(secret: Secret) -> None:
    with pytest.raises(
        ApiKeyUnavailable, match=f"{secret.arn}.*into it as plain text, with put-secret-value"
    ):
        secret.api_key(False)
    with pytest.raises(ApiKeyUnavailable, match="into it in the field 'key' of a JSON object"):
        secret.api_key_in_json(False)


def test_empty_secret_of_a_new_stack_has_an_error_that_no_alarm_counts(
    secret: Secret,
) -> None:
    with pytest.raises(ApiKeyUnavailable) as raised:
        secret.api_key(False)
    assert type(raised.value) is ApiKeyMissing  # which the alarm does not count
    assert "ApiKeyMissing" not in json.dumps(resource("UnauthorisedAlarm"))
    secret.delete()
    with pytest.raises(ApiKeyUnavailable) as raised:
        secret.api_key(False)
    assert type(raised.value) is ApiKeyUnavailable


def test_deleted_secret_is_named(secret: Secret) -> None:
    secret.delete()
    with pytest.raises(ApiKeyUnavailable, match=secret.arn):
        secret.api_key(False)


FAILED_CALL = (AwsUnavailable, "secretsmanager.GetSecretValue at ")
REFUSED = (ApiKeyUnavailable, "the secret my-arn could not be read: ")


@pytest.mark.parametrize(
    ("failure", "means"),
    [
        (no_answer(httpx.ReadTimeout("slow")), FAILED_CALL),
        (no_answer(httpx.ConnectError("nobody there")), FAILED_CALL),
        (answer(500, text="oops"), FAILED_CALL),
        (answer(400, json={"__type": "AccessDeniedException", "Message": "not yours"}), REFUSED),
        (answer(302, headers={"Location": "https://elsewhere.example"}), REFUSED),
        (answer(200, text="hidden"), REFUSED),
        (answer(200, content=b'{"SecretString": "hidden'), REFUSED),
    ],
)
def test_failed_read_names_the_call_or_the_secret_and_not_the_value(
    failure: Answer, means: tuple[type[RetryLater], str]
) -> None:
    error, says = means
    with pytest.raises(error, match=f"^{says}") as raised:
        api_key(httpx.MockTransport(failure), "my-arn")(False)
    assert "hidden" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '{"SecretString": 1}', '{"SecretString": NaN}', "[" * 10_000, "<html>hidden"]
)
@pytest.mark.parametrize("field", [None, "api_key"])
def test_unexpected_response_of_secrets_manager_is_refused(body: str, field: str | None) -> None:
    transport = httpx.MockTransport(answer(content=body.encode()))
    says = "arn could not be read: .*unexpected"
    with pytest.raises(ApiKeyUnavailable, match=says) as raised:
        api_key(transport, "arn", field)(False)

    assert "hidden" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("charset", ["utf-8", "base64", "rot13", "undefined", "none"])
def test_error_response_in_any_charset_is_reported_with_its_status(charset: str) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}", "X-Owner": b"Z\xfcrich".decode("latin-1")}
    transport = httpx.MockTransport(
        lambda _: httpx.Response(
            503, content=b"oops\xff", headers=[(n.encode(), v.encode("latin-1")) for n, v in headers.items()]
        )
    )
    with pytest.raises(AwsUnavailable, match=f"{ENDPOINT} answered with 503: oops"):
        api_key(transport, "arn")(False)


def test_byte_order_mark_before_the_response_is_dropped() -> None:
    transport = httpx.MockTransport(answer(content=b'\xef\xbb\xbf{"SecretString": "first"}'))
    assert api_key(transport, "arn")(False) == "first"


@pytest.mark.parametrize(
    "body",
    [
        {"__type": "AccessDeniedException", "Message": "User: role is not authorized"},
        {"__type": "AccessDeniedException", "Message": "Access to KMS is not allowed"},
        {"__type": "DecryptionFailure"},
    ],
)
def test_denied_read_names_the_policies_to_check(body: dict[str, str]) -> None:
    refused = httpx.MockTransport(answer(400, json=body))
    with pytest.raises(ApiKeyUnavailable, match=f"{body.get('Message', '')}.*{NOT_ALLOWED}") as raised:
        api_key(refused, "my-arn")(False)
    assert "put-secret-value" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectTimeout("timed out"), httpx.ConnectError("no address"), httpx.ProxyError("403 Forbidden")],
)
def test_unreachable_secrets_manager_is_reported_with_advice(error: httpx.TransportError) -> None:
    with pytest.raises(AwsUnavailable, match=f"{ENDPOINT}: {type(error).__name__} {error}. {NO_WAY}"):
        api_key(httpx.MockTransport(no_answer(error)), "my-arn")(False)


@pytest.mark.parametrize(
    "failure",
    [
        answer(500, text="oops"),
        answer(400, json={"__type": "ThrottlingException"}),
        no_answer(httpx.ReadTimeout("slow")),
    ],
)
def test_temporary_failure_does_not_count_as_a_wrong_key(failure: Answer) -> None:
    says = f"^secretsmanager.GetSecretValue at {ENDPOINT}( answered with (500: oops|400: .*)|: ReadTimeout)$"
    with pytest.raises(AwsUnavailable, match=says):
        api_key(httpx.MockTransport(failure), "my-arn")(False)


def test_failed_read_is_tried_again(secret: Secret) -> None:
    with pytest.raises(ApiKeyUnavailable):
        secret.api_key(False)
    secret.put("key")
    assert secret.api_key(False) == "key"


def test_binary_secret_is_refused(secret: Secret) -> None:
    secret.put_bytes(b"hidden")
    with pytest.raises(ApiKeyUnavailable, match="does not hold an API key"):
        secret.api_key(False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" ", "it is empty"),
        ('""', "it is empty"),
        ("\ufeff", "it is empty"),
        ("hidden key", r"it contains U\+0020"),
        ("hidden\nkey", r"it contains U\+000A"),
        ("hidden\x00", r"it contains U\+0000"),
        ("hidden\u200b", r"it contains U\+200B"),
        ("hidd\ufeffen", r"it contains U\+FEFF"),
        ("hidd\u00a0en", r"it contains U\+00A0"),
        ("hiddén", "it contains a character that no HTTP header can hold"),
        ("“hidden”", "it contains a character that no HTTP header can hold"),
        ('\\"hidden\\"', "it contains a quotation mark"),
        ('hid"den', "it contains a quotation mark"),
        ('{"hidden": "key"}', "it is a JSON document"),
        ('{"hidden":"key"}', "it is a JSON document"),
        ('["hidden"]', "it is a JSON document"),
        ('"[\\"hidden\\"]"', "it is a JSON document"),
    ],
)
def test_invalid_key_is_refused_with_the_reason_and_not_quoted(secret: Secret, text: str, why: str) -> None:
    secret.put(text)
    with pytest.raises(ApiKeyUnavailable, match=f"does not hold an API key: {why}") as raised:
        secret.api_key(False)
    assert "hidd" not in str(raised.value)


WRAPPED = [
    "first",
    " first\r\n",
    '"first"',
    ' "first" \n',
    '" first "',
    "'first'",
    "'\"first\"'",
    "' \"first\" '",
    '"\\"first\\""',
    '"\\u0066irst\\n"',
    "\ufefffirst",
    '\ufeff"first"\n',
    '"\ufefffirst"',
    " \ufeff first",
    '"fir\\st"',
    '"first',
    "\ufeff \ufeff first",
    "' " * 3000 + "first",
]


@pytest.mark.parametrize("text", WRAPPED)
def test_blanks_quotes_and_byte_order_marks_around_the_key_are_dropped(secret: Secret, text: str) -> None:
    secret.put(text)
    assert secret.api_key(False) == ("fir\\st" if "\\st" in text else "first")


@pytest.mark.parametrize("text", WRAPPED)
def test_blanks_quotes_and_byte_order_marks_around_the_field_are_dropped(secret: Secret, text: str) -> None:
    secret.put(json.dumps({"key": text}))
    assert secret.api_key_in_json(False) == ("fir\\st" if "\\st" in text else "first")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: f"\ufeff{text}",
        lambda text: f" '{text}'\n",
        json.dumps,
        lambda text: json.dumps(json.dumps(text)),
    ],
)
def test_quotes_and_byte_order_marks_around_the_document_are_dropped(
    secret: Secret, wrap: Callable[[str], str]
) -> None:
    secret.put(wrap(json.dumps({"key": "first"})))
    assert secret.api_key_in_json(False) == "first"


@settings(at_most(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1))
def test_any_secret_yields_a_valid_header_value_or_is_refused(secret: Secret, text: str) -> None:
    secret.put(text)
    try:
        key = secret.api_key(True)
    except ApiKeyUnavailable:
        return

    assert key in text or text.strip()[0] in "\"'\ufeff"
    assert all("!" <= character <= "~" for character in key)


# --- As a field of a JSON object -------------------------------------------------------------------------


def test_key_is_read_from_the_named_field(secret: Secret) -> None:
    secret.put(json.dumps({"user": "somebody", "key": " first\n"}))
    assert secret.api_key_in_json(False) == "first"


@pytest.mark.parametrize("text", ['{"key":"hidden","password":"hidden"}', "{}"])
def test_json_document_without_a_field_setting_is_refused_with_advice(secret: Secret, text: str) -> None:
    secret.put(text)
    with pytest.raises(ApiKeyUnavailable, match="or correct the parameter ApiKeySecretField") as raised:
        secret.api_key(False)
    assert "hidden" not in "".join(traceback.format_exception(raised.value))


def test_field_of_a_rotated_json_secret_is_read_again_when_asked(secret: Secret) -> None:
    secret.put(json.dumps({"key": "first"}))
    assert secret.api_key_in_json(False) == "first"
    secret.put(json.dumps({"rotated": "today", "key": "second"}))
    assert secret.api_key_in_json(False) == "first"
    assert secret.api_key_in_json(True) == "second"


@pytest.mark.parametrize(
    "text",
    [
        "hidden",
        "{hidden",
        '"hidden"',
        '["hidden"]',
        "null",
        '{"Key": "hidden"}',
        '{"key": {"key": "hidden"}}',
        '{"key": ["hidden"]}',
        '{"key": null, "other": "hidden"}',
        '{"key": 7777777777}',
        '{"key": ""}',
        '{"key": "hidden\\nkey"}',
        '{"key": "hidd\\u00e9n"}',
        '{"key": ' + "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_secret_without_a_key_in_its_field_is_refused_and_not_quoted(secret: Secret, text: str) -> None:
    secret.put(text)
    with pytest.raises(ApiKeyUnavailable, match=r"into it in the field 'key' of a JSON object") as raised:
        secret.api_key_in_json(False)
    told = "".join(traceback.format_exception(raised.value))

    assert secret.arn in told
    assert "ApiKeySecretField" in told
    assert not [quoted for quoted in ("hidd", "7777777777", "[[") if quoted in told]


@settings(at_most(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=any_json | st.fixed_dictionaries({"key": any_json | any_text}), cut=st.integers(0, 3))
def test_any_json_secret_yields_a_valid_header_value_or_is_refused(
    secret: Secret, document: object, cut: int
) -> None:
    text = json.dumps(document)
    secret.put(text[: len(text) - cut] or "x")
    try:
        key = secret.api_key_in_json(True)
    except ApiKeyUnavailable:
        return

    assert isinstance(document, dict)
    assert key in document["key"] or document["key"].strip()[0] in "\"'\ufeff"
    assert all("!" <= character <= "~" for character in key)
