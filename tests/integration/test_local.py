"""`make local` and its `arcanna` say in one line why they cannot work."""

import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import arcanna, local


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens. It stays reserved during the test."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("arguments", [["slow"], ["upload"], ["secret", "key"]])
def test_arcanna_without_make_local_says_so_in_one_line(
    arguments: list[str], closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(arcanna.ARCANNA, f"http://127.0.0.1:{closed_port}")
    with pytest.raises(SystemExit, match=r"^make local is not running\..*$"):
        arcanna.main(arguments)


def test_second_make_local_says_at_once_that_one_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("build").mkdir()
    with Path("build", "twice.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match=r"^Another make local is running\. .*build/twice\.env"):
            local.main("twice")
