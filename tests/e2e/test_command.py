"""`arcanna-metrics` as people install it: every command and exit status, on a stack in another process.

The command runs in an environment that has its own dependencies only (`make install` makes it).
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from arcanna_metrics.times import to_iso
from tests.support.arcanna.access import API_KEY, READ_SCOPE, RECOMPUTE_SCOPE, RESOURCES_SCOPE
from tests.support.arcanna.alerts import labelled_alerts
from tests.support.command import document_of
from tests.support.deployment import ROOT
from tests.support.waiting import eventually
from tests.tools.arcanna import JOBS

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
COMMAND = ROOT / "build" / "command" / "bin" / "arcanna-metrics"
PATIENCE = 180.0
"""Seconds until a wait gives up."""


@dataclass(frozen=True)
class Stack:
    """A stack as its operator reaches it: through its endpoint and credentials only."""

    arcanna_url: str
    variables: Mapping[str, str]

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
        return started({**self.variables, "ARCANNA_METRICS_STACK": stack, "COLUMNS": "250"}, *arguments)

    def run(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """Runs a command. Returns its exit status and output."""
        return ended(self.start(*arguments), typed)

    def document(self, status: int, *arguments: str) -> dict[str, Any]:
        """Runs a command that ends with this status. Returns its document."""
        process = self.start(*arguments, "--json")
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, stderr
        return document_of(stdout)

    def status(self, *arguments: str) -> str:
        code, printed = self.run("status", *arguments)
        assert code in (0, 2), printed  # 2: the ledger does not know the target yet
        return printed

    def status_with(self, part: str, *arguments: str) -> str | None:
        """Waits until the status shows that part. Returns its output."""
        printed = self.status(*arguments)
        return printed if part in printed else None

    # --- The platform --------------------------------------------------------------------------------------

    def tell_platform(self, method: str, path: str, json: object = None, **params: str) -> Any:
        url = f"{self.arcanna_url}/_reference/{path}"
        return httpx.request(method, url, json=json, params=params).raise_for_status()

    def recomputes(self, model: str) -> int:
        """The number of the model's recomputes at the platform."""
        found = self.tell_platform("GET", "recomputes").json()
        return sum(recompute["model_id"] == model for recompute in found)

    def behaves(self, model: str, behaviour: Mapping[str, object]) -> None:
        self.tell_platform("PUT", "behaviour", behaviour, model_id=model)


