"""What people and pipelines learn about a run: outcome events, notifications, the ledger, a metric."""

import pytest
import yaml

from arcanna_metrics.times import from_iso
from tests.e2e.scene import CHECK, JOB, Mailbox, Scene
from tests.support.arcanna.alerts import labelled_alerts
from tests.support.arcanna.faults import Fault
from tests.support.installation import Installation
from tests.support.outcome_events import validate_event
from tests.support.readme import section

GOOD = {"Drop": 0.95, "Investigate": 0.9, "Escalate": 0.95}
MISSES_ESCALATIONS = {**GOOD, "Escalate": 0.4}


@pytest.fixture(scope="module")
def gate(here: Installation) -> Mailbox:
    """The documented rule of a deployment gate, for models by their ids."""
    _, _, example = section("Gate a deployment").partition("```yaml\n")
    pattern = yaml.safe_load(example.partition("```")[0])["EventPattern"]
    assert pattern["detail"]["active_model"] == [True]
    pattern["detail"]["active_model"] = [False]
    return Mailbox(here, "gate").with_events(pattern)


@pytest.fixture(scope="module")
def events(here: Installation) -> Mailbox:
    return Mailbox(here, "events").with_events()


@pytest.fixture(scope="module")
def notifications(here: Installation) -> Mailbox:
    return Mailbox(here, "notifications").with_notifications()


def upload(scene: Scene, number: int, accuracy: dict[str, float]) -> None:
    """Labels the same 600 alerts again."""
    scene.upload(f"{number}.csv", labelled_alerts(600, accuracy, seed=1))


def test_regression_in_escalations_is_announced_by_event_and_notification(
    scene: Scene, events: Mailbox, notifications: Mailbox
) -> None:
    upload(scene, 1, GOOD)
    scene.ended(1)
    (first,) = events.wait_for(scene.model, 1)
    upload(scene, 2, MISSES_ESCALATIONS)
    runs = scene.ended(2)
    told = {event["detail-type"]: event for event in events.wait_for(scene.model, 3)[1:]}

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
    assert "Escalate.recall 0." in regressed["why"]
    recall = next(d for d in regressed["differences"] if d["figure"] == "Escalate.recall")
    served = scene.served()["metrics_per_decision"]["Escalate"]
    assert recall["after"] == served["recall"]
    assert recall["samples"] >= 30

    (note,) = notifications.wait_for(scene.model, 1)
    assert note["Subject"].startswith(f"Arcanna metrics regressed - job '{JOB}', model ")
    assert regressed["why"] in note["Message"]
    assert f"accuracy {completed['before']['overall_accuracy']:.3f} ->" in note["Message"]
    assert "What to do:" in note["Message"]
    assert runs[-1]["status"] == "SUCCEEDED"
    history = scene.entry().history
    assert [(past["cause"], past["verdict"]) for past in history] == [
        ("upload", "not_judged"),
        ("upload", "regressed"),
    ]
    assert history[-1]["scores"]["overall_accuracy"] == completed["after"]["overall_accuracy"]
    verdicts = {
        line["run_id"]: line["verdict"]
        for line in scene.here.cloud.log_records(CHECK)
        if line.get("model_id") == scene.model and line["message"] == "model judged"
    }
    assert [verdicts[past["run_id"]] for past in history] == ["not_judged", "regressed"]


def test_deployment_gate_opens_only_when_the_model_is_good_again(scene: Scene, gate: Mailbox) -> None:
    for number, accuracy in enumerate((GOOD, MISSES_ESCALATIONS, MISSES_ESCALATIONS, GOOD), 1):
        upload(scene, number, accuracy)
        runs = scene.ended(number)

    (opened,) = gate.wait_for(scene.model, 1)
    assert opened["detail"]["run_id"] == runs[-1]["run"]["run_id"]
    assert opened["detail"]["verdict"] in ("unchanged", "improved")


def test_failed_run_is_announced_and_kept_apart_from_the_history(
    scene: Scene, events: Mailbox, notifications: Mailbox
) -> None:
    upload(scene, 1, GOOD)
    scene.ended(1)
    history = scene.entry().history
    scene.meets(Fault("recompute", fields={"status": "failed"}))
    upload(scene, 2, GOOD)

    run = scene.ended(2)[-1]

    event = next(e for e in events.wait_for(scene.model, 2) if e["detail-type"] == "Recompute Failed")
    validate_event(event)
    detail = event["detail"]
    assert (detail["status"], detail["reason"]) == ("failed", "RequestFailed")
    assert detail["before"]["last_recomputed_timestamp"]
    (note,) = notifications.wait_for(scene.model, 1)
    assert note["Subject"].startswith(f"Arcanna recompute failed - job '{JOB}', model ")
    for part in (scene.model, "RequestFailed", detail["detail"], "What to do:", run["executionArn"]):
        assert part in note["Message"]
    assert (
        f"Scores that Arcanna shows: accuracy {detail['before']['overall_accuracy']:.3f}," in note["Message"]
    )
    entry = scene.entry()
    assert entry.history == history
    failure = scene.last_failure()
    assert failure["reason"] == "RequestFailed"
    assert failure["cause"] == "upload"
    assert from_iso(failure["ended_at"]) >= from_iso(failure["requested_at"])
