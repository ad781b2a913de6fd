"""An HTTP client that limits how long a response may take and how large it may be."""

import time
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Seconds for each step. The platform answers at once or not at all: recomputes run in its background."""

LONGEST_ANSWER = 20.0
"""Seconds from a request to the end of the response's content: httpx's own time-outs start again with every
piece. A header without end is limited by the function's own time-out."""

LARGEST_ANSWER = 2**20
"""Bytes. The metrics of a model have some kilobytes."""

_OF_THE_TRANSFER = {b"content-encoding", b"transfer-encoding", b"content-length"}


class BoundedClient(httpx.Client):
    """httpx's client with limits: a response beyond them raises httpx.ReadError.

    Responses are requested without compression and never decompressed, because a small one could become a
    large one. Of their headers only what somebody asks for is decoded: gateways add headers in any encoding.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        super().__init__(
            timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity"},
            cookies=_NoCookies(),
            event_hooks={"response": [_drop_location]},
            **options,
        )
        self._clock = clock

    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """The response, with its whole content."""
        deadline = self._clock() + LONGEST_ANSWER
        answer = super().send(request, stream=True, **options)
        try:
            content = b"".join(self._pieces(answer, deadline))
        finally:
            answer.close()
        headers = [(k, v) for k, v in answer.headers.raw if k.lower() not in _OF_THE_TRANSFER]
        return httpx.Response(answer.status_code, headers=headers, content=content, request=request)

    def _pieces(self, answer: httpx.Response, deadline: float) -> Iterator[bytes]:
        size = 0
        for piece in answer.iter_raw():
            size += len(piece)
            if size > LARGEST_ANSWER:
                raise httpx.ReadError(f"the response has more than {LARGEST_ANSWER} bytes")
            if self._clock() > deadline:
                raise httpx.ReadError(f"the response was not complete after {LONGEST_ANSWER:g} seconds")
            yield piece


class _NoCookies(CookieJar):
    """Stays empty: nothing here needs cookies, and a gateway's must not go out with other calls."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Ignores the cookies of a response."""


def _drop_location(response: httpx.Response) -> None:
    """Redirects are never followed. Without the header httpx does not even try to read where one leads."""
    response.headers.pop("Location", None)
