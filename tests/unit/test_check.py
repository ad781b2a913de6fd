"""Checks of a run, until it has ended."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import PlatformUnavailable, RetryLater, Unauthorised, UndocumentedAnswer
from arcanna_metrics.platform.model_metrics import FIELDS
from arcanna_metrics.runs.check import check, first_check
from arcanna_metrics.runs.completion import CONFIRMATION
from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.runs.quality import Reference, Rules, learned, measured
from arcanna_metrics.runs.run import Check, Outcome, Pace, Run
from arcanna_metrics.times import to_iso
from tests.support.doubles import (
    BASELINE,
    MODEL,
    NOT_FOUND,
    Answer,
    Logs,
    ScriptedPlatform,
    answer,
    metrics_body,
    no_answer,
)
from tests.support.outcome_events import validate_entry
from tests.support.runs import BUS, DEADLINE, EXECUTION, GATE, PACE, REQUESTED_AT, a_run

DONE = "2025-01-15T14:33:00Z"
RUN = a_run(baseline={"last_recomputed_timestamp": BASELINE, **dict.fromkeys(FIELDS)})
FIRST = first_check(RUN)


class Follower:
    """Checks a run repeatedly, as the workflow does."""

    def __init__(self, run: Run = RUN, last: Check | None = None) -> None:
        self.platform = ScriptedPlatform()
        self.run = run
        self.last = last or first_check(run)
        self._arcanna = self.platform.client()

    def look(self, elapsed: float, **shown: object) -> Check:
        """Checks `elapsed` seconds after the request. The platform shows `shown` from now on."""
        if shown:
            self.platform.metrics = answer(json=metrics_body(**shown))
        # Through JSON, as between the states of the workflow.
        run, last = json.loads(json.dumps([self.run, self.last]))
        self.last = check(self._arcanna, run, last, Origin(EXECUTION, BUS, REQUESTED_AT + elapsed))
        return self.last


@pytest.fixture
def follower() -> Follower:
    return Follower()


def idle(timestamp: str | None = BASELINE) -> dict[str, object]:
    return {"is_recomputing_metrics": False, "last_recomputed_timestamp": timestamp}


def busy(timestamp: str | None = BASELINE) -> dict[str, object]:
    return {"is_recomputing_metrics": True, "last_recomputed_timestamp": timestamp}


def outcome_of(check: Check) -> Outcome:
    assert check["status"] != "running"
    assert check["outcome"] is not None
    return check["outcome"]


def reason_of(check: Check) -> str:
    failure = outcome_of(check)["result"]["failure"] if check["outcome"] else None
    return failure["reason"] if failure else check["status"]


def told(check: Check) -> dict[str, dict[str, Any]]:
    """The details of the events by detail type."""
    return {entry["DetailType"]: validate_entry(entry) for entry in outcome_of(check)["events"]}


# --- The story of a run ----------------------------------------------------------------------------------


def test_run_goes_from_queued_over_recomputing_to_completed(follower: Follower) -> None:
    for elapsed in (5, 60, 300):
        queued = follower.look(elapsed, **idle())
        assert (queued["status"], queued["detail"]) == ("running", "queued")
    recomputing = follower.look(320, **busy())
    assert (recomputing["status"], recomputing["detail"]) == ("running", "recomputing")
    assert recomputing["outcome"] is None
    done = follower.look(400, **idle(DONE))
    assert (done["status"], done["polls"], reason_of(done)) == ("completed", 5, "completed")
    event = told(done)["Recompute Completed"]
    assert event["after"]["last_recomputed_timestamp"] == DONE
    assert event["after"]["overall_accuracy"] == 0.75


def test_first_recompute_completes_without_a_baseline_timestamp() -> None:
    follower = Follower(a_run(baseline=metrics_body(last_recomputed_timestamp=None)))
    assert follower.look(10, **idle(None))["status"] == "running"
    assert follower.look(200, **idle(DONE))["status"] == "completed"


def test_run_without_a_readable_baseline_completes() -> None:
    follower = Follower(a_run(platform_requested_at=None) | {"baseline": None})
    done = follower.look(200, **idle(DONE))
    assert told(done)["Recompute Completed"]["before"] is None


def test_somebody_elses_result_does_not_complete_the_run(follower: Follower) -> None:
    """The baseline was read after that recompute's flag had fallen, but before its timestamp changed."""
    of_another = "2025-01-15T14:29:59Z"
    queued = follower.look(5, **idle(of_another))
    assert (queued["status"], queued["detail"]) == ("running", "queued")
    assert follower.look(60, **busy(of_another))["status"] == "running"
    done = follower.look(400, **idle(DONE))
    assert outcome_of(done)["result"]["past_run"] is not None
    assert told(done)["Recompute Completed"]["duration_seconds"] == 180.0


