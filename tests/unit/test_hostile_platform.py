"""A hostile platform in front of the real client: any status, header bytes, body and transport error.

The client raises only the project's own errors. Each names the answer, and none contains the API key. A
request that was answered with 2xx is sent once. Every result of the client can be written as JSON.
"""

import json
import re
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arcanna_metrics.errors import PlatformUnavailable, RecomputeError, Rejected, RetryLater
from arcanna_metrics.platform.client import Arcanna, RecomputeRequest
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.platform.model_metrics import ModelMetrics
from tests.support.doubles import API_KEY, BASE_URL, MODEL, metrics_body, request_body
from tests.unit.strategies import any_json

CALLS: dict[str, Callable[[Arcanna], object]] = {
    "metrics": lambda arcanna: arcanna.metrics(MODEL),
    "request": lambda arcanna: arcanna.request_recompute(MODEL),
    "job": lambda arcanna: arcanna.active_model(MODEL.job_id),
    "scopes": lambda arcanna: arcanna.scopes(),
    "resources": lambda arcanna: arcanna.job_id_of("security-alerts"),
}
DOCUMENTED: dict[str, Any] = {
    "metrics": metrics_body(),
    "request": request_body(),
    "job": {"active_model_id": MODEL.model_id},
}
every_call = pytest.mark.parametrize("name", CALLS)

odd_json = any_json | st.sampled_from(
    [
        "",
        " ",
        "0001-01-01T00:00:00Z",
        "2025-01-15T14:30:00Z",
        "error",
        "failed",
        10**400,
        1e300,
        -0.0,
        95.0,
        "\ud800",
    ]
)
error_fields = st.dictionaries(
    st.sampled_from(["status", "error", "error_message", "reason", "reason_details", "detail", "details"]),
    odd_json,
)
jobs = st.lists(
    odd_json | st.fixed_dictionaries({"id": odd_json, "title": st.just("security-alerts") | odd_json}),
    max_size=3,
)
statuses = st.sampled_from(
    [200, 201, 202, 204, 307, 400, 401, 403, 404, 408, 422, 429, 500, 503]
) | st.integers(200, 999)
header_values = st.binary(max_size=40).map(
    lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value).strip()
)
header_names = st.sampled_from(
    [
        b"X-Owner",
        b"Retry-After",
        b"Date",
        b"Location",
        b"Set-Cookie",
        b"Content-Type",
        b"Content-Encoding",
        b"Age",
    ]
)
headers = st.lists(st.tuples(header_names, header_values), max_size=4)


def documented(name: str) -> st.SearchStrategy[object]:
    """The documented body of an endpoint, with any value in some fields and without others."""
    if name not in DOCUMENTED:
        return jobs if name == "resources" else st.lists(odd_json, max_size=3)
    body = DOCUMENTED[name]
    changes = st.dictionaries(st.sampled_from(list(body)), odd_json)
    without = st.sets(st.sampled_from(list(body)), max_size=2)
    return st.builds(
        lambda changed, errors, missing: {
            k: v for k, v in {**body, **errors, **changed}.items() if k not in missing
        },
        changes,
        error_fields,
        without,
    )


bodies = st.one_of(
    st.one_of(*(documented(name) for name in CALLS)).map(json.dumps).map(str.encode),
    odd_json.map(json.dumps).map(str.encode),
    st.binary(max_size=60),
    st.text(max_size=20).map(lambda text: text.encode("utf-16", "replace")),
    st.sampled_from([b"[" * 100_000, b"9" * 5_000, b"\xef\xbb\xbf{}", b'{"a":' * 990 + b"1" + b"}" * 990]),
)


class Hostile(httpx.BaseTransport):
    """Gives every request the same answer, and keeps the requests."""

    def __init__(self, status: int, given: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        self.requests: list[httpx.Request] = []
        self._status, self._headers, self._body = status, list(given), body

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self._status, headers=self._headers, stream=httpx.ByteStream(self._body))


