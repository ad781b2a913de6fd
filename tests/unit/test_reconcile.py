"""Read one entry, decide, do one thing: with the ledger in moto and a scripted platform."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import httpx
import pytest

from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.protocol import reconcile
from arcanna_metrics.protocol import start as protocol_start
from arcanna_metrics.protocol.check_up import MOST_RESUMPTIONS
from arcanna_metrics.protocol.entry import Element, Entry
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.protocol.reconcile import MOST_FAILURES, RESERVE
from arcanna_metrics.protocol.services import Services
from arcanna_metrics.protocol.slots import Slots
from arcanna_metrics.protocol.transitions import CHECK_UP_INTERVAL, CLAIM_LIFETIME, hold, record
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.updates import Update
from arcanna_metrics.workflow import Execution, Workflow
from tests.support.doubles import (
    ACTIVE_TARGET,
    BASELINE,
    MODEL,
    PACE,
    TARGET,
    Answer,
    Clock,
    ScriptedPlatform,
    Stack,
    answer,
    metrics_body,
    no_answer,
    request_body,
)

LONG = 100.0
OTHERS = [Target("7", f"model-{number}") for number in range(9)]


class Executions:
    """Step Functions: what was started, and what it says of each execution."""

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

    def describe(self, run_id: str, number: int) -> Execution | None:
        name = _name(run_id, number)
        if name not in self.running:
            return None
        return Execution(self.running[name], json.dumps(self.inputs[name]))

    def end(self, name: str) -> None:
        self.running[name] = False


def _name(run_id: str, number: int) -> str:
    return f"{run_id}-{number}" if number else run_id


class Scene:
    """A reconciler with everything around it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.clock = Clock()
        self.platform = ScriptedPlatform(answer(json=metrics_body(model_id=None)))
        self.executions = Executions()
        self.pace = PACE
        self.ledger = Ledger(stack.dynamodb, stack.ledger_table, self.clock)
        numbers = count(1)
        self.services = Services(
            self.ledger,
            Slots(stack.dynamodb, stack.ledger_table, self.ledger),
            self.executions,  # type: ignore[arg-type]  # has the workflow's methods
            self.platform.client(),
            lambda job_id: JobSettings(self.pace, {"largest_drop": {"overall_accuracy": 0.1}}),
            "bus",
            self.clock,
            draw=lambda: 0.5,
            new_id=lambda: f"run-{next(numbers)}",
        )

    def update(self, target: Target = TARGET, age: float = 60.0, **fields: Any) -> Entry:
        """Records an update that happened so long ago."""
        update = Update(target, self.clock.now - age, fields.pop("cause", "upload"), **fields)
        entry = self.ledger.apply(target, lambda entry: record(entry, [update], self.pace))
        assert entry
        return entry

    def look(self, remaining: Callable[[], float] = lambda: LONG) -> None:
        reconcile.look(self.services, remaining)

    def started(self, target: Target = TARGET) -> str:
        """A run of the target whose execution holds it."""
        self.update(target)
        self.look()
        run_id = self.entry(target).run_id
        assert run_id
        self.ledger.apply(target, lambda entry: hold(entry, run_id, 0, self.clock.now))
        return run_id

    def entry(self, target: Target = TARGET) -> Entry:
        return self.ledger.read(target)

    def at_due(self, target: Target = TARGET) -> None:
        """The moment when somebody has to look at the target."""
        due_at = self.entry(target).due_at
        assert due_at is not None
        self.clock.now = max(self.clock.now, due_at)


@pytest.fixture
def scene(stack: Stack) -> Scene:
    return Scene(stack)


# --- A run is started ------------------------------------------------------------------------------------