def test_somebody_elses_result_does_not_complete_a_failed_run(follower: Follower) -> None:
    of_another = "2025-01-15T14:29:59Z"
    follower.look(60, **busy(of_another))
    follower.look(100, **idle(of_another))

    assert reason_of(follower.look(100 + CONFIRMATION, **idle(of_another))) == "NoNewResult"


def test_short_recompute_completes_despite_clock_skew_of_the_platform() -> None:
    """The API's clock is 3 s ahead of the worker's. The recompute took 1 s."""
    follower = Follower(a_run(platform_requested_at="2025-01-15T14:30:03Z"))
    ended = "2025-01-15T14:30:01Z"
    follower.look(1, **busy())
    confirming = follower.look(6, **idle(ended))
    assert (confirming["status"], confirming["wait_seconds"] <= CONFIRMATION + 1) == ("running", True)
    done = follower.look(6 + CONFIRMATION, **idle(ended))
    assert done["status"] == "completed"
    assert told(done)["Recompute Completed"]["duration_seconds"] == 0.0


def test_unseen_short_recompute_with_clock_skew_completes_after_the_start_grace() -> None:
    follower = Follower(a_run(platform_requested_at="2025-01-15T14:30:03Z"))
    ended = "2025-01-15T14:30:01Z"
    for elapsed in (5, 100, 599, 600):
        assert follower.look(elapsed, **idle(ended))["status"] == "running"

    assert follower.look(600 + CONFIRMATION, **idle(ended))["status"] == "completed"


def test_recompute_that_never_starts_fails_after_the_start_grace(follower: Follower) -> None:
    follower.look(5, **idle())
    assert follower.look(599, **idle())["status"] == "running"
    confirming = follower.look(600, **idle())
    assert (confirming["status"], confirming["wait_seconds"] <= CONFIRMATION + 1) == ("running", True)
    failed = follower.look(600 + CONFIRMATION, **idle())
    assert (failed["status"], reason_of(failed)) == ("failed", "NeverStarted")
    assert outcome_of(failed)["result"]["past_run"] is None


def test_recompute_that_starts_and_ends_between_two_checks_completes(follower: Follower) -> None:
    for elapsed in (5, 599, 601):
        assert follower.look(elapsed, **idle())["status"] == "running"
    assert follower.look(601 + CONFIRMATION, **idle("2025-01-15T14:40:20Z"))["status"] == "completed"


def test_timestamp_that_lags_behind_the_flag_completes_the_run(follower: Follower) -> None:
    follower.look(100, **busy())
    assert follower.look(200, **idle())["status"] == "running"
    assert follower.look(200 + CONFIRMATION - 1, **idle())["status"] == "running"
    assert follower.look(200 + CONFIRMATION + 5, **idle(DONE))["status"] == "completed"


def test_recompute_without_new_metrics_fails_after_a_confirmation(follower: Follower) -> None:
    follower.look(100, **busy())
    follower.look(200, **idle())
    failed = follower.look(200 + CONFIRMATION, **idle())
    assert (failed["status"], reason_of(failed)) == ("failed", "NoNewResult")
    failure = outcome_of(failed)["result"]["failure"]
    assert failure is not None
    assert (failure["reason"], failure["polls"]) == ("NoNewResult", 3)
    assert told(failed)["Recompute Failed"]["before"]["last_recomputed_timestamp"] == BASELINE


