"""The commands for operators, each as a process of its own, on a stack that is up in another one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from tests.support.arcanna.access import API_KEY, READ_SCOPE, RECOMPUTE_SCOPE, RESOURCES_SCOPE
from tests.support.arcanna.alerts import labelled_alerts
from tests.support.harness import wait_for
from tests.tools.local import JOBS

pytestmark = pytest.mark.long

ROUTES = {
    "routes": [
        {"name": "by-job", "keys": ["training-data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
        {"name": "nightly", "targets": [{"job_id": 77}]},
    ]
}
JOB, OTHER_JOB = "1234", "77"
MODEL, OTHER_MODEL = (JOBS[int(job)].models[0] for job in (JOB, OTHER_JOB))
SLOW = {"delay": 0.5, "duration": 600.0}
SHORT = {"delay": 0.2, "duration": 0.5}
PATIENCE = 180.0
"""Seconds for which anything is waited for."""


@dataclass(frozen=True)
class Stack:
    """A stack as an operator has it: by its endpoint and credentials, and nothing else."""

    arcanna_url: str
    variables: Mapping[str, str]
    copy: Sequence[str]
    """A file of alerts, and where it is to be copied to."""

    def client(self, service: str, region: str | None = None) -> Any:
        session: Any = boto3.Session()
        return session.client(
            service,
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            region_name=region or self.variables["AWS_REGION"],
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key="local",  # noqa: S106  # nobody checks it
        )

    def output(self, name: str) -> str:
        (stack,) = self.client("cloudformation").describe_stacks(StackName="local")["Stacks"]
        return next(str(o["OutputValue"]) for o in stack["Outputs"] if o["OutputKey"] == name)

    # --- Commands ------------------------------------------------------------------------------------------

    def start(self, *arguments: str, stack: str = "local") -> subprocess.Popen[str]:
        command, *options = arguments
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "arcanna_metrics_cli", command, "--stack", stack, *options],
            env={**os.environ, **self.variables, "COLUMNS": "250"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """The exit status of a command, and what it printed."""
        return ended(self.start(*arguments), typed)

    def status(self, *arguments: str) -> str:
        code, printed = self.run("status", *arguments)
        assert code == 0, printed
        return printed

    # --- The platform --------------------------------------------------------------------------------------

    def tell_platform(self, method: str, path: str, json: object = None, **params: str) -> Any:
        url = f"{self.arcanna_url}/_reference/{path}"
        return httpx.request(method, url, json=json, params=params).raise_for_status()

    def recomputes(self, model: str) -> int:
        """How many of them the platform knows."""
        found = self.tell_platform("GET", "recomputes").json()
        return sum(recompute["model_id"] == model for recompute in found)

    def behaves(self, model: str, behaviour: Mapping[str, object]) -> None:
        self.tell_platform("PUT", "behaviour", behaviour, model_id=model)


def ended(process: subprocess.Popen[str], typed: str = "") -> tuple[int, str]:
    """The exit status of a command that is under way, and what it printed."""
    printed, _ = process.communicate(typed, timeout=PATIENCE)
    return process.returncode, printed


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """`make local`, and what it tells to put into the environment."""
    command = [sys.executable, "-m", "tests.tools.local", "e2e-operate"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as local:  # noqa: S603
        assert local.stdout
        printed: list[str] = []
        for line in local.stdout:
            printed.append(line)
            if line.startswith("aws s3 cp "):
                break
        try:
            (told,) = [line for line in printed if line.startswith("export ")]
            url = printed[0].partition("The platform is at ")[2].partition(",")[0]
            yield Stack(url, dict(word.split("=", 1) for word in told.split()[1:]), printed[-1].split()[3:])
        finally:
            local.send_signal(signal.SIGINT)
            local.wait(60)
    assert local.returncode == 128 + signal.SIGINT


def line_of(printed: str, *parts: str) -> str:
    """The only line that has all the parts."""
    lines = [line for line in printed.splitlines() if all(part in line for part in parts)]
    assert len(lines) == 1, (parts, printed)
    return lines[0]


# --- Status and trigger ----------------------------------------------------------------------------------


def test_a_request_is_followed_to_its_end_and_the_status_tells_of_it(stack: Stack) -> None:
    assert "The ledger does not know this model" in stack.status("--job", JOB)

    stack.behaves(MODEL, {"delay": 0.5, "duration": 8.0})
    process = stack.start("trigger", "--job", JOB)  # its active model
    wait_for("the recompute", lambda: stack.recomputes(MODEL), PATIENCE)
    during = stack.status("--model", MODEL)
    code, printed = ended(process)
    after = stack.status("--job", JOB)

    assert "stale for" in during
    assert "a run is under way" in during
    assert MODEL in during
    assert code == 0, printed
    assert line_of(printed, f"job '{JOB}', active model: requested.")
    assert line_of(printed, "The run ", " is under way.")
    assert "next check in" in printed
    assert line_of(printed, "✓ completed, not_judged: There are no earlier metrics to compare with (accuracy")
    assert "fresh for" in after
    assert "Z" in line_of(after, "manual", "completed, not_judged")
    assert line_of(after, "In the queue, updates that the ledger does not know yet, and sweeps: ")
    assert line_of(after, "Dead letters: 0.")


def test_a_request_that_fails_is_an_exit_status_and_stays_in_the_status(stack: Stack) -> None:
    stack.behaves(OTHER_MODEL, {"delay": 0.2, "looks": 1, "fails": True})
    code, printed = stack.run("trigger", "--job", OTHER_JOB, "--model", OTHER_MODEL)
    stack.behaves(OTHER_MODEL, SHORT)

    assert code == 1
    assert line_of(printed, "✗ failed, NoNewResult: Arcanna recomputed and left the metrics as they were")
    after = stack.status("--job", OTHER_JOB, "--model", OTHER_MODEL)
    assert "stale for" in after
    assert "the last run failed" in after
    assert line_of(after, "manual", "failed, NoNewResult")
    jobs = [line.split()[2] for line in stack.status().splitlines() if line.startswith("│ job ")]
    assert set(jobs) == {JOB, OTHER_JOB}  # and nothing of the ledger that is not a model


def test_a_request_during_a_run_is_followed_into_the_next_one(stack: Stack) -> None:
    stack.behaves(MODEL, SLOW)
    known = stack.recomputes(MODEL)
    first = stack.start("trigger", "--job", JOB)
    wait_for("the run", lambda: stack.recomputes(MODEL) > known, PATIENCE)
    wait_for("its hold", lambda: "a run is under way" in stack.status("--job", JOB), PATIENCE)
    first.send_signal(signal.SIGINT)  # the run goes on without it
    code, printed = ended(first)
    assert code == 130
    assert "Stopped looking. What was asked for goes on" in printed

    second = stack.start("trigger", "--job", JOB)
    wait_for("the update", lambda: "1 update waits, for" in stack.status("--job", JOB), PATIENCE)
    stack.behaves(MODEL, SHORT)
    code, printed = ended(second)

    assert code == 0, printed
    assert line_of(printed, "Waiting for the end of the run under way, ")
    assert printed.count("✓ completed") == 1
    assert stack.recomputes(MODEL) == known + 2


def test_a_request_waits_while_somebody_else_recomputes_the_model(stack: Stack) -> None:
    stack.behaves(OTHER_MODEL, SLOW | {"delay": 0.0})  # one that is queued would not show, and not refuse
    known = stack.recomputes(OTHER_MODEL)
    stack.tell_platform("POST", "recomputes", job_id=OTHER_JOB, model_id=OTHER_MODEL)
    process = stack.start("trigger", "--job", OTHER_JOB, "--model", OTHER_MODEL)

    def attempted() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return "that failed" in stack.status("--model", OTHER_MODEL)

    wait_for("an attempt", attempted, PATIENCE)
    stack.behaves(OTHER_MODEL, SHORT)
    code, printed = ended(process)

    assert code == 0, printed
    assert "failed (make doctor may show why). The next one is at " in printed
    assert stack.recomputes(OTHER_MODEL) == known + 2


def test_a_job_by_its_name_is_the_same_job(stack: Stack) -> None:
    name = JOBS[int(OTHER_JOB)].name
    stack.behaves(OTHER_MODEL, SHORT)
    code, printed = stack.run(
        "trigger", "--job", name
    )  # the key may not look names up: the answer tells the id
    assert code == 0, printed
    assert line_of(printed, f"job '{name}', active model: requested.")
    code, printed = stack.run("trigger", "--job", name)
    assert code == 0, printed
    assert line_of(printed, f"job '{OTHER_JOB}', active model: requested.")

    scopes = [RECOMPUTE_SCOPE, READ_SCOPE, RESOURCES_SCOPE]
    stack.tell_platform("PUT", "api_keys", {API_KEY: {"scopes": scopes}})
    code, printed = stack.run("trigger", "--job", name, "--model", OTHER_MODEL)
    stack.tell_platform("PUT", "api_keys", {API_KEY: {}})
    assert code == 0, printed
    by_name, by_id = stack.status("--job", name), stack.status("--job", OTHER_JOB)
    assert by_name.count("Last runs of") == by_id.count("Last runs of") == 2
    assert by_name.count("completed, not_judged") == by_id.count("completed, not_judged") >= 3


def test_an_id_that_no_request_can_have_is_refused_by_the_trigger(stack: Stack) -> None:
    code, printed = stack.run("trigger", "--job", JOB, "--model", "x" * 300)
    assert code == 1
    assert line_of(printed, "✗ BadInput: model_id has 300 characters")


# --- Accept ----------------------------------------------------------------------------------------------


def test_a_model_that_got_worse_is_accepted_as_it_is(stack: Stack) -> None:
    model = ("--job", JOB, "--model", MODEL)
    stack.behaves(MODEL, SHORT)
    for name, escalate, expected in (("1.csv", 0.95, 0), ("2.csv", 0.4, 1)):
        body = labelled_alerts(600, {"Drop": 0.95, "Investigate": 0.9, "Escalate": escalate}, seed=1)
        key = f"training-data/{JOB}/{MODEL}/{name}"
        stack.client("s3").put_object(Bucket=stack.output("TrainingDataBucket"), Key=key, Body=body)
        code, printed = stack.run("trigger", *model)
        assert code == expected, printed
    assert line_of(printed, "✗ completed, regressed: ", "Escalate.recall fell from ")

    # Not during a run: the upload may have one of its own.
    wait_for("an entry that is free", lambda: "a run, for" not in stack.status(*model), PATIENCE)
    code, printed = stack.run("accept", *model)
    assert code == 0, printed
    code, printed = stack.run("trigger", *model)
    assert code == 0, printed
    assert line_of(printed, "✓ completed, unchanged")


def test_a_model_that_is_not_known_cannot_be_accepted(stack: Stack) -> None:
    code, printed = stack.run("accept", "--job", JOB, "--model", "another")
    assert code == 1
    assert line_of(printed, "✗ The ledger does not know this model")


# --- Dead letters ----------------------------------------------------------------------------------------


def test_dead_letters_are_shown_by_reason_and_sent_again_but_for_sweeps(stack: Stack) -> None:
    sqs, url = stack.client("sqs"), stack.output("DeadLetterQueueUrl")
    # As Lambda's failure destination writes them, which retries for seconds here and for minutes there.
    record = {
        "requestContext": {"condition": "RetriesExhausted"},
        "requestPayload": {"job_id": JOB, "model_id": MODEL},
        "responsePayload": {"errorType": "AwsUnavailable", "errorMessage": "could not write to the ledger"},
    }
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(record))
    sqs.send_message(QueueUrl=url, MessageBody='{"sweep": true}')
    sqs.send_message(QueueUrl=stack.output("UpdatesQueueUrl"), MessageBody='"not an update"')

    def number() -> int:
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(counts["ApproximateNumberOfMessages"])

    wait_for("the dead letters", lambda: number() == 3, PATIENCE)
    code, shown = stack.run("redrive", typed="n\n")
    assert code == 0
    assert line_of(shown, "AwsUnavailable", "could not write to the ledger")
    assert line_of(shown, "BadInput", "expected a JSON object")
    assert "Nothing was sent." in shown
    assert number() == 3  # also visible at once

    known = stack.recomputes(MODEL)
    code, printed = stack.run("redrive", "--reason", "AwsUnavailable", typed="y\n")
    assert code == 0
    assert "BadInput" not in printed
    assert "1 message sent again" in printed
    wait_for("the recompute", lambda: stack.recomputes(MODEL) > known, PATIENCE)
    assert number() == 2

    code, printed = stack.run("redrive", "--yes")
    assert code == 0
    assert line_of(printed, "1 message deleted: sweeps")
    assert line_of(printed, "1 message sent again")
    wait_for("the dead letter", lambda: number() == 1, PATIENCE)  # what cannot be understood comes back
    code, printed = stack.run("doctor")
    assert code == 1
    assert line_of(printed, "✗ dead letters", "1 update could not be used. To do: make redrive shows why")
    sqs.purge_queue(QueueUrl=url)  # for the tests that follow


# --- Routes ----------------------------------------------------------------------------------------------


def test_the_deployed_routes_tell_what_a_key_leads_to(stack: Stack) -> None:
    code, printed = stack.run("route", "--key", f"training-data/{JOB}/{MODEL}/a b+c.csv")
    assert code == 0
    assert line_of(printed, "✓ Route by-path knows this key:")
    assert line_of(printed, f"job '{JOB}', model '{MODEL}'")
    assert "threshold" not in printed

    code, printed = stack.run("route", "--key", f"feedback/{JOB}/{MODEL}/1.csv")
    assert code == 0
    assert line_of(printed, "when this threshold is reached", '"objects": 5', '"max_wait_seconds": 3600')

    code, printed = stack.run("route", "--key", "elsewhere/a.csv")
    assert code == 1
    assert line_of(printed, "✗ No route knows this key")
    assert line_of(printed, "training-data/{job_id}/*  (route by-job)")


# --- What is wrong ---------------------------------------------------------------------------------------


@contextmanager
def routes(stack: Stack, document: object) -> Iterator[None]:
    ssm, name = stack.client("ssm"), stack.output("SettingsParameter")
    before = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    ssm.put_parameter(Name=name, Value=json.dumps(document), Overwrite=True)
    yield
    ssm.put_parameter(Name=name, Value=before, Overwrite=True)


@contextmanager
def secret(stack: Stack, value: str) -> Iterator[None]:
    secrets, arn = stack.client("secretsmanager"), stack.output("ApiKeySecretArn")
    secrets.put_secret_value(SecretId=arn, SecretString=value)
    yield
    secrets.put_secret_value(SecretId=arn, SecretString=API_KEY)


@contextmanager
def fewer_scopes(stack: Stack) -> Iterator[None]:
    stack.tell_platform("PUT", "api_keys", {API_KEY: {"scopes": [READ_SCOPE]}})
    yield
    stack.tell_platform("PUT", "api_keys", {API_KEY: {}})


@contextmanager
def no_answers(stack: Stack) -> Iterator[None]:
    stack.tell_platform("POST", "faults", {"endpoint": "any", "drop": "reset", "times": None})
    yield
    stack.tell_platform("DELETE", "faults")


@contextmanager
def no_notifications(stack: Stack) -> Iterator[None]:
    s3, bucket = stack.client("s3"), stack.output("TrainingDataBucket")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    yield
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )


@contextmanager
def bucket_far_away(stack: Stack) -> Iterator[None]:
    """The bucket with the training data, which then is empty, in another region."""
    name, home = stack.output("TrainingDataBucket"), stack.variables["AWS_REGION"]
    move_bucket(stack, name, home, "us-west-2")
    yield
    move_bucket(stack, name, "us-west-2", home)


def move_bucket(stack: Stack, name: str, before: str, after: str) -> None:
    s3 = stack.client("s3", before)
    for version in s3.list_object_versions(Bucket=name).get("Versions", []):
        s3.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=name)
    s3 = stack.client("s3", after)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": after})
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )


@contextmanager
def mapping_disabled(stack: Stack) -> Iterator[None]:
    functions = stack.client("lambda")
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    yield
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


@contextmanager
def schedule_disabled(stack: Stack, logical_id: str) -> Iterator[None]:
    scheduler, cloudformation = stack.client("scheduler"), stack.client("cloudformation")
    resource = cloudformation.describe_stack_resource(StackName="local", LogicalResourceId=logical_id)
    name = resource["StackResourceDetail"]["PhysicalResourceId"]
    schedule = scheduler.get_schedule(Name=name)
    given = {key: schedule[key] for key in ("ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(Name=name, State="DISABLED", **given)
    yield
    scheduler.update_schedule(Name=name, State="ENABLED", **given)


HALF = {"routes": [{"name": "half", "targets": []}]}
GONE = {"routes": [{"targets": [{"job_id": "gone"}, {"job_id": 77}]}]}
WRONG: Mapping[str, tuple[Callable[[Stack], AbstractContextManager[None]], Sequence[str]]] = {
    "refused key": (
        lambda stack: secret(stack, "another-key"),
        ("✗ key", "401", "To do: Create a key with both scopes in Arcanna", "arn:aws:secretsmanager:"),
    ),
    "no key": (
        lambda stack: secret(stack, "{'no': 'key'}"),
        ("✗ key", "To do: Put the key into the secret: aws secretsmanager put-secret-value"),
    ),
    "scopes": (
        fewer_scopes,
        ("✗ scopes", f"The key lacks {RECOMPUTE_SCOPE}. To do: Create a key"),
    ),
    "no way to the platform": (no_answers, ("✗ platform", "Is http://127.0.0.1:", " right")),
    "routes": (lambda stack: routes(stack, HALF), ("✗ settings", "routes[0].targets", "SSM parameter")),
    "targets": (
        lambda stack: routes(stack, GONE),
        ("✗ targets", "job 'gone', active model: ", "To do: Correct the route"),
    ),
    "notifications": (
        no_notifications,
        ("✗ bucket", "sends no events to EventBridge", "Properties, Amazon EventBridge"),
    ),
    "region": (
        bucket_far_away,
        ("✗ bucket", "is in us-west-2", "do not reach this stack in eu-west-1. To do: Use a bucket in eu"),
    ),
    "mapping": (mapping_disabled, ("✗ queue", "does not invoke the trigger (Disabled)")),
    "sweep": (
        lambda stack: schedule_disabled(stack, "SweepSchedule"),
        ("✗ sweep", "DISABLED: no failed attempt is repeated"),
    ),
    "schedule": (
        lambda stack: schedule_disabled(stack, "RecomputeSchedule"),
        ("✗ schedule", "is DISABLED"),
    ),
}
"""What may be wrong, by what makes it so, with what the doctor then says in one line."""


@pytest.mark.parametrize("name", WRONG)
def test_the_doctor_tells_what_is_wrong_and_what_to_do(stack: Stack, name: str) -> None:
    wrong, parts = WRONG[name]
    with wrong(stack):
        code, printed = stack.run("doctor")
    assert code == 1, printed
    line = line_of(printed, "✗")
    assert [part for part in (*parts, "To do: ") if part not in line] == [], line
    assert "another-key" not in printed


def test_the_doctor_finds_nothing_wrong(stack: Stack) -> None:
    with routes(stack, ROUTES):
        code, printed = stack.run("doctor")
    assert code == 0, printed
    assert [line.split()[0] for line in printed.splitlines()] == ["✓"] * 13
    assert line_of(printed, "targets", "Arcanna knows all 1 targets")
    assert line_of(printed, "✓ sweep", "every minute")


@pytest.mark.parametrize(
    "command", ["status", "trigger --job 1", "accept --job 1 --model 2", "redrive", "route --key a", "doctor"]
)
def test_a_stack_that_is_not_there_is_said_so(stack: Stack, command: str) -> None:
    code, printed = ended(stack.start(*command.split(), stack="none"))
    assert code == 2
    assert printed.startswith("✗ there is no stack 'none' in eu-west-1")
    assert len(printed.splitlines()) == 1


# --- The local stack -------------------------------------------------------------------------------------


def test_the_alerts_that_make_local_offers_lead_to_metrics(stack: Stack) -> None:
    file, target = stack.copy
    bucket, _, folder = target.removeprefix("s3://").partition("/")
    stack.client("s3").upload_file(file, bucket, folder + Path(file).name)
    wait_for("the scores", lambda: "accuracy 0.9" in stack.status("--model", MODEL), PATIENCE)