def outcome(call: Callable[[Arcanna], object], transport: httpx.BaseTransport) -> object:
    """The result of the call, or its error, which must be a project error without the key."""
    with BoundedClient(base_url=BASE_URL, transport=transport) as http:
        try:
            return call(Arcanna(http, lambda read_again: API_KEY))
        except RecomputeError as error:
            raised = error
    assert API_KEY not in str(raised)
    str(raised).encode()  # can be logged and sent
    return raised


def assert_can_be_passed_on(value: object) -> None:
    """Asserts that a result is JSON of bounded size in the shape that callers rely on."""
    if isinstance(value, ModelMetrics):
        assert type(value.recomputing) is bool
        assert value.timestamp is None or value.timestamp.strip() == value.timestamp != ""
        value = value.as_dict()
    elif isinstance(value, RecomputeRequest):
        assert type(value.failed) is bool
        assert value.job_id is None or str(int(value.job_id)) == value.job_id
        if value.requested_at is not None:
            assert len(value.requested_at) <= 64
        value = [value.failed, value.requested_at, value.job_id]
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert len(text.encode()) < 64 * 1024
    json.loads(text, parse_int=lambda digits: int(digits).to_bytes(8, signed=True))


@every_call
@given(status=statuses, given_headers=headers, body=bodies)
@example(status=200, given_headers=[], body=json.dumps(metrics_body(last_recomputed_timestamp="")).encode())
@example(status=202, given_headers=[(b"X-Owner", b"Z\xfcrich")], body=json.dumps(request_body()).encode())
@example(status=503, given_headers=[(b"X-Owner", b"Z\xfcrich"), (b"Retry-After", b"7")], body=b"")
@example(status=502, given_headers=[], body=b"\x1f\x8b\x08")
def test_any_answer_is_understood_or_an_error_that_names_the_call(
    name: str, status: int, given_headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    platform = Hostile(status, given_headers, body)
    found = outcome(CALLS[name], platform)
    assert len(platform.requests) == 1
    if not isinstance(found, RecomputeError):
        assert 200 <= status < 300 or name == "resources"
        assert_can_be_passed_on(found)
    elif not (isinstance(found, Rejected) and "has no active model" in str(found)):
        is_gzip = body.startswith(b"\x1f\x8b")
        shown = "(The response is compressed" if is_gzip else body.decode("utf-8-sig", errors="replace")[:300]
        assert f" with {status}: {repr(shown)[:-1]}" in str(found)
        assert not isinstance(found, RetryLater) or found.retry_after is None or found.retry_after >= 0


@given(st.integers(200, 299), headers, documented("request").map(json.dumps).map(str.encode) | bodies)
def test_request_answered_with_2xx_is_accepted_failed_or_a_platform_error(
    status: int, given_headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    platform = Hostile(status, given_headers, body)
    found = outcome(CALLS["request"], platform)
    assert len(platform.requests) == 1
    if isinstance(found, RecomputeError):
        said = json.loads(body.decode("utf-8-sig"))
        assert isinstance(found, RetryLater)
        assert not found.effect_unknown
        assert str(said.get("status")).strip().lower() == "error" or any(
            said.get(field) for field in ("error", "error_message", "reason", "reason_details", "detail")
        )
    else:
        assert isinstance(found, RecomputeRequest)
        assert found.failed or not says_error(body)


def says_error(body: bytes) -> bool:
    """Whether one of the documented fields says that the body is an error. Numbers beyond JSON's are null."""

    def in_64_bits(digits: str) -> int | None:
        return number if -(2**63) <= (number := int(digits)) < 2**63 else None

    try:
        said = json.loads(body.decode("utf-8-sig"), parse_constant=lambda _: None, parse_int=in_64_bits)
    except (ValueError, RecursionError):
        return False
    fields = said if isinstance(said, dict) else {}
    return fields.get("status") == "error" or bool(fields.get("error") or fields.get("error_message"))


@pytest.mark.parametrize("name", ["metrics", "request", "job"])
@given(data=st.data())
def test_any_value_in_a_documented_field_is_understood_or_refused(name: str, data: st.DataObject) -> None:
    body = data.draw(documented(name))
    found = outcome(CALLS[name], Hostile(200, [], json.dumps(body).encode()))
    if not isinstance(found, RecomputeError):
        assert_can_be_passed_on(found)


@given(jobs)
def test_resolved_job_id_belongs_to_a_job_with_that_title(listed: list[Any]) -> None:
    found = outcome(CALLS["resources"], Hostile(200, [], json.dumps(listed).encode()))
    titled = [job for job in listed if isinstance(job, dict) and job.get("title") == "security-alerts"]
    assert found is None or {int(float(job["id"])) for job in titled} == {int(str(found))}


transport_errors = st.builds(
    lambda kind, said: kind(said),
    st.sampled_from(
        [
            *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.ReadError),
            *(httpx.ReadTimeout, httpx.WriteError, httpx.WriteTimeout, httpx.CloseError, httpx.DecodingError),
            *(httpx.RemoteProtocolError, httpx.LocalProtocolError, httpx.UnsupportedProtocol),
        ]
    ),
    st.text(max_size=400) | st.just(f"illegal status line: {API_KEY!r}"),
)


@every_call
@given(error=transport_errors)
def test_any_transport_error_means_platform_unavailable(name: str, error: httpx.TransportError) -> None:
    attempts = []

    def fail(request: httpx.Request) -> httpx.Response:
        attempts.append(request)
        raise error

    found = outcome(CALLS[name], httpx.MockTransport(fail))
    assert isinstance(found, PlatformUnavailable)
    assert type(error).__name__ in str(found)
    assert len(attempts) == 1
    nothing_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
    assert found.effect_unknown is (name == "request" and not nothing_sent)


# --- Bytes on the wire -------------------------------------------------------------------------------------


UNUSED_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Wire(httpx.HTTPTransport):
    """httpx's own transport and parser, which read these bytes instead of a socket's."""

    def __init__(self, received: bytes) -> None:
        super().__init__(verify=UNUSED_CONTEXT)
        pieces = [received[at : at + 4096] for at in range(0, len(received), 4096)]
        self._pool = httpcore.ConnectionPool(UNUSED_CONTEXT, network_backend=httpcore.MockBackend(pieces))
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        return super().handle_request(request)


wire_headers = st.lists(
    st.builds(
        lambda name, value: name + b": " + value,
        header_names | st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade"]),
        st.binary(max_size=30) | st.sampled_from([b"5", b"chunked", b"close", b"9" * 5_000, b"-1", b"17"]),
    )
    | st.binary(max_size=30),
    max_size=4,
).map(b"\r\n".join)
responses = st.builds(
    lambda line, given, body: line + b"\r\n" + given + b"\r\n\r\n" + body,
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 202 Z\xfcrich",
            b"HTTP/1.0 503",
            b"HTTP/1.1 101 X",
            b"HTTP/1.1 999 ?",
            b"ICY",
        ]
    ),
    wire_headers,
    bodies,
)


@every_call
@given(received=responses | st.binary(max_size=200))
def test_any_bytes_on_the_wire_are_an_answer_or_a_project_error(name: str, received: bytes) -> None:
    wire = Wire(received)
    found = outcome(CALLS[name], wire)
    assert wire.sent == 1
    if not isinstance(found, RecomputeError):
        assert_can_be_passed_on(found)


@given(st.binary(max_size=60).map(lambda value: bytes(b for b in value if b >= 32 and b != 127)))
def test_any_valid_header_value_is_harmless(value: bytes) -> None:
    body = json.dumps(request_body()).encode()
    given_headers = b"X-Owner: %b\r\nSet-Cookie: a=%b\r\nLocation: %b\r\n" % (value, value, value)
    wire = Wire(b"HTTP/1.1 202 Accepted\r\n%bContent-Length: %d\r\n\r\n%b" % (given_headers, len(body), body))
    assert outcome(CALLS["request"], wire) == RecomputeRequest(False, "2025-01-15T14:30:00Z", "1234")
    assert wire.sent == 1