def started(variables: Mapping[str, str], *arguments: str, both: bool = True) -> subprocess.Popen[str]:
    """Starts a command with these variables only. Its streams are joined or separate."""
    home = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.Popen(  # noqa: S603
        [COMMAND, *arguments],
        env={**home, "LC_ALL": "C.UTF-8", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both and "--json" not in arguments else subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], typed: str = "") -> tuple[int, str]:
    """Waits for a started command. Returns its exit status and output."""
    printed, _ = process.communicate(typed, timeout=PATIENCE)
    return process.returncode, printed


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Runs `make local`. Reads the environment variables from its file."""
    command = [sys.executable, "-m", "tests.tools.local", "e2e-operate"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as local:  # noqa: S603
        assert local.stdout
        next(line for line in local.stdout if line.startswith("In another shell"))
        try:
            lines = Path("build/e2e-operate.env").read_text(encoding="utf-8").splitlines()
            exports = [line.removeprefix("export ") for line in lines if line.startswith("export ")]
            exports = [
                export for export in exports if not export.startswith("PATH=")
            ]  # of `arcanna` in a shell
            told = dict(export.split("=", 1) for export in exports)
            yield Stack(told["ARCANNA_URL"], told)
        finally:
            local.send_signal(signal.SIGINT)
            local.wait(60)
    assert local.returncode == 128 + signal.SIGINT


def line_of(printed: str, *parts: str) -> str:
    """The only line that has all the parts."""
    lines = [line for line in printed.splitlines() if all(part in line for part in parts)]
    assert len(lines) == 1, (parts, printed)
    return lines[0]


# --- The command itself ----------------------------------------------------------------------------------


def test_installed_command_has_only_its_own_dependencies() -> None:
    """Its environment lacks the dependencies of the functions and of the tests."""
    listed = subprocess.run(  # noqa: S603
        [ROOT / ".venv/bin/uv", "pip", "list", "--python", COMMAND.with_name("python"), "--format=json"],
        capture_output=True,
        check=True,
    )
    names = {package["name"] for package in json.loads(listed.stdout)}
    assert {"arcanna-metrics", "boto3", "click", "jinja2", "rich"} <= names
    assert not names & {"httpx", "aws-lambda-powertools", "moto", "pytest", "aws-sam-cli"}


def test_version_is_that_of_the_template() -> None:
    code, printed = ended(started({}, "--version"))
    found = re.search(r"SemanticVersion: (\S+)", (ROOT / "template.yaml").read_text())
    assert found
    assert (code, printed) == (0, f"arcanna-metrics {found[1]}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_in_any_shell_offers_the_matching_commands(shell: str) -> None:
    code, script = ended(started({"_ARCANNA_METRICS_COMPLETE": f"{shell}_source"}, both=False))
    assert code == 0
    assert "_ARCANNA_METRICS_COMPLETE" in script
    typed = {"COMP_WORDS": "arcanna-metrics re", "COMP_CWORD": "1" if shell != "fish" else "re"}
    code, found = ended(started({"_ARCANNA_METRICS_COMPLETE": f"{shell}_complete", **typed}, both=False))
    assert code == 0
    assert "recompute" in found
    assert "status" not in found


def test_help_names_every_command_and_exit_status() -> None:
    code, printed = ended(started({}, "--help"))
    assert code == 0
    for name in (
        "status",
        "report",
        "recompute",
        "accept",
        "redrive",
        "discard",
        "route",
        "settings",
        "forget",
        "doctor",
    ):
        assert ended(started({}, name, "--help"))[0] == 0
        assert f"  {name} " in printed
    assert re.findall(r"^  ([0-9])  ", printed, re.MULTILINE) == list("01234567")


def test_wrong_command_line_exits_with_2() -> None:
    for arguments in (("recompute",), ("statsu",), ("status", "--jop", "1"), ("route",), ("settings", "put")):
        assert ended(started({}, *arguments))[0] == 2


# --- Status and recompute --------------------------------------------------------------------------------


def test_request_with_wait_is_followed_to_its_end_and_shown_in_the_status(stack: Stack) -> None:
    code, printed = stack.run("status", "--job", "never heard of")
    assert (code, "The ledger does not know the job 'never heard of'" in printed) == (2, True)

    stack.behaves(MODEL, {"delay": 0.5, "duration": 12.0})
    known = stack.recomputes(MODEL)
    process = stack.start("recompute", "--job", JOB, "--wait", "--allow-not-judged")  # the active model
    eventually("the recompute", lambda: stack.recomputes(MODEL) > known)
    during = eventually("the run's row", partial(stack.status_with, "a run is under way", "--model", MODEL))
    code, printed = ended(process)
    after = stack.status("--job", JOB)

    assert "stale for" in during
    assert MODEL in during
    assert code == 0, printed
    assert line_of(printed, f"job '{JOB}', active model: requested.")
    assert line_of(printed, "The run ", " is under way.")
    assert line_of(printed, "  https://eu-west-1.console.aws.amazon.com/states/home")
    assert "next check in" in printed
    assert line_of(printed, "✓ completed, ")
    assert "fresh, " in after
    assert "Z" in line_of(after, "manual", "Z ")
    assert line_of(after, "Updates queue: ")
    assert "Dead letters" not in after


def test_first_metrics_of_a_model_exit_with_3_and_later_ones_with_0(stack: Stack) -> None:
    model = f"generic-1-{OTHER_JOB}-model-1761030400.hdf5"
    for active in (model, OTHER_MODEL):
        stack.tell_platform("PUT", "active_model", job_id=OTHER_JOB, model_id=active)
    stack.behaves(model, SHORT)
    wanted = ("recompute", "--job", OTHER_JOB, "--model", model, "--wait")
    first = stack.document(3, *wanted)
    assert (first["result"], first["why"].partition(" (")[0]) == (
        "not_judged",
        "no earlier metrics",
    )
    upload(stack, OTHER_JOB, model, "1.csv")
    assert stack.document(0, *wanted, "--allow-not-judged")["run"]["outcome"] == "completed"
    second = stack.document(0, *wanted)
    assert (second["result"], second["run"]["outcome"]) == ("fresh", "completed")


def test_failed_recompute_exits_with_4_and_stays_in_the_status(stack: Stack) -> None:
    stack.behaves(OTHER_MODEL, {"delay": 0.2, "looks": 1, "fails": True})
    code, printed = stack.run("recompute", "--job", OTHER_JOB, "--model", OTHER_MODEL, "--wait")
    stack.behaves(OTHER_MODEL, SHORT)

    assert code == 4
    assert line_of(printed, "✗ failed, NoNewResult: Arcanna recomputed, but there are no new metrics")
    after = stack.status("--job", OTHER_JOB, "--model", OTHER_MODEL)
    assert "stale for" in after
    assert "the last run failed" in after
    assert line_of(after, "manual", "failed: NoNewResult")
    (row,) = stack.document(0, "status", "--model", OTHER_MODEL)["targets"]
    assert (row["fresh"], row["last_run"]["reason"]) == (False, "NoNewResult")


def test_request_during_a_run_is_followed_into_the_next_run(stack: Stack) -> None:
    stack.behaves(MODEL, SLOW)
    known = stack.recomputes(MODEL)
    first = stack.start("recompute", "--job", JOB, "--wait")
    eventually("the run", lambda: stack.recomputes(MODEL) > known)
    eventually("its hold", lambda: "a run is under way" in stack.status("--job", JOB))
    first.send_signal(signal.SIGINT)  # the run goes on without it
    code, printed = ended(first)
    assert code == 130
    assert printed.endswith("Stopped following. The recompute continues; arcanna-metrics status shows it.\n")

    second = stack.start("recompute", "--job", JOB, "--wait", "--allow-not-judged")
    eventually("the update", lambda: "1 update waits, for" in stack.status("--job", JOB))
    stack.behaves(MODEL, SHORT)
    code, printed = ended(second)

    assert code == 0, printed
    assert line_of(printed, "Waiting for run ")
    assert printed.count("✓ completed") == 1
    assert stack.recomputes(MODEL) == known + 2


def test_run_beyond_the_timeout_exits_with_5_and_continues(stack: Stack) -> None:
    stack.behaves(OTHER_MODEL, SLOW)
    wanted = ("recompute", "--job", OTHER_JOB, "--model", OTHER_MODEL, "--wait")
    late = stack.document(5, *wanted, "--timeout", "30s")
    assert (late["result"], late["run"]) == ("timed_out", None)
    assert "a run is under way" in stack.status("--model", OTHER_MODEL)
    code, printed = stack.run("forget", "--job", OTHER_JOB, "--model", OTHER_MODEL, "--yes")
    assert code == 6
    assert line_of(printed, "✗ A run is under way.")
    stack.behaves(OTHER_MODEL, SHORT)
    eventually("its end", lambda: "a run is under way" not in stack.status("--model", OTHER_MODEL))


def test_request_during_somebody_elses_recompute_waits_and_exits_with_6_at_the_timeout(
    stack: Stack,
) -> None:
    stack.behaves(
        OTHER_MODEL, SLOW | {"delay": 0.0}
    )  # a queued recompute is not visible, and would not refuse ours
    known = stack.recomputes(OTHER_MODEL)
    stack.tell_platform("POST", "recomputes", job_id=OTHER_JOB, model_id=OTHER_MODEL)
    wanted = ("recompute", "--job", OTHER_JOB, "--model", OTHER_MODEL, "--wait", "--allow-not-judged")
    code, printed = stack.run(*wanted, "--timeout", "5")
    assert code == 6
    assert line_of(printed, "A recompute that no run of this stack follows is under way.")
    assert line_of(printed, "✗ No run has started in time. The update is not lost")
    process = stack.start(*wanted)

    def attempted() -> bool:
        assert process.poll() is None, process.communicate()[0]
        (target,) = stack.document(0, "status", "--model", OTHER_MODEL)["targets"]
        return "failed so far" in " ".join(target["waiting"])

    eventually("an attempt", attempted)
    stack.behaves(OTHER_MODEL, SHORT)
    code, printed = ended(process)

    assert code == 0, printed
    assert line_of(printed, "✓ completed, ")
    assert stack.recomputes(OTHER_MODEL) == known + 2


def test_request_by_the_jobs_name_is_for_the_same_job(stack: Stack) -> None:
    name = JOBS[int(OTHER_JOB)].name
    stack.behaves(OTHER_MODEL, SHORT)
    wanted = ("recompute", "--job", name, "--wait", "--allow-not-judged")
    code, printed = stack.run(*wanted)  # the key may not look up names; the answer has the id
    assert code == 0, printed
    code, printed = stack.run(*wanted)
    assert code == 0, printed
    assert line_of(printed, f"job '{OTHER_JOB}', active model: requested.")

    scopes = [RECOMPUTE_SCOPE, READ_SCOPE, RESOURCES_SCOPE]
    stack.tell_platform("PUT", "api_keys", {API_KEY: {"scopes": scopes}})
    code, printed = stack.run(*wanted, "--model", OTHER_MODEL)
    stack.tell_platform("PUT", "api_keys", {API_KEY: {}})
    assert code == 0, printed
    by_name, by_id = stack.status("--job", name), stack.status("--job", OTHER_JOB)
    assert by_name.count("Last runs of") == by_id.count("Last runs of") >= 2


def test_request_without_wait_ends_once_it_is_recorded(stack: Stack) -> None:
    stack.behaves(MODEL, SHORT)
    known = stack.recomputes(MODEL)
    assert stack.document(0, "recompute", "--job", JOB, "--model", MODEL)["result"] == "requested"
    eventually("the recompute", lambda: stack.recomputes(MODEL) > known)


def test_typo_exits_with_2_names_the_nearest_name_and_writes_nothing(stack: Stack) -> None:
    scopes = [RECOMPUTE_SCOPE, READ_SCOPE, RESOURCES_SCOPE]
    before = stack.document(0, "status")
    stack.tell_platform("PUT", "api_keys", {API_KEY: {"scopes": scopes}})
    job = stack.run("recompute", "--job", "phising-triage", "--wait")
    model = stack.run("recompute", "--job", JOB, "--model", MODEL[:-1] + "6", "--wait")
    document = stack.document(2, "recompute", "--job", "phising-triage", "--wait")
    stack.tell_platform("PUT", "api_keys", {API_KEY: {}})

    assert (job[0], model[0]) == (2, 2)
    assert line_of(job[1], "✗ Arcanna does not take the job 'phising-triage'. Did you mean phishing-triage?")
    assert line_of(model[1], f"Did you mean {MODEL}?")
    assert "phishing-triage" in document["error"]["message"]
    after = stack.document(0, "status")
    assert [target["job_id"] for target in after["targets"]] == [t["job_id"] for t in before["targets"]]
    assert after["dead_letters"] == 0


def test_invalid_id_exits_with_2(stack: Stack) -> None:
    code, printed = stack.run("recompute", "--job", JOB, "--model", "x" * 300)
    assert code == 2
    assert line_of(printed, "✗ BadInput: model_id has 300 characters")


def test_output_to_a_pipe_closed_early_or_in_latin_1_causes_no_error(stack: Stack) -> None:
    environment = {**stack.variables, "ARCANNA_METRICS_STACK": "local"}
    listed = subprocess.run(  # noqa: S602
        f"set -o pipefail; '{COMMAND}' doctor | head -n 1",
        shell=True,
        executable="/bin/bash",
        env={**os.environ, **environment, "LC_ALL": "C", "PYTHONIOENCODING": "iso-8859-1"},
        capture_output=True,
        check=False,
    )
    assert listed.returncode == 0
    assert listed.stdout.startswith(b"  ok stack")
    assert b"Traceback" not in listed.stderr


# --- No access -------------------------------------------------------------------------------------------


def test_command_without_credentials_region_or_network_exits_with_7_and_says_what_to_type(
    stack: Stack,
) -> None:
    here = dict(stack.variables)
    without_keys = {name: here[name] for name in here if "KEY" not in name}
    without_region = {name: here[name] for name in here if "REGION" not in name}
    nobody = here | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    for variables, options, said, todo in (
        (without_keys, (), "There are no AWS credentials.", "aws sso login"),
        (without_region, (), "You must specify a region.", "--region eu-west-1"),
        (nobody, (), "AWS cannot be reached", "Check the network"),
        (here, ("--profile", "gone"), "The config profile (gone) could not be found", "list-profiles"),
        (here, ("--stack", "locale"), "There is no stack 'locale' in eu-west-1.", "Did you mean local?"),
    ):
        code, printed = ended(started(variables, "status", *options))
        assert code == 7
        assert line_of(printed, f"✗ {said}")
        assert line_of(printed, "To do: ", todo)


def test_refused_key_exits_with_7_and_nothing_is_requested(stack: Stack) -> None:
    known = stack.recomputes(MODEL)
    with secret(stack, "another-key"):
        document = stack.document(7, "recompute", "--job", JOB, "--model", MODEL, "--wait")
    assert "401" in document["error"]["message"]
    assert "another-key" not in json.dumps(document)
    assert stack.recomputes(MODEL) == known


# --- Accept and forget -----------------------------------------------------------------------------------


def upload(stack: Stack, job: str, model: str, name: str, escalate: float = 0.95) -> None:
    body = labelled_alerts(600, {"Drop": 0.95, "Investigate": 0.9, "Escalate": escalate}, seed=1)
    bucket = stack.output("TrainingDataBucket")
    stack.client("s3").put_object(Bucket=bucket, Key=f"training-data/{job}/{model}/{name}", Body=body)


def test_model_that_got_worse_exits_with_1_until_it_is_accepted(stack: Stack) -> None:
    model = ("--job", JOB, "--model", MODEL)
    follow = ("recompute", *model, "--wait", "--allow-not-judged")
    stack.behaves(MODEL, SHORT)
    upload(stack, JOB, MODEL, "1.csv")
    assert stack.run(*follow)[0] == 0
    upload(stack, JOB, MODEL, "2.csv", escalate=0.4)
    code, printed = stack.run(*follow)
    assert code == 1, printed
    assert line_of(printed, "✗ completed, regressed: ", "Escalate.recall ")
    assert re.search(r"regressed: Escalate\.recall \S+ -> \S+", stack.status(*model))

    code, printed = stack.run("accept", *model, typed="n\n")
    assert code == 0
    assert "Nothing was changed." in printed
    assert stack.document(2, "accept", *model)["done"] is False
    code, printed = stack.run("accept", *model, typed="y\n")
    assert code == 0, printed
    assert line_of(printed, "Escalate.recall", " -0.")
    assert line_of(printed, "✓ Accepted by arn:aws:")
    assert f"{MODEL} was accepted at " in stack.status(*model)
    code, printed = stack.run(*follow)
    assert code == 0, printed
    assert line_of(printed, "✓ completed, unchanged")


def test_unknown_model_cannot_be_accepted(stack: Stack) -> None:
    code, printed = stack.run("accept", "--job", JOB, "--model", "another")
    assert code == 2
    assert line_of(printed, "✗ The ledger does not know the model 'another'")


def test_mistyped_job_can_be_forgotten(stack: Stack) -> None:
    trigger = stack.output("TriggerRecomputeFunction")
    stack.client("lambda").invoke(FunctionName=trigger, Payload=json.dumps({"job_id": 4321}))
    eventually("its failure", lambda: "failed: Rejected" in stack.status("--job", "4321"))
    code, printed = stack.run("forget", "--job", "4321", typed="n\n")
    assert code == 0
    assert line_of(printed, "job '4321', active model: 1 run in its history")
    assert stack.document(0, "forget", "--job", "4321", "--yes")["done"]
    assert "'4321'" in stack.document(2, "status", "--job", "4321")["error"]["message"]
    code, printed = stack.run("forget", "--job", "4321", "--yes")
    assert code == 2


# --- Dead letters ----------------------------------------------------------------------------------------


def test_redrive_shows_dead_letters_by_reason_and_sends_all_but_sweeps_again(stack: Stack) -> None:
    sqs, url = stack.client("sqs"), stack.output("DeadLetterQueueUrl")
    # Written as by Lambda's failure destination. Here its retries take seconds, on AWS minutes.
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

    eventually("the dead letters", lambda: number() == 3)
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
    eventually("the recompute", lambda: stack.recomputes(MODEL) > known)
    assert number() == 2

    assert len(stack.document(0, "redrive", "--list")["dead_letters"]) == 2
    code, printed = stack.run("redrive", "--yes")
    assert code == 0
    assert line_of(printed, "1 message deleted: sweeps")
    assert line_of(printed, "1 message sent again")
    eventually("the dead letter", lambda: number() == 1)  # an invalid message becomes a dead letter again
    code, printed = stack.run("doctor")
    assert code == 1
    assert line_of(
        printed,
        "✗ dead letters",
        "1 message could not be understood or delivered. To do: arcanna-metrics redrive shows why",
    )
    assert "Dead letters: 1. They started no recompute" in stack.status()
    assert stack.document(0, "discard", "--reason", "BadInput", "--yes")["deleted"] == 1
    assert number() == 0


# --- The local stack -------------------------------------------------------------------------------------
# Before the tests that store settings, which stay in force for up to a minute after they are restored:
# uploads would follow their routes.


def arcanna(*arguments: str) -> None:
    """Runs `arcanna` in a shell that has read the file of `make local`."""
    script = '. build/e2e-operate.env && arcanna "$@"'
    subprocess.run(["/bin/sh", "-c", script, "sh", *arguments], check=True, timeout=PATIENCE)  # noqa: S603


def test_each_state_of_the_local_arcanna_has_its_effect_and_its_remedy(stack: Stack) -> None:
    def shows(what: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        def look() -> bool:
            targets = stack.document(0, "status", "--model", MODEL)[
                "targets"
            ]  # the active model is another one
            return any(holds(target) for target in targets if target["model_id"] == MODEL)

        eventually(what, look)

    def ends(what: str) -> None:
        began = to_iso(time.time())
        arcanna("upload", JOB, MODEL, *(["--worse"] if what == "regressed" else []))
        shows(
            what, lambda target: is_newer(target["last_run"], began) and what in target["last_run"].values()
        )

    def waits(how: str) -> None:
        arcanna(how)
        arcanna("upload", JOB, MODEL)
        shows(how, lambda target: "failed so far" in " ".join(target["waiting"]))

    arcanna("well")
    ends("completed")
    ends("regressed")
    arcanna("failing")
    ends("NoNewResult")
    for how in ("away", "busy", "key"):
        waits(how)
        arcanna(*(("secret", "rotated-key") if how == "key" else ("well",)))
        shows("the remedy", lambda target: target["fresh"])
    arcanna("slow")
    arcanna("upload", JOB, MODEL)
    shows("the slow run", lambda target: target["running"] is not None)
    arcanna("well")
    shows("its end", lambda target: target["fresh"])
    arcanna("secret", API_KEY)


def is_newer(run: Mapping[str, Any] | None, than: str) -> bool:
    """Whether there is a run that was requested later."""
    return run is not None and bool(run["requested_at"] > than)


# --- Settings --------------------------------------------------------------------------------------------


def test_settings_can_be_validated_stored_and_shown(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"routes": [{"targets": []}]}')
    wrong = stack.document(1, "settings", "validate", str(file))
    assert wrong["problems"][0].startswith("routes[1].targets") or "targets" in wrong["problems"][0]
    assert stack.document(1, "settings", "put", str(file), "--yes")["done"] is False

    before = stack.document(0, "settings", "show")["settings"]
    file.write_text(json.dumps(ROUTES))
    code, printed = stack.run("settings", "put", str(file), typed="y\n")
    after = stack.document(0, "settings", "show")["settings"]
    in_force = stack.document(0, "settings", "show", "--job", JOB)["in_force"]
    file.write_text(json.dumps(before))
    assert stack.document(0, "settings", "put", str(file), "--yes")["done"]
    assert code == 0, printed
    assert "✓ Stored." in printed
    assert after == ROUTES
    assert in_force["quality_gate"]["minimum_samples"] == 30


# --- Routes ----------------------------------------------------------------------------------------------


def test_route_shows_the_targets_of_a_key_by_the_deployed_settings(stack: Stack) -> None:
    code, printed = stack.run("route", f"training-data/{JOB}/{MODEL}/a b+c.csv")
    assert code == 0
    assert line_of(printed, "✓ Route by-path matches this key:")
    assert line_of(printed, f"job '{JOB}', model '{MODEL}'")
    assert "threshold" not in printed

    code, printed = stack.run("route", f"feedback/{JOB}/{MODEL}/1.csv")
    assert code == 0
    assert line_of(printed, "when this threshold is reached", '"objects": 5', '"max_wait_seconds": 3600')

    code, printed = stack.run("route", "elsewhere/a.csv")
    assert code == 1
    assert line_of(printed, "✗ No route matches this key")
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
    """Empties the training-data bucket and moves it to another region until the block ends."""
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
    "no way to the platform": (no_answers, ("✗ platform", "Check that http://127.0.0.1:", " right")),
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
        ("✗ sweep", "DISABLED: failed attempts are not retried"),
    ),
    "schedule": (
        lambda stack: schedule_disabled(stack, "RecomputeSchedule"),
        ("✗ schedule", "is DISABLED"),
    ),
}
"""Faults by name: what causes each, and parts of the line in which the doctor reports it."""


@pytest.mark.parametrize("name", WRONG)
def test_doctor_names_a_fault_and_its_remedy(stack: Stack, name: str) -> None:
    wrong, parts = WRONG[name]
    with wrong(stack):
        code, printed = stack.run("doctor")
    assert code == 1, printed
    line = line_of(printed, "✗")
    assert [part for part in (*parts, "To do: ") if part not in line] == [], line
    assert "another-key" not in printed


def test_doctor_of_a_working_stack_finds_no_fault(stack: Stack) -> None:
    with routes(stack, ROUTES):
        code, printed = stack.run("doctor")
        states = [check["state"] for check in stack.document(0, "doctor")["checks"]]
    assert code == 0, printed
    assert sorted(states) == ["good"] * 13 + ["warning"]
    marks = [line.split()[0] for line in printed.splitlines() if line.startswith("  ")]
    assert sorted(marks) == ["!"] + ["✓"] * 13
    assert line_of(printed, "! notifications", "To do: make deploy STACK=local EMAIL=you@example.com")
    assert line_of(printed, "targets", "Arcanna knows every target that the routes name (1)")
    assert line_of(printed, "✓ sweep", "every minute")


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "recompute --job 1",
        "accept --job 1 --model 2",
        "report",
        "redrive",
        "discard --reason a",
        "route a",
        "settings show",
        "forget --job 1",
        "doctor",
    ],
)
def test_missing_stack_exits_with_7(stack: Stack, command: str) -> None:
    code, printed = ended(stack.start(*command.split(), stack="none"))
    assert code == 7
    assert line_of(printed, "✗ There is no stack 'none' in eu-west-1.")


# --- The report ------------------------------------------------------------------------------------------


def test_report_is_written_or_served_until_an_interrupt(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    document = stack.document(0, "report", "-o", str(file))
    assert document["models"] == len(stack.document(0, "status")["targets"])
    assert "<h1>Model metrics</h1>" in file.read_text(encoding="utf-8")

    watching = stack.start("report", "--watch", "--refresh", "1")
    assert watching.stdout
    line = next(line for line in watching.stdout if "http" in line)
    url = line.split()[3]
    assert 'data-refresh="1.0"' in httpx.get(url, timeout=PATIENCE).text
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 421
    watching.send_signal(signal.SIGINT)
    assert ended(watching)[0] == 130
