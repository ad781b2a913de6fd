"""What people and pipelines are told of a run: outcome events, notifications, the ledger, a metric."""

import json
from typing import Any

import pytest
import yaml

from arcanna_metrics.times import from_iso
from tests.arcanna.alerts import labelled_alerts
from tests.arcanna.faults import Fault
from tests.deployment import ROOT
from tests.e2e.conftest import JOB
from tests.e2e.test_main_job import ended_runs, key_of, ledger_entry
from tests.harness import Installation, wait_for
from tests.outcome_events import validate_event

GOOD = {"Drop": 0.95, "Investigate": 0.9, "Escalate": 0.95}
MISSES_ESCALATIONS = {**GOOD, "Escalate": 0.4}


class Mailbox:
    """A queue on the event bus and the topic, as a pipeline or a person would have one."""

    def __init__(self, here: Installation, name: str) -> None:
        self._sqs = here.cloud.client("sqs")
        self._url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        self.arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])[
            "Attributes"
        ]["QueueArn"]
        self._received: list[dict[str, Any]] = []

    def about(self, model: str, count: int) -> list[dict[str, Any]]:
        """The messages about the model, once there are so many."""

        def look() -> list[dict[str, Any]]:
            found = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
            for message in found:
                self._received.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
            mine = [message for message in self._received if model in json.dumps(message)]
            return mine if len(mine) >= count else []

        return wait_for(f"{count} messages about {model}", look)


@pytest.fixture(scope="module")
def events(here: Installation) -> Mailbox:
    mailbox = Mailbox(here, "outcomes")
    client = here.cloud.client("events")
    client.put_rule(Name="outcomes", EventPattern=json.dumps({"source": ["arcanna.metrics"]}))
    client.put_targets(Rule="outcomes", Targets=[{"Id": "queue", "Arn": mailbox.arn}])
    return mailbox


@pytest.fixture(scope="module")
def gate(here: Installation) -> Mailbox:
    """The README's rule of a deployment gate."""
    mailbox = Mailbox(here, "gate")
    client = here.cloud.client("events")
    _, _, example = (ROOT / "README.md").read_text().partition("```yaml\nDeploymentGate:\n")
    rule = yaml.safe_load(example.partition("```")[0])
    client.put_rule(Name="gate", EventPattern=json.dumps(rule["Properties"]["EventPattern"]))
    client.put_targets(Rule="gate", Targets=[{"Id": "queue", "Arn": mailbox.arn}])
    return mailbox


@pytest.fixture(scope="module")
def notifications(here: Installation) -> Mailbox:
    mailbox = Mailbox(here, "phone")
    topic = here.cloud.outputs["NotificationTopicArn"]
    here.cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=mailbox.arn)
    return mailbox


def upload(here: Installation, model: str, number: int, accuracy: dict[str, float]) -> None:
    """Labels for the same 600 alerts, anew."""
    here.upload(key_of(model, f"{number}.csv"), labelled_alerts(600, accuracy, seed=1))


def test_a_model_that_misses_escalations_is_told_of_by_every_way(
    here: Installation, model: str, events: Mailbox, notifications: Mailbox
) -> None:
    upload(here, model, 1, GOOD)
    ended_runs(here, model, 1)
    (first,) = events.about(model, 1)
    upload(here, model, 2, MISSES_ESCALATIONS)
    runs = ended_runs(here, model, 2)
    told = {event["detail-type"]: event for event in events.about(model, 3)[1:]}

    for event in (first, *told.values()):
        validate_event(event)
    assert (first["detail-type"], first["detail"]["verdict"]) == ("Recompute Completed", "not_judged")
    completed, regressed = (
        told[name]["detail"] for name in ("Recompute Completed", "Model Metrics Regressed")
    )
    assert completed["verdict"] == "regressed"
    assert completed["before"] == first["detail"]["after"]
    assert regressed["run_id"] == completed["run_id"]
    assert regressed["differences"] == completed["differences"]
    assert "Escalate.recall fell from 0." in regressed["why"]
    recall = next(d for d in regressed["differences"] if d["figure"] == "Escalate.recall")
    served = here.served(JOB, model)["metrics_per_decision"]["Escalate"]
    assert recall["after"] == served["recall"]
    assert recall["samples"] >= 30

    (note,) = notifications.about(model, 1)
    assert note["Subject"].startswith(f"Arcanna metrics regressed - job {JOB}, model ")
    assert regressed["why"] in note["Message"]
    assert f"accuracy {completed['before']['overall_accuracy']:.3f} ->" in note["Message"]
    assert "What to do:" in note["Message"]
    assert runs[-1]["status"] == "SUCCEEDED"
    history = json.loads(ledger_entry(here, model)["history"])
    assert [(past["cause"], past["verdict"]) for past in history] == [
        ("upload", "not_judged"),
        ("upload", "regressed"),
    ]
    assert history[-1]["scores"]["overall_accuracy"] == completed["after"]["overall_accuracy"]
    verdicts = {
        line["run_id"]: line["verdict"]
        for line in here.log_entries("CheckStatusFunction")
        if line.get("model_id") == model and line["message"] == "model judged"
    }
    assert [verdicts[past["run_id"]] for past in history] == ["not_judged", "regressed"]


def test_a_deployment_gate_opens_for_a_model_that_is_good_again_and_not_for_one_that_stays_bad(
    here: Installation, model: str, gate: Mailbox
) -> None:
    for number, accuracy in enumerate((GOOD, MISSES_ESCALATIONS, MISSES_ESCALATIONS, GOOD), 1):
        upload(here, model, number, accuracy)
        runs = ended_runs(here, model, number)

    (opened,) = gate.about(model, 1)
    assert opened["detail"]["run_id"] == runs[-1]["run"]["run_id"]
    assert opened["detail"]["verdict"] in ("unchanged", "improved")


def test_a_failed_run_is_told_of_and_remembered_beside_the_history(
    here: Installation, model: str, events: Mailbox, notifications: Mailbox
) -> None:
    upload(here, model, 1, GOOD)
    ended_runs(here, model, 1)
    history = ledger_entry(here, model)["history"]
    here.arcanna.add_fault(Fault("recompute", model_id=model, fields={"status": "failed"}))
    upload(here, model, 2, GOOD)

    run = ended_runs(here, model, 2)[-1]

    event = next(e for e in events.about(model, 2) if e["detail-type"] == "Recompute Failed")
    validate_event(event)
    detail = event["detail"]
    assert (detail["status"], detail["reason"]) == ("failed", "RequestFailed")
    assert detail["before"]["last_recomputed_timestamp"]
    (note,) = notifications.about(model, 1)
    assert note["Subject"].startswith(f"Arcanna recompute failed - job {JOB}, model ")
    for part in (model, "RequestFailed", detail["detail"], "What to do:", run["executionArn"]):
        assert part in note["Message"]
    assert f"Still shown: accuracy {detail['before']['overall_accuracy']:.3f}," in note["Message"]
    entry = ledger_entry(here, model)
    assert entry["history"] == history
    failure = {name: next(iter(value.values())) for name, value in entry["last_failure"].items()}
    assert failure["reason"] == "RequestFailed"
    assert failure["cause"] == "upload"
    assert from_iso(failure["ended_at"]) >= from_iso(failure["requested_at"])
