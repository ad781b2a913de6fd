"""One history: a small world of updates, invocations, runs and other people, played to its quiet end."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from random import Random
from typing import Any, TypeVar, cast

from botocore.exceptions import ClientError

from arcanna_metrics.aws import Queues, Workflow
from arcanna_metrics.errors import RecomputeError
from arcanna_metrics.ledger import PLACES, Ledger
from arcanna_metrics.observability import logger, metrics
from arcanna_metrics.places import Places
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.runs.check import check, run_and_check
from arcanna_metrics.runs.quality import Rules
from arcanna_metrics.runs.run import Check, Run
from arcanna_metrics.settings import PollSettings, RetrySettings
from arcanna_metrics.starter import Starter
from arcanna_metrics.times import to_iso
from arcanna_metrics.trigger import Trigger
from tests.simulation import workflow
from tests.simulation.aws import (
    DEAD_LETTERS_URL,
    UPDATES_URL,
    ConditionalCheckFailed,
    DynamoDbClient,
    ExecutionAlreadyExists,
    Item,
    Message,
    SqsClient,
    StatesClient,
    Table,
)
from tests.simulation.faults import Faults
from tests.simulation.journal import START, Event, Journal
from tests.simulation.platform import HttpClient, Platform
from tests.simulation.scheduler import Killed, Process, Scheduler
from tests.simulation.stimuli import (
    JOB_OF,
    KINDS,
    OLDER_THAN,
    ROUTES,
    SUCCESSOR,
    Stimulus,
    body_of,
    models_of,
    stimuli_of,
)
from tests.simulation.workflow import Ending, Interpreter, StateError

T = TypeVar("T")

SETTLING = 30.0  # until then, the data of an update arrive at the platform
MARGIN = SETTLING + 5.0
SKEW = 1.9  # two clocks differ by less than the rest of the margin less the second that EventBridge cuts off
FAULTS_UNTIL = START + 3000.0
INVOCATION = 120.0  # these four as in template.yaml
VISIBILITY = 720.0
MOST_RECEIVES = 5
RUN_DEADLINE = 1800.0
LONGEST_LEASE = RUN_DEADLINE + 7200.0
EXECUTIONS = "arn:aws:states:eu-central-1:123456789012:execution:recompute"
POLLS = PollSettings(shortest=30, longest=300, start_grace=120)
RULES = Rules({}, {}, 1)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is simulated. The tests exchange parts of it for broken ones.

    `write` sees every request to the ledger before it is made, `definition` the workflow before it is run.
    `rates` are of faults by their kind, instead of what the seed would choose; `kinds` are weights of what
    comes, `places` and `spacing` what the seed may choose from.
    """

    starter: type[Starter] = Starter
    margin: float = MARGIN
    check: Callable[[Arcanna, Run, Check, PollSettings, Rules, float], Check] = check
    write: Callable[[dict[str, Any]], dict[str, Any]] = lambda request: request
    definition: Callable[[dict[str, Any]], dict[str, Any]] = lambda definition: definition
    rates: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=lambda: KINDS)
    places: Sequence[int] = (0, 1)
    spacing: Sequence[float] = (0.0, 0.0, 400.0)


@dataclass(frozen=True)
class History:
    """What one seed led to."""

    seed: int
    stimuli: list[Stimulus]
    faults: list[str]
    journal: Journal
    steps: int
    places: int


def play(
    seed: int,
    protocol: Protocol,
    stimuli: list[Stimulus] | None = None,
    faults: Set[str] | None = None,
) -> History:
    """The history of a seed; with only these of its stimuli and faults, where they are given.

    Raises NeverQuiet, or what the simulated code lets escape.
    """
    chosen = stimuli_of(seed, protocol.kinds) if stimuli is None else stimuli
    world = World(seed, protocol, chosen, faults)
    with _unobserved():
        try:
            world.run()
        finally:
            world.scheduler.close()
    return History(seed, chosen, world.faults.injected, world.journal, world.scheduler.steps, world.places)


