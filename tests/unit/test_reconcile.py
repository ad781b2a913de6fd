"""Reconcile reads an entry, decides, and does one thing. The ledger is in moto, the platform is scripted."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from arcanna_metrics.controller import reconcile
from arcanna_metrics.controller import start as starting
from arcanna_metrics.controller.holding import release
from arcanna_metrics.controller.reconcile import MOST_FAILURES, RESERVE
from arcanna_metrics.controller.services import Services
from arcanna_metrics.errors import AwsUnavailable, PlatformUnavailable
from arcanna_metrics.observability import metrics
from arcanna_metrics.platform.model_metrics import ModelMetrics
from arcanna_metrics.protocol import slots
from arcanna_metrics.protocol.check_up import CHECK_UP_INTERVAL, MOST_EXECUTIONS
from arcanna_metrics.protocol.decide import Postponement
from arcanna_metrics.protocol.entry import NEVER, Claim, Element, Entry
from arcanna_metrics.protocol.ledger import ACTIVE, key_of
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME, claim, give_back, hold, postpone
from arcanna_metrics.runs.quality import Reference
from arcanna_metrics.runs.run import Result
from arcanna_metrics.targets import WHOLE, Model, Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.workflow import Workflow
from tests.support.doubles import (
    ACTIVE_TARGET,
    BASELINE,
    MODEL,
    NOT_FOUND,
    PACE,
    TARGET,
    Answer,
    Stack,
    answer,
    metrics_body,
    no_answer,
    request_body,
)
from tests.unit.harness import LONG, Harness

OTHERS = [Target("7", f"model-{number}") for number in range(9)]


# --- A run is started ------------------------------------------------------------------------------------


def test_visible_update_starts_a_run_that_the_workflow_follows(harness: Harness) -> None:
    harness.update()
    harness.look()
    entry = harness.entry()
    assert entry.claim == Claim("run-1", harness.clock.now)
    assert entry.due_at == harness.clock.now + CLAIM_LIFETIME
    assert harness.platform.asked == ["metrics", "request"]
    run = harness.executions.inputs["run-1"]["run"]
    assert run["target"] == {"job_id": MODEL.job_id, "model_id": MODEL.model_id}
    assert run["requested_at"] == to_iso(harness.clock.now)
    assert run["baseline"]["last_recomputed_timestamp"] == BASELINE
    assert run["cause"]["kind"] == "upload"
    assert harness.executions.inputs["run-1"]["check"]["status"] == "running"
    assert harness.executions.inputs["run-1"]["number"] == 0


@pytest.mark.parametrize("levels", [99, 100, 9_981, 9_982])
def test_every_request_is_followed_however_deeply_the_metrics_are_nested(
    harness: Harness, levels: int
) -> None:
    """Python 3.13 reads JSON with 9,982 levels, but cannot write it as a part of the workflow's input."""
    deep = json.dumps(metrics_body(confusion_matrix="X")).replace('"X"', "[" * levels + "]" * levels)
    harness.platform.metrics = answer(content=deep.encode())
    harness.update()
    for _ in range(3):
        harness.look()
        harness.until_due()
    assert harness.platform.asked.count("request") == len(harness.executions.inputs) == (levels < 100)


def test_metrics_too_large_for_the_workflow_become_a_baseline_of_overall_scores(harness: Harness) -> None:
    harness.platform.metrics = answer(json=metrics_body(confusion_matrix=[[0] * 200] * 200))
    harness.update()
    harness.look()
    baseline = harness.executions.inputs["run-1"]["run"]["baseline"]
    assert (baseline["overall_accuracy"], baseline["confusion_matrix"]) == (0.75, None)
    assert baseline["last_recomputed_timestamp"] == BASELINE


def test_metrics_too_large_for_the_workflow_are_compared_all_the_same(harness: Harness) -> None:
    matrix = [[100 if row == column else 0 for column in range(200)] for row in range(200)]
    harness.platform.metrics = answer(json=metrics_body(confusion_matrix=matrix))
    harness.update()
    harness.look()
    run = harness.executions.inputs["run-1"]["run"]
    assert (run["baseline"]["confusion_matrix"], run["baseline_cut"]) == (None, True)
    assert run["reference"] == {"overall_accuracy": [0.75, 20000]}


def test_number_that_is_left_out_does_not_count_as_metrics_too_large_to_compare(harness: Harness) -> None:
    decisions = {"Drop": {"recall": 0.9, "true_positives": 2**63}}
    harness.platform.metrics = answer(json=metrics_body(metrics_per_decision=decisions))
    harness.update()
    harness.look()
    run = harness.executions.inputs["run-1"]["run"]
    assert run["baseline"]["metrics_per_decision"] == {"Drop": {"recall": 0.9, "true_positives": None}}
    assert not run["baseline_cut"]


def compared_with(harness: Harness, target: Target = TARGET) -> Any:
    """The reference of a run of the target that starts now."""
    run_id = harness.started(target)
    return harness.executions.inputs[run_id]["run"]["reference"]


def reference(accuracy: float) -> Reference:
    return {"overall_accuracy": (accuracy, 100)}


BOTH = pytest.mark.parametrize("target", [TARGET, ACTIVE_TARGET])


