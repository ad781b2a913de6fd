"""`make status`, `trigger`, `accept`, `redrive`, `route` and `doctor`: a deployed stack, by hand.

They exit with 0 where all is well, with 1 where something is not as it should be, and with 2 where nothing
could be found out.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.times import to_iso
from tests.operate import checks, letters, models, routing, view
from tests.operate.deployed import Deployed, NotDeployed
from tests.operate.view import say

LOOK = 2.0
"""Seconds between two looks at a run that is followed."""
SLACK = 600.0
"""Seconds that a further run is waited for, beyond those that its update has to wait as the stack is set."""
WAITS = (*models.MARGIN, "BatchingWindowSeconds", "MinimumIntervalSeconds")
SETTLINGS = 5
"""How often one request is made while it has to settle: once is enough, unless others hold the model."""
MISSES = 30
"""Looks until an execution is taken for one that Step Functions does not know."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status; without arguments, of what the command line says."""
    given = _arguments(arguments)
    try:
        return int(given.command(given))
    except ConfigurationError as error:
        say(f"✗ {error}", "red")
        return 1
    except (NotDeployed, BotoCoreError, ClientError, OSError, UnicodeDecodeError) as error:
        say(f"✗ {error}", "red")
        return 2
    except KeyboardInterrupt:
        say("Stopped looking. What was asked for goes on; make status shows it.")
        return 130


def status(given: argparse.Namespace) -> int:
    """How the models stand and, where they were narrowed down, their last runs."""
    stack, now = Deployed(given.stack), time.time()
    items = sorted(stack.ledger(given.job, given.model), key=lambda item: (item["job_id"], item["model_id"]))
    if not items:
        say("The ledger knows no such model: no update of it has been handled yet.")
    rows, margin = [], _seconds(stack, models.MARGIN)
    for item in items:
        run_id = models.running(item, now)
        execution = stack.execution(run_id) if run_id else None
        first_at = models.first_update_at(execution) if execution else None
        rows.append(models.standing(item, now, margin, first_at))
    if rows:
        view.console.print(view.standings(rows, now))
    if given.job or given.model:
        for row, item in zip(rows, items, strict=True):
            view.console.print(view.history(row, models.runs(item)))
    waiting, dead = stack.messages("UpdatesQueueUrl"), sum(stack.messages("DeadLetterQueueUrl").values())
    counts = ", ".join(f"{number} {kind}" for kind, number in waiting.items())
    unsettled = dead or any(waiting.values())
    say(
        f"Updates in the queue: {counts}. Dead letters: {dead}{' (see make redrive)' if dead else ''}."
        + (" They may be of any model, also of one that seems fresh." if unsettled else ""),
        "yellow" if unsettled else "",
    )
    return 0


def trigger(given: argparse.Namespace) -> int:
    """Asks for a recompute, and follows it to its end: 0 if the metrics are fresh and have not regressed."""
    stack = Deployed(given.stack)
    if not given.job:
        say("✗ Which job? make trigger JOB=... [MODEL=...]", "red")
        return 2
    request = {"job_id": given.job, **({"model_id": given.model} if given.model else {})}
    asked_at, margin = to_iso(time.time()), _seconds(stack, models.MARGIN)
    for _ in range(SETTLINGS):
        answer, failed = stack.invoke_trigger(request)
        if failed:
            say(f"✗ {answer.get('errorType')}: {answer.get('errorMessage')}", "red")
            return 1
        (result,) = answer["results"]
        target, outcome, detail = (result["job_id"], result["model_id"]), result["outcome"], result["detail"]
        say(f"job {target[0]}, {target[1] or 'active model'}: {outcome}{f', {detail}' if detail else ''}")
        if outcome != "settling":
            break
        # Runs of older updates may begin meanwhile, which do not cover this one: so the same is asked again.
        request["happened_at"] = asked_at
        say(f"It is asked for again in {margin:g} s.")
        time.sleep(margin + 1)
    match outcome:
        case "started":
            return _follow(stack, detail)
        case "coalesced":
            under_way = detail.rpartition(" ")[2]
            _follow(stack, under_way)
            return _follow_next(stack, *target, after=under_way)
        case "covered":
            return _covered(stack, *target)
        case "put_off" | "gathered" | "waiting" | "settling":
            say("It is asked for again in time, from the queue: make status shows what becomes of it.")
        case _:
            say("It is a dead letter: make redrive asks again when the reason is gone.")
    return 1


