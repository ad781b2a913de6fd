"""The data of a run, as the trigger builds it."""

import json
from dataclasses import replace
from typing import Any, cast

from arcanna_metrics.controller.start import new_run
from arcanna_metrics.protocol.entry import Claim, Entry, Waiting
from arcanna_metrics.runs.check import failed_at_start, first_check, not_checked
from arcanna_metrics.runs.run import Check, Run
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import Example, Target
from arcanna_metrics.times import to_iso
from tests.support import doubles
from tests.support.doubles import BASELINE
from tests.support.outcome_events import validate_entry
from tests.support.runs import BUS, EXECUTION, GATE, PACE, REQUESTED_AT, a_run, origin

OBJECT = Example("training", "1234/a.csv", "v1")
RUN = a_run(reference={"overall_accuracy": [0.9, 100]}, durations=[60.0, 90.5])


def ended(check: Check) -> dict[str, Any]:
    assert check["outcome"] is not None
    return cast("dict[str, Any]", check["outcome"])


# --- What the trigger builds -----------------------------------------------------------------------------


UPLOADS = Waiting(cause="upload", updates=7)


def built(waiting: Waiting = UPLOADS, **fields: Any) -> Run:
    claimed = Entry(Target("1234", None), waiting=waiting, **fields)
    settings = JobSettings(doubles.PACE, GATE)
    return new_run(claimed, Claim("run-1", REQUESTED_AT), settings)


def test_cause_summarises_all_updates() -> None:
    since, last_at = REQUESTED_AT - 60, REQUESTED_AT - 9.5
    waiting = replace(UPLOADS, since=since, last_at=last_at, examples=(OBJECT,))
    assert built(waiting)["cause"] == {
        "kind": "upload",
        "updates": 7,
        "first_at": "2025-01-15T14:29:00.000Z",
        "last_at": "2025-01-15T14:29:50.500Z",
        "examples": [OBJECT._asdict()],
    }


def test_cause_has_as_many_examples_as_fit() -> None:
    long = Example("b", "\x01" * 900, None)
    shown = built(replace(UPLOADS, examples=(OBJECT, long, long)))["cause"]["examples"]
    assert shown == [OBJECT._asdict(), long._asdict()]


def test_new_run_has_what_is_known_without_asking_the_platform() -> None:
    history: Any = [{"duration_seconds": float(number)} for number in range(3)]
    run = built(history=tuple(history))
    assert run["target"] == {"job_id": "1234", "model_id": None}
    assert (run["job_id"], run["model_id"]) == ("1234", None)
    assert run["requested_at"] == "2025-01-15T14:30:00.000Z"
    assert run["pace"]["deadline"] == doubles.PACE.deadline
    assert (run["accepted_at"], run["platform_requested_at"], run["platform_job_id"]) == (None, None, None)
    assert (run["baseline"], run["reference"]) == (None, None)
    assert run["durations"] == [0.0, 1.0, 2.0]
    assert json.loads(json.dumps(run)) == run


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
    failure = outcome["result"]["failure"]
    assert (failure["reason"], failure["detail"]) == ("Rejected", "no such model")
    assert outcome["result"]["outcome"] == "failed"
    assert failure["ended_at"] == to_iso(REQUESTED_AT + 3)
    (entry,) = outcome["events"]
    assert (entry["DetailType"], entry["EventBusName"]) == ("Recompute Failed", BUS)
    detail = validate_entry(entry)
    assert (detail["reason"], detail["polls"], detail["execution"]) == ("Rejected", 0, EXECUTION)
    assert detail["before"]["last_recomputed_timestamp"] == BASELINE


def test_outcome_for_a_job_without_active_model_names_no_model() -> None:
    check = failed_at_start(a_run(active=True, model_id=None), "Rejected", "no active model", origin())
    assert validate_entry(ended(check)["events"][0])["model_id"] is None
    notification = ended(check)["notification"]
    assert notification["subject"] == "Arcanna recompute failed - job '1234', the active model"
    assert "The metrics of the active model of job '1234' were not recomputed." in notification["message"]


def test_names_in_a_notification_are_quoted() -> None:
    # Whoever may upload can choose the names.
    run = a_run(job_id="1 were recomputed.\nThe job 2", model_id="\u202ehcae")
    check = failed_at_start(run, "Rejected", "no such job", origin())
    first, *_ = ended(check)["notification"]["message"].split("\n\n")
    assert first == (
        r"The metrics of model '\u202ehcae' of job '1 were recomputed.\nThe job 2' were not recomputed."
    )


def test_run_that_cannot_be_checked_ends_with_an_unknown_result() -> None:
    check = not_checked(RUN, {**first_check(RUN), "polls": 7}, origin(99))
    assert (check["status"], check["polls"]) == ("failed", 7)
    outcome = ended(check)
    assert outcome["result"]["outcome"] == "not_checked"
    assert not outcome["result"]["active_changed"]
    assert outcome["result"]["failure"]["reason"] == "NotChecked"
    detail = validate_entry(outcome["events"][0])
    assert (detail["ended_at"], detail["polls"]) == (to_iso(REQUESTED_AT + 99), 7)
    assert "not known whether the metrics" in outcome["notification"]["message"]
    assert "do not have to request the recompute again" in outcome["notification"]["message"]
