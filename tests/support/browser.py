"""Drives a headless Chromium through its DevTools protocol, with the standard library only."""

import fcntl
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The path of Chromium. None if it is not installed."""
FLAGS = (
    "--headless",
    "--no-sandbox",  # Root cannot use the sandbox. Only our own pages are shown.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of a Chromium. https://chromedevtools.github.io/devtools-protocol/"""

    def __init__(self, to: BinaryIO, answers: BinaryIO) -> None:
        """Commands and answers are JSON. A null byte ends each."""
        self._to = to
        self._answers = answers
        self._numbers = count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(
        self,
        page: Path | str,
        *,
        width: int,
        height: int,
        scheme: Literal["light", "dark"],
        media: Literal["screen", "print"] = "screen",
    ) -> None:
        """Opens a file or URL in a window of that size (CSS pixels), and waits until it has loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media=media, features=[feature])
        self.events.clear()
        url = page.absolute().as_uri() if isinstance(page, Path) else page
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression on the page. Raises RuntimeError if it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"the page threw {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command. Raises RuntimeError if Chromium refuses it."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        self._to.write(json.dumps(command).encode() + b"\0")
        self._to.flush()
        while (answer := self._read()).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        """Returns the next message, and keeps events. Raises EOFError when Chromium has ended."""
        text = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise EOFError("Chromium has ended")
            text += byte
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def browser(seconds: float = 300.0) -> Iterator[Browser]:
    """Starts a Chromium with its own profile. It ends with the block, or after this many seconds."""
    if EXECUTABLE is None:
        raise RuntimeError("Chromium is not installed")
    with ExitStack() as stack:
        profile = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        )
        commands, to = _pipe()
        answers, from_chromium = _pipe()
        process = os.posix_spawn(
            EXECUTABLE,
            [EXECUTABLE, *FLAGS, f"--user-data-dir={profile}"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, commands, 3),
                (os.POSIX_SPAWN_DUP2, from_chromium, 4),
            ],
            setpgroup=0,
        )
        stack.callback(os.waitpid, process, 0)
        stack.callback(os.killpg, process, signal.SIGKILL)
        guard = threading.Timer(seconds, os.killpg, (process, signal.SIGKILL))
        stack.callback(guard.cancel)
        guard.start()
        os.close(commands)
        os.close(from_chromium)
        yield Browser(stack.enter_context(os.fdopen(to, "wb")), stack.enter_context(os.fdopen(answers, "rb")))


def _pipe() -> tuple[int, int]:
    """A pipe's ends to read and to write. Neither is 3 or 4, where Chromium expects its own ends."""
    low = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return read, write