@BOTH
def test_model_has_one_reference_by_its_id_and_as_the_active_one(harness: Harness, target: Target) -> None:
    harness.stack.put(Entry(TARGET, quality_reference=reference(0.95)))
    assert compared_with(harness, target) == {"overall_accuracy": [0.95, 100]}


@BOTH
def test_reference_of_another_model_does_not_count(harness: Harness, target: Target) -> None:
    harness.stack.put(Entry(Target(TARGET.job_id, "trained anew"), quality_reference=reference(0.95)))
    assert compared_with(harness, target) == {"overall_accuracy": [0.75, 4]}


@pytest.mark.parametrize(("target", "other"), [(TARGET, ACTIVE_TARGET), (ACTIVE_TARGET, TARGET)])
def test_model_that_gets_worse_during_its_first_run_is_worse_in_a_run_by_its_other_target_too(
    harness: Harness, target: Target, other: Target
) -> None:
    harness.platform.metrics = answer(json=metrics_body(overall_accuracy=0.95))
    assert compared_with(harness, target) == {"overall_accuracy": [0.95, 4]}
    harness.platform.metrics = answer(json=metrics_body(overall_accuracy=0.75))
    assert compared_with(harness, other) == {"overall_accuracy": [0.95, 4]}


@BOTH
def test_baseline_that_somebody_elses_recompute_improved_raises_the_reference(
    harness: Harness, target: Target
) -> None:
    harness.stack.put(Entry(TARGET, quality_reference=reference(0.5)))
    compared = compared_with(harness, target)
    assert compared == {"overall_accuracy": [0.75, 4]}
    assert harness.entry(TARGET).quality_reference == compared


def test_update_not_yet_visible_starts_and_writes_nothing(harness: Harness) -> None:
    entry = harness.update(age=1.0)
    harness.look()

    assert harness.entry() == entry
    assert harness.platform.asked == []


def test_recorded_target_is_started_before_the_index_shows_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.update()
    monkeypatch.setattr(harness.ledger, "due", lambda now: iter(()))
    reconcile.look(harness.services, lambda: LONG, [TARGET])

    assert harness.entry().run_id == "run-1"


def test_second_look_while_a_run_is_under_way_does_nothing(harness: Harness) -> None:
    harness.started()
    before = harness.entry()
    harness.look()

    assert harness.entry() == before
    assert harness.platform.asked == ["metrics", "request"]


def test_run_keeps_the_settings_it_began_with(harness: Harness) -> None:
    harness.pace = replace(PACE, start_grace=77, shortest_poll=7, longest_poll=70, deadline=500)
    harness.started()
    run = harness.executions.inputs["run-1"]["run"]

    assert run["pace"] == {"deadline": 500, "start_grace": 77, "shortest_poll": 7, "longest_poll": 70}
    assert run["gate"]["largest_drop"] == {"overall_accuracy": 0.1}


def test_active_model_is_resolved_when_the_run_starts(harness: Harness) -> None:
    harness.update(ACTIVE_TARGET)
    harness.look()
    run = harness.executions.inputs["run-1"]["run"]

    assert harness.platform.asked == ["job", "metrics", "request"]
    assert (run["target"]["model_id"], run["model_id"]) == (None, MODEL.model_id)


def test_job_without_an_active_model_is_a_failed_run(harness: Harness) -> None:
    harness.platform.job = answer(json={"active_model_id": None})
    harness.update(ACTIVE_TARGET)
    harness.look()
    check = harness.executions.inputs["run-1"]["check"]

    assert (check["status"], check["outcome"]["result"]["failure"]["reason"]) == ("failed", "Rejected")
    assert harness.entry(ACTIVE_TARGET).run_id == "run-1"


def test_active_model_replaced_during_the_start_is_retried(harness: Harness) -> None:
    harness.platform.metrics = NOT_FOUND
    active = iter(["an old model", "a new model"])
    harness.platform.job = lambda request: httpx.Response(200, json={"active_model_id": next(active)})
    harness.update(ACTIVE_TARGET)
    harness.look()

    assert harness.executions.inputs == {}
    assert harness.entry(ACTIVE_TARGET).attempts == 1


def test_retry_after_of_years_is_capped_at_an_hour(harness: Harness) -> None:
    harness.platform.metrics = answer(503, headers={"Retry-After": "999999999"})
    harness.update()
    harness.look()

    assert harness.entry().due_at == harness.clock.now + 3600


@pytest.mark.parametrize("call", ["metrics", "request", "job"])
def test_update_waits_while_a_gateway_has_no_arcanna_behind_it(harness: Harness, call: str) -> None:
    working = getattr(harness.platform, call)
    setattr(harness.platform, call, answer(404, content=b"404 page not found"))
    harness.update(ACTIVE_TARGET)
    harness.look()

    assert not harness.executions.inputs
    setattr(harness.platform, call, working)
    harness.clock.now += 7200
    harness.look()
    assert harness.executions.inputs["run-2"]["check"]["status"] == "running"


@pytest.mark.parametrize("status", [404, 422])
def test_rejected_request_is_a_failed_run(harness: Harness, status: int) -> None:
    harness.platform.request = answer(status, json={"error": "Model not found"})
    harness.update()
    harness.look()

    assert harness.executions.inputs["run-1"]["check"]["outcome"]["result"]["outcome"] == "failed"
    assert harness.entry().run_id == "run-1"


