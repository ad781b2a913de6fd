"""Exercises of the runbook: each causes a situation, looks at it and remedies it as the page says.

They share one installation. Most run at once, each on its own model. Those that affect all models follow one
by one. `test_runbook.py` plays them. `tests/unit/test_runbook.py` compares the sections and
tables of the runbook with the exercises.
"""

import json
import os
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from arcanna_metrics.protocol.ledger import key_of
from tests.e2e.alone import own_installation
from tests.e2e.desk import STACK, Desk, shows
from tests.e2e.scene import (
    JOB,
    JOB_NAME,
    MODELS,
    OTHER_JOB,
    OTHER_MODELS,
    TRIGGER,
    TRIGGER_ROLE,
    Scene,
    edited_settings,
    restart,
    send,
    settle,
    unreadable_entry,
    write_settings,
)
from tests.e2e.steps import (
    DENIED,
    INVOKE_CHECK,
    KILLED_BEFORE,
    PUBLISH,
    RECORD,
    RELEASE,
    START,
    Step,
    refused,
)
from tests.support.arcanna.access import API_KEY, KeyInfo
from tests.support.arcanna.alerts import S3Alerts, labelled_alerts
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import FOR_EVER, SHORT, Behaviour, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.installation import ROUTES, LaterAlerts
from tests.support.local_cloud import ApiFault
from tests.support.local_cloud.cloud import OPERATOR, REGION
from tests.support.waiting import eventually

SLOTS = 8
PACE = {"slots": SLOTS, "start_grace_seconds": 6, "deadline_seconds": 30}
VISIBILITY = "15"
"""Seconds until SQS delivers an unrecorded message again. The template's 12 minutes are too long."""
AT_ONCE = 5
"""Exercises that run at the same time. Fewer than there are slots."""

DEAD, WAIT, FAIL = "Dead letters", "Updates wait", "Runs fail"
WORSE, KEY, WRONG, FUNCTIONS = (
    "A model got worse",
    "The API key is refused",
    "The settings are wrong",
    "Functions fail",
)
LOST, NOTHING = "Entries of the ledger are lost", "Uploads do not start a recompute"
ONLY_WAY = ""
"""The reason in a section without a table of reasons."""

Play = Callable[[Desk], None]


