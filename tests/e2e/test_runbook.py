"""The README's runbook, exercised: each situation is brought about, looked at as it says, and remedied by it.

All on one installation: most situations side by side, each on a model of its own, and then one by one those
that concern everybody. `tests/unit/test_runbook.py` holds the README's tables to what is exercised here.
"""

import json
import os
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from arcanna_metrics.times import to_iso
from tests.arcanna.access import API_KEY, KeyInfo
from tests.arcanna.alerts import S3Alerts, labelled_alerts
from tests.arcanna.faults import Fault
from tests.arcanna.platform import FOR_EVER, SHORT, Behaviour, Job
from tests.arcanna.server import ArcannaServer
from tests.e2e.alone import alone, own_installation, settle
from tests.e2e.conftest import JOB, MODELS, OTHER_JOB, OTHER_MODELS
from tests.e2e.desk import STACK, TRIGGER, Desk, shows, until
from tests.e2e.fault_table import CLAIM, HOLD, RELEASE, TRIGGER_TIMEOUT
from tests.e2e.fault_table import TRIGGER as TRIGGER_ROLE
from tests.e2e.fault_table import WORKFLOW as WORKFLOW_ROLE
from tests.e2e.scene import Scene, long_under_way, update_waiting
from tests.harness import ROUTES, LaterAlerts
from tests.local_cloud import ApiFault
from tests.local_cloud.cloud import OPERATOR, REGION

pytestmark = pytest.mark.long

PARAMETERS = {
    "MaximumRecomputes": "0",
    "RetryAttempts": "1",
    "StartGraceSeconds": "5",
    "RunDeadlineSeconds": "13",
    "GiveUpSeconds": "4",
    "FreshnessObjectiveSeconds": "60",
}
TIMEOUTS = {120: TRIGGER_TIMEOUT, 60: 8}
DEAD, WAIT, FAIL = "Dead letters", "Updates wait", "Runs fail"
DOWN = Fault("metrics", times=None, status=503, body="down for maintenance")
PROXY = Fault("metrics", times=None, status=200, body="<html>Log in")

Play = Callable[[Desk], None]


class Exercise(NamedTuple):
    """`rows` are the section and the reason of its table, "" where it is the section's only way.

    Exercises that concern everybody are played one by one, in the order in which they stand here.
    """

    play: Play
    rows: tuple[tuple[str, str], ...]
    one_by_one: bool

    @property
    def name(self) -> str:
        return self.play.__name__


EXERCISES: list[Exercise] = []


def exercises(*rows: tuple[str, str], one_by_one: bool = False) -> Callable[[Play], Play]:
    """Registers the function as an exercise of these rows."""

    def register(play: Play) -> Play:
        EXERCISES.append(Exercise(play, rows, one_by_one))
        return play

    return register


NOT_HERE: Mapping[tuple[str, str], str] = {
    (DEAD, "any other"): "only AWS makes them; tests/unit/test_operate.py reads them as AWS documents them",
    ("Functions fail", "throttles"): "the quota is AWS's",
    ("Functions fail", "a deployment that was rolled back"): "there is no CodeDeploy",
    (FAIL, "TIMED_OUT"): "8 days; the simulation ends executions so, and ABORTED takes the same way",
    (FAIL, "ConfigurationError"): "a setting of the deployment; test_handlers has each of them wrong",
}
"""Rows that are not exercised, because only AWS or a new deployment can cause or mend them."""


# --- Dead letters, and updates that wait -----------------------------------------------------------------


@exercises((DEAD, "BadInput"))
def what_is_not_understood_is_corrected_by_its_sender(desk: Desk) -> None:
    scene = desk.scene()
    desk.send({"job_id": JOB, "model": scene.model})
    until("its rejection", lambda: desk.lines("unusable message", "unknown field 'model'"))

    shows(desk.redrive("BadInput", send=False), "BadInput", "unknown field 'model'")

    scene.update()
    assert desk.delete_dead_letters(scene.model) == 1
    desk.recomputed(scene)
    shows(desk.redrive("BadInput", send=False), "There are no dead letters")


