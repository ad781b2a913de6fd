"""Interrupted commands print one line. Output uses only characters that the terminal can show."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from arcanna_metrics_cli.process import fit_output
from tests.support.deployment import ROOT

IMPORTS = "import sys, threading, time\nfrom arcanna_metrics_cli.process import run\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "layers/arcanna_metrics")}


def start(program: str) -> subprocess.Popen[str]:
    """Starts a command."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", IMPORTS + program],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupted(program: str, *signals: signal.Signals) -> tuple[int, str, str]:
    """Sends these signals to a program. Returns its exit status, its output after `begun`, and its errors."""
    process = start(program)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    first, *further = signals
    process.send_signal(first)
    for number in further:
        assert process.stdout.readline() == "closing\n"
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


WAITING = """
def main():
    try:
        print("begun", flush=True)
        threading.Event().wait()
    finally:
        print("closed")
run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_cleans_up_and_prints_one_line(number: signal.Signals) -> None:
    assert interrupted(WAITING, number) == (128 + number, "closed\n", "Stopped.\n")


def test_errors_during_clean_up_after_an_interrupt_are_not_shown() -> None:
    program = """
def broken():
    stop.wait()
    raise ConnectionError("the cloud is gone")
stop = threading.Event()
def main():
    thread = threading.Thread(target=broken)
    thread.start()
    try:
        print("begun", flush=True)
        threading.Event().wait()
    finally:
        stop.set()
        thread.join()
        print("cleaning up failed", file=sys.stderr)
        raise OSError("while cleaning up")
run(main)
"""
    assert interrupted(program, signal.SIGINT) == (130, "", "Stopped.\n")


def test_second_interrupt_ends_a_hanging_clean_up() -> None:
    program = """
def main():
    try:
        print("begun", flush=True)
        threading.Event().wait()
    finally:
        print("closing", flush=True)
        threading.Event().wait()
run(main)
"""
    assert interrupted(program, signal.SIGINT, signal.SIGINT) == (130, "", "Stopped.\n")


def test_hanging_clean_up_ends_after_the_grace_period() -> None:
    program = """
from arcanna_metrics_cli import process
process.GRACE = 1
def main():
    threading.Thread(target=threading.Event().wait).start()  # not a daemon, so Python would wait for it
    while True:
        try:
            print("begun", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            time.sleep(60)
run(main)
"""
    assert interrupted(program, signal.SIGINT) == (130, "", "Stopped.\n")


def test_command_may_handle_the_interrupt_itself() -> None:
    program = """
def main():
    try:
        print("begun", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("It goes on.")
        return 130
run(main)
"""
    assert interrupted(program, signal.SIGINT) == (130, "It goes on.\n", "")


def test_interrupt_during_loading_prints_no_traceback() -> None:
    program = f"sys.path.append({str(ROOT)!r}); import tests; print('begun', flush=True); time.sleep(60)"
    assert interrupted(program, signal.SIGINT) == (-signal.SIGINT, "", "Stopped.\n")


def test_interrupt_during_loading_of_the_operators_command_prints_nothing() -> None:
    program = """
from arcanna_metrics_cli.__main__ import start
class Slow:
    def find_spec(self, name, *_):
        if name == "arcanna_metrics_cli.command_line":
            print("begun", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
start()
"""
    assert interrupted(program, signal.SIGINT) == (-signal.SIGINT, "", "")


def test_ignored_signals_stay_ignored() -> None:
    program = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def main():
    print("begun", flush=True)
    print("closing", flush=True)
    signal.sigwait([signal.SIGUSR1])
    print("done")
run(main)
"""
    assert interrupted(program, signal.SIGHUP, signal.SIGUSR1) == (0, "done\n", "")


@pytest.mark.parametrize(("returned", "status"), [("None", 0), ("3", 3)])
def test_exit_status_is_the_commands_return_value(returned: str, status: int) -> None:
    process = start(f"run(lambda: {returned})")
    assert (process.wait(30), process.communicate()) == (status, ("", ""))


def test_bug_prints_a_traceback_and_does_not_exit_with_1_which_means_regressed() -> None:
    process = start("run(lambda: 1 / 0)")
    _, err = process.communicate(timeout=30)

    assert process.returncode == 70
    assert err.startswith("Traceback")
    assert "ZeroDivisionError" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["--version", "", "status --help", "route a --settings-file -"])
def test_output_to_a_full_disk_is_one_line_on_standard_error(arguments: str, buffered: str) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", FULL, *arguments.split()],
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": buffered},
        input=json.dumps({"routes": [{"keys": ["a"], "targets": [{"job_id": 7}]}]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "✗ The output cannot be written: No space left on device.\n",
    )


FULL = """
import os
from arcanna_metrics_cli.__main__ import start
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
start()
"""


def test_closed_output_pipe_is_no_error() -> None:
    process = start("run(lambda: [print('line' * 1000, flush=True) for _ in range(1000)] and 0)")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(30) == 128 + signal.SIGPIPE


# --- Terminals -------------------------------------------------------------------------------------------

MARKS = "run(lambda: print('✓ ✗ → … é \\u3000 \\udcff'))"
ASCII = rb"ok !! > ~ \xe9 \u3000 \udcff" + b"\n"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"LC_ALL": "C"}, ASCII),
        ({"LC_ALL": "POSIX"}, ASCII),
        ({"LC_ALL": "C", "PYTHONUTF8": "1"}, ASCII),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"}, ASCII),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "iso-8859-1"}, ASCII.replace(rb"\xe9", b"\xe9")),
        ({"LC_ALL": "C.UTF-8"}, "✓ ✗ → … é \u3000 \\udcff\n".encode()),
    ],
    ids=str,
)
def test_marks_become_ascii_if_the_terminal_cannot_show_them(
    environment: Mapping[str, str], shown: bytes
) -> None:
    own = {**ENVIRONMENT, "PYTHONUTF8": "", "PYTHONIOENCODING": "", **environment}
    command = [sys.executable, "-c", IMPORTS + MARKS]
    done = subprocess.run(command, env=own, capture_output=True, check=True)  # noqa: S603

    assert (done.stdout, done.stderr) == (shown, b"")


@pytest.mark.parametrize(
    ("command", "status", "says", "locale"),
    [
        ("route", 2, b"!! Missing argument 'KEY'", {"PYTHONIOENCODING": "iso-8859-1"}),
        ("doctor", 7, b"!! AWS cannot be reached: ", {"LC_ALL": "C"}),
    ],
)
def test_operators_commands_print_in_any_locale(
    command: str, status: int, says: bytes, locale: Mapping[str, str]
) -> None:
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "arcanna_metrics_cli", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "layers/arcanna_metrics", **nobody, **locale},
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (status, b"")
    assert says in done.stderr


def test_unknown_encoding_is_treated_as_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getencoding", lambda: "GEORGIAN-PS")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", None)
    fit_output()
    print("✓ é", flush=True)

    assert stdout.buffer.getvalue() == b"ok \\xe9\n"


def test_closed_streams_give_and_take_nothing() -> None:
    program = IMPORTS + "run(lambda: print(sys.stdin.read()) or sys.stderr.write('error') - 2)"
    closed = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-c", program]
    assert subprocess.run(closed, env=ENVIRONMENT, check=False).returncode == 3  # noqa: S603