def test_request_answered_with_status_failed_is_a_failed_run(harness: Harness) -> None:
    harness.platform.request = answer(json=request_body(status="failed"))
    harness.update()
    harness.look()

    assert (
        harness.executions.inputs["run-1"]["check"]["outcome"]["result"]["failure"]["reason"]
        == "RequestFailed"
    )


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
def test_failed_attempt_leaves_the_target_due_with_backoff(harness: Harness, metrics: Answer) -> None:
    harness.platform.metrics = metrics
    waiting = harness.update()
    harness.look()
    entry = harness.entry()

    assert (entry.run_id, entry.attempts, entry.waiting.needed_as_of) == (
        None,
        1,
        waiting.waiting.needed_as_of,
    )
    assert entry.due_at == entry.retry_at == harness.clock.now + PACE.first_backoff * 0.5
    assert entry.last_error.partition(":")[0] in (
        "PlatformUnavailable",
        "PlatformBusy",
        "Unauthorised",
        "UndocumentedAnswer",
    )
    assert "request" not in harness.platform.asked
    assert harness.executions.inputs == {}


def test_backoff_doubles_up_to_its_maximum(harness: Harness) -> None:
    harness.platform.metrics = answer(503)
    harness.update()
    waits = []
    for _ in range(9):
        harness.look()
        waits.append((harness.entry().due_at or 0.0) - harness.clock.now)
        harness.until_due()

    assert waits == [2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 150.0, 150.0, 150.0]


@pytest.mark.parametrize("waits", [{}, {"share": WHOLE - 1}, {"older_than": 60.0}])
def test_age_of_what_waits_grows_during_an_outage(harness: Harness, waits: dict[str, Any]) -> None:
    metrics.clear_metrics()
    harness.platform.metrics = answer(503)
    harness.update(**waits)
    for _ in range(60):
        harness.deliver({"sweep": True})
        harness.clock.now += 60

    assert max(metrics.metric_set["OldestUpdateAge"]["Value"]) > 3000


@pytest.mark.parametrize("waits", [{}, {"share": WHOLE - 1}, {"older_than": 60.0}])
def test_long_retry_after_does_not_hide_the_age(harness: Harness, waits: dict[str, Any]) -> None:
    harness.platform.metrics = answer(503, headers={"Retry-After": "3600"})
    harness.update(**waits)
    harness.look()
    harness.clock.now += 1800
    metrics.clear_metrics()
    harness.deliver({"sweep": True})

    assert metrics.metric_set["OldestUpdateAge"]["Value"][0] > 1700


def test_retry_after_of_the_platform_is_honoured(harness: Harness) -> None:
    harness.platform.metrics = answer(429, headers={"Retry-After": "120"})
    harness.update()
    harness.look()

    assert harness.entry().due_at == harness.entry().not_before == harness.clock.now + 120


def test_request_by_hand_overrides_backoff_but_not_retry_after(harness: Harness) -> None:
    harness.platform.metrics = answer(503)
    harness.update()
    harness.look()
    assert harness.update(age=0.0, by_hand=True).retry_at == NEVER
    harness.platform.metrics = answer(429, headers={"Retry-After": "120"})
    harness.look()
    not_before = harness.clock.now + 120
    harness.clock.now += 1
    assert harness.update(age=0.0, by_hand=True).due_at == not_before


@pytest.mark.parametrize("request_", [answer(502), no_answer(httpx.ReadTimeout("slow"))])
def test_request_of_unknown_effect_is_repeated_after_the_start_grace(
    harness: Harness, request_: Answer
) -> None:
    harness.platform.request = request_
    harness.update()
    harness.look()

    assert harness.entry().due_at == harness.clock.now + PACE.start_grace
    assert harness.platform.asked.count("request") == 1


def test_request_that_never_arrived_is_repeated_soon(harness: Harness) -> None:
    harness.platform.request = no_answer(httpx.ConnectError("refused"))
    harness.update()
    harness.look()

    assert harness.entry().due_at == harness.clock.now + 2.5


@pytest.mark.parametrize("status", [401, 503])
def test_unavailable_platform_is_called_a_few_times_per_look(harness: Harness, status: int) -> None:
    harness.platform.metrics = harness.platform.scopes = answer(status)
    for target in OTHERS:
        harness.update(target)
    harness.look()

    assert harness.platform.asked == ["metrics"] * MOST_FAILURES + ["scopes"]


def test_look_ends_if_aws_fails_because_requests_without_executions_would_add_up(harness: Harness) -> None:
    harness.executions.fails = AwsUnavailable("throttled")
    for target in OTHERS:
        harness.update(target)
    harness.look()

    assert harness.platform.asked.count("request") == MOST_FAILURES
    assert "scopes" not in harness.platform.asked


def test_look_without_time_does_not_ask_whether_the_platform_is_up(harness: Harness) -> None:
    harness.platform.metrics = answer(503)
    for target in OTHERS:
        harness.update(target)
    reconcile.look(harness.services, iter([99.0] * MOST_FAILURES + [RESERVE - 1]).__next__)

    assert harness.platform.asked == ["metrics"] * MOST_FAILURES


def test_busy_target_does_not_block_others(harness: Harness) -> None:
    harness.platform.metrics = answer(json=metrics_body(model_id=None, is_recomputing_metrics=True))
    for target in OTHERS:
        harness.update(target)
    harness.look()

    assert harness.platform.asked.count("metrics") == len(OTHERS)


