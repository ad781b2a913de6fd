"""What the commands do to the queues of a stack, in moto: no dead letter is lost, whatever happens."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer

from arcanna_metrics.times import from_iso, to_iso
from tests.doubles import MODEL, Stack, client
from tests.operate.__main__ import main
from tests.operate.deployed import Deployed, NotDeployed

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
    assert it.messages("DeadLetterQueueUrl") == {"visible": 0, "put off": 0, "in work": 25}
    it.put_back(found)
    it.put_back(found)  # those that are visible already are no trouble
    assert it.messages("DeadLetterQueueUrl") == {"visible": 25, "put off": 0, "in work": 0}


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
        deployed(stack).ledger(None, None)
    with pytest.raises(NotDeployed, match="no stack 'another'"):
        Deployed("another")


# --- What a model is judged by ---------------------------------------------------------------------------


def accept(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> int:
    deployed(stack, LedgerTable=stack.ledger_table)
    return run(monkeypatch, "accept", "--job", MODEL.job_id, "--model", MODEL.model_id)


def test_an_accepted_model_is_judged_anew_and_keeps_all_else(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put_item({"quality_reference": "{}", "last_outcome": "completed"})
    assert accept(stack, monkeypatch) == 0
    assert "quality_reference" not in stack.item()
    assert stack.item()["last_outcome"] == "completed"


@pytest.mark.parametrize(("lease", "code"), [(60.0, 1), (-60.0, 0)], ids=["under way", "died"])
def test_a_run_under_way_would_undo_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, lease: float, code: int
) -> None:
    lease_expires_at = to_iso(time.time() + lease)
    stack.put_item({"quality_reference": "{}", "run_id": "a", "lease_expires_at": lease_expires_at})
    assert accept(stack, monkeypatch) == code
    assert ("quality_reference" in stack.item()) == bool(code)


def test_a_model_that_is_not_known_cannot_be_accepted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accept(stack, monkeypatch) == 1
    assert "The ledger knows no such model" in capsys.readouterr().out


# --- A recompute by hand ---------------------------------------------------------------------------------


def completed_once(stack: Stack, verdict: str, **attributes: str) -> None:
    """A deployed stack whose ledger knows a completed run of the model, and these attributes."""
    deployed(stack, LedgerTable=stack.ledger_table)
    past = {"run_id": "one", "cause": "upload", "requested_at": to_iso(1e9), "duration_seconds": 9.5}
    past |= {"polls": 3, "verdict": verdict, "scores": {}}
    stack.put_item({"history": json.dumps([past]), "last_run_id": "one", **attributes})


@pytest.mark.parametrize(("verdict", "code"), [("not_judged", 0), ("unchanged", 0), ("regressed", 1)])
def test_what_is_covered_already_ends_as_the_run_did_that_covers_it(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    code: int,
) -> None:
    completed_once(stack, verdict)
    covered = {**MODEL._asdict(), "outcome": "covered", "detail": ""}
    monkeypatch.setattr(Deployed, "invoke_trigger", lambda _, __: ({"results": [covered]}, False))
    assert run(monkeypatch, "trigger", "--job", MODEL.job_id, "--model", MODEL.model_id) == code
    assert f"The last run: completed, {verdict}" in capsys.readouterr().out
    failure = {"run_id": "two", "cause": "upload", "requested_at": to_iso(1e9 + 60), "polls": 3}
    failure |= {"ended_at": to_iso(1e9 + 90), "status": "failed", "reason": "NeverStarted", "detail": ""}
    stack.dynamodb.update_item(
        TableName=stack.ledger_table,
        Key={"job_id": {"S": MODEL.job_id}, "model_id": {"S": MODEL.model_id}},
        UpdateExpression="SET last_failure = :failure",
        ExpressionAttributeValues={":failure": TypeSerializer().serialize(failure)},
    )
    assert run(monkeypatch, "trigger", "--job", MODEL.job_id, "--model", MODEL.model_id) == 1
    assert "The last run: failed, NeverStarted" in capsys.readouterr().out


def test_a_request_that_has_to_settle_is_made_again_and_not_taken_for_another_s_run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    completed_once(stack, "unchanged")
    asked: list[dict[str, Any]] = []

    def invoke(_: Deployed, event: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        asked.append(dict(event))
        outcome = "settling" if len(asked) == 1 else "covered"
        return {"results": [{**MODEL._asdict(), "outcome": outcome, "detail": ""}]}, False

    monkeypatch.setattr(Deployed, "invoke_trigger", invoke)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert run(monkeypatch, "trigger", "--job", MODEL.job_id, "--model", MODEL.model_id) == 0
    assert "happened_at" not in asked[0]
    assert from_iso(asked[1]["happened_at"]) == pytest.approx(time.time(), abs=60)
    assert "The last run: completed" in capsys.readouterr().out


def test_a_claim_that_is_no_run_yet_is_not_followed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lease_expires_at = to_iso(time.time() + 60)
    completed_once(stack, "unchanged", run_id="two", lease_expires_at=lease_expires_at)
    covered = {**MODEL._asdict(), "outcome": "covered", "detail": ""}
    monkeypatch.setattr(Deployed, "invoke_trigger", lambda _, __: ({"results": [covered]}, False))
    assert run(monkeypatch, "trigger", "--job", MODEL.job_id, "--model", MODEL.model_id) == 0
    assert "The last run: completed" in capsys.readouterr().out


def test_routes_that_are_no_text_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "routes.json"
    file.write_bytes("{é".encode("latin-1"))
    assert run(monkeypatch, "route", "--key", "a", "--routes-file", str(file)) == 2
    assert "utf-8" in capsys.readouterr().out
