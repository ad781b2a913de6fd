"""The local cloud does what AWS documents, as far as this project relies on it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.dynamodb.models.table import Table
from moto.stepfunctions.models import StateMachine

from tests.integration.local_cloud_stack import TEMPLATE
from tests.support.local_cloud import ApiFault, FunctionError, Incomplete, LocalCloud, ProcessDied
from tests.support.local_cloud.cloud import PROJECT
from tests.support.local_cloud.deployment import deploy
from tests.support.local_cloud.event_sources import failed_messages, rate_in_minutes
from tests.support.local_cloud.execution_environment import ExecutionEnvironment, Function
from tests.support.local_cloud.log_streams import LogStreams
from tests.support.local_cloud.packaging import Package, package
from tests.support.waiting import deaths, eventually
from tests.tools.install import Failed

REGION = "eu-west-1"
ONE_ATTEMPT = Config(retries={"total_max_attempts": 1})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local-cloud")


@pytest.fixture(scope="module")
def cloud(directory: Path) -> Iterator[LocalCloud]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKED", "from the parent")
        patch.setenv("PYTHONPATH", "from the parent")
        with LocalCloud({"Greeting": "hi"}, directory, TEMPLATE) as cloud:
            yield cloud


@pytest.fixture(autouse=True)
def no_deaths() -> None:
    deaths.clear()


def received(cloud: LocalCloud, queue: str, where: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Waits for the first message whose body passes `where`. Deletes the messages before it."""
    sqs, url = cloud.client("sqs"), cloud.physical_id(queue)

    def look() -> dict[str, Any] | None:
        for message in sqs.receive_message(QueueUrl=url).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            body: dict[str, Any] = json.loads(message["Body"])
            if where(body):
                return body
        return None

    found: dict[str, Any] = eventually(f"a message in {queue}", look)
    return found


def send(cloud: LocalCloud, *orders: dict[str, Any]) -> None:
    cloud.client("sqs").send_message_batch(
        QueueUrl=cloud.physical_id("Work"),
        Entries=[{"Id": str(i), "MessageBody": json.dumps(order)} for i, order in enumerate(orders)],
    )


def said(cloud: LocalCloud, what: str, name: str) -> list[float]:
    """When the worker logged that an order was in a "batch" or was "done" (epoch seconds)."""
    return [record["at"] for record in cloud.log_records("Worker") if name in record.get(what, ())]


def run(cloud: LocalCloud, **given: Any) -> str:
    """Starts the workflow and returns the execution's ARN."""
    answer = cloud.client("stepfunctions").start_execution(
        stateMachineArn=cloud.physical_id("Workflow"),
        name=f"run-{time.time_ns()}",
        input=json.dumps({"do": "nothing", "number": 7, "wait": 0} | given),
    )
    return str(answer["executionArn"])


def end_of(cloud: LocalCloud, execution_arn: str) -> dict[str, Any]:
    """The detail of the event about an execution's end."""
    event = received(cloud, "Events", lambda e: e.get("detail", {}).get("executionArn") == execution_arn)
    assert event["detail-type"] == "Step Functions Execution Status Change"
    detail: dict[str, Any] = event["detail"]
    return detail


# --- Deploying ----------------------------------------------------------------------------------------


def test_stack_has_its_outputs_without_excluded_resources(cloud: LocalCloud) -> None:
    assert cloud.outputs == {"Bucket": cloud.physical_id("Bucket"), "EventsUrl": cloud.physical_id("Events")}
    stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackStatus"] for stack in stacks] == ["CREATE_COMPLETE"]


def test_resource_has_the_name_that_the_template_gives_it(cloud: LocalCloud) -> None:
    stack = cloud.client("cloudformation").describe_stacks()["Stacks"][0]["StackId"]
    name = cloud.physical_id("Workflow").rpartition(":")[2]
    assert name == f"named-{stack.rpartition('/')[2].partition('-')[0]}"


