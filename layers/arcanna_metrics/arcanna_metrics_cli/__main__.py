"""`make status`, `trigger`, `accept`, `redrive`, `route` and `doctor`: a deployed stack, by hand.

They exit with 0 if all is well, with 1 if something is wrong, and with 2 if nothing could be found out.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from arcanna_metrics.errors import AwsUnavailable, ConfigurationError
from arcanna_metrics.targets import Target
from arcanna_metrics_cli import checks, entries, executions, letters, routing, view
from arcanna_metrics_cli.deployed import Deployed, NotDeployed
from arcanna_metrics_cli.endpoint import reach_loopback_directly
from arcanna_metrics_cli.follow import SLACK, Follower, asked_as_of
from arcanna_metrics_cli.process import run
from arcanna_metrics_cli.view import say


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status; without arguments, of what the command line says."""
    given = _arguments(arguments)
    try:
        return int(given.command(given))
    except ConfigurationError as error:
        say(f"✗ {error}", "red")
        return 1
    except (NotDeployed, AwsUnavailable, BotoCoreError, ClientError, OSError, UnicodeDecodeError) as error:
        say(f"✗ {error}", "red")
        return 2
    except KeyboardInterrupt:
        goes_on = " looking. What was asked for goes on; make status shows it"
        say(f"Stopped{goes_on if given.command is trigger else ''}.")
        return 130


def status(given: argparse.Namespace) -> int:
    """How the targets stand and, where they were narrowed down, their last runs."""
    stack, now = Deployed(given.stack), time.time()
    lag = float(stack.parameters.get("VisibilityLagSeconds", 0))
    listed = []
    every = stack.entries()
    ids = {entry.target.job_id: entry.name_of for entry in every if entry.name_of}
    job = ids.get(given.job, given.job)
    for entry in entries.by_job(every):
        if job not in (None, entry.target.job_id, entry.name_of):
            continue
        execution = stack.execution(entry.run_id, entry.resumed) if entry.run_id else None
        run = executions.under_way(execution) if execution else None
        row = entries.standing(entry, now, lag, run)
        if given.model in (None, row.model_id, row.active):
            listed.append((row, entry))
    narrowed = given.job or given.model
    if listed:
        view.console.print(view.standings([row for row, _ in listed], now))
    elif narrowed:
        say("The ledger does not know this model: no update of it has been recorded yet.")
    else:
        say("The ledger is empty: no update has been recorded yet.")
    if narrowed:
        for row, entry in listed:
            view.console.print(view.history(row, entries.runs(entry)))
    waiting, dead = stack.messages("UpdatesQueueUrl"), sum(stack.messages("DeadLetterQueueUrl").values())
    counts = ", ".join(f"{number} {kind}" for kind, number in waiting.items())
    say(f"In the queue, updates that the ledger does not know yet, and sweeps: {counts}.")
    say(
        f"Dead letters: {dead}."
        + (
            " They can be of any model, also of one that is shown as fresh: see make redrive." if dead else ""
        ),
        "yellow" if dead else "",
    )
    return 0


def trigger(given: argparse.Namespace) -> int:
    """Asks for a recompute, and follows it to its end: 0 if the metrics are fresh and have not regressed."""
    stack = Deployed(given.stack)
    if not given.job:
        say("✗ Which job? make trigger JOB=... [MODEL=...]", "red")
        return 2
    answer, failed = stack.invoke_trigger(
        {"job_id": given.job, **({"model_id": given.model} if given.model else {})}
    )
    if failed:
        say(f"✗ {answer.get('errorType')}: {answer.get('errorMessage')}", "red")
        return 1
    (recorded,) = answer["recorded"]
    target = stack.home(Target(recorded["job_id"], recorded["model_id"]))
    say(f"{target}: requested.")
    entry = stack.entry(target)
    if not (entry.dirty or entry.run_id or entries.runs(entry)):
        say("✗ The request is not in the ledger any more. See make status.", "red")
        return 2
    follower = Follower(stack, target, asked_as_of(entry), say)
    run = follower.ending()
    if run is None:
        say(f"✗ No run has ended it within {SLACK:g} s. The update waits: see make status.", "red")
        return 1
    detail = follower.judgement(run) or run.detail
    good = run.outcome == "completed" and run.result != "regressed"
    end = f"{run.outcome}, {run.result}" + (f": {detail}" if detail else "")
    say(f"{'✓' if good else '✗'} {end}", "green" if good else "red")
    return 0 if good else 1


def accept(given: argparse.Namespace) -> int:
    """Lets a model be judged by the metrics that it has now, and not by better ones that it had before."""
    stack = Deployed(given.stack)
    if not given.job or not given.model:
        say("✗ Which model? make accept JOB=... MODEL=...", "red")
        return 2
    if trouble := stack.accept(given.job, given.model):
        say(f"✗ {trouble}", "red")
        return 1
    say("The next metrics of the model are compared with those that it has now.", "green")
    return 0


