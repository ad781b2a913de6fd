"""Whatever comes in: a run, a reason why none is needed, a wait with an end to it, or a dead letter."""

import json
from collections.abc import Callable
from itertools import chain, count, repeat
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.aws import Queues, RouteSource, Workflow
from arcanna_metrics.errors import AwsUnavailable, BadInput, ConfigurationError
from arcanna_metrics.intake.events import request_body
from arcanna_metrics.ledger import Ledger
from arcanna_metrics.observability import metrics
from arcanna_metrics.places import Places
from arcanna_metrics.settings import PollSettings, RetrySettings
from arcanna_metrics.starter import LONGEST_DOUBT, Starter
from arcanna_metrics.times import to_iso
from arcanna_metrics.trigger import LONGEST_DELAY, RESERVE, Result, Trigger, retry_delay
from arcanna_metrics.updates import Update
from tests.doubles import MODEL, Answer, Clock, Logs, ScriptedPlatform, Stack, answer

MARGIN = 5.0
AT = "2025-01-15T14:00:00Z"
RETRIES = RetrySettings(interval=5, maximum=300, give_up_after=3600)
ROUTES = {
    "routes": [
        {
            "name": "by-path",
            "keys": ["training-data/{job_id}/{model_id}/*"],
            "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
        },
        {"name": "by-job", "keys": ["by-job/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
        {
            "name": "nightly",
            "keys": ["nightly/*"],
            "targets": [{"job_id": "7", "model_id": "a"}, {"job_id": "7", "model_id": "b"}],
        },
    ]
}


class RecordedQueues(Queues):
    """Keeps what was put off, because SQS shows nothing of it before its time."""

    def __init__(self, *arguments: Any, record: list[dict[str, Any]]) -> None:
        super().__init__(*arguments)
        self._record = record

    def put_off(self, update: Update, delay: int) -> None:
        super().put_off(update, delay)
        self._record.append(json.loads(request_body(update)))


class Scene:
    """The trigger with everything around it; the clock stands still but for what the trigger sleeps."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.platform = ScriptedPlatform()
        self.platform.metrics = answer(
            json={"is_recomputing_metrics": False, "last_recomputed_timestamp": None}
        )
        self.clock = Clock()
        self.remaining = 100.0
        self.left: Callable[[], float] = lambda: self.remaining
        self.spacing = 0.0
        self.put_off: list[dict[str, Any]] = []
        self.places = 0
        self._ids = count(1)
        stack.set_routes(ROUTES)

    def trigger(self, **changed: str) -> Trigger:
        """A new execution environment's trigger; `changed` names resources that are elsewhere."""
        stack = self.stack
        names = {
            "ledger": stack.ledger_table,
            "workflow": stack.workflow_arn,
            "updates": stack.updates_url,
            "dead_letters": stack.dead_letter_url,
            "routes": stack.routes_parameter,
            **changed,
        }
        arcanna = self.platform.client()
        starter = Starter(
            arcanna,
            Ledger(stack.dynamodb, names["ledger"]),
            Workflow(stack.states, names["workflow"]),
            Places(stack.dynamodb, names["ledger"], self.places),
            margin=MARGIN,
            spacing=self.spacing,
            run_deadline=3600.0,
            polls=PollSettings(5, 900, 600),
            clock=self.clock,
            new_id=lambda: f"run-{next(self._ids)}",
        )
        return Trigger(
            starter,
            arcanna,
            RecordedQueues(stack.sqs, names["updates"], names["dead_letters"], record=self.put_off),
            RouteSource(stack.ssm, names["routes"], self.clock),
            RETRIES,
            self.clock,
            self.sleep,
            jitter=lambda: 0.0,  # retries come at once, and are to be seen at once
        )

    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        self.remaining -= seconds

    def invoke(self, event: object, **changed: str) -> list[Result]:
        return self.trigger(**changed).handle_event(event, self.left)

    def batch(self, *bodies: object, **changed: str) -> list[str]:
        """The ids of the messages that come again; they are numbered from 0."""
        records = [
            {
                "messageId": str(number),
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"SentTimestamp": str(int(self.clock.now * 1000))},
            }
            for number, body in enumerate(bodies)
        ]
        return self.trigger(**changed).handle_batch(records, self.left)

    def request(self, age: float = 60.0, **fields: object) -> dict[str, object]:
        """A request for the model whose training data changed `age` seconds ago."""
        at = to_iso(self.clock.now - age)
        return {"job_id": MODEL.job_id, "model_id": MODEL.model_id, "happened_at": at, **fields}

    def upload(self, key: str, age: float = 60.0) -> dict[str, object]:
        return {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": to_iso(self.clock.now - age),
            "detail": {"bucket": {"name": "bucket"}, "object": {"key": key, "version-id": "v1"}},
        }

    def hold(self) -> None:
        """Has the workflows of all runs make the claims their own."""
        for execution in self.stack.executions().values():
            assert self.stack.workflow_writes("HoldModel", execution)

    @property
    def runs(self) -> list[dict[str, Any]]:
        return [data["run"] for data in self.stack.executions().values()]

    @property
    def models(self) -> set[tuple[str, str]]:
        """The models of all runs."""
        return {(run["job_id"], run["model_id"]) for run in self.runs}


@pytest.fixture
def scene(stack: Stack) -> Scene:
    metrics.clear_metrics()
    return Scene(stack)


# --- Updates that wait -----------------------------------------------------------------------------------

FEEDBACK = {
    "name": "feedback",
    "keys": ["feedback/{job_id}/{model_id}/*"],
    "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
    "significant": {"objects": 3, "max_wait_seconds": 3600},
}


@pytest.fixture
def gathering(scene: Scene) -> Scene:
    scene.stack.set_routes({"routes": [FEEDBACK, *ROUTES["routes"]]})
    return scene


def feedback(scene: Scene, *numbers: int, age: float = 60.0) -> list[dict[str, object]]:
    """Uploads of `age` seconds ago, whenever they are delivered."""
    return [scene.upload(f"feedback/1234/{MODEL.model_id}/{number}.csv", age) for number in numbers]


def put_off(scene: Scene) -> list[dict[str, Any]]:
    """The messages that have been put off since it was last asked."""
    sent, scene.put_off[:] = list(scene.put_off), []
    return sent


def outcomes(results: list[Result]) -> list[str]:
    return [result.outcome for result in results]


def test_too_few_uploads_wait_by_one_message_and_enough_of_them_do_not(gathering: Scene) -> None:
    first, second, third = feedback(gathering, 1, 2, 3)
    assert outcomes(gathering.invoke(first)) == ["waiting"]
    assert outcomes(gathering.invoke(second)) == ["gathered"]
    assert len(put_off(gathering)) == 1
    assert gathering.models == set()
    assert outcomes(gathering.invoke(third)) == ["started"]
    (run,) = gathering.runs
    assert (run["cause"]["updates"], run["cause"]["kind"]) == (3, "upload")


def test_what_was_due_is_due_although_the_attempt_failed(gathering: Scene) -> None:
    known = gathering.platform.metrics
    gathering.batch(*feedback(gathering, 1, 2))
    gathering.platform.metrics = answer(503)
    put_off(gathering)
    gathering.batch(*feedback(gathering, 3))
    assert gathering.runs == []
    (later,) = put_off(gathering)
    gathering.platform.metrics = known
    gathering.batch(later)
    assert gathering.models == {MODEL}


def test_duplicates_count_once(gathering: Scene) -> None:
    uploads = feedback(gathering, 1, 1, 2)
    for _ in range(3):
        assert gathering.batch(*uploads) == []
    assert gathering.models == set()


def test_uploads_of_one_batch_are_counted_together(gathering: Scene) -> None:
    assert gathering.batch(*feedback(gathering, 1, 2, 3)) == []
    assert gathering.models == {MODEL}


def test_what_waits_is_asked_for_in_time(gathering: Scene) -> None:
    gathering.batch(*feedback(gathering, 1))
    (waker,) = put_off(gathering)
    gathering.clock.now += 1800
    assert gathering.batch(waker) == []
    (waker,) = put_off(gathering)
    assert gathering.models == set()
    gathering.clock.now += 1800
    assert gathering.batch(waker) == []
    assert gathering.models == {MODEL}


def test_a_waker_whose_updates_were_taken_along_is_at_its_end(gathering: Scene) -> None:
    gathering.batch(*feedback(gathering, 1))
    (waker,) = put_off(gathering)
    gathering.invoke(gathering.request())
    gathering.hold()
    (execution,) = gathering.stack.executions().values()
    assert gathering.stack.workflow_writes("ReleaseCompleted", execution)
    gathering.batch(*feedback(gathering, 1))
    gathering.clock.now += 3600
    assert outcomes(gathering.invoke(waker)) == ["covered"]
    assert put_off(gathering) == []
    assert not gathering.stack.item().keys() & {"wake_at", "gathered"}


def test_of_two_wakers_the_one_that_promised_last_stays(gathering: Scene) -> None:
    gathering.batch(*feedback(gathering, 1))
    (old,) = put_off(gathering)
    gathering.invoke(gathering.request())  # takes the upload along
    gathering.hold()
    (execution,) = gathering.stack.executions().values()
    assert gathering.stack.workflow_writes("ReleaseCompleted", execution)
    gathering.clock.now += 600
    gathering.batch(*feedback(gathering, 2))
    (new,) = put_off(gathering)
    before = gathering.stack.item()
    assert outcomes(gathering.invoke(old)) == ["covered"]
    assert put_off(gathering) == []
    assert gathering.stack.item() == before
    assert outcomes(gathering.invoke(new)) == ["waiting"]
    (again,) = put_off(gathering)
    assert again["promised_at"] == new["promised_at"]
    gathering.clock.now += 3600
    assert outcomes(gathering.invoke(again)) == ["started"]
    (run,) = (run for run in gathering.runs if run["cause"]["kind"] == "upload")
    assert run["cause"]["updates"] == 1


def test_updates_that_are_enough_together_wait_until_the_last_has_settled(gathering: Scene) -> None:
    gathering.batch(*feedback(gathering, 1, 2, age=1))
    assert gathering.stack.item()["wake_at"] == to_iso(gathering.clock.now - 1 + 3600)
    put_off(gathering)
    gathering.batch(*feedback(gathering, 3, age=0))
    assert gathering.stack.item()["wake_at"] == to_iso(gathering.clock.now + MARGIN)
    (waker,) = put_off(gathering)
    gathering.clock.now += MARGIN + 1
    assert outcomes(gathering.invoke(waker)) == ["started"]


def waker_during_a_run(gathering: Scene) -> dict[str, Any]:
    """Of uploads that are enough by now, during a run that covers none of them."""
    gathering.invoke(gathering.request())
    gathering.hold()
    gathering.clock.now += 60
    gathering.batch(*feedback(gathering, 1, 2, age=1))
    (waker,) = put_off(gathering)
    gathering.clock.now += 60
    gathering.batch(*feedback(gathering, 3, age=20))
    gathering.clock.now += 60
    return waker


def test_on_a_waker_that_was_coalesced_nobody_relies(gathering: Scene) -> None:
    waker = waker_during_a_run(gathering)
    assert outcomes(gathering.invoke(waker)) == ["coalesced"]
    (execution,) = gathering.stack.executions().values()
    assert gathering.stack.workflow_writes("ReleaseCompleted", execution)
    pending_at = gathering.stack.item()["pending_at"]
    gathering.places = 1
    gathering.invoke(gathering.request(model_id="other"))
    asked_again = gathering.request(happened_at=pending_at, cause="asked_again")
    assert outcomes(gathering.invoke(asked_again)) == ["waiting"]
    assert len(put_off(gathering)) == 1


def test_for_what_is_due_a_place_is_found_by_a_waker_that_is_not(gathering: Scene) -> None:
    gathering.batch(*feedback(gathering, 1))
    (waker,) = put_off(gathering)
    gathering.places = 1
    gathering.invoke(gathering.request(model_id="other"))
    assert outcomes(gathering.invoke(gathering.request(50))) == ["gathered"]
    gathering.places = 2
    gathering.clock.now += 900
    assert outcomes(gathering.invoke(waker)) == ["started"]


def test_on_a_waker_that_is_given_up_nobody_relies(gathering: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AwsUnavailable("no")

    gathering.batch(*feedback(gathering, 1))
    (waker,) = put_off(gathering)
    waker["waiting_since"] = to_iso(gathering.clock.now - 3600)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "read", fails)
        patch.setattr(Ledger, "break_promise", fails)
        assert outcomes(gathering.invoke(waker)) == ["put_off"]  # as nobody can be told
    (waker,) = put_off(gathering)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "read", fails)
        assert outcomes(gathering.invoke(waker)) == ["dead_lettered"]
    gathering.batch(*feedback(gathering, 2))
    assert len(put_off(gathering)) == 1


