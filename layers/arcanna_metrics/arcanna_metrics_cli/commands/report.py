"""The command `arcanna-metrics report`."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arcanna_metrics_cli.command_line import Answer, Given, operation
from arcanna_metrics_cli.exits import Exit, Trouble

if TYPE_CHECKING:
    from arcanna_metrics_cli.report.facts import Facts

FILE = "arcanna-metrics.html"


@operation
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help=f"File to write; - is standard output.  [default: {FILE}]",
)
@click.option("--open", "to_open", is_flag=True, help="Open the page in the browser.")
@click.option("--watch", is_flag=True, help="Serve the page on this machine instead, and keep it up to date.")
@click.option("--port", type=click.IntRange(0, 65535), help="With --watch: the port. By default a free one.")
@click.option(
    "--refresh",
    type=click.FloatRange(1, 3600),
    help="With --watch: seconds between two looks at the stack.  [default: 10]",
)
def command(
    given: Given, output: Path | None, to_open: bool, watch: bool, port: int | None, refresh: float | None
) -> Answer:
    """Write or serve a page with the state of all models.

    The page is one HTML file that needs no network. It shows what is stale, what got worse, what failed and
    what waits, and then each model with its runs, scores and confusion matrices. You can sort and filter it.

    With --watch, the page is served on 127.0.0.1 until Ctrl-C. Every user of this machine can read it. The
    stack is read only while the page is open.
    """
    if watch and output is not None:
        raise click.UsageError("--watch writes no file: leave out --output.")
    if watch and given.out.json:
        raise click.UsageError("--watch prints no document: leave out --json.")
    to_stdout = output == Path("-")
    if to_stdout and (to_open or given.out.json):
        raise click.UsageError("With --output -, the page is the output: leave out --open and --json.")
    if not watch and (port is not None or refresh is not None):
        raise click.UsageError("--port and --refresh are for --watch.")
    if watch:
        return _serve(given, port or 0, refresh or 10.0, to_open)
    from arcanna_metrics_cli.report import Gatherer, build

    with given.out.doing("Looking at the ledger, the executions and the queues"):
        facts = Gatherer(given.deployed).look(time.time())
        text = build(facts)
    for note in facts.notes:
        given.out.say(note, "yellow")
    if to_stdout:
        given.out.send(text.encode())
        given.out.say(f"Wrote the page ({in_words(facts)}).")
        return Answer(Exit.GOOD, {})
    file = output or Path(FILE)
    _write(file, text)
    given.out.show(f"Wrote {file} ({in_words(facts)}).")
    if to_open:
        click.launch(file.absolute().as_uri())
    return Answer(Exit.GOOD, {"file": str(file.absolute()), **counts(facts), "notes": list(facts.notes)})


def _write(file: Path, text: str) -> None:
    """Writes the page, and keeps the old one if that fails. Raises OSError with the file's name."""
    into = file.resolve()  # a link stays one
    try:
        # A pipe or a device has no old page, and some folders take no new file.
        if file.exists() and not (file.is_file() and os.access(into.parent, os.W_OK)):
            file.write_text(text, encoding="utf-8")
        else:
            _replace(into, text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def _replace(file: Path, text: str) -> None:
    """Replaces the file in one step, or creates it. Keeps its permissions. Raises OSError."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.touch(exist_ok=False)  # not through a link that another user has put there
        beside.write_text(text, encoding="utf-8")
        if file.exists():
            shutil.copymode(file, beside)
        beside.replace(file)
    finally:
        with suppress(OSError):  # it is gone if it has replaced the file
            beside.unlink()


def _serve(given: Given, port: int, refresh: float, to_open: bool) -> Answer:
    """Serves the page until an interrupt. Raises KeyboardInterrupt."""
    from arcanna_metrics_cli.report import Gatherer, build
    from arcanna_metrics_cli.report.watch import Watch

    looks = Gatherer(given.deployed)
    try:
        served = Watch(lambda: build(looks.look(time.time()), refresh=refresh), refresh, port)
    except OSError as error:
        raise Trouble(
            Exit.USAGE, f"Port {port} cannot be used: {error.strerror}.", "leave out --port for a free one"
        ) from error
    served.start()
    try:
        given.out.say(f"The page is {served.url} until Ctrl-C.")
        if to_open:
            click.launch(served.url)
        given.out.waiting("Serving it ...")
        while True:
            time.sleep(1)
    finally:
        with suppress(KeyboardInterrupt):
            served.stop()


def counts(facts: "Facts") -> dict[str, int | None]:
    """The counts in the JSON document: of models, of models in each state, and of dead letters if known."""
    models = facts.models
    return {
        "models": len(models),
        "stale": sum(not model.fresh for model in models),
        "regressed": sum(model.is_worse for model in models),
        "failed": sum(model.has_failed for model in models),
        "waiting": sum(model.waits for model in models),
        "dead_letters": facts.dead,
    }


def in_words(facts: "Facts") -> str:
    """The counts in one line."""
    words = {"regressed": "got worse", "dead_letters": "dead letters"}
    return ", ".join(
        f"{words.get(kind, kind)}: {'unknown' if number is None else f'{number:,}'}"
        for kind, number in counts(facts).items()
    )
