"""One history: a small world of updates, invocations, runs and other people, played until it is quiet."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import StringIO
from math import ceil
from random import Random
from typing import Any, NamedTuple, TypeVar, cast
from unittest.mock import patch

import httpx
from botocore.exceptions import ClientError

from arcanna_metrics.controller.holding import hold, release, target_of
from arcanna_metrics.controller.services import Services
from arcanna_metrics.errors import RecomputeError
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.observability import logger, metrics
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import NO_JOB, Ledger, to_entry, to_target
from arcanna_metrics.runs.check import check, not_checked
from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import JobSettings, Pace, Settings
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics.trigger import Trigger
from arcanna_metrics.workflow import Workflow
from tests.simulation.aws import (
    DEAD_LETTERS_URL,
    EXECUTIONS,
    STATE_MACHINE,
    UPDATES_URL,
    DynamoDbClient,
    ExecutionAlreadyExists,
    ExecutionDoesNotExist,
    Item,
    Message,
    SqsClient,
    StatesClient,
    Table,
)
from tests.simulation.faults import Faults
from tests.simulation.journal import START, Event, Journal
from tests.simulation.platform import HttpClient, Platform
from tests.simulation.scheduler import Killed, NeverQuiet, Process, Scheduler
from tests.simulation.stimuli import (
    KINDS,
    NAMES,
    ROUTES,
    STALE_AFTER,
    SUCCESSOR,
    Stimulus,
    body_of,
    key,
    stimuli_of,
    updates_of,
    whom,
    whom_of,
)
from tests.simulation.workflow import Ending, Interpreter, StateError
from tests.support import deployment
from tests.support.runs import GATE

T = TypeVar("T")

SETTLING = 30.0  # until then, the data of an update arrive at the platform
LAG = SETTLING + 5.0
SKEW = 1.9  # two clocks differ by less than the rest of the lag less the second that EventBridge cuts off
FAULTS_UNTIL = START + 3000.0
INVOCATION = 120.0  # these three as in template.yaml
CHECK = 60.0
VISIBILITY = 720.0
RUN_DEADLINE = 1800.0
START_GRACE = 120.0
SWEEP = 60.0
FUNCTIONS = "arn:aws:lambda:eu-west-1:123456789012:function"
AWS_PATIENCE = 12.0  # seconds until a call times out
PLATFORM_PATIENCE = 15.0


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The simulated code. Tests replace parts of it by broken ones.

    `patches` replaces objects of the real code by their dotted names. `write` may change every request to the
    ledger, and receives the current item. `definition` may change the workflow. `rates` replaces the seed's
    choice of faults, by kind. `kinds` has the weights of stimuli. `by_name` (the share of senders that name
    the job), `slots` and `spacing` have values from which the seed chooses one each.
    """

    patches: Mapping[str, Any] = field(default_factory=dict)
    lag: float = LAG
    write: Callable[[dict[str, Any], Item], dict[str, Any]] = lambda request, before: request
    definition: Callable[[dict[str, Any]], dict[str, Any]] = lambda definition: definition
    rates: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=lambda: KINDS)
    by_name: Sequence[float] = (0.0, 0.0, 0.3)
    slots: Sequence[int] = (0, 1, 2)
    spacing: Sequence[float] = (0.0, 0.0, 400.0)


class Execution(NamedTuple):
    """An execution of the workflow."""

    process: Process
    given: str
    started_at: float


@dataclass(frozen=True)
class History:
    """The history of one seed. `pace` is the one at the start."""

    seed: int
    stimuli: list[Stimulus]
    faults: list[str]
    journal: Journal
    steps: int
    pace: Pace


def play(
    seed: int,
    protocol: Protocol,
    stimuli: list[Stimulus] | None = None,
    faults: Set[str] | None = None,
) -> History:
    """Plays the history of a seed, with only these of its stimuli and faults if they are given.

    Raises any error that the simulated code does not handle.
    """
    chosen = stimuli_of(seed, protocol.kinds, protocol.by_name) if stimuli is None else stimuli
    with ExitStack() as stack:
        for name, broken in protocol.patches.items():
            stack.enter_context(patch(name, broken))
        world = World(seed, protocol, chosen, faults)
        pace = world.settings.shared.pace
        stack.enter_context(unobserved(world.tell_of_error))
        try:
            world.run()
        finally:
            world.scheduler.close()
    return History(seed, chosen, world.faults.injected, world.journal, world.scheduler.steps, pace)


