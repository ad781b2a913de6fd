"""An HTTP client that no answer holds up for long, and that none fills the memory of."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Seconds for each step. The platform answers at once or not at all: recomputes run in its background."""

LONGEST_ANSWER = 20.0
"""Seconds from a request to the end of its answer's content: httpx's own time-outs begin anew with every
piece. A header that goes on and on ends with the function's time."""

LARGEST_ANSWER = 2**20
"""Bytes. The metrics of a model have some kilobytes."""

_OF_THE_TRANSFER = {"content-encoding", "transfer-encoding", "content-length"}


class BoundedClient(httpx.Client):
    """httpx's client, but for answers that go on and on: these raise httpx.ReadError.

    Answers are asked for as they are, and never decompressed, or a small one could become a large one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        super().__init__(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}, **options)
        self._clock = clock

    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """The answer, whole."""
        deadline = self._clock() + LONGEST_ANSWER
        answer = super().send(request, stream=True, **options)
        try:
            content = b"".join(self._pieces(answer, deadline))
        finally:
            answer.close()
        headers = [(k, v) for k, v in answer.headers.multi_items() if k not in _OF_THE_TRANSFER]
        return httpx.Response(answer.status_code, headers=headers, content=content, request=request)

    def _pieces(self, answer: httpx.Response, deadline: float) -> Iterator[bytes]:
        size = 0
        for piece in answer.iter_raw():
            size += len(piece)
            if size > LARGEST_ANSWER:
                raise httpx.ReadError(f"the answer has more than {LARGEST_ANSWER} bytes")
            if self._clock() > deadline:
                raise httpx.ReadError(f"the answer was not complete after {LONGEST_ANSWER:g} seconds")
            yield piece
