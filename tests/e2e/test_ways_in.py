"""Every way in which training data changes leads to as many recomputes as it is worth."""

import json
import time
from collections.abc import Callable

from tests.arcanna.platform import FOR_EVER, SHORT
from tests.e2e.alone import settle
from tests.e2e.conftest import JOB, OTHER_JOB, OTHER_MODELS
from tests.e2e.test_main_job import (
    alerts,
    asks,
    ended_runs,
    feedback_of,
    key_of,
    ledger_entry,
    send,
)
from tests.harness import Installation, wait_for


def test_feedback_is_gathered_until_it_is_significant(here: Installation, model: str) -> None:
    here.upload(feedback_of(model, "0.csv"), alerts())
    wait_for("the first mark", lambda: "gathered" in ledger_entry(here, model))
    for n in range(1, 5):
        assert asks(here, model) == []
        here.upload(feedback_of(model, f"{n}.csv"), alerts())
    (run,) = ended_runs(here, model, 1)

    assert (run["run"]["cause"]["updates"], run["status"]) == (5, "SUCCEEDED")
    settle(here)
    assert len(asks(here, model)) == 1
    assert not ledger_entry(here, model).keys() & {"gathered", "wake_at"}


def test_a_large_object_is_significant_by_itself(here: Installation, model: str) -> None:
    here.upload(feedback_of(model), " " * 100_000)
    uploaded = time.time()
    (run,) = ended_runs(here, model, 1)
    assert run["startDate"].timestamp() < uploaded + 9


def test_what_stays_insignificant_is_recomputed_in_time(here: Installation, model: str) -> None:
    here.upload(feedback_of(model), alerts())
    uploaded = time.time()
    ended_runs(here, model, 1)
    (asked,) = asks(here, model)
    assert asked - uploaded >= 8  # the event's time has whole seconds


def test_an_update_that_is_significant_takes_along_what_was_gathered(here: Installation, model: str) -> None:
    here.upload(feedback_of(model), alerts())
    wait_for("the mark", lambda: "gathered" in ledger_entry(here, model))
    here.upload(key_of(model), alerts(2))
    ended_runs(here, model, 1)
    settle(here)
    assert len(asks(here, model)) == 1


def test_the_schedule_has_stale_metrics_recomputed_and_leaves_fresh_ones(
    here: Installation, fresh_model: Callable[[], str]
) -> None:
    fresh, stale = fresh_model(), fresh_model()
    here.upload(key_of(fresh), alerts())
    ended_runs(here, fresh, 1)
    for model in (fresh, stale):
        send(here, {"job_id": JOB, "model_id": model, "older_than_seconds": 3600})
    ended_runs(here, stale, 1)
    settle(here)
    assert (len(asks(here, fresh)), len(asks(here, stale))) == (1, 1)


def test_a_model_that_becomes_active_during_the_run_is_recomputed_too(here: Installation) -> None:
    before, after = f"generic-1-{OTHER_JOB}-model-1.hdf5", f"generic-1-{OTHER_JOB}-model-2.hdf5"
    here.arcanna.set_active_model(OTHER_JOB, before)
    here.arcanna.set_behaviour(FOR_EVER, before)
    here.upload(f"training-data/{OTHER_JOB}/alerts.csv", alerts())
    wait_for("the recompute", lambda: asks(here, before))

    here.arcanna.set_active_model(OTHER_JOB, after)
    here.arcanna.set_behaviour(SHORT, before)

    ((old,), (new,)) = ended_runs(here, before, 1), ended_runs(here, after, 1)
    settle(here)
    assert [len(asks(here, model)) for model in (before, after)] == [1, 1]
    assert (old["status"], new["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert new["run"]["cause"]["kind"] == "active_model_changed"
    assert new["startDate"] >= old["startDate"]
    assert json.loads(new["output"])["check"]["active_changed"] is False
    here.arcanna.set_active_model(OTHER_JOB, OTHER_MODELS[-1])