def redrive(given: argparse.Namespace) -> int:
    """Shows the dead letters and, if told so, sends them into the updates queue again."""
    stack = Deployed(given.stack)
    found = stack.dead_letters()
    left = [] if given.reason is None else [letter for letter in found if letter.reason != given.reason]
    chosen = [letter for letter in found if letter not in left]
    moved = 0
    try:
        if not chosen:
            say("There are no dead letters" + (f" with the reason {given.reason}." if left else "."))
            return 0
        view.console.print(view.dead_letters(letters.groups(chosen), time.time()))
        if not given.yes and not _asked(f"Send {_messages(len(chosen))} into the updates queue again?"):
            say("Nothing was sent.")
            return 0
        for _ in stack.redrive(chosen):
            moved += 1
        sweeps = sum(letter.is_sweep for letter in chosen)
        if sweeps:
            say(f"{_messages(sweeps)} deleted: sweeps, of which there is a new one every minute.")
        say(f"{_messages(moved - sweeps)} sent again: make status shows what becomes of them.")
        return 0
    finally:
        stack.put_back([*left, *chosen[moved:]])


def route(given: argparse.Namespace) -> int:
    """What an object's key leads to."""
    if given.key is None:
        say("✗ Which key? make route KEY=training-data/1234/alerts.csv [ROUTES_FILE=routes.json]", "red")
        return 2
    prefix = ""
    if given.routes_file:
        text = Path(given.routes_file).read_text(encoding="utf-8")
    else:
        stack = Deployed(given.stack)
        text, prefix = stack.settings(), stack.parameters.get("ObjectKeyPrefix", "")
    lead = routing.lead(text, given.key)
    if not given.key.startswith(prefix):
        say(f"✗ The key causes no event: it does not start with ObjectKeyPrefix, which is {prefix!r}.", "red")
        return 1
    if lead is None:
        say("✗ No route knows this key. The patterns are, in their order:", "red")
        for name, pattern in routing.patterns(text):
            say(f"  {pattern}  (route {name})")
        return 1
    if lead.problem:
        say(
            f"✗ Route {lead.route} knows this key, but an update by it is a dead letter: {lead.problem}",
            "red",
        )
        return 1
    say(f"✓ Route {lead.route} knows this key:", "green")
    for target in lead.targets:
        say(f"  {target}")
    if lead.threshold:
        say(f"  when this threshold is reached: {lead.threshold}")
    return 0


def doctor(given: argparse.Namespace) -> int:
    """What keeps the stack from its work: one line each."""
    stack = Deployed(given.stack)
    known = checks.Known(
        base_url=stack.parameters.get("ArcannaBaseUrl", "ArcannaBaseUrl"),
        secret_arn=stack.output("ApiKeySecretArn"),
        secret_field=stack.parameters.get("ApiKeySecretField", ""),
        settings_parameter=stack.output("SettingsParameter"),
        bucket=stack.output("TrainingDataBucket"),
    )
    into = checks.WayIn(
        stack.region,
        stack.output("UpdatesQueueArn"),
        [arn.strip() for arn in stack.parameters.get("SenderArns", "").split(",")],
        stack.output("TriggerRecomputeFunction"),
    )
    address = stack.parameters.get("NotificationEmail", "")
    looks: dict[str, Callable[[], list[checks.Check]]] = {
        "stack": lambda: [checks.stack(stack.name, stack.status)],
        "functions": lambda: checks.preflight(*stack.invoke_trigger({"preflight": True}), known),
        "bucket": lambda: [
            checks.bucket(known.bucket, stack.bucket_region(), stack.bucket_notifications(), into)
        ],
        "queue": lambda: [checks.queue(stack.event_source_states())],
        "sweep": lambda: [checks.sweep(stack.schedule_state("SweepSchedule"))],
        "index": lambda: [checks.index(stack.index_status())],
        "schedule": lambda: (
            [checks.schedule(stack.schedule_state("RecomputeSchedule"))]
            if stack.parameters.get("ScheduleExpression")
            else []
        ),
        "notices": lambda: [checks.email(address, stack.subscriptions())],
        "dead letters": lambda: [checks.dead_letters(stack.messages("DeadLetterQueueUrl"))],
    }
    well = True
    for what, look in looks.items():
        try:
            found = look()
        except (BotoCoreError, ClientError) as error:
            found = [checks.unseen(what, error)]
        view.checks(found)
        well = well and not any(check.remedy for check in found)
    return 0 if well else 1


# --- The command line ------------------------------------------------------------------------------------


def _asked(question: str) -> bool:
    """No answer, and nobody there to give one, is a no."""
    try:
        return view.console.input(f"{question} \\[y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _messages(number: int) -> str:
    return f"{number} {'message' if number == 1 else 'messages'}"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Empty values count as not given: make hands all its variables over."""
    parser = argparse.ArgumentParser(prog="python -m arcanna_metrics_cli", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command in (status, trigger, accept, redrive, route, doctor):
        sub = commands.add_parser(command.__name__, description=command.__doc__)
        sub.set_defaults(command=command)
        sub.add_argument("--stack", default="arcanna-metrics")
        if command in (status, trigger, accept):
            sub.add_argument("--job", type=_optional)
            sub.add_argument("--model", type=_optional)
        if command is redrive:
            sub.add_argument("--reason", type=_optional, help="only the dead letters with this reason")
            sub.add_argument("--yes", action="store_true", help="do not ask")
        if command is route:
            sub.add_argument("--key", type=_optional)
            sub.add_argument("--routes-file", type=_optional)
    return parser.parse_args(arguments)


def _optional(text: str) -> str | None:
    return text or None


if __name__ == "__main__":
    reach_loopback_directly()
    run(main)