def test_visible_update_starts_a_run_that_the_workflow_follows(scene: Scene) -> None:
    scene.update()
    scene.look()
    entry = scene.entry()
    assert (entry.run_id, entry.held, entry.requested_at) == ("run-1", False, scene.clock.now)
    assert entry.due_at == scene.clock.now + CLAIM_LIFETIME
    assert scene.platform.asked == ["metrics", "request"]
    run = scene.executions.inputs["run-1"]["run"]
    assert run["target"] == {"job_id": MODEL.job_id, "model_id": MODEL.model_id}
    assert run["requested_at"] == to_iso(scene.clock.now)
    assert run["baseline"]["last_recomputed_timestamp"] == BASELINE
    assert run["cause"]["kind"] == "upload"
    assert scene.executions.inputs["run-1"]["check"]["status"] == "running"
    assert scene.executions.inputs["run-1"]["number"] == 0


def test_update_that_is_not_visible_yet_starts_nothing_and_writes_nothing(scene: Scene) -> None:
    entry = scene.update(age=1.0)
    scene.look()
    assert scene.entry() == entry
    assert scene.platform.asked == []


def test_recorded_target_is_started_before_the_index_shows_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.update()
    monkeypatch.setattr(scene.ledger, "due", lambda now: iter(()))
    reconcile.look(scene.services, lambda: LONG, [TARGET])
    assert scene.entry().run_id == "run-1"


def test_second_look_while_a_run_is_under_way_does_nothing(scene: Scene) -> None:
    scene.started()
    before = scene.entry()
    scene.look()
    assert scene.entry() == before
    assert scene.platform.asked == ["metrics", "request"]


def test_run_bears_the_settings_it_began_with(scene: Scene) -> None:
    scene.pace = replace(PACE, start_grace=77, shortest_poll=7, longest_poll=70, run_deadline=500)
    scene.started()
    run = scene.executions.inputs["run-1"]["run"]
    assert run["pace"] == {"start_grace": 77, "shortest_poll": 7, "longest_poll": 70}
    assert run["gate"] == {"largest_drop": {"overall_accuracy": 0.1}}
    assert run["deadline_at"] == to_iso(scene.clock.now + 500)


def test_active_model_is_resolved_when_the_run_starts(scene: Scene) -> None:
    scene.update(ACTIVE_TARGET)
    scene.look()
    run = scene.executions.inputs["run-1"]["run"]
    assert scene.platform.asked == ["job", "metrics", "request"]
    assert (run["target"]["model_id"], run["model_id"]) == (None, MODEL.model_id)


def test_job_without_an_active_model_is_a_run_that_failed(scene: Scene) -> None:
    scene.platform.job = answer(json={"active_model_id": None})
    scene.update(ACTIVE_TARGET)
    scene.look()
    check = scene.executions.inputs["run-1"]["check"]
    assert (check["status"], check["outcome"]["reason"]) == ("failed", "Rejected")
    assert scene.entry(ACTIVE_TARGET).run_id == "run-1"


def test_active_model_that_is_replaced_while_its_run_is_started_is_no_failure(scene: Scene) -> None:
    scene.platform.metrics = answer(404, json={"error": "Model not found"})
    active = iter(["an old model", "a new model"])
    scene.platform.job = lambda request: httpx.Response(200, json={"active_model_id": next(active)})
    scene.update(ACTIVE_TARGET)
    scene.look()
    assert scene.executions.inputs == {}
    assert scene.entry(ACTIVE_TARGET).attempts == 1


def test_platform_that_asks_for_years_is_asked_again_within_the_hour(scene: Scene) -> None:
    scene.platform.metrics = answer(503, headers={"Retry-After": "999999999"})
    scene.update()
    scene.look()
    assert scene.entry().due_at == scene.clock.now + 3600


@pytest.mark.parametrize("status", [404, 422])
def test_rejected_request_is_a_run_that_failed(scene: Scene, status: int) -> None:
    scene.platform.request = answer(status, json={"error": "Model not found"})
    scene.update()
    scene.look()
    assert scene.executions.inputs["run-1"]["check"]["outcome"]["result"]["outcome"] == "failed"
    assert scene.entry().run_id == "run-1"


