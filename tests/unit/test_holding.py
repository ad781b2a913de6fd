"""Hold and release of a run, as the workflow calls them, and their log lines."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from arcanna_metrics.controller.holding import check_up_on, hold, release
from arcanna_metrics.observability import metrics
from arcanna_metrics.protocol.check_up import MOST_EXECUTIONS
from arcanna_metrics.protocol.entry import Claim, Entry, Waiting
from arcanna_metrics.protocol.ledger import key_of
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME, claim
from arcanna_metrics.runs.run import Result, Run
from tests.support.doubles import ACTIVE_TARGET, TARGET, Clock, Logs
from tests.support.runs import GATE, a_new_run
from tests.unit.harness import Harness

EXECUTION = "arn:aws:states:eu-central-1:123456789012:execution:recompute:run-1"
RUN = a_new_run(TARGET, TARGET.model_id, requested_at=Clock.now)
OF_RUN = {"run_id": "run-1", "job_id": TARGET.job_id, "model_id": TARGET.model_id, "cause": "manual"}
COMPLETED: Result = {
    "outcome": "completed",
    "active_changed": False,
    "past_run": {
        "run_id": "run-1",
        "model_id": TARGET.model_id,
        "cause": "manual",
        "requested_at": RUN["requested_at"],
        "polls": 4,
        "duration_seconds": 9.0,
        "verdict": "unchanged",
        "scores": {},
    },
    "figures": None,
    "failure": None,
}


FIRST = Claim("run-1", Clock.now, number=0)


@pytest.fixture(autouse=True)
def _claimed(harness: Harness) -> None:
    harness.ledger.apply(
        TARGET,
        lambda entry: claim(
            replace(entry, waiting=Waiting(cause="manual")), Claim("run-1", harness.clock.now)
        ),
    )
    harness.executions.start("run-1", json.dumps({"run": RUN}))


def test_execution_holds_the_target_that_its_run_has_claimed(harness: Harness) -> None:
    assert hold(harness.services, RUN, 0)
    assert hold(harness.services, RUN, 0)  # repeated, because its answer was lost
    assert harness.entry().claim == Claim("run-1", harness.clock.now, number=0)
    assert harness.entry().due_at == harness.clock.now + CLAIM_LIFETIME


@pytest.mark.parametrize(("run_id", "number"), [("run-2", 1), ("run-1", 0)])
def test_hold_is_refused_for_another_run_or_earlier_execution(
    harness: Harness, run_id: str, number: int
) -> None:
    hold(harness.services, RUN, 1)
    assert not hold(harness.services, cast("Run", {**RUN, "run_id": run_id}), number)
    assert harness.entry().claim == FIRST._replace(number=1)


def test_release_stores_the_result(harness: Harness) -> None:
    hold(harness.services, RUN, 0)
    assert release(harness.services, RUN, 0, COMPLETED)
    entry = harness.entry()
    assert (entry.run_id, entry.fresh_as_of, entry.due_at) == (None, Clock.now, None)
    assert [past["run_id"] for past in entry.history] == ["run-1"]


def test_repeated_release_changes_nothing_and_counts_no_run(harness: Harness) -> None:
    metrics.clear_metrics()
    hold(harness.services, RUN, 0)
    release(harness.services, RUN, 0, COMPLETED)
    before = harness.entry()
    assert not release(harness.services, RUN, 0, COMPLETED)
    assert harness.entry() == before
    assert metrics.metric_set["RecomputesCompleted"]["Value"] == [1.0]


def test_late_release_of_an_aborted_execution_is_refused_after_a_resumption(harness: Harness) -> None:
    hold(harness.services, RUN, 0)
    hold(harness.services, RUN, 1)
    before = harness.entry()
    assert not release(harness.services, RUN, 0, COMPLETED)
    assert harness.entry() == before
    assert release(harness.services, RUN, 1, COMPLETED)


def test_run_that_does_not_hold_its_target_any_more_changes_no_reference(harness: Harness) -> None:
    judged: Run = {**RUN, "gate": GATE}
    seen: Result = {**COMPLETED, "figures": {"overall_accuracy": (0.9, 100)}}
    hold(harness.services, RUN, 0)
    harness.stack.dynamodb.delete_item(TableName=harness.stack.ledger_table, Key=key_of(TARGET))
    assert not release(harness.services, judged, 0, seen)
    assert harness.entry().rev == 0


def test_target_is_released_although_somebody_has_edited_the_entry_of_its_model(
    harness: Harness, logs: Logs
) -> None:
    seen: Result = {**COMPLETED, "figures": {"overall_accuracy": (0.9, 100)}}
    wrong: Any = {"overall_accuracy": 0.9}
    harness.stack.put(Entry(TARGET, quality_reference=wrong))
    harness.ledger.apply(ACTIVE_TARGET, lambda entry: claim(entry, Claim("run-1", harness.clock.now)))
    of_active = cast("Run", {**RUN, "target": ACTIVE_TARGET._asdict()})
    hold(harness.services, of_active, 0)
    assert release(harness.services, of_active, 0, seen)
    told = line(logs, "reference not updated")
    assert (told["model_id"], f"the entry of {TARGET} cannot be read" in told["detail"]) == (
        TARGET.model_id,
        True,
    )


# --- What is logged of a run, as events/README.md promises ------------------------------------------------


def line(logs: Logs, message: str) -> dict[str, Any]:
    (found,) = [line for line in logs.lines if line["message"] == message]
    return found


def test_log_line_of_a_release_names_its_run(harness: Harness, logs: Logs) -> None:
    hold(harness.services, RUN, 0)
    release(harness.services, RUN, 0, COMPLETED)
    assert line(logs, "run released").items() >= (OF_RUN | {"execution": EXECUTION}).items()


def test_log_line_of_a_superseded_execution_names_its_run(harness: Harness, logs: Logs) -> None:
    hold(harness.services, RUN, 1)
    hold(harness.services, RUN, 0)
    assert line(logs, "run superseded").items() >= (OF_RUN | {"execution": EXECUTION}).items()


def test_log_line_of_a_resumption_names_its_run_and_the_new_execution(harness: Harness, logs: Logs) -> None:
    hold(harness.services, RUN, 0)
    harness.executions.end("run-1")
    check_up_on(harness.services, harness.entry(), FIRST)
    assert line(logs, "run resumed").items() >= (OF_RUN | {"execution": f"{EXECUTION}-1"}).items()


def test_log_line_of_a_run_taken_back_names_its_run(harness: Harness, logs: Logs) -> None:
    hold(harness.services, RUN, 0)
    for number in range(MOST_EXECUTIONS):
        harness.executions.start("run-1", "{}", number)
        harness.executions.end("run-1", number)
    check_up_on(harness.services, harness.entry(), FIRST)
    last = f"{EXECUTION}-{MOST_EXECUTIONS - 1}"
    assert line(logs, "run taken back").items() >= (OF_RUN | {"execution": last}).items()
