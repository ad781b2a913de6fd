"""What the product is for, from upload to fresh metrics, on the real template."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.arcanna.access import API_KEY
from tests.arcanna.alerts import labelled_alerts
from tests.arcanna.platform import FOR_EVER, SHORT, Behaviour
from tests.e2e.alone import settle, waiting
from tests.e2e.conftest import JOB, OTHER_JOB, OTHER_MODELS
from tests.harness import ROUTES, Installation, wait_for

ACCURACY = {"Drop": 0.9, "Investigate": 0.8, "Escalate": 0.7}


def key_of(model: str, name: str = "alerts.csv") -> str:
    return f"training-data/{JOB}/{model}/{name}"


def feedback_of(model: str, name: str = "alerts.csv") -> str:
    """Under the route with thresholds."""
    return f"feedback/{JOB}/{model}/{name}"


def alerts(seed: int = 1) -> str:
    return labelled_alerts(20, ACCURACY, seed=seed, first_id=seed * 20)


def asks(here: Installation, model: str) -> list[float]:
    """When the platform was asked to recompute the model."""
    return [r.at for r in here.arcanna.requests if r.endpoint == "recompute" and r.model_id == model]


def runs_of(here: Installation, model: str) -> list[dict[str, Any]]:
    """The executions of the model's runs, with their input as a dict."""
    executions = [e | {"run": json.loads(e["input"])["run"]} for e in here.cloud.executions()]
    return [e for e in executions if e["run"]["model_id"] == model]


def ended_runs(here: Installation, model: str, count: int) -> list[dict[str, Any]]:
    """The model's executions, once there are so many and all have ended."""

    def look() -> list[dict[str, Any]]:
        runs = runs_of(here, model)
        return runs if len(runs) >= count and all(r["status"] != "RUNNING" for r in runs) else []

    return wait_for(f"{count} ended runs of {model}", look)


def send(here: Installation, body: object) -> None:
    here.cloud.client("sqs").send_message(
        QueueUrl=here.cloud.outputs["UpdatesQueueUrl"], MessageBody=json.dumps(body)
    )


def ledger_entry(here: Installation, model: str, job_id: str = str(JOB)) -> dict[str, Any]:
    item = here.cloud.client("dynamodb").get_item(
        TableName=here.cloud.outputs["LedgerTable"],
        Key={"job_id": {"S": job_id}, "model_id": {"S": model}},
    )
    return {name: next(iter(value.values())) for name, value in item.get("Item", {}).items()}


@contextmanager
def edited_routes(here: Installation, document: object) -> Iterator[None]:
    """Edits the routes, and takes the edit back."""
    ssm, name = here.cloud.client("ssm"), here.cloud.outputs["RoutesParameter"]
    before = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    ssm.put_parameter(Name=name, Value=json.dumps(document), Overwrite=True)
    restart_trigger(here)
    try:
        yield
    finally:
        ssm.put_parameter(Name=name, Value=before, Overwrite=True)
        restart_trigger(here)


def restart_trigger(here: Installation) -> None:
    """Ends the trigger's idle environments, with the routes and free places that they remember."""
    for sandbox in here.cloud.sandboxes("TriggerRecomputeFunction"):
        if not sandbox.busy:
            sandbox.kill()


def test_an_upload_leads_to_fresh_metrics_and_an_announced_outcome(here: Installation, model: str) -> None:
    here.upload(key_of(model), alerts())

    (run,) = ended_runs(here, model, 1)

    assert run["status"] == "SUCCEEDED"
    served = here.served(JOB, model)
    assert sum(map(sum, served["confusion_matrix"])) == 20
    check = json.loads(run["output"])["check"]
    assert check["metrics"]["overall_accuracy"] == served["overall_accuracy"]
    assert run["run"]["baseline"]["last_recomputed_timestamp"] is None
    assert run["run"]["cause"]["kind"] == "upload"
    assert run["run"]["cause"]["sample"][0]["key"] == key_of(model)
    entry = ledger_entry(here, model)
    assert entry["last_outcome"] == "completed"
    assert entry["covered_until"] == run["run"]["requested_at"]
    assert "run_id" not in entry


