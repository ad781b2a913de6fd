"""Settings, end to end: a valid edit is in force without a deployment, and runs keep what they began with."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.e2e.scene import (
    CHECK,
    JOB,
    OTHER_JOB,
    OTHER_MODELS,
    TRIGGER,
    NewScene,
    Scene,
    alerts,
    edited_settings,
    restart,
    write_settings,
    written_settings,
)
from tests.support.arcanna.alerts import labelled_alerts
from tests.support.arcanna.platform import SHORT
from tests.support.installation import PACE, Installation
from tests.support.waiting import eventually

GOOD = {"Drop": 0.95, "Investigate": 0.9, "Escalate": 0.95}
HIGHER = {"floor": {"overall_accuracy": 1.0}}
"""A quality gate that no model passes."""

SPACING = 3600
EDITED = {
    "name": "edited",
    "keys": ["edited/{model_id}/*"],
    "targets": [{"job_id": JOB, "model_id": "{model_id}"}],
}
INVALID = {"pace": {"slots": "many"}}
COMPLAINT = 'pace.slots must be a whole number from 0 to 1000, not "many"'


@pytest.fixture
def other(here: Installation) -> Scene:
    """A model of another job."""
    return Scene(here, OTHER_MODELS[0], str(OTHER_JOB))


@pytest.fixture
def _as_before(here: Installation) -> Iterator[None]:
    """Restores the settings after each test."""
    before = written_settings(here)
    yield
    write_settings(here, before)
    restart(here)


def environments(here: Installation) -> set[int]:
    return {environment.pid for environment in here.cloud.sandboxes(TRIGGER)}


def told_since(here: Installation, since: float, key: str, value: object) -> list[dict[str, Any]]:
    """The trigger's log lines and metrics since then with that value."""
    return [r for r in here.cloud.log_records(TRIGGER) if r.get(key) == value and _time(r) >= since]


def _time(record: dict[str, Any]) -> float:
    """When a line was logged (epoch seconds). 0 for Lambda's own lines, which have no time."""
    emitted = record.get("_aws", {}).get("Timestamp")
    if emitted is not None:
        return float(emitted) / 1000
    if "timestamp" not in record:
        return 0.0
    return time.mktime(time.strptime(record["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone


def verdicts(scene: Scene) -> list[str]:
    """The verdicts of the target's completed runs, oldest first."""
    return [past["verdict"] for past in scene.entry().history]


def upload(scene: Scene, number: int) -> None:
    """Labels the same 600 alerts again."""
    scene.upload(f"{number}.csv", labelled_alerts(600, GOOD, seed=1))


@pytest.mark.long
@pytest.mark.usefixtures("_as_before")
def test_running_environment_takes_an_edit_within_a_minute_and_keeps_it_when_the_next_is_invalid(
    here: Installation, new_scene: NewScene
) -> None:
    scene, later = new_scene(), new_scene()
    scene.upload()
    scene.ended(1)
    warm = environments(here)

    def is_routed() -> bool:
        here.upload(f"edited/{scene.model}/alerts.csv", alerts())
        with suppress(TimeoutError):
            return eventually("a request", lambda: len(scene.posts()) > 1, seconds=3)
        return False

    document, edited_at = written_settings(here), time.time()
    edited = {**document, "routes": [*document["routes"], EDITED]}
    write_settings(here, edited)
    eventually("an update by the new route", is_routed)
    print(f"in force after {time.time() - edited_at:.0f} s")
    assert warm & environments(here)

    invalid_at = time.time()
    write_settings(here, INVALID)
    eventually("the log", lambda: told_since(here, invalid_at, "detail", COMPLAINT))
    here.upload(f"edited/{later.model}/alerts.csv", alerts())
    later.ended(1)
    assert warm & environments(here)


@pytest.mark.usefixtures("_as_before")
def test_new_environment_uses_the_last_valid_version_and_reports_the_invalid_one(
    here: Installation, scene: Scene
) -> None:
    since = time.time()
    write_settings(here, {**written_settings(here), "pace": {**PACE, "start_grace_seconds": 11}})
    write_settings(here, INVALID)
    write_settings(here, "not even an object")
    write_settings(here, INVALID)
    restart(here)
    scene.upload()
    (execution,) = scene.ended(1)

    assert execution["run"]["pace"]["start_grace"] == 11
    assert told_since(here, since, "detail", COMPLAINT)
    assert told_since(here, since, "message", "earlier settings are in force")
    assert any("SettingsInvalid" in r for r in here.cloud.log_records(TRIGGER) if _time(r) >= since)


def test_override_of_a_job_affects_only_that_job(here: Installation, scene: Scene, other: Scene) -> None:
    own = {"pace": {"spacing_seconds": SPACING}, "quality_gate": HIGHER}
    with edited_settings(here, {"jobs": {other.job_id: own}}):
        known = len(other.entry().history)
        for each in (scene, other):
            upload(each, 1)
            each.ended(known + 1 if each is other else 1)
            upload(each, 2)
        scene.ended(2)
        waits = other.until_waiting()

        assert verdicts(scene) == ["not_judged", "unchanged"]
        assert verdicts(other)[known:] == ["regressed"]
        requested = other.runs()[-1]["run"]["requested_at"]
        assert waits.due_at is not None
        assert waits.due_at > time.time() + SPACING / 2, requested
    other.until_fresh()  # a sweep applies the spacing that is in force again


def test_run_is_judged_by_the_settings_that_it_began_with(here: Installation, scene: Scene) -> None:
    upload(scene, 1)
    scene.ended(1)
    scene.long_under_way()
    with edited_settings(here, {"quality_gate": HIGHER, "pace": {**PACE, "deadline_seconds": 10}}):
        restart(here, CHECK)
        scene.behaves(SHORT)
        first, under_way = scene.ended(2)
        scene.invoke()
        *_, after = scene.ended(3)

    assert under_way["run"]["gate"] == first["run"]["gate"]
    assert after["run"]["gate"]["floor"] == HIGHER["floor"]
    assert verdicts(scene) == ["not_judged", "unchanged", "regressed"]
