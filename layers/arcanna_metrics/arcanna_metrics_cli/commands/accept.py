"""The command `arcanna-metrics accept`."""

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.command_line import JOB, TEXT, Answer, Given, operation
from arcanna_metrics_cli.commands.recompute import KEY
from arcanna_metrics_cli.exits import Exit, Trouble

if TYPE_CHECKING:
    from arcanna_metrics.protocol.entry import Entry

MOST_SHOWN = 12
"""Figures shown to people. The JSON document has all."""


@operation
@click.option("--job", type=JOB, required=True, help="The job, by id or name.")
@click.option("--model", type=TEXT, help="The model; without it, the job's active one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(given: Given, job: str, model: str | None, yes: bool) -> Answer:
    """Accept a model that got worse as the new reference.

    Shows the model's reference and its current figures, and asks. Accepts nothing if Arcanna does not show
    them. The next run is compared with the accepted figures. A floor of the quality gate still holds, until
    the settings lower it. A run that is under way is still compared with
    the old reference, and its result does not change the new one. A run that ends while the question waits
    is not accepted. The ledger records who accepted the model, and when.
    """
    from arcanna_metrics.protocol import transitions
    from arcanna_metrics.runs.quality import current
    from arcanna_metrics_cli import view

    stack, out = given.deployed, given.out
    if model is None:
        model = str(_shown(given, Target(job, None))["model_id"])
    with out.doing("Reading the ledger"):
        entry = _entry(given, job, model)
    target = entry.target
    document: dict[str, Any] = {"job_id": target.job_id, "model_id": model, "done": False}
    if not (before := entry.quality_reference):
        out.show("There is nothing to accept: the next run is compared with the metrics just before it.")
        return Answer(Exit.GOOD, document | {"figures": [], "accepted": None})
    # The ledger compares this time with those of runs. So it is by AWS's clock, as the one here may be wrong,
    # and from before the figures are read, as a run that ends later does not show in them.
    with out.doing("Asking AWS for the caller and the time"):
        caller, at = stack.caller()
    by: Any = {"by": caller, "at": to_iso(at)}
    now = current(before, _shown(given, target)["metrics"])
    if not now:
        raise Trouble(Exit.NOT_STARTED, "Arcanna shows none of the figures.", "Try again after its next run")
    figures = [
        view.Figure(name, value, now[name][0] if name in now else None) for name, (value, _) in before.items()
    ]
    document["figures"] = [figure._asdict() | {"change": figure.change} for figure in figures]
    document["accepted"] = None
    if not out.json:
        worst = sorted(figures, key=lambda figure: figure.change or 0.0)[:MOST_SHOWN]
        out.show(f"Model {model} of job {target.job_id}, stack {given.stack}:")
        out.show(view.figures(worst))
        if len(figures) > len(worst):
            out.show(f"and {len(figures) - len(worst)} figures that changed less")
    given.confirm(document, "Accept the figures under Now?", yes=yes, done="changed", todo="accept it")
    with out.doing("Writing to the ledger"):
        stack.apply(target, partial(transitions.accept, figures=now, by=by))
    out.show(
        f"✓ Accepted by {caller}. The next run is compared with these figures; floors still hold.", "green"
    )
    if entry.run_id or stack.entry(target._replace(model_id=None)).run_id:
        out.show("The run that is under way is still compared with the old reference.")
    return Answer(Exit.GOOD, document | {"done": True, "accepted": by})


def _entry(given: Given, job: str, model: str) -> "Entry":
    """The entry of the model, which has its reference. Raises Trouble if there is none."""
    from arcanna_metrics_cli import entries

    stack = given.deployed
    entry = stack.entry(stack.home(Target(job, model)))
    if entry.rev:
        return entry
    every = stack.hints()
    if model in entries.models(every, job):  # known as the active model
        return entry
    raise entries.unknown(every, job, model)


def _shown(given: Given, target: Target) -> dict[str, Any]:
    """What Arcanna shows of the target: its model and metrics. Raises Trouble if it shows nothing."""
    with given.out.doing("Asking Arcanna for the metrics"):
        answer, failed = given.deployed.invoke_trigger({"preflight": target._asdict()})
    if failed or answer["reason"]:
        why = answer.get("errorMessage") if failed else answer["detail"]
        said = f"Arcanna does not show the model's current figures: {why}"
        if answer.get("reason") == "Rejected":
            raise Trouble(Exit.USAGE, said, "arcanna-metrics status lists the known jobs and models")
        status = Exit.NO_ACCESS if answer.get("reason") in KEY else Exit.NOT_STARTED
        raise Trouble(status, said, "arcanna-metrics doctor may show why; then try again")
    return answer
