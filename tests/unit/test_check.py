"""One look after the other, until the run has ended."""

from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput, PlatformUnavailable, RetryLater, Unauthorised, UndocumentedAnswer
from arcanna_metrics.runs.check import CONFIRMATION, check, run_and_check
from arcanna_metrics.runs.quality import Rules
from arcanna_metrics.runs.run import HISTORY_LENGTH, Check, PastRun, Run, first_check
from arcanna_metrics.settings import PollSettings
from arcanna_metrics.times import to_iso
from tests.doubles import BASELINE, MODEL, Answer, Logs, ScriptedPlatform, answer, metrics_body, no_answer

REQUESTED_AT = 1_736_951_400.0  # 2025-01-15T14:30:00Z
DEADLINE = 3600.0
POLLS = PollSettings(shortest=5, longest=900, start_grace=600)
RULES = Rules({"overall_accuracy": 0.02}, {}, 1)
DONE = "2025-01-15T14:33:00Z"
RUN: Run = {
    "run_id": "run-1",
    "job_id": MODEL.job_id,
    "model_id": MODEL.model_id,
    "label": "job 1234",
    "cause": {
        "kind": "upload",
        "updates": 3,
        "first_at": to_iso(REQUESTED_AT - 60),
        "last_at": to_iso(REQUESTED_AT - 30),
        "sample": [],
    },
    "requested_at": to_iso(REQUESTED_AT),
    "deadline_at": to_iso(REQUESTED_AT + DEADLINE),
    "lease_until": to_iso(REQUESTED_AT + 2 * DEADLINE),
    "platform_requested_at": "2025-01-15T14:30:00Z",
    "baseline": {"last_recomputed_timestamp": BASELINE},
    "follows_active": False,
}
FIRST = first_check([], 30)


def past_run(number: int) -> PastRun:
    return {
        "run_id": f"past-{number}",
        "cause": "upload",
        "requested_at": to_iso(REQUESTED_AT - 1e6 + number),
        "duration_seconds": 100.0 + number,
        "polls": 4,
        "verdict": "unchanged",
        "scores": {"overall_accuracy": 0.75},
    }


class Follower:
    """A run that is looked at again and again, as the workflow does it."""

    def __init__(self, run: Run = RUN, last: Check = FIRST, polls: PollSettings = POLLS) -> None:
        self.platform = ScriptedPlatform()
        self.run = run
        self.last = last
        self._polls = polls
        self._arcanna = self.platform.client()

    def look(self, elapsed: float, **shown: object) -> Check:
        """What a look `elapsed` seconds after the request says; the platform shows what it is told."""
        if shown:
            self.platform.metrics = answer(json=metrics_body(**shown))
        self.last = check(self._arcanna, self.run, self.last, self._polls, RULES, REQUESTED_AT + elapsed)
        return self.last


@pytest.fixture
def follower() -> Follower:
    return Follower()


def idle(timestamp: str | None = BASELINE) -> dict[str, object]:
    return {"is_recomputing_metrics": False, "last_recomputed_timestamp": timestamp}


def busy(timestamp: str | None = BASELINE) -> dict[str, object]:
    return {"is_recomputing_metrics": True, "last_recomputed_timestamp": timestamp}


# --- The story of a run ----------------------------------------------------------------------------------


def test_from_queued_to_completed(follower: Follower) -> None:
    for elapsed in (5, 60, 300):
        queued = follower.look(elapsed, **idle())
        assert (queued["status"], queued["detail"]) == ("running", "queued")
    recomputing = follower.look(320, **busy())
    assert (recomputing["status"], recomputing["detail"]) == ("running", "recomputing")
    assert recomputing["metrics"] is None
    done = follower.look(400, **idle(DONE))
    assert (done["status"], done["polls"]) == ("completed", 5)
    assert done["metrics"] is not None
    assert done["metrics"]["last_recomputed_timestamp"] == DONE
    assert done["metrics"]["overall_accuracy"] == 0.75


def test_a_first_recompute_has_no_baseline() -> None:
    follower = Follower({**RUN, "baseline": None})
    assert follower.look(10, **idle(None))["status"] == "running"
    assert follower.look(200, **idle(DONE))["status"] == "completed"