@exercises((DEAD, "Rejected"), (FAIL, "Rejected"))
def what_arcanna_does_not_know_is_trained_and_redriven(desk: Desk) -> None:
    scene = desk.scene()
    desk.here.arcanna.remove_model(JOB, scene.model)
    scene.update()
    until("its rejection", lambda: "Rejected" in scene.entry().get("last_outcome", ""))

    shows(until_dead(desk, "Rejected"), "Rejected", "404")
    assert "Rejected" in desk.failures_by_reason(scene.model)
    assert until("the notification", lambda: desk.told(scene.model, "Why: Rejected"))

    desk.here.arcanna.set_active_model(JOB, scene.model)
    scene.updated_at = time.time()
    desk.redrive("Rejected", send=True)
    desk.recomputed(scene)


@exercises((FAIL, "Rejected"))
def a_model_that_is_removed_during_its_run_leaves_no_dead_letter(desk: Desk) -> None:
    scene = desk.scene()
    long_under_way(scene)
    desk.here.arcanna.remove_model(JOB, scene.model)
    looked_at_failure(desk, scene, "Rejected")
    assert desk.delete_dead_letters(scene.model) == 0

    desk.here.arcanna.set_active_model(JOB, scene.model)
    scene.behaves(SHORT)
    desk.ask_again(scene)


def an_outage(desk: Desk, reason: str, outage: Fault, quoted: str) -> None:
    """One update waits until it is given up, another is asked for when Arcanna is back."""
    scene, later = desk.scene(), desk.scene()
    fault = Fault(**{**vars(outage), "model_id": scene.model})
    desk.here.arcanna.add_fault(fault)
    desk.here.arcanna.add_fault(Fault(**{**vars(outage), "model_id": later.model, "times": 1}))
    scene.update()
    later.update()
    waiting = until("the wait", lambda: desk.lines("updates put off", scene.model))
    assert waiting[0]["reason"] == reason
    shows(waiting[0]["detail"], quoted)
    until("its metrics", lambda: desk.emitted(reason) and desk.emitted("UpdateAge"))

    desk.recomputed(later)  # by itself
    assert desk.lines("updates put off", later.model)
    shows(until_dead(desk, reason, scene), reason, quoted)
    desk.here.arcanna.remove_fault(fault)
    since = scene.updated_at = time.time()
    desk.redrive(reason, send=True)
    desk.recomputed(scene)
    assert desk.emitted("UpdatesClaimed", since)


@exercises((DEAD, "PlatformUnavailable"), (WAIT, "PlatformUnavailable"))
def what_waited_for_arcanna_goes_on_when_it_is_up(desk: Desk) -> None:
    an_outage(desk, "PlatformUnavailable", DOWN, "down for maintenance")


@exercises((DEAD, "UndocumentedAnswer"), (WAIT, "UndocumentedAnswer"))
def what_a_proxy_answered_goes_on_when_arcanna_answers(desk: Desk) -> None:
    an_outage(desk, "UndocumentedAnswer", PROXY, "<html>Log in")


@exercises((WAIT, "PlatformUnavailable"), (WAIT, "UndocumentedAnswer"))
def the_doctor_tells_whether_arcanna_is_reached(desk: Desk) -> None:
    for outage, remedy in ((DOWN, "the way open from the functions"), (PROXY, "or a proxy?")):
        desk.here.arcanna.add_fault(Fault(**{**vars(outage), "endpoint": "scopes", "times": 1}))
        shows(desk.make("doctor")[1], "✗ platform", remedy)
        shows(desk.make("doctor")[1], "✓ platform")


