"""A function's log. Each execution environment has its own stream, as on AWS."""

import itertools
import shutil
import threading
from pathlib import Path


class LogStreams:
    """The streams of one function. Each is a file in the folder.

    One file for all would mix lines, because a process writes a line and its end separately.
    """

    def __init__(self, folder: Path) -> None:
        """Empties the folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._numbers = itertools.count(1)
        self._read: dict[Path, int] = {}
        self._lines: list[str] = []
        self._lock = threading.Lock()

    def new(self) -> Path:
        """A new, empty stream."""
        stream = self._folder / f"{next(self._numbers)}.log"
        stream.touch()
        with self._lock:
            self._read[stream] = 0
        return stream

    def lines(self) -> list[str]:
        """All complete lines, in the order in which they were first read. New lines are last."""
        with self._lock:
            for stream, read in self._read.items():
                with stream.open("rb") as file:
                    file.seek(read)
                    ended, newline, _ = file.read().rpartition(b"\n")
                self._lines += ended.decode(errors="replace").splitlines()
                self._read[stream] = read + len(ended + newline)
            return list(self._lines)
