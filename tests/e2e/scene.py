"""One target on an installation: what a test does to it, and what it can see of it.

Tests wait for events, not for a number of seconds. Where the protocol itself waits long (for the lifetime of
a claim, for an hour between two looks at an execution), a test makes the entry older instead.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import Ledger, key_of
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso
from tests.support.arcanna.alerts import TYPICAL_ACCURACY, labelled_alerts
from tests.support.arcanna.faults import Endpoint, Fault
from tests.support.arcanna.front_door import ReceivedRequest
from tests.support.arcanna.platform import FOR_EVER, Behaviour, Recompute
from tests.support.installation import Installation
from tests.support.local_cloud import FunctionError
from tests.support.waiting import PATIENCE, eventually

JOB = 1234
JOB_NAME = "security-alerts"
MODELS = tuple(f"generic-1-{JOB}-model-{1747385873 + n}.hdf5" for n in range(200))
OTHER_JOB = 77
OTHER_MODELS = ("generic-1-77-model-1751030400.hdf5", "generic-1-77-model-1761030400.hdf5")

TRIGGER, CHECK = "TriggerRecomputeFunction", "CheckStatusFunction"
TRIGGER_ROLE, CHECK_ROLE, WORKFLOW_ROLE = f"{TRIGGER}Role", f"{CHECK}Role", "RecomputeWorkflowRole"

SWEEP = '{"sweep": true}'
VISIBILITY = "4"
"""Seconds until SQS delivers a killed invocation's messages again. The template's 12 minutes are too long."""


def alerts(seed: int = 1) -> str:
    """20 labelled alerts. Another seed gives other alerts."""
    return labelled_alerts(20, TYPICAL_ACCURACY, seed=seed, first_id=seed * 20)


@dataclass
class Scene:
    """A target: a model, or its job's active model."""

    here: Installation
    model: str  # the one that the platform recomputes
    job_id: str = str(JOB)
    active: bool = False  # the target is the job's active model
    updated_at: float = 0.0  # when it was last updated, in epoch seconds

    @property
    def target(self) -> Target:
        """The ledger's key."""
        return Target(self.job_id, None if self.active else self.model)

    # --- Given and when ------------------------------------------------------------------------------------

    def key(self, name: str = "alerts.csv") -> str:
        """The key of an object that a route without a threshold matches."""
        parts = ["training-data", *(part for part in self.target if part), name]
        return "/".join(parts)

    def feedback_key(self, name: str) -> str:
        """The key of an object that the route with a threshold matches."""
        return f"feedback/{self.job_id}/{self.model}/{name}"

    def upload(self, name: str = "alerts.csv", body: str | None = None) -> None:
        """Uploads training data."""
        self.here.upload(self.key(name), alerts() if body is None else body)
        self.updated_at = time.time()

    def give_feedback(self, name: str, body: str | None = None) -> None:
        """Uploads training data below the threshold of its route."""
        self.here.upload(self.feedback_key(name), alerts() if body is None else body)
        self.updated_at = time.time()

    def request(self, **fields: object) -> None:
        """Sends a request to the queue. It is by hand unless the fields have a time or an age."""
        send(self.here, self._request(fields))
        self.updated_at = time.time()

    def invoke(self, **fields: object) -> Any:
        """Sends a request by direct invocation. Returns the trigger's answer about the target."""
        self.updated_at = time.time()
        (recorded,) = self.here.cloud.invoke(TRIGGER, self._request(fields))["recorded"]
        return recorded

    def _request(self, fields: Mapping[str, object]) -> dict[str, object]:
        given: dict[str, object] = {"job_id": self.target.job_id, "model_id": self.target.model_id, **fields}
        return {name: value for name, value in given.items() if value is not None}

    def try_to_invoke(self) -> None:
        """Sends a request by direct invocation, which may fail and is not repeated."""
        with suppress(FunctionError):
            self.invoke()

    def behaves(self, behaviour: Behaviour) -> None:
        """Sets the behaviour of the model's recomputes, also of one under way."""
        self.here.arcanna.set_behaviour(behaviour, self.model)

    def meets(self, fault: Fault) -> None:
        """Adds a fault to the platform's answers about the model."""
        self.here.arcanna.add_fault(replace(fault, model_id=self.model))

    def recompute_by_somebody_else(self) -> None:
        self.here.arcanna.external_recompute(int(self.job_id), self.model)

    def stop_execution(self) -> None:
        """Stops the run's execution, as an operator can, and waits until it has ended."""
        claim = self.entry().claim
        assert claim
        machine = self.here.cloud.outputs["RecomputeWorkflowArn"].replace(":stateMachine:", ":execution:")
        number = f"-{claim.number}" if claim.number else ""
        arn, states = f"{machine}:{claim.run_id}{number}", self.here.cloud.client("stepfunctions")
        states.stop_execution(executionArn=arn)
        eventually("its end", lambda: states.describe_execution(executionArn=arn)["status"] != "RUNNING")

    def let_claim_expire(self) -> None:
        """Makes the claim older than an invocation can live, unless the run is held."""

        def older(entry: Entry) -> Entry | None:
            claim = entry.claim
            if claim is None or claim.held:
                return None
            long_ago = claim.requested_at - CLAIM_LIFETIME
            return replace(entry, claim=claim._replace(requested_at=long_ago), due_at=claim.requested_at)

        self.ledger.apply(self.target, older)

    def let_check_up_come(self) -> None:
        """Makes the entry due, so that the next look checks up on the run."""
        self.ledger.apply(
            self.target, lambda entry: replace(entry, due_at=time.time()) if entry.run_id else None
        )

    # --- Then ----------------------------------------------------------------------------------------------

    def entry(self) -> Entry:
        """The target's entry in the ledger."""
        return self.ledger.read(self.target)

    def last_failure(self) -> dict[str, Any]:
        """How the last run failed. Empty if it did not."""
        return {**(self.entry().last_failure or {})}

    @property
    def ledger(self) -> Ledger:
        """The project's own ledger, to read and write entries."""
        cloud = self.here.cloud
        return Ledger(cloud.client("dynamodb"), cloud.outputs["LedgerTable"], time.time)

    def requests(self, endpoint: Endpoint) -> list[ReceivedRequest]:
        """The requests for the model that the platform received at an endpoint."""
        return [r for r in self.here.arcanna.requests if r.model_id == self.model and r.endpoint == endpoint]

    def posts(self) -> list[float]:
        """When the platform was asked to recompute the model."""
        return [request.at for request in self.requests("recompute")]

    def recomputes(self) -> list[Recompute]:
        return self.here.arcanna.recomputes(self.model)

    def served(self) -> dict[str, Any]:
        """The metrics that the platform shows."""
        return self.here.served(int(self.job_id), self.model)

    def rows_served(self) -> int:
        """How many alerts the metrics were computed from."""
        return sum(map(sum, self.served()["confusion_matrix"]))

    def executions(self) -> list[dict[str, Any]]:
        """The target's executions, oldest first, each with its run and its number."""
        every = [execution | json.loads(execution["input"]) for execution in self.here.cloud.executions()]
        return [
            e
            for e in every
            if (Target(**e["run"]["target"]), e["run"]["model_id"]) == (self.target, self.model)
        ]

    def runs(self) -> list[dict[str, Any]]:
        """The executions that held the target, without those whose claim had been taken over."""
        return [execution for execution in self.executions() if not is_superseded(execution)]

    # --- Waiting for it ------------------------------------------------------------------------------------

    def until(self, what: str, look: Callable[[Entry], object]) -> Entry:
        """Waits until `look` is true of the entry. Returns the entry."""

        def found() -> Entry | None:
            entry = self.entry()
            return entry if look(entry) else None

        return eventually(f"{what} of {self.model}", found)

    def until_requested(self, count: int = 1) -> None:
        eventually(f"request {count} of {self.model}", lambda: len(self.posts()) >= count)

    def until_held(self) -> Entry:
        """Waits until an execution holds the target."""
        return self.until("the hold", lambda entry: entry.claim and entry.claim.held)

    def until_waiting(self, updates: int = 1) -> Entry:
        """Waits until that many updates wait."""
        return self.until(f"{updates} waiting updates", lambda e: e.dirty and e.waiting.updates >= updates)

    def until_fresh(self) -> Entry:
        """Waits until a recompute requested after the last update has completed."""
        return self.until("fresh metrics", lambda entry: entry.fresh_as_of > self.updated_at)

    def until_rest(self) -> None:
        """Waits until no update is on its way or waits, and no run is under way."""
        eventually(f"rest of {self.model}", self._rests)

    def _rests(self) -> bool:
        # A message is recorded before it leaves the queue, so the entry is read last.
        return not in_queue(self.here) and self.entry().due_at is None and not _any_running(self.executions())

    def ended(self, count: int) -> list[dict[str, Any]]:
        """Waits until that many executions held the target and all have ended. Returns them."""

        def found() -> list[dict[str, Any]]:
            executions = self.executions()
            held = [execution for execution in executions if not is_superseded(execution)]
            return held if len(held) >= count and not _any_running(executions) else []

        return eventually(f"{count} ended runs of {self.model}", found)

    def long_under_way(self) -> None:
        """Starts a run whose recompute continues until the behaviour is changed."""
        self.behaves(FOR_EVER)
        self.try_to_invoke()
        self.until_held()