class Exercise(NamedTuple):
    """`rows` are sections and reasons of the runbook's tables.

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
    (FAIL, "TIMED_OUT"): "it takes 8 days; the simulation ends executions so, and ABORTED takes the same way",
    (FUNCTIONS, "throttles"): "the quota is AWS's",
    (FUNCTIONS, "during a deployment"): "only AWS replaces a function's code and layers one after the other",
    (FUNCTIONS, "a deployment that fails"): "the account's log resource policies are AWS's",
}
"""Rows that are not exercised, because only AWS or a new deployment can cause or remedy them."""


@contextmanager
def denied(scene: Scene, step: Step) -> Iterator[None]:
    """Denies a permission for calls about the model until the block ends."""
    fault = step.meets(refused(times=1000), scene)
    try:
        yield
    finally:
        fault.times = 0


# --- Dead letters ----------------------------------------------------------------------------------------


@exercises((DEAD, "BadInput"))
def unusable_message_is_corrected_by_its_sender(desk: Desk) -> None:
    scene = desk.scene()
    send(desk.here, {"job_id": JOB, "model": scene.model})
    shows(desk.dead_letter("BadInput", scene.model), "BadInput", "unknown field")
    assert desk.lines("unusable message", "unknown field")
    desk.redrive("BadInput", send=True)
    desk.dead_letter("BadInput", scene.model)  # as before

    scene.request()
    assert desk.delete_dead_letters(scene.model)
    desk.recomputed(scene)


@exercises((DEAD, "NotSubscribed"))
def unconfirmed_topic_subscription_is_confirmed(desk: Desk) -> None:
    scene, sns, outputs = desk.scene(), desk.here.cloud.client("sns"), desk.here.cloud.outputs
    topic = sns.create_topic(Name="uploads")["TopicArn"]
    url = f"{desk.here.cloud.url}/?Action=ConfirmSubscription&TopicArn={topic}&Token=token"
    send(desk.here, {"Type": "SubscriptionConfirmation", "TopicArn": topic, "SubscribeURL": url})
    shows(desk.dead_letter("NotSubscribed", topic), "NotSubscribed", topic, "aws sns confirm-subscription")

    letter, *_ = desk.delete_dead_letters(topic)
    assert json.loads(letter)["SubscribeURL"] == url
    # SNS does this when somebody opens the link.
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=outputs["UpdatesQueueArn"])
    scene.updated_at = time.time()
    sns.publish(TopicArn=topic, Message=json.dumps({"job_id": JOB, "model_id": scene.model}))
    desk.recomputed(scene)


@exercises((DEAD, "any other"))
def failed_direct_event_is_redriven(desk: Desk) -> None:
    scene = desk.scene()
    with denied(scene, RECORD):
        desk.here.cloud.client("lambda").invoke(
            FunctionName=desk.here.cloud.outputs["TriggerRecomputeFunction"],
            InvocationType="Event",
            Payload=json.dumps({"job_id": JOB, "model_id": scene.model}),
        )
        shows(desk.dead_letter("AwsUnavailable", scene.model), "AwsUnavailable", "AccessDenied")
    scene.updated_at = time.time()
    desk.redrive("AwsUnavailable", send=True)
    desk.recomputed(scene)


# --- Updates wait ----------------------------------------------------------------------------------------


def waits(desk: Desk, scene: Scene, reason: str, quoted: str) -> None:
    """Checks what the section tells people to look at first, for an update that waits for that reason."""
    (attempt, *_) = eventually("an attempt", lambda: desk.lines("attempt failed", scene.model))
    assert attempt["reason"] == reason
    shows(attempt["detail"], quoted)
    assert eventually("its metric", lambda: desk.emitted(reason))
    assert eventually("the age of the oldest", lambda: desk.emitted("OldestUpdateAge"))
    assert scene.entry().dirty


@exercises((WAIT, "PlatformBusy"))
def update_waits_until_somebody_elses_recompute_has_ended(desk: Desk) -> None:
    scene = desk.scene(FOR_EVER)
    scene.recompute_by_somebody_else()
    eventually("theirs", lambda: scene.served()["is_recomputing_metrics"])
    scene.request()
    waits(desk, scene, "PlatformBusy", "Arcanna is recomputing")
    desk.until_status(scene, "the last attempt failed", "1 update waits")

    scene.behaves(SHORT)
    desk.recomputed(scene)


@exercises((WAIT, "ActiveModelChanged"))
def active_model_changed_during_the_start_is_retried(desk: Desk) -> None:
    arcanna, (after, before) = desk.here.arcanna, OTHER_MODELS
    scene = Scene(desk.here, after, str(OTHER_JOB), active=True)
    arcanna.add_fault(Fault("metrics", before, status=404, slow=3.0))  # the model has been removed
    scene.request()
    eventually("the start", lambda: any(r.model_id == before for r in arcanna.requests))
    arcanna.set_active_model(OTHER_JOB, after)
    (attempt,) = eventually("the attempt", lambda: desk.lines("attempt failed", before))
    assert attempt["reason"] == "ActiveModelChanged"

    desk.recomputed(scene)  # its trainings are over
    assert desk.emitted("ActiveModelChanged")


@exercises((WAIT, "AwsUnavailable"), (FUNCTIONS, "AccessDenied"))
def missing_permission_is_restored(desk: Desk) -> None:
    scene = desk.scene()
    with denied(scene, START):
        scene.request()
        waits(desk, scene, "AwsUnavailable", "AccessDeniedException")
        shows(desk.lines("attempt failed", scene.model)[0]["detail"], "StartExecution")
        assert desk.emitted("AwsUnavailable")
    desk.recomputed(scene)


@exercises((WAIT, "no reason, and runs are in progress"))
def update_waits_for_a_long_run(desk: Desk) -> None:
    scene = desk.scene()
    scene.long_under_way()
    since = time.time()
    eventually("the gauges", lambda: desk.emitted("SlotsTaken", since))
    assert desk.emitted("OldestUpdateAge", since)
    desk.until_status(scene, "a run is under way", "stale for", "running for")

    scene.behaves(SHORT)
    desk.recomputed(scene)


# --- Runs fail -------------------------------------------------------------------------------------------


def has_failed(desk: Desk, scene: Scene, reason: str) -> None:
    """Waits for the failure, and checks what the section tells people to look at first."""
    scene.until(reason, lambda _: scene.last_failure().get("reason") == reason)
    run_id = scene.last_failure()["run_id"]
    eventually("its end", lambda: run_id in [e["name"] for e in scene.executions() if e.get("error")])
    assert reason in desk.failures_by_reason(scene)
    told = partial(
        desk.told,
        scene,
        f"Why: {reason}",
        f"Look up {reason} in the runbook",
        "functions/RUNBOOK.md#runs-fail",
    )
    assert eventually("the notification", told)
    assert eventually("the event", lambda: desk.told(scene, "Recompute Failed", run_id, reason))
    desk.until_status(scene, reason)


@exercises((FAIL, "NeverStarted"), (FAIL, "NoNewResult"), (FAIL, "DeadlinePassed"))
def failed_recompute_is_requested_again(desk: Desk) -> None:
    scenes = {
        "NeverStarted": desk.scene(Behaviour(never_starts=True)),
        "NoNewResult": desk.scene(Behaviour(delay=0.2, looks=1, fails=True)),
        "DeadlinePassed": desk.scene(FOR_EVER),
    }
    for scene in scenes.values():
        scene.request()
    for reason, scene in scenes.items():
        has_failed(desk, scene, reason)
        scene.behaves(SHORT)
        desk.request_again(scene)


@exercises((FAIL, "RequestFailed"))
def request_answered_as_failed_is_made_again(desk: Desk) -> None:
    scene = desk.scene()
    scene.meets(Fault("recompute", fields={"status": "failed"}))
    scene.request()
    has_failed(desk, scene, "RequestFailed")
    desk.request_again(scene)


@exercises((FAIL, "Rejected"))
def unknown_model_is_trained(desk: Desk) -> None:
    scene = desk.scene()
    desk.here.arcanna.remove_model(JOB, scene.model)
    scene.request()
    has_failed(desk, scene, "Rejected")
    desk.here.arcanna.set_active_model(JOB, scene.model)
    desk.request_again(scene)


@exercises((FAIL, "NotChecked"))
def unchecked_run_is_requested_again_automatically(desk: Desk) -> None:
    scene = desk.scene()
    with denied(scene, INVOKE_CHECK):
        scene.request()
        has_failed(desk, scene, "NotChecked")
        (execution, *_) = scene.executions()
        history = desk.here.cloud.history(execution["executionArn"])
        shows(json.dumps(history, default=str), "injected by the test")
    desk.recomputed(scene)


@exercises((FAIL, "NotTold"))
def unpublished_outcome_is_requested_again(desk: Desk) -> None:
    scene = desk.scene()
    with denied(scene, PUBLISH):
        scene.request()
        execution = ended(scene, "NotTold")
    shows(execution["cause"], "injected by the test")
    assert "NotTold" in desk.failures_by_reason(scene)
    desk.until_status(scene, "fresh, ")  # the ledger knows

    desk.request_again(scene)
    desk.recomputed(scene)


@exercises((FAIL, "ABORTED"))
def stopped_execution_is_resumed_in_another_one(desk: Desk) -> None:
    scene = desk.scene()
    scene.long_under_way()
    run_id = scene.entry().run_id
    scene.stop_execution()
    eventually("its resumption", lambda: desk.lines("run resumed", str(run_id)))

    scene.behaves(SHORT)
    desk.recomputed(scene)
    assert [past["run_id"] for past in scene.entry().history] == [run_id]
    assert len(scene.posts()) == 1


@exercises((FAIL, "another error"))
def failed_release_is_made_by_another_execution(desk: Desk) -> None:
    scene = desk.scene()
    with denied(scene, RELEASE):
        scene.request()
        shows(ended(scene, "AwsUnavailable")["cause"], DENIED)
    assert "AwsUnavailable" in desk.failures_by_reason(scene)
    desk.recomputed(scene)


def ended(scene: Scene, error: str) -> Mapping[str, Any]:
    """The model's execution that ended with that error."""

    def found() -> list[dict[str, Any]]:
        return [execution for execution in scene.executions() if execution.get("error") == error]

    return eventually(f"{error} of {scene.model}", found)[0]