@exercises((DEAD, "PlatformBusy"), (WAIT, "PlatformBusy"))
def what_somebody_else_recomputes_is_asked_for_when_they_are_done(desk: Desk) -> None:
    scene = desk.scene(FOR_EVER)
    desk.here.arcanna.external_recompute(JOB, scene.model)
    until("theirs", lambda: desk.here.served(JOB, scene.model)["is_recomputing_metrics"])
    scene.update()
    (waiting, *_) = until("the wait", lambda: desk.lines("updates put off", scene.model))
    assert waiting["reason"] == "PlatformBusy"
    until("its metric", lambda: desk.emitted("PlatformBusy"))
    shows(until_dead(desk, "PlatformBusy", scene), "PlatformBusy", "for somebody else")

    scene.behaves(SHORT)
    (theirs, *_) = desk.here.arcanna.recomputes(scene.model)
    until("their end", lambda: theirs.state == "completed")
    scene.updated_at = time.time()
    desk.redrive("PlatformBusy", send=True)
    desk.recomputed(scene)


@exercises((DEAD, "AwsUnavailable"), ("Functions fail", "AccessDenied"))
def what_lacked_a_permission_goes_on_when_it_is_back(desk: Desk) -> None:
    scene = desk.scene()
    with desk.denied(TRIGGER_ROLE, "dynamodb", "UpdateItem", CLAIM, scene.model):
        scene.update()
        shows(until_dead(desk, "AwsUnavailable", scene), "AwsUnavailable", "UpdateItem", "AccessDenied")
        assert desk.emitted("AwsUnavailable")
    scene.updated_at = time.time()
    desk.redrive("AwsUnavailable", send=True)
    desk.recomputed(scene)


def until_dead(desk: Desk, reason: str, given_up: Scene | None = None) -> str:
    """What `make redrive REASON=...` shows, as soon as there is a dead letter with that reason.

    That is looked up only when the log says that the update of `given_up` is one.
    """
    if given_up:
        until(f"{reason} of {given_up.model}", lambda: desk.lines("updates given up", given_up.model))

    def look() -> str:
        shown = desk.redrive(reason, send=False)
        return "" if "There are no dead letters" in shown else shown

    return until(f"a dead letter with {reason}", look)


# --- Runs fail -------------------------------------------------------------------------------------------


def looked_at_failure(desk: Desk, scene: Scene, reason: str) -> None:
    """Waits for the failure, and takes the section's first look at it."""
    until(f"{reason} of {scene.model}", lambda: is_last_outcome(scene, reason))
    story = [line for line in desk.story(scene.entry()["last_run_id"]) if line.get("reason") == reason]
    assert reason in desk.failures_by_reason(scene.model), desk.failures_by_reason(scene.model)
    assert story or any(e.get("error") == reason for e in desk.executions(scene.model))
    assert until("the notification", lambda: desk.told(scene.model, f"Why: {reason}"))
    assert until("the event", lambda: desk.told(scene.model, "Recompute Failed", f'"{reason}"'))
    assert "run_id" not in scene.entry()
    status = desk.make("status", "--job", str(JOB), "--model", scene.model)[1]
    shows(status, "the last run failed:", f", {reason}")


def is_last_outcome(scene: Scene, reason: str) -> bool:
    return scene.entry().get("last_outcome", "").endswith(f": {reason}")


def a_recompute_goes_wrong(desk: Desk, behaviour: Behaviour, reason: str) -> None:
    scene = desk.scene(behaviour)
    scene.update()
    looked_at_failure(desk, scene, reason)

    scene.behaves(SHORT)  # they have mended it at Arcanna
    until("its end", lambda: not desk.here.served(JOB, scene.model)["is_recomputing_metrics"])
    desk.ask_again(scene)


@exercises((FAIL, "NeverStarted"))
def what_never_started_completes_when_the_workers_run(desk: Desk) -> None:
    a_recompute_goes_wrong(desk, Behaviour(never_starts=True), "NeverStarted")


@exercises((FAIL, "NoNewResult"))
def what_failed_at_arcanna_completes_when_it_works_there(desk: Desk) -> None:
    a_recompute_goes_wrong(desk, Behaviour(delay=0.2, looks=1, fails=True), "NoNewResult")


@exercises((FAIL, "DeadlinePassed"))
def what_took_too_long_completes_when_it_is_as_fast_as_before(desk: Desk) -> None:
    a_recompute_goes_wrong(desk, FOR_EVER, "DeadlinePassed")


