"""Responses have bounded time and size, and their headers are harmless."""

import gzip
import itertools
from collections.abc import Iterable, Iterator

import httpx
import pytest

from arcanna_metrics.platform.http import LARGEST_ANSWER, LONGEST_ANSWER, BoundedClient


class Pieces(httpx.SyncByteStream):
    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.taken = 0
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece


def client(
    content: httpx.SyncByteStream, headers: dict[str, str] | None = None, seconds_each: float = 0.0
) -> BoundedClient:
    """A client of a server with this answer. Its clock advances `seconds_each` at each reading."""
    clock = itertools.count(0.0, seconds_each)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=content))
    return BoundedClient(lambda: next(clock), transport=transport)


def test_response_is_returned_as_it_was_sent() -> None:
    answer = client(Pieces([b"{", b"}"]), {"Retry": "3"}).get("https://arcanna.example/")
    assert (answer.content, answer.headers["Retry"], answer.is_closed) == (b"{}", "3", True)
    assert str(answer.request.url) == "https://arcanna.example/"


def test_endless_response_is_cut_off() -> None:
    endless = Pieces(itertools.repeat(b"x" * 65536))
    with pytest.raises(httpx.ReadError, match="the response has more than 1048576 bytes"):
        client(endless).get("https://arcanna.example/")
    assert endless.taken == LARGEST_ANSWER / 65536 + 1


def test_response_of_the_largest_size_is_accepted() -> None:
    assert len(client(Pieces([b"x" * LARGEST_ANSWER])).get("https://arcanna.example/").content) == 2**20


def test_slow_response_is_cut_off_in_time() -> None:
    dripping = Pieces(itertools.repeat(b" "))
    with pytest.raises(httpx.ReadError, match="the response was not complete after 20 seconds"):
        client(dripping, seconds_each=5.0).get("https://arcanna.example/")
    assert dripping.taken == LONGEST_ANSWER / 5.0 + 1


def test_compressed_response_is_not_expanded() -> None:
    packed = gzip.compress(bytes(50 * 2**20))
    answer = client(Pieces([packed]), {"Content-Encoding": "gzip"}).get("https://arcanna.example/")
    assert answer.content == packed


def test_responses_are_requested_without_compression() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Accept-Encoding"])
        return httpx.Response(204, stream=Pieces([]))

    BoundedClient(transport=httpx.MockTransport(answer)).get("https://arcanna.example/")
    assert asked == ["identity"]


def test_cookies_of_a_gateway_are_not_sent_back() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"Set-Cookie": "route=1; Path=/", "Was-Sent": request.headers.get("Cookie", "none")}
        return httpx.Response(200, headers=headers, stream=Pieces([]))

    with BoundedClient(transport=httpx.MockTransport(answer)) as http:
        assert [http.get("https://arcanna.example/").headers["Was-Sent"] for _ in range(2)] == ["none"] * 2


@pytest.mark.parametrize(
    "location", ["http:login", "https://xn--/", "https://[", "//a:b", "\xff", "mailto:x", "/elsewhere"]
)
def test_redirect_is_returned_and_not_followed(location: str) -> None:
    headers = [(b"Location", location.encode("latin-1"))]
    moved = httpx.MockTransport(lambda _: httpx.Response(302, headers=headers, stream=Pieces([b"moved"])))
    with BoundedClient(transport=moved) as http:
        response = http.post("https://arcanna.example/")

    assert (response.status_code, response.content) == (302, b"moved")