def test_a_burst_of_200_uploads_leads_to_at_most_two_recomputes(here: Installation, model: str) -> None:
    here.arcanna.set_behaviour(FOR_EVER, model)  # however long this machine takes for the burst
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: here.upload(key_of(model, f"{n}.csv"), alerts(n)), range(200)))
    uploaded = time.time()
    wait_for(
        "their marks",
        lambda: "pending_at" in ledger_entry(here, model) and not waiting(here, "", "NotVisible"),
    )
    here.arcanna.set_behaviour(SHORT, model)

    wait_for("a recompute asked for after the burst", lambda: max(asks(here, model), default=0) > uploaded)
    settle(here)

    assert len(asks(here, model)) <= 2
    assert sum(map(sum, here.served(JOB, model)["confusion_matrix"])) == 200 * 20


def test_a_recompute_that_stays_queued_is_not_reported_as_completed(here: Installation, model: str) -> None:
    here.arcanna.set_behaviour(Behaviour(delay=6.0, duration=0.5), model)
    here.upload(key_of(model), alerts())

    (run,) = ended_runs(here, model, 1)

    (recompute,) = here.arcanna.recomputes(model)
    assert run["status"] == "SUCCEEDED"
    assert run["stopDate"].timestamp() >= (recompute.finished_at or 0.0)
    looks = [e for e in here.cloud.history(run["executionArn"]) if e["type"] == "LambdaFunctionSucceeded"]
    states = [json.loads(e["lambdaFunctionSucceededEventDetails"]["output"]) for e in looks]
    assert [s["detail"] for s in states[:2]] == ["queued", "queued"]
    assert [s["status"] for s in states] == ["running"] * (len(states) - 1) + ["completed"]


def test_updates_during_a_run_lead_to_one_further_run(here: Installation, model: str) -> None:
    here.arcanna.set_behaviour(FOR_EVER, model)
    here.upload(key_of(model), alerts())
    wait_for("the recompute", lambda: asks(here, model))

    for n in range(5):
        here.upload(key_of(model, f"correction-{n}.csv"), alerts(n + 2))
        time.sleep(0.3)  # uploads of a person, in several batches
    corrected = time.time()
    wait_for("their marks", lambda: int(ledger_entry(here, model).get("pending_updates", 0)) >= 5)
    here.arcanna.set_behaviour(SHORT, model)

    runs = ended_runs(here, model, 2)
    settle(here)
    assert len(asks(here, model)) == len(runs) == 2
    assert asks(here, model)[1] > corrected
    assert runs[1]["run"]["cause"]["kind"] == "asked_again"
    assert sum(map(sum, here.served(JOB, model)["confusion_matrix"])) == 6 * 20


def test_two_batches_at_the_same_time_start_one_run(here: Installation, model: str) -> None:
    body = json.dumps({"job_id": JOB, "model_id": model})
    sent = str(int((time.time() - 30) * 1000))

    def deliver(n: int) -> Any:
        record = {"messageId": str(n), "body": body, "eventSource": "aws:sqs"}
        return here.cloud.invoke(
            "TriggerRecomputeFunction", {"Records": [record | {"attributes": {"SentTimestamp": sent}}]}
        )

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(deliver, range(4)))
    settle(here)

    assert answers == [{"batchItemFailures": []}] * 4
    assert len(asks(here, model)) == 1
    assert [run["status"] for run in runs_of(here, model)] == ["SUCCEEDED"]


def test_the_same_event_again_or_late_leads_to_nothing_more(here: Installation, model: str) -> None:
    here.upload(key_of(model), alerts())
    (run,) = ended_runs(here, model, 1)
    event = json.loads((here.samples / "s3-object-created.eventbridge.json").read_text())
    event["time"] = run["run"]["cause"]["last_at"]
    event["detail"]["bucket"]["name"] = here.bucket
    event["detail"]["object"]["key"] = key_of(model)

    send(here, event)
    send(here, event)
    settle(here)

    assert len(asks(here, model)) == 1


