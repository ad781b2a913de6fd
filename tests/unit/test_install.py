"""An installation heals itself, whenever the one before was interrupted, and one runs at a time."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import ROOT
from tests.tools import install

ENVIRONMENTS = ("tools", "lambda", "command", "bench", "validator")
STEPS = 4
"""Commands that the longest installation calls."""


class Commands:
    """Stands for `install.call`: notes the commands, leaves something behind, and fails when told to."""

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
    """An empty checkout, and what is called in it."""
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
def test_a_complete_installation_has_its_mark(commands: Commands, name: str) -> None:
    assert install.main(name) == 0
    assert is_installed(name)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), install.Failed("no network")], ids=["stop", "failure"]
)
@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("before", ["nothing", "an older one", "a half one"])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_after_an_interruption_at_any_step_all_is_made_anew(
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
    if not complete and name != "validator":  # a validator of before stays until there is a newer one
        assert not is_installed(name)

    commands.stop_at = None
    commands.called.clear()
    assert install.main(name) == 0
    assert is_installed(name)
    assert not (place / "old").exists()
    assert not Path("build", "node.new").exists()


def test_an_interruption_is_told_in_one_line(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    commands.stop_at = 1
    assert install.main("tools") == 130
    assert capsys.readouterr().err == "Stopped. .venv will be made anew by the next make.\n"


def test_another_checkout_s_environment_is_left_alone(commands: Commands, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs").touch()
    install.TOOLS.symlink_to(other)
    assert install.main("tools") == 0
    assert (other / "theirs").exists()
    assert not install.TOOLS.is_symlink()


def test_an_old_python_is_refused(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert install.main("tools") == 1
    assert capsys.readouterr().err == "Python 3.11 or newer is needed: make PYTHON=python3.13 ...\n"
    assert commands.called == []


# --- npm -------------------------------------------------------------------------------------------------

NPM_S = install.Failed("npm error code SELF_SIGNED_CERT_IN_CHAIN\n" + "npm error     at deep inside\n" * 20)


def test_without_npm_the_rest_goes_on_and_it_is_said_what_is_missing(
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
def test_ci_insists(commands: Commands, monkeypatch: pytest.MonkeyPatch, strict: str, status: int) -> None:
    monkeypatch.setenv("STRICT", strict)
    commands.stop_at, commands.error = 0, NPM_S
    assert install.main("validator") == status


def test_ci_is_strict() -> None:
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
    """An installation that takes until there is a file `go`. It makes one of its name when it has begun."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", SLOW.format(name=name)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests/tools")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_begin(folder: Path) -> None:
    end = time.monotonic() + 60
    while not (folder / "first").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def assert_waits(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "Waiting for another installation to end\n"


def await_quiet(folder: Path) -> None:
    """Waits for the kernel to be done with what was killed and is nobody's child here."""
    end = time.monotonic() + 30
    while not is_quiet(folder):
        assert time.monotonic() < end, "what the installation has started still runs"
        time.sleep(0.05)


def is_quiet(folder: Path) -> bool:
    """Whether nothing runs any more that the installation has started: all of it holds the lock."""
    with (folder / "build" / "install.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_that_it_has_started(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    await_begin(tmp_path)
    assert not is_quiet(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "Stopped. .venv will be made anew by the next make.\n"
    await_quiet(tmp_path)


def test_what_a_killed_one_left_running_is_waited_for(tmp_path: Path) -> None:
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


def test_two_at_once_install_once(tmp_path: Path) -> None:
    first = start(tmp_path)
    await_begin(tmp_path)
    second = start(tmp_path, "second")
    assert_waits(second)
    (tmp_path / "go").touch()
    for process in (first, second):
        process.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert not (tmp_path / "second").exists()


def test_what_fails_is_told_in_the_command_s_own_words() -> None:
    with pytest.raises(install.Failed, match=r"^no space left$"):
        install.call("sh", "-c", "echo no space left >&2; exit 3")
    with pytest.raises(install.Failed, match=r"^false ended with 1$"):
        install.call("false")
    with pytest.raises(install.Failed, match="no-such-program: No such file"):
        install.call("no-such-program")