@pytest.mark.parametrize("status", [403, 500, 502])
@pytest.mark.parametrize("scopes", [200, 404])
def test_failures_of_some_targets_do_not_block_others(harness: Harness, status: int, scopes: int) -> None:
    def metrics(request: httpx.Request) -> httpx.Response:
        works = request.url.params["job_id"] == TARGET.job_id
        return (answer(json=metrics_body()) if works else answer(status))(request)

    harness.platform.metrics = metrics
    harness.platform.scopes = answer(scopes, json=[])
    for target in OTHERS:
        harness.update(target, age=3600)
    harness.update()
    harness.deliver({"sweep": True})

    assert harness.entry().run_id
    assert {harness.entry(target).attempts for target in OTHERS} == {1}


def test_target_that_another_look_has_claimed_is_not_postponed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.update()

    def fail_meanwhile(services: Services, entry: Entry) -> None:
        services.ledger.apply(TARGET, lambda entry: claim(entry, Claim("run-2", harness.clock.now)))
        raise AwsUnavailable("could not read the ledger")

    monkeypatch.setattr(reconcile, "forward", fail_meanwhile)
    harness.look()

    assert (harness.entry().run_id, harness.entry().attempts) == ("run-2", 0)
    assert harness.entry().due_at == harness.clock.now + CLAIM_LIFETIME