def test_confirmation_restarts_when_the_platform_recomputes_again(follower: Follower) -> None:
    follower.look(100, **busy())
    follower.look(200, **idle())
    follower.look(230, **busy())

    assert follower.look(200 + CONFIRMATION, **idle())["status"] == "running"


def test_run_times_out_at_its_deadline(follower: Follower) -> None:
    assert follower.look(DEADLINE - 1, **busy())["status"] == "running"
    timed_out = follower.look(DEADLINE, **busy())
    assert (timed_out["status"], reason_of(timed_out)) == ("timed_out", "DeadlinePassed")
    assert outcome_of(timed_out)["result"]["outcome"] == "timed_out"


def test_deleted_model_fails_the_run(follower: Follower) -> None:
    follower.look(10, **busy())
    follower.platform.metrics = NOT_FOUND
    failed = follower.look(20)

    assert (failed["status"], reason_of(failed), failed["polls"]) == ("failed", "Rejected", 2)
    assert "Model not found" in failed["detail"]


# --- A resumed run: its execution ended, and another one goes on with the first check ----------------------


def test_resumed_run_with_new_metrics_completes_after_its_deadline(follower: Follower) -> None:
    assert follower.look(10 * DEADLINE, **idle(DONE))["status"] == "completed"


@pytest.mark.parametrize("elapsed", [700, 10 * DEADLINE])
def test_resumed_run_fails_only_after_a_confirming_check(follower: Follower, elapsed: float) -> None:
    confirming = follower.look(elapsed, **idle())
    assert confirming["status"] == "running"
    assert confirming["wait_seconds"] <= CONFIRMATION + 1
    assert reason_of(follower.look(elapsed + CONFIRMATION, **idle())) == "NeverStarted"


def test_new_metrics_during_a_confirmation_complete_the_run(follower: Follower) -> None:
    follower.look(10 * DEADLINE, **idle())
    assert follower.look(10 * DEADLINE + CONFIRMATION, **idle(DONE))["status"] == "completed"


def test_resumed_run_still_recomputing_after_its_deadline_times_out(follower: Follower) -> None:
    assert follower.look(10 * DEADLINE, **busy())["status"] == "timed_out"


# --- The job's active model ------------------------------------------------------------------------------

OF_ACTIVE = a_run(active=True)


@pytest.mark.parametrize(("active", "changed"), [(MODEL.model_id, False), ("another", True)])
@pytest.mark.parametrize("ending", ["completed", "failed", "gone"])
def test_ended_run_of_the_active_model_says_whether_the_model_changed(
    active: str, changed: bool, ending: str
) -> None:
    follower = Follower(OF_ACTIVE)
    follower.platform.job = answer(json={"active_model_id": active})
    follower.look(10, **busy())
    assert follower.platform.asked == ["metrics"]
    if ending == "gone":
        follower.platform.metrics = NOT_FOUND
        ended = follower.look(20)
    else:
        ended = follower.look(60, **idle(DONE if ending == "completed" else BASELINE))
        if ended["status"] == "running":
            ended = follower.look(300)
    assert ended["status"] == ("completed" if ending == "completed" else "failed")
    assert outcome_of(ended)["result"]["active_changed"] is changed
    assert {event["active_model"] for event in told(ended).values()} == {not changed}


GATEWAY_404 = answer(404, content=b"404 page not found\n")
"""What a gateway answers while no Arcanna is behind it."""

ERROR_IN_200 = answer(json={**dict.fromkeys(metrics_body()), "error_message": "Elasticsearch is away"})
"""An error in one of the shapes that the API sends with a 200, beside the endpoint's own fields."""


@pytest.mark.parametrize("given_answer", [GATEWAY_404, ERROR_IN_200])
def test_answer_without_metrics_does_not_end_a_run(follower: Follower, given_answer: Answer) -> None:
    follower.look(10, **busy())
    follower.platform.metrics = given_answer
    for at in (100, 165):
        assert follower.look(at)["status"] == "running"
    follower.platform.metrics = NOT_FOUND
    assert follower.look(200)["status"] == "failed"