NewScene = Callable[[], Scene]
"""Gives a scene with a model that no other test uses."""


def _any_running(executions: list[dict[str, Any]]) -> bool:
    return any(execution["status"] == "RUNNING" for execution in executions)


def is_superseded(execution: Mapping[str, Any]) -> bool:
    """Whether an execution has ended because its claim had been taken over."""
    output = json.loads(execution.get("output") or "{}")
    return bool(output) and not output["hold"]["held"]


def two_at_once(here: Installation, executions: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a run of a target began before the previous one was released.

    `executions` are those of one target, each with its run, oldest first.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for execution in executions:
        if not is_superseded(execution):
            runs.setdefault(execution["run"]["run_id"], []).append(execution)
    return any(
        from_iso(later[0]["run"]["requested_at"]) < _released_at(here, earlier[-1])
        for earlier, later in pairwise(runs.values())
    )


def _released_at(here: Installation, execution: Mapping[str, Any]) -> float:
    """When an execution freed its target, or else when it ended (epoch seconds)."""
    for event in here.cloud.history(execution["executionArn"]):
        if event.get("stateEnteredEventDetails", {}).get("name") == "Release":
            return float(event["timestamp"].timestamp())
    return float(execution["stopDate"].timestamp())


# --- The installation around it ----------------------------------------------------------------------------


def send(here: Installation, body: object) -> None:
    """Sends a message to the updates queue."""
    here.cloud.client("sqs").send_message(
        QueueUrl=here.cloud.outputs["UpdatesQueueUrl"], MessageBody=json.dumps(body)
    )


def in_queue(here: Installation) -> list[str]:
    """The messages in the updates queue, visible or not, without sweeps."""
    return [body for body in here.cloud.messages("UpdatesQueue") if body != SWEEP]


def dead_letters(here: Installation) -> list[tuple[str, str]]:
    """Body and reason of all visible dead letters. They stay in the queue, hidden for an hour."""
    letters = received(here, here.cloud.outputs["DeadLetterQueueUrl"])
    return [
        (letter["Body"], letter.get("MessageAttributes", {}).get("reason", {}).get("StringValue", ""))
        for letter in letters
    ]


def received(here: Installation, url: str, hidden_for: int = 3600) -> list[dict[str, Any]]:
    """All visible messages of a queue, with attributes. They stay there, hidden for `hidden_for` seconds."""
    sqs, found = here.cloud.client("sqs"), []
    while messages := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=hidden_for, MessageAttributeNames=["All"]
    ).get("Messages"):
        found += messages
    return found