@exercises((FAIL, "RequestFailed"))
def what_arcanna_refused_to_begin_completes_when_it_does_not(desk: Desk) -> None:
    scene = desk.scene()
    word = Fault("recompute", scene.model, times=None, fields={"status": "failed"})
    desk.here.arcanna.add_fault(word)
    scene.update()
    looked_at_failure(desk, scene, "RequestFailed")

    desk.here.arcanna.remove_fault(word)
    desk.ask_again(scene)


@exercises((FAIL, "PlatformUnavailable"))
def checks_that_met_an_outage(desk: Desk) -> None:
    checks_fail(desk, "PlatformUnavailable", DOWN)


@exercises((FAIL, "UndocumentedAnswer"))
def checks_that_met_a_proxy(desk: Desk) -> None:
    checks_fail(desk, "UndocumentedAnswer", PROXY)


def checks_fail(desk: Desk, reason: str, outage: Fault) -> None:
    scene = desk.scene(FOR_EVER)
    fault = Fault(**{**vars(outage), "model_id": scene.model, "skip": 1})  # the baseline
    desk.here.arcanna.add_fault(fault)
    scene.update()
    looked_at_failure(desk, scene, reason)

    desk.here.arcanna.remove_fault(fault)
    scene.behaves(SHORT)
    until("its end", lambda: not desk.here.served(JOB, scene.model)["is_recomputing_metrics"])
    desk.ask_again(scene)


@exercises((FAIL, "ABORTED"))
def what_was_stopped_by_hand_completes_when_it_is_asked_for_again(desk: Desk) -> None:
    scene = desk.scene()
    long_under_way(scene)
    scene.stop_execution()
    looked_at_failure(desk, scene, "ABORTED")

    scene.behaves(SHORT)
    until("its end", lambda: not desk.here.served(JOB, scene.model)["is_recomputing_metrics"])
    desk.ask_again(scene)


@exercises((FAIL, "NotTold"))
def an_outcome_that_could_not_be_told(desk: Desk) -> None:
    scene = desk.scene()
    with desk.denied(WORKFLOW_ROLE, "events", "PutEvents", scene.model):
        scene.update()
        cause = ended(desk, scene, "NotTold")["cause"]
    shows(cause, "AccessDenied")
    assert "NotTold" in desk.failures_by_reason(scene.model)
    until("the release", lambda: "run_id" not in scene.entry())

    desk.ask_again(scene)


@exercises((FAIL, "NotReleased"), (FAIL, "FAILED"))
def a_model_that_could_not_be_released(desk: Desk) -> None:
    scene = desk.scene()
    with desk.denied(WORKFLOW_ROLE, "dynamodb", "UpdateItem", RELEASE, scene.model):
        scene.update()
        cause = ended(desk, scene, "NotReleased")["cause"]
    shows(cause, "AccessDenied")
    assert "NotReleased" in desk.failures_by_reason(scene.model)
    looked_at_failure(desk, scene, "FAILED")  # which concludes it

    desk.ask_again(scene)


@exercises((FAIL, "NotAskedAgain"))
def an_update_that_could_not_be_asked_for_again(desk: Desk) -> None:
    scene = desk.scene()
    with desk.denied(WORKFLOW_ROLE, "sqs", "SendMessage", scene.model):
        update_waiting(scene)
        scene.behaves(SHORT)
        cause = ended(desk, scene, "NotAskedAgain")["cause"]
    shows(cause, "injected by the test")
    assert "NotAskedAgain" in desk.failures_by_reason(scene.model)
    desk.recomputed(scene)  # by the trigger's hand

    desk.ask_again(scene)


@exercises((FAIL, "a word of AWS's"))
def a_call_of_the_workflow_that_was_refused(desk: Desk) -> None:
    scene = desk.scene()
    with desk.denied(WORKFLOW_ROLE, "dynamodb", "UpdateItem", HOLD, scene.model):
        scene.update()
        looked_at_failure(desk, scene, "DynamoDB.AccessDeniedException")
    desk.ask_again(scene)