def test_gateway_does_not_say_that_the_active_model_is_the_same() -> None:
    follower = Follower(OF_ACTIVE)
    follower.platform.job = GATEWAY_404
    assert follower.look(60, **idle(DONE))["status"] == "running"


def test_job_by_name_may_be_renamed_during_its_run() -> None:
    def shown(request: httpx.Request) -> httpx.Response:
        known = request.url.params["job_id"] == "1234"
        return answer(json=metrics_body(**idle(DONE)))(request) if known else NOT_FOUND(request)

    target = {"job_id": "security-alerts", "model_id": RUN["model_id"]}
    follower = Follower(a_run(job_id="security-alerts", target=target, platform_job_id="1234"))
    follower.platform.metrics = shown
    assert follower.look(300)["status"] == "completed"


def test_run_of_a_named_model_does_not_look_up_the_active_model(follower: Follower) -> None:
    follower.platform.job = answer(json={"active_model_id": "another"})
    done = follower.look(60, **idle(DONE))
    assert not outcome_of(done)["result"]["active_changed"]
    assert not told(done)["Recompute Completed"]["active_model"]
    assert "job" not in follower.platform.asked


@pytest.mark.parametrize("shown", [NOT_FOUND, answer(json={"active_model_id": None})])
def test_missing_job_or_active_model_does_not_count_as_changed(shown: Answer) -> None:
    follower = Follower(OF_ACTIVE)
    follower.platform.job = shown
    assert not outcome_of(follower.look(60, **idle(DONE)))["result"]["active_changed"]


UNKNOWN = [answer(503), answer(401), no_answer(httpx.ReadTimeout("timed out"))]


@pytest.mark.parametrize("given_answer", UNKNOWN)
@pytest.mark.parametrize("ending", ["completed", "gone"])
def test_outcome_is_announced_once_the_active_model_is_known(
    given_answer: Answer, ending: str, logs: Logs
) -> None:
    follower = Follower(OF_ACTIVE)
    follower.platform.job = given_answer
    if ending == "gone":
        follower.platform.metrics = NOT_FOUND
    waiting = follower.look(60, **(idle(DONE) if ending == "completed" else {}))
    assert (waiting["status"], waiting["outcome"], waiting["polls"]) == ("running", None, 1)
    assert PACE["shortest_poll"] <= waiting["wait_seconds"] <= PACE["longest_poll"]
    assert "status check failed" in [line["message"] for line in logs.lines]
    follower.platform.job = answer(json={"active_model_id": "another"})
    ended = follower.look(90)
    assert ended["status"] == ("completed" if ending == "completed" else "failed")
    assert outcome_of(ended)["result"]["active_changed"]
    if ending == "gone":  # the new model's run follows by itself
        told = outcome_of(ended)["notification"]
        assert told
        assert "not have to request the recompute again" in told["message"]


@pytest.mark.parametrize("given_answer", UNKNOWN)
def test_unknown_active_model_after_the_deadline_counts_as_changed(given_answer: Answer, logs: Logs) -> None:
    follower = Follower(OF_ACTIVE)
    follower.platform.job = given_answer
    done = follower.look(DEADLINE, **idle(DONE))

    assert done["status"] == "completed"
    assert outcome_of(done)["result"]["active_changed"]
    assert "status check failed" in [line["message"] for line in logs.lines]


def test_look_up_of_the_active_model_honours_retry_after() -> None:
    follower = Follower(OF_ACTIVE)
    follower.platform.job = answer(429, headers={"Retry-After": "400"})
    assert follower.look(60, **idle(DONE))["wait_seconds"] == 401