@pytest.mark.parametrize("name", ["a+b.csv", "ä ö/%2B.csv", "a key with spaces.csv"])
def test_keys_route_from_uploads_as_they_are(here: Installation, model: str, name: str) -> None:
    here.upload(key_of(model, name), alerts())

    (run,) = ended_runs(here, model, 1)

    assert run["run"]["cause"]["sample"][0]["key"] == key_of(model, name)
    assert run["status"] == "SUCCEEDED"


def test_keys_route_from_s3_notifications_decoded(here: Installation, model: str) -> None:
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
    for record, key in zip(notification["Records"], encoded, strict=True):
        record["s3"]["object"]["key"] = key_of(model, key)

    send(here, notification)

    (run,) = ended_runs(here, model, 1)
    assert [s["key"] for s in run["run"]["cause"]["sample"]] == [key_of(model, k) for k in encoded.values()]


def test_events_of_ones_own_and_requests_for_the_active_model(here: Installation) -> None:
    here.cloud.client("events").put_events(
        Entries=[
            {
                "Source": "arcanna.training-data",
                "DetailType": "Knowledge Base Corrected",
                "Detail": json.dumps({"job_id": OTHER_JOB}),
            }
        ]
    )

    (run,) = ended_runs(here, OTHER_MODELS[-1], 1)

    assert run["status"] == "SUCCEEDED"
    assert run["run"]["cause"]["kind"] == "Knowledge Base Corrected"


def test_a_schedule_asks_for_the_models_that_the_routes_name(here: Installation, model: str) -> None:
    nightly = {"name": "nightly", "targets": [{"job_id": JOB, "model_id": model}]}
    with edited_routes(here, {"routes": [*ROUTES["routes"], nightly]}):
        here.cloud.fire("RecomputeSchedule")
        (run,) = ended_runs(here, model, 1)

    assert run["run"]["cause"]["kind"] == "schedule"
    assert run["status"] == "SUCCEEDED"


def test_a_direct_invocation_starts_a_run_and_says_so(here: Installation, model: str) -> None:
    answer = here.cloud.invoke("TriggerRecomputeFunction", {"job_id": "security-alerts", "model_id": model})

    (result,) = answer["results"]
    assert result["outcome"] == "started"
    settle(here)
    assert ledger_entry(here, model, "security-alerts")["last_outcome"] == "completed"


def test_what_cannot_be_used_is_in_the_dead_letter_queue_with_its_reason(here: Installation) -> None:
    sqs, url = here.cloud.client("sqs"), here.cloud.outputs["DeadLetterQueueUrl"]
    send(here, {"job": 1234})
    send(here, {"job_id": JOB, "model_id": "generic-1-1234-model-1.hdf5"})

    expected = {("BadInput", None), ("Rejected", "generic-1-1234-model-1.hdf5")}
    letters: set[tuple[str, str | None]] = set()

    def look() -> bool:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        for message in received.get("Messages", []):
            reason = message["MessageAttributes"]["reason"]["StringValue"]
            body = json.loads(message["Body"])
            if body == {"job": 1234} or "model_id" in body:
                letters.add((reason, body.get("model_id")))
        return expected <= letters

    wait_for("two dead letters", look)
    (run,) = ended_runs(here, "generic-1-1234-model-1.hdf5", 1)
    assert run["status"] == "FAILED"
    assert run["error"] == "Rejected"


@pytest.fixture(scope="module", autouse=True)
def _the_api_key_is_nowhere(here: Installation) -> Iterator[None]:
    """After all of the above: no log, workflow data, message or table holds the key."""
    yield
    texts = [line for f in ("TriggerRecomputeFunction", "CheckStatusFunction") for line in here.cloud.logs(f)]
    for execution in here.cloud.executions():
        texts += [execution["input"], execution.get("output", ""), execution.get("cause", "")]
        texts += [json.dumps(e, default=str) for e in here.cloud.history(execution["executionArn"])]
    written = {"dynamodb", "sqs", "events", "sns", "stepfunctions"}
    texts += [json.dumps(c.parameters, default=str) for c in here.cloud.calls if c.service in written]
    assert len(texts) > 100
    assert not [text for text in texts if API_KEY in text]
