"""The examples for pipelines can be deployed, and end as documented."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from arcanna_metrics.times import to_iso
from tests.support.deployment import ROOT
from tests.support.local_cloud import LocalCloud
from tests.support.waiting import eventually

EXAMPLES = ROOT / "events/examples"
WORKFLOW = yaml.safe_load((EXAMPLES / "github-actions.yaml").read_text())
TEMPLATES = ("codebuild.yaml", "step-functions.yaml")
UPDATES = "http://127.0.0.1/123456789012/updates"


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_valid(name: str) -> None:
    done = subprocess.run(  # noqa: S603
        [ROOT / ".venv/bin/cfn-lint", EXAMPLES / name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_example_is_named_in_the_readme() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"github-actions.yaml", *TEMPLATES}
    assert "events/examples" in (ROOT / "README.md").read_text()


# --- GitHub Actions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "ends", "says"),
    [
        (0, 0, ""),
        (1, 1, "::error::The model regressed: "),
        (2, 2, "::error::"),
        (3, 3, "::error::Not judged: "),
        (4, 4, "::error::"),
        (5, 5, "::error::No result in time."),
        (6, 6, "::error::No result in time."),
        (7, 7, "::error::"),
    ],
)
def test_workflow_goes_on_only_if_the_model_may_be_deployed(
    tmp_path: Path, status: int, ends: int, says: str
) -> None:
    *_, gate = WORKFLOW["jobs"]["gate"]["steps"]
    assert WORKFLOW["jobs"]["deploy"]["needs"] == "gate"
    for name, text in (
        ("arcanna-metrics", f"echo '{{}}'; echo \"$@\" >&2; exit {status}"),
        ("jq", "echo why"),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    done = subprocess.run(  # noqa: S603
        ["/bin/bash", "-e", "-o", "pipefail", "-c", gate["run"]],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_ID": "12 34", "GITHUB_STEP_SUMMARY": "summary"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.startswith(says)) == (ends, True)
    assert done.stderr.strip() == "recompute --job 12 34 --wait --timeout 30m --json"


# --- Step Functions --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    given = {
        "JobId": "1234",
        "UpdatesQueueUrl": UPDATES,
        "UpdatesQueueArn": "arn:aws:sqs:eu-west-1:123456789012:updates",
    }
    template = EXAMPLES / "step-functions.yaml"
    with LocalCloud(given, tmp_path_factory.mktemp("example"), template, minute=None) as cloud:
        cloud.client("sqs").create_queue(QueueName="updates")
        yield cloud


def outcome(name: str, requested_at: float, **detail: Any) -> dict[str, Any]:
    """An entry for PutEvents."""
    told = {"job_id": "1234", "model_id": "m", "active_model": True, "why": "why", **detail}
    told["requested_at"] = to_iso(requested_at)
    return {"Source": "arcanna.metrics", "DetailType": name, "Detail": json.dumps(told)}


@pytest.fixture
def gate(cloud: LocalCloud) -> "Gate":
    gate = Gate(cloud)
    gate.forget_outcomes()
    return gate


class Gate:
    """An execution of the state machine and its surroundings."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self.outcomes = cloud.physical_id("Outcomes")
        self._arn = ""

    def forget_outcomes(self) -> None:
        """Deletes leftover messages one by one, because SQS allows one purge a minute."""
        sqs = self._cloud.client("sqs")
        while found := sqs.receive_message(QueueUrl=self.outcomes, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                sqs.delete_message(QueueUrl=self.outcomes, ReceiptHandle=message["ReceiptHandle"])

    def start(self, **given: str) -> dict[str, Any]:
        """Starts an execution. Returns its request."""
        states, sqs = self._cloud.client("stepfunctions"), self._cloud.client("sqs")
        self._arn = states.start_execution(
            stateMachineArn=self._cloud.outputs["MetricsGate"],
            name=f"gate-{time.time_ns()}",
            input=json.dumps({"job_id": "1234", **given}),
        )["executionArn"]

        def request() -> list[Any]:
            return list(sqs.receive_message(QueueUrl=UPDATES).get("Messages", []))

        (message,) = eventually("the request", request)
        sqs.delete_message(QueueUrl=UPDATES, ReceiptHandle=message["ReceiptHandle"])
        asked: dict[str, Any] = json.loads(message["Body"])
        return asked

    def tell(self, *entries: dict[str, Any]) -> None:
        """Emits outcome events of the stack."""
        self._cloud.client("events").put_events(Entries=list(entries))

    def ended(self) -> tuple[str, str | None]:
        """The status and error of the ended execution."""
        states = self._cloud.client("stepfunctions")

        def found() -> dict[str, Any] | None:
            execution: dict[str, Any] = states.describe_execution(executionArn=self._arn)
            return None if execution["status"] == "RUNNING" else execution

        execution = eventually("the end", found)
        assert execution is not None
        return execution["status"], execution.get("error")


@pytest.mark.parametrize(
    ("name", "detail", "ending"),
    [
        ("Recompute Completed", {"verdict": "improved"}, ("SUCCEEDED", None)),
        ("Recompute Completed", {"verdict": "unchanged"}, ("SUCCEEDED", None)),
        ("Recompute Completed", {"verdict": "regressed"}, ("FAILED", "Regressed")),
        ("Recompute Completed", {"verdict": "not_judged"}, ("FAILED", "NotJudged")),
        ("Recompute Failed", {"detail": "It ended"}, ("FAILED", "RecomputeFailed")),
    ],
)
def test_state_machine_has_the_result_of_the_run_that_answers_its_request(
    gate: Gate, name: str, detail: dict[str, Any], ending: tuple[str, str | None]
) -> None:
    assert gate.start() == {"job_id": "1234"}
    gate.tell(outcome(name, time.time() + 1, **detail))
    assert gate.ended() == ending


def test_earlier_run_and_other_model_do_not_answer(gate: Gate) -> None:
    assert gate.start(model_id="m") == {"job_id": "1234", "model_id": "m"}
    now = time.time() + 1
    gate.tell(
        outcome("Recompute Completed", now - 3600, verdict="improved"),
        outcome("Recompute Completed", now, verdict="improved", model_id="another"),
        outcome("Recompute Completed", now, verdict="improved", job_id="77"),
        outcome("Model Metrics Regressed", now, verdict="improved"),
        outcome("Recompute Completed", now, verdict="regressed"),
    )
    assert gate.ended() == ("FAILED", "Regressed")


def test_run_of_another_model_does_not_answer_for_the_active_one(gate: Gate) -> None:
    gate.start()
    now = time.time() + 1
    gate.tell(
        outcome("Recompute Completed", now, verdict="unchanged", model_id="another", active_model=False),
        outcome("Recompute Completed", now, verdict="regressed"),
    )
    assert gate.ended() == ("FAILED", "Regressed")
