"""Results go to standard output, everything else to standard error, on terminals and in pipes."""

import io
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from rich.table import Table
from rich.text import Text

from arcanna_metrics_cli import output
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.output import Output, Unwritable
from tests.support.command import ERASE, Terminal
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(output, "PATIENCE", 0.01)


def wait(out: Output, what: str) -> None:
    """Works for long enough to see that no further announcement follows."""
    with out.doing(what):
        time.sleep(0.2)


def told(stream: io.StringIO, count: int = 1) -> None:
    """Waits until the stream has that many announcements of slow work."""
    eventually("a word", lambda: stream.getvalue().count("...") >= count)


def test_result_goes_to_standard_output_and_the_rest_to_standard_error() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    out = Output(stdout, stderr, io.StringIO("y\n"))
    out.show("result")
    out.say("progress", "red")
    assert out.ask("Sure?")
    out.document({"a": 1})
    assert stdout.getvalue() == "result\n"
    assert stderr.getvalue() == "progress\nSure? [y/N] "


def test_json_output_has_only_the_document_on_standard_output() -> None:
    stdout = io.StringIO()
    out = Output(stdout, io.StringIO())
    out.json = True
    out.show("result")
    out.show(Table("heading"))
    out.document({"a": 1})
    assert json.loads(stdout.getvalue()) == {"a": 1}


@pytest.mark.parametrize("typed", ["\n", "n\n", "no\n", "yep\n"])
def test_answer_other_than_yes_counts_as_no(typed: str) -> None:
    assert not Output(io.StringIO(), io.StringIO(), io.StringIO(typed)).ask("Sure?")


def test_unanswered_question_exits_with_2() -> None:
    with pytest.raises(Trouble, match="nobody answered") as raised:
        Output(io.StringIO(), io.StringIO(), io.StringIO("")).ask("Sure?")
    assert (raised.value.status, raised.value.todo) == (Exit.USAGE, "Add --yes")


def test_slow_work_is_announced_once_in_a_pipe() -> None:
    stderr = io.StringIO()
    wait(Output(io.StringIO(), stderr), "Reading the ledger")
    assert stderr.getvalue() == "Reading the ledger ...\n"


def test_slow_work_is_shown_on_a_terminal_until_it_is_done() -> None:
    stderr = Terminal()
    out = Output(io.StringIO(), stderr)
    with out.doing("Reading the ledger"):
        told(stderr)
    out.waiting("waiting for 2 seconds ...")
    out.say("done", "green")
    assert stderr.getvalue() == (
        f"Reading the ledger ...{ERASE}waiting for 2 seconds ...{ERASE}\x1b[32mdone\x1b[0m\n"
    )


def test_outer_work_is_announced_again_after_the_inner_work() -> None:
    stderr = io.StringIO()
    out = Output(io.StringIO(), stderr)
    with out.doing("Waiting for AWS"):
        with out.doing("Reading the ledger"):
            told(stderr)
        told(stderr, 2)
    assert stderr.getvalue() == "Reading the ledger ...\nWaiting for AWS ...\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_slow_work_is_announced_again_after_a_line(stream: type[io.StringIO]) -> None:
    stderr = stream()
    out = Output(io.StringIO(), stderr)
    with out.doing("Waiting for AWS"):
        told(stderr)
        out.say("requested")
        told(stderr, 2)
    words = stderr.getvalue().replace(ERASE, "\n").split("\n")
    assert words == ["Waiting for AWS ...", "requested", "Waiting for AWS ...", ""]


def test_slow_work_is_not_announced_during_a_question() -> None:
    class Slow(io.StringIO):
        def readline(self, *_: Any) -> str:  # type: ignore[override]
            time.sleep(0.2)
            return "y\n"

    stderr = io.StringIO()
    out = Output(io.StringIO(), stderr, Slow())
    with out.doing("Waiting for AWS"):
        assert out.ask("Sure?")
    assert stderr.getvalue() == "Sure? [y/N] "


def test_quick_work_is_not_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PATIENCE", 60.0)
    stderr = io.StringIO()
    wait(Output(io.StringIO(), stderr), "Reading the ledger")
    assert stderr.getvalue() == ""


def test_countdown_is_not_printed_in_a_pipe() -> None:
    stderr = io.StringIO()
    out = Output(io.StringIO(), stderr)
    with out.doing("Following the run"):
        out.waiting("waiting for 2 seconds ...")
        time.sleep(0.2)
    assert stderr.getvalue() == ""


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_terminal_without_colours_gets_plain_text(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    stdout = Terminal()
    Output(stdout, Terminal()).show("bad", "red")
    assert stdout.getvalue() == "bad\n"


@pytest.mark.parametrize("what", ["line", Text("text"), Table("heading")])
def test_result_to_a_closed_pipe_raises_broken_pipe(what: Any) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Output(Closed(), io.StringIO()).show(what)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_page_on_a_full_disk_is_told_from_errors_of_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr("sys.stdout", mock.Mock(buffer=full))
        with pytest.raises(Unwritable, match="No space left on device"):
            Output().send(b"page")


@pytest.mark.parametrize("columns", [None, "", "0", "abc", "-5", "²", "9" * 5000])
def test_long_lines_and_wide_tables_are_not_wrapped_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    stdout = io.StringIO()
    out = Output(stdout, io.StringIO())
    out.show("x" * 500)
    out.show(Table("y" * 150))
    assert "x" * 500 in stdout.getvalue()
    assert "y" * 150 in stdout.getvalue()


@pytest.mark.parametrize(("columns", "width"), [("0", 80), ("100", 100), ("abc", 80)])
def test_tables_are_as_wide_as_the_terminal_or_as_a_positive_columns(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stdout = Terminal()
    Output(stdout, Terminal()).show(Table("y" * 150))
    assert len(stdout.getvalue().splitlines()[0]) == width


def test_columns_of_a_pipe_wrap_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    stdout = io.StringIO()
    Output(stdout, io.StringIO()).show(Table("y" * 150))
    assert len(stdout.getvalue().splitlines()[0]) == 100