# --- A model got worse -----------------------------------------------------------------------------------

GOOD = {"Drop": 0.95, "Investigate": 0.9, "Escalate": 0.95}
MISSES_ESCALATIONS = {**GOOD, "Escalate": 0.4}


def recomputed(desk: Desk, scene: Scene, name: str, accuracy: Mapping[str, float]) -> str:
    """Labels the same 600 alerts again. Returns the verdict on the recomputed model."""
    scene.upload(name, labelled_alerts(600, accuracy, seed=1))
    desk.recomputed(scene)
    return scene.entry().history[-1]["verdict"]


@exercises((WORSE, ONLY_WAY))
def regressed_model_improves_with_corrected_labels(desk: Desk) -> None:
    scene = desk.scene()
    recomputed(desk, scene, "1.csv", GOOD)
    assert recomputed(desk, scene, "2.csv", MISSES_ESCALATIONS) == "regressed"
    told = partial(desk.told, scene, "Arcanna metrics regressed")
    (note,) = eventually("the notification", told)
    shows(note["Message"], "Why: Escalate.recall ", "What to do: Do not deploy the model")
    told = partial(desk.told, scene, "Model Metrics Regressed")
    (event,) = eventually("the event", told)
    assert event["detail"]["cause"]["examples"][0]["key"].endswith("2.csv")

    assert recomputed(desk, scene, "3.csv", GOOD) in ("unchanged", "improved")


