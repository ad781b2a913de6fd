"""The command `arcanna-metrics forget`."""

from typing import TYPE_CHECKING, Any

import click

from arcanna_metrics_cli.command_line import JOB, TEXT, Answer, Given, operation
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.words import counted

if TYPE_CHECKING:
    from arcanna_metrics.protocol.entry import Entry


@operation
@click.option("--job", type=JOB, required=True, help="The job, by id or name.")
@click.option("--model", type=TEXT, help="Only this model; without it, all entries of the job.")
@click.option("--force", is_flag=True, help="Delete even during a run; its end is then not recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(given: Given, job: str, model: str | None, force: bool, yes: bool) -> Answer:
    """Delete what the ledger knows about a model or a job: its history, its reference, and what waits.

    Use it for jobs that are gone or were mistyped, so that the schedule no longer includes them. Exits with 6
    while a run is under way. Metrics in Arcanna do not change.
    """
    from arcanna_metrics_cli import entries

    stack, out = given.deployed, given.out
    with out.doing("Reading the ledger"):
        every, unreadable = stack.readable_entries()
    found = entries.named(every, job, model)
    if not found:
        raise unreadable[0] if unreadable else entries.unknown(every, job, model)
    document: dict[str, Any] = {"targets": [entry.target._asdict() for entry in found], "done": False}
    for entry in found:
        out.show(f"{entry.target}: {_what(entry)}")
    if any(entry.run_id for entry in found) and not force:
        raise Trouble(
            Exit.NOT_STARTED,
            "A run is under way.",
            "Try again when it has ended, or use --force: its end is then not recorded",
        )
    question = "Delete this from the ledger for good?"
    given.confirm(document, question, yes=yes, done="deleted", todo="delete it")
    with out.doing("Deleting from the ledger"):
        kept = [entry.target for entry in found if not stack.delete(entry)]
    if kept:
        raise Trouble(
            Exit.NOT_STARTED,
            f"{', '.join(map(str, kept))} changed meanwhile, so nothing of it was deleted.",
            "Look at arcanna-metrics status, and try again",
        )
    for trouble in unreadable:  # perhaps of this job, too
        out.explain(trouble)
    out.show(f"✓ Deleted {len(found)} {'entry' if len(found) == 1 else 'entries'} of the ledger.", "green")
    return Answer(Exit.GOOD, document | {"done": True})


def _what(entry: "Entry") -> str:
    """What would be lost with the entry."""
    parts = [f"{counted(len(entry.history) + bool(entry.last_failure), 'run')} in its history"]
    if entry.quality_reference:
        parts.append("its reference")
    if entry.dirty:
        parts.append(counted(max(1, entry.waiting.updates), "waiting update"))
    if entry.run_id:
        parts.append(f"the run {entry.run_id}, which is under way")
    return ", ".join(parts)