def test_unchanged_code_is_not_built_again(
    cloud: LocalCloud, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/no/make/here")
    assert package(TEMPLATE, {}, REGION, directory.parent / "artifacts").folders
    with pytest.raises(Failed, match="make: No such file"):
        package(TEMPLATE, {}, REGION, directory / "other")


def test_second_cloud_in_one_process_is_refused(cloud: LocalCloud, directory: Path) -> None:
    with pytest.raises(RuntimeError, match="another"), LocalCloud({}, directory, TEMPLATE):
        pass
    assert cloud.client("sqs").list_queues()["QueueUrls"]


@pytest.mark.parametrize(
    ("resource", "named"),
    [
        ({"Type": "AWS::EKS::Cluster"}, "AWS::EKS::Cluster"),
        ({"Type": "AWS::SNS::Topic", "Properties": {"ArchivePolicy": {}}}, "AWS::SNS::Topic.ArchivePolicy"),
        (
            {
                "Type": "AWS::Scheduler::Schedule",
                "Properties": {
                    "ScheduleExpression": "rate(1 day)",
                    "FlexibleTimeWindow": {"Mode": "OFF", "Colour": "red"},
                    "Target": {
                        "Arn": "arn:aws:sqs:eu-west-1:123456789012:queue",
                        "RoleArn": "arn:aws:iam::123456789012:role/role",
                    },
                },
            },
            "AWS::Scheduler::Schedule.FlexibleTimeWindow.Colour",
        ),
        (
            {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventPattern": {"source": ["anything"]},
                    "Targets": [{"Id": "it", "Arn": "arn:aws:batch:eu-west-1:123456789012:job-queue/q"}],
                },
            },
            r"AWS::Events::Rule.Targets.Arn \(batch\)",
        ),
        (
            {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventPattern": {"source": ["anything"]},
                    "Targets": [
                        {
                            "Id": "it",
                            "Arn": "arn:aws:states:eu-west-1:123456789012:stateMachine:it",
                            "RoleArn": "arn:aws:iam::123456789012:role/role",
                            "InputTransformer": {"InputTemplate": "{}"},
                        }
                    ],
                },
            },
            r"AWS::Events::Rule.Targets.InputTransformer \(states\)",
        ),
    ],
)
def test_template_with_unsupported_properties_is_refused(
    cloud: LocalCloud, resource: dict[str, Any], named: str
) -> None:
    with pytest.raises(Incomplete, match=named):
        deploy(Package({"Resources": {"It": resource}}), f"s{time.time_ns()}", {}, cloud.client)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"Greeting": "Hi!"}, "Greeting is 'Hi!': it must be lower case"),
        ({"Window": "301"}, "Window is '301': more than 300"),
        ({"Colour": "red"}, "no parameters .*Colour"),
    ],
)
def test_parameter_that_cloudformation_refuses_is_refused(
    cloud: LocalCloud, directory: Path, parameters: dict[str, str], problem: str
) -> None:
    packaged = package(TEMPLATE, parameters, REGION, directory.parent / "artifacts")
    with pytest.raises(ValueError, match=problem):
        deploy(packaged, "other", parameters, cloud.client)