@exercises((WORSE, ONLY_WAY))
def regressed_model_is_accepted(desk: Desk) -> None:
    scene = desk.scene()
    recomputed(desk, scene, "1.csv", GOOD)
    assert recomputed(desk, scene, "2.csv", MISSES_ESCALATIONS) == "regressed"
    code, printed = desk.recompute(scene)
    assert code == 1, printed
    shows(printed, "✗ completed, regressed: ", "(reference) -> ")

    code, printed = desk.of(scene, "accept", "--yes")
    assert code == 0, printed
    code, printed = desk.recompute(scene)
    assert code == 0, printed
    shows(printed, "✓ completed, unchanged")


# --- Situations that affect all models ------------------------------------------------------------------


def outage_ends(desk: Desk, reason: str, outage: Fault, quoted: str, remedy: str) -> None:
    """An update waits during the outage and is recomputed after it, without any other action."""
    scene = desk.scene()
    desk.here.arcanna.add_fault(outage)
    scene.request()
    waits(desk, scene, reason, quoted)
    desk.until_status(scene, "the last attempt failed", "1 update waits")
    shows(desk.make("doctor")[1], "✗ platform", remedy)

    desk.here.arcanna.remove_fault(outage)
    desk.recomputed(scene)
    shows(desk.make("doctor")[1], "✓ platform")


@exercises((WAIT, "PlatformUnavailable"), one_by_one=True)
def update_waits_until_arcanna_is_up(desk: Desk) -> None:
    down = Fault(times=None, status=503, body="down for maintenance")
    outage_ends(desk, "PlatformUnavailable", down, "down for maintenance", "the functions can reach it")


@exercises((WAIT, "UndocumentedAnswer"), one_by_one=True)
def update_waits_until_arcanna_answers_instead_of_a_proxy(desk: Desk) -> None:
    proxy = Fault(times=None, status=200, body="<html>Log in")
    outage_ends(desk, "UndocumentedAnswer", proxy, "<html>Log in", "not a proxy")


@exercises((WAIT, "no reason, and all slots are taken"), one_by_one=True)
def update_waits_for_a_slot(desk: Desk) -> None:
    slow, scene = [desk.scene(FOR_EVER) for _ in range(SLOTS)], desk.scene()
    for each in slow:
        each.request()
    for each in slow:
        each.until_held()
    since = time.time()
    scene.request()
    scene.until_waiting()
    eventually("the gauge", lambda: SLOTS in desk.emitted("SlotsTaken", since))
    desk.until_status(scene, "starts when a slot")
    assert scene.posts() == []

    for each in slow:  # their cause is found
        each.behaves(SHORT)
    desk.recomputed(scene)
    for each in slow:
        desk.recomputed(each)


@exercises((WAIT, "no reason, and the queue is long"), (FUNCTIONS, "no invocations"), one_by_one=True)
def disabled_event_source_and_sweep_are_enabled(desk: Desk) -> None:
    scene, queue = desk.scene(), partial(desk.here.cloud.messages, "UpdatesQueue")
    functions = desk.here.cloud.client("lambda")
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    eventually("sweeps that nobody receives", lambda: len(queue()) > 4)
    set_sweep(desk, "DISABLED")
    scene.request()
    assert "Updates queue: empty." not in desk.of(scene)[1]
    shows(desk.make("doctor")[1], "✗ queue", "does not invoke the trigger (Disabled)", "✗ sweep")

    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    set_sweep(desk, "ENABLED")
    desk.recomputed(scene)
    shows(desk.make("doctor")[1], "✓ queue", "✓ sweep")


