"""The commands on a stack in moto: their effects, exit statuses and documents."""

import errno
import io
import json
import shlex
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import click
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from arcanna_metrics.protocol.entry import Claim, Entry, Waiting
from arcanna_metrics.protocol.ledger import to_item
from arcanna_metrics.protocol.slots import KEY as SLOTS
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics_cli import executions, output
from arcanna_metrics_cli.checks import Check
from arcanna_metrics_cli.command_line import CHANGING, Given, cli, main
from arcanna_metrics_cli.commands import doctor
from arcanna_metrics_cli.commands.settings import LARGEST
from arcanna_metrics_cli.deployed import Deployed, NotDeployed, session
from arcanna_metrics_cli.executions import Told
from arcanna_metrics_cli.exits import Trouble
from arcanna_metrics_cli.follow import SLACK, Follower
from arcanna_metrics_cli.output import Output
from tests.support import command
from tests.support.command import Ended, Terminal
from tests.support.deployment import ROOT
from tests.support.doubles import MODEL, TARGET, Stack, client, metrics_body
from tests.support.waiting import eventually
from tests.unit.deployed_stack import NAME, deployed, fill, run

ACCOUNT = "123456789012"


ASKING = (
    f"accept --job {MODEL.job_id} --model {MODEL.model_id}",
    "redrive",
    "discard",
    "discard --reason PlatformUnavailable",
    "settings put settings.json",
    f"forget --job {MODEL.job_id}",
)
"""The commands that ask before they change something, see `changeable`."""