def test_sam_build_output_is_deployed_unchanged(tmp_path: Path) -> None:
    (tmp_path / "Worker").mkdir()
    (tmp_path / "Worker" / "app.py").touch()
    worker = {
        "Type": "AWS::Serverless::Function",
        "Metadata": {"BuildMethod": "makefile", "SamResourceId": "Worker"},
        "Properties": {"CodeUri": "Worker", "Handler": "app.handler", "Runtime": "python3.13"},
    }
    template = {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Worker": worker}}
    (tmp_path / "template.yaml").write_text(json.dumps(template))
    packaged = package(tmp_path / "template.yaml", {}, REGION, tmp_path / "cache")

    assert list(packaged.folders.values()) == [tmp_path / "Worker"]


# --- Functions ----------------------------------------------------------------------------------------


def test_function_environment_is_only_what_lambda_and_template_set(cloud: LocalCloud) -> None:
    seen = cloud.invoke("Worker", {"do": "look"})
    variables = seen["variables"]

    assert seen["greeting"] == "hi, world"
    assert (variables["WINDOW"], variables["SUBNETS"]) == ("0", "subnet-1+subnet-2")
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == cloud.physical_id("Worker")
    assert variables["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    assert "LEAKED" not in variables
    assert not [entry for entry in seen["path"] if "from the parent" in entry or ".venv" in entry]


def test_function_cannot_import_packages_outside_its_layers(cloud: LocalCloud) -> None:
    with pytest.raises(FunctionError, match="No module named 'moto'") as refused:
        cloud.invoke("Broken", {})
    assert refused.value.type == "Runtime.ImportModuleError"
    assert any("No module named 'moto'" in line for line in cloud.logs("Broken"))


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"do": "raise"}, "Refused", "as told"),
        ({"do": "exit"}, "Runtime.ExitError", "Runtime exited with error: exit status 3"),
        ({"do": "sleep", "seconds": 9}, "Sandbox.Timedout", "Task timed out after 5.00 seconds"),
        ({"do": "fill", "bytes": 200 * 2**20}, "Runtime.OutOfMemory", "signal: killed"),
    ],
)
def test_function_error_is_reported_as_lambda_reports_it(
    cloud: LocalCloud, event: dict[str, Any], error: str, message: str
) -> None:
    with pytest.raises(FunctionError, match=message) as failure:
        cloud.invoke("Worker", event)
    assert failure.value.type == error


def test_environment_is_reused_until_it_is_killed(cloud: LocalCloud) -> None:
    first, second = (cloud.invoke("OnlyOne", {"do": "nothing"})["pid"] for _ in range(2))
    assert first == second
    for sandbox in cloud.sandboxes("OnlyOne"):
        sandbox.kill()
    assert cloud.invoke("OnlyOne", {"do": "nothing"})["pid"] != first


def test_restart_ends_idle_environments_at_once_and_busy_ones_when_done(cloud: LocalCloud) -> None:
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(cloud.invoke, "Worker", {"do": "sleep", "seconds": 1.0})
        eventually("a busy environment", lambda: any(e.busy for e in cloud.sandboxes("Worker")))
        before = {sandbox.pid for sandbox in cloud.sandboxes("Worker")}
        cloud.restart("Worker")
        assert cloud.invoke("Worker", {"do": "nothing"})["pid"] not in before
    assert busy.result()["pid"] in before
    eventually("other processes", lambda: not before & {e.pid for e in cloud.sandboxes("Worker")})


