"""The start and the end of a command's process.

Its output fits the terminal, whatever the locale. An interrupt (Ctrl-C, `kill`, a closed terminal) cleans
up, prints one line, and leaves nothing running.
"""

import io
import locale
import os
import signal
import sys
from codecs import lookup, register_error
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

GRACE = 10
"""Seconds after an interrupt until the process ends, even if it is still cleaning up."""
STOPPED = "Stopped."
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PLAIN = {"✓": "ok", "✗": "!!", "→": ">", "…": "~"}
"""Replacements for marks that the terminal cannot show. Those in tables have the same width."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command and exits with its status, or with 128 plus the signal's number after an interrupt.

    If the command raises KeyboardInterrupt with a message, that message is the last line.
    """
    _open_closed_streams()
    fit_output()
    interrupt = _Interrupt()
    try:
        interrupt.listen()
        status = main() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + signal.SIGPIPE)
    except BaseException as error:
        if interrupt.number:
            interrupt.end(str(error) if isinstance(error, KeyboardInterrupt) and str(error) else STOPPED)
        if isinstance(error, Exception):  # Python would exit with 1, which means that a model regressed
            sys.excepthook(type(error), error, error.__traceback__)
            sys.exit(os.EX_SOFTWARE)
        raise
    if interrupt.number:  # the command has handled it
        interrupt.end()
    sys.exit(status)


class _Interrupt:
    """Raises KeyboardInterrupt at the first signal; ends the process at a second one, or after GRACE."""

    def __init__(self) -> None:
        self.number = 0
        self._stderr = 2

    def listen(self) -> None:
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and background jobs ignore some
                signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, _: FrameType | None) -> NoReturn:
        if self.number:
            self.end(STOPPED)
        self.number = number
        # Threads and libraries may complain while they are stopped, which would only confuse people.
        with suppress(OSError):  # there may be no stderr
            self._stderr = os.dup(2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.signal(signal.SIGALRM, lambda *_: self.end(STOPPED))
        signal.alarm(GRACE)
        raise KeyboardInterrupt

    def end(self, words: str = "") -> NoReturn:
        """Ends the process at once, whatever its threads do."""
        with suppress(OSError, ValueError):  # the terminal may be gone
            sys.stdout.flush()
        with suppress(OSError):
            os.write(self._stderr, f"{words}\n".encode() if words else b"")
        os._exit(128 + self.number)


def _open_closed_streams() -> None:
    """Gives /dev/null to the streams that are closed, such as by `2>&-`: Python has None for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def fit_output() -> None:
    """Makes everything printed fit the locale: plain marks instead of UnicodeEncodeError."""
    register_error("plain", _plain)
    # A C locale turns on Python's UTF-8 mode, which does not change this encoding.
    terminal = _known(locale.getencoding())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if _shows_marks(terminal) else terminal
            stream.reconfigure(encoding=encoding, errors="plain")


def _known(encoding: str) -> str:
    """The encoding's name in Python, or ASCII if Python does not have it."""
    try:
        return lookup(encoding).name
    except LookupError:
        return "ascii"


def _shows_marks(encoding: str) -> bool:
    try:
        "".join(_PLAIN).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that an encoding lacks by plain marks, or else by their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(map(_plainly, lacking)), error.end


def _plainly(character: str) -> str:
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode()
