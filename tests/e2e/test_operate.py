"""The commands for operators, each as a process of its own, on a stack that is up in another one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from tests.arcanna.access import API_KEY
from tests.harness import wait_for
from tests.operate.local import JOBS

pytestmark = pytest.mark.long

ROUTES = {
    "routes": [
        {"name": "by-job", "keys": ["training-data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
        {"name": "nightly", "targets": [{"job_id": 77}]},
    ]
}
JOB, OTHER_JOB = "1234", "77"
MODEL, OTHER_MODEL = (JOBS[int(job)].models[0] for job in (JOB, OTHER_JOB))


@dataclass(frozen=True)
class Stack:
    """A stack as an operator has it: by its endpoint and credentials, and nothing else."""

    arcanna_url: str
    variables: Mapping[str, str]
    copy: Sequence[str]
    """A file of alerts, and where it is to be copied to."""

    def client(self, service: str) -> Any:
        session: Any = boto3.Session()
        return session.client(
            service,
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            region_name=self.variables["AWS_REGION"],
            aws_access_key_id="operator",
            aws_secret_access_key="local",  # noqa: S106  # nobody checks it
        )

    def output(self, name: str) -> str:
        (stack,) = self.client("cloudformation").describe_stacks(StackName="local")["Stacks"]
        return next(str(o["OutputValue"]) for o in stack["Outputs"] if o["OutputKey"] == name)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "tests.operate", *arguments],
            env={**os.environ, **self.variables, "COLUMNS": "250"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str, *arguments: str, typed: str = "") -> tuple[int, str]:
        """The exit status of a command, and what it printed."""
        process = self.start(command, "--stack", "local", *arguments)
        printed, _ = process.communicate(typed, timeout=120)
        return process.returncode, printed

    def send(self, body: object) -> None:
        url = self.output("UpdatesQueueUrl")
        self.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(body))

    def dead_letters(self) -> int:
        counts = self.client("sqs").get_queue_attributes(
            QueueUrl=self.output("DeadLetterQueueUrl"), AttributeNames=["All"]
        )["Attributes"]
        return int(counts["ApproximateNumberOfMessages"])

    def recomputes(self, model: str) -> int:
        found = httpx.get(f"{self.arcanna_url}/_reference/recomputes").raise_for_status().json()
        return sum(recompute["model_id"] == model for recompute in found)

    def behaves(self, model: str, **behaviour: object) -> None:
        url = f"{self.arcanna_url}/_reference/behaviour"
        httpx.put(url, params={"model_id": model}, json=behaviour).raise_for_status()

    @contextmanager
    def fault(self, **fault: object) -> Iterator[None]:
        url = f"{self.arcanna_url}/_reference/faults"
        httpx.post(url, json={"times": None, **fault}).raise_for_status()
        try:
            yield
        finally:
            httpx.delete(url).raise_for_status()

    @contextmanager
    def secret(self, value: str) -> Iterator[None]:
        secrets, arn = self.client("secretsmanager"), self.output("ApiKeySecretArn")
        secrets.put_secret_value(SecretId=arn, SecretString=value)
        try:
            yield
        finally:
            secrets.put_secret_value(SecretId=arn, SecretString=API_KEY)

    @contextmanager
    def routes(self, text: str) -> Iterator[None]:
        ssm, name = self.client("ssm"), self.output("RoutesParameter")
        before = ssm.get_parameter(Name=name)["Parameter"]["Value"]
        ssm.put_parameter(Name=name, Value=text, Overwrite=True)
        try:
            yield
        finally:
            ssm.put_parameter(Name=name, Value=before, Overwrite=True)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """`make local`, and what it tells to put into the environment."""
    command = [sys.executable, "-m", "tests.operate.local", "e2e-operate"]
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
    assert local.returncode == 0


def line_of(printed: str, *parts: str) -> str:
    """The only line that has all the parts."""
    (line,) = [line for line in printed.splitlines() if all(part in line for part in parts)]
    return line


# --- Status and trigger ----------------------------------------------------------------------------------


def test_a_recompute_by_hand_is_followed_to_its_end_and_the_status_tells_of_it(stack: Stack) -> None:
    code, before = stack.run("status", "--job", JOB)
    assert code == 0
    assert "The ledger knows no such model" in before

    stack.behaves(MODEL, delay=0.5, duration=8.0)
    process = stack.start("trigger", "--stack", "local", "--job", JOB)  # its active model
    wait_for("the recompute", lambda: stack.recomputes(MODEL))
    _, during = stack.run("status", "--model", MODEL)
    assert "a run is under way" in during
    assert "stale for" in during
    printed, _ = process.communicate(timeout=60)

    assert process.returncode == 0, printed
    assert line_of(printed, f"job {JOB}, {MODEL}: started")
    assert line_of(printed, "check 1:", "next look in")
    assert line_of(printed, "✓ completed, not_judged: There are no metrics from before (accuracy")
    _, after = stack.run("status", "--job", JOB, "--model", MODEL)
    assert "fresh for" in after
    assert "no update is known" in after
    row = line_of(after, "manual", "completed, not_judged")
    assert "Z" in row
    assert "Updates in the queue: 0 visible, 0 put off, 0 in work. Dead letters: 0.\n" in after


def test_a_recompute_by_hand_that_fails_is_an_exit_status_and_stays_in_the_status(stack: Stack) -> None:
    stack.behaves(OTHER_MODEL, fails=True)
    code, printed = stack.run("trigger", "--job", OTHER_JOB, "--model", OTHER_MODEL)
    stack.behaves(OTHER_MODEL, duration=1.0)

    assert code == 1
    assert "✗ failed: " in printed
    _, after = stack.run("status", "--job", OTHER_JOB)
    assert "stale for" in after
    assert "the last run failed: " in after
    _, everything = stack.run("status")  # and nothing of the ledger that is no model
    assert [line.split()[2] for line in everything.splitlines() if line.startswith("│ job ")] == [
        JOB,
        OTHER_JOB,
    ]
    assert line_of(after, "manual", "failed, N")  # NeverStarted, or NoNewResult if a check saw it run


def test_a_recompute_by_hand_during_a_run_is_followed_into_the_next_one(stack: Stack) -> None:
    stack.behaves(MODEL, delay=0.5, duration=60.0)  # commands take their time to start
    known = stack.recomputes(MODEL)
    first = stack.start("trigger", "--stack", "local", "--job", JOB)
    wait_for("the run", lambda: stack.recomputes(MODEL) > known)
    wait_for("its hold", lambda: "a run is under way" in stack.run("status", "--job", JOB)[1])
    first.send_signal(signal.SIGINT)  # the run goes on without it
    printed, _ = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "Stopped looking." in printed

    second = stack.start("trigger", "--stack", "local", "--job", JOB, "--model", MODEL)
    wait_for("its mark", lambda: "1 waiting, for" in stack.run("status", "--job", JOB)[1])
    stack.behaves(MODEL, delay=0.5, duration=1.0)
    printed, _ = second.communicate(timeout=60)

    assert second.returncode == 0, printed
    assert "coalesced, into the run after" in printed
    assert printed.count("✓ completed") == 2
    assert stack.recomputes(MODEL) == known + 2


def test_what_cannot_be_asked_for_at_once_is_told_with_its_reason(stack: Stack) -> None:
    with stack.fault(endpoint="metrics", model_id=MODEL, status=503):
        code, printed = stack.run("trigger", "--job", JOB, "--model", MODEL)
        # Between the attempts that the queue repeats, that is.
        wait_for("its mark", lambda: "the last attempt" in stack.run("status", "--job", JOB)[1])
    assert code == 1
    assert "put_off, PlatformUnavailable: Arcanna answered" in printed
    wait_for("fresh metrics", lambda: "fresh for" in stack.run("status", "--job", JOB)[1])


def test_a_job_that_no_request_can_have_is_refused_by_the_trigger(stack: Stack) -> None:
    code, printed = stack.run("trigger", "--job", "1234", "--model", "x" * 300)
    assert code == 1
    assert "✗ BadInput: model_id has 300 characters" in printed


# --- Dead letters ----------------------------------------------------------------------------------------


def test_dead_letters_are_shown_by_reason_and_lead_to_a_recompute_when_the_reason_is_gone(
    stack: Stack,
) -> None:
    url = stack.output("DeadLetterQueueUrl")
    sqs = stack.client("sqs")
    request = {"job_id": JOB, "model_id": MODEL}
    # As Lambda's failure destination writes them, which retries for seconds here and for minutes there.
    record = {
        "requestContext": {"condition": "RetriesExhausted"},
        "requestPayload": request,
        "responsePayload": {"errorType": "AwsUnavailable", "errorMessage": "could not write to the ledger"},
    }
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(record))
    stack.send("no update at all")
    wait_for("the dead letters", lambda: stack.dead_letters() == 2)

    code, shown = stack.run("redrive", typed="n\n")
    assert code == 0
    assert line_of(shown, "AwsUnavailable", "could not write to the ledger")
    assert line_of(shown, "BadInput", "expected a JSON object")
    assert "Nothing was sent." in shown
    assert stack.dead_letters() == 2  # also visible at once

    known = stack.recomputes(MODEL)
    code, printed = stack.run("redrive", "--reason", "AwsUnavailable", typed="y\n")
    assert code == 0
    assert "BadInput" not in printed
    assert "1 message sent again" in printed
    wait_for("the recompute", lambda: stack.recomputes(MODEL) > known)
    assert stack.dead_letters() == 1

    # What is unusable stays so.
    code, printed = stack.run("redrive", "--yes")
    assert "1 message sent again" in printed
    wait_for("the dead letter", lambda: stack.dead_letters() == 1)
    code, printed = stack.run("doctor")
    assert code == 1
    assert line_of(printed, "✗ dead letters", "1 update could not be used. To do: make redrive shows why")
    sqs.purge_queue(QueueUrl=url)  # for the tests that follow


# --- Routes ----------------------------------------------------------------------------------------------


def test_the_deployed_routes_tell_what_a_key_leads_to(stack: Stack) -> None:
    code, printed = stack.run("route", "--key", f"training-data/{JOB}/{MODEL}/a b+c.csv")
    assert code == 0
    assert "✓ Route by-path knows this key:" in printed
    assert f"job '{JOB}', model '{MODEL}'" in printed

    code, printed = stack.run("route", "--key", "elsewhere/a.csv")
    assert code == 1
    assert "✗ No route knows this key" in printed
    assert "training-data/{job_id}/*  (route by-job)" in printed


# --- What is wrong ---------------------------------------------------------------------------------------


def test_the_doctor_finds_nothing_wrong(stack: Stack) -> None:
    with stack.routes(json.dumps(ROUTES)):
        code, printed = stack.run("doctor")
    assert code == 0, printed
    marks = [line.split()[0] for line in printed.splitlines()]
    assert marks == ["✓"] * 11
    assert line_of(printed, "targets", "Arcanna knows all 1 targets")


def test_the_doctor_tells_of_a_key_that_is_refused(stack: Stack) -> None:
    with stack.secret("another-key"):
        code, printed = stack.run("doctor")
    assert code == 1
    line = line_of(printed, "✗")
    assert "✗ key" in line
    assert "401" in line
    assert "To do: Create a key with both scopes in Arcanna" in line
    assert stack.output("ApiKeySecretArn") in line
    assert "another-key" not in printed


def test_the_doctor_tells_of_a_secret_without_a_key(stack: Stack) -> None:
    with stack.secret("{'no': 'key'}"):
        code, printed = stack.run("doctor")
    assert code == 1
    assert "To do: Put the key into the secret: aws secretsmanager put-secret-value" in line_of(
        printed, "✗ key"
    )


def test_the_doctor_tells_of_missing_scopes(stack: Stack) -> None:
    url = f"{stack.arcanna_url}/_reference/api_keys"
    httpx.put(url, json={API_KEY: {"scopes": ["read:job_metrics"]}}).raise_for_status()
    code, printed = stack.run("doctor")
    httpx.put(url, json={API_KEY: {}}).raise_for_status()
    assert code == 1
    assert "The key lacks execute:recompute_model_metrics. To do: Create a key" in line_of(printed, "✗")


def test_the_doctor_tells_of_a_platform_that_the_functions_do_not_reach(stack: Stack) -> None:
    with stack.fault(endpoint="any", drop="reset"):
        code, printed = stack.run("doctor")
    assert code == 1
    line = line_of(printed, "✗")
    assert "✗ platform" in line
    assert f"Is {stack.arcanna_url} right" in line


def test_the_doctor_tells_of_broken_routes_and_of_unknown_targets(stack: Stack) -> None:
    with stack.routes('{"routes": [{"name": "half", "targets": []}]}'):
        code, printed = stack.run("doctor")
    assert code == 1
    assert "route 'half'" in line_of(printed, "✗ routes", f"SSM parameter {stack.output('RoutesParameter')}")
    with stack.routes('{"routes": [{"targets": [{"job_id": "gone"}, {"job_id": 77}]}]}'):
        code, printed = stack.run("doctor")
    assert code == 1
    assert "job 'gone', active model: " in line_of(printed, "✗ targets", "To do: Correct the route")


def test_the_doctor_tells_of_what_was_switched_off(stack: Stack) -> None:
    s3, bucket = stack.client("s3"), stack.output("TrainingDataBucket")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    functions = stack.client("lambda")
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    code, printed = stack.run("doctor")
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    assert code == 1
    assert "sends no events to EventBridge" in line_of(printed, "✗ bucket", "Properties, Amazon EventBridge")
    assert line_of(printed, "✗ queue", "does not invoke the trigger (Disabled)")


@pytest.mark.parametrize("command", ["status", "trigger --job 1", "redrive", "route --key a", "doctor"])
def test_a_stack_that_is_not_there_is_said_so(stack: Stack, command: str) -> None:
    process = stack.start(*command.split(), "--stack", "none")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert printed.startswith("✗ there is no stack 'none' in eu-west-1")
    assert len(printed.splitlines()) == 1


# --- The local stack -------------------------------------------------------------------------------------


def test_the_alerts_that_make_local_offers_lead_to_metrics(stack: Stack) -> None:
    file, target = stack.copy
    bucket, _, folder = target.removeprefix("s3://").partition("/")
    stack.client("s3").upload_file(file, bucket, folder + Path(file).name)
    wait_for("the scores", lambda: "accuracy 0.9" in stack.run("status", "--model", MODEL)[1])