def test_updated_code_runs_from_the_next_invocation(cloud: LocalCloud, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return 'updated'\n")
    before = cloud.update_code("Worker", tmp_path)
    try:
        assert cloud.invoke("Worker", {"do": "nothing"}) == "updated"
    finally:
        cloud.update_code("Worker", before)

    assert cloud.invoke("Worker", {"do": "nothing"})["do"] == "nothing"


def test_killed_function_fails_its_invocation_at_once(cloud: LocalCloud) -> None:
    cloud.invoke("OnlyOne", {"do": "nothing"})
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(cloud.invoke, "OnlyOne", {"do": "sleep", "seconds": 1.9})
        eventually("a busy environment", lambda: any(e.busy for e in cloud.sandboxes("OnlyOne")))
        cloud.sandboxes("OnlyOne")[0].kill()
        with pytest.raises(FunctionError, match="signal: killed"):
            answer.result()


def test_process_that_dies_before_it_is_ready_is_restarted_once(cloud: LocalCloud) -> None:
    for sandbox in cloud.sandboxes("OnlyOne"):
        sandbox.kill()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(cloud.invoke, "OnlyOne", {"do": "nothing"})
        (sandbox,) = eventually("an environment", lambda: cloud.sandboxes("OnlyOne"))
        os.kill(first := sandbox.pid, signal.SIGKILL)
        assert answer.result()["pid"] != first
    assert not deaths


def test_death_of_a_process_ends_waits_at_once_with_its_last_output(
    cloud: LocalCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(cloud.invoke, "OnlyOne", {"do": "say", "what": "about to die"})
        eventually("the last words", lambda: "about to die" in cloud.logs("OnlyOne"))
        (sandbox,) = cloud.sandboxes("OnlyOne")
        os.kill(sandbox.pid, signal.SIGKILL)
        with pytest.raises(FunctionError, match="signal: killed"):
            answer.result()
    name = cloud.physical_id("OnlyOne")
    said = rf"(?s)process {sandbox.pid} of {name} was ended by SIGKILL while it was invoked.*about to die"
    with pytest.raises(ProcessDied, match=said):
        eventually("what is never there", lambda: False)

    assert f"local cloud: process {sandbox.pid} of {name}" in capsys.readouterr().err


def test_process_that_never_becomes_ready_is_reported_with_its_last_output(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('cannot go on', flush=True)\nraise SystemExit(4)\n")
    logs = LogStreams(tmp_path / "logs")
    function = Function("f", "arn", "role", "app.handler", 2, 160, None, tmp_path, tmp_path, {}, logs)
    environment = ExecutionEnvironment(
        function, PROJECT / "build/lambda-env/bin/python", {"AWS_REGION": REGION}
    )
    try:
        outcome = environment.invoke(b"{}", "Root=1-1")
    finally:
        environment.close()

    assert outcome.failed
    assert json.loads(outcome.payload)["errorType"] == "Runtime.ExitError"
    assert "exited with status 4 before it was ready" in str(deaths[-1])
    assert "cannot go on" in str(deaths[-1])


def test_invocations_beyond_the_reserved_concurrency_are_throttled(cloud: LocalCloud) -> None:
    client = boto3.client("lambda", region_name=REGION, endpoint_url=cloud.url, config=ONE_ATTEMPT)
    name, event = cloud.physical_id("OnlyOne"), json.dumps({"do": "sleep", "seconds": 1})
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(client.invoke, FunctionName=name, Payload=event) for _ in range(2)]
    errors = [answer.exception() for answer in answers if answer.exception()]

    assert ["TooManyRequestsException" in str(error) for error in errors] == [True]


def test_failed_asynchronous_invocation_is_tried_three_times_then_sent_to_its_destination(
    cloud: LocalCloud,
) -> None:
    event = {"do": "raise", "mark": "asynchronous"}
    cloud.client("lambda").invoke(
        FunctionName=cloud.physical_id("Worker"), InvocationType="Event", Payload=json.dumps(event)
    )
    record = received(cloud, "DeadLetters", lambda body: body.get("requestPayload") == event)

    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responsePayload"]["errorType"] == "Refused"


# --- Queues -------------------------------------------------------------------------------------------


def test_only_failed_messages_of_a_batch_return_until_they_are_dead_letters(cloud: LocalCloud) -> None:
    send(cloud, {"name": "good"}, {"name": "bad", "fail": True})
    received(cloud, "DeadLetters", lambda body: body.get("name") == "bad")

    assert len(said(cloud, "batch", "good")) == 1
    assert len(said(cloud, "batch", "bad")) == 2


def test_all_messages_of_a_batch_return_when_the_function_fails(cloud: LocalCloud) -> None:
    mappings = cloud.client("lambda")
    uuid = mappings.list_event_source_mappings()["EventSourceMappings"][0]["UUID"]
    mappings.update_event_source_mapping(UUID=uuid, MaximumBatchingWindowInSeconds=1)
    send(cloud, {"name": "unlucky"}, {"name": "raising", "raise": True})
    names = ("unlucky", "raising")
    eventually("the second tries", lambda: all(len(said(cloud, "batch", name)) == 2 for name in names))
    mappings.update_event_source_mapping(UUID=uuid, MaximumBatchingWindowInSeconds=0)

    assert not said(cloud, "done", "unlucky")


def test_batches_under_way_stay_within_the_maximum_concurrency(cloud: LocalCloud) -> None:
    names = [f"slow-{i}" for i in range(4)]
    for name in names:
        send(cloud, {"name": name, "seconds": 0.5})
        eventually(f"the batch of {name}", partial(said, cloud, "batch", name))
    eventually("the ends of all", lambda: all(said(cloud, "done", name) for name in names))
    spans = [(said(cloud, "batch", name)[0], said(cloud, "done", name)[0]) for name in names]
    overlaps = [sum(start <= at < end for start, end in spans) for at, _ in spans]

    assert max(overlaps) == 2


def test_messages_are_listed_in_every_state(cloud: LocalCloud) -> None:
    sqs, url = cloud.client("sqs"), cloud.physical_id("Told")
    before = cloud.messages("Told")
    for body, delay in (("visible or in flight", 0), ("delayed", 600)):
        sqs.send_message(QueueUrl=url, MessageBody=body, DelaySeconds=delay)
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=600, MaxNumberOfMessages=10)

    assert cloud.messages("Told") == [*before, "visible or in flight", "delayed"]


def test_queue_delay_and_visibility_timeout_hold(cloud: LocalCloud) -> None:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="plain")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    handle = message["ReceiptHandle"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"][0]["Body"] == "later"


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b"null", set()),
        (b"", set()),
        (b"{}", set()),
        (b'{"batchItemFailures": null}', set()),
        (b'{"batchItemFailures": []}', set()),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}]}', {"b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": "of another batch"}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"messageId": "a"}]}', {"a", "b"}),
        (b'{"batchItemFailures": "a"}', {"a", "b"}),
        (b'"done"', {"a", "b"}),
        (b"no JSON", {"a", "b"}),
    ],
)
def test_batch_answer_is_read_as_lambda_reads_it(answer: bytes, failed: set[str]) -> None:
    assert failed_messages(answer, {"a", "b"}) == failed