def set_sweep(desk: Desk, state: str) -> None:
    scheduler = desk.here.cloud.client("scheduler")
    schedule = scheduler.get_schedule(Name=desk.here.cloud.physical_id("SweepSchedule"))
    given = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    scheduler.update_schedule(**{name: schedule[name] for name in given}, State=state)


@exercises((DEAD, "none"), (FUNCTIONS, "none"), one_by_one=True)
def message_that_kills_the_trigger_is_redriven(desk: Desk) -> None:
    scene, sqs = desk.scene(), desk.here.cloud.client("sqs")
    queue = desk.here.cloud.outputs["UpdatesQueueUrl"]
    before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])["Attributes"]
    seldom = {**json.loads(before["RedrivePolicy"]), "maxReceiveCount": 3}  # 360 would take too long
    sqs.set_queue_attributes(
        QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(seldom), "VisibilityTimeout": "3"}
    )
    fault = RECORD.meets(replace(KILLED_BEFORE, times=1000), scene)
    scene.request()
    shows(desk.dead_letter("none", scene.model), "none")
    assert len(fault.hits) == 3

    fault.times = 0  # a new version processes the message
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={**before, "VisibilityTimeout": VISIBILITY})
    scene.updated_at = time.time()
    shows(desk.redrive("none", send=True), "sent again")
    desk.recomputed(scene)


BROKEN = {"routes": [{"name": "broken"}]}


@exercises((WRONG, ONLY_WAY), one_by_one=True)
def invalid_settings_are_corrected(desk: Desk) -> None:
    meanwhile, scene = desk.scene(), desk.scene()
    with edited_settings(desk.here, BROKEN):
        meanwhile.upload()
        desk.recomputed(meanwhile)  # the last valid version is in force
        (line, *_) = desk.lines("the settings are wrong", "routes[0]")
        shows(line["detail"], 'routes[0] lacks "targets"')
        assert desk.emitted("SettingsInvalid")
        parameter = desk.here.cloud.outputs["SettingsParameter"]
        shows(desk.make("doctor")[1], "✗ settings", 'routes[0] lacks "targets"', parameter)

    since = time.time()
    scene.upload()
    desk.recomputed(scene)
    assert not desk.emitted("SettingsInvalid", since)
    shows(desk.make("doctor")[1], "✓ settings")


@exercises((WRONG, ONLY_WAY), one_by_one=True)
def unreadable_settings_become_readable(desk: Desk) -> None:
    scene, role = desk.scene(), desk.here.cloud.physical_id(TRIGGER_ROLE)
    fault = desk.here.cloud.inject(ApiFault("ssm", "GetParameter", DENIED, 400, times=1000, role=role))
    restart(desk.here)
    scene.upload()
    (line, *_) = eventually("the log line", partial(desk.lines, "the settings cannot be read", DENIED))
    shows(line["detail"], "read the settings", DENIED)
    shows(desk.make("doctor")[1], "✗ settings", "ssm:GetParameter")

    fault.times = 0
    desk.recomputed(scene)


@exercises((FUNCTIONS, "ConfigurationError"), one_by_one=True)
def settings_without_a_valid_version_are_corrected(desk: Desk) -> None:
    scene = desk.scene()
    with edited_settings(desk.here, BROKEN):
        for _ in range(100):  # as many versions as SSM keeps
            write_settings(desk.here, BROKEN)
        restart(desk.here)
        since = time.time()
        scene.upload()
        eventually("the failure", lambda: desk.emitted("SettingsInvalid", since))
        (line, *_) = desk.lines("the settings are wrong", "routes[0]")
        shows(line["detail"], 'routes[0] lacks "targets"')
        assert not scene.posts()
    desk.recomputed(scene)


