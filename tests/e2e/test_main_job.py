"""The main job, from upload to fresh metrics, on the real template."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.scene import (
    JOB,
    OTHER_JOB,
    OTHER_MODELS,
    TRIGGER,
    NewScene,
    Scene,
    alerts,
    dead_letters,
    edited_settings,
    in_queue,
    send,
)
from tests.support.arcanna.access import API_KEY
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import FOR_EVER, SHORT, Behaviour
from tests.support.installation import PACE, ROUTES, Installation
from tests.support.waiting import eventually

UNKNOWN_MODEL = "generic-1-1234-model-1.hdf5"


def test_upload_leads_to_fresh_metrics_and_an_announced_outcome(scene: Scene) -> None:
    scene.upload()

    (execution,) = scene.ended(1)

    assert execution["status"] == "SUCCEEDED"
    served = scene.served()
    assert sum(map(sum, served["confusion_matrix"])) == 20
    outcome = json.loads(execution["output"])["check"]["outcome"]
    (event,) = outcome["events"]
    assert event["DetailType"] == "Recompute Completed"
    assert json.loads(event["Detail"])["after"]["overall_accuracy"] == served["overall_accuracy"]
    run = execution["run"]
    assert run["baseline"]["last_recomputed_timestamp"] is None
    assert run["cause"]["kind"] == "upload"
    assert run["cause"]["examples"][0]["key"] == scene.key()
    entry = scene.entry()
    assert entry.run_id is None
    assert entry.fresh_as_of > 0
    assert [past["run_id"] for past in entry.history] == [run["run_id"]]


def test_burst_of_200_uploads_leads_to_at_most_two_recomputes(scene: Scene) -> None:
    scene.behaves(FOR_EVER)  # until the burst is over, however slow the machine is
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: scene.upload(f"{n}.csv", alerts(n)), range(200)))
    uploaded = time.time()
    eventually("their records", lambda: not in_queue(scene.here))
    scene.behaves(SHORT)

    eventually("a recompute asked for after the burst", lambda: max(scene.posts(), default=0) > uploaded)
    scene.until_rest()

    assert len(scene.posts()) <= 2
    assert scene.rows_served() == 200 * 20


def test_queued_recompute_is_not_reported_as_completed(scene: Scene) -> None:
    scene.behaves(Behaviour(never_starts=True))
    scene.upload()
    eventually("the third check, after the baseline", lambda: len(scene.requests("metrics")) > 3)
    scene.behaves(SHORT)

    (execution,) = scene.ended(1)

    (recompute,) = scene.recomputes()
    assert execution["status"] == "SUCCEEDED"
    assert execution["stopDate"].timestamp() >= (recompute.finished_at or 0.0)
    checks = _checks(scene.here, execution)
    assert [check["detail"] for check in checks[:2]] == ["queued", "queued"]
    assert [check["status"] for check in checks] == ["running"] * (len(checks) - 1) + ["completed"]


def _checks(here: Installation, execution: dict[str, Any]) -> list[dict[str, Any]]:
    """What the status checks of an execution answered, oldest first."""
    ends = [
        e for e in here.cloud.history(execution["executionArn"]) if e["type"] == "LambdaFunctionSucceeded"
    ]
    answers = [json.loads(end["lambdaFunctionSucceededEventDetails"]["output"]) for end in ends]
    return [answer for answer in answers if "polls" in answer]


def test_updates_during_a_run_lead_to_exactly_one_more_run(scene: Scene) -> None:
    scene.behaves(FOR_EVER)
    scene.upload()
    scene.until_held()

    for n in range(3):  # in several batches
        scene.upload(f"correction-{n}.csv", alerts(n + 2))
        eventually("its record", lambda: not in_queue(scene.here))
    corrected = time.time()
    scene.behaves(SHORT)

    runs = scene.ended(2)
    scene.until_rest()
    assert len(scene.posts()) == len(runs) == 2
    assert scene.posts()[1] > corrected
    assert scene.rows_served() == 4 * 20


def test_two_batches_at_the_same_time_start_one_run(here: Installation, scene: Scene) -> None:
    body = json.dumps({"job_id": JOB, "model_id": scene.model})
    sent = str(int((time.time() - 30) * 1000))

    def deliver(n: int) -> Any:
        record = {"messageId": str(n), "body": body, "eventSource": "aws:sqs"}
        return here.cloud.invoke(TRIGGER, {"Records": [record | {"attributes": {"SentTimestamp": sent}}]})

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(deliver, range(4)))
    scene.until_rest()

    assert answers == [{"batchItemFailures": []}] * 4
    assert len(scene.posts()) == 1
    assert [execution["status"] for execution in scene.executions()] == ["SUCCEEDED"]


def test_duplicate_or_late_event_leads_to_no_further_run(here: Installation, scene: Scene) -> None:
    scene.upload()
    (execution,) = scene.ended(1)
    before = scene.entry()
    event = json.loads((here.samples / "s3-object-created.eventbridge.json").read_text())
    event["time"] = execution["run"]["cause"]["last_at"]
    event["detail"]["bucket"]["name"] = here.bucket
    event["detail"]["object"]["key"] = scene.key()

    send(here, event)
    send(here, event)
    scene.until_rest()

    assert len(scene.posts()) == 1
    assert scene.entry() == before


@pytest.mark.parametrize("name", ["a+b.csv", "ä ö/%2B.csv", "a key with spaces.csv"])
def test_object_key_in_an_eventbridge_event_is_routed_unchanged(scene: Scene, name: str) -> None:
    scene.upload(name)

    (execution,) = scene.ended(1)

    assert execution["run"]["cause"]["examples"][0]["key"] == scene.key(name)
    assert execution["status"] == "SUCCEEDED"


def test_object_key_in_an_s3_notification_is_decoded_and_routed(here: Installation, scene: Scene) -> None:
    notification = json.loads((here.samples / "s3-notification.json").read_text())
    encoded = {
        "a%2Bb.csv": "a+b.csv",
        "%C3%A4+%C3%B6/%252B.csv": "ä ö/%2B.csv",
        "a+key+with+spaces.csv": "a key with spaces.csv",
    }
    first = notification["Records"][0]
    notification["Records"] = [
        json.loads(json.dumps(first)) | {"eventTime": "2026-01-01T00:00:00.000Z"} for _ in encoded
    ]
    for record, name in zip(notification["Records"], encoded, strict=True):
        record["s3"]["object"]["key"] = scene.key(name)

    send(here, notification)

    (execution,) = scene.ended(1)
    found = [example["key"] for example in execution["run"]["cause"]["examples"]]
    assert found == [scene.key(name) for name in encoded.values()]


def test_custom_event_recomputes_the_active_model(here: Installation) -> None:
    scene = Scene(here, OTHER_MODELS[-1], str(OTHER_JOB), active=True)
    here.cloud.client("events").put_events(
        Entries=[
            {
                "Source": "arcanna.training-data",
                "DetailType": "Knowledge Base Corrected",
                "Detail": json.dumps({"job_id": OTHER_JOB}),
            }
        ]
    )

    (execution,) = scene.ended(1)

    assert execution["status"] == "SUCCEEDED"
    assert execution["run"]["model_id"] == OTHER_MODELS[-1]
    assert execution["run"]["cause"]["kind"] == "Knowledge Base Corrected"


def test_schedule_recomputes_the_models_that_the_routes_name(here: Installation, scene: Scene) -> None:
    nightly = {"name": "nightly", "targets": [{"job_id": JOB, "model_id": scene.model}]}
    with edited_settings(here, {"routes": [*ROUTES, nightly]}):
        here.cloud.fire_schedule("RecomputeSchedule")
        (execution,) = scene.ended(1)

    assert execution["run"]["cause"]["kind"] == "schedule"
    assert execution["status"] == "SUCCEEDED"


def test_direct_invocation_starts_a_run_and_returns_its_id(scene: Scene) -> None:
    recorded = scene.invoke()

    assert len(scene.posts()) == 1
    (execution,) = scene.ended(1)
    assert recorded["run_id"] == execution["run"]["run_id"]
    assert (recorded["job_id"], recorded["model_id"], recorded["updates"]) == (*scene.target, 1)


def test_post_accepted_with_an_unknown_body_is_made_once_and_followed(scene: Scene) -> None:
    odd = Fault("recompute", status=200, body="<html>Thank you", headers={"X-Owner": "Z\u00fcrich"})
    scene.meets(replace(odd, after_effect=True))
    scene.invoke()

    (execution,) = scene.ended(1)
    scene.until_rest()

    assert execution["status"] == "SUCCEEDED"
    assert len(scene.posts()) == 1


def test_post_of_unknown_effect_is_repeated_after_the_start_grace(scene: Scene) -> None:
    scene.meets(Fault("recompute", after_effect=True, status=502))
    scene.invoke()

    scene.until_fresh()

    first, second = scene.posts()
    assert second - first >= PACE["start_grace_seconds"]


def test_unusable_message_is_in_the_dead_letter_queue_with_its_reason(
    here: Installation, scene: Scene
) -> None:
    bodies = [{"job": scene.model}, {"job_id": JOB, "model_id": scene.model, "run_id": "1"}]
    for body in bodies:
        send(here, body)

    expected = {(json.dumps(body), "BadInput") for body in bodies}
    letters: set[tuple[str, str]] = set()

    def have_come() -> bool:
        letters.update(dead_letters(here))
        return expected <= letters

    eventually("two dead letters", have_come)
    assert scene.executions() == []


def test_unknown_model_leads_to_a_failed_run_and_no_dead_letter(
    here: Installation, new_scene: NewScene
) -> None:
    scene = Scene(here, UNKNOWN_MODEL)
    scene.request()

    (execution,) = scene.ended(1)
    scene.until_rest()

    assert (execution["status"], execution["error"]) == ("FAILED", "Rejected")
    assert scene.posts() == []
    assert scene.last_failure()["reason"] == "Rejected"
    assert [body for body, _ in dead_letters(here) if UNKNOWN_MODEL in body] == []


@pytest.fixture(scope="module", autouse=True)
def _the_api_key_is_nowhere(here: Installation) -> Iterator[None]:
    """After all other tests: no log, workflow data, message or table contains the key."""
    yield
    texts = here.cloud.logs()
    for execution in here.cloud.executions():
        texts += [execution["input"], execution.get("output", ""), execution.get("cause", "")]
        texts += [json.dumps(e, default=str) for e in here.cloud.history(execution["executionArn"])]
    written = {"dynamodb", "sqs", "events", "sns", "stepfunctions"}
    texts += [json.dumps(c.parameters, default=str) for c in here.cloud.calls if c.service in written]
    assert len(texts) > 100
    assert not [text for text in texts if API_KEY in text]