# --- Events -------------------------------------------------------------------------------------------


def test_upload_is_reported_with_its_key_unchanged(cloud: LocalCloud) -> None:
    s3, bucket = cloud.client("s3"), cloud.physical_id("Bucket")
    sequencers = []
    for key in ("in/a+b.csv", "in/ä ö/%2B.csv"):
        put = s3.put_object(Bucket=bucket, Key=key, Body=b"12345")
        event = received(cloud, "Events", lambda e: e.get("detail-type") == "Object Created")
        found = event["detail"]["object"]
        sequencers.append(found.pop("sequencer"))
        assert found == {
            "key": key,
            "size": 5,
            "etag": put["ETag"].strip('"'),
            "version-id": put["VersionId"],
        }
        assert (event["source"], event["detail"]["bucket"]["name"]) == ("aws.s3", bucket)
        assert event["detail"]["reason"] == "PutObject"

    assert sequencers == sorted(set(sequencers))


def test_rule_starts_an_execution_for_each_event_as_its_role(cloud: LocalCloud) -> None:
    s3, bucket = cloud.client("s3"), cloud.physical_id("Bucket")
    keys = ["start/a.csv", "start/b.csv"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"12345")
    queued = [
        received(cloud, "Events", lambda e: e["detail"].get("object", {}).get("key") in keys) for _ in keys
    ]
    given = [json.loads(execution["input"]) for execution in cloud.executions()]
    started = [event for event in given if event.get("source") == "aws.s3"]

    account = cloud.physical_id("Workflow").split(":")[4]
    assert started == [event | {"account": account} for event in queued]  # moto leaves it out for queues
    starters = {call.role for call in cloud.calls if call.operation == "StartExecution"}
    assert cloud.physical_id("StartRole") in starters


def test_bucket_notification_configuration_shows_eventbridge(cloud: LocalCloud) -> None:
    s3, bucket = cloud.client("s3"), cloud.physical_id("Bucket")
    assert s3.get_bucket_notification_configuration(Bucket=bucket)["EventBridgeConfiguration"] == {}
    s3.create_bucket(Bucket="quiet", CreateBucketConfiguration={"LocationConstraint": REGION})
    assert "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket="quiet")


def test_fired_schedule_sends_its_input_with_the_time(cloud: LocalCloud) -> None:
    cloud.fire_schedule("Schedule")
    sent = received(cloud, "Events", lambda body: "at" in body)
    time.strptime(sent["at"], "%Y-%m-%dT%H:%M:%SZ")
    assert sent["of"].startswith("arn:aws:scheduler:")
    senders = {call.role for call in cloud.calls if call.operation == "SendMessage"}
    assert cloud.physical_id("ScheduleRole") in senders