@contextmanager
def unobserved(tell_of_error: Callable[[BaseException], None] = lambda error: None) -> Iterator[None]:
    """Suppresses logs and metrics, but collects errors that the code logs instead of raising."""

    def told(*_: Any, **__: Any) -> None:
        if error := sys.exc_info()[1]:
            tell_of_error(error)

    level = logger.log_level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            redirect_stdout(StringIO()),  # Powertools writes metrics to it
            patch.object(logger, "exception", told),
            patch.object(logger, "error", told),
            patch.object(metrics, "add_metric", lambda **_: None),
        ):
            yield
    finally:
        logger.setLevel(level)
        metrics.clear_metrics()


class World:
    """The state of one history."""

    def __init__(self, seed: int, protocol: Protocol, stimuli: list[Stimulus], keep: Set[str] | None) -> None:
        self._seed = seed
        self._random = random = Random(f"{seed}/world")
        self.scheduler = Scheduler(START)
        self.faults = Faults(seed, FAULTS_UNTIL, protocol.rates, keep)
        self.journal = Journal(lambda: self.scheduler.now, self._echo)
        self._echoes = [stimulus for stimulus in stimuli if stimulus.after]
        self._platform = Platform(seed, self.scheduler, self.faults, self.journal)
        self._table = Table(lambda: self.scheduler.now, self._index_lag, self._watch, protocol.write)
        self._queue: list[Message] = []
        self._messages = self._invocations = self._running = self._runs = self._writes = 0
        self._executions: dict[str, Execution] = {}
        self._ended: dict[str, tuple[float, str]] = {}  # executions, when and how
        self._abort_when_told: set[str] = set()  # executions
        self._sweep_at: float | None = None
        self._concurrency = random.choice([1, 2, 3])
        self._queue_delay = random.choice([0.0, SETTLING])
        self._window = random.choice([0.0, 1.0, 15.0])
        self._batch = random.choice([5, 10_000])
        pace = Pace(
            visibility_lag=protocol.lag,
            spacing=random.choice(protocol.spacing),
            slots=random.choice(protocol.slots),
            start_grace=START_GRACE,
            deadline=RUN_DEADLINE,
            shortest_poll=30.0,
            longest_poll=300.0,
            stale_after=STALE_AFTER,
            first_backoff=5.0,
            longest_backoff=300.0,
        )
        self.settings = Settings(ROUTES, JobSettings(pace, GATE), {})
        self._arcanna = Arcanna(
            cast("Any", HttpClient(self._platform, self.scheduler, self)), lambda read_again: "key"
        )
        self._trigger = self._new_trigger()
        self._interpreter = Interpreter(
            protocol.definition(deployment.workflow(tries=random.choice([3, 13]))),
            {
                "arn:aws:states:::events:putEvents": self._put_events,
                "arn:aws:states:::sns:publish": self._publish,
                f"{FUNCTIONS}:TriggerRecomputeFunction": self._call_trigger,
                f"{FUNCTIONS}:CheckStatusFunction": self._call_check,
            },
            wait=self.scheduler.pause,
        )
        for stimulus in stimuli:
            if not stimulus.after:
                self._await(stimulus)

        settings = Random(f"{seed}/settings")
        if settings.random() < 0.2:
            # The lag is too long until then. As the spacing, it is corrected while something may wait.
            longer = replace(pace, visibility_lag=settings.choice([4, 20, 100]) * protocol.lag)
            self.settings = Settings(ROUTES, JobSettings(longer, GATE), {})
            slots = [limit for limit in protocol.slots if limit] if pace.slots else [0]
            later = replace(
                pace, spacing=settings.choice(protocol.spacing), slots=settings.choice(slots or [0])
            )
            delays = [0.0, *(stimulus.delay for stimulus in stimuli)]
            at = START + settings.choice(delays) + settings.uniform(0, SWEEP)
            own = {settings.choice(list(NAMES)): replace(later, spacing=settings.choice(protocol.spacing))}
            self.scheduler.at(at, lambda: self._set(later, own))

    def _set(self, pace: Pace, own: Mapping[str, Pace]) -> None:
        """Changes the settings, except whether there is a limit: runs without a limit hold no slot.

        `own` has the pace of each job with overrides.
        """
        spacing = min(each.spacing for each in (pace, *own.values()))
        self.journal.note("settings", "*", spacing=spacing, slots=pace.slots)
        jobs = {job_id: JobSettings(each, GATE) for job_id, each in own.items()}
        self.settings = Settings(ROUTES, JobSettings(pace, GATE), jobs)

    def _new_trigger(self) -> Trigger:
        dynamodb = cast("Any", DynamoDbClient(self._table, self))
        states = StatesClient(self._start_execution, self._describe_execution, self)
        ledger = Ledger(dynamodb, "ledger", self._clock)
        self._services = Services(
            ledger,
            Workflow(cast("Any", states), STATE_MACHINE),
            self._arcanna,
            lambda: self.settings,
            "bus",
            self._clock,
            draw=self._draw,
            new_id=self._new_run_id,
        )
        return Trigger(
            self._services,
            lambda: Queues(cast("Any", SqsClient(self._send, self)), UPDATES_URL, DEAD_LETTERS_URL),
            self.scheduler.pause,
        )

    def run(self) -> None:
        """Plays until the world is quiet, or until it clearly never becomes so."""
        try:
            self.scheduler.run()
        except NeverQuiet as error:
            self.journal.note("broken", "*", rule=f"Quiet: {error}")
        for item in self._table.items():
            if "due" in item:
                self.journal.note("broken", item["job_id"]["S"], rule="Quiet: nobody looks at what is due")

    # --- Calls ---------------------------------------------------------------------------------------------

    def __call__(
        self, what: str, effect: Callable[[], T], failure: Callable[[bool], Exception], *, aws: bool = True
    ) -> T:
        """A call to the outside by the current process. It takes time and may fail."""
        process, pause = self.scheduler.process, self.scheduler.pause
        process.calls += 1
        patience = AWS_PATIENCE if aws else PLATFORM_PATIENCE
        draw, before, after, delay = (
            process.random.random(),
            process.random.expovariate(10),
            process.random.expovariate(10),
            process.random.uniform(-1, 1),
        )
        name = f"{process.name}: call {process.calls} ({what})"
        fault = self.faults.of_call(name, self.scheduler.now, draw, aws=aws)

        def sooner_or_later() -> None:
            with self.scheduler.acting_for(process), suppress(ClientError, httpx.HTTPError):
                effect()

        match fault:
            case "fails before its effect" | "crashes before its effect":
                pause(before)
                raise Killed if fault.startswith("crashes") else failure(False)
            case "fails, takes effect later":
                self.scheduler.at(self.scheduler.now + patience + 250 * abs(delay), sooner_or_later)
                pause(patience)
                raise failure(True)
            case "is slow" if delay < 0:
                before = patience * -delay
            case "is slow":
                after = patience * delay
            case "is repeated":
                pause(before)
                with suppress(ClientError):
                    effect()
        if self.scheduler.now + before >= process.deadline:
            # The invocation dies before the answer, but the request is on its way.
            self.scheduler.at(self.scheduler.now + before, sooner_or_later)
        pause(before)
        result = effect()
        pause(after)
        match fault:
            case "crashes after its effect":
                raise Killed
            case "fails after its effect":
                raise failure(True)
        return result

    def left_out(self, what: str, number: int) -> set[int]:
        """The items of a batch that a call leaves out."""
        process, now = self.scheduler.process, self.scheduler.now
        name = f"{process.name}: call {process.calls} ({what})"
        draw, share = process.random.random(), process.random.random()
        if not self.faults.strikes("is seen to in part", name, now, draw):
            return set()
        return {n for n in range(number) if process.random.random() < share}

    def tell_of_error(self, error: BaseException) -> None:
        """Notes an error that the code does not handle."""
        if not isinstance(error, RecomputeError):
            self.journal.note("broken", "*", rule=f"Unexpected error: {error!r}")

    def _clock(self) -> float:
        process = self.scheduler.running  # none while the trigger is built
        return self.scheduler.now + (process.skew if process else 0.0)

    def _draw(self) -> float:
        return self.scheduler.process.random.random()

    def _process(self, name: str, lives: float = float("inf"), execution: str = "") -> Process:
        random = Random(f"{self._seed}/{name}")
        deadline = self.scheduler.now + lives
        return Process(name, random, random.uniform(-SKEW, SKEW), deadline, execution)

    def _remaining(self) -> float:
        return self.scheduler.process.deadline - self.scheduler.now

    def _new_run_id(self) -> str:
        self._runs += 1
        return f"run-{self._runs}"

    def _index_lag(self) -> float:
        self._writes += 1
        draw, delay = self._random.random(), self._random.random()
        late = self.faults.strikes("shows late", f"write {self._writes}", self.scheduler.now, draw)
        return 20.0 * delay if late else delay**2

    # --- Stimuli --------------------------------------------------------------------------------------------

    def _await(self, stimulus: Stimulus) -> None:
        self.scheduler.at(self.scheduler.now + stimulus.delay, lambda: self._come(stimulus))

    def _echo(self, event: Event) -> None:
        for stimulus in list(self._echoes):
            if stimulus.after == event.what and event.whom.endswith((stimulus.model, "/active")):
                self._echoes.remove(stimulus)
                self._await(stimulus)

    def _come(self, stimulus: Stimulus) -> None:
        if stimulus.kind == "other":
            self._platform.request(stimulus.model, "others")
            return
        if stimulus.kind == "training":
            self._platform.train(SUCCESSOR[stimulus.model])
            return
        now = self.scheduler.now
        # A time ahead of its message's is cut to that, so that a sample that comes twice would seem two.
        ahead = 0.0 if stimulus.kind in ("sample", "recent") else SKEW
        body = body_of(stimulus, now + self._random.uniform(-SKEW, ahead))
        if stimulus.kind == "garbage":
            self.journal.note("garbage", "*", body=body)
        else:
            self._note_updates(stimulus, body)
        if stimulus.kind == "direct":
            self._invoke_directly(stimulus, json.loads(body))
        elif stimulus.kind in ("message", "wish"):
            self._send(UPDATES_URL, body, None, {})
        else:
            self._deliver(body)

    def _note_updates(self, stimulus: Stimulus, body: str) -> None:
        takes = self._random.choice([0.0, SETTLING, self._random.uniform(0, SETTLING)])
        for update in updates_of(body, self.scheduler.now):
            # Data that somebody asks for by hand is visible already. A schedule's time is cut to the second.
            seen = 2 * SKEW + (1.0 if stimulus.kind == "schedule" else 0.0)
            arrives = self.scheduler.now + (-seen if update.by_hand else takes)
            self.journal.note("update", whom(update.target), by=stimulus, arrives=arrives, update=update)

    def _deliver(self, body: str) -> None:
        """Delivers a message as services do: at least once, after some time."""
        delay = self._random.expovariate(2)
        now, number = self.scheduler.now, self._messages + 1
        if self.faults.strikes("is delayed", f"event {number}", now, self._random.random()):
            delay += self._random.uniform(0, 2000)
        twice = self.faults.strikes("is delivered twice", f"event {number}", now, self._random.random())
        for extra in [0.0, self._random.uniform(0, 1000)][: 1 + twice]:
            self.scheduler.at(now + delay + extra, lambda: self._send(UPDATES_URL, body, None, {}))

    def _invoke_directly(self, stimulus: Stimulus, event: object) -> None:
        process = self._process(f"caller {stimulus.number}", INVOCATION)

        def body() -> None:
            try:
                self._trigger.handle_event(event, self._remaining)
            except (RecomputeError, Killed) as error:
                self.journal.note("caller told", "*", of=stimulus, error=repr(error))

        self.scheduler.spawn(process, body)

    # --- The sweep ------------------------------------------------------------------------------------------

    def _arm_sweep(self, at: float) -> None:
        """Schedules a sweep at the first tick at or after `at`. Earlier sweeps would find nothing to do."""
        ticks = ceil((max(at, self.scheduler.now + 0.001) - START) / SWEEP)
        tick = START + ticks * SWEEP
        if self._sweep_at is None or tick < self._sweep_at:
            self._sweep_at = tick
            self.scheduler.at(tick, lambda: self._sweep(tick))

    def _sweep(self, tick: float) -> None:
        if tick != self._sweep_at:
            return
        self._sweep_at = None
        due = [from_iso(item["due_at"]["S"]) for item in self._table.items() if "due" in item]
        if not due:
            return
        now = self.scheduler.now
        idle = self._random.random() < 0.02
        if not self.faults.strikes("is lost", f"sweep {tick - START:.0f}", now, self._random.random()):
            self._send(UPDATES_URL, '{"sweep": true}', None, {})
        self._arm_sweep(now if idle else min(due) - SKEW)

    # --- The queue and its event source mapping -------------------------------------------------------------

    def _send(self, url: str, body: str, delay: float | None, attributes: dict[str, Any]) -> None:
        now = self.scheduler.now
        if url == DEAD_LETTERS_URL:
            reason = attributes["reason"]["StringValue"]
            for whose in whom_of(body, now):
                self.journal.note("dead letter", whose, reason=reason, body=body)
            return
        self._messages += 1
        visible_at = now + (self._queue_delay if delay is None else delay)
        self._queue.append(Message(self._messages, body, now, visible_at))
        self._poll_at(visible_at + self._random.uniform(0, self._window))

    def _poll_at(self, time: float) -> None:
        self.scheduler.at(time, self._poll)

    def _poll(self) -> None:
        now = self.scheduler.now
        visible = [message for message in self._queue if message.visible_at <= now]
        if not visible or self._running >= self._concurrency:
            return  # the end of an invocation polls again
        self._random.shuffle(visible)
        batch = visible[: self._batch]
        for message in batch:
            message.receives += 1
            message.visible_at = now + VISIBILITY
            what, again = f"message {message.number}", self._random.uniform(0, 2 * INVOCATION)
            if self.faults.strikes("is delivered twice", what, now, self._random.random()):
                message.visible_at = now + again
            self._poll_at(message.visible_at)
        self._invocations += 1
        self._running += 1
        process = self._process(f"trigger {self._invocations}", INVOCATION)
        process.only_looks = all("sweep" in message.body for message in batch)
        self.scheduler.spawn(process, lambda: self._invoke(batch))
        self._poll_at(now)

    def _invoke(self, batch: list[Message]) -> None:
        process, numbers = self.scheduler.process, ", ".join(str(message.number) for message in batch)
        self.journal.note("invocation", "*", of=process.name, messages=numbers, only_looks=process.only_looks)
        try:
            failed = self._trigger.handle_batch([message.record() for message in batch], self._remaining)
            for message in batch:
                if f"message-{message.number}" not in failed and message in self._queue:
                    self._queue.remove(message)  # finally, even if it is being delivered again
        finally:
            self._running -= 1
            self._poll_at(self.scheduler.now)

    # --- Executions -----------------------------------------------------------------------------------------

    def _start_execution(self, name: str, given: str) -> None:
        if name in self._executions:
            if name not in self._ended and self._executions[name].given == given:
                return
            raise ExecutionAlreadyExists
        process = self._process(f"execution {name}", execution=name)
        self._executions[name] = Execution(process, given, self.scheduler.now)
        self.scheduler.spawn(process, lambda: self._execute(name, given))
        aborted = self.faults.strikes("is aborted", process.name, self.scheduler.now, process.random.random())
        if aborted and process.random.random() < 0.4:
            self._abort_when_told.add(name)
        elif aborted:
            self._abort(process, process.random.uniform(0, process.random.choice([5.0, 300.0])))

    def _abort(self, process: Process, after: float) -> None:
        self.scheduler.at(self.scheduler.now + after, lambda: self.scheduler.kill(process))

    def _describe_execution(self, name: str) -> tuple[str, str]:
        """The execution as it was a moment ago, because this call is eventually consistent."""
        moment = self.scheduler.now - self.scheduler.process.random.uniform(0, 3)
        found = self._executions.get(name)
        if found is None or found.started_at > moment:
            raise ExecutionDoesNotExist
        ended_at, status = self._ended.get(name, (float("inf"), ""))
        return (status if ended_at <= moment else "RUNNING"), found.given

    def _execute(self, name: str, given: str) -> None:
        data = json.loads(given)
        process, target = self.scheduler.process, Target(*data["run"]["target"].values())
        try:
            ending = self._interpreter.run(f"{EXECUTIONS}:{name}", data, process.random)
        except Killed:
            ending = Ending(process.random.choice(["ABORTED", "TIMED_OUT"]))
        self._ended[name] = self.scheduler.now, ending.status
        status = f"{ending.status} {ending.error}"
        run = data["run"]["run_id"]
        note = self.journal.note
        note("execution ended", whom(target), entry=key(target), run=run, execution=name, status=status)
        self._report(name, given, ending)

    def _report(self, name: str, given: str, ending: Ending) -> None:
        if ending.status == "SUCCEEDED":
            return  # the rule of the stack asks for the others
        event = {
            "source": "aws.states",
            "detail-type": "Step Functions Execution Status Change",
            "time": to_iso(self.scheduler.now),
            "detail": {"executionArn": f"{EXECUTIONS}:{name}", "status": ending.status, "input": given},
        }
        what, now = f"execution {name}:", self.scheduler.now
        if self.faults.strikes("its end is not reported", what, now, self._random.random(), weight=0.5):
            return
        late = self.faults.strikes("its end is reported late", what, now, self._random.random())
        delay = self._random.uniform(60, 2000) if late else 0.0
        self.scheduler.at(now + delay, lambda: self._deliver(json.dumps(event)))

    def _call_function(self, what: str, lives: float, function: Callable[[], object]) -> Any:
        """An invocation by the current execution. It continues when the execution ends."""
        execution = self.scheduler.process
        execution.calls += 1
        process = self._process(f"{execution.name}: {what} {execution.calls}", lives, execution.execution)
        answers: list[object] = []
        errors: list[RecomputeError] = []

        def body() -> None:
            draw = process.random.random()
            if self.faults.strikes("starts late", process.name, self.scheduler.now, draw):
                self.scheduler.pause(process.random.uniform(0, lives / 2))
            try:
                answers.append(function())
            except RecomputeError as error:
                errors.append(error)

        self.scheduler.call(process, body)
        if answers:
            return json.loads(json.dumps(answers[0]))
        if errors:
            name = type(errors[0]).__name__
            raise StateError(name, json.dumps({"errorMessage": str(errors[0]), "errorType": name}))
        raise StateError("Lambda.Unknown", "the function died")

    def _call_trigger(self, parameters: dict[str, Any]) -> Any:
        """Handles an event as functions/trigger_recompute/app.py does."""
        match json.loads(json.dumps(parameters)):
            case {"hold": {"run": run, "number": int(number)}}:
                answer = self._call_function("hold", INVOCATION, lambda: {"held": self._hold(run, number)})
                if answer["held"]:
                    execution, target = self.scheduler.process.execution, Target(*run["target"].values())
                    details = {"entry": key(target), "run": run["run_id"], "execution": execution}
                    self.journal.note("follows", whom(target), **details)
                return answer
            case {"release": {"run": run, "number": int(number), "result": result}}:
                release = partial(self._release, run, number, result)
                return self._call_function("release", INVOCATION, release)
            case {"not_checked": given}:
                return self._call_function("not checked", INVOCATION, partial(self._not_checked, given))
        raise NotImplementedError(parameters)

    def _hold(self, run: Run, number: int) -> bool:
        return hold(self._services, run, number)

    def _release(self, run: Run, number: int, result: Result) -> dict[str, bool]:
        how = "active changed" if result["active_changed"] else result["outcome"]
        self.scheduler.process.releases = run["run_id"], how
        released = release(self._services, run, number, result)
        self._trigger.look(self._remaining, [target_of(run)])
        return {"released": released}

    def _not_checked(self, given: dict[str, Any]) -> object:
        return not_checked(given["run"], given["check"], Origin(given["execution"], "bus", self._clock()))

    def _call_check(self, parameters: dict[str, Any]) -> Any:
        given = json.loads(json.dumps(parameters))

        def function() -> object:
            began = self.scheduler.now
            run, origin = given["run"], Origin(given["execution"], "bus", self._clock())
            found = check(self._arcanna, run, given["check"], origin)
            failure = found["outcome"]["result"]["failure"] if found["outcome"] else None
            how = f"{found['status']} {failure['reason'] if failure else ''}".strip()
            self.journal.note("checked", run["model_id"] or "", run=run["run_id"], how=how, began=began)
            return found

        return self._call_function("check", CHECK, function)

    def _put_events(self, parameters: dict[str, Any]) -> dict[str, Any]:
        for entry in parameters["Entries"]:
            detail = json.loads(entry["Detail"])
            kind = entry["DetailType"].split()[-1].lower()
            shown = {name: (detail.get(name) or {}).get("overall_accuracy") for name in ("before", "after")}
            told = {"reason": detail.get("reason", ""), "verdict": detail.get("verdict"), **shown}
            self._tell(f"{kind} told", detail["run_id"], detail["model_id"], **told)
        return {}

    def _publish(self, parameters: dict[str, Any]) -> dict[str, Any]:
        run = json.loads(self._executions[self.scheduler.process.execution].given)["run"]
        self._tell("notified", run["run_id"], run["model_id"], reason=parameters["Subject"])
        return {}

    def _tell(self, what: str, run: str, model: str | None, **told: object) -> None:
        name = self.scheduler.process.execution
        target = Target(*json.loads(self._executions[name].given)["run"]["target"].values())
        self(
            what,
            lambda: self.journal.note(what, whom(target), run=run, model=model, **told),
            lambda effect: StateError("EventBridge.InternalException", "trouble"),
        )
        if name in self._abort_when_told:
            self._abort_when_told.discard(name)
            self._abort(self.scheduler.process, self.scheduler.process.random.expovariate(0.5))

    # --- The journal ----------------------------------------------------------------------------------------

    def _watch(self, before: Item, after: Item) -> None:
        """Notes the meaning of a write to the ledger, and whether it is allowed."""
        if _without(before, "rev", "expires_at") == _without(after, "rev", "expires_at"):
            self.journal.note("broken", after["job_id"]["S"], rule="A write that changes nothing")
        if after["job_id"]["S"] == NO_JOB:
            return
        if "due" in after:
            self._arm_sweep(from_iso(after["due_at"]["S"]) - SKEW)
        target = to_target(after)
        old, new = to_entry(target, before), to_entry(target, after)
        waits = "needed_as_of" in after or "wanted_as_of" in after or "batch" in after
        if (waits or new.run_id) and new.due_at is None:
            self.journal.note("broken", whom(target), rule="Dirty or held implies due_at")
        if ("due" in after, "expires_at" in after) != (new.due_at is not None, new.due_at is None):
            rule = "The index shows what is due, and only the others are forgotten"
            self.journal.note("broken", whom(target), rule=rule)
        self._note_changes(old, new)
        free, failed = new.run_id is None, new.attempts > 0
        self._note(new, "written", due_at=new.due_at, free=free, dirty=waits, failed=failed)

    def _note_changes(self, old: Entry, new: Entry) -> None:
        process = self.scheduler.process
        due = old.due_at is not None and old.due_at <= self.scheduler.now + 2 * SKEW
        # Updates by a name, or the reference of the model whose run as the active one begins.
        received = _waiting(old) != _waiting(new) or old.quality_reference != new.quality_reference
        looked = process.only_looks and not received and old.run_id != process.claimed
        if looked and not due and not self._met_fault(process) and not self.journal.of("settings"):
            self._note(new, "broken", rule="A look that writes what was not due")
        if old.run_id and new.run_id != old.run_id:
            by, ended = process.releases
            held = old.claim is not None and old.claim.number is not None
            released = by == old.run_id and held and (not new.attempts or ended == "not_checked")
            undone = "taken back" if held else "given back"
            how = ended if released else "taken over" if new.run_id else undone
            execution = process.execution if by == old.run_id else ""
            self._note(new, "freed", run=old.run_id, how=how, execution=execution, due=_shown(new.due_at))
        if new.run_id and new.run_id != old.run_id:
            process.claimed = new.run_id
            asked_at = new.claim.requested_at if new.claim else None
            claimed = {"run": new.run_id, "by": process.name, "asked_at": asked_at}
            self._note(new, "claimed", **claimed, was_due=old.due_at)
        elif new.claim and old.claim != new.claim:
            what = "resumed" if new.claim.number else "held"
            self._note(new, what, run=new.run_id, number=new.claim.number)
        elif old.run_id == new.run_id:
            what = "put off" if _waiting(old) == _waiting(new) else "recorded"
            self._note(new, what, due=_shown(new.due_at))
        for what, was, until in (
            ("covered", old.fresh_as_of, new.fresh_as_of),
            ("given up", old.failed_as_of, new.failed_as_of),
        ):
            if was != until and old.run_id:
                self._note(new, what, run=old.run_id, until=until)
            elif was != until:
                self._note(new, "broken", rule="A watermark moves without a run")

    def _met_fault(self, process: Process) -> bool:
        return any(fault.startswith(f"{process.name}:") for fault in self.faults.injected)

    def _note(self, entry: Entry, what: str, **details: object) -> None:
        self.journal.note(what, whom(entry.target), entry=key(entry.target), **details)


def _waiting(entry: Entry) -> tuple[object, ...]:
    return (
        entry.waiting.needed_as_of,
        entry.waiting.wanted_as_of,
        entry.waiting.wanted_at,
        entry.waiting.asked_at,
        entry.waiting.batch,
    )


def _without(item: Item, *names: str) -> Item:
    return {name: value for name, value in item.items() if name not in names}


def _shown(at: float | None) -> str:
    return "never" if at is None else f"{at - START:.3f}"