def ended(desk: Desk, scene: Scene, error: str) -> dict[str, Any]:
    """The model's execution that ended with that error."""

    def look() -> list[dict[str, Any]]:
        return [e for e in desk.executions(scene.model) if e.get("error") == error]

    return until(f"{error} of {scene.model}", look)[0]


@exercises((FAIL, "Superseded"))
def an_execution_that_came_too_late(desk: Desk) -> None:
    scene = desk.scene()
    scene.update()
    desk.recomputed(scene)
    (run,) = desk.executions(scene.model)
    start(desk, f"{run['name']}-late", json.loads(run["input"]))
    shows(ended(desk, scene, "Superseded")["cause"], "covers the updates")
    assert "Superseded" in desk.failures_by_reason(scene.model)

    desk.recomputed(scene)  # none is needed
    assert len(desk.here.arcanna.recomputes(scene.model)) == 1


@exercises((FAIL, "UnknownStatus"))
def a_check_that_the_workflow_does_not_know(desk: Desk) -> None:
    parts_do_not_fit(desk, "UnknownStatus", {"status": "splendid"})


@exercises((FAIL, "BadInput"))
def an_execution_that_the_check_does_not_know(desk: Desk) -> None:
    parts_do_not_fit(desk, "BadInput", {"status": "running", "wait_seconds": 1}, without="idle_since")


def parts_do_not_fit(desk: Desk, reason: str, check: Mapping[str, object], without: str = "") -> None:
    """An execution with a check as another version would have made it, on a model that it holds."""
    scene, run_id = desk.scene(), str(uuid.uuid4())
    scene.update()
    desk.recomputed(scene)
    data = json.loads(desk.executions(scene.model)[0]["input"])
    data["run"] |= {"run_id": run_id, "requested_at": to_iso(time.time())}
    data["check"] |= check
    data["check"].pop(without, None)
    desk.here.cloud.client("dynamodb").update_item(
        TableName=desk.here.cloud.outputs["LedgerTable"],
        Key={"job_id": {"S": str(JOB)}, "model_id": {"S": scene.model}},
        UpdateExpression="SET run_id = :run, lease_expires_at = :until",
        ExpressionAttributeValues={":run": {"S": run_id}, ":until": {"S": data["run"]["lease_until"]}},
    )
    start(desk, run_id, data)
    looked_at_failure(desk, scene, reason)

    desk.ask_again(scene)  # with the parts that fit together


def start(desk: Desk, name: str, data: object) -> None:
    desk.here.cloud.client("stepfunctions").start_execution(
        stateMachineArn=desk.here.cloud.outputs["RecomputeWorkflowArn"], name=name, input=json.dumps(data)
    )


# --- What no table is about ------------------------------------------------------------------------------


@exercises(("Metrics are late", ""))
def metrics_that_are_late(desk: Desk) -> None:
    scene = desk.scene()
    since, objective = time.time(), float(PARAMETERS["FreshnessObjectiveSeconds"])
    long_ago = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since - 2 * objective))
    desk.send({"job_id": JOB, "model_id": scene.model, "happened_at": long_ago})
    desk.recomputed(scene)
    assert max(desk.emitted("FreshnessLag", since)) > objective

    run_id = scene.entry()["last_run_id"]
    (slow,) = [line for line in desk.lines("status checked", run_id) if line["status"] == "completed"]
    assert slow["duration_seconds"] < objective  # so that the update waited, and Arcanna did not

    scene.update()
    desk.recomputed(scene)
    assert min(desk.emitted("FreshnessLag", since)) < objective


GOOD = {"Drop": 0.95, "Investigate": 0.9, "Escalate": 0.95}
MISSES_ESCALATIONS = {**GOOD, "Escalate": 0.4}


