"""How commands print, ask questions, and say what they wait for.

Standard output gets the result: tables and lines for people, or with `--json` one document and nothing else.
Standard error gets everything else: progress, questions and errors.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from arcanna_metrics_cli.exits import Exit, Trouble

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

PATIENCE = 0.7
"""Seconds of silence after which a command says what it waits for."""
WIDE = 200
"""Columns without a terminal: programs that read lines need whole lines."""

_COLOURS = {"red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m", "dim": "\x1b[2m"}
_PLAIN = "\x1b[0m"
_ERASE = "\r\x1b[K"
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, except line feeds and tabs, and characters that change the direction of writing."""


class Unwritable(OSError):
    """Standard output cannot be written, such as on a full disk."""


class Output:
    """The streams of one command. `answers` is what people type into, by default standard input.

    Within `doing`, a thread says what the command waits for after each PATIENCE of silence.
    """

    def __init__(
        self,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
        answers: IO[str] | None = None,
        width: int | None = None,
    ) -> None:
        self.json = False
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._answers = answers or sys.stdin
        self._width = width
        self._lock = threading.RLock()
        self._work: list[str] = []
        self._explained = False
        """Whether the last line says what the command waits for."""
        self._asking = False
        self._silent_since = 0.0

    # --- The result ----------------------------------------------------------------------------------------

    def show(self, what: "RenderableType", style: str = "", *, indent: int = 0) -> None:
        """Prints a part of the result for people; nothing with --json.

        A text is printed on one line, however long. Rich lays out everything else. Raises Unwritable, and
        BrokenPipeError if the reader has gone.
        """
        if self.json:
            return
        with self._lock, _to_stdout():
            self._end_silence()
            if isinstance(what, str):
                self._write(self._stdout, " " * indent + what, style)
            else:
                self.console.print(_Harmless(what), soft_wrap=not hasattr(what, "columns"))
                self._silent_since = time.monotonic()

    def send(self, data: bytes) -> None:
        """Writes a file to standard output. Raises as `show` does."""
        with self._lock, _to_stdout():
            self._end_silence()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def document(self, document: dict[str, Any]) -> None:
        """Prints the result for programs; nothing without --json."""
        if self.json:
            print(json.dumps(document, indent=2), file=self._stdout)

    def flush(self) -> None:
        """Writes out standard output. Raises BrokenPipeError if its reader has gone."""
        self._stdout.flush()

    @property
    def console(self) -> "Console":
        """A console of rich, as wide as the terminal or as COLUMNS says."""
        from rich.console import Console

        class Piped(Console):
            def on_broken_pipe(self) -> None:
                """Raises BrokenPipeError as all other output does, where rich would exit with 1."""
                raise  # rich calls this while it handles the error

        own = _columns(self._stdout) if self._stdout.isatty() else WIDE
        width = self._width or _wanted_columns() or own
        # Without a height, rich would read COLUMNS itself, and with COLUMNS=0 show nothing.
        return Piped(file=self._stdout, highlight=False, width=width, height=25)

    # --- Beside the result ---------------------------------------------------------------------------------

    def say(self, text: str, style: str = "") -> None:
        """Prints a line of progress, or about an error."""
        with self._lock:
            self._end_silence()
            self._write(self._stderr, text, style)

    def explain(self, trouble: Trouble) -> None:
        """Prints what is wrong, and what to do about it."""
        self.say(f"✗ {trouble}", "red")
        if trouble.todo:
            self.say(f"  To do: {trouble.todo.rstrip('.')}.", "yellow")

    def ask(self, question: str, todo: str = "Add --yes") -> bool:
        """Asks a question. Returns whether the answer is yes; an empty line means no.

        Raises Trouble, which says what `todo`, if standard input has ended, as in a pipeline.
        """
        with self._lock:
            self._end_silence()
            self._stderr.write(f"{harmless(question)} [y/N] ")
            self._stderr.flush()
            self._asking = True
        try:
            answer = self._answers.readline()
        finally:
            self._asking = False
            self._silent_since = time.monotonic()
        if not answer.endswith("\n"):
            self._write(self._stderr, "", "")
        if not answer:
            said = "Nothing was done: nobody answered the question, as standard input is at its end."
            raise Trouble(Exit.USAGE, said, todo)
        return answer.strip().lower() in ("y", "yes")

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Explains silences by `what`: on a terminal for as long as they last, in a log by one line.

        If calls are nested, the innermost explains.
        """
        ended = threading.Event()
        with self._lock:
            self._end_silence()
            self._work.append(what)
            outermost = len(self._work) == 1
        if outermost:
            self._silent_since = time.monotonic()
            threading.Thread(target=self._watch, args=(ended,), name="silence", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            with self._lock:
                self._end_silence()
                self._work.pop()

    def waiting(self, what: str) -> None:
        """Shows what the command waits for, at once on a terminal. A log's last line must have said so."""
        with self._lock:
            self._end_silence()
            self._explained = True
            if _is_terminal(self._stderr):
                self._stderr.write(harmless(what)[: _columns(self._stderr) - 1])
                self._stderr.flush()

    def _watch(self, ended: threading.Event) -> None:
        """Explains every silence until `ended`."""
        left = PATIENCE
        while not ended.wait(left):
            with self._lock:
                left = self._silent_since + PATIENCE - time.monotonic()
                if left > 0:
                    continue
                left = PATIENCE
                if self._work and not (self._asking or self._explained):
                    what = f"{self._work[-1]} ..."
                    if not _is_terminal(self._stderr):
                        self._write(self._stderr, what, "")
                    self.waiting(what)

    def _end_silence(self) -> None:
        """Removes the explanation, before anything else is printed and when a wait has ended."""
        if self._explained:
            self._explained = False
            self._silent_since = time.monotonic()
            if _is_terminal(self._stderr):
                self._stderr.write(_ERASE)
                self._stderr.flush()

    def _write(self, stream: IO[str], text: str, style: str) -> None:
        self._silent_since = time.monotonic()
        text = harmless(text)
        coloured = style and _is_terminal(stream) and "NO_COLOR" not in os.environ
        print(f"{_COLOURS[style]}{text}{_PLAIN}" if coloured else text, file=stream, flush=True)


@contextmanager
def _to_stdout() -> Iterator[None]:
    """Tells an error of standard output from those of other files. A reader that has gone is not an error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(error.errno, error.strerror) from error


def harmless(text: str) -> str:
    """The text with JSON escapes for control characters, because a terminal would obey them.

    Dead letters, ids and Arcanna's answers come from outside. Line feeds and tabs stay.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Harmless:
    """Makes everything harmless that rich lays out."""

    def __init__(self, what: "RenderableType") -> None:
        self._what = what

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Segment]":
        for segment in console.render(self._what, options):
            yield segment._replace(text=harmless(segment.text))


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _columns(stream: IO[str]) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _wanted_columns() -> int:
    """The number in COLUMNS; 0 if there is none."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if re.fullmatch("[0-9]{1,6}", columns) else 0
