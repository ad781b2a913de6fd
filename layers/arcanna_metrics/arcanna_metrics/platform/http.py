"""An HTTP client that limits how long a response may take and how large it may be."""

import time
from collections.abc import Callable
from contextlib import closing
from http.cookiejar import CookieJar
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Seconds for each step. The platform answers immediately, because recomputes run in its background."""

LONGEST_ANSWER = 20.0
"""Seconds from a request to the end of the response's content. httpx's own time-outs restart with every
piece. The function's time-out limits an endless header."""

LARGEST_ANSWER = 2**20
"""Bytes. The metrics of a model have a few kilobytes."""

_OF_THE_TRANSFER = {b"content-encoding", b"transfer-encoding", b"content-length"}


class BoundedClient(httpx.Client):
    """httpx's client with limits: a response beyond them raises httpx.ReadError.

    It requests responses without compression and never decompresses them, because a small response could
    become a large one. It decodes only the headers that are read: gateways add headers in any encoding. It
    follows no redirects, because they would send the API key elsewhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        super().__init__(
            timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity"},
            cookies=_NoCookies(),
            event_hooks={"response": [_drop_location]},
            follow_redirects=False,
            **options,
        )
        self._clock = clock

    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """The response, with its whole content."""
        deadline = self._clock() + LONGEST_ANSWER
        content = bytearray()
        with closing(super().send(request, stream=True, **options)) as answer:
            for piece in answer.iter_raw():
                content += piece
                if len(content) > LARGEST_ANSWER:
                    raise httpx.ReadError(f"the response has more than {LARGEST_ANSWER} bytes")
                if self._clock() > deadline:
                    raise httpx.ReadError(f"the response was not complete after {LONGEST_ANSWER:g} seconds")
        headers = [(k, v) for k, v in answer.headers.raw if k.lower() not in _OF_THE_TRANSFER]
        return httpx.Response(answer.status_code, headers=headers, content=bytes(content), request=request)


def _drop_location(response: httpx.Response) -> None:
    """Without this header, httpx does not try to parse the address that nobody follows."""
    response.headers.pop("Location", None)


class _NoCookies(CookieJar):
    """Stays empty. No call needs cookies, and a gateway's cookies must not be sent with other calls."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Ignores the cookies of a response."""