def test_request_that_the_platform_answers_as_failed_is_a_run_that_failed(scene: Scene) -> None:
    scene.platform.request = answer(json=request_body(status="failed"))
    scene.update()
    scene.look()
    assert scene.executions.inputs["run-1"]["check"]["outcome"]["reason"] == "RequestFailed"


# --- A run cannot be started -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metrics",
    [
        answer(503),
        answer(429),
        answer(401),
        no_answer(httpx.ConnectTimeout("slow")),
        answer(json={"status": "error", "error_message": "no"}),
        answer(json=metrics_body(is_recomputing_metrics=True)),
    ],
)
def test_attempt_that_fails_leaves_the_target_due_with_backoff(scene: Scene, metrics: Answer) -> None:
    scene.platform.metrics = metrics
    waiting = scene.update()
    scene.look()
    entry = scene.entry()
    assert (entry.run_id, entry.attempts, entry.needed_as_of) == (None, 1, waiting.needed_as_of)
    assert entry.due_at == entry.retry_at == scene.clock.now + PACE.retry_interval * 0.5
    assert "request" not in scene.platform.asked
    assert scene.executions.inputs == {}


def test_backoff_doubles_up_to_its_maximum(scene: Scene) -> None:
    scene.platform.metrics = answer(503)
    scene.update()
    waits = []
    for _ in range(9):
        scene.look()
        waits.append((scene.entry().due_at or 0.0) - scene.clock.now)
        scene.at_due()
    assert waits == [2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 150.0, 150.0, 150.0]


def test_wish_of_the_platform_is_honoured(scene: Scene) -> None:
    scene.platform.metrics = answer(429, headers={"Retry-After": "120"})
    scene.update()
    scene.look()
    assert scene.entry().due_at == scene.entry().not_before == scene.clock.now + 120


def test_request_by_hand_overrides_backoff_but_not_the_platform(scene: Scene) -> None:
    scene.platform.metrics = answer(503)
    scene.update()
    scene.look()
    assert scene.update(age=0.0, by_hand=True).retry_at is None
    scene.platform.metrics = answer(429, headers={"Retry-After": "120"})
    scene.look()
    not_before = scene.clock.now + 120
    scene.clock.now += 1
    assert scene.update(age=0.0, by_hand=True).due_at == not_before


@pytest.mark.parametrize("request_", [answer(502), no_answer(httpx.ReadTimeout("slow"))])
def test_after_a_request_of_unknown_effect_the_start_grace_passes(scene: Scene, request_: Answer) -> None:
    scene.platform.request = request_
    scene.update()
    scene.look()
    assert scene.entry().due_at == scene.clock.now + PACE.start_grace
    assert scene.platform.asked.count("request") == 1


def test_request_that_never_arrived_is_soon_made_again(scene: Scene) -> None:
    scene.platform.request = no_answer(httpx.ConnectError("refused"))
    scene.update()
    scene.look()
    assert scene.entry().due_at == scene.clock.now + 2.5


def test_platform_that_is_away_is_asked_a_few_times_in_a_look(scene: Scene) -> None:
    scene.platform.metrics = answer(503)
    for target in OTHERS:
        scene.update(target)
    scene.look()
    assert len(scene.platform.asked) == MOST_FAILURES


def test_target_that_is_busy_holds_up_no_other(scene: Scene) -> None:
    scene.platform.metrics = answer(json=metrics_body(model_id=None, is_recomputing_metrics=True))
    for target in OTHERS:
        scene.update(target)
    scene.look()
    assert len(scene.platform.asked) == len(OTHERS)


def test_bug_that_one_entry_meets_postpones_that_entry_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.update(OTHERS[0], age=90)
    scene.update(TARGET)
    start = protocol_start.start

    def buggy(services: Services, claimed: Entry) -> None:
        if claimed.target == OTHERS[0]:
            raise ZeroDivisionError
        start(services, claimed)

    monkeypatch.setattr(reconcile, "start", buggy)
    scene.look()
    assert scene.entry().run_id
    assert (scene.entry(OTHERS[0]).due_at or 0.0) > scene.clock.now