def changeable(stack: Stack, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Prepares a stack and a working directory in which ASKING have something to change."""
    fill(stack, 1)
    stack.put(Entry(TARGET, rev=1, quality_reference=REFERENCE))
    deployed(stack)
    looked_up(monkeypatch)
    (folder / "settings.json").write_text('{"pace": {"slots": 3}}')
    monkeypatch.chdir(folder)


def test_all_dead_letters_are_read_and_can_be_put_back(stack: Stack) -> None:
    bodies = fill(stack, 25)
    it = deployed(stack)
    found = it.dead_letters()
    assert sorted(letter.update for letter in found) == sorted(bodies)
    assert {letter.reason for letter in found} == {"PlatformUnavailable"}
    assert it.messages("DeadLetterQueueUrl") == {"visible": 0, "delayed": 0, "in progress": 25}
    it.put_back(found)
    it.put_back(found)  # already visible messages cause no error
    assert it.messages("DeadLetterQueueUrl") == {"visible": 25, "delayed": 0, "in progress": 0}


def test_redrive_sends_all_dead_letters_again(stack: Stack) -> None:
    bodies = fill(stack, 3)
    deployed(stack)
    assert run("redrive", "--yes").status == 0
    assert stack.waiting() == [json.loads(body) for body in bodies]
    assert stack.dead_letters() == []


def test_dead_letter_that_cannot_be_sent_is_not_deleted(stack: Stack) -> None:
    bodies = fill(stack, 3)
    deployed(stack, UpdatesQueueUrl=stack.updates_url + "-gone")
    ended = run("redrive", "--yes")
    assert ended.status == 7
    assert "queue" in ended.stderr
    assert sorted(body for body, _, _ in stack.dead_letters()) == sorted(bodies)


def test_redrive_by_reason_sends_only_its_dead_letters_again(stack: Stack) -> None:
    fill(stack, 2)
    stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody="something else")
    it = deployed(stack)
    assert run("redrive", "--yes", "--reason", "PlatformUnavailable").status == 0
    assert len(stack.waiting()) == 2
    (left,) = it.dead_letters()  # visible at once
    assert left.update == "something else"


@pytest.mark.parametrize("name", ["redrive", "discard"])
def test_reason_without_dead_letters_is_answered_with_those_that_have_some(stack: Stack, name: str) -> None:
    deployed(stack)
    assert "There are no dead letters with the reason Any.\n" in run(name, "--reason", "Any").stdout
    fill(stack, 1)
    stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody="something else")
    found = run(name, "--reason", "PlatformUnreachable")
    assert (
        "There are no dead letters with the reason PlatformUnreachable. Did you mean PlatformUnavailable?"
        in found.stdout
    )


@pytest.mark.parametrize("name", ["redrive", "discard"])
def test_reason_is_found_in_any_case(stack: Stack, name: str) -> None:
    deployed(stack)
    fill(stack, 2)
    assert run(name, "--reason", "platformunavailable", "--yes").status == 0
    assert stack.dead_letters() == []


def test_unknown_stack_or_stack_without_the_outputs_is_not_deployed(stack: Stack) -> None:
    with pytest.raises(NotDeployed, match="no output ApiKeySecretArn"):
        deployed(stack).output("ApiKeySecretArn")
    with pytest.raises(NotDeployed, match="no stack 'the-stock'") as raised:
        Deployed("the-stock")
    assert raised.value.todo.startswith("Did you mean the-stack? --stack NAME")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-central-1"}, "eu-central-1"),
        ({}, None),
    ],
)
def test_region_is_that_of_the_shell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(boto3, "Session", boto3.session.Session)  # shared ones have their region already
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert session().region_name == expected
    assert session("eu-north-1").region_name == "eu-north-1"


@pytest.mark.parametrize("address", ["localhost:4566", "http://[::1"])
def test_invalid_endpoint_exits_with_7(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(boto3, "Session", boto3.session.Session)  # shared ones have their clients already
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    ended = run("status")
    assert ended.status == 7
    assert "✗ AWS's client for cloudformation cannot be set up: " in ended.stderr
    assert "To do: Check AWS_ENDPOINT_URL" in ended.stderr


def test_invalid_endpoint_of_the_functions_exits_with_7(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(stack, TriggerRecomputeFunction="f")
    monkeypatch.setattr(boto3, "Session", boto3.session.Session)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "localhost:3001")
    ended = run("recompute", "--job", "1234")
    assert (ended.status, "AWS's client for lambda cannot be set up" in ended.stderr) == (7, True)


def test_invalid_region_exits_with_7() -> None:
    ended = run("status", "--region", "eu west")
    assert (ended.status, "To do: Add --region eu-west-1" in ended.stderr) == (7, True)


@pytest.mark.parametrize(
    ("arguments", "todo"),
    [
        (("recompute", "--wait", "--job"), "arcanna-metrics recompute --help"),
        (("recompute", "--wait"), "arcanna-metrics recompute --help"),
        (("status", "--job=1", "--watch=5"), "arcanna-metrics status --help"),
        (("settings", "show", "--job"), "arcanna-metrics settings show --help"),
    ],
)
def test_wrong_option_is_answered_with_the_help_of_its_command(arguments: tuple[str, ...], todo: str) -> None:
    ended = command.run(*arguments)
    assert (ended.status, ended.stderr.splitlines()[-1]) == (2, f"  To do: type {todo}.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--region", "us-west-2", "status"),
            "--region comes after the command: arcanna-metrics status --region",
        ),
        (("--json", "status"), "--json comes after the command: arcanna-metrics status --json"),
        (
            ("settings", "--stack=s", "show"),
            "--stack comes after the command: arcanna-metrics settings show --st",
        ),
        (("--verison",), "No such option: --verison Did you mean --version?"),
    ],
)
def test_option_before_its_command_is_answered_with_its_place(arguments: tuple[str, ...], said: str) -> None:
    ended = command.run(*arguments)
    assert (ended.status, ended.stderr.startswith(f"✗ {said}")) == (2, True)


def test_name_that_is_not_utf_8_exits_with_2(stack: Stack) -> None:
    ended = command.run("status", "--stack", "\udcff")
    assert (ended.status, "'\\udcff'" in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (Given("arcanna-metrics", None, None), ["--stack", "arcanna-metrics"]),
        (
            Given("prod", "eu-west-1", "O'Neill & sons"),
            ["--stack", "prod", "--region", "eu-west-1", "--profile", "O'Neill & sons"],
        ),
    ],
)
def test_command_to_copy_has_the_options_of_the_one_that_prints_it(given: Given, options: list[str]) -> None:
    assert shlex.split(given.options) == options


@pytest.mark.parametrize("line", ASKING)
def test_question_before_a_change_names_the_chosen_stack(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    changeable(stack, monkeypatch, tmp_path)
    ended = run(*line.split(), typed="n\n" * 2)
    assert ended.status == 0
    asked = [question for question in ended.stderr.splitlines() if "[y/N]" in question]
    assert asked
    assert all(f"Stack {NAME} in eu-central-1: " in question for question in asked)


def test_question_about_the_default_stack_is_short() -> None:
    stderr = io.StringIO()
    assert Given("arcanna-metrics", None, None, Output(None, stderr, io.StringIO("y\n"))).ask("Sure?")
    assert stderr.getvalue() == "Sure? [y/N] "


def test_redrive_deletes_sweeps(stack: Stack) -> None:
    fill(stack, 1)
    stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody='{"sweep": true}')
    deployed(stack)
    ended = run("redrive", "--yes")
    assert ended.status == 0
    assert stack.waiting() == [{"job_id": 0}]
    assert stack.dead_letters() == []
    assert "1 message deleted: sweeps" in ended.stdout


def test_unconfirmed_redrive_sends_and_hides_nothing(stack: Stack) -> None:
    fill(stack, 3)
    it = deployed(stack)
    for arguments, status in ((("redrive",), 0), (("redrive", "--list"), 0), (("redrive", "--json"), 2)):
        assert run(*arguments, typed="n\n").status == status
        assert it.messages("DeadLetterQueueUrl")["visible"] == 3
    assert stack.waiting() == []
    listed = run("redrive", "--json", "--list").document
    assert (len(listed["dead_letters"]), listed["done"]) == (3, False)


@pytest.mark.parametrize("arguments", [("redrive",), ("discard", "--reason", "PlatformUnavailable")])
def test_dead_letters_stay_hidden_from_other_readers_while_somebody_decides(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    # SQS deletes a message only by its latest handle, which each reader makes anew.
    monkeypatch.setattr("arcanna_metrics_cli.deployed.PEEK", 1)
    fill(stack, 2)
    it = deployed(stack)

    others: list[Ended] = []

    def ponder(*_: object) -> bool:
        later = int(time.time() + 600) * 1000
        monkeypatch.setattr("moto.sqs.models.unix_time_millis", lambda: later)
        others.append(run("redrive", "--list"))
        return True

    monkeypatch.setattr(Output, "ask", ponder)
    run(*arguments)
    assert "2 messages are hidden" in others[0].stderr
    assert it.messages("DeadLetterQueueUrl") == {"visible": 0, "delayed": 0, "in progress": 0}
    assert "hidden" not in run("redrive", "--list").stderr


@pytest.mark.parametrize("arguments", [("redrive", "--list"), ("discard",)])
def test_control_characters_of_a_dead_letter_are_escaped(stack: Stack, arguments: tuple[str, ...]) -> None:
    deployed(stack)
    record = {
        "requestContext": {},
        "requestPayload": {"job_id": "7"},
        "responsePayload": {"errorType": "E\x1b]0;title\x07", "errorMessage": "bad\x1b[2J\x9b2J\x7f\u202e"},
    }
    stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody=json.dumps(record))
    printed = run(*arguments, typed="n\n").printed

    assert r"bad\u001b[2J\u009b2J\u007f\u202e" in printed
    assert {char for char in printed if unicodedata.category(char) in ("Cc", "Cf")} == {"\n"}


def test_confirmed_discard_by_reason_deletes_only_its_dead_letters(stack: Stack) -> None:
    fill(stack, 2)
    stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody="something else")
    it = deployed(stack)
    assert run("discard", "--reason", "PlatformUnavailable", typed="\n").status == 0
    assert it.messages("DeadLetterQueueUrl")["visible"] == 3
    assert run("discard", "--reason", "PlatformUnavailable", "--json").status == 2
    ended = run("discard", "--reason", "PlatformUnavailable", "--json", "--yes")
    assert (ended.status, ended.document["deleted"]) == (0, 2)
    assert [letter.update for letter in it.dead_letters()] == ["something else"]
    assert stack.waiting() == []


def test_discard_without_a_reason_asks_about_each_dead_letter(stack: Stack) -> None:
    bodies = fill(stack, 3)
    it = deployed(stack)
    ended = run("discard", typed="y\nn\ny\n")
    assert ended.status == 0
    assert all(body in ended.stdout for body in bodies)
    (left,) = it.dead_letters()
    it.put_back([left])
    assert run("discard", "--yes").status == run("discard", "--json").status == 2
    assert run("discard", "--id", "another", "--yes").status == 0
    assert run("discard", "--id", left.id, "--yes", "--json").document["deleted"] == 1
    assert it.dead_letters() == []


def test_bucket_in_another_region_is_found_with_its_region(stack: Stack) -> None:
    s3 = boto3.client("s3", region_name="us-west-2")
    s3.create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    it = deployed(stack, TrainingDataBucket="far-away")
    assert (it.bucket_region(), it.region) == ("us-west-2", "eu-central-1")


@pytest.mark.parametrize(
    ("check", "mark", "status"),
    [
        (Check("bucket", "Its events arrive"), "✓", 0),
        (Check("bucket", "It is empty", "Upload", warning=True), "!", 0),
        (Check("bucket", "It is gone", "Create it"), "✗", 1),
    ],
)
def test_doctor_exits_with_1_only_if_something_is_wrong(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, check: Check, mark: str, status: int
) -> None:
    deployed(stack, ApiKeySecretArn="arn:aws:secretsmanager:eu-central-1:1:secret:key-a1b2c3")
    monkeypatch.setattr(doctor, "looks", lambda _: {"bucket": lambda: [check]})
    printed, told = run("doctor"), run("doctor", "--json")

    assert (printed.status, told.status) == (status, status)
    assert printed.stdout.split()[:2] == [mark, "bucket"]
    assert ("To do" in printed.stdout) == bool(check.remedy)
    assert [each["state"] for each in told.document["checks"]] == [check.state]


def test_doctor_warns_of_routes_that_ignore_uploads_unless_the_settings_are_invalid(stack: Stack) -> None:
    it = deployed(stack, **dict.fromkeys(MORE_OUTPUTS, "arn:aws:any:eu-central-1:1:any:any"))
    look = doctor.looks(it)["routes"]
    stack.write_settings({})
    assert [check.state for check in look()] == ["good"]
    stack.write_settings({"routes": []})
    (check,) = look()
    assert (check.state, NO_KEYS in check.said) == ("warning", True)
    stack.write_settings({"routes": {}})
    assert look() == []  # the trigger's own check says so


def test_index_of_due_targets_is_found_with_its_status(stack: Stack) -> None:
    assert deployed(stack).index_status() == "ACTIVE"


WORDY = (
    "status",
    f"status --job {MODEL.job_id}",
    "report --output page.html",
    f"recompute --job {MODEL.job_id} --model {MODEL.model_id} --wait",
    f"accept --job {MODEL.job_id} --yes",
    "redrive --yes",
    "discard --reason PlatformUnavailable --yes",
    "route training-data/7/a.csv",
    "settings show",
    "settings put settings.json --yes",
    f"forget --job {MODEL.job_id} --yes",
    "doctor",
)


@pytest.mark.parametrize("line", WORDY)
def test_every_slow_call_to_aws_is_announced(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    """Every call to AWS lasts until the command announces it."""
    fill(stack, 2)
    stack.put(Entry(TARGET, rev=1, fresh_as_of=2e9, quality_reference=REFERENCE, history=(past(),)))
    deployed(stack, **dict.fromkeys(MORE_OUTPUTS, "arn:aws:any:eu-central-1:1:any:any"))
    (tmp_path / "settings.json").write_text('{"pace": {"slots": 3}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output, "PATIENCE", 0.01)
    stderr = Terminal()
    calls: list[str] = []
    silent: list[str] = []
    answered: Any = vars(BaseClient)["_make_api_call"]

    def slow(client: BaseClient, operation: str, given: Any) -> Any:
        calls.append(operation)
        try:
            eventually("a word", lambda: stderr.last_line.endswith("..."), 10)
        except TimeoutError:  # raised, the command would explain it
            silent.append(operation)
        if operation == "Invoke":  # there is no trigger to answer
            event = json.loads(given["Payload"])
            answer: Any = {
                "reason": None,
                "recomputing": True,
                "model_id": MODEL.model_id,
                "metrics": {},
                "findings": [],
            }
            recorded = {"recorded": [{**TARGET._asdict(), "updates": 1}]}
            return {"Payload": io.BytesIO(json.dumps(answer if "preflight" in event else recorded).encode())}
        return answered(client, operation, given)

    monkeypatch.setattr(BaseClient, "_make_api_call", slow)
    main([*line.split(), "--stack", NAME], Output(io.StringIO(), stderr, io.StringIO()))

    assert len(set(calls)) > 1
    assert silent == []


MORE_OUTPUTS = (
    "UpdatesQueueArn",
    "ApiKeySecretArn",
    "TrainingDataBucket",
    "TriggerRecomputeFunction",
    "NotificationTopicArn",
)


# --- Accepting a model -----------------------------------------------------------------------------------

REFERENCE: Any = {"overall_accuracy": [0.9, 100]}
NOW_SHOWN: Any = {"overall_accuracy": [0.75, 4]}
ACTIVE = Target(MODEL.job_id, None)
ASKED = 1e9


def past(**changes: Any) -> Any:
    """A completed run that was requested at ASKED."""
    run = {"run_id": "one", "model_id": MODEL.model_id, "cause": "upload", "requested_at": to_iso(ASKED)}
    return {**run, "duration_seconds": 9.5, "polls": 3, "verdict": "unchanged", "scores": {}, **changes}


def looked_up(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Mapping[str, Any]]:
    """Replaces the trigger by one that finds the target at Arcanna. Returns the events that it receives."""
    found = {
        "reason": None,
        "detail": "Arcanna knows the model",
        "recomputing": False,
        "model_id": MODEL.model_id,
        "metrics": metrics_body(),
        "unknown": None,
        "known": [],
        **changes,
    }
    invoked: list[Mapping[str, Any]] = []

    def answer(_: Deployed, event: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        invoked.append(event)
        return found, "errorType" in changes

    monkeypatch.setattr(Deployed, "invoke_trigger", answer)
    return invoked


def accept(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, *options: str, job: str = MODEL.job_id, typed: str = "y\n"
) -> Ended:
    deployed(stack)
    looked_up(monkeypatch)
    return run("accept", "--job", job, "--model", MODEL.model_id, *options, typed=typed)


def test_accepted_figures_become_the_reference(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    reference: Any = {**REFERENCE, "Gone.recall": [0.9, 100]}
    stack.put(Entry(TARGET, quality_reference=reference, history=(past(),)))
    ended = accept(stack, monkeypatch)
    assert ended.status == 0
    assert stack.entry(TARGET).quality_reference == NOW_SHOWN
    assert stack.entry(TARGET).history == (past(),)
    row = next(line for line in ended.stdout.splitlines() if "overall_accuracy" in line)
    assert row.split() == ["overall_accuracy", "0.900", "0.750", "-0.150"]


def test_acceptance_is_kept_with_its_author_and_time(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    stack.put(Entry(ACTIVE, history=(past(),)))
    document = accept(stack, monkeypatch, "--json", "--yes").document
    accepted = stack.entry(TARGET).accepted
    assert accepted is not None
    assert accepted["by"].startswith(f"arn:aws:sts::{ACCOUNT}:")
    assert time.time() - 60 < from_iso(accepted["at"]) <= time.time() + 1
    assert document["accepted"] == {"by": accepted["by"], "at": accepted["at"]}
    assert document["figures"] == [
        {"name": "overall_accuracy", "before": 0.9, "after": 0.75, "change": -0.15}
    ]
    shown = run("status", "--job", MODEL.job_id)
    assert f"by {accepted['by']}" in shown.stdout


@pytest.mark.parametrize("ahead", [600, -600], ids=["ahead", "behind"])
def test_acceptance_has_awss_time_if_the_clock_here_is_wrong(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    right = time.time
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    monkeypatch.setattr(time, "time", lambda: right() + ahead)
    assert accept(stack, monkeypatch).status == 0
    accepted = stack.entry(TARGET).accepted
    assert accepted is not None
    assert abs(from_iso(accepted["at"]) - right()) < 60


def test_run_that_ends_while_the_question_waits_is_not_accepted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE))

    def ponder(*_: object) -> bool:
        ended, later = time.time() + 60, time.time() + 600
        worse = past(requested_at=to_iso(ended), verdict="regressed")
        stack.put(replace(stack.entry(TARGET), history=(worse,)))
        monkeypatch.setattr(time, "time", lambda: later)
        monkeypatch.setattr("moto.core.responses.utcnow", lambda: datetime.fromtimestamp(later, UTC))
        return True

    monkeypatch.setattr(Output, "ask", ponder)
    assert accept(stack, monkeypatch).status == 0
    assert stack.entry(TARGET).quality_reference == NOW_SHOWN
    assert "accepted since" not in run("status", width=250).stdout


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--json",), 2)])
def test_unconfirmed_model_is_not_accepted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], status: int
) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    assert accept(stack, monkeypatch, *options, typed="\n").status == status
    assert stack.entry(TARGET).quality_reference == REFERENCE


def test_model_is_accepted_by_its_jobs_name(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.put(Entry(Target("security-alerts", None), name_of=MODEL.job_id))
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    assert accept(stack, monkeypatch, job="security-alerts").status == 0
    assert stack.entry(TARGET).quality_reference == NOW_SHOWN


def test_model_that_is_not_active_any_more_is_shown_if_it_is_named(stack: Stack) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    stack.put(Entry(ACTIVE, fresh_as_of=ASKED, history=(past(model_id="trained anew"),)))
    deployed(stack)
    assert MODEL.model_id not in run("status", "--job", MODEL.job_id).stdout
    shown = run("status", "--model", MODEL.model_id, "--json").document["targets"]
    assert [(row["model_id"], row["why"]) for row in shown] == [(MODEL.model_id, "no run by its id yet")]


def test_model_can_be_accepted_during_a_run(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim("two", 1e9)
    stack.put(Entry(TARGET, claim=claim, quality_reference=REFERENCE, due_at=2e9))
    assert accept(stack, monkeypatch).status == 0
    entry = stack.entry(TARGET)
    assert (entry.claim, entry.quality_reference) == (claim, NOW_SHOWN)


def test_figures_that_arcanna_does_not_show_are_not_accepted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: Any = {"Drop.recall": [0.9, 100]}
    stack.put(Entry(TARGET, quality_reference=other))
    looked_up(monkeypatch)
    assert accept(stack, monkeypatch, "--yes").status == 6
    assert stack.entry(TARGET).quality_reference == other


def test_active_model_without_a_reference_has_nothing_to_accept(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(Entry(ACTIVE, fresh_as_of=1e9, history=(past(model_id=MODEL.model_id),)))
    ended = accept(stack, monkeypatch)
    assert ended.status == 0
    assert "There is nothing to accept" in ended.stdout


def test_model_that_arcanna_does_not_know_is_no_reason_to_try_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(stack)
    unknown = {"reason": "Rejected", "detail": "404 no such job"}
    monkeypatch.setattr(Deployed, "invoke_trigger", lambda *_: (unknown, False))
    ended = run("accept", "--job", "security-alert")
    assert (ended.status, "try again" in ended.stderr) == (2, False)
    assert "404 no such job" in ended.stderr


def test_unknown_model_cannot_be_accepted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    known = MODEL.model_id.replace("1747385873", "1747385874")
    stack.put(Entry(Target(MODEL.job_id, known), rev=1))
    ended = accept(stack, monkeypatch)
    assert ended.status == 2
    assert "The ledger does not know the model" in ended.stderr
    assert f"Did you mean {known}?" in ended.stderr


def test_acceptance_without_a_model_is_for_the_active_one_as_arcanna_shows_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    stack.put(Entry(ACTIVE, history=(past(model_id="active before"),)))
    deployed(stack)
    looked_up(monkeypatch)
    ended = run("accept", "--job", MODEL.job_id, "--yes", "--json")
    assert (ended.status, ended.document["model_id"]) == (0, MODEL.model_id)
    assert stack.entry(TARGET).quality_reference == NOW_SHOWN


def test_acceptance_without_a_model_is_refused_for_a_job_without_an_active_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    deployed(stack)
    asked = looked_up(monkeypatch, reason="Rejected", detail="Job '1234' has no active model", metrics=None)
    ended = run("accept", "--job", MODEL.job_id, "--yes")
    assert (ended.status, "has no active model" in ended.stderr) == (2, True)
    assert asked == [{"preflight": ACTIVE._asdict()}]
    assert stack.entry(TARGET).quality_reference == REFERENCE


@pytest.mark.parametrize("command", [("status",), ("accept", "--yes"), ("forget", "--yes")])
def test_job_id_with_leading_zeros_is_the_job_without_them(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    stack.put(Entry(TARGET, rev=1, history=(past(),)))
    deployed(stack)
    looked_up(monkeypatch)
    ended = run(*command, "--job", f"00{MODEL.job_id}", "--json")
    assert ended.status == 0
    assert MODEL.job_id in ended.stdout
    assert f"00{MODEL.job_id}" not in ended.stdout


@pytest.mark.parametrize("options", [(), ("--yes",), ("--yes", "--json")])
@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"reason": "PlatformUnavailable", "detail": "no answer", "metrics": None}, 6),
        ({"reason": "Unauthorised", "detail": "401", "metrics": None}, 7),
        ({"reason": "Rejected", "detail": "404", "metrics": None}, 2),
        ({"errorType": "Sandbox.Timedout", "errorMessage": "timed out"}, 6),
    ],
)
def test_model_whose_figures_arcanna_does_not_show_is_not_accepted(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    found: dict[str, Any],
    status: int,
) -> None:
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    deployed(stack)
    looked_up(monkeypatch, **found)
    ended = run("accept", "--job", MODEL.job_id, "--model", MODEL.model_id, *options, typed="y\n")
    assert ended.status == status
    assert "Arcanna does not show the model's current figures: " in ended.stderr
    assert stack.entry(TARGET).quality_reference == REFERENCE


def test_unknown_model_is_answered_with_models_of_its_own_job_only(stack: Stack) -> None:
    stack.put(Entry(Target("77", "z-of-77"), rev=1))
    stack.put(Entry(Target(MODEL.job_id, "y-of-1234"), rev=1))
    deployed(stack)
    ended = run("accept", "--job", "77", "--model", "z-of-7")
    assert (ended.status, "Did you mean z-of-77?" in ended.stderr) == (2, True)
    ended = run("accept", "--job", "77", "--model", "y-of-1234")
    assert (ended.status, "There is only z-of-77." in ended.stderr) == (2, True)
    ended = run("accept", "--job", "1243", "--model", "y-of-1234")
    assert (ended.status, "Did you mean 1234?" in ended.stderr) == (2, True)


@pytest.mark.parametrize("command", [("recompute",), ("accept", "--yes"), ("settings", "show")])
def test_unknown_name_exits_with_2_although_the_ledger_cannot_be_searched_for_a_similar_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    stack.put(Entry(TARGET, rev=1))
    deployed(stack)
    looked_up(monkeypatch, reason="Rejected", detail="404: no such job", unknown="job")
    answered: Any = vars(BaseClient)["_make_api_call"]

    def only_get(client: BaseClient, operation: str, given: Any) -> Any:
        if operation == "Scan":
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, operation)
        return answered(client, operation, given)

    monkeypatch.setattr(BaseClient, "_make_api_call", only_get)
    model = () if command[0] == "settings" else ("--model", "m")
    ended = run(*command, "--job", "phishing", *model)
    assert (ended.status, "phishing" in ended.stderr) == (2, True)


def test_model_without_a_reference_needs_no_acceptance(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.put(Entry(TARGET, rev=1, history=(past(),)))
    ended = accept(stack, monkeypatch, "--json")
    assert (ended.status, ended.document["done"]) == (0, False)


# --- Forgetting targets ----------------------------------------------------------------------------------

MAILBOX = Target("security-alerts", None)


def forget(stack: Stack, *options: str, typed: str = "y\n") -> Ended:
    stack.put(Entry(TARGET, rev=3, quality_reference=REFERENCE, history=(past(),)))
    stack.put(Entry(ACTIVE, waiting=Waiting(needed_as_of=2e9, updates=2), rev=2, due_at=2e9))
    stack.put(Entry(MAILBOX, rev=1, name_of=MODEL.job_id))
    stack.put(Entry(Target("77", None), rev=1))
    deployed(stack)
    return run("forget", *options, typed=typed)


def left(stack: Stack) -> set[Target]:
    return {entry.target for entry in Deployed(NAME).readable_entries()[0]}


@pytest.mark.parametrize("job", [MODEL.job_id, "security-alerts"])
def test_forgotten_job_loses_its_models_and_its_name(stack: Stack, job: str) -> None:
    ended = forget(stack, "--job", job)
    assert ended.status == 0
    assert "2 waiting updates" in ended.stdout
    assert left(stack) == {Target("77", None)}


def test_forgotten_model_leaves_the_others_of_its_job_alone(stack: Stack) -> None:
    document = forget(stack, "--job", MODEL.job_id, "--model", MODEL.model_id, "--json", "--yes").document
    assert (document["targets"], document["done"]) == ([TARGET._asdict()], True)
    assert left(stack) == {ACTIVE, MAILBOX, Target("77", None)}


def test_unconfirmed_forget_deletes_nothing(stack: Stack) -> None:
    assert forget(stack, "--job", MODEL.job_id, typed="\n").status == 0
    assert run("forget", "--job", MODEL.job_id, "--json").status == 2
    assert len(left(stack)) == 4


def test_end_of_standard_input_at_a_question_changes_nothing(stack: Stack) -> None:
    ended = forget(stack, "--job", MODEL.job_id, typed="")
    assert ended.status == 2
    assert "To do: Add --yes." in ended.stderr
    assert len(left(stack)) == 4
    fill(stack, 2)
    assert run("redrive").status == run("discard").status == 2
    assert "To do: Add --reason or --id, and --yes." in run("discard").stderr
    assert Deployed(NAME).messages("DeadLetterQueueUrl")["visible"] == 2


def test_unknown_target_to_forget_is_refused_with_the_nearest_known_one(stack: Stack) -> None:
    ended = forget(stack, "--job", "1324")
    assert ended.status == 2
    assert "does not know the job '1324': " in ended.stderr
    assert "Did you mean 1234?" in ended.stderr
    assert "Did you mean" in run("forget", "--job", "1234", "--model", MODEL.model_id[:-3]).stderr


def test_target_with_a_run_under_way_is_forgotten_only_by_force(stack: Stack) -> None:
    running = Target("7", None)
    stack.put(Entry(running, claim=Claim("one", 1e9, number=0), rev=1, due_at=2e9))
    deployed(stack)
    ended = run("forget", "--job", "7", "--yes", "--json")
    assert (ended.status, ended.document["error"]["message"]) == (6, "A run is under way.")
    assert left(stack) == {running}
    assert run("forget", "--job", "7", "--yes", "--force").status == 0
    assert left(stack) == set()


def test_entry_that_cannot_be_read_is_named_when_others_of_its_job_are_forgotten(stack: Stack) -> None:
    deployed(stack)
    stack.put(Entry(ACTIVE, rev=1))
    item: Any = {**to_item(Entry(TARGET, due_at=1.0), 1), "batch": {"S": "junk"}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    ended = run("forget", "--job", MODEL.job_id, "--yes")
    assert (ended.status, "Deleted 1 entry" in ended.stdout) == (0, True)
    assert "cannot be read" in ended.stderr


def test_entry_that_changes_after_the_question_is_kept(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.put(Entry(ACTIVE, rev=1))
    deployed(stack)
    stale = [replace(entry, rev=entry.rev - 1) for entry in Deployed(NAME).readable_entries()[0]]
    monkeypatch.setattr(Deployed, "readable_entries", lambda _: (stale, []))
    ended = run("forget", "--job", MODEL.job_id, "--yes")
    assert ended.status == 6
    assert "so nothing of it was deleted" in ended.stderr
    assert stack.entry(ACTIVE).rev


# --- Status ----------------------------------------------------------------------------------------------


def test_status_has_one_row_for_each_target_and_none_for_the_slots(stack: Stack) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(),)))
    stack.put(Entry(ACTIVE, waiting=Waiting(needed_as_of=2e9), claim=Claim("two", 1e9), due_at=2e9))
    stack.put(Entry(Target("security-alerts", None), name_of=MODEL.job_id))
    stack.dynamodb.put_item(
        TableName=stack.ledger_table, Item={**SLOTS, "rev": {"N": "1"}, "takers": {"S": "[]"}}
    )
    cause = {"first_at": to_iso(1e9), "updates": 1}
    stack.states.start_execution(
        stateMachineArn=stack.workflow_arn,
        name="two",
        input=json.dumps({"run": {"model_id": MODEL.model_id, "cause": cause}}),
    )
    printed = run("status", width=250).stdout
    assert printed.count("job 1234") == 2
    assert printed.count("active model ") == 1
    assert printed.count(MODEL.model_id) == 2
    assert "security-alerts" not in printed
    assert "Updates queue: empty.\n" in printed
    assert "Dead letters" not in printed
    document = run("status", "--json").document
    (active, by_id) = document["targets"]
    assert (active["model_id"], active["active_model_id"]) == (None, MODEL.model_id)
    assert active["running"]["link"].endswith(
        "/executions/details/" + active["running"]["link"].split("/")[-1]
    )
    assert (active["fresh"], by_id["fresh"]) == (False, False)  # they are the same model
    assert by_id["why"] == "as the active model: a run is being started"


@pytest.mark.parametrize("arguments", [("status",), ("forget", "--job", "9", "--yes")])
def test_entry_that_cannot_be_read_is_named(stack: Stack, arguments: tuple[str, ...]) -> None:
    deployed(stack)
    item: Any = {**to_item(Entry(Target("9", "m"), due_at=1.0), 1), "batch": {"S": "junk"}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    ended = run(*arguments)

    assert ended.status == 1
    assert f"job '9', model 'm' in the table {stack.ledger_table} cannot be read" in ended.stderr


def test_status_shows_the_others_beside_an_entry_that_cannot_be_read(stack: Stack) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(),)))
    item: Any = {**to_item(Entry(Target("9", "m"), due_at=1.0), 1), "batch": {"S": "junk"}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    ended = run("status", width=250)

    assert "up to date" in ended.stdout
    assert (ended.status, "job '9', model 'm'" in ended.stderr) == (1, True)
    assert "cannot be read" in run("status", "--job", "9").stderr
    document = run("status", "--json").document
    assert [target["model_id"] for target in document["targets"]] == [MODEL.model_id]
    assert "job '9', model 'm'" in document["unreadable"][0]
    assert run("forget", "--job", MODEL.job_id, "--yes").status == 0


@pytest.mark.parametrize(
    "edited",
    [
        {"history": [1]},
        {"history": [past(requested_at="yesterday")]},
        {"last_failure": {"reason": "NoNewResult"}},
        {"batch": [["one", to_iso(ASKED), "all", to_iso(ASKED)]]},
    ],
    ids=lambda edited: next(iter(edited)),
)
def test_entry_with_json_of_another_form_is_named_beside_the_others(
    stack: Stack, tmp_path: Path, edited: dict[str, Any]
) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(),)))
    documents = {name: {"S": json.dumps(value)} for name, value in edited.items()}
    item: Any = to_item(Entry(Target("9", None), due_at=1.0), 1) | documents
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    said = f"job '9', active model in the table {stack.ledger_table} cannot be read: "

    listed = run("status", width=250)
    assert (listed.status, "up to date" in listed.stdout, said in listed.stderr) == (1, True, True)
    report = run("report", "--output", str(tmp_path / "page.html"), "--json").document
    assert (report["models"], said in report["notes"][0]) == (1, True)
    assert said in run("forget", "--job", "9", "--yes").stderr


def test_command_about_an_entry_that_cannot_be_read_names_it(stack: Stack) -> None:
    it = deployed(stack)
    item: Any = to_item(Entry(TARGET, claim=Claim("one", ASKED), due_at=1.0), 1)
    del item["requested_at"]
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    with pytest.raises(Trouble, match=f"of {TARGET} in the table {stack.ledger_table} cannot be read"):
        it.entry(TARGET)
    with pytest.raises(Trouble, match="cannot be read"):
        it.apply(TARGET, lambda entry: entry)


def test_status_is_shown_although_the_slots_cannot_be_read(stack: Stack) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(),)))
    item: Any = {**SLOTS, "rev": {"N": "1"}, "takers": {"S": "junk"}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    stack.write_settings({"pace": {"slots": 1}})
    assert "up to date" in run("status", width=250).stdout


def test_status_of_a_job_by_its_name_is_that_of_its_id(stack: Stack) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(),)))
    stack.put(Entry(Target("77", None), fresh_as_of=1e9))
    stack.put(Entry(Target("security-alerts", None), name_of=MODEL.job_id))
    printed = run("status", "--job", "security-alerts").stdout
    assert "job 1234" in printed
    assert "job 77" not in printed
    ended = run("status", "--job", "security-alert")
    assert ended.status == 2
    assert "The ledger does not know the job 'security-alert': it knows no update" in ended.stderr
    assert "Did you mean security-alerts?" in ended.stderr


def test_mistyped_model_is_answered_with_models_and_not_with_jobs(stack: Stack) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, fresh_as_of=1e9))
    stack.put(Entry(Target("77", None), fresh_as_of=1e9, history=(past(model_id="the-active-one"),)))
    assert f"There are {MODEL.model_id}, the-active-one." in run("status", "--model", MODEL.job_id).stderr
    assert "Did you mean the-active-one?" in run("status", "--job", "77", "--model", "active-one").stderr


def test_status_with_reasons_fits_into_80_columns(stack: Stack) -> None:
    deployed(stack)
    worse = past(verdict="regressed", why="Escalate.recall 0.74 -> 0.61", scores={"overall_accuracy": 0.9})
    stack.put(Entry(TARGET, fresh_as_of=ASKED, history=(worse,)))
    stack.put(Entry(Target("7" * 200, "m" * 250), waiting=Waiting(needed_as_of=2e9, updates=3), due_at=2e9))
    waits = run("status", "--job", MODEL.job_id)
    printed = " ".join(waits.stdout.split())
    assert "regressed: Escalate.recall 0.74 -> 0.61" in printed
    for listed in (run("status"), waits):
        assert max(len(line) for line in listed.stdout.splitlines() if "https://" not in line) <= 80
    assert MODEL.model_id in run("status", width=200).stdout


@pytest.mark.parametrize(
    ("width", "model", "job"),
    [
        (
            66,
            ["generic-1-", "1234-model-", "1747385873.", "hdf5"],
            ["job", "security_", "alerts of a/", "long.name"],
        ),
        (80, ["generic-1-1234-model-", "1747385873.hdf5"], ["job security_alerts of a/", "long.name"]),
        (120, [MODEL.model_id], ["job security_alerts of a/long.name"]),
    ],
)
def test_ids_and_names_are_wrapped_between_their_parts(
    stack: Stack, width: int, model: list[str], job: list[str]
) -> None:
    deployed(stack)
    named = Target("security_alerts of a/long.name", MODEL.model_id)
    stack.put(Entry(named, fresh_as_of=ASKED, history=(past(),)))
    table = run("status", width=width).stdout.partition("Updates queue")[0]
    assert [line.split("  ")[0].rstrip() for line in table.splitlines()[2:]] == [*model, *job]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_ids_are_shown_in_full_in_the_status_of_a_narrow_terminal(stack: Stack, width: int) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, fresh_as_of=ASKED))
    stack.put(Entry(Target("a-job-with-a-long-name-" * 4, None), fresh_as_of=ASKED, history=(past(),)))
    table = run("status", width=width).stdout.partition("Updates queue")[0]
    column = "".join(line.split("  ")[0].strip() for line in table.splitlines())
    assert MODEL.model_id in column
    assert "a-job-with-a-long-name-" * 4 in column
    assert max(map(len, table.splitlines())) <= max(width, 66)


def test_update_waits_for_a_slot_in_the_status_if_all_are_taken(stack: Stack) -> None:
    deployed(stack)
    stack.put(Entry(TARGET, waiting=Waiting(needed_as_of=ASKED, updates=1), due_at=time.time()))
    stack.put(Entry(Target("77", None), claim=Claim("two", 1e9, number=0), due_at=2e9))
    stack.write_settings({"pace": {"slots": 1}})
    assert "next attempt within a minute" in waiting_lines()
    takers = json.dumps([["two", ["77", None]]])
    item: Any = {**SLOTS, "rev": {"N": "1"}, "takers": {"S": takers}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    assert "starts when a slot is free" in waiting_lines()


def waiting_lines() -> list[str]:
    """The lines of the status about the model's waiting updates."""
    (row,) = run("status", "--job", MODEL.job_id, "--json").document["targets"]
    return list(row["waiting"])


def test_dead_letters_are_counted_in_the_status_with_their_meaning(stack: Stack) -> None:
    fill(stack, 2)
    deployed(stack)
    assert "Dead letters: 2. They started no recompute" in run("status").stdout
    assert run("status", "--json").document["dead_letters"] == 2


# --- A recompute by hand ---------------------------------------------------------------------------------


class Ledgers:
    """The target's entry at each look, in order, and a trigger that records every request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: Entry, **found: Any) -> None:
        self.now = ASKED
        self.requests: list[Mapping[str, Any]] = []
        self.found = {
            "reason": None,
            "detail": "",
            "recomputing": False,
            "model_id": MODEL.model_id,
            "unknown": None,
            "known": [],
            **found,
        }
        self.refusal: dict[str, str] | None = None
        self._looks = list(looks)
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(Deployed, "entry", lambda _, __: self._looks[0])
        monkeypatch.setattr(Deployed, "invoke_trigger", lambda _, event: self._invoked(event))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        if len(self._looks) > 1:
            self._looks.pop(0)

    def _invoked(self, event: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        if "preflight" in event:
            return self.found, "errorType" in self.found
        self.requests.append(event)
        if self.refusal:
            return self.refusal, True
        return {"recorded": [{"model_id": None, **event, "updates": 1}]}, False


NEEDED = Entry(TARGET, waiting=Waiting(needed_as_of=ASKED, updates=1), rev=1, due_at=ASKED)
RUNNING = replace(NEEDED, claim=Claim("one", ASKED, number=0))
OF_MODEL = ("recompute", "--job", MODEL.job_id, "--model", MODEL.model_id)


def recompute(stack: Stack, *options: str) -> Ended:
    deployed(stack)
    return run(*OF_MODEL, *(options or ("--wait",)))


def ended_with(verdict: str, why: str = "") -> Entry:
    return Entry(TARGET, rev=2, fresh_as_of=ASKED, history=(past(verdict=verdict, why=why),))


def failed_with(**failure: Any) -> Entry:
    given = {
        "ended_at": to_iso(ASKED + 9),
        "status": "failed",
        "reason": "NoNewResult",
        "detail": "As before",
    }
    return Entry(TARGET, rev=2, failed_as_of=ASKED, last_failure=past(**given, **failure))


@pytest.mark.parametrize(
    ("last", "options", "status", "result"),
    [
        (ended_with("unchanged"), (), 0, "fresh"),
        (ended_with("improved", "Escalate.recall 0.6 -> 0.7"), (), 0, "fresh"),
        (ended_with("regressed", "Escalate.recall 0.74 -> 0.61"), (), 1, "regressed"),
        (ended_with("not_judged", "no earlier metrics"), (), 3, "not_judged"),
        (ended_with("not_judged", "no earlier metrics"), ("--allow-not-judged",), 0, "not_judged"),
        (failed_with(), (), 4, "failed"),
        (failed_with(), ("--allow-not-judged",), 4, "failed"),
    ],
)
def test_recompute_has_the_result_of_the_run_that_answers_it(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    last: Entry,
    options: tuple[str, ...],
    status: int,
    result: str,
) -> None:
    Ledgers(monkeypatch, NEEDED, RUNNING, last)
    ended = recompute(stack, "--wait", "--json", *options)
    assert ended.status == status
    assert "The run one is under way." in ended.stderr
    assert (ended.document["result"], ended.document["job_id"]) == (result, MODEL.job_id)
    assert ended.document["run"]["link"].startswith("https://eu-central-1.console.aws.amazon.com/states/")
    if last.history and "why" in last.history[0]:
        assert ended.document["why"] == last.history[0]["why"]


def test_regression_is_reported_with_the_full_command_that_accepts_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledgers(monkeypatch, NEEDED, ended_with("regressed"))
    ended = recompute(stack)
    command = f"arcanna-metrics accept --job {MODEL.job_id} --model {MODEL.model_id} --stack {NAME}"
    assert f"{command}\n" in ended.stderr


def test_run_past_its_deadline_exits_with_5(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    late = replace(
        failed_with(),
        last_failure=past(
            ended_at=to_iso(ASKED + 9), status="timed_out", reason="DeadlinePassed", detail="Too long"
        ),
    )
    Ledgers(monkeypatch, NEEDED, late)
    ended = recompute(stack, "--wait", "--json")
    assert (ended.status, ended.document["result"], ended.document["run"]["reason"]) == (
        5,
        "timed_out",
        "DeadlinePassed",
    )


@pytest.mark.parametrize(
    ("entry", "status", "result"), [(RUNNING, 5, "timed_out"), (NEEDED, 6, "not_started")]
)
def test_timeout_exits_with_5_during_a_run_and_with_6_before_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, entry: Entry, status: int, result: str
) -> None:
    ledgers = Ledgers(monkeypatch, entry)
    ended = recompute(stack, "--wait", "--timeout", "1m30s", "--json")
    assert (ended.status, ended.document["result"], ended.document["run"]) == (status, result, None)
    assert 90 <= ledgers.now - ASKED <= 92


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (replace(NEEDED, due_at=ASKED + 99), "the spacing after the last run"),
        (
            replace(NEEDED, attempts=1, last_error="PlatformBusy: busy"),
            "1 attempt failed (PlatformBusy: busy)",
        ),
    ],
)
def test_request_without_a_run_in_time_has_what_it_waits_for_in_its_document(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, entry: Entry, why: str
) -> None:
    Ledgers(monkeypatch, entry)
    ended = recompute(stack, "--wait", "--timeout", "8", "--json")
    assert (ended.status, ended.document["result"]) == (6, "not_started")
    assert ended.document["why"].startswith("No run has started in time. ")
    assert why in ended.document["why"]


def test_run_of_an_earlier_request_does_not_count_as_started(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledgers(monkeypatch, replace(NEEDED, claim=Claim("zero", ASKED - 60, number=0)))
    assert recompute(stack, "--wait", "--timeout", "9").status == 6


@pytest.mark.parametrize("known", [None, MODEL.job_id], ids=["unknown id", "known id"])
def test_request_that_waits_under_a_name_is_followed_to_its_run_under_the_id(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, known: str | None
) -> None:
    # All slots are taken, so the request is forwarded later.
    Ledgers(monkeypatch, NEEDED)
    of_job, mailbox = Target(MODEL.job_id, None), replace(NEEDED, target=MAILBOX, name_of=known)
    earlier = past(run_id="zero", requested_at=to_iso(ASKED - 600))
    before = replace(NEEDED, target=of_job, fresh_as_of=ASKED - 600, history=(earlier,))
    after = replace(ended_with("regressed"), target=of_job)
    looks: dict[Target, list[Entry]] = {
        MAILBOX: [mailbox] * 4 + [Entry(MAILBOX, rev=3, name_of=MODEL.job_id)],
        of_job: [before] * 3 + [after],
    }

    def look(_: Deployed, target: Target) -> Entry:
        found = looks[target]
        return found.pop(0) if len(found) > 1 else found[0]

    monkeypatch.setattr(Deployed, "entry", look)
    deployed(stack)
    ended = run("recompute", "--job", MAILBOX.job_id, "--wait", "--json")

    assert (ended.status, ended.document["result"]) == (1, "regressed")
    assert (ended.document["job_id"], ended.document["run"]["run_id"]) == (MODEL.job_id, "one")


def test_run_by_a_name_that_ended_before_the_first_look_is_the_one_that_is_told(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledgers(monkeypatch, NEEDED)
    earlier = past(run_id="zero", requested_at=to_iso(ASKED - 600))
    entries = {
        MAILBOX: replace(ended_with("regressed"), target=MAILBOX, name_of=MODEL.job_id),
        ACTIVE: Entry(ACTIVE, rev=5, fresh_as_of=ASKED - 600, history=(earlier,)),
    }
    monkeypatch.setattr(Deployed, "entry", lambda _, target: entries[target])
    deployed(stack)
    ended = run("recompute", "--job", MAILBOX.job_id, "--wait", "--json")

    assert (ended.status, ended.document["run"]["run_id"]) == (1, "one")


@pytest.mark.parametrize("operation", ["GetExecutionHistory", "DescribeExecution"])
def test_verdict_is_told_although_step_functions_does_not_answer(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    answered: Any = vars(BaseClient)["_make_api_call"]

    def throttled(client: Any, name: str, given: Any) -> Any:
        if name == operation:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, name)
        return answered(client, name, given)

    Ledgers(monkeypatch, RUNNING, ended_with("regressed", "Escalate.recall 0.9 -> 0.5"))
    deployed(stack)
    monkeypatch.setattr(BaseClient, "_make_api_call", throttled)
    ended = run(*OF_MODEL, "--wait", "--json")
    assert (ended.status, ended.document["why"]) == (1, "Escalate.recall 0.9 -> 0.5")


def test_status_document_has_the_id_of_a_job_that_the_ledger_knows_by_name(stack: Stack) -> None:
    named = Target("Phishing triage", None)
    stack.put(Entry(named, rev=2, fresh_as_of=ASKED, history=(past(),), name_of="1234"))
    deployed(stack)
    (row,) = run("status", "--json").document["targets"]
    assert (row["job_id"], row["job_name"]) == ("1234", "Phishing triage")


def test_recompute_without_wait_only_records_a_request(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers = Ledgers(monkeypatch, NEEDED)
    ended = recompute(stack, "--json")
    assert (ended.status, ended.document["result"]) == (0, "requested")
    assert ledgers.requests == [{"job_id": MODEL.job_id, "model_id": MODEL.model_id}]
    assert recompute_usage("--timeout", "9") == recompute_usage("--allow-not-judged") == 2
    assert recompute_usage("--wait", "--timeout", "soon") == 2


def recompute_usage(*options: str) -> int:
    return run(*OF_MODEL, *options).status


@pytest.mark.parametrize("digits", [400, 5000])
def test_timeout_that_is_too_long_for_a_number_exits_with_2(stack: Stack, digits: int) -> None:
    ended = run(*OF_MODEL, "--wait", "--timeout", "9" * digits)
    assert (ended.status, "✗ Invalid value for '--timeout': the time is too long" in ended.stderr) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        (
            {"reason": "Rejected", "unknown": "job", "known": ["1235", "security-alerts"]},
            2,
            "Arcanna does not take the job '1234'. Did you mean 1235?",
        ),
        (
            {"reason": "Rejected", "unknown": "model", "known": [MODEL.model_id[:-1] + "6"]},
            2,
            f"Did you mean {MODEL.model_id[:-1]}6?",
        ),
        ({"reason": "Rejected", "unknown": None}, 2, "Arcanna does not take the target"),
        ({"reason": "Unauthorised"}, 7, "doctor shows what is wrong with the key"),
        ({"reason": "ApiKeyMissing"}, 7, "doctor shows what is wrong with the key"),
        (
            {"reason": "PlatformUnavailable"},
            6,
            "Arcanna cannot be queried now, and no run of it has completed",
        ),
        ({"errorType": "BadInput", "errorMessage": "job_id is empty"}, 2, "BadInput: job_id is empty"),
        ({"errorType": "ConfigurationError", "errorMessage": "wrong"}, 6, "ConfigurationError: wrong"),
    ],
)
def test_target_that_cannot_be_looked_up_is_not_requested(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], status: int, said: str
) -> None:
    ledgers = Ledgers(monkeypatch, Entry(TARGET), **{"detail": "404", **found})
    ended = recompute(stack, "--wait", "--json")
    assert ended.status == status
    assert said in ended.stderr
    assert ended.document["error"]["message"] in ended.stderr
    assert ledgers.requests == []


def test_typo_is_compared_with_the_ledgers_jobs_if_arcanna_lists_none(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.put(Entry(Target("1235", None), rev=1))
    Ledgers(monkeypatch, Entry(TARGET), reason="Rejected", detail="404: no such job", unknown="job")
    ended = recompute(stack)
    assert "take the job '1234'. Did you mean 1235? Arcanna's answer: 404: no such job." in ended.stderr
    assert "To do" not in ended.stderr


def test_entry_that_cannot_be_read_never_exits_as_a_model_that_regressed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item: Any = {**to_item(Entry(TARGET, due_at=1.0), 1), "batch": {"S": "junk"}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    looked_up(monkeypatch, recorded=[TARGET._asdict()])
    ended = recompute(stack, "--wait")
    assert (ended.status, "cannot be read" in ended.stderr) == (7, True)


def test_typo_is_explained_beside_an_entry_that_cannot_be_read(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    item: Any = {**to_item(Entry(Target("9", "m"), due_at=1.0), 1), "batch": {"S": "junk"}}
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=item)
    looked_up(monkeypatch, reason="Rejected", detail="404: no such job", unknown="job")
    ended = recompute(stack)
    assert (ended.status, "Arcanna's answer: 404: no such job." in ended.stderr) == (2, True)


def test_timeout_counts_from_the_start_of_the_command(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers = Ledgers(monkeypatch, NEEDED)
    looked = Deployed.invoke_trigger

    def slow(it: Deployed, event: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        ledgers.now += 40
        return looked(it, event)

    monkeypatch.setattr(Deployed, "invoke_trigger", slow)
    assert recompute(stack, "--wait", "--timeout", "1m30s").status == 6
    assert 90 <= ledgers.now - ASKED <= 92


def test_known_target_is_requested_during_an_outage_of_arcanna(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers = Ledgers(monkeypatch, replace(NEEDED, history=(past(),)), reason="PlatformUnavailable")
    ended = recompute(stack, "--json")
    assert ended.status == 0
    assert "The request will wait." in ended.stderr
    assert len(ledgers.requests) == 1


def test_request_that_cannot_be_recorded_exits_with_6(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers = Ledgers(monkeypatch, NEEDED)
    ledgers.refusal = {"errorType": "AwsUnavailable", "errorMessage": "could not write"}
    ended = recompute(stack)
    assert ended.status == 6
    assert "The request was not recorded. AwsUnavailable: could not write" in ended.stderr


def test_recompute_for_somebody_else_is_announced(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledgers(monkeypatch, NEEDED, ended_with("unchanged"), recomputing=True)
    ended = recompute(stack)
    assert ended.status == 0
    assert "A recompute that no run of this stack follows is under way." in ended.stderr


def test_recompute_by_a_run_of_this_stack_is_announced_as_that_run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledgers(monkeypatch, RUNNING, ended_with("unchanged"), recomputing=True)
    assert "The run one of this stack is under way." in recompute(stack).stderr


@pytest.mark.parametrize(("model_id", "is_told"), [(MODEL.model_id, True), ("trained anew", False)])
def test_run_of_the_active_model_is_announced_only_if_it_is_the_same_model(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, model_id: str, is_told: bool
) -> None:
    stack.put(
        Entry(ACTIVE, waiting=Waiting(needed_as_of=ASKED), claim=Claim("two", ASKED, number=0), due_at=2e9)
    )
    cause = {"first_at": to_iso(ASKED), "updates": 1}
    given = json.dumps({"run": {"model_id": model_id, "cause": cause}})
    stack.states.start_execution(stateMachineArn=stack.workflow_arn, name="two", input=given)
    deployed(stack)

    def answer(_: Deployed, event: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        if "preflight" in event:
            return {"reason": None, "recomputing": True, "model_id": MODEL.model_id}, False
        return {"recorded": [{**event, "updates": 1}]}, False

    monkeypatch.setattr(Deployed, "invoke_trigger", answer)
    assert ("The run two of this stack is under way." in run(*OF_MODEL).stderr) == is_told


def test_run_that_ends_before_the_first_look_answers_the_request(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledgers(monkeypatch, failed_with())
    ended = recompute(stack)
    assert ended.status == 4
    assert "✗ failed, NoNewResult: As before" in ended.stdout


class Gone(io.StringIO):
    """Standard output whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(("verdict", "statuses"), [("regressed", {1, 141}), ("improved", {0, 141})])
def test_result_that_cannot_be_printed_never_exits_as_a_better_one(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    verdict: str,
    statuses: set[int],
) -> None:
    monkeypatch.setattr("os.dup2", lambda *_: 0)  # pytest's own standard output stays
    Ledgers(monkeypatch, NEEDED, ended_with(verdict))
    deployed(stack)
    out = Output(Gone(), io.StringIO(), io.StringIO(), 80)
    assert main((*OF_MODEL, "--wait", *options, "--stack", NAME), out) in statuses
    deaf = Output(Gone(), Gone(), io.StringIO(), 80)
    assert main((*OF_MODEL, "--wait", *options, "--stack", NAME), deaf) == 141


@pytest.mark.parametrize("line", [*(f"{line} --yes" for line in ASKING if line != "discard"), "discard"])
def test_change_whose_reader_leaves_early_does_not_exit_as_made(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    monkeypatch.setattr("os.dup2", lambda *_: 0)  # pytest's own standard output stays
    changeable(stack, monkeypatch, tmp_path)
    assert main((*line.split(), "--stack", NAME), Output(Gone(), io.StringIO(), io.StringIO(), 80)) == 141


def test_all_commands_that_ask_before_a_change_count_as_changing() -> None:
    asking = {path for path, each in commands(cli) if any(option.name == "yes" for option in each.params)}
    assert asking | {"recompute"} == set(CHANGING)


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    """Each command with its path."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, *above, name)
        else:
            yield " ".join([*above, name]), found


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_result_on_a_full_disk_is_an_error_and_no_verdict(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr("os.dup2", lambda *_: 0)  # pytest's own standard output stays
    Ledgers(monkeypatch, NEEDED, ended_with("improved"))
    deployed(stack)
    stderr = io.StringIO()
    given = (*OF_MODEL, "--wait", *options, "--stack", NAME)
    assert main(given, Output(Full(), stderr, io.StringIO(), 80)) == 2
    assert "No space left on device" in stderr.getvalue()
    assert main(given, Output(Full(), Full(), io.StringIO(), 80)) == 2


def test_earlier_run_does_not_answer_the_request(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = replace(NEEDED, claim=Claim("zero", ASKED - 60, number=0))
    released = replace(NEEDED, fresh_as_of=ASKED - 60, due_at=ASKED + 3)
    ours = past(requested_at=to_iso(ASKED + 9))
    Ledgers(monkeypatch, earlier, released, Entry(TARGET, rev=5, fresh_as_of=ASKED + 9, history=(ours,)))
    ended = recompute(stack)
    assert ended.status == 0
    assert "Waiting for run zero" in ended.stderr
    assert "the spacing after the last run" in ended.stderr


def test_limit_of_a_wait_without_a_timeout_is_in_the_help_and_for_pipelines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    limit = f"{SLACK / 60:g} minutes"
    command.run("recompute", "--help")
    assert limit in " ".join(capsys.readouterr().out.split())
    pipelines = (ROOT / "events/README.md").read_text(encoding="utf-8").partition("## For pipelines")[2]
    assert limit in " ".join(pipelines.partition("\n## ")[0].split())


def test_request_that_starts_no_run_is_waited_for_a_limited_time(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers = Ledgers(monkeypatch, replace(NEEDED, attempts=3, due_at=2e9))
    monkeypatch.setattr(Follower, "_tell_checks", lambda *_: None)
    ledgers.now = 2e9
    ended = recompute(stack)
    assert ended.status == 6
    told = [line for line in ended.stderr.splitlines() if "3 attempts failed" in line]
    assert not told[0].startswith("Still: ")
    assert all(line.startswith("Still: ") for line in told[1:])
    assert 16 <= len(told) - 1 <= 21  # twice a minute, for the logs of pipelines
    assert "The update is not lost" in ended.stdout


@pytest.mark.parametrize("before", [(), (NEEDED, NEEDED, RUNNING)])
def test_request_that_is_forgotten_while_it_waits_is_not_waited_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, before: tuple[Entry, ...]
) -> None:
    ledgers = Ledgers(monkeypatch, *before, Entry(TARGET))
    ended = recompute(stack, "--wait", "--timeout", "1h")
    assert (ended.status, "The request is no longer in the ledger." in ended.stderr) == (6, True)
    assert ledgers.now < ASKED + 60


def test_resumed_run_is_followed_into_its_next_execution(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "one-1"):
        given = json.dumps({"run": {"model_id": "the model"}})
        stack.states.start_execution(stateMachineArn=stack.workflow_arn, name=name, input=given)
    resumed = replace(RUNNING, claim=Claim("one", ASKED, number=1))
    Ledgers(monkeypatch, NEEDED, resumed, ended_with("unchanged"))
    monkeypatch.setattr(
        executions, "told", lambda execution: Told(execution["name"], 1, ASKED, ASKED, (), None, None)
    )
    ended = recompute(stack)
    assert ended.status == 0
    assert "the run is resumed" in ended.stderr
    assert "✓ completed, unchanged: one-1" in ended.stdout


# --- Documents of settings -------------------------------------------------------------------------------


@pytest.fixture
def routed(stack: Stack) -> Stack:
    """A stack with settings."""
    stack.write_settings(
        {"routes": [{"name": "by-job", "keys": ["t/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]}]}
    )
    deployed(stack, SettingsParameter=stack.settings_parameter)
    return stack


def test_key_is_looked_up_in_the_deployed_settings(routed: Stack) -> None:
    ended = run("route", "t/7/a.csv", "--json")
    assert (ended.status, ended.document["targets"]) == (0, [{"job_id": "7", "model_id": None}])
    assert run("route", "x/7/a.csv", "--json").status == 1


def test_key_is_looked_up_in_a_file_without_a_stack(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"routes": [{"keys": ["a"], "targets": [{"job_id": 7}]}]}))
    for key in ("a", "s3://bucket/a"):
        ended = command.run("route", key, "--settings-file", str(file), "--json")
        assert ended.document["route"] == "1"


def test_settings_file_that_cannot_be_read_exits_with_2(tmp_path: Path) -> None:
    ended = command.run("settings", "validate", str(tmp_path / "gone"))
    assert (ended.status, ended.stderr) == (2, f"✗ {tmp_path / 'gone'}: No such file or directory.\n")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_settings_file_that_is_not_utf_8_exits_with_1_and_is_named(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes("{é".encode(encoding))
    for arguments in (("route", "a", "--settings-file", str(file)), ("settings", "validate", str(file))):
        ended = command.run(*arguments)
        assert ended.status == 1
        assert ended.stderr == f"✗ {file} is not UTF-8 text.\n  To do: Save it as UTF-8.\n"


@pytest.mark.parametrize("arguments", [("settings", "validate", "-"), ("route", "a", "--settings-file", "-")])
def test_settings_are_read_from_standard_input_for_a_dash(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for text, status in ((b'{"routes": [{"keys": ["a"], "targets": [{"job_id": 7}]}]}', 0), (b"\xff", 1)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
        ended = command.run(*arguments)
        assert (ended.status, ended.stderr) == (
            status,
            "✗ Standard input is not UTF-8 text.\n  To do: Save it as UTF-8.\n" if status else "",
        )


def test_settings_file_is_validated_without_a_stack(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{}")
    assert command.run("settings", "validate", str(file), "--json").document["valid"]
    file.write_text('{"pace": {"slots": -1}}')
    ended = command.run("settings", "validate", str(file), "--json")
    assert ended.status == 1
    (problem,) = ended.document["problems"]
    assert problem.startswith("pace.slots must be")
    file.write_text(json.dumps({"$schema": "x" * LARGEST}))
    ended = command.run("settings", "validate", str(file), "--json")
    assert ended.document["problems"] == [
        "the document has 8207 bytes, and an SSM parameter holds at most 8192"
    ]


NO_KEYS = "no route has keys, so every upload is ignored"


def test_settings_that_ignore_uploads_are_valid_and_stored_with_a_warning(
    routed: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"routes": []}')
    for given in (("validate", str(file)), ("put", str(file), "--yes"), ("show",)):
        ended = run("settings", *given)
        assert (ended.status, f"! {NO_KEYS}" in ended.stderr) == (0, True)
        assert run("settings", *given, "--json").document["warnings"] == [NO_KEYS]
    assert json.loads(Deployed(NAME).settings()) == {"routes": []}
    file.write_text('{"routes": {}}')
    assert run("settings", "validate", str(file), "--json").document["warnings"] == []


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("s3://another/t/7/a.csv", "The stack's bucket is 'ours'. Objects of 'another' "),
        ("t/7/", "An object whose key ends in / is a folder, and no update unless it has content"),
    ],
)
def test_key_that_may_start_nothing_is_answered_with_a_warning(routed: Stack, key: str, words: str) -> None:
    client("cloudformation").delete_stack(StackName=NAME)
    deployed(routed, SettingsParameter=routed.settings_parameter, TrainingDataBucket="ours")
    ended = run("route", key)
    assert (ended.status, f"! {words}" in ended.stderr) == (0, True)
    (warning,) = run("route", key, "--json").document["warnings"]
    assert warning.startswith(words)
    assert run("route", "s3://ours/t/7/a.csv", "--json").document["warnings"] == []


def test_bucket_of_a_key_is_not_compared_without_a_stack(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{}")
    ended = command.run("route", "s3://any/training-data/7/a", "--settings-file", str(file))
    assert (ended.status, "The bucket 'any' is not compared with a stack's" in ended.stderr) == (0, True)


def test_unknown_subcommand_is_answered_with_the_known_ones() -> None:
    assert "Did you mean validate?" in command.run("settings", "valdate", "a").stderr
    assert "There are show, validate, put." in command.run("settings", "check", "a").stderr


def test_settings_are_shown_as_stored_and_as_in_force_for_a_job(routed: Stack) -> None:
    assert '"by-job"' in run("settings", "show").stdout
    document = run("settings", "show", "--job", "1234", "--json").document
    assert (document["job_id"], document["in_force"]["pace"]["visibility_lag_seconds"]) == ("1234", 35)
    routed.write_settings({"route": []})
    ended = run("settings", "show", "--json")
    assert (ended.status, ended.document["valid"]) == (1, False)
    assert "The last valid version stays in force." in run("settings", "show").stderr


def test_settings_of_a_job_are_found_by_a_known_name_and_refused_for_an_unknown_one(routed: Stack) -> None:
    routed.put(Entry(Target("phishing", None), rev=1, name_of="77"))
    routed.write_settings({"jobs": {"77": {"pace": {"spacing_seconds": 60}}}})
    document = run("settings", "show", "--job", "phishing", "--json").document
    assert (document["job_id"], document["in_force"]["pace"]["spacing_seconds"]) == ("77", 60)
    ended = run("settings", "show", "--job", "fishing")
    assert ended.status == 2
    assert "The ledger does not know which id the job 'fishing' has. Did you mean phishing?" in ended.stderr
    assert "To do: Name the job by its id." in ended.stderr


def test_deployed_settings_are_shown_on_indented_lines_whatever_their_layout(routed: Stack) -> None:
    routed.write_settings({"jobs": {"7": {"pace": {"slots": "é"}}}})
    assert run("settings", "show").stdout.splitlines()[:3] == ["{", '  "jobs": {', '    "7": {']


@pytest.mark.parametrize("text", ["not JSON", '{"pace": {}, "pace": {}}'])
def test_deployed_settings_that_cannot_be_read_are_shown_as_they_are_stored(routed: Stack, text: str) -> None:
    routed.ssm.put_parameter(Name=routed.settings_parameter, Value=text, Overwrite=True)
    shown, told = run("settings", "show"), run("settings", "show", "--json")

    assert shown.status == told.status == 1
    assert shown.stdout.splitlines()[0] == text
    assert (told.document["settings"], len(told.document["problems"])) == (None, 1)


def test_each_mistake_in_a_settings_file_has_a_line(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"pace": {"slots": -1}, "colour": "red"}')
    ended = command.run("route", "a", "--settings-file", str(file))

    assert ended.status == 1
    first, *problems, todo = ended.stderr.splitlines()
    assert first == "✗ The settings are not valid:"
    assert [line[:2] for line in problems] == ["  ", "  "]
    assert "pace.slots must be" in problems[1] or "pace.slots must be" in problems[0]
    assert todo.startswith("  To do: Correct them")


def test_settings_in_force_for_a_job_are_a_valid_document(routed: Stack, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(run("settings", "show", "--job", "1234").stdout)
    assert run("settings", "validate", str(file)).status == 0


def test_settings_are_stored_only_if_valid_and_confirmed(routed: Stack, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"pace": {"slots": -1}}')
    assert run("settings", "put", str(file), "--yes").status == 1
    file.write_text('{"pace": {"slots": 3}}')
    asked = run("settings", "put", str(file), typed="n\n")
    assert asked.status == 0
    assert '+    "slots": 3' in asked.stdout
    assert run("settings", "put", str(file), "--json").status == 2
    assert '"by-job"' in run("settings", "show").stdout
    assert run("settings", "put", str(file), "--yes", "--json").document["done"]
    assert run("settings", "show", "--json").document["settings"] == {"pace": {"slots": 3}}
    assert not run("settings", "put", str(file), "--yes", "--json").document["done"]


def test_settings_are_stored_in_a_tier_that_takes_the_longest_document(routed: Stack, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"pace": {"slots": 3}}')
    assert run("settings", "put", str(file), "--yes").status == 0

    (stored,) = routed.ssm.describe_parameters(
        ParameterFilters=[{"Key": "Name", "Values": [routed.settings_parameter]}]
    )["Parameters"]
    assert stored["Tier"] == "Intelligent-Tiering"


# --- What an operator must not misread -------------------------------------------------------------------


def test_time_out_while_attempts_fail_says_that_no_run_has_started(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt claims the target for as long as Arcanna takes to time out."""
    trying = replace(
        NEEDED, claim=Claim("one", ASKED), attempts=3, last_error="PlatformUnavailable: no answer"
    )
    Ledgers(monkeypatch, trying)
    ended = recompute(stack, "--wait", "--timeout", "9", "--json")
    assert (ended.status, ended.document["result"]) == (6, "not_started")


def test_model_that_was_replaced_keeps_its_runs(stack: Stack) -> None:
    deployed(stack)
    regressed = past(run_id="a", verdict="regressed")
    newer = past(run_id="b", model_id="newer", requested_at=to_iso(1e9 + 9))
    stack.put(Entry(ACTIVE, fresh_as_of=1e9 + 9, history=(regressed, newer)))
    stack.put(Entry(TARGET, quality_reference=REFERENCE))
    (row,) = run("status", "--model", MODEL.model_id, "--json").document["targets"]
    assert row["last_run"]["verdict"] == "regressed"


def test_rows_of_one_model_have_one_age(stack: Stack) -> None:
    deployed(stack)
    later = past(run_id="b", requested_at=to_iso(1e9 + 9999))
    stack.put(Entry(ACTIVE, fresh_as_of=1e9 + 9999, history=(later,)))
    stack.put(Entry(TARGET, fresh_as_of=1e9, history=(past(run_id="a", requested_at=to_iso(1e9)),)))
    one, two = run("status", "--json").document["targets"]
    assert (one["last_run"], one["since"]) == (two["last_run"], two["since"])


@pytest.mark.parametrize("job", ["phishing", "77"])
@pytest.mark.parametrize("is_known", [True, False])
def test_status_of_a_job_shows_what_waits_under_its_name(stack: Stack, job: str, is_known: bool) -> None:
    """Another entry of the name has learned the id."""
    deployed(stack)
    by_name = Entry(Target("phishing", "m"), name_of="77", fresh_as_of=1e9, history=(past(model_id="m"),))
    stack.put(by_name)
    if is_known:
        stack.put(Entry(Target("77", None), fresh_as_of=1e9, history=(past(model_id="n"),)))
    waiting = Waiting(needed_as_of=2e9, since=2e9, updates=1)
    stack.put(Entry(Target("phishing", None), waiting=waiting, due_at=2e9))
    assert any(row["waiting"] for row in run("status", "--job", job, "--json").document["targets"])


def test_name_is_not_suggested_to_whoever_typed_it(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.put(Entry(ACTIVE, rev=1, history=(past(),)))
    deployed(stack)
    looked_up(monkeypatch, reason="Rejected", detail="404", unknown="job", known=[])
    assert f"Did you mean {MODEL.job_id}?" not in run("recompute", "--job", MODEL.job_id).stderr
