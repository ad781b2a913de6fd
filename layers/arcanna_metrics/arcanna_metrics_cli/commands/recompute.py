"""The command `arcanna-metrics recompute`."""

import re
import time
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from arcanna_metrics.targets import Target
from arcanna_metrics_cli.command_line import JOB, TEXT, Answer, Given, operation
from arcanna_metrics_cli.commands.status import run_document
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.words import did_you_mean

if TYPE_CHECKING:
    from arcanna_metrics_cli.deployed import Deployed
    from arcanna_metrics_cli.entries import PastRun

KEY = {"Unauthorised", "ApiKeyUnavailable", "ApiKeyMissing"}
"""Reasons of an answer of the trigger that are about Arcanna's key."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):
    """A span of time such as 90, 90s, 30m, 1h30m, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if not value:
            return None
        parts = re.findall(r"(\d+)([smhd]?)", str(value))
        if not parts or "".join(number + unit for number, unit in parts) != str(value):
            self.fail(f"{value!r} is not a time such as 90s, 30m or 1h30m", param, ctx)
        try:
            return float(sum(int(number) * _UNITS[unit] for number, unit in parts))
        except (OverflowError, ValueError):  # too many digits
            self.fail("the time is too long", param, ctx)


@operation
@click.option("--job", type=JOB, required=True, help="The job, by id or name.")
@click.option("--model", type=TEXT, help="The model; without it, the job's active one.")
@click.option("--wait", is_flag=True, help="Follow the run, and exit with a status for its outcome.")
@click.option(
    "--timeout",
    type=Duration(),
    metavar="TIME",
    help="With --wait: how long to wait, such as 30m. Without it, until the run ends, but only 10 minutes for"
    " a run to start, from when it is due.",
)
@click.option("--allow-not-judged", is_flag=True, help="With --wait: exit with 0 instead of 3.")
def command(
    given: Given, job: str, model: str | None, wait: bool, timeout: float | None, allow_not_judged: bool
) -> Answer:
    """Request a recompute and, with --wait, follow it to its end.

    First checks that Arcanna knows the job and the model, and requests nothing if it does not.

    \b
    Exit status with --wait:
      0  metrics are fresh, and no worse than before
      1  metrics are fresh, and the model regressed
      2  wrong command line, or Arcanna does not know the job or the model
      3  metrics are fresh, but could not be compared (0 with --allow-not-judged)
      4  the recompute failed
      5  the run did not end in time: by --timeout, or by its own deadline
      6  no run started in time: target or Arcanna busy, no answer, no slot free
      7  no access to AWS, the stack or its ledger, or Arcanna refuses the key
    Without --wait, 0 means that the request is recorded.
    """
    out, began_at = given.out, time.time()
    if not wait and (timeout is not None or allow_not_judged):
        raise click.UsageError("--timeout and --allow-not-judged need --wait.")
    stack = given.deployed
    _look_up(given, job, model)
    with out.doing("Recording the request"):
        answer, failed = stack.invoke_trigger({"job_id": job, **({"model_id": model} if model else {})})
    if failed:
        said = f"The request was not recorded. {answer.get('errorType')}: {answer.get('errorMessage')}"
        raise Trouble(Exit.NOT_STARTED, said, "arcanna-metrics doctor may show why")
    (recorded,) = answer["recorded"]
    recorded_in = Target(recorded["job_id"], recorded["model_id"])
    target = stack.home(recorded_in)
    out.say(f"{target}: requested.")
    if not wait:
        out.show(f"Requested. See its progress with {_to_see(given, target)}")
        return Answer(Exit.GOOD, _document(given, target, "requested", None, ""))
    try:
        return _follow(given, recorded_in, began_at, timeout, allow_not_judged)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "Stopped following. The recompute continues; arcanna-metrics status shows it."
        ) from None