def accept(given: argparse.Namespace) -> int:
    """Lets a model be judged by the metrics that it has now, and not by the better ones that it had."""
    stack = Deployed(given.stack)
    if not given.job or not given.model:
        say("✗ Which model? make accept JOB=... MODEL=...", "red")
        return 2
    if trouble := stack.forget_reference(given.job, given.model, time.time()):
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
        say(f"{_messages(moved)} sent again: make status shows what becomes of them.")
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
        text, prefix = stack.routes(), stack.parameters.get("ObjectKeyPrefix", "")
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
    if lead.significant:
        say(f"  as soon as this is significant: {lead.significant}")
    return 0


def doctor(given: argparse.Namespace) -> int:
    """What keeps the stack from its work: one line each."""
    stack = Deployed(given.stack)
    known = checks.Known(
        base_url=stack.parameters.get("ArcannaBaseUrl", "ArcannaBaseUrl"),
        secret_arn=stack.output("ApiKeySecretArn"),
        secret_field=stack.parameters.get("ApiKeySecretField", ""),
        routes_parameter=stack.output("RoutesParameter"),
        bucket=stack.output("TrainingDataBucket"),
    )
    into = checks.WayIn(
        stack.output("UpdatesQueueArn"),
        [arn.strip() for arn in stack.parameters.get("SenderArns", "").split(",")],
        stack.output("TriggerRecomputeFunction"),
    )
    wanted = stack.parameters.get("ScheduleState", "ENABLED")
    address = stack.parameters.get("NotificationEmail", "")
    looks: dict[str, Callable[[], list[checks.Check]]] = {
        "stack": lambda: [checks.stack(stack.name, stack.status)],
        "functions": lambda: checks.preflight(*stack.invoke_trigger({"preflight": True}), known),
        "bucket": lambda: [checks.bucket(known.bucket, stack.bucket_notifications(), into)],
        "queue": lambda: [checks.queue(stack.event_source_states())],
        "schedule": lambda: [checks.schedule(stack.schedule_state(), wanted)],
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


# --- Following runs --------------------------------------------------------------------------------------


def _follow(stack: Deployed, run_id: str) -> int:
    """Tells of a run until it has ended; 0 if it completed."""
    seen = misses = 0
    while misses < MISSES:
        execution = stack.execution(run_id)  # before its events, so that none is missed at the end
        misses = 0 if execution else misses + 1
        for event in stack.events_after(run_id, seen) if execution else []:
            seen = event["id"]
            if line := models.told(event):
                say(f"  {line}")
        if execution and execution["status"] != "RUNNING":
            good = models.verdict(execution) not in (None, "regressed")
            say(f"{'✓' if good else '✗'} {models.result(execution)}", "green" if good else "red")
            return 0 if good else 1
        time.sleep(LOOK)
    say(f"✗ Step Functions knows no execution of the run {run_id}.", "red")
    return 1


def _covered(stack: Deployed, job_id: str, model_id: str) -> int:
    """Follows the run that covers what was asked for, or tells how that has ended."""
    (item,) = stack.ledger(job_id, model_id)
    if (run_id := models.running(item, time.time())) and "requested_at" in item:  # a claim is no run yet
        return _follow(stack, run_id)
    last = models.runs(item)[-1]
    good = last.outcome == "completed" and last.result != "regressed"
    say(f"{'✓' if good else '✗'} The last run: {last.outcome}, {last.result}", "green" if good else "red")
    return 0 if good else 1


def _follow_next(stack: Deployed, job_id: str, model_id: str, *, after: str) -> int:
    """Waits for the model's next run and follows it."""
    say("Waiting for the next run of the model.")
    patience = _seconds(stack, WAITS) + SLACK
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for item in stack.ledger(job_id, model_id):
            if (run_id := models.next_run(item, after)) and stack.execution(run_id):
                return _follow(stack, run_id)
        time.sleep(LOOK)
    say(f"✗ There was none within {patience:g} s. See make status and make redrive.", "red")
    return 1


def _seconds(stack: Deployed, parameters: Sequence[str]) -> float:
    """The sum of these parameters of the stack."""
    return sum(float(stack.parameters.get(name, 0)) for name in parameters)


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
    parser = argparse.ArgumentParser(prog="python -m tests.operate", description=__doc__)
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
    sys.exit(main())