def test_bug_while_a_run_is_started_keeps_neither_the_target_nor_the_slot(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.pace = replace(PACE, slots=1)
    scene.update(OTHERS[0], age=90)
    scene.update(TARGET)
    start = protocol_start.start

    def buggy(services: Services, claimed: Entry) -> None:
        if claimed.target == OTHERS[0]:
            raise ZeroDivisionError
        start(services, claimed)

    monkeypatch.setattr(reconcile, "start", buggy)
    scene.look()
    assert scene.entry(OTHERS[0]).run_id is None
    assert scene.entry(OTHERS[0]).due_at == scene.clock.now + PACE.start_grace
    assert scene.entry().run_id


def test_check_ups_of_full_slots_end_in_time(scene: Scene) -> None:
    scene.pace = replace(PACE, slots=3)
    for target in OTHERS[:3]:
        scene.started(target)
    for target in OTHERS[:3]:
        scene.ledger.apply(target, lambda entry: replace(entry, due_at=scene.clock.now))
    before = [scene.entry(target) for target in OTHERS[:3]]
    scene.look(lambda: RESERVE - 1)
    assert [scene.entry(target) for target in OTHERS[:3]] == before


def test_look_ends_in_time(scene: Scene) -> None:
    scene.update()
    scene.look(lambda: RESERVE - 1)
    assert scene.platform.asked == []
    assert (scene.entry().due_at or 0.0) <= scene.clock.now


def test_workflow_that_cannot_be_started_gives_the_claim_back(scene: Scene) -> None:
    scene.executions.fails = AwsUnavailable("throttled")
    scene.update()
    scene.look()
    assert scene.entry().run_id is None
    assert scene.entry().due_at == scene.clock.now + PACE.start_grace  # the recompute may be queued


def test_claim_whose_execution_holds_the_target_is_not_given_back(scene: Scene) -> None:
    """StartExecution seemed to fail, and had its effect."""
    scene.update()
    start = scene.executions.start

    def start_late(run_id: str, given: str, number: int = 0) -> None:
        start(run_id, given, number)
        scene.ledger.apply(TARGET, lambda entry: hold(entry, run_id, 0, scene.clock.now))
        raise AwsUnavailable("no answer")

    scene.executions.start = start_late  # type: ignore[method-assign]
    scene.look()
    assert (scene.entry().run_id, scene.entry().held) == ("run-1", True)


# --- Wishes ----------------------------------------------------------------------------------------------


def test_wish_that_the_platforms_own_timestamp_satisfies_needs_no_run(scene: Scene) -> None:
    scene.platform.metrics = answer(json=metrics_body(last_recomputed_timestamp=to_iso(scene.clock.now - 50)))
    scene.update(age=0.0, older_than=100.0)
    scene.look()
    assert scene.entry().due_at is None
    assert scene.entry().fresh_as_of is None
    assert scene.platform.asked == ["metrics"]


@pytest.mark.parametrize("timestamp", [None, "", "yesterday", "2036-01-01T00:00:00Z", "2001-01-01T00:00:00Z"])
def test_wish_for_metrics_of_no_known_or_an_old_time_starts_a_run(
    scene: Scene, timestamp: str | None
) -> None:
    scene.platform.metrics = answer(json=metrics_body(last_recomputed_timestamp=timestamp))
    scene.update(age=0.0, older_than=100.0)
    scene.look()
    assert scene.platform.asked == ["metrics", "request"]


def test_wish_beside_an_update_starts_a_run_however_fresh_the_platform_is(scene: Scene) -> None:
    scene.platform.metrics = answer(json=metrics_body(last_recomputed_timestamp=to_iso(scene.clock.now - 50)))
    scene.update(age=0.0, older_than=100.0)
    scene.update()
    scene.look()
    assert scene.platform.asked == ["metrics", "request"]


# --- Slots -----------------------------------------------------------------------------------------------


def test_no_more_runs_are_started_than_there_are_slots_the_longest_due_first(scene: Scene) -> None:
    scene.pace = replace(PACE, slots=2)
    for number, target in enumerate(OTHERS):
        scene.update(target, age=100.0 - number)
    scene.look()
    scene.look()
    assert [bool(scene.entry(target).run_id) for target in OTHERS] == [True, True] + [False] * 7


def test_target_that_waits_for_a_slot_stays_due_as_it_was(scene: Scene) -> None:
    scene.pace = replace(PACE, slots=1)
    scene.started(OTHERS[0])
    waiting = scene.update(OTHERS[1])
    scene.look()
    assert scene.entry(OTHERS[1]) == waiting


def test_dead_holder_of_the_last_slot_is_checked_although_none_is_free(scene: Scene) -> None:
    scene.pace = replace(PACE, slots=1)
    scene.update(OTHERS[0])
    scene.look()
    scene.executions.running.clear()  # the invocation died before it started the execution
    scene.update(OTHERS[1])
    scene.at_due(OTHERS[0])
    scene.look()
    assert scene.entry(OTHERS[0]).run_id is None
    assert scene.entry(OTHERS[1]).run_id == "run-2"


# --- Looking after a run ---------------------------------------------------------------------------------


def test_execution_that_still_runs_is_looked_at_again_within_the_hour(scene: Scene) -> None:
    run_id = scene.started()
    scene.at_due()
    scene.look()
    assert scene.entry().run_id == run_id
    assert scene.entry().due_at == scene.clock.now + CHECK_UP_INTERVAL


def test_claim_without_an_execution_is_taken_back_when_its_invocation_is_over(scene: Scene) -> None:
    scene.update()
    scene.look()
    scene.executions.running.clear()
    scene.clock.now += CLAIM_LIFETIME - 1
    scene.look()
    assert scene.entry().run_id == "run-1"
    scene.clock.now += 1
    scene.look()
    assert (scene.entry().run_id, scene.entry().attempts) == (None, 1)


def test_report_about_a_young_claim_changes_nothing_but_the_time_of_the_next_look(scene: Scene) -> None:
    scene.update()
    scene.look()
    scene.executions.end("run-1")
    scene.ledger.apply(TARGET, lambda entry: replace(entry, due_at=scene.clock.now))
    scene.look()
    assert scene.entry().run_id == "run-1"
    assert scene.entry().due_at == scene.clock.now + CLAIM_LIFETIME


def test_run_whose_execution_ended_early_goes_on_in_another_one(scene: Scene) -> None:
    run_id = scene.started()
    scene.executions.end(run_id)
    scene.at_due()
    scene.look()
    entry = scene.entry()
    assert (entry.run_id, entry.resumed, entry.held) == (run_id, 1, True)
    first, again = scene.executions.inputs[run_id], scene.executions.inputs[f"{run_id}-1"]
    assert again == {**first, "number": 1}
    assert scene.platform.asked.count("request") == 1


def test_resumption_whose_look_died_is_started_by_the_next_one(scene: Scene) -> None:
    run_id = scene.started()
    scene.executions.end(run_id)
    scene.executions.fails = AwsUnavailable("throttled")
    scene.at_due()
    scene.look()
    assert (scene.entry().resumed, f"{run_id}-1" in scene.executions.inputs) == (1, False)
    scene.executions.fails = None
    scene.at_due()
    scene.look()
    assert scene.entry().resumed == 1
    assert scene.executions.inputs[f"{run_id}-1"]["number"] == 1


def test_run_that_no_execution_can_end_is_taken_back_after_three_resumptions(scene: Scene) -> None:
    run_id = scene.started()
    for _ in range(MOST_RESUMPTIONS + 1):
        assert scene.entry().run_id == run_id
        scene.executions.end(_name(run_id, scene.entry().resumed))
        scene.at_due()
        scene.look()
    entry = scene.entry()
    assert (entry.run_id, entry.fresh_as_of, entry.failed_as_of, entry.attempts) == (None, None, None, 1)
    assert entry.dirty


def test_held_run_without_any_execution_is_taken_back(scene: Scene) -> None:
    """The state machine was replaced, or 90 days have passed."""
    scene.started()
    scene.executions.running.clear()
    scene.at_due()
    scene.look()
    assert scene.entry().run_id is None
    assert scene.entry().dirty


# --- Names of jobs ---------------------------------------------------------------------------------------


NAMED = Target("security-alerts", MODEL.model_id)


@pytest.fixture
def with_names(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What names the key may look up."""
    names: dict[str, str] = {}
    monkeypatch.setattr(scene.services.arcanna, "job_id_of", names.get, raising=False)
    return names


def test_update_by_a_jobs_name_is_recorded_and_started_under_its_id(
    scene: Scene, with_names: dict[str, str]
) -> None:
    with_names["security-alerts"] = "1234"
    scene.update(NAMED)
    scene.look()
    assert scene.entry().run_id == "run-1"
    assert scene.executions.inputs["run-1"]["run"]["job_id"] == "1234"
    mailbox = scene.entry(NAMED)
    assert not mailbox.dirty
    assert mailbox.due_at is None


def test_name_and_id_of_one_job_are_asked_for_once(scene: Scene, with_names: dict[str, str]) -> None:
    with_names["security-alerts"] = "1234"
    scene.update(NAMED)
    scene.update(TARGET)
    scene.look()
    scene.look()
    assert scene.platform.asked.count("request") == 1


def test_name_that_is_reused_leads_to_the_job_that_has_it_now(
    scene: Scene, with_names: dict[str, str]
) -> None:
    with_names["security-alerts"] = "1234"
    scene.update(NAMED)
    scene.look()
    with_names["security-alerts"] = "99"
    scene.clock.now += 100
    scene.update(NAMED)
    scene.look()
    assert scene.entry(Target("99", MODEL.model_id)).run_id == "run-2"


def test_name_that_nobody_can_look_up_has_a_run_of_its_own(scene: Scene, with_names: dict[str, str]) -> None:
    scene.update(NAMED)
    scene.look()
    run = scene.executions.inputs["run-1"]["run"]
    assert (run["job_id"], run["platform_job_id"]) == ("security-alerts", "1234")


def test_name_whose_id_the_platform_has_told_is_forwarded(scene: Scene, with_names: dict[str, str]) -> None:
    scene.update(NAMED)
    scene.ledger.apply(NAMED, lambda entry: replace(entry, name_of="1234"))
    scene.look()
    assert scene.entry().run_id == "run-1"


def test_learned_id_that_the_platform_does_not_know_any_more_is_learned_anew(
    scene: Scene, with_names: dict[str, str]
) -> None:
    scene.update(NAMED)
    scene.ledger.apply(NAMED, lambda entry: replace(entry, name_of="1234"))
    failure: Any = {"reason": "Rejected"}
    scene.ledger.apply(TARGET, lambda entry: replace(entry, last_failure=failure))
    scene.look()
    assert scene.executions.inputs["run-1"]["run"]["job_id"] == "security-alerts"


def test_batch_by_name_is_recorded_under_the_id_once(scene: Scene, with_names: dict[str, str]) -> None:
    with_names["security-alerts"] = "1234"
    element = Element("same", scene.clock.now - 1, 1_000_000, scene.clock.now)
    for target in (NAMED, TARGET):
        scene.ledger.apply(target, lambda entry: replace(entry, batch=(element,), due_at=scene.clock.now))
    scene.look()
    assert scene.entry().batch == (element,)


def test_workflow_names_executions_by_run_and_number(stack: Stack) -> None:
    workflow = Workflow(stack.states, stack.workflow_arn)
    workflow.start("run-1", "{}")
    workflow.start("run-1", "{}", 1)
    workflow.start("run-1", "{}", 1)
    assert set(stack.executions()) == {"run-1", "run-1-1"}
    assert workflow.describe("run-1", 2) is None
    found = workflow.describe("run-1", 1)
    assert found
    assert found.input == "{}"
