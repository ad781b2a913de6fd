"""The command `arcanna-metrics accept`."""

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from arcanna_metrics_cli.command_line import JOB, TEXT, Answer, Given, operation
from arcanna_metrics_cli.commands.recompute import KEY, own_run
from arcanna_metrics_cli.exits import Exit, Trouble

if TYPE_CHECKING:
    from arcanna_metrics.protocol.entry import Entry
    from arcanna_metrics_cli.view import Figure

MOST_SHOWN = 12
"""Figures shown to people. The JSON document has all."""


@operation
@click.option("--job", type=JOB, required=True, help="The job, by id or name.")
@click.option("--model", type=TEXT, help="The model; without it, the job's active or only one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(given: Given, job: str, model: str | None, yes: bool) -> Answer:
    """Accept a model that got worse as the new reference.

    Shows the model's reference and its current figures, and asks. Accepts nothing if Arcanna does not show
    them. The run after the acceptance is compared with the figures just before it. The ledger records who
    accepted the model, and when.
    """
    from arcanna_metrics.protocol import transitions
    from arcanna_metrics.times import to_iso
    from arcanna_metrics_cli import view

    stack, out = given.deployed, given.out
    with out.doing("Reading the ledger"):
        model = model or _only_model(given, job)
        found = _entries(given, job, model)
    if any(entry.run_id for entry in found):
        raise Trouble(Exit.NOT_STARTED, "A run of the model is under way.", "Try again when it has ended")
    judged = [entry for entry in found if entry.reference_of(model)]
    document: dict[str, Any] = {"job_id": found[0].target.job_id, "model_id": model, "done": False}
    if not judged:
        out.show("There is nothing to accept: the next run is compared with the metrics just before it.")
        return Answer(Exit.GOOD, document | {"figures": [], "accepted": None})
    figures = _figures(given, judged, model)
    document["figures"] = [figure._asdict() | {"change": figure.change} for figure in figures]
    document["accepted"] = None
    if not out.json:
        worst = sorted(figures, key=lambda figure: figure.change or 0.0)[:MOST_SHOWN]
        out.show(f"Model {model} of job {found[0].target.job_id}:")
        out.show(view.figures(worst))
        if len(figures) > len(worst):
            out.show(f"and {len(figures) - len(worst)} figures that changed less")
    if not yes and (out.json or not out.ask("Accept the figures under Now?")):
        out.say("Nothing was changed." + (" Add --yes to accept it." if out.json else ""))
        return Answer(Exit.USAGE if out.json else Exit.GOOD, document)
    with out.doing("Writing to the ledger"):
        by: Any = {"model_id": model, "by": stack.caller(), "at": to_iso(time.time())}
        changed = [stack.apply(e.target, partial(transitions.accept, by=by)) for e in judged]
    if None in changed:
        raise Trouble(Exit.NOT_STARTED, "A run of the model has begun.", "Try again when it has ended")
    out.show(
        f"✓ Accepted by {by['by']}. The next run is compared with the metrics just before it.",
        "green",
    )
    return Answer(Exit.GOOD, document | {"done": True, "accepted": {"by": by["by"], "at": by["at"]}})


def _only_model(given: Given, job: str) -> str:
    """The job's active model as of its last run, or else its only model in the ledger. Raises Trouble."""
    from arcanna_metrics.targets import Target
    from arcanna_metrics_cli import entries
    from arcanna_metrics_cli.names import did_you_mean

    stack = given.deployed
    active = stack.entry(stack.home(Target(job, None)))
    if judged := active.quality_reference or active.accepted:
        return judged["model_id"]
    every = stack.entries()
    models = sorted(set(entries.names(every, job)))
    if len(models) == 1:
        return models[0]
    if models:
        said = f"The ledger knows {len(models)} models of job {job!r}: {', '.join(models)}."
        raise Trouble(Exit.USAGE, said, "Name one of them with --model")
    hint = did_you_mean(job, entries.names(every)) if not entries.named(every, job, None) else ""
    said = f"The ledger knows no model of job {job!r}. {hint}".rstrip()
    raise Trouble(Exit.USAGE, said, "arcanna-metrics status lists the jobs and models that it knows")


def _entries(given: Given, job: str, model: str) -> "list[Entry]":
    """The model's entries: by its id, and as its job's active model. Raises Trouble if there are none.

    A run of the active model may be of this model. Then it has begun with the reference under its id.
    """
    from arcanna_metrics.targets import Target
    from arcanna_metrics_cli import entries
    from arcanna_metrics_cli.names import did_you_mean

    stack = given.deployed
    by_id, active = (stack.entry(stack.home(Target(job, each))) for each in (model, None))
    found = [by_id] if by_id.rev else []
    is_active = active.reference_of(model) is not None or (
        active.accepted and active.accepted["model_id"] == model
    )
    if is_active or (found and own_run(stack, job, model)):
        found.append(active)
    if not found:
        every = stack.hints()
        of_job = entries.names(every, job)
        of_job += [
            e.quality_reference["model_id"] for e in entries.named(every, job, None) if e.quality_reference
        ]
        hint = did_you_mean(model, of_job) if of_job else did_you_mean(job, entries.names(every))
        raise Trouble(
            Exit.USAGE,
            f"The ledger does not know the model {model!r} of job {job!r}. {hint}".rstrip(),
            "arcanna-metrics status lists those that it knows",
        )
    return found


def _figures(given: Given, judged: "list[Entry]", model: str) -> "list[Figure]":
    """The figures of the reference with their current values. Raises Trouble if Arcanna shows none."""
    from arcanna_metrics.protocol.entry import last_reference
    from arcanna_metrics.runs.quality import figures
    from arcanna_metrics_cli.view import Figure

    with given.out.doing("Asking Arcanna for the metrics"):
        target = {"job_id": judged[0].target.job_id, "model_id": model}
        answer, failed = given.deployed.invoke_trigger({"preflight": target})
    if failed or answer["reason"]:
        why = answer.get("errorMessage") if failed else answer["detail"]
        status = Exit.NO_ACCESS if answer.get("reason") in KEY else Exit.NOT_STARTED
        if answer.get("reason") == "Rejected":
            status = Exit.USAGE
        said = f"Arcanna does not show the model's current figures: {why}"
        raise Trouble(status, said, "arcanna-metrics doctor may show why; then try again")
    now, reference = figures(answer["metrics"]), last_reference(judged, model) or {}
    if reference and not now.keys() & reference.keys():
        raise Trouble(Exit.NOT_STARTED, "Arcanna shows none of the figures.", "Try again after its next run")
    return [Figure(name, before, now.get(name)) for name, (before, _) in reference.items()]
