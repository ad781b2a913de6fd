"""The command `arcanna-metrics status`."""

import time
from typing import TYPE_CHECKING, Any

import click

from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.command_line import JOB, TEXT, Answer, Given, operation
from arcanna_metrics_cli.exits import Exit

if TYPE_CHECKING:
    from arcanna_metrics_cli.deployed import Deployed
    from arcanna_metrics_cli.entries import PastRun, Standing


@operation
@click.option("--job", type=JOB, help="Only this job, by id or name, with its last runs.")
@click.option("--model", type=TEXT, help="Only this model, with its last runs.")
def command(given: Given, job: str | None, model: str | None) -> Answer:
    """Show how fresh the metrics of each model are, and why they are stale.

    With --job or --model, it also shows the last runs and their outcomes. Exits with 1 if an entry of the
    ledger cannot be read, after it has shown the others.
    """
    from arcanna_metrics_cli import entries

    stack, now, out = given.deployed, time.time(), given.out
    with out.doing("Reading the ledger"):
        every, unreadable = stack.readable_entries()
        listed = entries.by_job(entries.named(every, job) if job else every)
        standings = stack.standings(listed, map(stack.under_way, listed), now)
    rows = entries.without_references([row for row in standings if model in (None, row.model)])
    narrowed = bool(job or model)
    if narrowed and not rows:
        raise unreadable[0] if unreadable else entries.unknown(every, job, model)
    with out.doing("Counting messages"):
        queue, dead = stack.messages("UpdatesQueueUrl"), sum(stack.messages("DeadLetterQueueUrl").values())
    if not out.json:
        _show(given, rows, now, with_runs=narrowed)
        out.show(_queue(queue))
        if dead:
            out.show(
                f"Dead letters: {dead}. They started no recompute, and may be of any model."
                " See arcanna-metrics redrive.",
                "yellow",
            )
        out.show(f"Dashboard: {stack.output('DashboardLink')}", "dim")
    document: dict[str, Any] = {
        "targets": [_document(row, stack, with_runs=narrowed) for row in rows],
        "queue": {kind.replace(" ", "_"): number for kind, number in queue.items()},
        "dead_letters": dead,
        "unreadable": [str(trouble) for trouble in unreadable],
        "links": {"dashboard": stack.output("DashboardLink"), "logs": stack.trigger_log},
    }
    for trouble in unreadable:
        out.explain(trouble)
    return Answer(unreadable[0].status if unreadable else Exit.GOOD, document)


def _show(given: Given, rows: list["Standing"], now: float, *, with_runs: bool) -> None:
    from arcanna_metrics_cli import view

    stack, out = given.deployed, given.out
    if rows:
        links = {
            claim.run_id: stack.execution_link(claim.run_id, claim.number)
            for row in rows
            if (claim := row.entry.claim)
        }
        out.show(view.standings(rows, now, out.console.width, links))
    else:
        out.show("The ledger is empty: no update has been recorded yet.")
    for row in rows if with_runs else ():
        out.show("")
        out.show(f"Last runs of {row.model_id or 'the active model'}, job {row.job}:")
        out.show(view.history(row.runs) if row.runs else "  none yet")
        if accepted := row.accepted:
            out.show(f"{row.model} was accepted at {accepted['at'][:19]}Z by {accepted['by']}.")
        if row.last:
            out.show(f"Last run: {stack.execution_link(row.last.run_id)}", "dim")


def _queue(counts: dict[str, int]) -> str:
    told = [f"{n} {'ready' if state == 'visible' else state}" for state, n in counts.items() if n]
    what = f"{', '.join(told)} (messages; a sweep is one each minute)" if told else "empty"
    return f"Updates queue: {what}."


def _document(row: "Standing", stack: "Deployed", *, with_runs: bool) -> dict[str, Any]:
    entry, running = row.entry, None
    if claim := entry.claim:
        running = {
            "run_id": claim.run_id,
            "requested_at": to_iso(claim.requested_at),
            "link": stack.execution_link(claim.run_id, claim.number),
        }
    document: dict[str, Any] = {
        "job_id": entry.name_of or entry.target.job_id,
        "job_name": entry.target.job_id if entry.name_of else None,
        "model_id": row.model_id,
        "active_model_id": row.active,
        "fresh": row.fresh,
        "since": None if row.since is None else to_iso(row.since),
        "why": row.why,
        "last_error": row.last_error,
        "waiting": row.waiting,
        "running": running,
        "last_run": run_document(row.last, stack),
        "scores": dict(row.scores),
        "accepted": row.accepted,
    }
    if with_runs:
        document["runs"] = [run_document(run, stack) for run in row.runs]
    return document


def run_document(run: "PastRun | None", stack: "Deployed") -> dict[str, Any] | None:
    """A run that has ended, in the JSON document."""
    if run is None:
        return None
    return {
        "run_id": run.run_id,
        "cause": run.cause,
        "requested_at": to_iso(run.requested_at),
        "ended_at": None if run.ended_at is None else to_iso(run.ended_at),
        "polls": run.polls,
        "outcome": run.outcome,
        "verdict": run.result if run.outcome == "completed" else None,
        "reason": None if run.outcome == "completed" else run.result,
        "why": run.why or run.detail,
        "scores": dict(run.scores),
        "link": stack.execution_link(run.run_id),
    }