def sweep(here: Installation) -> None:
    """Sends a sweep, as EventBridge Scheduler does every minute."""
    here.cloud.fire_schedule("SweepSchedule")


def is_quiet(here: Installation) -> bool:
    """Whether the whole installation has no update on its way or waiting, and no run under way."""
    if in_queue(here):
        return False
    ledger = Ledger(here.cloud.client("dynamodb"), here.cloud.outputs["LedgerTable"], time.time)
    if ledger.waiting_or_running():
        return False
    return not _any_running(here.cloud.executions())


def settle(here: Installation, seconds: float = PATIENCE) -> None:
    """Waits until the installation is quiet."""
    eventually("quiet", lambda: is_quiet(here), seconds)


@contextmanager
def unreadable_entry(scene: Scene) -> Iterator[None]:
    """Until the block ends, the target's entry is as if somebody had edited it badly. Then it is deleted."""
    table, dynamodb = scene.here.cloud.outputs["LedgerTable"], scene.here.cloud.client("dynamodb")
    key = key_of(scene.target)
    dynamodb.put_item(TableName=table, Item={**key, "rev": {"N": "1"}, "needed_as_of": {"S": "yesterday"}})
    try:
        yield
    finally:
        dynamodb.delete_item(TableName=table, Key=key)


def restart(here: Installation, function: str = TRIGGER) -> None:
    """Ends the function's environments, which cache the settings and the API key."""
    here.cloud.restart(function)


