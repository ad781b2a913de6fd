"""Waits for a condition. Tests wait for a number of seconds only to see that nothing happens."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 180.0
"""Seconds until a wait gives up. Even a slow and busy machine needs far less."""

deaths: list[Exception] = []
"""Unexpected deaths of functions' processes, oldest first. Their work will not be done soon."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


def eventually(what: str, look: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """Calls `look` until its answer is truthy, and returns that answer.

    Raises TimeoutError, which names `what`, after `seconds`. Raises the first of `deaths` as soon as there
    is one.
    """
    end, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while not (found := look()):
        if deaths:
            raise deaths[0]
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return found