def _look_up(given: Given, job: str, model: str | None) -> None:
    """Raises Trouble if Arcanna does not know the target, or does not answer about one without a run."""
    from arcanna_metrics_cli import entries

    stack, out = given.deployed, given.out
    with out.doing("Asking Arcanna for the job and the model"):
        answer, failed = stack.invoke_trigger({"preflight": {"job_id": job, "model_id": model}})
    if failed:
        said = f"{answer.get('errorType')}: {answer.get('errorMessage')}"
        if answer.get("errorType") == "BadInput":
            raise Trouble(Exit.USAGE, said)
        raise Trouble(Exit.NOT_STARTED, said, "arcanna-metrics doctor shows what is wrong")
    if answer["reason"] is None:
        if answer["recomputing"]:
            whose = _whose_recompute(stack, job, answer["model_id"])
            out.say(f"{whose} is under way. The next run starts after that.")
        return
    if answer["reason"] == "Rejected":
        if answer["unknown"] == "model" and not model:
            raise Trouble(Exit.USAGE, f"Arcanna shows no active model of job {job!r}: {answer['detail']}")
        typed = model if answer["unknown"] == "model" and model else job
        what = f"{answer['unknown'] or 'target'} {typed!r}"
        known = answer["known"] or (
            entries.models(stack.hints(), job) if typed == model else entries.jobs(stack.hints())
        )
        said = f"Arcanna does not take the {what}. {did_you_mean(typed, known)}".rstrip()
        raise Trouble(Exit.USAGE, f"{said} Arcanna's answer: {answer['detail'].rstrip('.')}.")
    if answer["reason"] in KEY:
        raise Trouble(
            Exit.NO_ACCESS, answer["detail"], "arcanna-metrics doctor shows what is wrong with the key"
        )
    if stack.entry(stack.home(Target(job, model))).history:
        out.say(f"Arcanna cannot be queried now ({answer['reason']}). The request will wait.", "yellow")
        return
    raise Trouble(
        Exit.NOT_STARTED,
        f"Arcanna cannot be queried now, and no run of it has completed: {answer['detail']}",
        "nothing was requested; try again later; arcanna-metrics doctor shows what is wrong",
    )


def _whose_recompute(stack: "Deployed", job: str, model: str) -> str:
    """The run of this stack that the model's recompute under way is of, in words."""
    for model_id in (model, None):
        entry = stack.entry(stack.home(Target(job, model_id)))
        run = stack.under_way(entry)
        if entry.run_id and (run is None or run.model_id == model):  # None: the run is being started
            return f"The run {entry.run_id} of this stack"
    return "A recompute that no run of this stack follows"


def _follow(
    given: Given, recorded_in: Target, began_at: float, timeout: float | None, allow_not_judged: bool
) -> Answer:
    from arcanna_metrics_cli.follow import Follower, Unfinished

    out = given.out
    follower = Follower(given.deployed, recorded_in, out)
    with out.doing("Following the run"):
        run = follower.ending(began_at, timeout)
    target = follower.target
    if isinstance(run, Unfinished):
        status, result = (Exit.TIMED_OUT, "timed_out") if run.began else (Exit.NOT_STARTED, "not_started")
        said = "The run has not ended in time. It continues." if run.began else "No run has started in time."
        out.show(f"✗ {said} The update is not lost: see {_to_see(given, target)}", "red")
        why = said if run.began else f"{said} {run.state}"
        return Answer(status, _document(given, target, result, None, why))
    told = follower.tell_last_checks(run)
    why = told.verdict if told else run.why or run.detail
    status, result = _status(run, allow_not_judged)
    end = f"{run.outcome}, {run.result}".replace("_", " ") + (f": {why}" if why else "")
    out.show(f"{'✓' if status == Exit.GOOD else '✗'} {end}", "green" if status == Exit.GOOD else "red")
    document = _document(given, target, result, run, why)
    if status == Exit.WRONG:
        named = f" --model {quote(run.model_id)}" if run.model_id else ""
        accept = f"arcanna-metrics accept --job {quote(target.job_id)}{named} {given.options}"
        out.say(f"Do not deploy the model. To keep it as it is: {accept}", "yellow")
    return Answer(status, document)


def _to_see(given: Given, target: Target) -> str:
    """What to type to see how the target stands."""
    return f"arcanna-metrics status --job {quote(target.job_id)} {given.options}"


def _status(run: "PastRun", allow_not_judged: bool) -> tuple[Exit, str]:
    """The exit status for the end of a run, and its word in the JSON document."""
    match run.outcome, run.result:
        case "completed", "regressed":
            return Exit.WRONG, "regressed"
        case "completed", "not_judged":
            return (Exit.GOOD if allow_not_judged else Exit.NOT_JUDGED), "not_judged"
        case "completed", _:
            return Exit.GOOD, "fresh"
        case "timed_out", _:
            return Exit.TIMED_OUT, "timed_out"
    return Exit.FAILED, "failed"


def _document(
    given: Given,
    target: Target,
    result: str,
    run: "PastRun | None",
    why: str,
) -> dict[str, Any]:
    return {
        "job_id": target.job_id,
        "model_id": run.model_id if run else target.model_id,
        "result": result,
        "why": why,
        "run": run_document(run, given.deployed),
    }