def test_somebody_else_s_result_is_not_taken_for_ours(follower: Follower) -> None:
    """The baseline was read when the flag of that recompute had fallen, but its timestamp lagged behind."""
    of_another = "2025-01-15T14:29:59Z"
    queued = follower.look(5, **idle(of_another))
    assert (queued["status"], queued["detail"]) == ("running", "queued")
    assert follower.look(60, **busy(of_another))["status"] == "running"
    done = follower.look(400, **idle(DONE))
    assert (done["status"], done["duration_seconds"]) == ("completed", 180.0)


def test_a_recompute_that_never_starts_fails_after_the_grace_period(follower: Follower) -> None:
    assert follower.look(599, **idle())["status"] == "running"
    failed = follower.look(600, **idle())
    assert (failed["status"], failed["reason"]) == ("failed", "NeverStarted")
    assert failed["history"] == []


def test_a_timestamp_that_lags_behind_the_flag_is_waited_for(follower: Follower) -> None:
    follower.look(100, **busy())
    assert follower.look(200, **idle())["status"] == "running"
    assert follower.look(200 + CONFIRMATION - 1, **idle())["status"] == "running"
    assert follower.look(200 + CONFIRMATION + 5, **idle(DONE))["status"] == "completed"


def test_a_recompute_without_a_new_result_fails_once_confirmed(follower: Follower) -> None:
    follower.look(100, **busy())
    follower.look(200, **idle())
    failed = follower.look(200 + CONFIRMATION, **idle())
    assert (failed["status"], failed["reason"]) == ("failed", "NoNewResult")
    assert failed["metrics"] is not None


def test_the_confirmation_begins_anew_when_the_platform_recomputes_again(follower: Follower) -> None:
    follower.look(100, **busy())
    follower.look(200, **idle())
    follower.look(230, **busy())
    assert follower.look(200 + CONFIRMATION, **idle())["status"] == "running"


def test_a_run_times_out_at_its_deadline(follower: Follower) -> None:
    assert follower.look(DEADLINE - 1, **busy())["status"] == "running"
    timed_out = follower.look(DEADLINE, **busy())
    assert (timed_out["status"], timed_out["reason"]) == ("timed_out", "DeadlinePassed")


def test_a_model_that_is_gone_fails_the_run(follower: Follower) -> None:
    follower.look(10, **busy())
    follower.platform.metrics = answer(404, json={"error": "Model not found", "details": ""})
    failed = follower.look(20)
    assert (failed["status"], failed["reason"], failed["polls"]) == ("failed", "Rejected", 2)
    assert "Model not found" in failed["detail"]


# --- The job's active model ------------------------------------------------------------------------------

FOLLOWING: Run = {**RUN, "follows_active": True}


@pytest.mark.parametrize(("active", "changed"), [(MODEL.model_id, False), ("another", True)])
@pytest.mark.parametrize("ending", ["completed", "failed", "gone"])
def test_at_its_end_a_run_looks_whether_its_job_has_another_active_model(
    active: str, changed: bool, ending: str
) -> None:
    follower = Follower(FOLLOWING)
    follower.platform.job = answer(json={"active_model_id": active})
    assert not follower.look(10, **busy())["active_changed"]
    assert follower.platform.asked == ["metrics"]
    if ending == "gone":
        follower.platform.metrics = answer(404, json={"error": "Model not found"})
        ended = follower.look(20)
    else:
        follower.look(60, **idle(DONE if ending == "completed" else BASELINE))
        ended = follower.look(300, **idle(DONE if ending == "completed" else BASELINE))
    assert ended["status"] == ("completed" if ending == "completed" else "failed")
    assert ended["active_changed"] is changed


def test_a_run_of_a_model_that_was_named_asks_for_no_active_one(follower: Follower) -> None:
    follower.platform.job = answer(json={"active_model_id": "another"})
    assert not follower.look(60, **idle(DONE))["active_changed"]
    assert "job" not in follower.platform.asked


def test_a_job_that_is_gone_has_no_other_active_model() -> None:
    follower = Follower(FOLLOWING)
    follower.platform.job = answer(404, json={"error": "Job not found"})
    assert not follower.look(60, **idle(DONE))["active_changed"]


