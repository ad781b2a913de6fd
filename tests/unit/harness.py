"""A harness for unit tests of the protocol: AWS in moto, a scripted platform, and a clock that tests set."""

import json
from collections.abc import Callable
from itertools import count, takewhile
from typing import Any

from arcanna_metrics.controller.reconcile import look
from arcanna_metrics.controller.services import Services
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.protocol.entry import Claim, Entry
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.protocol.transitions import claim, hold, record
from arcanna_metrics.runs.run import Execution
from arcanna_metrics.settings import JobSettings, Settings, parse_settings
from arcanna_metrics.targets import Target, Update
from arcanna_metrics.times import to_iso
from arcanna_metrics.trigger import Trigger
from tests.support.doubles import PACE, TARGET, Clock, ScriptedPlatform, Stack, answer, metrics_body

LONG = 100.0
"""Seconds that an invocation still has: enough for everything."""

ROUTES = json.dumps(
    {
        "routes": [
            {
                "keys": ["data/{job_id}/{model_id}/*"],
                "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
            },
            {"keys": ["data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
        ]
    }
)


class Executions:
    """Step Functions: the executions that were started, and whether each is still running."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, Any]] = {}
        self.running: dict[str, bool] = {}
        self.fails: Exception | None = None

    def arn(self, run_id: str, number: int = 0) -> str:
        return f"arn:aws:states:eu-central-1:123456789012:execution:recompute:{_name(run_id, number)}"

    def start(self, run_id: str, given: str, number: int = 0) -> None:
        if self.fails:
            raise self.fails
        self.inputs.setdefault(_name(run_id, number), json.loads(given))
        self.running.setdefault(_name(run_id, number), True)

    def executions(self, run_id: str, most: int) -> list[Execution]:
        names = takewhile(self.running.__contains__, (_name(run_id, number) for number in range(most)))
        return [Execution(self.running[name], json.dumps(self.inputs[name])) for name in names]

    def end(self, run_id: str, number: int = 0) -> None:
        self.running[_name(run_id, number)] = False


def _name(run_id: str, number: int) -> str:
    return f"{run_id}-{number}" if number else run_id


class Harness:
    """The protocol's parts, wired together. Nothing happens and no time passes unless a test lets it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.clock = Clock()
        self.platform = ScriptedPlatform(answer(json=metrics_body(model_id=None)))
        self.executions = Executions()
        self.pace = PACE
        self.jobs: dict[str, JobSettings] = {}
        self.routes = parse_settings(ROUTES).routes
        self.slept: list[float] = []
        self.ledger = Ledger(stack.dynamodb, stack.ledger_table, self.clock)
        numbers = count(1)
        self.services = Services(
            self.ledger,
            self.executions,  # type: ignore[arg-type]  # has the workflow's methods
            self.platform.client(),
            lambda: self.settings(),
            "bus",
            self.clock,
            draw=lambda: 0.5,
            new_id=lambda: f"run-{next(numbers)}",
        )
        queues = Queues(stack.sqs, stack.updates_url, stack.dead_letter_url)
        self.trigger = Trigger(self.services, lambda: queues, self._sleep)

    def settings(self) -> Settings:
        """The settings in force. A test changes `pace`, or replaces `jobs`."""
        gate = {"largest_drop": {"overall_accuracy": 0.1}, "floor": {}, "minimum_samples": 1}
        return Settings(self.routes, JobSettings(self.pace, gate), self.jobs)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds

    # --- Given and when ------------------------------------------------------------------------------------

    def deliver(self, *bodies: Any, age: float = 40.0, remaining: float = LONG) -> list[str]:
        """Delivers messages sent `age` seconds ago. Returns the numbers of those that stay in the queue."""
        records = [
            {
                "messageId": str(number),
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"SentTimestamp": str(int((self.clock.now - age) * 1000))},
            }
            for number, body in enumerate(bodies)
        ]
        return self.trigger.handle_batch(records, lambda: remaining)

    def upload(self, key: str, at: float | None = None) -> dict[str, Any]:
        """EventBridge's event about a new object, of 40 seconds ago by default."""
        return {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": to_iso(self.clock.now - 40 if at is None else at),
            "detail": {"bucket": {"name": "bucket"}, "object": {"key": key, "size": 9}},
        }

    def update(self, target: Target = TARGET, age: float = 60.0, **fields: Any) -> Entry:
        """Records an update that happened `age` seconds ago."""
        update = Update(target, self.clock.now - age, fields.pop("cause", "upload"), **fields)
        self.ledger.apply(target, lambda entry: record(entry, [update], self.pace))
        return self.entry(target)

    def look(self, remaining: Callable[[], float] = lambda: LONG) -> None:
        """Reconciles what is due."""
        look(self.services, remaining)

    def started(self, target: Target = TARGET) -> str:
        """Starts a run of the target, whose execution then holds it. Returns its id."""
        self.update(target)
        self.look()
        run_id = self.entry(target).run_id
        assert run_id
        self.ledger.apply(target, lambda entry: hold(entry, run_id, 0))
        return run_id

    def held(self, target: Target = TARGET) -> None:
        """Has the run `run-1` hold the target, without asking the platform."""
        self.ledger.apply(target, lambda entry: claim(entry, Claim("run-1", self.clock.now)))
        self.ledger.apply(target, lambda entry: hold(entry, "run-1", 0))

    def number_of(self, run_id: str, target: Target = TARGET) -> int:
        """The number of the last execution that has begun. The run has to hold the target."""
        claim = self.entry(target).claim
        assert claim
        assert claim.run_id == run_id
        assert claim.number is not None
        return claim.number

    def until_due(self, target: Target = TARGET) -> None:
        """Lets time pass until the target is due."""
        due_at = self.entry(target).due_at
        assert due_at is not None
        self.clock.now = max(self.clock.now, due_at)

    # --- Then ----------------------------------------------------------------------------------------------

    def entry(self, target: Target = TARGET) -> Entry:
        """The target's entry in the ledger."""
        return self.ledger.read(target)
