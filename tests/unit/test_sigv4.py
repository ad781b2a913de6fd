"""Requests are signed as botocore, AWS's own client, signs them."""

import re
from datetime import UTC, datetime

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.platform.sigv4 import SigV4

TEXT = st.text("abcxyzABCXYZ019+/-=", min_size=1, max_size=40)
NAME = st.text("abcxyz019-", min_size=1, max_size=20)


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
    auth = SigV4(key_id, secret, token, region, service)

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
    request = signed(SigV4("id", "secret", None, "eu-west-1", "service"), b"", {})

    stamp = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60