@pytest.mark.parametrize(
    "given_answer", [answer(503), answer(401), no_answer(httpx.ReadTimeout("timed out"))]
)
@pytest.mark.parametrize("ending", ["completed", "gone"])
def test_a_lookup_that_fails_does_not_keep_a_run_from_its_end(given_answer: Answer, ending: str) -> None:
    """Asked for is then whatever is active: that costs nothing where nothing has changed."""
    follower = Follower(FOLLOWING)
    follower.platform.job = given_answer
    if ending == "gone":
        follower.platform.metrics = answer(404, json={"error": "Model not found"})
    ended = follower.look(60, **(idle(DONE) if ending == "completed" else {}))
    assert ended["status"] == ("completed" if ending == "completed" else "failed")
    assert ended["active_changed"]


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
def test_no_answer_is_left_to_the_workflow(
    follower: Follower, given_answer: Any, error: type[RetryLater]
) -> None:
    follower.platform.metrics = given_answer
    with pytest.raises(error):
        follower.look(10)


@pytest.mark.parametrize(("wish", "wait"), [(0, 6), (4, 6), (60, 61), (10**6, 901)])
def test_a_platform_that_names_a_time_is_looked_at_then(
    follower: Follower, logs: Logs, wish: int, wait: int
) -> None:
    follower.look(10, **busy())
    follower.platform.metrics = answer(429, headers={"Retry-After": str(wish)})
    put_off = follower.look(20)
    assert (put_off["status"], put_off["wait_seconds"], put_off["polls"]) == ("running", wait, 2)
    assert put_off["seen_recomputing"]
    assert "429" in put_off["detail"]
    (line,) = logs.lines
    assert (line["message"], line["reason"]) == ("status check failed", "PlatformUnavailable")


def test_a_platform_that_asks_for_patience_does_not_stretch_the_deadline(follower: Follower) -> None:
    follower.platform.metrics = answer(429, headers={"Retry-After": "60"})
    assert follower.look(DEADLINE - 1)["status"] == "running"
    with pytest.raises(PlatformUnavailable):
        follower.look(DEADLINE)


# --- When to look again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [None, "0"], ids=["recomputing", "refusing"])
def test_the_longest_run_is_looked_at_no_oftener_than_its_execution_has_events_for(
    patience: str | None,
) -> None:
    week = 7 * 86400
    hasty = PollSettings(shortest=1, longest=1, start_grace=600)
    follower = Follower({**RUN, "deadline_at": to_iso(REQUESTED_AT + week)}, polls=hasty)
    elapsed = 0
    while elapsed < week - 3600:
        if patience:
            follower.platform.metrics = answer(429, headers={"Retry-After": patience})
        elapsed += follower.look(elapsed, **({} if patience else busy()))["wait_seconds"]
    assert 1000 < follower.last["polls"] < 25_000 / 9


@given(
    elapsed=st.floats(0, DEADLINE - 1),
    recomputing=st.booleans(),
    history=st.lists(st.integers(0, 50), max_size=HISTORY_LENGTH),
)
def test_no_wait_goes_past_the_deadline(elapsed: float, recomputing: bool, history: list[int]) -> None:
    follower = Follower(last=first_check([past_run(number) for number in history], 30))
    shown = follower.look(elapsed, **(busy() if recomputing else idle()))
    if shown["status"] == "running":
        assert 1 <= shown["wait_seconds"] <= max(1, DEADLINE - elapsed + 1)
        assert shown["wait_seconds"] <= POLLS.longest


def test_a_confirmation_is_not_waited_for_longer_than_it_takes() -> None:
    follower = Follower(polls=PollSettings(shortest=500, longest=900, start_grace=600))
    assert follower.look(100, **busy())["wait_seconds"] >= 500
    assert follower.look(200, **idle())["wait_seconds"] <= CONFIRMATION + 1


# --- What is remembered ----------------------------------------------------------------------------------


def test_a_completed_run_joins_the_history(follower: Follower) -> None:
    done = follower.look(400, **idle(DONE))
    assert done["history"] == [
        {
            "run_id": "run-1",
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
        }
    ]
    assert done["duration_seconds"] == 180.0