@exercises(("A model got worse", ""))
def a_model_that_got_worse_gets_better_with_corrected_labels(desk: Desk) -> None:
    scene = desk.scene()

    def upload(name: str, accuracy: Mapping[str, float]) -> None:
        scene.updated_at = time.time()
        labels = labelled_alerts(600, accuracy, seed=1)
        desk.here.upload(f"training-data/{JOB}/{scene.model}/{name}.csv", labels)
        desk.recomputed(scene)

    upload("1", GOOD)
    upload("2", MISSES_ESCALATIONS)
    (note,) = until("the notification", lambda: desk.told(scene.model, "Arcanna metrics regressed"))
    shows(note, "Escalate.recall fell from", "What to do: hold back its deployment")
    (event,) = until("the event", lambda: desk.told(scene.model, "Model Metrics Regressed"))
    assert json.loads(event)["detail"]["cause"]["sample"][0]["key"].endswith("2.csv")

    def verdict() -> str:
        return str(json.loads(scene.entry()["history"])[-1]["verdict"])

    upload("3", MISSES_ESCALATIONS)
    assert verdict() == "regressed"  # it is as bad as before, and far from what it was
    upload("4", GOOD)
    assert verdict() in ("unchanged", "improved")


@exercises(("A model got worse", ""))
def a_model_that_got_worse_and_stays_so_is_accepted(desk: Desk) -> None:
    scene = desk.scene()
    model = ("--job", str(JOB), "--model", scene.model)

    def recomputed(name: str, accuracy: Mapping[str, float]) -> str:
        labels = labelled_alerts(600, accuracy, seed=1)
        scene.updated_at = time.time()
        desk.here.upload(f"training-data/{JOB}/{scene.model}/{name}.csv", labels)
        desk.recomputed(scene)
        return str(json.loads(scene.entry()["history"])[-1]["verdict"])

    recomputed("1", GOOD)
    assert recomputed("2", MISSES_ESCALATIONS) == "regressed"
    code, printed = desk.make("trigger", *model)
    assert code == 1, printed
    shows(printed, "✗ completed, regressed: ", "Escalate.recall fell from its reference of")
    code, printed = desk.make("accept", *model)
    assert code == 0, printed
    code, printed = desk.make("trigger", *model)
    assert code == 0, printed
    shows(printed, "✓ completed, unchanged")


# --- What concerns everybody, one by one -----------------------------------------------------------------


@exercises((WAIT, "none"), one_by_one=True)
def a_queue_that_does_not_get_on(desk: Desk) -> None:
    scene, functions = desk.scene(), desk.here.cloud.client("lambda")
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    time.sleep(1.0)  # what has begun to be received
    scene.update()
    until("a queue", lambda: "Updates in the queue: 0 visible, 0 put off" not in desk.make("status")[1])
    shows(desk.make("doctor")[1], "✗ queue", "does not invoke the trigger (Disabled)")
    since = time.time()

    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    desk.recomputed(scene)
    assert desk.emitted("UpdatesClaimed", since)
    shows(desk.make("doctor")[1], "✓ queue")


@exercises((DEAD, "none"), ("Functions fail", "none"), one_by_one=True)
def a_message_that_kills_the_trigger(desk: Desk) -> None:
    scene, sqs = desk.scene(), desk.here.cloud.client("sqs")
    url = desk.here.cloud.outputs["UpdatesQueueUrl"]
    visibility = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "2"})  # 720 are too long here
    role = desk.here.cloud.physical_id(TRIGGER_ROLE)
    fault = ApiFault(
        "dynamodb",
        "UpdateItem",
        kill=True,
        times=1000,
        role=role,
        where=lambda call: scene.model in Scene.text_of(call),
    )
    desk.here.cloud.inject(fault)
    scene.update()
    shows(until_dead(desk, "none"), "none")
    assert len(fault.hits) == 5

    fault.times = 0
    sqs.set_queue_attributes(QueueUrl=url, Attributes=visibility)
    scene.updated_at = time.time()
    desk.redrive("none", send=True)
    desk.recomputed(scene)


def put_routes(desk: Desk, document: object) -> None:
    desk.here.cloud.client("ssm").put_parameter(
        Name=desk.here.cloud.outputs["RoutesParameter"], Value=json.dumps(document), Overwrite=True
    )


BROKEN = {"routes": [{"name": "broken"}]}