@cache
def _definition(retry_attempts: int) -> dict[str, Any]:
    return workflow.load(
        {
            "Partition": "aws",
            "CheckStatusFunction": "check",
            "Ledger": "ledger",
            "UpdatesQueueUrl": UPDATES_URL,
            "EventBusName": "bus",
            "NotificationTopic": "topic",
            "RetryIntervalSeconds": "5",
            "RetryMaximumSeconds": "300",
            "RetryAttempts": str(retry_attempts),
        }
    )


@contextmanager
def _unobserved() -> Iterator[None]:
    level = logger.log_level
    logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()):  # where Powertools writes metrics
            yield
    finally:
        logger.setLevel(level)
        metrics.clear_metrics()


class World:
    """Everything of one history."""

    def __init__(self, seed: int, protocol: Protocol, stimuli: list[Stimulus], keep: Set[str] | None) -> None:
        self._seed = seed
        self._protocol = protocol
        self._random = random = Random(f"{seed}/world")
        self.scheduler = Scheduler(START)
        self.faults = Faults(seed, FAULTS_UNTIL, protocol.rates, keep)
        self.journal = Journal(lambda: self.scheduler.now, self._echo)
        self._echoes = [stimulus for stimulus in stimuli if stimulus.after]
        self._platform = Platform(seed, self.scheduler, self.faults, self.journal)
        self._table = Table(self._watch, protocol.write)
        self._queue: list[Message] = []
        self._messages = self._invocations = self._running = 0
        self._executions: set[str] = set()
        self._unreported = False
        self._concurrency = random.choice([1, 2, 3])
        self._queue_delay = random.choice([0.0, SETTLING])
        self._window = random.choice([0.0, 1.0, 15.0])
        self._batch = random.choice([5, 10_000])
        self.places = random.choice(protocol.places)

        http = HttpClient(self._platform, self.scheduler, self.call)
        self._arcanna = Arcanna(cast("Any", http), lambda read_again: "key")
        starter = protocol.starter(
            self._arcanna,
            Ledger(cast("Any", DynamoDbClient(self._table, self.call)), "ledger"),
            Workflow(cast("Any", StatesClient(self._start_execution, self.call)), "workflow"),
            Places(cast("Any", DynamoDbClient(self._table, self.call)), "ledger", self.places),
            spacing=random.choice(protocol.spacing),
            margin=protocol.margin,
            run_deadline=RUN_DEADLINE,
            polls=POLLS,
            clock=self._clock,
            new_id=self._new_run_id,
        )
        self._trigger = Trigger(
            starter,
            self._arcanna,
            Queues(cast("Any", SqsClient(self._send, self.call)), UPDATES_URL, DEAD_LETTERS_URL),
            lambda: ROUTES,
            RetrySettings(interval=5, maximum=300, give_up_after=random.choice([600, 21600])),
            clock=self._clock,
            sleep=self.scheduler.pause,
            jitter=lambda: self.scheduler.process.random.random(),
        )
        self._runs = 0
        self._interpreter = Interpreter(
            protocol.definition(_definition(random.choice([2, 12]))),
            {
                "arn:aws:states:::dynamodb:updateItem": self._update_item,
                "arn:aws:states:::events:putEvents": self._put_events,
                "arn:aws:states:::sns:publish": self._publish,
                "arn:aws:states:::sqs:sendMessage": self._ask_again,
                "check": self._check,
            },
            wait=self.scheduler.pause,
            entered_time=lambda: to_iso(self._clock()),
        )
        for stimulus in stimuli:
            if not stimulus.after:
                self._await(stimulus)

    def run(self) -> None:
        """To the quiet end; where the report of an execution's end was lost, to the next scheduled tick.

        EventBridge delivers such reports at its best effort only. What that loses, the lease and the
        schedule heal, also where the metrics are not old enough for the latter.
        """
        self.scheduler.run()
        if self._unreported:
            self.scheduler.now += LONGEST_LEASE
            tick = '{"models": "all", "older_than_seconds": 1000000000}'
            for model in models_of(tick):
                self.journal.note("update", model, by="tick", arrives=self.scheduler.now, if_stale=True)
            self._send(UPDATES_URL, tick, 0.0, {})
            self.scheduler.run()

    # --- Calls ---------------------------------------------------------------------------------------------

    def call(
        self, what: str, effect: Callable[[], T], failure: Callable[[], Exception], patience: float = 50.0
    ) -> T:
        """A call to the outside by the process that runs: it takes time, and may go wrong."""
        process, pause = self.scheduler.process, self.scheduler.pause
        process.calls += 1
        draw, before, after, delay = (
            process.random.random(),
            process.random.expovariate(10),
            process.random.expovariate(10),
            process.random.uniform(-1, 1),
        )
        fault = self.faults.of_call(
            f"{process.name}: call {process.calls} ({what})", self.scheduler.now, draw
        )

        def sooner_or_later() -> None:
            with self.scheduler.acting_for(process), suppress(ClientError, StateError):
                effect()

        match fault:
            case "fails before its effect" | "crashes before its effect":
                pause(before)
                raise self._death(process) if fault.startswith("crashes") else failure()
            case "fails, takes effect later":
                self.scheduler.at(self.scheduler.now + patience + 200 * abs(delay), sooner_or_later)
                pause(patience)
                raise failure()
            case "is slow" if delay < 0:
                before = patience * -delay
            case "is slow":
                after = patience * delay
        if self.scheduler.now + before >= process.deadline:
            # The invocation does not live to see it, but the request is on its way.
            self.scheduler.at(self.scheduler.now + before, sooner_or_later)
        pause(before)
        result = effect()
        pause(after)
        match fault:
            case "crashes after its effect":
                raise self._death(process)
            case "fails after its effect":
                raise failure()
        return result

    @staticmethod
    def _death(process: Process) -> BaseException:
        """A function that dies ends its process, or is an error to the execution that called it."""
        if process.name.startswith("execution"):
            return StateError("Lambda.Unknown", "the function died")
        return Killed()

    def _clock(self) -> float:
        return self.scheduler.now + self.scheduler.process.skew

    def _process(self, name: str, deadline: float = float("inf")) -> Process:
        random = Random(f"{self._seed}/{name}")
        return Process(name, random, random.uniform(-SKEW, SKEW), deadline)

    def _new_run_id(self) -> str:
        self._runs += 1
        return f"run-{self._runs}"

    # --- What comes from outside ----------------------------------------------------------------------------

    def _await(self, stimulus: Stimulus) -> None:
        self.scheduler.at(self.scheduler.now + stimulus.delay, lambda: self._come(stimulus))

    def _echo(self, event: Event) -> None:
        for stimulus in list(self._echoes):
            if (stimulus.after, stimulus.model) == (event.what, event.model):
                self._echoes.remove(stimulus)
                self._await(stimulus)

    def _come(self, stimulus: Stimulus) -> None:
        if stimulus.kind == "other":
            self._platform.request(stimulus.model, "others")
            return
        if stimulus.kind == "training":
            self._platform.train(SUCCESSOR[stimulus.model])
            return
        skewed = self.scheduler.now + self._random.uniform(-SKEW, SKEW)
        body = body_of(stimulus, skewed, self._random.random() < 0.5)
        if stimulus.kind == "garbage":
            self.journal.note("garbage", "*", body=body)
        else:
            takes = self._random.choice([0.0, SETTLING, self._random.uniform(0, SETTLING)])
            for model in models_of(body):
                arrives = self.scheduler.now + takes
                if_stale = stimulus.kind == "schedule" and str(OLDER_THAN) in body
                self.journal.note("update", model, by=stimulus, arrives=arrives, if_stale=if_stale)
        if stimulus.kind == "direct":
            self._invoke_directly(stimulus, json.loads(body))
        elif stimulus.kind == "message":
            self._send(UPDATES_URL, body, None, {})
        else:
            self._from_event_bridge(body)

    def _from_event_bridge(self, body: str) -> None:
        delay = self._random.expovariate(2)
        now, number = self.scheduler.now, self._messages + 1
        if self.faults.strikes("is delayed", f"event {number}", now, self._random.random()):
            delay += self._random.uniform(0, 2000)
        twice = self.faults.strikes("is delivered twice", f"event {number}", now, self._random.random())
        for extra in [0.0, self._random.uniform(0, 1000)][: 1 + twice]:
            self.scheduler.at(now + delay + extra, lambda: self._send(UPDATES_URL, body, None, {}))

    def _invoke_directly(self, stimulus: Stimulus, event: object) -> None:
        process = self._process(f"caller {stimulus.number}", self.scheduler.now + INVOCATION)

        def body() -> None:
            try:
                self._trigger.handle_event(event, self._remaining)
            except (RecomputeError, Killed) as error:
                self.journal.note("caller told", stimulus.model, of=stimulus, error=repr(error))

        self.scheduler.spawn(process, body)

    def _remaining(self) -> float:
        return self.scheduler.process.deadline - self.scheduler.now

    # --- The queue and its event source mapping -------------------------------------------------------------

    def _send(self, url: str, body: str, delay: float | None, attributes: dict[str, Any]) -> None:
        now = self.scheduler.now
        if url == DEAD_LETTERS_URL:
            self._dead_letter(body, attributes["reason"]["StringValue"])
            return
        self._messages += 1
        visible_at = now + (self._queue_delay if delay is None else delay)
        self._queue.append(Message(self._messages, body, now, visible_at))
        self._poll_at(visible_at + self._random.uniform(0, self._window))

    def _dead_letter(self, body: str, reason: str) -> None:
        for model in models_of(body):
            self.journal.note("dead letter", model, reason=reason, body=body)

    def _poll_at(self, time: float) -> None:
        self.scheduler.at(time, self._poll)

    def _poll(self) -> None:
        now = self.scheduler.now
        visible = [message for message in self._queue if message.visible_at <= now]
        if not visible or self._running >= self._concurrency:
            return  # the end of an invocation polls again
        self._random.shuffle(visible)
        batch = visible[: self._batch]
        for message in list(batch):
            message.receives += 1
            if message.receives > MOST_RECEIVES:
                self._queue.remove(message)
                batch.remove(message)
                self._dead_letter(message.body, "received too often")
                continue
            message.visible_at = now + VISIBILITY
            what, again = f"message {message.number}", self._random.uniform(0, 2 * INVOCATION)
            if self.faults.strikes("is delivered twice", what, now, self._random.random()):
                message.visible_at = now + again
            self._poll_at(message.visible_at)
        if batch:
            self._invocations += 1
            self._running += 1
            process = self._process(f"trigger {self._invocations}", now + INVOCATION)
            self.scheduler.spawn(process, lambda: self._invoke(batch))
        self._poll_at(now)

    def _invoke(self, batch: list[Message]) -> None:
        numbers = ", ".join(str(message.number) for message in batch)
        self.journal.note("invocation", "*", of=self.scheduler.process.name, messages=numbers)
        try:
            failed = self._trigger.handle_batch([message.record() for message in batch], self._remaining)
            for message in batch:
                if f"message-{message.number}" not in failed and message in self._queue:
                    self._queue.remove(message)  # for good, also if it is being delivered a second time
        finally:
            self._running -= 1
            self._poll_at(self.scheduler.now)

    # --- Executions -----------------------------------------------------------------------------------------

    def _start_execution(self, name: str, given: str) -> None:
        if name in self._executions:
            raise ExecutionAlreadyExists
        self._executions.add(name)
        process = self._process(f"execution {name}")
        self.scheduler.spawn(process, lambda: self._execute(name, given))
        aborted = self.faults.strikes("is aborted", process.name, self.scheduler.now, process.random.random())
        if aborted:
            after = process.random.uniform(0, 300)
            self.scheduler.at(self.scheduler.now + after, lambda: setattr(process, "killed", True))

    def _execute(self, name: str, given: str) -> None:
        data = json.loads(given)
        process, model = self.scheduler.process, data["run"]["model_id"]
        process.run = data["run"]["run_id"]
        try:
            ending = self._interpreter.run(f"{EXECUTIONS}:{name}", data, process.random)
        except Killed:
            ending = Ending(process.random.choice(["ABORTED", "TIMED_OUT"]))
        ended = f"{ending.status} {ending.error}"
        self.journal.note("execution ended", model, run=process.run, execution=name, status=ended)
        if ending.status != "SUCCEEDED":
            self._report(name, given, ending)

    def _report(self, name: str, given: str, ending: Ending) -> None:
        event = {
            "source": "aws.states",
            "detail-type": "Step Functions Execution Status Change",
            "time": to_iso(self.scheduler.now),
            "detail": {
                "executionArn": f"{EXECUTIONS}:{name}",
                "status": ending.status,
                "input": given,
                "cause": ending.cause or None,
            },
        }
        what, now = f"execution {name}:", self.scheduler.now
        if self.faults.strikes("its end is not reported", what, now, self._random.random(), weight=0.5):
            self._unreported = True
            return
        late = self.faults.strikes("its end is reported late", what, now, self._random.random())
        delay = self._random.uniform(60, 2000) if late else 0.0
        self.scheduler.at(now + delay, lambda: self._from_event_bridge(json.dumps(event)))

    def _update_item(self, parameters: dict[str, Any]) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            try:
                return self._table.update(parameters)
            except ConditionalCheckFailed as refused:
                raise StateError("DynamoDB.ConditionalCheckFailedException", str(refused)) from refused

        return self.call("UpdateItem", effect, lambda: StateError("DynamoDB.InternalServerError", "trouble"))

    def _put_events(self, parameters: dict[str, Any]) -> dict[str, Any]:
        for entry in parameters["Entries"]:
            self._tell(f"PutEvents {entry['DetailType']}", entry["Detail"]["model_id"])
        return {}

    def _publish(self, parameters: dict[str, Any]) -> dict[str, Any]:
        model = next(model for model in JOB_OF if model in parameters["Message"])
        self._tell("Publish failed" if "failed" in parameters["Subject"] else "Publish regressed", model)
        return {}

    def _tell(self, what: str, model: str) -> None:
        run, kind = self.scheduler.process.run, f"{what.split()[-1].lower()} told"
        self.call(
            what,
            lambda: self.journal.note(kind, model, run=run, by=what),
            lambda: StateError("EventBridge.InternalException", "trouble"),
        )

    def _ask_again(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.call(
            "SendMessage",
            lambda: self._send(parameters["QueueUrl"], json.dumps(parameters["MessageBody"]), None, {}),
            lambda: StateError("SQS.SdkClientException", "trouble"),
        )
        return {}

    def _check(self, parameters: dict[str, Any]) -> Any:
        process = self.scheduler.process
        process.skew = process.random.uniform(-SKEW, SKEW)  # every invocation may run somewhere else
        try:
            run, last = run_and_check(json.loads(json.dumps(parameters)))
            return self._protocol.check(self._arcanna, run, last, POLLS, RULES, self._clock())
        except RecomputeError as error:
            name = type(error).__name__
            cause = json.dumps({"errorMessage": str(error), "errorType": name})
            raise StateError(name, cause) from error

    # --- What is written down -------------------------------------------------------------------------------

    def _watch(self, before: Item, after: Item) -> None:
        """Notes what a write to the ledger means."""

        def changed(name: str) -> bool:
            return before.get(name) != after.get(name)

        if after["job_id"]["S"] == PLACES:
            return
        model, process = after["model_id"]["S"], self.scheduler.process
        run = process.run or after.get("run_id", before.get("run_id", {})).get("S")
        if "run_id" not in before and "run_id" not in after:
            self.journal.note("gathering", model, **{n: after.get(n) for n in ("gathered", "wake_at")})
        elif "run_id" not in after:
            self.journal.note("released" if process.run else "given back", model, run=run)
        elif changed("run_id"):
            self.journal.note("claimed", model, run=run)
        elif changed("lease_expires_at"):
            self.journal.note("held" if process.run else "lease prolonged", model, run=run)
        elif changed("pending_at"):
            self.journal.note("pending", model, run=run, at=after["pending_at"]["S"])
        else:
            self.journal.note("gathering", model, **{n: after.get(n) for n in ("gathered", "wake_at")})
        if changed("covered_until"):
            self.journal.note("covered", model, run=run, until=after["covered_until"]["S"])