def test_a_run_that_failed_is_not_in_the_history() -> None:
    past = [past_run(1)]
    failed = Follower(last=first_check(past, 30)).look(600, **idle())
    assert failed["status"] == "failed"
    assert failed["history"] == past


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.70, "improved"), (0.75, "unchanged"), (0.80, "regressed")]
)
def test_a_completed_run_is_judged_against_its_baseline(accuracy: float, verdict: str) -> None:
    baseline = metrics_body(overall_accuracy=accuracy)
    done = Follower({**RUN, "baseline": baseline}).look(400, **idle(DONE))
    assert done["quality"]["verdict"] == verdict
    assert done["history"][-1]["verdict"] == verdict
    assert done["scores_in_words"].startswith(f"accuracy {accuracy:.3f} -> 0.750, F1 0.700 -> 0.700")


def test_a_model_that_stays_worse_stays_regressed_until_it_is_as_good_as_it_was() -> None:
    """Each run's baseline is what the one before has left; what is judged by goes from run to run."""
    verdicts, reference, before = [], None, metrics_body(overall_accuracy=0.80)
    for accuracy in (0.80, 0.70, 0.70, 0.69, 0.79, 0.85):
        follower = Follower({**RUN, "baseline": before}, first_check([], 30, before, reference))
        done = follower.look(400, **idle(DONE), overall_accuracy=accuracy)
        verdicts.append(done["quality"]["verdict"])
        reference, before = done["reference"], metrics_body(overall_accuracy=accuracy)
    assert verdicts == ["unchanged", "regressed", "regressed", "regressed", "unchanged", "improved"]


def test_until_its_end_a_run_is_not_judged(follower: Follower) -> None:
    running = follower.look(100, **busy())
    assert running["quality"]["verdict"] == "not_judged"
    assert running["scores_in_words"] == "accuracy 0.750, F1 0.700, recall 0.800, precision 0.600"


def test_the_history_forgets_the_oldest_run() -> None:
    follower = Follower(last=first_check([past_run(number) for number in range(HISTORY_LENGTH)], 30))
    history = follower.look(400, **idle(DONE))["history"]
    assert [past["run_id"] for past in history] == [*(f"past-{n}" for n in range(1, HISTORY_LENGTH)), "run-1"]


@pytest.mark.parametrize(
    ("platform_requested_at", "recomputed_at", "duration"),
    [
        ("2025-01-15T14:30:00Z", "2025-01-15T14:33:00Z", 180.0),
        ("2025-01-15T16:30:00+02:00", "2025-01-15T14:33:00.5Z", 180.5),
        # What the platform's clock cannot tell, ours does.
        (None, "2025-01-15T14:33:00Z", 400.0),
        ("half past two", "2025-01-15T14:33:00Z", 400.0),
        ("2025-01-15T14:30:00Z", "just now", 400.0),
        ("2025-01-15T14:34:00", "2025-01-15T14:33:00Z", 400.0),
        ("2025-01-15T14:33:00.400Z", "2025-01-15T14:33:00Z", 400.0),
        ("2024-01-15T14:30:00Z", "2025-01-15T14:33:00Z", 400.0),
    ],
)
def test_how_long_a_run_took(platform_requested_at: str | None, recomputed_at: str, duration: float) -> None:
    follower = Follower({**RUN, "platform_requested_at": platform_requested_at})
    assert follower.look(400, **idle(recomputed_at))["duration_seconds"] == duration


# --- What comes in ---------------------------------------------------------------------------------------


def test_the_workflow_s_data_is_taken_as_it_is() -> None:
    assert run_and_check({"run": RUN, "check": FIRST, "execution": "arn"}) == (RUN, FIRST)


@pytest.mark.parametrize(
    "event", [None, [], "run", {}, {"run": RUN}, {"check": FIRST}, {"run": 1, "check": 2}]
)
def test_anything_else_is_bad_input(event: object) -> None:
    with pytest.raises(BadInput, match="run"):
        run_and_check(event)


@pytest.mark.parametrize(
    ("part", "field"),
    [*(("run", name) for name in RUN), *(("check", name) for name in sorted(Check.__required_keys__))],
)
def test_a_missing_field_is_named(part: str, field: str) -> None:
    event = cast("dict[str, dict[str, Any]]", {"run": dict(RUN), "check": dict(FIRST)})
    del event[part][field]
    with pytest.raises(BadInput, match=f"{part} lacks {field}"):
        run_and_check(event)