@exercises((FAIL, "Rejected"), one_by_one=True)
def route_to_an_unknown_model_is_corrected(desk: Desk) -> None:
    scene, unknown = desk.scene(), Scene(desk.here, "generic-1-1234-model-1.hdf5")
    astray, right = ({**ASTRAY, "targets": [each.target._asdict()]} for each in (unknown, scene))
    with edited_settings(desk.here, {"routes": [*ROUTES, astray]}):
        desk.here.upload("astray/alerts.csv", "1")
        has_failed(desk, unknown, "Rejected")
        shows(desk.make("doctor")[1], "✗ targets", "Correct the route")
    with edited_settings(desk.here, {"routes": [*ROUTES, right]}):
        shows(desk.make("doctor")[1], "✓ targets")
        scene.updated_at = time.time()
        desk.here.upload("astray/alerts.csv", "1")
        desk.recomputed(scene)


ASTRAY = {"name": "astray", "keys": ["astray/*"]}


@exercises((LOST, ONLY_WAY))
def lost_entry_is_copied_from_an_earlier_ledger(desk: Desk) -> None:
    scene, dynamodb = desk.scene(), desk.here.cloud.client("dynamodb")
    ledger, before, key = desk.here.cloud.outputs["LedgerTable"], "ledger-before", key_of(scene.target)
    scene.upload()
    desk.recomputed(scene)
    run_id = scene.entry().history[-1]["run_id"]

    dynamodb.restore_table_to_point_in_time(
        SourceTableName=ledger, TargetTableName=before, RestoreDateTime=time.time()
    )
    dynamodb.delete_item(TableName=ledger, Key=key)
    assert run_id not in desk.of(scene, "status", "--json")[1]
    dynamodb.put_item(TableName=ledger, Item=dynamodb.get_item(TableName=before, Key=key)["Item"])
    dynamodb.delete_table(TableName=before)

    assert run_id in desk.of(scene, "status", "--json")[1]
    scene.upload()
    desk.recomputed(scene)
    assert scene.entry().history[0]["run_id"] == run_id


@exercises((NOTHING, ONLY_WAY), one_by_one=True)
def bucket_without_notifications_is_connected(desk: Desk) -> None:
    scene, s3, bucket = desk.scene(), desk.here.cloud.client("s3"), desk.here.bucket
    desk.here.upload("elsewhere/alerts.csv", "1")
    desk.here.upload("elsewhere/_SUCCESS", "")
    eventually("the line", lambda: desk.lines("no route", "elsewhere/alerts.csv"))
    eventually("the line", lambda: desk.lines("no training data", "elsewhere/_SUCCESS"))
    eventually("the metric", lambda: desk.emitted("UpdatesIgnored"))
    shows(desk.make("route", "elsewhere/alerts.csv")[1], "✗ No route matches this key")
    shows(desk.make("route", scene.key())[1], scene.model)

    queue = {"QueueArn": desk.here.cloud.outputs["UpdatesQueueArn"], "Events": ["s3:ObjectCreated:*"]}
    for notifications, remedy in (
        ({}, "Amazon EventBridge"),
        ({"QueueConfigurations": [queue]}, f"Add arn:aws:s3:::{bucket} to the parameter SenderArns"),
    ):
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notifications)
        shows(desk.make("doctor")[1], "✗ bucket", remedy)

    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    shows(desk.make("doctor")[1], "✓ bucket")
    scene.upload()
    desk.recomputed(scene)


@exercises((FUNCTIONS, "another reason"), one_by_one=True)
def edited_entry_is_deleted(desk: Desk) -> None:
    scene = desk.scene()
    with unreadable_entry(scene):
        scene.request()
        (line, *_) = eventually("the error", lambda: desk.lines("updates stay in the queue", scene.model))
        assert line["reason"] == "ValueError"
        eventually("its metric", lambda: desk.emitted("UnexpectedErrors"))
    desk.recomputed(scene)


@exercises((FUNCTIONS, "a new version that fails"), one_by_one=True)
def broken_version_is_replaced(desk: Desk) -> None:
    scene = desk.scene()
    with TemporaryDirectory() as folder:
        Path(folder, "app.py").write_text("raise RuntimeError('this version fails')\n")
        before = desk.here.cloud.update_code(TRIGGER, Path(folder))
        scene.request()
        eventually("its log", lambda: "this version fails" in "".join(desk.here.cloud.logs(TRIGGER)))
        assert scene.entry().rev == 0
        desk.here.cloud.update_code(TRIGGER, before)
    desk.recomputed(scene)


@exercises((KEY, ONLY_WAY), (WAIT, "Unauthorised"), one_by_one=True)
def expired_key_is_replaced(desk: Desk) -> None:
    refused_key_is_replaced(desk, "Unauthorised", "401", None, f"{API_KEY}-2")


