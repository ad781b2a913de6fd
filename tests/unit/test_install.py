"""An interrupted installation is repeated, and only one runs at a time."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import ROOT
from tests.support.waiting import eventually
from tests.tools import install

ENVIRONMENTS = ("tools", "lambda", "command", "bench", "audit", "validator")
STEPS = 4
"""The largest number of commands of an installation."""


class Commands:
    """Stands in for `install.call`: notes the commands, leaves files behind, and fails on request."""

    def __init__(self) -> None:
        self.called: list[list[str]] = []
        self.stop_at: int | None = None
        self.error: BaseException = KeyboardInterrupt()

    def __call__(self, *command: str | Path) -> None:
        self.called.append(list(map(str, command)))
        Path("build", f"left-by-{len(self.called)}").touch()
        if len(self.called) - 1 == self.stop_at:
            raise self.error
        for place, _ in install.INSTALLATIONS.values():
            for made in (place, place.with_name(f"{place.name}.new")):
                if str(made) in self.called[-1]:
                    made.mkdir(parents=True, exist_ok=True)
                    (made / f"made-by-{len(self.called)}").touch()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """The commands that are called in an empty checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYENV_VERSION", "")
    monkeypatch.delenv("STRICT", raising=False)
    commands = Commands()
    monkeypatch.setattr(install, "call", commands)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield commands
    for number, handler in handlers.items():
        signal.signal(number, handler)


def is_installed(name: str) -> bool:
    return (install.INSTALLATIONS[name][0] / install.MARK).exists()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_complete_installation_is_marked(commands: Commands, name: str) -> None:
    assert install.main(name) == 0
    assert is_installed(name)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), install.Failed("no network")], ids=["stop", "failure"]
)
@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("before", ["nothing", "an older one", "a half one"])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_interrupted_installation_is_repeated_from_the_start(
    commands: Commands, name: str, before: str, step: int, error: BaseException
) -> None:
    place, _ = install.INSTALLATIONS[name]
    if before != "nothing":
        place.mkdir(parents=True)
        (place / "old").touch()
    if before == "an older one":
        (place / install.MARK).touch()
        os.utime(place / install.MARK, (0, 0))
    commands.stop_at, commands.error = step, error
    interrupted = install.main(name)
    complete = len(commands.called) <= step
    assert (interrupted == 0) is (complete or (name == "validator" and isinstance(error, install.Failed)))
    if not complete and name != "validator":  # the previous validator stays until there is a newer one
        assert not is_installed(name)

    commands.stop_at = None
    commands.called.clear()
    assert install.main(name) == 0
    assert is_installed(name)
    assert not (place / "old").exists()
    assert not Path("build", "node.new").exists()


def test_interrupt_prints_one_line(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    commands.stop_at = 1
    assert install.main("tools") == 130
    assert capsys.readouterr().err == "Stopped. .venv will be made anew by the next make.\n"


def test_environment_of_another_checkout_is_left_alone(commands: Commands, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs").touch()
    install.TOOLS.symlink_to(other)

    assert install.main("tools") == 0
    assert (other / "theirs").exists()
    assert not install.TOOLS.is_symlink()


def test_old_python_is_refused(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert install.main("tools") == 1
    assert capsys.readouterr().err == "Python 3.11 or newer is needed: make PYTHON=python3.13 ...\n"
    assert commands.called == []


# --- npm -------------------------------------------------------------------------------------------------

NPM_S = install.Failed("npm error code SELF_SIGNED_CERT_IN_CHAIN\n" + "npm error     at deep inside\n" * 20)


def test_missing_npm_is_reported_and_the_rest_is_installed(
    commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.stop_at, commands.error = 0, NPM_S
    assert install.main("validator") == 0
    assert not is_installed("validator")
    said = capsys.readouterr().out
    assert "will not be validated by asl-validator" in said
    assert "SELF_SIGNED_CERT_IN_CHAIN" in said
    assert len(said.splitlines()) < 6


@pytest.mark.parametrize(("strict", "status"), [("1", 1), ("0", 0), ("", 0)])
def test_missing_npm_fails_only_in_strict_mode(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, strict: str, status: int
) -> None:
    monkeypatch.setenv("STRICT", strict)
    commands.stop_at, commands.error = 0, NPM_S
    assert install.main("validator") == status


def test_ci_runs_in_strict_mode() -> None:
    assert "STRICT=1" in (ROOT / ".ci" / "run").read_text()


# --- Processes -------------------------------------------------------------------------------------------

SLOW = """
import sys
import install
def slow(place):
    install.clear(place)
    place.mkdir()
    install.call("sh", "-c", "echo never shown; touch $0; until test -e go; do sleep 0.1; done", "{name}")
    install.mark(place)
install.INSTALLATIONS["tools"] = (install.TOOLS, slow)
sys.exit(install.main("tools"))
"""


def start(folder: Path, name: str = "first") -> subprocess.Popen[str]:
    """Starts an installation that runs until there is a file `go`. It creates a file `name` at its start."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", SLOW.format(name=name)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests/tools")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_begin(folder: Path) -> None:
    eventually("the first step", (folder / "first").exists)


def assert_waits(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "Waiting for another installation to end\n"


def await_quiet(folder: Path) -> None:
    """Waits until the kernel has removed the killed processes, which are not children of this one."""
    eventually("the end of all that the installation has started", lambda: is_quiet(folder))


def is_quiet(folder: Path) -> bool:
    """Whether no process of the installation runs any more. Each of them holds the lock."""
    with (folder / "build" / "install.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_all_processes_of_the_installation(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    await_begin(tmp_path)
    assert not is_quiet(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "Stopped. .venv will be made anew by the next make.\n"
    await_quiet(tmp_path)


def test_interrupt_while_a_command_starts_ends_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []

    class Interrupted(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **given: Any) -> None:
            super().__init__(*arguments, **given)
            started.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        install.call("sleep", "60")
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_interrupt_when_a_command_has_just_ended_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(subprocess.Popen[str]):
        def wait(self, timeout: float | None = None) -> int:
            super().wait(timeout)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Ended)
    with pytest.raises(KeyboardInterrupt):
        install.call("true")


def test_installation_waits_for_processes_of_a_killed_one(tmp_path: Path) -> None:
    killed = start(tmp_path)
    await_begin(tmp_path)
    killed.kill()
    second = start(tmp_path, "second")
    assert_waits(second)
    assert not (tmp_path / "second").exists()
    (tmp_path / "go").touch()
    for process in (killed, second):
        process.communicate(timeout=60)
    assert (killed.returncode, second.returncode) == (-signal.SIGKILL, 0)
    assert (tmp_path / "second").exists()


def test_concurrent_installations_install_once(tmp_path: Path) -> None:
    first = start(tmp_path)
    await_begin(tmp_path)
    second = start(tmp_path, "second")
    assert_waits(second)
    (tmp_path / "go").touch()
    for process in (first, second):
        process.communicate(timeout=60)

    assert (first.returncode, second.returncode) == (0, 0)
    assert not (tmp_path / "second").exists()


def test_failed_command_is_reported_in_its_own_words() -> None:
    with pytest.raises(install.Failed, match=r"^no space left$"):
        install.call("sh", "-c", "echo no space left >&2; exit 3")
    with pytest.raises(install.Failed, match=r"^false ended with 1$"):
        install.call("false")
    with pytest.raises(install.Failed, match="no-such-program: No such file"):
        install.call("no-such-program")
