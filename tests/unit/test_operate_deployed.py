"""What the commands do to the queues of a stack, in moto: no dead letter is lost, whatever happens."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.slots import KEY as SLOTS
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli import executions, view
from arcanna_metrics_cli.__main__ import main
from arcanna_metrics_cli.deployed import Deployed, NotDeployed
from arcanna_metrics_cli.follow import Follower
from tests.support.doubles import MODEL, TARGET, Stack, client

NAME = "the-stack"


def deployed(stack: Stack, **outputs: str) -> Deployed:
    """A CloudFormation stack whose outputs name the resources."""
    named = {"UpdatesQueueUrl": stack.updates_url, "DeadLetterQueueUrl": stack.dead_letter_url, **outputs}
    template = {
        # Of a type that the local cloud does not create in moto's stead, should it be in this process.
        "Resources": {"Any": {"Type": "AWS::Kinesis::Stream", "Properties": {"ShardCount": 1}}},
        "Outputs": {name: {"Value": value} for name, value in named.items()},
    }
    cloudformation: Any = client("cloudformation")
    cloudformation.create_stack(StackName=NAME, TemplateBody=json.dumps(template))
    return Deployed(NAME)


def fill(stack: Stack, number: int) -> list[str]:
    """The bodies of so many new dead letters."""
    bodies = [json.dumps({"job_id": job_id}) for job_id in range(number)]
    for body in bodies:
        attributes: Any = {
            "reason": {"DataType": "String", "StringValue": "PlatformUnavailable"},
            "detail": {"DataType": "String", "StringValue": "no answer"},
        }
        stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody=body, MessageAttributes=attributes)
    return bodies


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["operate", *arguments, "--stack", NAME])
    return main()


def test_all_dead_letters_are_found_and_stay_where_they_are(stack: Stack) -> None:
    bodies = fill(stack, 25)
    it = deployed(stack)
    found = it.dead_letters()
    assert sorted(letter.update for letter in found) == sorted(bodies)
    assert {letter.reason for letter in found} == {"PlatformUnavailable"}
    assert it.messages("DeadLetterQueueUrl") == {"visible": 0, "delayed": 0, "in progress": 25}
    it.put_back(found)
    it.put_back(found)  # those that are visible already are no trouble
    assert it.messages("DeadLetterQueueUrl") == {"visible": 25, "delayed": 0, "in progress": 0}


def test_a_redrive_moves_all_of_them(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = fill(stack, 3)
    deployed(stack)
    assert run(monkeypatch, "redrive", "--yes") == 0
    assert stack.waiting() == [json.loads(body) for body in bodies]
    assert stack.dead_letters() == []


def test_what_cannot_be_sent_is_not_deleted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = fill(stack, 3)
    deployed(stack, UpdatesQueueUrl=stack.updates_url + "-gone")
    assert run(monkeypatch, "redrive", "--yes") == 2
    assert "queue" in capsys.readouterr().out
    assert sorted(body for body, _, _ in stack.dead_letters()) == sorted(bodies)


def test_only_the_reason_that_was_named_is_sent_again(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(stack, 2)
    stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody="something else")
    it = deployed(stack)
    assert run(monkeypatch, "redrive", "--yes", "--reason", "PlatformUnavailable") == 0
    assert len(stack.waiting()) == 2
    (left,) = it.dead_letters()  # visible at once
    assert left.update == "something else"


def test_a_stack_of_another_application_is_told_from_this_one(stack: Stack) -> None:
    with pytest.raises(NotDeployed, match="no output LedgerTable"):
        deployed(stack).entries()
    with pytest.raises(NotDeployed, match="no stack 'another'"):
        Deployed("another")


def test_a_redrive_drops_sweeps(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(stack, 1)
    stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody='{"sweep": true}')
    deployed(stack)
    assert run(monkeypatch, "redrive", "--yes") == 0
    assert stack.waiting() == [{"job_id": 0}]
    assert stack.dead_letters() == []
    assert "1 message deleted: sweeps" in capsys.readouterr().out


def test_the_bucket_s_region_is_looked_up_wherever_the_bucket_is(stack: Stack) -> None:
    s3 = boto3.client("s3", region_name="us-west-2")
    s3.create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    it = deployed(stack, TrainingDataBucket="far-away")
    assert (it.bucket_region(), it.region) == ("us-west-2", "eu-central-1")


def test_the_index_of_what_is_due_is_looked_up(stack: Stack) -> None:
    assert deployed(stack, LedgerTable=stack.ledger_table).index_status() == "ACTIVE"


# --- What a model is judged by ---------------------------------------------------------------------------

REFERENCE = {"model_id": MODEL.model_id, "figures": {"overall_accuracy": [0.9, 100]}}
ACTIVE = Target(MODEL.job_id, None)
ASKED = 1e9


def past(**changes: Any) -> Any:
    """A completed run that was requested at ASKED."""
    run = {"run_id": "one", "cause": "upload", "requested_at": to_iso(ASKED), "duration_seconds": 9.5}
    return {**run, "polls": 3, "verdict": "unchanged", "scores": {}, **changes}


def accept(stack: Stack, monkeypatch: pytest.MonkeyPatch, job: str = MODEL.job_id) -> int:
    deployed(stack, LedgerTable=stack.ledger_table)
    return run(monkeypatch, "accept", "--job", job, "--model", MODEL.model_id)


def test_an_accepted_model_is_judged_anew_also_as_the_active_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE, history=(past(),)))
    stack.put(Entry(ACTIVE, quality_reference=REFERENCE))
    assert accept(stack, monkeypatch) == 0
    assert stack.entry(TARGET).quality_reference is None
    assert stack.entry(TARGET).history == (past(),)
    assert stack.entry(ACTIVE).quality_reference is None


def test_the_reference_of_another_active_model_stays(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**REFERENCE, "model_id": "trained anew"}
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    stack.put(Entry(ACTIVE, quality_reference=other))
    assert accept(stack, monkeypatch) == 0
    assert stack.entry(ACTIVE).quality_reference == other


def test_a_model_that_is_only_known_as_the_active_one_can_be_accepted_by_its_job_s_name(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(Entry(Target("security-alerts", None), name_of=MODEL.job_id))
    stack.put(Entry(ACTIVE, quality_reference=REFERENCE))
    assert accept(stack, monkeypatch, "security-alerts") == 0
    assert stack.entry(ACTIVE).quality_reference is None


@pytest.mark.parametrize("target", [TARGET, ACTIVE])
def test_a_run_under_way_would_undo_it(stack: Stack, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    stack.put(Entry(target, quality_reference=REFERENCE, run_id="two", requested_at=1e9, due_at=2e9))
    assert accept(stack, monkeypatch) == 1
    assert stack.entry(target).quality_reference == REFERENCE


def test_a_model_that_is_not_known_cannot_be_accepted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accept(stack, monkeypatch) == 1
    assert "The ledger does not know this model" in capsys.readouterr().out


# --- How targets stand -----------------------------------------------------------------------------------


def test_the_status_has_one_row_for_each_target_and_none_for_the_slots(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(stack, LedgerTable=stack.ledger_table, RecomputeWorkflowArn=stack.workflow_arn)
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(),)))
    stack.put(Entry(ACTIVE, needed_as_of=2e9, run_id="two", requested_at=1e9, due_at=2e9))
    stack.put(Entry(Target("security-alerts", None), name_of=MODEL.job_id))
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item={**SLOTS, "takers": {"S": "[]"}})
    cause = {"first_at": to_iso(1e9), "updates": 1}
    stack.states.start_execution(
        stateMachineArn=stack.workflow_arn,
        name="two",
        input=json.dumps({"run": {"model_id": MODEL.model_id, "cause": cause}}),
    )
    monkeypatch.setattr(view.console, "width", 250)
    assert run(monkeypatch, "status") == 0
    printed = capsys.readouterr().out
    assert printed.count("job 1234") == 2
    assert printed.count("active model") == 1
    assert printed.count(MODEL.model_id) == 2
    assert "security-alerts" not in printed
    assert "and sweeps: 0 visible, 0 delayed, 0 in progress.\nDead letters: 0.\n" in printed


def test_the_status_of_a_job_by_its_name_is_that_of_its_id(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(stack, LedgerTable=stack.ledger_table, RecomputeWorkflowArn=stack.workflow_arn)
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(),)))
    stack.put(Entry(Target("77", None), fresh_as_of=1e9))
    stack.put(Entry(Target("security-alerts", None), name_of=MODEL.job_id))
    assert run(monkeypatch, "status", "--job", "security-alerts") == 0
    printed = capsys.readouterr().out
    assert "job 1234" in printed
    assert "job 77" not in printed
    assert run(monkeypatch, "status", "--job", "another") == 0
    assert "The ledger does not know this model" in capsys.readouterr().out


# --- A recompute by hand ---------------------------------------------------------------------------------


class Ledgers:
    """What the ledger holds at each look, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: Entry) -> None:
        self.now = ASKED
        self._looks = list(looks)
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(Deployed, "entry", lambda _, __: self._looks[0])
        monkeypatch.setattr(Deployed, "invoke_trigger", lambda _, event: self._invoked(event))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        if len(self._looks) > 1:
            self._looks.pop(0)

    def _invoked(self, event: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        return {"recorded": [{"model_id": None, **event, "updates": 1}]}, False


NEEDED = Entry(TARGET, rev=1, needed_as_of=ASKED, updates=1, due_at=ASKED)
RUNNING = replace(NEEDED, run_id="one", requested_at=ASKED, held=True)


def trigger(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> int:
    deployed(stack, LedgerTable=stack.ledger_table, RecomputeWorkflowArn=stack.workflow_arn)
    return run(monkeypatch, "trigger", "--job", MODEL.job_id, "--model", MODEL.model_id)


@pytest.mark.parametrize(("verdict", "code"), [("not_judged", 0), ("unchanged", 0), ("regressed", 1)])
def test_a_request_ends_as_the_run_does_that_answers_it(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    code: int,
) -> None:
    fresh = Entry(TARGET, rev=2, fresh_as_of=ASKED, history=(past(verdict=verdict),))
    Ledgers(monkeypatch, NEEDED, RUNNING, fresh)
    assert trigger(stack, monkeypatch) == code
    printed = capsys.readouterr().out
    assert "The run one is under way." in printed
    assert f"completed, {verdict}" in printed


def test_a_run_that_ends_before_the_first_look_answers_too(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = past(ended_at=to_iso(ASKED + 9), status="failed", reason="Rejected", detail="404: no such job")
    Ledgers(monkeypatch, Entry(TARGET, rev=2, failed_as_of=ASKED, last_failure=failure))
    assert trigger(stack, monkeypatch) == 1
    assert "✗ failed, Rejected: 404: no such job" in capsys.readouterr().out


def test_an_earlier_run_does_not_answer(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = replace(NEEDED, run_id="zero", requested_at=ASKED - 60, held=True)
    released = replace(NEEDED, fresh_as_of=ASKED - 60, due_at=ASKED + 3)
    ours = past(requested_at=to_iso(ASKED + 9))
    Ledgers(monkeypatch, earlier, released, Entry(TARGET, rev=5, fresh_as_of=ASKED + 9, history=(ours,)))
    assert trigger(stack, monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "Waiting for the end of the run under way, zero" in printed
    assert "runs of the target have a minimum interval" in printed


def test_a_request_that_nothing_comes_of_is_not_waited_for_without_an_end(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledgers = Ledgers(monkeypatch, replace(NEEDED, attempts=3, due_at=2e9))
    monkeypatch.setattr(Follower, "_tell_checks", lambda *_: None)
    ledgers.now = 2e9
    assert trigger(stack, monkeypatch) == 1
    printed = capsys.readouterr().out
    assert printed.count("3 attempts failed") == 1
    assert "The update waits: see make status" in printed


def test_a_run_that_is_resumed_is_followed_in_its_executions(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "one-1"):
        stack.states.start_execution(stateMachineArn=stack.workflow_arn, name=name, input="{}")
    fresh = Entry(TARGET, rev=4, fresh_as_of=ASKED, history=(past(),))
    Ledgers(monkeypatch, NEEDED, replace(RUNNING, resumed=1), fresh)
    monkeypatch.setattr(executions, "judgement", lambda execution: execution["name"])
    assert trigger(stack, monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "the run is resumed" in printed
    assert "✓ completed, unchanged: one-1" in printed


def test_routes_that_are_no_text_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "routes.json"
    file.write_bytes("{é".encode("latin-1"))
    assert run(monkeypatch, "route", "--key", "a", "--routes-file", str(file)) == 2
    assert "utf-8" in capsys.readouterr().out
