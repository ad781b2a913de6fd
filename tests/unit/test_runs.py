"""The data of a run, as the workflow carries it."""

from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.runs.run import (
    LABEL_LENGTH,
    PastRun,
    cause_of,
    durations,
    failed_check,
    first_check,
    label,
)
from arcanna_metrics.targets import Model, Target
from arcanna_metrics.updates import Update

PAST: list[PastRun] = [
    {
        "run_id": "a",
        "cause": "upload",
        "requested_at": "2025-01-15T14:00:00.000Z",
        "duration_seconds": 60.0,
        "polls": 2,
        "verdict": "not_judged",
        "scores": {"overall_accuracy": 0.9},
    },
    {
        "run_id": "b",
        "cause": "schedule",
        "requested_at": "2025-01-15T15:00:00.000Z",
        "duration_seconds": 90.5,
        "polls": 3,
        "verdict": "unchanged",
        "scores": {"overall_accuracy": None},
    },
]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.text())
def test_a_label_fits_a_notification_s_subject(job_id: str, model_id: str) -> None:
    # SNS: fewer than 100 ASCII characters, and "Arcanna metrics regressed - " comes before.
    text = label(Model(job_id, model_id))
    assert text.isascii()
    assert len(text) <= LABEL_LENGTH
    assert len("Arcanna metrics regressed - " + text) < 100


def test_a_label_names_job_and_model() -> None:
    assert label(Model("1234", "m.hdf5")) == "job 1234, model m.hdf5"
    assert label(Model("sécurité", "m")) == "job s?curit?, model m"


def test_the_cause_tells_of_all_updates() -> None:
    update = Update(Target("1234", None), 1_736_950_060.5, "upload", 1_736_950_000.0, 7, ({"key": "a.csv"},))
    assert cause_of(update) == {
        "kind": "upload",
        "updates": 7,
        "first_at": "2025-01-15T14:06:40.000Z",
        "last_at": "2025-01-15T14:07:40.500Z",
        "sample": [{"key": "a.csv"}],
    }


def test_a_run_begins_with_its_first_wait() -> None:
    check = first_check(PAST, 42)
    assert (check["status"], check["wait_seconds"], check["polls"]) == ("running", 42, 0)
    assert check["history"] == PAST


def test_a_run_that_failed_before_it_began_says_why() -> None:
    check = failed_check(PAST, "Rejected", "no such model")
    assert (check["status"], check["reason"], check["detail"]) == ("failed", "Rejected", "no such model")
    assert check["history"] == PAST


def test_durations_are_in_order() -> None:
    assert durations(PAST) == [60.0, 90.5]