# --- No answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_answer", "error"),
    [
        (answer(503), PlatformUnavailable),
        (answer(401), Unauthorised),
        (answer(200, json={}), UndocumentedAnswer),
        (no_answer(httpx.ReadTimeout("timed out")), PlatformUnavailable),
    ],
)
def test_check_without_an_answer_is_put_off_until_the_deadline_and_then_raises(
    follower: Follower, logs: Logs, given_answer: Any, error: type[RetryLater]
) -> None:
    follower.platform.metrics = given_answer
    assert follower.look(10)["status"] == "running"
    with pytest.raises(error):
        follower.look(DEADLINE)
    failed = [line["reason"] for line in logs.lines if line["message"] == "status check failed"]
    assert failed == [error.__name__] * 2


USUAL_WAIT = Follower().look(20, **busy())["wait_seconds"]


@pytest.mark.parametrize(("wish", "wait"), [(0, USUAL_WAIT), (4, USUAL_WAIT), (400, 401), (10**6, 901)])
def test_retry_after_only_lengthens_the_next_wait_and_not_beyond_the_longest_poll(
    follower: Follower, logs: Logs, wish: int, wait: int
) -> None:
    follower.look(10, **busy())
    follower.platform.metrics = answer(429, headers={"Retry-After": str(wish)})
    put_off = follower.look(20)
    assert (put_off["status"], put_off["wait_seconds"], put_off["polls"]) == ("running", wait, 2)
    assert put_off["recomputing_at"] == to_iso(REQUESTED_AT + 10)
    assert "429" in put_off["detail"]
    (line,) = logs.lines
    assert (line["message"], line["reason"]) == ("status check failed", "PlatformUnavailable")


def test_retry_after_does_not_extend_the_deadline(follower: Follower) -> None:
    follower.platform.metrics = answer(429, headers={"Retry-After": "60"})
    assert follower.look(DEADLINE - 1)["status"] == "running"
    with pytest.raises(PlatformUnavailable):
        follower.look(DEADLINE)


# --- When to check again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [None, "0"], ids=["recomputing", "refusing"])
def test_week_long_run_stays_within_the_executions_event_limit(
    patience: str | None,
) -> None:
    week = 7 * 86400
    hasty: Pace = {**PACE, "deadline": week, "shortest_poll": 1.0, "longest_poll": 1.0}
    follower = Follower(a_run(pace=hasty))
    elapsed = 0
    while elapsed < week - 3600:
        if patience:
            follower.platform.metrics = answer(429, headers={"Retry-After": patience})
        elapsed += follower.look(elapsed, **({} if patience else busy()))["wait_seconds"]

    assert 1000 < follower.last["polls"] < 25_000 / 9


@given(
    elapsed=st.floats(-5, DEADLINE - 1),
    recomputing=st.booleans(),
    durations=st.lists(st.floats(0, 1e8), max_size=10),
)
def test_wait_ends_by_the_deadline_unless_it_confirms_a_failure(
    elapsed: float, recomputing: bool, durations: list[float]
) -> None:
    shown = Follower(a_run(durations=durations)).look(elapsed, **(busy() if recomputing else idle()))
    if shown["status"] == "running":
        latest = CONFIRMATION if "if that lasts" in shown["detail"] else DEADLINE - max(0, elapsed)
        assert 1 <= shown["wait_seconds"] <= max(1, latest + 1)
        assert shown["wait_seconds"] <= PACE["longest_poll"]


def test_wait_for_the_first_check_ends_by_the_deadline() -> None:
    assert first_check(a_run(durations=[3000.0] * 5))["wait_seconds"] > 120
    short = a_run(durations=[3000.0] * 5, pace={**PACE, "deadline": 120.0})
    assert first_check(short)["wait_seconds"] == 121


def test_wait_for_a_confirmation_is_shorter_than_a_long_poll() -> None:
    follower = Follower(a_run(pace={**PACE, "shortest_poll": 500.0}))
    assert follower.look(100, **busy())["wait_seconds"] >= 500
    assert follower.look(200, **idle())["wait_seconds"] <= CONFIRMATION + 1


def test_confirmation_is_not_longer_than_the_start_grace() -> None:
    follower = Follower(a_run(pace={**PACE, "start_grace": 2.0}))
    assert follower.look(5, **idle())["wait_seconds"] <= 3
    assert reason_of(follower.look(7, **idle())) == "NeverStarted"