@exercises(
    ("The routes are wrong", ""),
    (DEAD, "ConfigurationError"),
    ("Functions fail", "ConfigurationError"),
    one_by_one=True,
)
def routes_that_are_wrong(desk: Desk) -> None:
    meanwhile, scene = desk.scene(), desk.scene()
    put_routes(desk, BROKEN)
    desk.forget_routes()
    upload(desk, meanwhile)
    desk.recomputed(meanwhile)  # the last right version is in force
    shows(desk.lines("the routes are wrong", "broken")[0]["detail"], "route 'broken'", "targets")
    assert desk.emitted("RoutesInvalid")
    shows(desk.make("doctor")[1], "✗ routes", "route 'broken'", desk.here.cloud.outputs["RoutesParameter"])

    for _ in range(20):
        put_routes(desk, BROKEN)
    desk.forget_routes()
    notification = json.loads((desk.here.samples / "s3-notification.json").read_text())
    notification["Records"][0]["s3"]["object"]["key"] = f"training-data/{JOB}/{scene.model}/alerts.csv"
    desk.here.cloud.client("lambda").invoke(
        FunctionName=desk.here.cloud.outputs["TriggerRecomputeFunction"],
        InvocationType="Event",
        Payload=json.dumps(notification),
    )
    shows(until_dead(desk, "ConfigurationError"), "ConfigurationError", "route 'broken'")
    shows("\n".join(desk.here.cloud.logs(TRIGGER)), "ConfigurationError", "route 'broken'")

    put_routes(desk, ROUTES)
    desk.forget_routes()
    since = scene.updated_at = time.time()
    desk.redrive("ConfigurationError", send=True)
    scene.updated_at = 0.0  # the notification has a time of its own
    desk.recomputed(scene)
    assert desk.emitted("UpdatesClaimed", since)
    assert not desk.emitted("RoutesInvalid", since)
    shows(desk.make("doctor")[1], "✓ routes")


@exercises((DEAD, "Rejected"), one_by_one=True)
def a_route_that_leads_to_no_model(desk: Desk) -> None:
    """What it has led to names that model, so that a re-drive alone is of no use."""
    scene, unknown = desk.scene(), "generic-1-1234-model-1.hdf5"
    astray = {"name": "astray", "keys": ["astray/*"], "targets": [{"job_id": JOB, "model_id": unknown}]}
    right = {**astray, "targets": [{"job_id": JOB, "model_id": scene.model}]}
    put_routes(desk, {"routes": [*ROUTES["routes"], astray]})
    desk.forget_routes()
    desk.here.upload("astray/alerts.csv", "")
    shows(until_dead(desk, "Rejected"), "404")
    shows(desk.make("doctor")[1], "✗ targets", "Correct the route")

    put_routes(desk, {"routes": [*ROUTES["routes"], right]})
    desk.forget_routes()
    shows(desk.make("doctor")[1], "✓ targets")
    desk.redrive("Rejected", send=True)
    until_dead(desk, "Rejected")
    assert desk.delete_dead_letters(unknown) == 1
    scene.updated_at = time.time()
    desk.here.upload("astray/alerts.csv", "")
    desk.recomputed(scene)
    put_routes(desk, ROUTES)


def upload(desk: Desk, scene: Scene) -> None:
    scene.updated_at = time.time()
    desk.here.upload(f"training-data/{JOB}/{scene.model}/alerts.csv", labelled_alerts(20, GOOD, seed=1))


@exercises(("Uploads lead to nothing", ""), one_by_one=True)
def uploads_that_lead_to_nothing(desk: Desk) -> None:
    scene, s3, bucket = desk.scene(), desk.here.cloud.client("s3"), desk.here.bucket
    desk.here.upload("elsewhere/alerts.csv", "")
    until("the line", lambda: desk.lines("no route", "elsewhere/alerts.csv"))
    assert desk.emitted("UpdatesIgnored")
    shows(desk.make("route", "--key", "elsewhere/alerts.csv")[1], "✗ No route knows this key")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    shows(desk.make("doctor")[1], "✗ bucket", "Amazon EventBridge")

    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    shows(desk.make("doctor")[1], "✓ bucket")
    shows(desk.make("route", "--key", f"training-data/{JOB}/{scene.model}/a.csv")[1], scene.model)
    upload(desk, scene)
    desk.recomputed(scene)


