"""No answer of whoever answers takes more time or memory than a call may have."""

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
    """A client of a server that answers so, each look at its clock being so many seconds after the last."""
    clock = itertools.count(0.0, seconds_each)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=content))
    return BoundedClient(lambda: next(clock), transport=transport)


def test_an_answer_is_the_one_that_was_sent() -> None:
    answer = client(Pieces([b"{", b"}"]), {"Retry": "3"}).get("https://arcanna.example/")
    assert (answer.content, answer.headers["Retry"], answer.is_closed) == (b"{}", "3", True)
    assert str(answer.request.url) == "https://arcanna.example/"


def test_an_answer_without_end_is_broken_off() -> None:
    endless = Pieces(itertools.repeat(b"x" * 65536))
    with pytest.raises(httpx.ReadError, match="more than 1048576 bytes"):
        client(endless).get("https://arcanna.example/")
    assert endless.taken == LARGEST_ANSWER / 65536 + 1


def test_the_largest_answer_is_none_too_large() -> None:
    assert len(client(Pieces([b"x" * LARGEST_ANSWER])).get("https://arcanna.example/").content) == 2**20


def test_an_answer_that_drips_is_broken_off() -> None:
    dripping = Pieces(itertools.repeat(b" "))
    with pytest.raises(httpx.ReadError, match="not complete after 20 seconds"):
        client(dripping, seconds_each=5.0).get("https://arcanna.example/")
    assert dripping.taken == LONGEST_ANSWER / 5.0 + 1


def test_a_small_answer_does_not_become_a_large_one() -> None:
    packed = gzip.compress(bytes(50 * 2**20))
    answer = client(Pieces([packed]), {"Content-Encoding": "gzip"}).get("https://arcanna.example/")
    assert answer.content == packed


def test_answers_are_asked_for_as_they_are() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Accept-Encoding"])
        return httpx.Response(204, stream=Pieces([]))

    BoundedClient(transport=httpx.MockTransport(answer)).get("https://arcanna.example/")
    assert asked == ["identity"]