# --- What is told ----------------------------------------------------------------------------------------


def test_completed_run_leaves_a_past_run(follower: Follower) -> None:
    result = outcome_of(follower.look(400, **idle(DONE)))["result"]
    assert result["outcome"] == "completed"
    assert result["failure"] is None
    assert result["past_run"] == {
        "run_id": "run-1",
        "model_id": RUN["model_id"],
        "cause": "upload",
        "requested_at": RUN["requested_at"],
        "duration_seconds": 180.0,
        "polls": 1,
        "verdict": "not_judged",
        "scores": {
            "overall_accuracy": 0.75,
            "overall_f1_score": 0.7,
            "overall_recall": 0.8,
            "overall_precision": 0.6,
        },
        "why": "no earlier metrics",
    }


def test_verdict_that_needs_no_reason_is_remembered_without_one() -> None:
    done = Follower(a_run(baseline=metrics_body(overall_accuracy=0.75))).look(400, **idle(DONE))
    past_run = outcome_of(done)["result"]["past_run"]
    assert past_run is not None
    assert (past_run["verdict"], "why" in past_run) == ("unchanged", False)


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.70, "improved"), (0.75, "unchanged"), (0.80, "regressed")]
)
def test_completed_run_is_judged_against_its_baseline(accuracy: float, verdict: str) -> None:
    done = Follower(a_run(baseline=metrics_body(overall_accuracy=accuracy))).look(400, **idle(DONE))
    assert told(done)["Recompute Completed"]["verdict"] == verdict
    past_run = outcome_of(done)["result"]["past_run"]
    assert past_run is not None
    assert past_run["verdict"] == verdict
    regressed = verdict == "regressed"
    assert ("Model Metrics Regressed" in told(done)) == regressed
    notification = outcome_of(done)["notification"]
    assert (notification is not None) == regressed
    if notification:
        assert notification["subject"].startswith("Arcanna metrics regressed - job '1234', model 'generic-1")
        assert "accuracy 0.800 -> 0.750" in notification["message"]


def test_verdict_is_logged_with_its_reasons(logs: Logs) -> None:
    Follower(a_run(baseline=metrics_body(overall_accuracy=0.8))).look(400, **idle(DONE))
    (line,) = logs.lines

    assert (line["message"], line["verdict"]) == ("model judged", "regressed")
    assert line["why"] == "overall_accuracy 0.8 -> 0.75"
    assert [each["figure"] for each in line["differences"]] == ["overall_accuracy"]


RULES = Rules(**GATE)


def figures_of(done: Check) -> Reference:
    figures = outcome_of(done)["result"]["figures"]
    assert figures is not None
    return figures


def test_model_stays_regressed_until_it_is_as_good_as_before() -> None:
    """Each run's baseline is the previous run's result. The reference is passed from run to run."""
    verdicts: list[str] = []
    reference: Reference | None = None
    before = metrics_body(overall_accuracy=0.80)
    for accuracy in (0.80, 0.70, 0.70, 0.69, 0.79, 0.85):
        reference = learned(reference, measured(before, RULES), RULES)
        follower = Follower(a_run(baseline=before, reference=reference))
        done = follower.look(400, **idle(DONE), overall_accuracy=accuracy)
        verdicts.append(told(done)["Recompute Completed"]["verdict"])
        reference = learned(reference, figures_of(done), RULES)
        before = metrics_body(overall_accuracy=accuracy)
    assert verdicts == ["unchanged", "regressed", "regressed", "regressed", "unchanged", "improved"]