# What Arcanna answers, or what is wrong with the secret, by the key that is valid when it is mended.
@exercises(("The API key is refused", ""), (DEAD, "Unauthorised"), (FAIL, "Unauthorised"), one_by_one=True)
def a_key_that_has_expired(desk: Desk) -> None:
    a_key_is_refused(desk, "Unauthorised", "401", None, f"{API_KEY}-2")


@exercises(
    ("The API key is refused", ""), (DEAD, "ApiKeyUnavailable"), (FAIL, "ApiKeyUnavailable"), one_by_one=True
)
def a_secret_without_a_key(desk: Desk) -> None:
    a_key_is_refused(desk, "ApiKeyUnavailable", "does not hold an API key", "no key", f"{API_KEY}-3")


def a_key_is_refused(desk: Desk, reason: str, said: str, secret: str | None, valid: str) -> None:
    """Arcanna takes another key from now on, and people put `secret` where that belongs, or nothing yet."""
    secrets, arn = desk.here.cloud.client("secretsmanager"), desk.here.cloud.outputs["ApiKeySecretArn"]
    waiting, running = desk.scene(), desk.scene()
    long_under_way(running)
    desk.here.arcanna.set_api_keys({valid: KeyInfo()})
    if secret:
        secrets.put_secret_value(SecretId=arn, SecretString=secret)
    waiting.update()
    looked_at_failure(desk, running, reason)
    running.behaves(SHORT)
    shows(until_dead(desk, reason, waiting), reason, said)
    assert desk.emitted(reason)
    shows(desk.make("doctor")[1], "✗ key", "put-secret-value", arn)

    secrets.put_secret_value(SecretId=arn, SecretString=valid)
    since = waiting.updated_at = time.time()
    shows(desk.make("doctor")[1], "✓ key", "✓ scopes")
    desk.redrive(reason, send=True)
    desk.recomputed(waiting)
    desk.ask_again(running)
    assert not desk.emitted(reason, since)
    assert desk.emitted("UpdatesClaimed", since)


@exercises((DEAD, ""), one_by_one=True)
def in_the_end_all_is_well(desk: Desk) -> None:
    settle(desk.here, 60)
    assert desk.dead_letters() == 0
    code, printed = desk.make("doctor")
    assert code == 0, printed


# --- All of them -----------------------------------------------------------------------------------------


def play() -> dict[str, str]:
    """What went wrong in each exercise, by its name; empty where nothing did."""
    jobs = {
        JOB: Job(name="security-alerts", models=MODELS),
        OTHER_JOB: Job(name="phishing-triage", models=OTHER_MODELS),
    }
    alerts = LaterAlerts()
    with (
        ArcannaServer(jobs, alerts, behaviour=SHORT) as arcanna,
        own_installation(STACK, arcanna, PARAMETERS, TIMEOUTS) as here,
    ):
        alerts.source = S3Alerts(here.cloud.client("s3"), here.bucket)
        os.environ |= {
            "AWS_ENDPOINT_URL": here.cloud.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": OPERATOR,
        }
        desk = Desk(here)
        failures: dict[str, str] = {}
        with ThreadPoolExecutor(len(EXERCISES)) as pool:
            side_by_side = {e.name: pool.submit(e.play, desk) for e in EXERCISES if not e.one_by_one}
            for name, future in side_by_side.items():
                failures[name] = told(future.exception())
            for exercise in (e for e in EXERCISES if e.one_by_one):
                failures[exercise.name] = told(pool.submit(exercise.play, desk).exception())
        return failures


def told(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error)) if error else ""


@pytest.fixture(scope="module")
def failures() -> Mapping[str, str]:
    return alone(play)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_the_remedy_mends_it(failures: Mapping[str, str], exercise: Exercise) -> None:
    assert not failures[exercise.name], failures[exercise.name]