@exercises((KEY, ONLY_WAY), (WAIT, "ApiKeyUnavailable"), one_by_one=True)
def secret_without_a_key_is_filled(desk: Desk) -> None:
    refused_key_is_replaced(desk, "ApiKeyUnavailable", "does not hold an API key", "no key", f"{API_KEY}-3")


@exercises((KEY, ONLY_WAY), (WAIT, "ApiKeyMissing"), one_by_one=True)
def empty_secret_is_filled(desk: Desk) -> None:
    scene = desk.scene()
    answer = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"
    fault = ApiFault(
        "secretsmanager", "GetSecretValue", "ResourceNotFoundException", 400, times=1000, message=answer
    )
    desk.here.cloud.inject(fault)
    restart(desk.here)
    scene.request()
    waits(desk, scene, "ApiKeyMissing", "is empty. Put Arcanna's management API key into it")
    shows(desk.make("doctor")[1], "✗ key", "put-secret-value", desk.here.cloud.outputs["ApiKeySecretArn"])

    fault.times = 0  # the new key is there now
    desk.recomputed(scene)
    shows(desk.make("doctor")[1], "✓ key", "✓ scopes")


def refused_key_is_replaced(desk: Desk, reason: str, said: str, secret: str | None, valid: str) -> None:
    """Arcanna accepts only another key from now on. The secret holds `secret`, or stays as it was."""
    secrets, arn = desk.here.cloud.client("secretsmanager"), desk.here.cloud.outputs["ApiKeySecretArn"]
    waiting, running = desk.scene(), desk.scene()
    running.long_under_way()
    desk.here.arcanna.set_api_keys({valid: KeyInfo()})
    if secret:
        secrets.put_secret_value(SecretId=arn, SecretString=secret)
    waiting.request()
    waits(desk, waiting, reason, said)
    shows(desk.make("doctor")[1], "✗ key", "put-secret-value", arn)

    secrets.put_secret_value(SecretId=arn, SecretString=valid)
    shows(desk.make("doctor")[1], "✓ key", "✓ scopes")
    running.behaves(SHORT)
    desk.recomputed(waiting)
    desk.recomputed(running)
    assert len(running.posts()) == 1
    since = time.time()
    waiting.request()
    desk.recomputed(waiting)
    assert not desk.emitted(reason, since)


@exercises((DEAD, "none"), one_by_one=True)
def stack_is_healthy_after_all_exercises(desk: Desk) -> None:
    settle(desk.here)
    assert desk.here.cloud.messages("DeadLetterQueue") == []
    code, printed = desk.make("doctor")
    assert code == 0, printed


# --- All of them -----------------------------------------------------------------------------------------


def play(names: Collection[str]) -> dict[str, str]:
    """Plays these exercises. Returns the traceback of each, empty if it succeeded."""
    chosen = [exercise for exercise in EXERCISES if exercise.name in names]
    jobs = {
        JOB: Job(name=JOB_NAME, models=MODELS),
        OTHER_JOB: Job(name="phishing-triage", models=OTHER_MODELS),
    }
    alerts = LaterAlerts()
    with (
        ArcannaServer(jobs, alerts, behaviour=SHORT) as arcanna,
        own_installation(STACK, arcanna, pace=PACE, tries=2) as here,
    ):
        alerts.source = S3Alerts(here.cloud.client("s3"), here.bucket)
        here.cloud.client("sqs").set_queue_attributes(
            QueueUrl=here.cloud.outputs["UpdatesQueueUrl"], Attributes={"VisibilityTimeout": VISIBILITY}
        )
        os.environ |= {
            "AWS_ENDPOINT_URL": here.cloud.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": OPERATOR,
            "AWS_SECRET_ACCESS_KEY": "local",
        }
        desk = Desk(here)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            side_by_side = {e.name: pool.submit(e.play, desk) for e in chosen if not e.one_by_one}
            failures = {name: told(future.exception()) for name, future in side_by_side.items()}
            failed = ""
            for exercise in (e for e in chosen if e.one_by_one):
                if failed:  # its outage may continue
                    failures[exercise.name] = f"not played, because {failed} failed"
                    continue
                failures[exercise.name] = told(pool.submit(exercise.play, desk).exception())
                failed = exercise.name if failures[exercise.name] else ""
        return failures


def told(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error)) if error else ""
