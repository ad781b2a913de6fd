"""The functions' client against a server that sends any bytes. Additions by gateways are harmless."""

import json
import socketserver
from collections.abc import Iterator

import pytest

from arcanna_metrics.errors import PlatformUnavailable
from arcanna_metrics.platform.client import Arcanna, RecomputeRequest
from arcanna_metrics.platform.http import BoundedClient
from tests.support.doubles import API_KEY, MODEL, metrics_body, request_body
from tests.support.serving import serving, url_of

OWNERS = [b"Z\xfcrich", "Zürich".encode(), bytes(range(128, 256)), b"\xff\xfe", b"=?utf-8?q?Z=C3=BCrich?="]
NAMES = [b"X-Owner", b"Set-Cookie", b"Location", b"Content-Type", b"Server", b"Via", b"Date"]


class Gateway(socketserver.ThreadingTCPServer):
    """Answers every request with the same bytes and closes the connection. Keeps the requests' heads."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = b""
        self.heads: list[bytes] = []

    def answers(self, status: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in headers)]
        head = b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"Connection: close"])
        self.answer = head + b"\r\n\r\n" + body


class _Handler(socketserver.StreamRequestHandler):
    server: Gateway

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.readline()
        self.server.heads.append(head)
        self.wfile.write(self.server.answer)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving(Gateway()) as gateway:
        yield gateway


@pytest.fixture
def arcanna(gateway: Gateway) -> Iterator[Arcanna]:
    with BoundedClient(base_url=url_of(gateway), trust_env=False) as http:
        yield Arcanna(http, lambda read_again: API_KEY)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("name", NAMES)
def test_accepted_request_is_sent_once_whatever_the_answers_headers(
    gateway: Gateway, arcanna: Arcanna, name: bytes, owner: bytes
) -> None:
    gateway.answers(b"202 Z\xfcrich", [(name, owner), (name, owner)], json.dumps(request_body()).encode())
    assert arcanna.request_recompute(MODEL) == RecomputeRequest(False, "2025-01-15T14:30:00Z", "1234")
    assert len(gateway.heads) == 1

    gateway.answers(b"200 OK", [(name, owner)], json.dumps(metrics_body()).encode())
    assert arcanna.metrics(MODEL).timestamp == "2025-01-15T14:00:00Z"
    assert b"cookie" not in gateway.heads[-1].lower()


@pytest.mark.parametrize("owner", OWNERS)
def test_retry_after_is_read_beside_headers_in_any_encoding(
    gateway: Gateway, arcanna: Arcanna, owner: bytes
) -> None:
    gateway.answers(b"503 Busy", [(b"X-Owner", owner), (b"Retry-After", b"17")], b"")
    with pytest.raises(PlatformUnavailable) as raised:
        arcanna.request_recompute(MODEL)

    assert raised.value.retry_after == 17
    assert raised.value.effect_unknown
    assert len(gateway.heads) == 1


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\xff", b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
)
def test_non_http_answer_to_request_leaves_its_effect_unknown(
    gateway: Gateway, arcanna: Arcanna, answer: bytes
) -> None:
    gateway.answer = answer
    with pytest.raises(PlatformUnavailable, match="gave no answer to POST") as raised:
        arcanna.request_recompute(MODEL)

    assert raised.value.effect_unknown
    assert len(gateway.heads) == 1