def test_rate_schedule_fires_until_it_is_disabled(cloud: LocalCloud) -> None:
    scheduler, sqs, url = cloud.client("scheduler"), cloud.client("sqs"), cloud.physical_id("Ticks")

    def ticks() -> int:
        counted = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(counted["Attributes"]["ApproximateNumberOfMessages"])

    seen = ticks()
    eventually("two ticks", lambda: ticks() >= seen + 2)
    assert received(cloud, "Ticks", lambda body: True) == {"tick": True}
    tick = scheduler.get_schedule(Name=cloud.physical_id("Tick"))
    given = {name: tick[name] for name in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**given, State="DISABLED")
    time.sleep(0.5)  # one tick may be under way
    seen = ticks()
    time.sleep(1.5)  # enough for another one
    assert ticks() == seen


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("rate(1 minute)", 1),
        ("rate(5 minutes)", 5),
        ("rate(2 hours)", 120),
        ("rate(1 day)", 1440),
        ("cron(0 6 * * ? *)", None),
        ("at(2026-11-28T00:00:00)", None),
    ],
)
def test_only_rate_schedules_fire_by_themselves(expression: str, minutes: int | None) -> None:
    assert rate_in_minutes(expression) == minutes


def test_succeeded_execution_is_reported_with_input_and_output(cloud: LocalCloud) -> None:
    arn = run(cloud, number=7)
    detail = end_of(cloud, arn)
    assert detail["status"] == "SUCCEEDED"
    assert json.loads(detail["input"])["number"] == 7
    assert json.loads(detail["output"]) == {"told": "nothing 7"}
    assert detail["startDate"] <= detail["stopDate"]
    assert [e["status"] for e in cloud.executions() if e["executionArn"] == arn] == ["SUCCEEDED"]
    history = cloud.history(arn)
    assert history[-1]["type"] == "ExecutionSucceeded"
    backwards = cloud.client("stepfunctions").get_execution_history(executionArn=arn, reverseOrder=True)
    assert backwards["events"] == history[::-1]


def test_failed_execution_is_reported_with_error_and_cause(cloud: LocalCloud) -> None:
    detail = end_of(cloud, run(cloud, do="raise"))
    assert (detail["status"], detail["error"], detail["output"]) == ("FAILED", "Refused", None)
    assert json.loads(detail["cause"])["errorMessage"] == "as told"


def test_aborted_execution_is_reported(cloud: LocalCloud) -> None:
    arn = run(cloud, wait=1000)
    eventually("the wait", lambda: "WaitStateEntered" in [e["type"] for e in cloud.history(arn)])
    cloud.client("stepfunctions").stop_execution(executionArn=arn)

    assert end_of(cloud, arn)["status"] == "ABORTED"


def test_aborted_execution_is_described_with_its_input(cloud: LocalCloud) -> None:
    states, arn = cloud.client("stepfunctions"), run(cloud, wait=1000, number=8)
    eventually("the wait", lambda: "WaitStateEntered" in [e["type"] for e in cloud.history(arn)])
    states.stop_execution(executionArn=arn)
    eventually("the end", lambda: states.describe_execution(executionArn=arn)["status"] == "ABORTED")
    described = states.describe_execution(executionArn=arn)

    assert json.loads(described["input"])["number"] == 8
    assert described["stopDate"] >= described["startDate"]


def test_unknown_execution_is_not_found(cloud: LocalCloud) -> None:
    states = cloud.client("stepfunctions")
    executions = cloud.physical_id("Workflow").replace(":stateMachine:", ":execution:")
    for arn in (f"{executions}:never", f"{executions}-replaced:never"):
        with pytest.raises(states.exceptions.ExecutionDoesNotExist):
            states.describe_execution(executionArn=arn)