@pytest.mark.parametrize(("accuracy", "recall"), [(0.9, 0.7), (0.8, 0.5)])
def test_improvement_raises_the_reference_unless_another_figure_regresses(
    accuracy: float, recall: float
) -> None:
    gate = {**GATE, "largest_drop": {"overall_accuracy": 0.02, "overall_recall": 0.02}}
    rules = Rules(**gate)
    reference: Reference = {"overall_accuracy": (0.9, 4), "overall_recall": (0.5, 4)}
    follower = Follower(a_run(baseline=metrics_body(), gate=gate, reference=reference))
    done = follower.look(400, **idle(DONE), overall_accuracy=accuracy, overall_recall=0.7)
    kept = learned(reference, figures_of(done), rules)
    assert {name: value for name, (value, _) in kept.items()} == {
        "overall_accuracy": 0.9,
        "overall_recall": recall,
    }


def test_figure_that_rules_named_before_is_kept_at_its_best() -> None:
    run = a_run(baseline=metrics_body(), reference={"overall_recall": [0.5, 4]})
    done = Follower(run).look(400, **idle(DONE), overall_recall=0.8)
    assert figures_of(done)["overall_recall"] == (0.8, 4)


def test_run_is_judged_by_the_quality_gate_it_began_with() -> None:
    run = a_run(
        baseline=metrics_body(), gate={**GATE, "largest_drop": {}, "floor": {"overall_accuracy": 0.9}}
    )
    assert told(Follower(run).look(400, **idle(DONE)))["Recompute Completed"]["verdict"] == "regressed"


def test_counts_may_be_floats() -> None:
    counts = {"true_positives": 95.0, "false_negatives": 5.0, "recall": 0.95}
    before = metrics_body(metrics_per_decision={"Escalate": counts})
    after = {"Escalate": {"true_positives": 50.0, "false_negatives": 50.0, "recall": 0.5}}
    run = a_run(
        baseline=before, gate={**GATE, "largest_drop": {"Escalate.recall": 0.02}, "minimum_samples": 30}
    )
    done = Follower(run).look(400, **idle(DONE), metrics_per_decision=after)

    assert told(done)["Recompute Completed"]["verdict"] == "regressed"


def test_notification_of_a_failure_says_what_to_do(follower: Follower) -> None:
    follower.look(10, **busy())
    follower.look(200, **idle())
    notification = outcome_of(follower.look(300))["notification"]
    assert notification is not None
    assert notification["subject"].startswith("Arcanna recompute failed - job '1234', model 'generic-1")
    for part in (
        f"The metrics of model {MODEL.model_id!r} of job '1234' were not recomputed.",
        "Why: NoNewResult",
        "Scores that Arcanna shows: accuracy 0.750",
        "What to do: Look up NoNewResult in the runbook.",
        "Runbook: functions/RUNBOOK.md#runs-fail",
        "Updates: 3, the last at 2025-01-15T14:29:30.000Z",
        "Execution: https://eu-central-1.console.aws.amazon.com/states/",
        EXECUTION,
    ):
        assert part in notification["message"]


@pytest.mark.parametrize(
    ("platform_requested_at", "recomputed_at", "duration"),
    [
        ("2025-01-15T14:30:00Z", "2025-01-15T14:33:00Z", 180.0),
        ("2025-01-15T16:30:00+02:00", "2025-01-15T14:33:00.5Z", 180.5),
        # The timestamp has whole seconds only.
        ("2025-01-15T14:33:00.400Z", "2025-01-15T14:33:00Z", 0.0),
        # Our clock decides what the platform's cannot.
        (None, "2025-01-15T14:33:00Z", 400.0),
        ("half past two", "2025-01-15T14:33:00Z", 400.0),
        ("2025-01-15T14:34:00", "2025-01-15T14:33:00Z", 400.0),
        ("2024-01-15T14:30:00Z", "2025-01-15T14:33:00Z", 400.0),
        ("2025-01-15T14:30:00Z", "2036-02-07T06:28:16Z", 400.0),
    ],
)
def test_duration_is_from_the_platforms_clock_if_possible(
    platform_requested_at: str | None, recomputed_at: str, duration: float
) -> None:
    follower = Follower(a_run(platform_requested_at=platform_requested_at))
    event = told(follower.look(400, **idle(recomputed_at)))["Recompute Completed"]
    assert event["duration_seconds"] == duration