def test_wakers_of_one_batch_that_are_coalesced_break_their_promise(gathering: Scene) -> None:
    waker = waker_during_a_run(gathering)
    legacy = {name: value for name, value in waker.items() if name != "promised_at"}
    assert gathering.batch(legacy, waker) == []
    assert "wake_at" not in gathering.stack.item()


@pytest.mark.parametrize("asked", ["by a waker", "for the model itself"])
def test_all_whom_a_refused_run_was_for_follow_the_active_model(gathering: Scene, asked: str) -> None:
    by_job = {**FEEDBACK, "keys": ["jobs/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]}
    gathering.stack.set_routes({"routes": [by_job]})
    gathering.invoke(gathering.upload("jobs/1234/a.csv", 60))
    (waker,) = put_off(gathering)
    gathering.clock.now += 200
    gathering.invoke(gathering.upload("jobs/1234/b.csv", 60))
    latest = to_iso(gathering.clock.now - 60)
    gathering.platform.metrics = answer(404)
    gathering.platform.job = answer(json={"active_model_id": "another"})
    if asked == "by a waker":
        gathering.clock.now += 3600
        assert outcomes(gathering.invoke(waker)) == ["put_off"]
    else:
        assert outcomes(gathering.invoke(gathering.request())) == ["rejected"]
        assert len(gathering.stack.dead_letters()) == 1
    (anew,) = put_off(gathering)
    assert (anew["model_id"], anew["happened_at"], anew.get("marks")) == (None, latest, None)


def test_an_outage_goes_on_while_an_update_settles(scene: Scene) -> None:
    since = to_iso(scene.clock.now - 3000)
    assert outcomes(scene.invoke(scene.request(0, waiting_since=since, cause="upload"))) == ["settling"]
    (later,) = put_off(scene)
    assert later["waiting_since"] == since


def test_what_a_lost_waker_leaves_behind_is_asked_for_by_the_schedule(gathering: Scene) -> None:
    gathering.batch(*feedback(gathering, 1))
    put_off(gathering)
    schedule = {"models": "all", "older_than_seconds": 10**9}
    gathering.clock.now += 3600
    assert "started" not in outcomes(gathering.invoke(schedule))
    gathering.clock.now += 7201
    assert "started" in outcomes(gathering.invoke(schedule))
    assert gathering.models == {MODEL}


def test_a_crash_before_the_promise_leads_to_another_message_and_not_to_none(
    gathering: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise AwsUnavailable("no")

    uploads = feedback(gathering, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "promise", fails)
        assert gathering.batch(*uploads) == ["0"]
    assert gathering.batch(*uploads) == []
    assert len(put_off(gathering)) == 2


def test_a_schedule_that_waits_for_others_sees_to_them_though_its_own_metrics_are_fresh(
    gathering: Scene,
) -> None:
    gathering.places = 1
    gathering.invoke(gathering.request(model_id="other"))
    gathering.hold()
    stale = answer(
        json={"is_recomputing_metrics": False, "last_recomputed_timestamp": "2001-01-01T00:00:00Z"}
    )
    gathering.platform.metrics = stale
    assert outcomes(gathering.invoke(gathering.request(older_than_seconds=3600))) == ["waiting"]
    (waker,) = put_off(gathering)
    assert outcomes(gathering.invoke(gathering.request(50))) == ["gathered"]
    now = to_iso(gathering.clock.now)
    fresh = answer(json={"is_recomputing_metrics": False, "last_recomputed_timestamp": now})
    gathering.platform.metrics = fresh
    gathering.places = 0
    assert outcomes(gathering.invoke(waker)) == ["started"]


def test_while_updates_wait_for_a_place_the_platform_is_left_alone(scene: Scene) -> None:
    scene.places = 1
    scene.invoke(scene.request(model_id="other"))
    scene.hold()
    scene.batch(scene.request(older_than_seconds=3600))
    asked = len(scene.platform.requests)
    for _ in range(3):
        (waker,) = put_off(scene)
        scene.clock.now += 300
        scene.batch(waker)
    assert len(scene.platform.requests) == asked


def test_a_schedule_that_meets_a_recent_run_asks_for_no_further_one(scene: Scene) -> None:
    scene.invoke(scene.request())
    scene.hold()
    scene.clock.now += 60
    assert outcomes(scene.invoke(scene.request(0, older_than_seconds=3600))) == ["fresh"]
    assert outcomes(scene.invoke(scene.request(0, older_than_seconds=30))) == ["coalesced"]


def test_a_wait_that_is_meant_does_not_count_as_one_that_is_given_up(scene: Scene) -> None:
    scene.spacing = 600.0
    scene.stack.put_item({"covered_until": to_iso(scene.clock.now - 120)})
    since = to_iso(scene.clock.now - 3000)
    assert outcomes(scene.invoke(scene.request(waiting_since=since))) == ["waiting"]
    (later,) = put_off(scene)
    assert later["waiting_since"] is None


def test_recomputes_of_a_model_are_spaced_and_what_waits_is_taken_together(scene: Scene) -> None:
    scene.spacing = 600.0
    scene.stack.put_item({"covered_until": to_iso(scene.clock.now - 120)})
    assert outcomes(scene.invoke(scene.request())) == ["waiting"]
    assert outcomes(scene.invoke(scene.request(age=50))) == ["gathered"]
    (waker,) = put_off(scene)
    scene.clock.now += 481
    assert outcomes(scene.invoke(waker)) == ["started"]
    (run,) = scene.runs
    assert run["cause"]["updates"] == 2


def test_without_a_place_a_model_waits_by_one_message(scene: Scene) -> None:
    scene.places = 1
    assert outcomes(scene.invoke(scene.request(model_id="other"))) == ["started"]
    assert outcomes(scene.invoke(scene.request())) == ["waiting"]
    assert outcomes(scene.invoke(scene.request(age=50))) == ["gathered"]
    assert scene.platform.asked == ["metrics", "request"]
    (waker,) = put_off(scene)
    scene.clock.now += 10
    assert outcomes(scene.invoke(waker)) == ["waiting"]
    scene.places = 2
    assert outcomes(scene.invoke(waker)) == ["started"]
    assert scene.models == {(MODEL.job_id, "other"), MODEL}


def test_a_covered_update_needs_no_place(scene: Scene) -> None:
    scene.places = 1
    scene.invoke(scene.request(model_id="other"))
    scene.stack.put_item({"covered_until": to_iso(scene.clock.now - 1)})
    assert outcomes(scene.invoke(scene.request())) == ["covered"]


# --- Schedules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "outcome"), [(3599, "fresh"), (3601, "started")])
def test_a_schedule_asks_for_stale_metrics_only(scene: Scene, age: float, outcome: str) -> None:
    at = to_iso(scene.clock.now - age)
    scene.platform.metrics = answer(json={"is_recomputing_metrics": False, "last_recomputed_timestamp": at})
    tick = {"models": "all", "happened_at": to_iso(scene.clock.now - 60), "older_than_seconds": 3600}
    assert outcomes(scene.invoke(tick)) == [outcome, outcome]


@pytest.mark.parametrize(
    "left",
    [
        {"pending_at": -60},
        {"run_id": "r", "requested_at": -9000, "lease_expires_at": -1},
        {"run_id": "r", "requested_at": -9000, "lease_expires_at": -1, "pending_at": -60},
        {"run_id": "r", "lease_expires_at": -7201},
    ],
    ids=["pending", "never ended", "never ended, and pending", "never began"],
)
def test_a_schedule_asks_for_what_was_left_behind_however_new_the_metrics(
    scene: Scene, left: dict[str, str | float]
) -> None:
    now = scene.clock.now
    item = {name: at if isinstance(at, str) else to_iso(now + at) for name, at in left.items()}
    scene.stack.put_item(item | {"covered_until": to_iso(now - 9500)})
    shown = {"is_recomputing_metrics": False, "last_recomputed_timestamp": to_iso(now)}
    scene.platform.metrics = answer(json=shown)
    tick = {"models": "all", "happened_at": to_iso(now - 10), "older_than_seconds": 3600}
    assert scene.batch(tick) == []
    assert scene.models == {MODEL}


@pytest.mark.parametrize(
    "held",
    [
        {"run_id": "r", "requested_at": -90, "lease_expires_at": 600, "pending_at": -60},
        {"run_id": "r", "lease_expires_at": -7199},
    ],
    ids=["under way", "about to begin"],
)
def test_a_schedule_leaves_alone_what_a_run_holds(scene: Scene, held: dict[str, str | float]) -> None:
    now = scene.clock.now
    scene.stack.put_item({n: a if isinstance(a, str) else to_iso(now + a) for n, a in held.items()})
    shown = {"is_recomputing_metrics": False, "last_recomputed_timestamp": to_iso(now)}
    scene.platform.metrics = answer(json=shown)
    assert set(outcomes(scene.invoke({"models": "all", "older_than_seconds": 3600}))) == {"fresh"}


@pytest.mark.parametrize("timestamp", [None, "some time ago"])
def test_metrics_of_no_known_age_are_stale(scene: Scene, timestamp: str | None) -> None:
    scene.platform.metrics = answer(
        json={"is_recomputing_metrics": False, "last_recomputed_timestamp": timestamp}
    )
    assert outcomes(scene.invoke(scene.request(older_than_seconds=10**9))) == ["started"]


def test_a_schedule_asks_for_the_active_model_of_every_job_that_the_ledger_knows(scene: Scene) -> None:
    scene.stack.put_item({"covered_until": to_iso(scene.clock.now - 3600)})
    results = scene.invoke({"models": "all", "happened_at": to_iso(scene.clock.now - 60)})
    assert {(result.job_id, result.model_id) for result in results} == {("7", "a"), ("7", "b"), MODEL}
    assert {run["job_id"]: run["follows_active"] for run in scene.runs} == {"7": False, "1234": True}


def test_a_schedule_for_many_models_goes_through_the_queue(scene: Scene) -> None:
    targets = [{"job_id": "7", "model_id": str(number)} for number in range(45)]
    scene.stack.set_routes({"routes": [{"targets": targets}]})
    assert scene.batch({"models": "all", "older_than_seconds": 3600}) == []
    assert scene.platform.asked == []
    sent = scene.stack.waiting()
    assert sorted(body["model_id"] for body in sent) == sorted(str(number) for number in range(45))
    assert {body["older_than_seconds"] for body in sent} == {3600}


# --- By direct invocation --------------------------------------------------------------------------------


def test_a_request_starts_a_run_and_is_told_so(scene: Scene) -> None:
    assert scene.invoke(scene.request()) == [Result(*MODEL, "started", "run-1", 1)]
    assert scene.models == {MODEL}


def test_a_request_without_a_time_is_settled_within_the_invocation(scene: Scene) -> None:
    before = scene.clock.now
    (result,) = scene.invoke({"job_id": "1234", "model_id": MODEL.model_id})
    assert result.outcome == "started"
    assert MARGIN < scene.clock.now - before <= MARGIN + 1


def test_an_invocation_without_the_time_to_settle_leaves_it_to_the_queue(scene: Scene) -> None:
    scene.remaining = RESERVE + 1
    (result,) = scene.invoke({"job_id": "1234", "model_id": MODEL.model_id})
    assert result.outcome == "settling"
    assert scene.runs == []


def test_a_request_without_a_model_means_the_active_one(scene: Scene) -> None:
    (result,) = scene.invoke(scene.request(model_id=None))
    assert (result.model_id, result.outcome) == (MODEL.model_id, "started")
    assert scene.platform.asked == ["job", "metrics", "request"]


def active(scene: Scene, model_id: str) -> None:
    scene.platform.job = answer(json={"active_model_id": model_id})


def gone(scene: Scene, model_id: str, *, endpoint: str = "metrics") -> None:
    """Has the platform refuse a model, and know every other."""
    there = getattr(scene.platform, endpoint)
    missing = answer(404, json={"error": "Model not found"})
    setattr(
        scene.platform,
        endpoint,
        lambda request: (missing if model_id in asked_for(request) else there)(request),
    )


def asked_for(request: httpx.Request) -> str:
    return str(request.url) + request.content.decode()


@pytest.mark.parametrize("why", ["it settles", "the platform fails"])
def test_an_update_that_comes_back_has_its_model_looked_up_again(scene: Scene, why: str) -> None:
    if why == "the platform fails":
        there, scene.platform.metrics = scene.platform.metrics, answer(503)
        scene.batch(scene.request(model_id=None))
        scene.platform.metrics = there
    else:
        scene.batch(scene.request(0, model_id=None))
    (message,) = put_off(scene)
    assert message["model_id"] is None
    active(scene, "newer")
    scene.clock.now += 60
    assert scene.batch(message) == []
    assert scene.models == {(MODEL.job_id, "newer")}


def test_an_update_of_a_named_model_comes_back_for_that_one(scene: Scene) -> None:
    scene.batch(scene.request(0))
    (message,) = put_off(scene)
    assert message["model_id"] == MODEL.model_id


@pytest.mark.parametrize("older_than", [None, 3600], ids=["at the request", "before it"])
def test_where_the_active_model_that_was_waited_for_is_gone_the_new_one_is_asked_for(
    scene: Scene, older_than: int | None
) -> None:
    scene.places = 1
    scene.invoke(scene.request(model_id="other"))
    assert outcomes(scene.invoke(scene.request(model_id=None))) == ["waiting"]
    (waker,) = put_off(scene)
    assert (waker["model_id"], waker["follows_active"]) == (MODEL.model_id, True)
    scene.places = 0
    active(scene, "newer")
    gone(scene, MODEL.model_id)
    scene.clock.now += 60
    assert outcomes(scene.invoke({**waker, "older_than_seconds": older_than})) == ["put_off"]
    assert scene.stack.dead_letters() == []
    (message,) = put_off(scene)
    assert message["model_id"] is None
    scene.clock.now += 60
    assert outcomes(scene.invoke(message)) == ["started"]
    assert (MODEL.job_id, "newer") in scene.models


def test_for_all_that_waited_for_the_model_that_is_gone_a_run_of_the_new_one_since_then_will_do(
    scene: Scene,
) -> None:
    scene.places = 1
    scene.invoke(scene.request(model_id="other"))
    scene.invoke(scene.request(50, model_id=None))
    (waker,) = put_off(scene)
    assert outcomes(scene.invoke(scene.request(40, model_id=None))) == ["gathered"]
    last_at = to_iso(scene.clock.now - 40)
    scene.places = 0
    active(scene, "newer")
    gone(scene, MODEL.model_id)
    assert outcomes(scene.invoke(scene.request(40, model_id=None))) == ["started"]
    scene.hold()
    scene.clock.now += 60
    scene.invoke(waker)
    (message,) = put_off(scene)
    assert (message["model_id"], message["happened_at"]) == (None, last_at)
    assert outcomes(scene.invoke(message)) == ["covered"]


def test_while_it_cannot_be_told_which_model_is_active_now_the_updates_wait(scene: Scene) -> None:
    gone(scene, MODEL.model_id)
    scene.platform.job = answer(503)
    pinned = scene.request(follows_active=True)
    assert outcomes(scene.invoke(pinned)) == ["put_off"]
    (message,) = put_off(scene)
    assert message["model_id"] is None


@pytest.mark.parametrize("job", [answer(404), answer(json={"active_model_id": MODEL.model_id})])
def test_where_no_other_model_is_active_a_refusal_is_a_dead_letter(scene: Scene, job: Answer) -> None:
    gone(scene, MODEL.model_id)
    scene.platform.job = job
    assert outcomes(scene.invoke(scene.request(follows_active=True))) == ["rejected"]
    assert [reason for _, reason, _ in scene.stack.dead_letters()] == ["Rejected"]


def test_an_unusable_request_is_refused(scene: Scene) -> None:
    with pytest.raises(BadInput):
        scene.invoke({"job": "1234"})
    assert scene.platform.requests == []


def test_an_upload_goes_where_its_route_says(scene: Scene) -> None:
    assert [result.outcome for result in scene.invoke(scene.upload("training-data/7/m/a+b.csv"))] == [
        "started"
    ]
    (run,) = scene.runs
    assert (run["job_id"], run["model_id"], run["cause"]["kind"]) == ("7", "m", "upload")
    assert run["cause"]["sample"] == [
        {"bucket": "bucket", "key": "training-data/7/m/a+b.csv", "version_id": "v1"}
    ]


def test_an_object_without_a_route_is_acknowledged(scene: Scene) -> None:
    assert scene.invoke(scene.upload("elsewhere/a.csv")) == []
    assert scene.stack.dead_letters() == []


@pytest.mark.parametrize("detail_type", ["Object Created", "Object Deleted"])
def test_what_is_no_new_training_data_is_acknowledged_and_counted_with_its_reason(
    scene: Scene, logs: Logs, capsys: pytest.CaptureFixture[str], detail_type: str
) -> None:
    folder = scene.upload("training-data/7/m/") | {"detail-type": detail_type}
    assert scene.invoke(folder) == []
    assert scene.models == set()
    assert scene.stack.dead_letters() == []
    metrics.flush_metrics()
    assert json.loads(capsys.readouterr().out)["UpdatesIgnored"] == [1.0]
    (line,) = logs.lines
    assert (line["message"], line["key"]) == ("no training data", "training-data/7/m/")
    assert line["reason"] == ("folder" if detail_type == "Object Created" else detail_type)


def test_a_schedule_asks_for_every_model_that_is_named_in_full(scene: Scene) -> None:
    scene.invoke({"models": "all", "happened_at": to_iso(scene.clock.now - 60)})
    assert scene.models == {("7", "a"), ("7", "b")}


def test_an_aborted_run_is_concluded_and_counted(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.invoke(scene.request())
    assert scene.invoke(run_ended(scene.runs[0])) == []
    assert len(scene.stack.executions()) == 2
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "RunsFailed" in line]
    assert [(each["reason"], each["RunsFailed"]) for each in counted] == [("ABORTED", [1.0])]


def test_an_update_that_an_aborted_run_left_behind_is_asked_for(scene: Scene) -> None:
    scene.invoke(scene.request())
    scene.hold()
    (run,) = scene.runs
    scene.clock.now += 60
    scene.invoke(scene.request(10))
    assert scene.stack.workflow_writes("ReleaseFailed", scene.stack.executions()["run-1"])
    (result,) = scene.invoke(run_ended(run))
    assert result.outcome == "started"
    assert len(scene.runs) == 2


@pytest.mark.parametrize(
    "odd",
    [
        {"cause": {"kind": "upload", "updates": 1, "first_at": "soon", "last_at": "soon", "sample": []}},
        {"cause": {"kind": "upload", "updates": 1, "first_at": AT, "last_at": 5, "sample": []}},
        {"cause": {"kind": {}, "updates": 1, "first_at": AT, "last_at": AT, "sample": []}},
        {"job_id": 1234},
        {"baseline": [1]},
        {"follows_active": "yes"},
        {"lease_until": None},
    ],
)
def test_a_run_that_is_none_is_a_dead_letter_and_holds_no_other_message_back(
    scene: Scene, odd: dict[str, object]
) -> None:
    scene.invoke(scene.request())
    (run,) = scene.runs
    ended = run_ended({**run, "run_id": "run-9", "follows_active": True, **odd})
    assert scene.batch(ended, scene.request(model_id="other")) == []
    ((_, reason, detail),) = scene.stack.dead_letters()
    assert reason == "BadInput"
    assert "the run in detail.input" in detail
    assert (MODEL.job_id, "other") in scene.models


def test_a_bug_that_one_message_meets_holds_no_other_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    scene.invoke(scene.request())
    monkeypatch.setattr(Starter, "conclude", fails)
    assert scene.batch(run_ended(scene.runs[0]), scene.request(model_id="other")) == ["0"]
    assert (MODEL.job_id, "other") in scene.models


def test_a_job_that_was_refused_is_not_asked_for_by_every_schedule(scene: Scene) -> None:
    scene.platform.metrics = answer(404, json={"error": "no such job"})
    scene.invoke(scene.upload("training-data/12345/mistyped/a.csv"))
    (execution,) = scene.stack.executions().values()
    assert scene.stack.workflow_writes("HoldModel", execution)
    assert scene.stack.workflow_writes("ReleaseFailed", execution)
    assert len(scene.stack.dead_letters()) == 1
    scene.clock.now += 86400
    jobs = {result.job_id for result in scene.invoke({"models": "all"})}
    assert "12345" not in jobs


def run_ended(run: dict[str, Any]) -> dict[str, object]:
    return {
        "source": "aws.states",
        "detail-type": "Step Functions Execution Status Change",
        "time": "2025-01-15T14:30:00Z",
        "detail": {
            "executionArn": "arn:aws:states:eu-central-1:123456789012:execution:workflow:run-1",
            "status": "ABORTED",
            "cause": None,
            "input": json.dumps({"run": run, "check": {}}),
        },
    }


# --- By the queue ----------------------------------------------------------------------------------------


def test_a_burst_for_one_model_is_one_run(scene: Scene) -> None:
    key = f"training-data/1234/{MODEL.model_id}/"
    assert scene.batch(*(scene.upload(f"{key}{n}.csv", age=60 + n) for n in range(200))) == []
    (run,) = scene.runs
    assert run["cause"]["updates"] == 200
    assert run["cause"]["first_at"] == to_iso(scene.clock.now - 259)
    assert run["cause"]["last_at"] == to_iso(scene.clock.now - 60)
    assert scene.platform.asked == ["metrics", "request"]


def test_two_batches_for_one_model_are_one_run_and_one_note(scene: Scene) -> None:
    scene.batch(scene.request(60))
    scene.hold()
    scene.clock.now += 30
    scene.batch(scene.request(20))
    assert len(scene.runs) == 1
    assert scene.stack.item()["pending_at"] == to_iso(scene.clock.now - 20)


def test_a_message_delivered_twice_leads_to_nothing_more(scene: Scene) -> None:
    message = scene.request()
    assert scene.batch(message) == []
    scene.hold()
    assert scene.batch(message) == []
    assert len(scene.runs) == 1
    assert in_queue(scene) == 0


def test_an_update_that_meets_a_claim_in_doubt_waits_in_the_queue(scene: Scene) -> None:
    scene.batch(scene.request())
    assert scene.batch(scene.request(50)) == []
    assert len(scene.runs) == 1
    assert "pending_at" not in scene.stack.item()
    assert in_queue(scene) == 1


def test_by_hand_a_claim_in_doubt_is_waited_for_as_long_as_there_is_time(scene: Scene) -> None:
    scene.invoke(scene.request())
    before = scene.clock.now
    scene.remaining = RESERVE + 2.5 * LONGEST_DOUBT
    (result,) = scene.invoke(scene.request(50))
    assert (result.outcome, scene.clock.now - before) == ("settling", 2 * LONGEST_DOUBT)
    assert in_queue(scene) == 1


def test_by_hand_an_update_is_waited_for_until_it_has_settled(scene: Scene) -> None:
    (result,) = scene.invoke(scene.request(0))
    assert result.outcome == "started"


def test_an_upload_that_invokes_the_trigger_itself_settles_in_the_queue(scene: Scene) -> None:
    before = scene.clock.now
    results = scene.invoke(scene.upload("nightly/a.csv", 0))
    assert {result.outcome for result in results} == {"settling"}
    assert scene.clock.now == before
    assert in_queue(scene) == 2


def test_uploads_that_never_cease_do_not_keep_earlier_ones_waiting(scene: Scene) -> None:
    scene.batch(*(scene.request(age, cause="upload") for age in (MARGIN + 2, MARGIN + 1, 1)))
    (run,) = scene.runs
    assert run["cause"]["updates"] == 2
    assert in_queue(scene) == 1


@pytest.mark.parametrize("garbage", ["not json", "[]", "{}", '{"job_id": true}', '{"job_id": "\\u0000"}'])
def test_one_bad_message_holds_nothing_back(scene: Scene, garbage: str) -> None:
    assert scene.batch(garbage, scene.request(), garbage) == []
    assert scene.models == {MODEL}
    letters = scene.stack.dead_letters()
    assert [(body, reason) for body, reason, _ in letters] == [(garbage, "BadInput")] * 2


def test_what_there_is_no_time_to_read_comes_again(scene: Scene) -> None:
    scene.left = chain([100.0, RESERVE - 1, RESERVE - 1], repeat(100.0)).__next__
    assert scene.batch(scene.request(), "garbage", scene.request(model_id="other")) == ["1", "2"]
    assert scene.models == {MODEL}
    assert scene.stack.dead_letters() == []


def test_an_error_that_nobody_thought_of_holds_no_other_target_back(scene: Scene, logs: Logs) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        if "unlucky" in str(request.url):
            raise ZeroDivisionError("a bug")
        return httpx.Response(200, json={"is_recomputing_metrics": False, "last_recomputed_timestamp": None})

    scene.platform.metrics = fail
    assert scene.batch(scene.request(model_id="unlucky"), scene.request()) == ["0"]
    assert MODEL in scene.models
    (line,) = [line for line in logs.lines if line["message"] == "updates stay in the queue"]
    assert (line["reason"], line["model_id"]) == ("ZeroDivisionError", "unlucky")
    assert "a bug" in line["exception"]


def test_a_fresh_update_waits_in_the_queue(scene: Scene) -> None:
    assert scene.batch(scene.request(0)) == []
    assert scene.runs == []
    assert in_queue(scene) == 1


def test_without_time_left_an_update_waits_for_the_next_invocation(scene: Scene) -> None:
    scene.left = iter([100.0, 100.0, RESERVE - 1]).__next__
    assert scene.batch(scene.request(), scene.request(70)) == []
    assert scene.platform.requests == []
    (later,) = scene.stack.waiting()
    assert (later["count"], later["attempt"], later["happened_at"]) == (2, 1, scene.request()["happened_at"])


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503], ids=lambda status: str(status))
def test_while_the_platform_cannot_be_asked_an_update_waits(scene: Scene, status: int) -> None:
    scene.platform.metrics = answer(status)
    assert scene.batch(scene.request()) == []
    assert in_queue(scene) == 1
    assert "run_id" not in scene.stack.item()


def test_an_update_that_waits_remembers_since_when(scene: Scene) -> None:
    scene.platform.metrics = answer(503)
    since = to_iso(scene.clock.now - 100)
    scene.batch(scene.request(200, attempt=3, waiting_since=since))
    (message,) = scene.stack.sqs.receive_message(QueueUrl=scene.stack.updates_url, WaitTimeSeconds=5)[
        "Messages"
    ]
    later = json.loads(message["Body"])
    assert (later["attempt"], later["waiting_since"]) == (4, since)
    assert later["happened_at"] == to_iso(scene.clock.now - 200)


def test_an_update_that_waited_too_long_is_given_up_with_its_reason(scene: Scene) -> None:
    scene.platform.metrics = answer(503)
    since = to_iso(scene.clock.now - RETRIES.give_up_after)
    assert scene.batch(scene.request(9999, attempt=40, waiting_since=since)) == []
    assert in_queue(scene) == 0
    ((body, reason, detail),) = scene.stack.dead_letters()
    assert reason == "PlatformUnavailable"
    assert "503" in detail
    # A re-drive begins anew, and works once the cause is gone.
    assert (json.loads(body)["attempt"], json.loads(body)["waiting_since"]) == (0, None)
    scene.platform.metrics = answer(json={"is_recomputing_metrics": False, "last_recomputed_timestamp": None})
    assert scene.batch(body) == []
    assert scene.models == {MODEL}


@pytest.mark.parametrize("endpoint", ["job", "metrics", "request"])
def test_what_the_platform_rejects_is_a_dead_letter(scene: Scene, endpoint: str) -> None:
    setattr(scene.platform, endpoint, answer(404, json={"error": "Not found", "details": ""}))
    assert scene.batch(scene.request(model_id=None)) == []
    ((body, reason, detail),) = scene.stack.dead_letters()
    assert json.loads(body)["job_id"] == MODEL.job_id
    assert reason == "Rejected"
    assert "Not found" in detail


# --- What stays in the queue -----------------------------------------------------------------------------


def test_when_nothing_can_be_done_the_messages_of_that_target_come_again(scene: Scene) -> None:
    scene.platform.metrics = answer(503)
    gone = scene.stack.updates_url + "-gone"
    other = scene.request(model_id="other")
    assert set(scene.batch(scene.request(), other, scene.request(), updates=gone)) == {"0", "1", "2"}


def test_a_bad_message_comes_again_while_the_dead_letter_queue_is_away(scene: Scene) -> None:
    gone = scene.stack.dead_letter_url + "-gone"
    assert scene.batch("garbage", scene.request(), dead_letters=gone) == ["0"]
    assert scene.models == {MODEL}


def test_uploads_come_again_while_the_routes_are_away(scene: Scene) -> None:
    upload = scene.upload("nightly/a.csv")
    assert scene.batch(upload, scene.request(), routes="gone") == ["0"]
    assert scene.models == {MODEL}


def test_uploads_come_again_while_there_are_no_routes_that_are_right(scene: Scene) -> None:
    wrong = never_right(scene)
    assert scene.batch(scene.upload("nightly/a.csv"), scene.request(), routes=wrong) == ["0"]
    assert scene.models == {MODEL}


def test_a_bad_edit_of_the_routes_holds_nothing_up(scene: Scene) -> None:
    scene.stack.set_routes({"routes": "none"})
    assert scene.batch(scene.upload("nightly/a.csv")) == []
    assert scene.models == {("7", "a"), ("7", "b")}


def never_right(scene: Scene) -> str:
    """A parameter of which no version holds routes."""
    scene.stack.ssm.put_parameter(Name="wrong", Value="none", Type="String")
    return "wrong"


def test_by_direct_invocation_the_caller_is_told(scene: Scene) -> None:
    with pytest.raises(AwsUnavailable):
        scene.invoke(scene.upload("nightly/a.csv"), routes="gone")
    with pytest.raises(ConfigurationError):
        scene.invoke(scene.upload("nightly/a.csv"), routes=never_right(scene))


@pytest.mark.parametrize("away", ["ledger", "workflow"])
def test_while_aws_fails_an_update_waits(scene: Scene, away: str) -> None:
    elsewhere = {"ledger": "gone", "workflow": scene.stack.workflow_arn + "-gone"}[away]
    (result,) = scene.invoke(scene.request(), **{away: elsewhere})
    assert result.outcome == "put_off"
    assert result.detail.startswith("AwsUnavailable")
    assert in_queue(scene) == 1


def in_queue(scene: Scene) -> int:
    """How many messages lie in the updates queue, visible or not."""
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    found = scene.stack.sqs.get_queue_attributes(QueueUrl=scene.stack.updates_url, AttributeNames=names)
    return sum(int(number) for number in found["Attributes"].values())


# --- How long to wait ------------------------------------------------------------------------------------

retry_settings = st.builds(
    RetrySettings, interval=st.floats(0, 300), maximum=st.floats(0, 3600), give_up_after=st.just(3600.0)
)
jitters = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10**9), st.none() | st.floats(0, 1e12), retry_settings, jitters)
def test_every_delay_is_one_that_sqs_takes(
    attempt: int, retry_after: float | None, retries: RetrySettings, jitter: float
) -> None:
    delay = retry_delay(attempt, retry_after, retries, jitter)
    assert isinstance(delay, int)
    assert 1 <= delay <= LONGEST_DELAY


@given(st.integers(0, 50), st.floats(0, 800), jitters)
def test_the_platform_s_wish_is_granted(attempt: int, retry_after: float, jitter: float) -> None:
    delay = retry_delay(attempt, retry_after, RETRIES, jitter)
    assert retry_after <= delay <= retry_after + 1


@given(st.integers(0, 50), jitters)
def test_no_delay_is_longer_than_the_settings_allow(attempt: int, jitter: float) -> None:
    assert retry_delay(attempt, None, RETRIES, jitter) <= RETRIES.maximum


@pytest.mark.parametrize(("attempt", "longest"), [(0, 5), (1, 10), (2, 20), (5, 160), (6, 300), (1000, 300)])
def test_delays_double_up_to_the_maximum(attempt: int, longest: int) -> None:
    assert retry_delay(attempt, None, RETRIES, 0.9999999) == longest
    assert retry_delay(attempt, None, RETRIES, 0.5) == max(1, round(longest / 2))
    assert retry_delay(attempt, None, RETRIES, 0.0) == 1