def test_bug_during_a_start_postpones_only_that_entry_and_frees_its_slot(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.pace = replace(PACE, slots=1)
    harness.update(OTHERS[0], age=90)
    harness.update(TARGET)
    start = starting.start

    def buggy(services: Services, claimed: Entry, claim: Claim) -> None:
        if claimed.target == OTHERS[0]:
            raise ZeroDivisionError
        start(services, claimed, claim)

    monkeypatch.setattr(reconcile, "start", buggy)
    harness.look()

    assert harness.entry(OTHERS[0]).run_id is None
    assert harness.entry(OTHERS[0]).due_at == harness.clock.now + PACE.start_grace
    assert harness.entry().run_id


def test_check_ups_of_full_slots_stop_before_the_invocation_ends(harness: Harness) -> None:
    harness.pace = replace(PACE, slots=3)
    for target in OTHERS[:3]:
        harness.started(target)
    for target in OTHERS[:3]:
        harness.ledger.apply(target, lambda entry: replace(entry, due_at=harness.clock.now))
    before = [harness.entry(target) for target in OTHERS[:3]]
    harness.look(lambda: RESERVE - 1)

    assert [harness.entry(target) for target in OTHERS[:3]] == before


def test_look_starts_no_run_shortly_before_the_invocation_ends(harness: Harness) -> None:
    harness.update()
    harness.look(lambda: RESERVE - 1)

    assert harness.platform.asked == []
    assert (harness.entry().due_at or 0.0) <= harness.clock.now


def test_claim_is_given_back_again_if_that_fails_at_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = harness.ledger.apply
    failures = [AwsUnavailable("throttled")]

    def fails_at_first(to: Any, transition: Any, *given: Any) -> Any:
        if transition is give_back and failures:
            raise failures.pop()
        return apply(to, transition, *given)

    monkeypatch.setattr(harness.ledger, "apply", fails_at_first)
    monkeypatch.setattr(slots, "take", lambda *_: False)
    harness.pace = replace(PACE, slots=1)
    harness.update()
    harness.look()
    assert harness.entry().claim is None


def test_look_attempts_each_target_once_although_its_backoff_ends_meanwhile(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(model: Model) -> ModelMetrics:
        harness.clock.now += 20
        raise PlatformUnavailable("no answer")

    monkeypatch.setattr(harness.services.arcanna, "metrics", slowly)
    recorded = [harness.update(target).target for target in OTHERS[:2]]
    reconcile.look(harness.services, lambda: 900.0, recorded)
    assert [harness.entry(target).attempts for target in recorded] == [1, 1]


def test_failed_start_of_the_workflow_gives_the_claim_back(harness: Harness) -> None:
    harness.executions.fails = AwsUnavailable("throttled")
    harness.update()
    harness.look()

    assert harness.entry().run_id is None
    assert harness.entry().due_at == harness.clock.now + PACE.start_grace  # the recompute may be queued


def test_claim_held_by_its_execution_is_not_given_back(harness: Harness) -> None:
    """StartExecution seemed to fail, and had its effect."""
    harness.update()
    start = harness.executions.start

    def start_late(run_id: str, given: str, number: int = 0) -> None:
        start(run_id, given, number)
        harness.ledger.apply(TARGET, lambda entry: hold(entry, run_id, 0))
        raise AwsUnavailable("no answer")

    harness.executions.start = start_late  # type: ignore[method-assign]
    harness.look()
    claim = harness.entry().claim
    assert claim
    assert (claim.run_id, claim.number) == ("run-1", 0)


# --- Wishes ----------------------------------------------------------------------------------------------


def test_wish_satisfied_by_the_platforms_timestamp_starts_no_run(harness: Harness) -> None:
    harness.platform.metrics = answer(
        json=metrics_body(last_recomputed_timestamp=to_iso(harness.clock.now - 50))
    )
    harness.update(age=0.0, older_than=100.0)
    harness.look()

    assert harness.entry().due_at is None
    assert harness.entry().fresh_as_of == NEVER
    assert harness.platform.asked == ["metrics"]


@pytest.mark.parametrize("timestamp", [None, "", "yesterday", "2036-01-01T00:00:00Z", "2001-01-01T00:00:00Z"])
def test_wish_for_old_or_undated_metrics_starts_a_run(harness: Harness, timestamp: str | None) -> None:
    harness.platform.metrics = answer(json=metrics_body(last_recomputed_timestamp=timestamp))
    harness.update(age=0.0, older_than=100.0)
    harness.look()

    assert harness.platform.asked == ["metrics", "request"]


@pytest.mark.parametrize("hours_east", [0, 3])
def test_wish_is_not_satisfied_by_a_time_without_an_offset(harness: Harness, hours_east: int) -> None:
    shown = to_iso(harness.clock.now - 2.5 * 3600 + hours_east * 3600).removesuffix("Z")
    harness.platform.metrics = answer(json=metrics_body(last_recomputed_timestamp=shown))
    harness.update(age=0.0, older_than=3600.0)
    harness.look()

    assert harness.platform.asked == ["metrics", "request"]


def test_schedule_recomputes_a_model_that_became_active_after_the_jobs_last_run(harness: Harness) -> None:
    harness.ledger.apply(ACTIVE_TARGET, lambda e: replace(e, fresh_as_of=harness.clock.now - 50))
    harness.platform.metrics = answer(json=metrics_body(model_id=None, last_recomputed_timestamp=None))
    harness.update(ACTIVE_TARGET, age=0.0, older_than=100.0)
    harness.look()

    assert harness.entry(ACTIVE_TARGET).run_id == "run-1"


@pytest.mark.parametrize("target", [ACTIVE_TARGET, TARGET])
def test_schedule_starts_no_run_of_a_model_that_the_ledger_knows_to_be_fresh(
    harness: Harness, target: Target
) -> None:
    at = harness.clock.now - 50
    past: Any = {"model_id": MODEL.model_id, "requested_at": to_iso(at), "duration_seconds": 1.0}
    harness.ledger.apply(target, lambda entry: replace(entry, fresh_as_of=at, history=(past,)))
    local = to_iso(at - 8 * 3600).removesuffix("Z")
    harness.platform.metrics = answer(json=metrics_body(model_id=None, last_recomputed_timestamp=local))
    harness.update(target, age=0.0, older_than=100.0)
    harness.look()

    assert "request" not in harness.platform.asked
    assert not harness.entry(target).dirty


def test_satisfied_wish_starts_no_run_for_a_batch_that_is_not_enough(harness: Harness) -> None:
    harness.update(age=100, share=10_000, max_wait=86400.0)
    harness.update(age=0, older_than=3600.0)
    harness.platform.metrics = answer(
        json=metrics_body(last_recomputed_timestamp=to_iso(harness.clock.now - 600))
    )
    harness.look()
    assert harness.platform.asked == ["metrics"]
    assert (harness.entry().run_id, len(harness.entry().waiting.batch)) == (None, 1)
    assert harness.entry().waiting.updates == 1
    assert harness.entry().waiting.wanted_at == NEVER


def test_update_with_a_satisfied_wish_still_starts_a_run(harness: Harness) -> None:
    harness.platform.metrics = answer(
        json=metrics_body(last_recomputed_timestamp=to_iso(harness.clock.now - 50))
    )
    harness.update(age=0.0, older_than=100.0)
    harness.update()
    harness.look()

    assert harness.platform.asked == ["metrics", "request"]


# --- Slots -----------------------------------------------------------------------------------------------


def test_longest_due_targets_get_the_slots(harness: Harness) -> None:
    harness.pace = replace(PACE, slots=2)
    for number, target in enumerate(OTHERS):
        harness.update(target, age=100.0 - number)
    harness.look()
    harness.look()

    assert [bool(harness.entry(target).run_id) for target in OTHERS] == [True, True] + [False] * 7


def test_target_without_a_slot_stays_due_unchanged(harness: Harness) -> None:
    harness.pace = replace(PACE, slots=1)
    harness.started(OTHERS[0])
    waiting = harness.update(OTHERS[1])
    harness.look()

    assert harness.entry(OTHERS[1]) == waiting


def test_dead_holder_of_the_last_slot_is_checked_although_no_slot_is_free(harness: Harness) -> None:
    harness.pace = replace(PACE, slots=1)
    harness.update(OTHERS[0])
    harness.look()
    harness.executions.running.clear()  # the invocation died before it started the execution
    harness.update(OTHERS[1])
    harness.until_due(OTHERS[0])
    harness.deliver({"sweep": True})

    assert harness.entry(OTHERS[0]).run_id is None
    assert harness.entry(OTHERS[1]).run_id == "run-2"


def test_run_from_before_there_were_slots_is_resumed_although_none_is_free(harness: Harness) -> None:
    dead = harness.started(OTHERS[0])
    harness.pace = replace(PACE, slots=1)
    harness.started(OTHERS[1])
    harness.executions.end(dead)
    harness.until_due(OTHERS[0])
    harness.deliver({"sweep": True})

    assert f"{dead}-1" in harness.executions.running


def test_claim_that_died_before_it_took_a_slot_is_taken_back_although_none_is_free(harness: Harness) -> None:
    harness.pace = replace(PACE, slots=1)
    harness.update(OTHERS[0])
    dead = Claim("dead", harness.clock.now)
    harness.ledger.apply(OTHERS[0], claim, dead)
    harness.started(OTHERS[1])
    harness.until_due(OTHERS[0])
    harness.deliver({"sweep": True})

    assert harness.entry(OTHERS[0]).claim is None


def test_holder_of_the_last_slot_that_cannot_be_read_is_told_by_every_sweep(harness: Harness) -> None:
    harness.pace = replace(PACE, slots=1)
    harness.started()
    item = harness.stack.dynamodb.get_item(TableName=harness.stack.ledger_table, Key=key_of(TARGET))["Item"]
    harness.stack.dynamodb.put_item(
        TableName=harness.stack.ledger_table, Item={**item, "history": {"S": "[edited"}}
    )
    harness.clock.now += CLAIM_LIFETIME
    for _ in range(2):
        metrics.clear_metrics()
        harness.deliver({"sweep": True})
        assert metrics.metric_set["UnexpectedErrors"]["Value"]


# --- Looking after a run ---------------------------------------------------------------------------------


def test_running_execution_is_checked_again_in_an_hour(harness: Harness) -> None:
    run_id = harness.started()
    harness.until_due()
    harness.look()

    assert harness.entry().run_id == run_id
    assert harness.entry().due_at == harness.clock.now + CHECK_UP_INTERVAL


def test_claim_without_an_execution_is_taken_back_after_its_lifetime(harness: Harness) -> None:
    harness.update()
    harness.look()
    harness.executions.running.clear()
    harness.clock.now += CLAIM_LIFETIME - 1
    harness.look()
    assert harness.entry().run_id == "run-1"
    harness.clock.now += 1
    harness.look()
    entry = harness.entry()
    assert (entry.run_id, entry.attempts, entry.last_error) == (None, 1, "the run has no execution")


def test_claim_taken_back_is_not_requested_again_while_its_request_may_be_queued(harness: Harness) -> None:
    harness.update()
    harness.look()
    claimed_at = harness.clock.now
    harness.executions.running.clear()
    harness.clock.now += CLAIM_LIFETIME
    harness.look()
    assert harness.entry().due_at == claimed_at + PACE.start_grace


def test_report_about_a_young_claim_without_an_execution_changes_only_the_due_time(harness: Harness) -> None:
    harness.update()
    harness.look()
    harness.executions.running.clear()
    harness.ledger.apply(TARGET, lambda entry: replace(entry, due_at=harness.clock.now))
    harness.look()

    assert harness.entry().run_id == "run-1"
    assert harness.entry().due_at == harness.clock.now + CLAIM_LIFETIME


def test_run_whose_execution_ended_before_its_hold_is_resumed(harness: Harness) -> None:
    harness.update()
    harness.look()
    harness.executions.end("run-1")
    harness.until_due()
    harness.look()

    assert harness.entry().run_id == "run-1"
    assert harness.executions.inputs["run-1-1"]["number"] == 1


def test_run_is_resumed_after_its_execution_ended_early(harness: Harness) -> None:
    run_id = harness.started()
    harness.executions.end(run_id)
    harness.until_due()
    harness.look()
    assert harness.number_of(run_id) == 0  # until the execution begins
    first, again = harness.executions.inputs[run_id], harness.executions.inputs[f"{run_id}-1"]
    assert again == {**first, "number": 1}
    assert harness.platform.asked.count("request") == 1


def test_resumption_is_started_by_the_next_look_if_the_first_died(harness: Harness) -> None:
    run_id = harness.started()
    harness.executions.end(run_id)
    harness.executions.fails = AwsUnavailable("throttled")
    harness.until_due()
    harness.look()
    assert f"{run_id}-1" not in harness.executions.inputs
    harness.executions.fails = None
    harness.until_due()
    harness.look()
    assert harness.executions.inputs[f"{run_id}-1"]["number"] == 1


def test_run_is_taken_back_after_three_ended_resumptions(harness: Harness) -> None:
    run_id = harness.started()
    for number in range(MOST_EXECUTIONS):
        harness.executions.end(run_id, number)
        harness.until_due()
        harness.look()
    entry = harness.entry()

    assert (entry.run_id, entry.watermark, entry.attempts) == (None, NEVER, 1)
    assert entry.dirty


def test_held_run_without_any_execution_is_taken_back(harness: Harness) -> None:
    """The state machine was replaced, or 90 days have passed."""
    harness.started()
    harness.executions.running.clear()
    harness.until_due()
    harness.look()

    assert harness.entry().run_id is None
    assert harness.entry().dirty


def test_run_taken_back_is_followed_by_the_next_after_the_spacing(harness: Harness) -> None:
    harness.pace = replace(PACE, spacing=2 * CHECK_UP_INTERVAL)
    harness.started()
    began = harness.clock.now
    harness.executions.running.clear()
    harness.until_due()
    harness.look()

    assert harness.entry().run_id is None
    assert harness.entry().due_at == began + 2 * CHECK_UP_INTERVAL


# --- Names of jobs ---------------------------------------------------------------------------------------


NAMED = Target("security-alerts", MODEL.model_id)


@pytest.fixture
def with_names(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The names that the key may look up, with their ids."""
    names: dict[str, str] = {}
    monkeypatch.setattr(harness.services.arcanna, "job_id_of", names.get, raising=False)
    return names


def test_update_by_a_jobs_name_is_recorded_and_started_under_its_id(
    harness: Harness, with_names: dict[str, str]
) -> None:
    with_names["security-alerts"] = "1234"
    harness.update(NAMED)
    harness.look()
    assert harness.entry().run_id == "run-1"
    assert harness.executions.inputs["run-1"]["run"]["job_id"] == "1234"
    mailbox = harness.entry(NAMED)
    assert not mailbox.dirty
    assert mailbox.due_at is None


def test_update_by_name_waits_for_the_visibility_lag_of_its_job(
    harness: Harness, with_names: dict[str, str]
) -> None:
    with_names["security-alerts"] = "1234"
    shared = harness.settings().shared
    harness.jobs["1234"] = shared._replace(pace=replace(PACE, visibility_lag=600.0))
    harness.deliver(harness.upload(f"data/{NAMED.job_id}/{NAMED.model_id}/a.csv"))
    assert harness.executions.inputs == {}
    harness.clock.now += 600
    harness.deliver({"sweep": True})

    assert list(harness.executions.inputs) == ["run-1"]
    assert not harness.entry(NAMED).dirty


def test_updates_by_name_and_id_lead_to_one_request(harness: Harness, with_names: dict[str, str]) -> None:
    with_names["security-alerts"] = "1234"
    harness.update(NAMED)
    harness.update(TARGET)
    harness.look()
    harness.look()

    assert harness.platform.asked.count("request") == 1


def test_reused_name_leads_to_the_job_that_has_it_now(harness: Harness, with_names: dict[str, str]) -> None:
    with_names["security-alerts"] = "1234"
    harness.update(NAMED)
    harness.look()
    with_names["security-alerts"] = "99"
    harness.clock.now += 100
    harness.update(NAMED)
    harness.look()

    assert harness.entry(Target("99", MODEL.model_id)).run_id == "run-2"


def test_unresolvable_name_has_its_own_run(harness: Harness, with_names: dict[str, str]) -> None:
    harness.update(NAMED)
    harness.look()
    run = harness.executions.inputs["run-1"]["run"]

    assert (run["job_id"], run["platform_job_id"]) == ("security-alerts", "1234")


def test_update_by_name_is_forwarded_after_the_id_was_learned(
    harness: Harness, with_names: dict[str, str]
) -> None:
    harness.update(NAMED)
    harness.ledger.apply(NAMED, lambda entry: replace(entry, name_of="1234"))
    harness.look()

    assert harness.entry().run_id == "run-1"


UNREADABLE = {
    "job_id": {"S": NAMED.job_id}, "model_id": {"S": ACTIVE}, "rev": {"N": "1"}, "history": {"S": "{"},
}  # fmt: skip


def test_update_by_name_is_started_beside_an_unreadable_entry_of_the_name(
    harness: Harness, with_names: dict[str, str]
) -> None:
    harness.stack.dynamodb.put_item(TableName=harness.stack.ledger_table, Item=UNREADABLE)
    harness.started(NAMED)


def test_run_by_name_is_released_beside_an_unreadable_entry_of_the_name(
    harness: Harness, with_names: dict[str, str]
) -> None:
    run = harness.executions.inputs[harness.started(NAMED)]["run"]
    harness.stack.dynamodb.put_item(TableName=harness.stack.ledger_table, Item=UNREADABLE)
    assert release(harness.services, run, 0, TIMED_OUT)


@pytest.mark.parametrize(("job", "runs"), [(NOT_FOUND, "security-alerts"), (answer(json={}), "1234")])
def test_learned_id_counts_until_the_platform_does_not_know_the_job(
    harness: Harness, with_names: dict[str, str], job: Answer, runs: str
) -> None:
    harness.update(NAMED)
    harness.ledger.apply(NAMED, lambda entry: replace(entry, name_of="1234"))
    failure: Any = {"reason": "Rejected"}  # such as a job without an active model
    harness.ledger.apply(TARGET, lambda entry: replace(entry, last_failure=failure, failed_as_of=1.0))
    harness.platform.job = job
    harness.look()

    assert harness.executions.inputs["run-1"]["run"]["job_id"] == runs


def test_id_that_a_run_by_name_taught_counts_for_the_jobs_other_models(
    harness: Harness, with_names: dict[str, str]
) -> None:
    run = harness.executions.inputs[harness.started(NAMED)]["run"]
    release(harness.services, run, 0, TIMED_OUT)
    harness.update(Target(NAMED.job_id, "model-2"))
    harness.look()

    assert harness.executions.inputs["run-2"]["run"]["target"] == {"job_id": "1234", "model_id": "model-2"}


TIMED_OUT: Result = {
    "outcome": "timed_out",
    "active_changed": False,
    "past_run": None,
    "figures": None,
    "failure": None,
}


def test_first_run_by_an_id_is_compared_with_the_reference_of_the_run_by_its_name(
    harness: Harness, with_names: dict[str, str]
) -> None:
    harness.platform.metrics = answer(json=metrics_body(overall_accuracy=0.95))
    run = harness.executions.inputs[harness.started(NAMED)]["run"]
    assert (run["job_id"], run["platform_job_id"]) == ("security-alerts", "1234")
    harness.platform.metrics = answer(json=metrics_body(overall_accuracy=0.75))
    release(harness.services, run, 0, TIMED_OUT)

    assert compared_with(harness) == {"overall_accuracy": [0.95, 4]}
    assert harness.entry(NAMED).quality_reference is None


@pytest.mark.parametrize("target", [NAMED, TARGET])
def test_request_by_hand_ends_the_backoff_of_the_job_also_by_its_name(
    harness: Harness, with_names: dict[str, str], target: Target
) -> None:
    with_names["security-alerts"] = "1234"
    harness.update()
    later = Postponement(harness.clock.now + 290)
    harness.ledger.apply(TARGET, lambda entry: postpone(entry, harness.pace, later))
    harness.update(target)
    harness.look()
    assert harness.entry().run_id is None
    harness.update(target, age=0.0, by_hand=True)
    harness.look()
    assert harness.entry().run_id == "run-1"


def test_batch_under_a_name_is_recorded_under_the_id_once(
    harness: Harness, with_names: dict[str, str]
) -> None:
    with_names["security-alerts"] = "1234"
    element = Element("same", harness.clock.now - 1, 1_000_000, harness.clock.now)
    for target in (NAMED, TARGET):
        harness.ledger.apply(
            target,
            lambda entry: replace(
                entry, waiting=replace(entry.waiting, batch=(element,)), due_at=harness.clock.now
            ),
        )
    harness.look()

    assert harness.entry().waiting.batch == (element,)


def test_executions_of_a_run_are_named_by_number_and_listed_in_order(stack: Stack) -> None:
    workflow = Workflow(stack.states, stack.workflow_arn)
    workflow.start("run-1", "{}")
    workflow.start("run-1", "{}", 1)
    workflow.start("run-1", "{}", 1)
    assert set(stack.executions()) == {"run-1", "run-1-1"}
    assert [found.input for found in workflow.executions("run-1", 4)] == ["{}", "{}"]
    assert len(workflow.executions("run-1", 1)) == 1


# --- What a look leaves as it should be ------------------------------------------------------------------


def test_check_up_that_fails_is_repeated_after_a_backoff(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.started()
    harness.until_due()
    monkeypatch.setattr(harness.executions, "executions", fails_with(AwsUnavailable("throttled")))
    harness.look()

    assert harness.entry().due_at == harness.clock.now + PACE.first_backoff * 0.5


def test_target_whose_name_cannot_be_looked_up_is_postponed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.update()
    monkeypatch.setattr(reconcile, "forward", fails_with(AwsUnavailable("could not read the ledger")))
    harness.look()

    assert harness.entry().attempts == 1
    assert (harness.entry().due_at or 0.0) > harness.clock.now


def test_bug_counts_as_an_unexpected_error(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.update()
    monkeypatch.setattr(reconcile, "start", fails_with(ZeroDivisionError()))
    metrics.clear_metrics()
    harness.look()

    assert metrics.metric_set["UnexpectedErrors"]["Value"] == [1.0]


def test_answer_that_is_not_documented_shows_that_the_platform_is_up(harness: Harness) -> None:
    harness.platform.metrics = answer(500)
    harness.platform.scopes = answer(json={"status": "error", "error_message": "no"})
    for target in OTHERS:
        harness.update(target)
    harness.look()

    assert harness.platform.asked.count("metrics") == len(OTHERS)


def test_look_corrects_the_due_time_after_the_spacing_was_raised(harness: Harness) -> None:
    harness.ledger.apply(TARGET, lambda entry: replace(entry, last_requested_at=harness.clock.now - 100))
    harness.update()
    harness.pace = replace(PACE, spacing=600)
    harness.look()

    assert harness.entry().due_at == harness.clock.now + 500


def test_target_for_which_others_left_no_slot_stays_due_and_requests_nothing(harness: Harness) -> None:
    harness.pace = replace(PACE, slots=1)
    harness.update(OTHERS[0], age=90)
    waiting, next_one = harness.update(OTHERS[1], age=89), harness.update(OTHERS[2])
    harness.look()

    assert replace(harness.entry(OTHERS[1]), rev=waiting.rev) == waiting
    assert harness.entry(OTHERS[2]) == next_one
    assert harness.platform.asked.count("request") == len(harness.executions.inputs) == 1


def test_run_has_the_platforms_own_time_of_the_request(harness: Harness) -> None:
    run_id = harness.started()
    assert harness.executions.inputs[run_id]["run"]["platform_requested_at"] == request_body()["requested_at"]


def test_metrics_of_a_platform_whose_clock_is_ahead_satisfy_a_wish(harness: Harness) -> None:
    ahead = to_iso(harness.clock.now + 60)
    harness.platform.metrics = answer(json=metrics_body(last_recomputed_timestamp=ahead))
    harness.update(cause="schedule", older_than=3600)
    harness.look()

    assert harness.platform.asked == ["metrics"]


def test_entry_of_a_name_learns_the_id_that_was_looked_up(harness: Harness) -> None:
    named = TARGET._replace(job_id="security-alerts")
    harness.update(named)
    harness.look()

    assert harness.entry(named).name_of == TARGET.job_id


def fails_with(error: Exception) -> Callable[..., None]:
    """A function that raises the error whatever it is given."""

    def fail(*_: object) -> None:
        raise error

    return fail