def test_execution_name_can_be_used_once(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    look = "_handle_name_input_idempotency"
    monkeypatch.setattr(StateMachine, look, _slowly(getattr(StateMachine, look)))  # lets others overtake
    states, machine = cloud.client("stepfunctions"), cloud.physical_id("Workflow")
    given = json.dumps({"do": "nothing", "number": 1, "wait": 1})

    def start(number: int) -> str:
        return str(states.start_execution(stateMachineArn=machine, name="once", input=given)["executionArn"])

    with ThreadPoolExecutor(8) as pool:
        (arn,) = set(pool.map(start, range(8)))  # the same while it runs
    named = [e for e in states.list_executions(stateMachineArn=machine)["executions"] if e["name"] == "once"]
    assert len(named) == 1
    end_of(cloud, arn)
    with pytest.raises(states.exceptions.ExecutionAlreadyExists):
        start(0)


def test_execution_invokes_a_function_beside_the_maximum_of_batches(cloud: LocalCloud) -> None:
    for name in ("busy-1", "busy-2"):  # as many as the maximum concurrency
        send(cloud, {"name": name, "seconds": 1.5})
        eventually(f"the batch of {name}", partial(said, cloud, "batch", name))
    arn = run(cloud)
    assert end_of(cloud, arn)["status"] == "SUCCEEDED"
    done = [said(cloud, "done", name) for name in ("busy-1", "busy-2")]
    ended = cloud.client("stepfunctions").describe_execution(executionArn=arn)["stopDate"]
    assert not all(times and times[0] < ended.timestamp() for times in done)


def test_execution_that_outlives_its_timeout_times_out(cloud: LocalCloud) -> None:
    assert end_of(cloud, run(cloud, wait=1000))["status"] == "TIMED_OUT"


# --- Recorded and made to fail ------------------------------------------------------------------------


def test_calls_are_recorded_by_role_with_parameters(cloud: LocalCloud) -> None:
    cloud.invoke("Worker", {"do": "put", "id": "recorded"})
    [put] = [c for c in cloud.calls if c.operation == "PutItem" and "recorded" in str(c.parameters)]
    assert (put.service, put.role) == ("dynamodb", cloud.physical_id("WorkerRole"))
    assert put.parameters["TableName"] == cloud.physical_id("Table")
    end_of(cloud, run(cloud))
    invokers = {call.role for call in cloud.calls if call.operation == "Invoke"}
    assert cloud.physical_id("WorkflowRole") in invokers


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
def test_fault_strikes_before_or_after_a_calls_effect(cloud: LocalCloud, when: Any, there: bool) -> None:
    key = {"id": {"S": f"fails {when}"}}
    table = cloud.physical_id("Table")
    dynamodb = boto3.client("dynamodb", region_name=REGION, endpoint_url=cloud.url, config=ONE_ATTEMPT)
    fault = cloud.inject(ApiFault("dynamodb", "PutItem", "InternalServerError", 500, when=when))
    with pytest.raises(ClientError, match="InternalServerError"):
        dynamodb.put_item(TableName=table, Item=key)
    assert ("Item" in dynamodb.get_item(TableName=table, Key=key)) is there
    dynamodb.put_item(TableName=table, Item=key)
    assert len(fault.hits) == 1


@pytest.mark.parametrize(
    ("service", "operation", "given"),
    [
        ("sqs", "SendMessage", {"QueueUrl": "http://127.0.0.1/123456789012/q", "MessageBody": "m"}),
        ("s3", "GetObject", {"Bucket": "bucket", "Key": "a/key"}),
        ("sns", "Publish", {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:topic", "Message": "m"}),
        ("scheduler", "GetSchedule", {"Name": "schedule"}),
        ("stepfunctions", "ListStateMachines", {}),
    ],
)
def test_fault_reaches_the_client_in_every_services_protocol(
    cloud: LocalCloud, service: Any, operation: str, given: dict[str, Any]
) -> None:
    client: Any = boto3.client(
        service,
        region_name=REGION,
        endpoint_url=cloud.url,
        config=ONE_ATTEMPT,
        aws_access_key_id="somebody",
        aws_secret_access_key="local",  # noqa: S106 - nobody checks it
    )
    cloud.inject(ApiFault(service, operation, "SlowDownPlease", 503, role="somebody"))
    with pytest.raises(ClientError, match="SlowDownPlease"):
        client._make_api_call(operation, given)  # noqa: SLF001 - the one method that takes the name


def test_environment_can_be_killed_after_a_calls_effect(cloud: LocalCloud) -> None:
    role = cloud.physical_id("WorkerRole")
    cloud.inject(ApiFault("dynamodb", "PutItem", when="after", kill=True, role=role))
    with pytest.raises(FunctionError, match="signal: killed"):
        cloud.invoke("Worker", {"do": "put", "id": "before death"})
    item = cloud.client("dynamodb").get_item(
        TableName=cloud.physical_id("Table"), Key={"id": {"S": "before death"}}
    )

    assert "Item" in item


def test_sparse_index_has_only_items_with_its_key_and_projected_attributes(cloud: LocalCloud) -> None:
    dynamodb, table = cloud.client("dynamodb"), cloud.physical_id("Table")
    for number, due in enumerate(["2026-11-28", None, "2026-11-27"]):
        item = {"id": f"indexed-{number}", "since": "before", "more": "than that"}
        item |= {"due": "due", "due_at": due} if due else {}
        dynamodb.put_item(TableName=table, Item={name: {"S": text} for name, text in item.items()})
    found = dynamodb.query(
        TableName=table,
        IndexName="due",
        KeyConditionExpression="due = :due AND due_at <= :now",
        ExpressionAttributeValues={":due": {"S": "due"}, ":now": {"S": "2026-11-28T00:00:00"}},
    )["Items"]

    assert [item["id"]["S"] for item in found] == ["indexed-2", "indexed-0"]
    assert {name for item in found for name in item} == {"id", "due", "due_at", "since"}


def test_one_of_several_concurrent_conditional_writes_succeeds(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Table, "get_item", _slowly(Table.get_item))  # lets others overtake
    dynamodb, table = cloud.client("dynamodb"), cloud.physical_id("Table")

    def claims(key: str) -> bool:
        try:
            dynamodb.put_item(
                TableName=table,
                Item={"id": {"S": key}, "claimed": {"BOOL": True}},
                ConditionExpression="attribute_not_exists(claimed)",
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    keys = [f"claimed-{number}" for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claims, [key for key in keys for _ in range(8)]))
    assert [sum(claimed[n * 8 : n * 8 + 8]) for n in range(len(keys))] == [1] * len(keys)


def _slowly(look: Callable[..., Any]) -> Callable[..., Any]:
    def look_slowly(*arguments: Any, **named: Any) -> Any:
        found = look(*arguments, **named)
        time.sleep(0.002)
        return found

    return look_slowly


# --- Up and down --------------------------------------------------------------------------------------

TWO_CLOUDS = """
import sys
from pathlib import Path
from tests.support.local_cloud import LocalCloud

for wait in (False, True):
    with LocalCloud({}, Path(sys.argv[1]), Path(sys.argv[2])) as cloud:
        assert not cloud.executions()
        cloud.client("stepfunctions").start_execution(
            stateMachineArn=cloud.physical_id("Workflow"),
            name="same",
            input='{"do": "nothing", "number": 1, "wait": 1000}',
        )
        print(cloud.invoke("Worker", {"do": "nothing"})["pid"], flush=True)
        if wait:
            sys.stdin.read()
"""


def test_clouds_can_follow_each_other_and_interrupt_leaves_no_process(directory: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - this very Python, with the code above
        [sys.executable, "-c", TWO_CLOUDS, str(directory), str(TEMPLATE)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TEMPLATE.parents[3],
        text=True,
    ) as process:
        assert process.stdout
        pids = [int(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(set(pids)) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_concurrent_environments_log_to_separate_streams(tmp_path: Path) -> None:
    streams = LogStreams(tmp_path / "logs")
    with streams.new().open("a", buffering=1) as one, streams.new().open("a") as other:
        print("before", file=one)
        one.write('{"half": ')
        one.flush()
        print("whole", file=other, flush=True)
        assert streams.lines() == ["before", "whole"]
        print('"done"}', file=one)
    assert streams.lines() == ["before", "whole", '{"half": "done"}']
