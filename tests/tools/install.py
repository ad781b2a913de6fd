"""Installs what the targets of the Makefile need: `python3 tests/tools/install.py tools`, `lambda`, ...

It runs on the system's Python when nothing is installed yet, so it needs the standard library only.

Each environment has a file `.installed`, which is removed first and written last: what an interruption left
half done is made anew. Only one installation runs at a time, and waits for what a killed one left running.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # an interrupt during the imports prints no traceback either
    sys.excepthook = lambda kind, *e: None if kind is KeyboardInterrupt else sys.__excepthook__(kind, *e)

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

BUILD = Path("build")
TOOLS = Path(".venv")
PYTHON = TOOLS / "bin" / "python"
MARK = ".installed"
LAMBDA_REQUIREMENTS = ("--require-hashes", "-r", "tests/support/local_cloud/requirements.txt")
VALIDATOR = "asl-validator@4.0.0"
NPM = (
    *("npm", "install", "--loglevel=error", "--no-audit", "--no-fund", "--no-save", "--no-update-notifier"),
    "--ignore-scripts",  # the validator's own packages are not pinned
    # By default, npm takes minutes to notice that no server answers.
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000"),
)


class Failed(Exception):
    """An installation failed. The message says what and why."""


def main(name: str) -> int:
    """Installs one of the INSTALLATIONS. Returns the exit status."""
    began = time.time()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    BUILD.mkdir(exist_ok=True)
    place, install = INSTALLATIONS[name]
    try:
        with only_one():
            if not made_since(began, place):
                install(place)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Stopped. {place} will be made anew by the next make.", file=sys.stderr)
        return 130
    return 0


# --- What is installed -----------------------------------------------------------------------------------


def tools(place: Path) -> None:
    """Installs the tools for developing, testing and operating the project."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one comes this far, and is refused
        raise Failed("Python 3.11 or newer is needed: make PYTHON=python3.13 ...")
    print(f"Installing the tools into {place} (once)", flush=True)
    clear(place)
    call(sys.executable, "-m", "venv", place)
    pip = (place / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    call(*pip, "--require-hashes", "-r", "tests/bootstrap.txt")
    uv(place, "--require-hashes", "-r", "tests/requirements.txt")
    mark(place)


def lambda_environment(place: Path) -> None:
    """Makes a Lambda execution environment without our layers: a package missing there is missing here."""
    _lambda_environment(place, sys.executable)


def command_environment(place: Path) -> None:
    """Makes an operator's environment: the packaged command, its dependencies, and nothing else.

    The wheel is built here by the tools, so that all that comes from an index is pinned.
    """
    wheels = place.with_name(f"{place.name}-wheels")
    for made in (place, wheels):
        clear(made)
    call(PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels)
    call(sys.executable, "-m", "venv", "--without-pip", place)
    uv(place, "--require-hashes", "-r", "tests/command.txt")
    # Not from the cache, which may have a wheel of the same version from other sources.
    uv(place, "--no-cache", "--no-deps", "--no-index", "--find-links", str(wheels), "arcanna-metrics")
    mark(place)


def bench_environment(place: Path) -> None:
    """Makes the same with the Lambda runtime's version of Python, which the layers' byte code is for."""
    os.environ["PYENV_VERSION"] = "3.13"
    _lambda_environment(place, "python3.13")


def _lambda_environment(place: Path, python: str) -> None:
    clear(place)
    call(python, "-m", "venv", "--without-pip", place)
    # Lambda has byte code, too. Without it, the first invocations would all compile the same at once.
    uv(place, "--compile-bytecode", *LAMBDA_REQUIREMENTS)
    mark(place)


def audit_environment(place: Path) -> None:
    """Makes an environment with the auditor, which few people call."""
    clear(place)
    call(sys.executable, "-m", "venv", "--without-pip", place)
    uv(place, "--require-hashes", "-r", "tests/audit.txt")
    mark(place)


def validator(place: Path) -> None:
    """Installs a second validator of the workflow. Without npm this is skipped; with STRICT it fails."""
    scratch = place.with_name(f"{place.name}.new")
    clear(scratch)
    scratch.mkdir()
    try:
        call(*NPM, "--prefix", scratch, VALIDATOR)
    except Failed as failure:
        clear(scratch)
        why = "\n".join(str(failure).splitlines()[:4])  # npm's own stack trace follows
        told = f"The workflow will not be validated by {VALIDATOR}, which npm could not install:\n{why}"
        if os.environ.get("STRICT", "") not in ("", "0", "no"):
            raise Failed(told) from failure
        print(told, flush=True)
        return
    mark(scratch)
    clear(place)
    scratch.rename(place)


INSTALLATIONS = {
    "tools": (TOOLS, tools),
    "lambda": (BUILD / "lambda-env", lambda_environment),
    "command": (BUILD / "command", command_environment),
    "bench": (BUILD / "bench" / "lambda-env", bench_environment),
    "audit": (BUILD / "audit", audit_environment),
    "validator": (BUILD / "node", validator),
}


# --- How -------------------------------------------------------------------------------------------------


@contextmanager
def only_one() -> Iterator[None]:
    """Waits until no other installation runs, nor any process that one has left behind."""
    lock = os.open(BUILD / "install.lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(lock, True)  # so that the called commands also hold it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Waiting for another installation to end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def made_since(began: float, place: Path) -> bool:
    """Whether the installation that we waited for has made this place."""
    return (place / MARK).exists() and (place / MARK).stat().st_mtime >= began


def clear(place: Path) -> None:
    """Removes an environment, its mark first."""
    if place.is_symlink():
        place.unlink()  # it belongs to another checkout, which keeps it
    elif place.exists():
        if (place / MARK).exists():
            (place / MARK).unlink()
        shutil.rmtree(place)


def mark(place: Path) -> None:
    """Marks an environment as complete."""
    (place / MARK).touch()


def uv(place: Path, *arguments: str) -> None:
    """Installs packages into an environment."""
    pip = (TOOLS / "bin" / "uv", "pip", "install", "--quiet", "--python", place / "bin" / "python")
    call(*pip, *arguments)


def call(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Runs a command. If this process is to end, ends the command and all processes that it started.

    Raises Failed with the command's output, which is not shown otherwise.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        try:
            with interrupts_put_off() as interrupted:
                process = subprocess.Popen(  # noqa: S603
                    command,
                    cwd=cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    close_fds=False,
                    start_new_session=True,
                )
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}") from error
        try:
            for number in interrupted:
                signal.raise_signal(number)
            status = process.wait()
        except BaseException:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if status:
            said.seek(0)
            raise Failed(said.read().strip() or f"{command[0]} ended with {status}")


@contextmanager
def interrupts_put_off() -> Iterator[list[int]]:
    """Collects the signals that would raise KeyboardInterrupt, and leave a process that nobody knows."""
    came: list[int] = []
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.default_int_handler
    ]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # others are not interrupted
    for number in numbers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
