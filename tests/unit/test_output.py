"""What is printed where: results on standard output, all else on standard error; terminals and pipes."""

import io
import json
import time
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from arcanna_metrics_cli import output
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.output import Output
from tests.support.command import ERASE, Terminal
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(output, "PATIENCE", 0.01)


def wait(out: Output, what: str) -> None:
    with out.doing(what):
        time.sleep(0.2)


def told(stream: io.StringIO, count: int = 1) -> None:
    """Waits until so many waits are explained on the stream."""
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


def test_with_json_only_the_document_is_on_standard_output() -> None:
    stdout = io.StringIO()
    out = Output(stdout, io.StringIO())
    out.json = True
    out.show("result")
    out.show(Table("heading"))
    out.document({"a": 1})
    assert json.loads(stdout.getvalue()) == {"a": 1}


@pytest.mark.parametrize("typed", ["\n", "n\n", "no\n", "yep\n"])
def test_everything_but_yes_is_a_no(typed: str) -> None:
    assert not Output(io.StringIO(), io.StringIO(), io.StringIO(typed)).ask("Sure?")


def test_question_that_nobody_answers_ends_with_usage() -> None:
    with pytest.raises(Trouble, match="nobody answered") as raised:
        Output(io.StringIO(), io.StringIO(), io.StringIO("")).ask("Sure?")
    assert (raised.value.status, raised.value.todo) == (Exit.USAGE, "Add --yes")


def test_in_a_pipe_what_takes_long_is_said_in_a_line() -> None:
    stderr = io.StringIO()
    wait(Output(io.StringIO(), stderr), "Reading the ledger")
    assert stderr.getvalue() == "Reading the ledger ...\n"


def test_on_a_terminal_what_takes_long_is_shown_until_it_is_done() -> None:
    stderr = Terminal()
    out = Output(io.StringIO(), stderr)
    wait(out, "Reading the ledger")
    out.waiting("waiting for 2 seconds ...")
    out.say("done", "green")
    assert stderr.getvalue() == (
        f"Reading the ledger ...{ERASE}waiting for 2 seconds ...{ERASE}\x1b[32mdone\x1b[0m\n"
    )


def test_outer_work_is_named_when_the_inner_one_is_done() -> None:
    stderr = io.StringIO()
    out = Output(io.StringIO(), stderr)
    with out.doing("Waiting for AWS"):
        wait(out, "Reading the ledger")
        told(stderr, 2)
    assert stderr.getvalue() == "Reading the ledger ...\nWaiting for AWS ...\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_silence_after_a_line_is_explained_again(stream: type[io.StringIO]) -> None:
    stderr = stream()
    out = Output(io.StringIO(), stderr)
    with out.doing("Waiting for AWS"):
        told(stderr)
        out.say("requested")
        told(stderr, 2)
    words = stderr.getvalue().replace(ERASE, "\n").split("\n")
    assert words == ["Waiting for AWS ...", "requested", "Waiting for AWS ...", ""]


def test_nothing_is_printed_into_an_open_question() -> None:
    class Slow(io.StringIO):
        def readline(self, *_: Any) -> str:  # type: ignore[override]
            time.sleep(0.2)
            return "y\n"

    stderr = io.StringIO()
    out = Output(io.StringIO(), stderr, Slow())
    with out.doing("Waiting for AWS"):
        assert out.ask("Sure?")
    assert stderr.getvalue() == "Sure? [y/N] "


def test_what_is_quick_is_not_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PATIENCE", 60.0)
    stderr = io.StringIO()
    wait(Output(io.StringIO(), stderr), "Reading the ledger")
    assert stderr.getvalue() == ""


def test_waiting_is_not_repeated_in_a_pipe() -> None:
    stderr = io.StringIO()
    out = Output(io.StringIO(), stderr)
    with out.doing("Following the run"):
        out.waiting("waiting for 2 seconds ...")
        time.sleep(0.2)
    assert stderr.getvalue() == ""


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_terminal_without_colours_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    stdout = Terminal()
    Output(stdout, Terminal()).show("bad", "red")
    assert stdout.getvalue() == "bad\n"


@pytest.mark.parametrize("what", ["line", Text("text"), Table("heading")])
def test_result_whose_reader_has_gone_raises_broken_pipe(what: Any) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Output(Closed(), io.StringIO()).show(what)


def test_long_line_is_not_wrapped_and_pipes_have_room_for_tables() -> None:
    stdout = io.StringIO()
    out = Output(stdout, io.StringIO())
    out.show("x" * 500)
    out.show(Table("y" * 150))
    assert "x" * 500 in stdout.getvalue()
    assert "y" * 150 in stdout.getvalue()
