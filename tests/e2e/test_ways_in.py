"""Thresholds, schedules and active models lead to exactly the recomputes that they call for."""

import time

from tests.e2e.scene import OTHER_JOB, OTHER_MODELS, NewScene, Scene, alerts, edited_settings
from tests.support.arcanna.platform import FOR_EVER, SHORT
from tests.support.installation import ROUTES, Installation
from tests.support.waiting import eventually


def test_feedback_below_the_threshold_waits_until_it_is_enough(scene: Scene) -> None:
    scene.give_feedback("0.csv")
    scene.until("the first element", lambda entry: len(entry.waiting.batch) == 1)
    for n in range(1, 5):
        assert scene.posts() == []
        scene.give_feedback(f"{n}.csv")
    (execution,) = scene.ended(1)

    assert (execution["run"]["cause"]["updates"], execution["status"]) == (5, "SUCCEEDED")
    scene.until_rest()
    assert len(scene.posts()) == 1
    assert scene.entry().waiting.batch == ()


def test_object_as_large_as_the_threshold_leads_to_a_recompute(scene: Scene) -> None:
    scene.give_feedback("large.csv", " " * 100_000)
    (execution,) = scene.ended(1)
    assert execution["run"]["cause"]["updates"] == 1


def test_feedback_below_the_threshold_is_recomputed_after_the_longest_wait(scene: Scene) -> None:
    (feedback,) = (route for route in ROUTES if route["name"] == "feedback")
    impatient = {**feedback, "threshold": {"objects": 5, "max_wait_seconds": 4}}
    with edited_settings(scene.here, {"routes": [impatient]}):
        uploaded = time.time()
        scene.give_feedback("0.csv")
        scene.ended(1)
    (posted,) = scene.posts()

    assert posted - uploaded >= 3  # the event's time has whole seconds


def test_update_is_recomputed_together_with_waiting_feedback(scene: Scene) -> None:
    scene.give_feedback("0.csv")
    scene.until("the element", lambda entry: entry.waiting.batch)
    scene.upload("alerts.csv", alerts(2))
    scene.ended(1)
    scene.until_rest()

    assert len(scene.posts()) == 1


def test_schedule_recomputes_stale_metrics_and_not_fresh_ones(new_scene: NewScene) -> None:
    fresh, stale = new_scene(), new_scene()
    fresh.upload()
    fresh.ended(1)
    for scene in (fresh, stale):
        scene.request(older_than_seconds=3600)
    stale.ended(1)
    for scene in (fresh, stale):
        scene.until_rest()

    assert (len(fresh.posts()), len(stale.posts())) == (1, 1)


def test_schedule_is_satisfied_by_somebody_elses_recompute(scene: Scene) -> None:
    scene.recompute_by_somebody_else()
    eventually("its end", lambda: scene.recomputes()[0].state == "completed")
    scene.request(older_than_seconds=3600)
    eventually("a look at the metrics", lambda: scene.requests("metrics"))
    scene.until_rest()

    assert scene.posts() == []


def test_active_model_replaced_during_its_run_leads_to_a_run_of_the_new_one(
    here: Installation,
) -> None:
    before, after = (
        Scene(here, f"generic-1-{OTHER_JOB}-model-{number}.hdf5", str(OTHER_JOB), active=True)
        for number in (1, 2)
    )
    runs = len(before.runs())
    here.arcanna.set_active_model(OTHER_JOB, before.model)
    before.behaves(FOR_EVER)
    before.upload()
    before.until_requested()

    here.arcanna.set_active_model(OTHER_JOB, after.model)
    before.behaves(SHORT)

    after.ended(1)
    after.until_rest()
    here.arcanna.set_active_model(OTHER_JOB, OTHER_MODELS[-1])
    ((old,), (new,)) = before.runs()[runs:], after.runs()
    assert [len(scene.posts()) for scene in (before, after)] == [1, 1]
    assert (old["status"], new["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert old["run"]["cause"]["kind"] == new["run"]["cause"]["kind"] == "upload"
    assert after.posts()[0] > (before.recomputes()[0].finished_at or 0.0)
