"""The data of a run: how the trigger builds it, and how it is read back from the workflow."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput
from arcanna_metrics.runs.run import (
    EXAMPLES,
    HISTORY_LENGTH,
    Check,
    Run,
    parse_check,
    parse_result,
    parse_run,
)
from arcanna_metrics.runs.start import accepted, cause_of, failed_check, first_check, new_run
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from tests.support.doubles import BASELINE, metrics_body
from tests.support.outcome_events import validate_entry
from tests.support.runs import BUS, CAUSE, DEADLINE, EXECUTION, GATE, PACE, REQUESTED_AT, a_run, origin
from tests.unit.strategies import any_json

OBJECT = {"bucket": "training", "key": "1234/a.csv", "version_id": "v1"}
RUN = a_run(reference={"overall_accuracy": [0.9, 100]}, durations=[60.0, 90.5])


def ended(check: Check) -> dict[str, Any]:
    assert check["outcome"] is not None
    return cast("dict[str, Any]", check["outcome"])


# --- What the trigger builds -----------------------------------------------------------------------------


def test_cause_summarises_all_updates() -> None:
    assert cause_of("upload", 7, 1_736_950_000.0, 1_736_950_060.5, [OBJECT]) == {
        "kind": "upload",
        "updates": 7,
        "first_at": "2025-01-15T14:06:40.000Z",
        "last_at": "2025-01-15T14:07:40.500Z",
        "examples": [OBJECT],
    }


def test_cause_has_as_many_examples_as_fit() -> None:
    assert len(cause_of("upload", 9, 0.0, 0.0, [OBJECT] * 9)["examples"]) == EXAMPLES
    long = {"bucket": "b", "key": "\x01" * 900, "version_id": None}
    assert cause_of("upload", 3, 0.0, 0.0, [OBJECT, long, long])["examples"] == [OBJECT, long]


def test_new_run_has_what_is_known_before_the_request() -> None:
    run = new_run(
        run_id="run-1",
        target=Target("1234", None),
        job_id="1234",
        model_id="m.hdf5",
        cause=CAUSE,
        requested_at=REQUESTED_AT,
        deadline_at=REQUESTED_AT + DEADLINE,
        pace=PACE,
        gate=GATE,
        durations=[float(number) for number in range(HISTORY_LENGTH + 2)],
        reference=None,
        baseline=metrics_body(),
        origin=origin(),
    )
    assert run["target"] == {"job_id": "1234", "model_id": None}
    assert (run["job_id"], run["model_id"]) == ("1234", "m.hdf5")
    assert (run["requested_at"], run["deadline_at"]) == (
        "2025-01-15T14:30:00.000Z",
        "2025-01-15T15:30:00.000Z",
    )
    assert (run["accepted_at"], run["platform_requested_at"], run["platform_job_id"]) == (None, None, None)
    assert run["baseline"] == metrics_body()
    assert run["durations"] == [float(number) for number in range(2, HISTORY_LENGTH + 2)]
    assert parse_run("run", json.loads(json.dumps(run))) == run


def test_accepted_run_has_the_platforms_answer() -> None:
    run = accepted(a_run(), "2025-01-15T14:30:00Z", "77", REQUESTED_AT + 2)
    assert run["platform_requested_at"] == "2025-01-15T14:30:00Z"
    assert (run["platform_job_id"], run["accepted_at"]) == ("77", to_iso(REQUESTED_AT + 2))
    assert accepted(run, None, None, REQUESTED_AT)["platform_requested_at"] is None
    assert accepted(run, "2" * 10_000, None, REQUESTED_AT)["platform_requested_at"] is None


def test_run_begins_with_its_first_wait() -> None:
    check = first_check(RUN)
    assert (check["status"], check["polls"], check["outcome"]) == ("running", 0, None)
    assert PACE["shortest_poll"] <= check["wait_seconds"] <= PACE["longest_poll"]
    patient = a_run(pace={**PACE, "shortest_poll": 700.0})
    assert first_check(patient)["wait_seconds"] == 700


def test_run_that_failed_at_its_start_has_a_complete_outcome() -> None:
    check = failed_check(RUN, "Rejected", "no such model", origin(3))
    assert (check["status"], check["detail"], check["polls"]) == ("failed", "no such model", 0)
    outcome = ended(check)
    assert (outcome["reason"], outcome["detail"]) == ("Rejected", "no such model")
    assert outcome["result"]["outcome"] == "failed"
    assert outcome["result"]["failure"]["ended_at"] == to_iso(REQUESTED_AT + 3)
    (entry,) = outcome["events"]
    assert (entry["DetailType"], entry["EventBusName"]) == ("Recompute Failed", BUS)
    detail = validate_entry(entry)
    assert (detail["reason"], detail["polls"], detail["execution"]) == ("Rejected", 0, EXECUTION)
    assert detail["before"]["last_recomputed_timestamp"] == BASELINE


def test_outcome_for_a_job_without_active_model_names_no_model() -> None:
    check = failed_check(a_run(active=True, model_id=None), "Rejected", "no active model", origin())
    assert validate_entry(ended(check)["events"][0])["model_id"] is None
    notification = ended(check)["notification"]
    assert notification["subject"] == "Arcanna recompute failed - job 1234, the active model"
    assert "The metrics of the active model of job 1234 were not recomputed." in notification["message"]


def test_run_carries_the_outcome_for_failed_checks() -> None:
    check = RUN["unchecked"]
    assert check["status"] == "failed"
    outcome = ended(check)
    assert outcome["reason"] == "NotChecked"
    assert outcome["result"]["outcome"] == "not_checked"
    assert not outcome["result"]["active_changed"]
    assert outcome["result"]["failure"]["reason"] == "NotChecked"
    detail = validate_entry(outcome["events"][0])
    assert (detail["ended_at"], detail["polls"]) == (None, None)
    assert "not known whether the metrics" in outcome["notification"]["message"]
    assert "do not have to request the recompute again" in outcome["notification"]["message"]


# --- What is read back -----------------------------------------------------------------------------------


def test_workflow_data_is_read_unchanged() -> None:
    assert parse_run("run", RUN) == RUN
    assert parse_check("check", first_check(RUN)) == first_check(RUN)
    result = ended(RUN["unchecked"])["result"]
    assert parse_result("result", result) == result


def test_unknown_fields_are_kept() -> None:
    """After a return to the version before, an execution of the newer version goes on."""
    assert dict(parse_run("run", {**RUN, "newer": 1}))["newer"] == 1
    assert dict(parse_check("check", {**first_check(RUN), "newer": 2}))["newer"] == 2


@pytest.mark.parametrize("field", sorted(RUN))
def test_missing_field_of_a_run_is_named(field: str) -> None:
    without = {name: value for name, value in RUN.items() if name != field}
    with pytest.raises(BadInput, match=f"release.run lacks {field}"):
        parse_run("release.run", without)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run_id": 7}, "run_id of run must be a string"),
        ({"run_id": "x" * 257}, "run_id of run has 257 characters"),
        ({"job_id": None}, "job_id of run is missing"),
        ({"job_id": ""}, "job_id of run is empty"),
        ({"model_id": 7}, "model_id of run must be a string"),
        ({"target": None}, "target of run must be a JSON object, not NoneType"),
        ({"target": {"job_id": "1"}}, "target of run lacks model_id"),
        ({"target": {"job_id": [], "model_id": None}}, "target.job_id of run must be a string"),
        ({"target": {"job_id": "1", "model_id": ""}}, "target.model_id of run is empty"),
        ({"cause": 7}, "cause of run must be a JSON object"),
        ({"cause": {**CAUSE, "kind": ""}}, "kind of cause of run is empty"),
        ({"cause": {**CAUSE, "last_at": "soon"}}, "last_at of cause of run must be an ISO 8601 time"),
        ({"cause": {**CAUSE, "examples": {}}}, "examples of cause of run must be a JSON array"),
        ({"cause": {**CAUSE, "examples": [{}]}}, "an example of cause of run lacks bucket"),
        ({"requested_at": None}, "requested_at of run must be an ISO 8601 time, not None"),
        ({"deadline_at": 7}, "deadline_at of run must be an ISO 8601 time, not 7"),
        ({"accepted_at": "0000"}, "accepted_at of run must be an ISO 8601 time"),
        ({"platform_requested_at": 7}, "platform_requested_at of run must be a JSON string or null"),
        ({"baseline": []}, "baseline of run must be a JSON object or null"),
        ({"pace": {}}, "pace of run lacks longest_poll, shortest_poll, start_grace"),
        ({"pace": {**PACE, "shortest_poll": 0}}, "shortest_poll of run must be a number from 1 to"),
        ({"pace": {**PACE, "longest_poll": 4}}, "longest_poll of run must be a number from 5 to"),
        ({"pace": {**PACE, "start_grace": True}}, "start_grace of run must be a number"),
        ({"pace": {**PACE, "start_grace": float("nan")}}, "start_grace of run must be a number"),
        ({"pace": {**PACE, "start_grace": 10**400}}, "start_grace of run must be a number"),
        ({"gate": None}, "gate of run: quality_gate must be an object"),
        ({"gate": {"floor": {"x": 1}}}, "gate of run: quality_gate.floor.x names no figure"),
        ({"durations": None}, "durations of run must be a JSON array"),
        ({"durations": [1.0, -1]}, "a duration of run must be a number from 0"),
        ({"durations": [1e300]}, "a duration of run must be a number from 0"),
        ({"reference": []}, "reference of run must be a JSON object or null"),
        ({"reference": {"a": [1]}}, "reference of run must hold a score and a number of alerts"),
        ({"reference": {"a": ["1", 1]}}, "a score of reference of run must be a number"),
        ({"reference": {"a": [1, -1]}}, "a number of alerts of reference of run must be a number"),
        ({"unchecked": {}}, "unchecked of run lacks detail"),
    ],
)
def test_invalid_field_of_a_run_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_run("run", {**RUN, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"polls": -1}, "polls of check must be a whole number"),
        ({"polls": True}, "polls of check must be a whole number"),
        ({"polls": 1.5}, "polls of check must be a whole number"),
        ({"recomputing_at": 7}, "recomputing_at of check must be an ISO 8601 time"),
        ({"idle_since": "then"}, "idle_since of check must be an ISO 8601 time"),
        ({"outcome": "failed"}, "outcome of check must be a JSON object or null"),
    ],
)
def test_invalid_field_of_a_check_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_check("check", {**first_check(RUN), **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outcome": "fine"}, "outcome of result is unknown: 'fine'"),
        ({"active_changed": None}, "active_changed of result must be a JSON boolean"),
        ({"failure": []}, "failure of result must be a JSON object or null"),
        ({"reference": {"a": 1}}, "reference of result must hold"),
    ],
)
def test_invalid_field_of_a_result_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_result("result", {**ended(RUN["unchecked"])["result"], **changes})


@given(any_json)
def test_any_json_that_is_not_an_object_is_bad_input(value: Any) -> None:
    for parse in (parse_run, parse_check, parse_result):
        with pytest.raises(BadInput, match="it "):
            parse("it", value)


@given(st.sampled_from(sorted(RUN)), any_json)
def test_any_value_in_a_field_is_read_or_bad_input(field: str, value: Any) -> None:
    try:
        run: Run | None = parse_run("run", {**RUN, field: value})
    except BadInput:
        run = None
    assert run is None or first_check(run)["wait_seconds"] >= 1
