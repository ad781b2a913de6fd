"""Requests are signed as botocore, AWS's own client, signs them, and repeated as long as that may help."""

import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.aws import BOUNDED
from arcanna_metrics.aws_json import MOST_TRIES, TIMEOUT, AwsJson, CallRefused, SigV4
from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.platform.connect import parameters
from tests.support.aws_json import aws_json
from tests.support.doubles import Answer, answer, no_answer

TEXT = st.text("abcxyzABCXYZ019+/-=", min_size=1, max_size=40)
NAME = st.text("abcxyz019-", min_size=1, max_size=20)


def credentials(key_id: str, secret: str, token: str | None) -> dict[str, str]:
    """The variables that Lambda sets."""
    session = {"AWS_SESSION_TOKEN": token} if token else {}
    return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, **session}


def signed(auth: SigV4, content: bytes, headers: dict[str, str]) -> httpx.Request:
    """The request as it reaches the service."""
    arrived: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        arrived.append(request)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        http.post("https://service.eu-west-1.amazonaws.com:8443", content=content, headers=headers, auth=auth)
    return arrived[0]


@given(TEXT, TEXT, st.none() | TEXT, NAME, NAME, st.binary(max_size=100), TEXT)
def test_signature_equals_botocores(
    key_id: str, secret: str, token: str | None, region: str, service: str, content: bytes, target: str
) -> None:
    auth = SigV4(credentials(key_id, secret, token), region, service)

    request = signed(auth, content, {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target})

    sent = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(.+), SignedHeaders=(.+), Signature=(.+)",
        request.headers["Authorization"],
    )
    assert sent
    oracle = SigV4Auth(BotocoreCredentials(key_id, secret, token), service, region)
    names = sent[2].split(";")
    theirs = AWSRequest("POST", str(request.url), {n: request.headers[n] for n in names}, content)
    theirs.context["timestamp"] = request.headers["X-Amz-Date"]
    text = oracle.string_to_sign(theirs, oracle.canonical_request(theirs))
    assert sent[1] == oracle.scope(theirs)
    assert sent[3] == oracle.signature(text, theirs)
    assert set(names) - {"x-amz-security-token"} == {"content-type", "host", "x-amz-date", "x-amz-target"}
    assert request.headers.get("X-Amz-Security-Token") == token
    assert ("x-amz-security-token" in names) == (token is not None)


def test_requests_carry_the_time_at_which_they_are_signed() -> None:
    request = signed(SigV4(credentials("id", "secret", None), "eu-west-1", "service"), b"", {})

    stamp = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60


TEMPORARY: list[Answer] = [
    answer(500, text="oops"),
    answer(400, json={"__type": "ThrottlingException"}),
    no_answer(httpx.ReadTimeout("timed out")),
    no_answer(httpx.ConnectError("refused")),
]


@pytest.mark.parametrize("failure", TEMPORARY)
def test_call_that_fails_for_the_moment_is_repeated(failure: Answer) -> None:
    answers = iter([failure, failure, answer(json={"Name": "value"})])
    transport = httpx.MockTransport(lambda request: next(answers)(request))
    assert aws_json("ssm", transport).call("AmazonSSM.GetParameter") == {"Name": "value"}


@pytest.mark.parametrize("failure", TEMPORARY)
def test_call_that_keeps_failing_is_given_up_as_temporary(failure: Answer) -> None:
    calls: list[httpx.Request] = []

    def fail(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return failure(request)

    with pytest.raises(AwsUnavailable):
        aws_json("ssm", httpx.MockTransport(fail)).call("AmazonSSM.GetParameter")
    assert len(calls) == MOST_TRIES


@pytest.mark.parametrize(
    "refusal", [answer(400, json={"__type": "AccessDeniedException"}), answer(json=[]), answer(text="<html>")]
)
def test_call_that_is_refused_is_not_repeated(refusal: Answer) -> None:
    answers = iter([refusal])
    transport = httpx.MockTransport(lambda request: next(answers)(request))
    with pytest.raises(CallRefused):
        aws_json("ssm", transport).call("AmazonSSM.GetParameter")


def test_repeated_calls_wait_up_to_a_second_and_then_up_to_two() -> None:
    waits: list[float] = []
    http = httpx.Client(transport=httpx.MockTransport(answer(500)))
    service = AwsJson(http, "https://service.example", httpx.Auth(), waits.append)
    with pytest.raises(AwsUnavailable):
        service.call("Service.Call")
    assert len(waits) == MOST_TRIES - 1
    assert 0 <= waits[0] <= 1
    assert 0 <= waits[1] <= 2


def test_calls_are_limited_in_time_as_those_of_botocore() -> None:
    assert (BOUNDED.connect_timeout, BOUNDED.read_timeout) == (TIMEOUT, TIMEOUT)  # type: ignore[attr-defined]
    assert BOUNDED.retries["total_max_attempts"] == MOST_TRIES  # type: ignore[attr-defined]

    def limited(request: httpx.Request) -> httpx.Response:
        assert set(request.extensions["timeout"].values()) == {TIMEOUT}
        return httpx.Response(200, json={})

    assert aws_json("ssm", httpx.MockTransport(limited)).call("AmazonSSM.GetParameter") == {}


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({}, "ssm.eu-west-1.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "https://all.example"}, "all.example"),
    ],
)
def test_settings_are_read_in_the_stacks_region(variables: dict[str, str], host: str) -> None:
    given = {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "URL_SUFFIX": "amazonaws.com",
        "ARCANNA_API_KEY_SECRET_ARN": "arn:aws:secretsmanager:us-east-2:123456789012:secret:key",
        **variables,
    }
    asked: list[httpx.Request] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={})

    http: Any = httpx.Client(transport=httpx.MockTransport(note))
    parameters(given, http).call("AmazonSSM.GetParameter", Name="settings")
    (request,) = asked
    assert request.url.host == host
    assert "/eu-west-1/ssm/aws4_request" in request.headers["Authorization"]
    assert request.headers["X-Amz-Target"] == "AmazonSSM.GetParameter"