def written_settings(here: Installation) -> dict[str, Any]:
    """The settings as currently written."""
    name = here.cloud.outputs["SettingsParameter"]
    return dict(json.loads(here.cloud.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]))


def write_settings(here: Installation, document: object) -> None:
    """Writes the settings. They are in force within a minute, and in new environments at once."""
    name = here.cloud.outputs["SettingsParameter"]
    here.cloud.client("ssm").put_parameter(Name=name, Value=json.dumps(document), Overwrite=True)


@contextmanager
def edited_settings(here: Installation, change: Mapping[str, object]) -> Iterator[None]:
    """Replaces some of the settings until the block ends."""
    before = written_settings(here)
    write_settings(here, {**before, **change})
    restart(here)
    try:
        yield
    finally:
        write_settings(here, before)
        restart(here)


def emitted(here: Installation, metric: str, since: float = 0.0) -> list[float]:
    """The values of a metric that the functions have emitted after `since` (epoch seconds)."""
    records = here.cloud.log_records(having=metric)
    emissions = [record for record in records if "_aws" in record and metric in record]
    values = [record[metric] for record in emissions if record["_aws"]["Timestamp"] / 1000 >= since]
    return [float(v) for value in values for v in (value if isinstance(value, list) else [value])]


class Mailbox:
    """A queue that receives outcome events or notifications, as a pipeline or a person would.

    Several threads may read it.
    """

    def __init__(self, here: Installation, name: str) -> None:
        self._here = here
        sqs = here.cloud.client("sqs")
        self._url = sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        self._arn = attributes["Attributes"]["QueueArn"]
        self._name = name
        self._read: list[dict[str, Any]] = []
        self._reading = threading.Lock()

    def with_events(self, pattern: object = None) -> "Mailbox":
        """Subscribes to the outcome events that match, by default all."""
        pattern = pattern or {"source": ["arcanna.metrics"]}
        events = self._here.cloud.client("events")
        events.put_rule(Name=self._name, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=self._name, Targets=[{"Id": "queue", "Arn": self._arn}])
        return self

    def with_notifications(self) -> "Mailbox":
        """Subscribes to the notifications."""
        topic = self._here.cloud.outputs["NotificationTopicArn"]
        self._here.cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self._arn)
        return self

    def everything(self) -> list[dict[str, Any]]:
        """All messages so far."""
        with self._reading:
            for message in received(self._here, self._url):
                with suppress(ValueError):
                    self._read.append(json.loads(message["Body"]))
            return list(self._read)

    def about(self, model: str) -> list[dict[str, Any]]:
        """The messages about the model."""
        return [message for message in self.everything() if model in json.dumps(message)]

    def wait_for(self, model: str, count: int) -> list[dict[str, Any]]:
        """Waits for that many messages about the model. Returns them."""

        def found() -> list[dict[str, Any]]:
            mine = self.about(model)
            return mine if len(mine) >= count else []

        return eventually(f"{count} messages about {model}", found)

    def outcomes(self, model: str) -> list[tuple[str, str]]:
        """The outcome events about the model: detail type, and run."""
        return [(e["detail-type"], e["detail"]["run_id"]) for e in self.about(model) if "detail-type" in e]
