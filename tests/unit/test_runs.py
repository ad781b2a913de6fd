"""The data of a run: how the trigger builds it, and how it is read back from the workflow."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.start import new_run
from arcanna_metrics.runs.check import failed_at_start, first_check, not_checked
from arcanna_metrics.runs.parse import parse
from arcanna_metrics.runs.run import Check, Result, Run
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.updates import Example
from tests.support import doubles
from tests.support.doubles import BASELINE
from tests.support.outcome_events import validate_entry
from tests.support.runs import BUS, CAUSE, EXECUTION, GATE, PACE, REQUESTED_AT, a_run, origin
from tests.unit.strategies import any_json

OBJECT = Example("training", "1234/a.csv", "v1")
RUN = a_run(reference={"overall_accuracy": [0.9, 100]}, durations=[60.0, 90.5])


def ended(check: Check) -> dict[str, Any]:
    assert check["outcome"] is not None
    return cast("dict[str, Any]", check["outcome"])


PAST_RUN = {
    "run_id": "run-1",
    "cause": "upload",
    "requested_at": "2025-01-15T14:30:00.000Z",
    "duration_seconds": 60,
    "polls": 3,
    "verdict": "regressed",
    "scores": {"overall_accuracy": 0.9, "overall_recall": None},
}
RESULT = ended(failed_at_start(RUN, "Rejected", "no such model", origin()))["result"]


# --- What the trigger builds -----------------------------------------------------------------------------


def claimed(**fields: Any) -> Entry:
    target = Target("1234", None)
    return Entry(target, run_id="run-1", requested_at=REQUESTED_AT, cause="upload", updates=7, **fields)


def built(entry: Entry) -> Run:
    return new_run(entry, "m.hdf5", JobSettings(doubles.PACE, GATE))


def test_cause_summarises_all_updates() -> None:
    entry = claimed(waiting_since=REQUESTED_AT - 60, last_at=REQUESTED_AT - 9.5, examples=(OBJECT,))
    assert built(entry)["cause"] == {
        "kind": "upload",
        "updates": 7,
        "first_at": "2025-01-15T14:29:00.000Z",
        "last_at": "2025-01-15T14:29:50.500Z",
        "examples": [OBJECT._asdict()],
    }


def test_cause_has_as_many_examples_as_fit() -> None:
    long = Example("b", "\x01" * 900, None)
    shown = built(claimed(examples=(OBJECT, long, long)))["cause"]["examples"]
    assert shown == [OBJECT._asdict(), long._asdict()]


def test_new_run_has_what_is_known_before_the_request() -> None:
    history: Any = [{"duration_seconds": float(number)} for number in range(3)]
    reference = {"model_id": "m.hdf5", "figures": {"overall_accuracy": [0.9, 100]}}
    run = built(claimed(history=tuple(history), quality_reference=reference))
    assert run["target"] == {"job_id": "1234", "model_id": None}
    assert (run["job_id"], run["model_id"]) == ("1234", "m.hdf5")
    assert run["requested_at"] == "2025-01-15T14:30:00.000Z"
    assert run["deadline_at"] == to_iso(REQUESTED_AT + doubles.PACE.deadline)
    assert (run["accepted_at"], run["platform_requested_at"], run["platform_job_id"]) == (None, None, None)
    assert run["baseline"] is None
    assert (run["durations"], run["reference"]) == ([0.0, 1.0, 2.0], reference["figures"])
    assert parse("run", json.loads(json.dumps(run)), Run) == run


def test_run_of_another_model_has_no_reference() -> None:
    assert built(claimed(quality_reference={"model_id": "other", "figures": {}}))["reference"] is None


def test_run_begins_with_its_first_wait() -> None:
    check = first_check(RUN)
    assert (check["status"], check["polls"], check["outcome"]) == ("running", 0, None)
    assert PACE["shortest_poll"] <= check["wait_seconds"] <= PACE["longest_poll"]
    patient = a_run(pace={**PACE, "shortest_poll": 700.0})
    assert first_check(patient)["wait_seconds"] == 700


def test_run_that_failed_at_its_start_has_a_complete_outcome() -> None:
    check = failed_at_start(RUN, "Rejected", "no such model", origin(3))
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
    check = failed_at_start(a_run(active=True, model_id=None), "Rejected", "no active model", origin())
    assert validate_entry(ended(check)["events"][0])["model_id"] is None
    notification = ended(check)["notification"]
    assert notification["subject"] == "Arcanna recompute failed - job 1234, the active model"
    assert "The metrics of the active model of job 1234 were not recomputed." in notification["message"]


def test_run_that_cannot_be_checked_ends_with_an_unknown_result() -> None:
    check = not_checked(RUN, {**first_check(RUN), "polls": 7}, origin(99))
    assert (check["status"], check["polls"]) == ("failed", 7)
    outcome = ended(check)
    assert outcome["reason"] == "NotChecked"
    assert outcome["result"]["outcome"] == "not_checked"
    assert not outcome["result"]["active_changed"]
    assert outcome["result"]["failure"]["reason"] == "NotChecked"
    detail = validate_entry(outcome["events"][0])
    assert (detail["ended_at"], detail["polls"]) == (to_iso(REQUESTED_AT + 99), 7)
    assert "not known whether the metrics" in outcome["notification"]["message"]
    assert "do not have to request the recompute again" in outcome["notification"]["message"]


# --- What is read back -----------------------------------------------------------------------------------


def test_workflow_data_is_read_unchanged() -> None:
    assert parse("run", RUN, Run) == RUN
    assert parse("check", first_check(RUN), Check) == first_check(RUN)
    assert parse("result", RESULT, Result) == RESULT


@pytest.mark.parametrize("more", [{}, {"why": "recall fell"}])
def test_result_of_a_completed_run_is_read_with_and_without_a_reason(more: dict[str, Any]) -> None:
    result = {**RESULT, "outcome": "completed", "past_run": PAST_RUN | more, "failure": None}
    assert parse("result", result, Result) == result
    with pytest.raises(BadInput, match=r"result\.past_run\.why must be a JSON string"):
        parse("result", {**result, "past_run": PAST_RUN | {"why": 7}}, Result)


def test_unknown_fields_are_kept() -> None:
    """After a return to the version before, an execution of the newer version goes on."""
    assert dict(parse("run", {**RUN, "newer": 1}, Run))["newer"] == 1
    assert dict(parse("check", {**first_check(RUN), "newer": 2}, Check))["newer"] == 2


@pytest.mark.parametrize("field", sorted(RUN))
def test_missing_field_of_a_run_is_named(field: str) -> None:
    without = {name: value for name, value in RUN.items() if name != field}
    with pytest.raises(BadInput, match=f"release.run lacks {field}"):
        parse("release.run", without, Run)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run_id": 7}, "run.run_id must be a JSON string, not 7"),
        ({"run_id": "x" * 257}, "it has 257 characters"),
        ({"job_id": None}, "run.job_id must be a JSON string, not None"),
        ({"job_id": ""}, "run.job_id must not be '': it is empty"),
        ({"model_id": 7}, "run.model_id must be a JSON string"),
        ({"target": None}, "run.target must be a JSON object, not None"),
        ({"target": {"job_id": "1"}}, "run.target lacks model_id"),
        ({"target": {"job_id": [], "model_id": None}}, "run.target.job_id must be a JSON string"),
        ({"target": {"job_id": "1", "model_id": ""}}, "run.target.model_id must not be '': it is empty"),
        ({"cause": 7}, "run.cause must be a JSON object"),
        ({"cause": {**CAUSE, "kind": ""}}, "run.cause.kind must not be ''"),
        ({"cause": {**CAUSE, "updates": 1.5}}, "run.cause.updates must be a JSON whole number"),
        ({"cause": {**CAUSE, "last_at": "soon"}}, "run.cause.last_at must not be 'soon': Invalid isoformat"),
        ({"cause": {**CAUSE, "examples": {}}}, "run.cause.examples must be a JSON array"),
        ({"cause": {**CAUSE, "examples": [{}]}}, r"run.cause.examples\[0\] lacks bucket"),
        ({"requested_at": None}, "run.requested_at must be a JSON string, not None"),
        ({"deadline_at": 7}, "run.deadline_at must be a JSON string, not 7"),
        ({"accepted_at": "0000"}, "run.accepted_at must not be '0000'"),
        ({"platform_requested_at": 7}, "run.platform_requested_at must be a JSON string"),
        ({"baseline": []}, "run.baseline must be a JSON object"),
        ({"pace": {}}, "run.pace lacks longest_poll, shortest_poll, start_grace"),
        ({"pace": {**PACE, "shortest_poll": 0}}, "run.pace.shortest_poll must not be 0: it must be from 1"),
        ({"pace": {**PACE, "start_grace": True}}, "run.pace.start_grace must be a JSON number"),
        ({"pace": {**PACE, "start_grace": float("nan")}}, "run.pace.start_grace must not be nan"),
        ({"pace": {**PACE, "start_grace": 10**400}}, "run.pace.start_grace must not be 1000"),
        ({"gate": None}, "run.gate must be a JSON object"),
        ({"gate": {"floor": {"x": 1}}}, r"run.gate must not be .*: quality_gate.floor.x is not a figure"),
        ({"durations": None}, "run.durations must be a JSON array"),
        ({"durations": [1.0, -1]}, r"run.durations\[1\] must not be -1: it must be from 0"),
        ({"durations": [1e300]}, r"run.durations\[0\] must not be 1e\+300"),
        ({"reference": []}, "run.reference must be a JSON object"),
        ({"reference": {"a": [1]}}, r"run.reference\['a'\] must have 2 elements"),
        ({"reference": {"a": ["1", 1]}}, r"run.reference\['a'\]\[0\] must be a JSON number"),
        ({"reference": {"a": [1, -1]}}, r"run.reference\['a'\]\[1\] must not be -1"),
    ],
)
def test_invalid_field_of_a_run_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse("run", {**RUN, **changes}, Run)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"polls": -1}, "check.polls must not be -1"),
        ({"polls": True}, "check.polls must be a JSON whole number"),
        ({"polls": 1.5}, "check.polls must be a JSON whole number"),
        ({"recomputing_at": 7}, "check.recomputing_at must be a JSON string"),
        ({"idle_since": "then"}, "check.idle_since must not be 'then'"),
        ({"outcome": "failed"}, "check.outcome must be a JSON object"),
    ],
)
def test_invalid_field_of_a_check_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse("check", {**first_check(RUN), **changes}, Check)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"outcome": "fine"},
            "result.outcome must be one of completed, .*, not 'fine'",
        ),
        ({"active_changed": None}, "result.active_changed must be a JSON boolean"),
        ({"failure": []}, "result.failure must be a JSON object"),
        ({"reference": {"a": 1}}, "must be a JSON array"),
    ],
)
def test_invalid_field_of_a_result_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse("result", {**RESULT, **changes}, Result)


@given(any_json)
def test_any_json_that_is_not_an_object_is_bad_input(value: Any) -> None:
    for kind in (Run, Check, Result):
        with pytest.raises(BadInput, match="it "):
            parse("it", value, kind)


@given(st.sampled_from(sorted(RUN)), any_json)
def test_any_value_in_a_field_is_read_or_bad_input(field: str, value: Any) -> None:
    try:
        run: Run | None = parse("run", {**RUN, field: value}, Run)
    except BadInput:
        run = None
    assert run is None or first_check(run)["wait_seconds"] >= 1
