"""The AWS calls of the trigger: what they do, and the one failure that their callers handle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arcanna_metrics.aws import (
    BOUNDED,
    ROUTES_MAX_AGE,
    SQS_ATTRIBUTES,
    SQS_BATCH_BYTES,
    DeadLetter,
    Queues,
    RouteSource,
    Workflow,
)
from arcanna_metrics.errors import AwsUnavailable, ConfigurationError
from arcanna_metrics.intake.events import TEXT_LENGTH
from arcanna_metrics.observability import metrics
from arcanna_metrics.platform.client import FIGURES, LARGEST_METRICS
from arcanna_metrics.runs.quality import LARGEST_REFERENCE
from arcanna_metrics.runs.run import HISTORY_LENGTH, PastRun, Run, failed_check, first_check
from arcanna_metrics.targets import ID_LENGTH, Target
from arcanna_metrics.trigger import RESERVE
from arcanna_metrics.updates import SAMPLE_SIZE, Update
from tests.doubles import Clock, Logs, Stack
from tests.unit.test_check import RUN, past_run

UPDATE = Update(Target("1234", "m"), 1_736_950_000.0, "upload", 1_736_950_000.0)
CHECK = first_check([], 5)


@pytest.fixture
def queues(stack: Stack) -> Queues:
    return Queues(stack.sqs, stack.updates_url, stack.dead_letter_url)


# --- Any call --------------------------------------------------------------------------------------------


def test_three_calls_in_a_row_that_get_no_answer_take_no_more_than_the_reserve() -> None:
    bounded: Any = BOUNDED
    attempts = bounded.retries["total_max_attempts"]
    waits = sum(2.0**n for n in range(attempts - 1))  # the longest of botocore's "standard" mode
    for step in (bounded.connect_timeout, bounded.read_timeout):  # no way leads there, or nobody answers
        assert 3 * (attempts * step + waits) <= RESERVE


# --- Queues ----------------------------------------------------------------------------------------------


def test_an_update_is_put_off_until_its_delay_is_over(stack: Stack, queues: Queues) -> None:
    queues.put_off(UPDATE, 900)
    assert stack.waiting() == []
    queues.put_off(UPDATE, 0)
    (body,) = stack.waiting()
    assert (body["job_id"], body["model_id"], body["cause"]) == ("1234", "m", "upload")


def test_a_dead_letter_keeps_its_body_and_tells_its_reason(stack: Stack, queues: Queues) -> None:
    queues.dead_letter(DeadLetter('{"some": "body"}', "BadInput", "it lacks a job_id"))
    assert stack.dead_letters() == [('{"some": "body"}', "BadInput", "it lacks a job_id")]


def test_a_dead_letter_without_a_detail_has_its_reason_for_one(stack: Stack, queues: Queues) -> None:
    queues.dead_letter(DeadLetter("body", "BadInput", ""))
    assert stack.dead_letters() == [("body", "BadInput", "BadInput")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(detail=st.text(max_size=2000))
def test_any_detail_is_shown_in_characters_that_sqs_takes(stack: Stack, queues: Queues, detail: str) -> None:
    queues.dead_letter(DeadLetter("body", "BadInput", detail))
    ((_, _, shown),) = stack.dead_letters()
    assert shown
    assert shown.isprintable()


def test_many_messages_go_by_few_calls(stack: Stack, queues: Queues) -> None:
    letters = [DeadLetter(f"body {n}", "BadInput", "") for n in range(25)]
    with calls_of(stack) as sizes:
        assert queues.dead_letter_all(letters) == [None] * 25
    assert sizes == [10, 10, 5]
    assert {body for body, _, _ in stack.dead_letters()} == {letter.body for letter in letters}


def test_no_call_is_larger_than_sqs_takes(stack: Stack, queues: Queues) -> None:
    large = "x" * (SQS_BATCH_BYTES // 3)
    with calls_of(stack) as sizes:
        assert queues.dead_letter_all([DeadLetter(large, "BadInput", "é" * 2000)] * 5) == [None] * 5
    assert sizes == [2, 2, 1]


def test_a_message_that_sqs_refuses_is_the_only_one_that_failed(stack: Stack, queues: Queues) -> None:
    def refuse_the_second(params: dict[str, Any], **_: Any) -> None:
        params["Entries"] = [params["Entries"][0], params["Entries"][2]]

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Failed"] = [{"Id": "1", "Code": "InternalError", "SenderFault": False}]

    events = stack.sqs.meta.events
    events.register("provide-client-params.sqs.SendMessageBatch", refuse_the_second)
    events.register("after-call.sqs.SendMessageBatch", tell)
    try:
        first, second, third = queues.put_off_all([UPDATE] * 3)
    finally:
        events.unregister("provide-client-params.sqs.SendMessageBatch", refuse_the_second)
        events.unregister("after-call.sqs.SendMessageBatch", tell)
    assert (first, third) == (None, None)
    assert isinstance(second, AwsUnavailable)
    assert "InternalError" in str(second)
    assert len(stack.waiting()) == 2


def test_a_queue_that_is_away_is_asked_once_for_all_messages(stack: Stack) -> None:
    gone = Queues(stack.sqs, stack.updates_url + "-gone", stack.dead_letter_url)
    with calls_of(stack) as sizes:
        errors = gone.put_off_all([UPDATE] * 25)
    assert sizes == [10]
    assert [type(error) for error in errors] == [AwsUnavailable] * 25


def test_a_message_that_leaves_no_room_for_a_reason_is_cut(stack: Stack, queues: Queues) -> None:
    letters = [DeadLetter("é" * 2**19, "BadInput", "no"), DeadLetter("short", "BadInput", "no")]
    assert queues.dead_letter_all(letters) == [None, None]
    ((short, *_), (cut, *_)) = sorted(stack.dead_letters(), key=lambda letter: len(letter[0]))
    assert short == "short"
    assert 0 <= 2**20 - SQS_ATTRIBUTES - len(cut.encode()) < 2


def test_a_message_that_sqs_finds_too_long_holds_no_other_back(stack: Stack, queues: Queues) -> None:
    def refuse(params: dict[str, Any], **_: Any) -> None:
        if len(params["Entries"][0]["MessageBody"]) > SQS_BATCH_BYTES:
            code = "AWS.SimpleQueueService.BatchRequestTooLong"
            raise ClientError({"Error": {"Code": code, "Message": "too long"}}, "SendMessageBatch")

    stack.sqs.meta.events.register("provide-client-params.sqs.SendMessageBatch", refuse)
    letters = [DeadLetter(body, "BadInput", "no") for body in ("a", "x" * 2 * SQS_BATCH_BYTES, "b")]
    try:
        first, second, third = queues.dead_letter_all(letters)
    finally:
        stack.sqs.meta.events.unregister("provide-client-params.sqs.SendMessageBatch", refuse)
    assert (first, third) == (None, None)
    assert isinstance(second, AwsUnavailable)


@contextmanager
def calls_of(stack: Stack) -> Iterator[list[int]]:
    """How many messages each call takes that is made meanwhile."""
    sizes: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        sizes.append(len(params["Entries"]))

    stack.sqs.meta.events.register("provide-client-params.sqs.SendMessageBatch", note)
    yield sizes
    stack.sqs.meta.events.unregister("provide-client-params.sqs.SendMessageBatch", note)


def test_a_queue_that_cannot_be_reached_is_told(stack: Stack) -> None:
    gone = Queues(stack.sqs, stack.updates_url + "-gone", stack.dead_letter_url + "-gone")
    with pytest.raises(AwsUnavailable, match="put an update back into the queue"):
        gone.put_off(UPDATE, 0)
    with pytest.raises(AwsUnavailable, match="messages to a queue"):
        gone.dead_letter(DeadLetter("body", "BadInput", "detail"))


# --- Workflow --------------------------------------------------------------------------------------------


def test_an_execution_is_started_with_its_data(stack: Stack) -> None:
    Workflow(stack.states, stack.workflow_arn).start("run-1", RUN, CHECK)
    assert stack.executions() == {"run-1": {"run": RUN, "check": CHECK}}


def test_the_same_execution_is_started_once(stack: Stack) -> None:
    workflow = Workflow(stack.states, stack.workflow_arn)
    other: Run = {**RUN, "label": "another"}
    workflow.start("run-1", RUN, CHECK)
    workflow.start("run-1", other, CHECK)
    assert stack.executions() == {"run-1": {"run": RUN, "check": CHECK}}


def test_a_workflow_that_cannot_be_started_is_told(stack: Stack) -> None:
    with pytest.raises(AwsUnavailable, match="start the workflow"):
        Workflow(stack.states, stack.workflow_arn + "-gone").start("run-1", RUN, CHECK)


LARGEST_INPUT = 248 * 1024
"""Bytes of input that EventBridge's word of an execution's end includes; what is larger it leaves out."""


def test_the_largest_input_is_still_told_of_when_its_execution_ends(stack: Stack) -> None:
    """It is text within JSON there: what is escaped in it is escaped once more."""
    empty = dict.fromkeys(FIGURES, "")
    shown = {**empty, "confusion_matrix": '"' * ((LARGEST_METRICS - len(json.dumps(empty))) // 2)}
    assert LARGEST_METRICS - 2 <= len(json.dumps(shown)) <= LARGEST_METRICS
    text = "\x01" * TEXT_LENGTH
    sample = {"bucket": text, "key": text, "version_id": text}
    run: Run = {
        **RUN,
        "job_id": "\U0001f600" * ID_LENGTH,
        "model_id": "\U0001f600" * ID_LENGTH,
        "baseline": shown,
        "cause": {**RUN["cause"], "kind": "\U0001f600" * ID_LENGTH, "sample": [sample] * SAMPLE_SIZE},
    }
    past: PastRun = {**past_run(0), "cause": "\U0001f600" * ID_LENGTH}
    check = failed_check([past] * HISTORY_LENGTH, "Rejected", text, shown)
    check["reference"] = {'"' * (LARGEST_REFERENCE // 2): (0.1, 30)}
    Workflow(stack.states, stack.workflow_arn).start("largest", run, check)
    (execution,) = stack.states.list_executions(stateMachineArn=stack.workflow_arn)["executions"]
    given = stack.states.describe_execution(executionArn=execution["executionArn"])["input"]
    assert len(json.dumps(given, ensure_ascii=False).encode()) < LARGEST_INPUT


# --- Routes ----------------------------------------------------------------------------------------------

ONE = {"routes": [{"name": "one", "keys": ["a/*"], "targets": [{"job_id": "1"}]}]}
TWO = {"routes": [{"name": "two", "keys": ["a/*"], "targets": [{"job_id": "2"}]}]}


WRONG = {"routes": [{"name": "broken"}]}


def source(stack: Stack, clock: Clock, parameter: str = "routes") -> RouteSource:
    return RouteSource(stack.ssm, parameter, clock)


def test_an_edit_of_the_routes_is_in_force_when_they_have_aged(stack: Stack) -> None:
    clock = Clock()
    stack.set_routes(ONE)
    routes = source(stack, clock)
    assert routes().targets("a/b") == [Target("1", None)]
    stack.set_routes(TWO)
    clock.now += ROUTES_MAX_AGE - 1
    assert routes().targets("a/b") == [Target("1", None)]
    clock.now += 1
    assert routes().targets("a/b") == [Target("2", None)]


def test_a_bad_edit_leaves_the_last_good_routes_in_force_and_is_told_until_it_is_mended(
    stack: Stack, logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics.clear_metrics()
    clock = Clock()
    stack.set_routes(ONE)
    routes = source(stack, clock)
    routes()
    stack.set_routes(WRONG)
    for _ in range(2):
        clock.now += ROUTES_MAX_AGE
        assert routes().targets("a/b") == [Target("1", None)]
    assert [line["message"] for line in logs.lines] == ["the routes are wrong"] * 2
    assert "'broken'" in logs.lines[0]["detail"]
    metrics.flush_metrics()
    assert json.loads(capsys.readouterr().out)["RoutesInvalid"] == [1.0, 1.0]
    stack.set_routes(TWO)
    clock.now += ROUTES_MAX_AGE
    assert routes().targets("a/b") == [Target("2", None)]


def test_a_new_environment_finds_the_last_good_routes_behind_bad_edits(stack: Stack) -> None:
    for document in (TWO, ONE, WRONG, {"routes": 1}):
        stack.set_routes(document)
    assert source(stack, Clock())().targets("a/b") == [Target("1", None)]


def test_routes_that_were_never_right_are_told_every_time(stack: Stack) -> None:
    stack.ssm.put_parameter(Name="never", Value=json.dumps(WRONG), Type="String")
    routes = source(stack, Clock(), "never")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="broken"):
            routes()


def test_routes_that_cannot_be_read_leave_the_last_good_ones_in_force_and_are_told(
    stack: Stack, logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics.clear_metrics()
    clock = Clock()
    stack.set_routes(ONE)
    routes = source(stack, clock)
    routes()
    clock.now += ROUTES_MAX_AGE
    with throttled(stack) as calls:
        for _ in range(3):
            assert routes().targets("a/b") == [Target("1", None)]
        assert len(calls) == 1  # not once for each object of a batch
        clock.now += ROUTES_MAX_AGE
        routes()
    assert [line["message"] for line in logs.lines] == ["the routes cannot be read"] * 2
    assert "ThrottlingException" in logs.lines[0]["detail"]
    metrics.flush_metrics()
    assert json.loads(capsys.readouterr().out)["RoutesInvalid"] == [1.0, 1.0]
    stack.set_routes(TWO)
    clock.now += ROUTES_MAX_AGE
    assert routes().targets("a/b") == [Target("2", None)]


def test_routes_that_have_never_been_read_pass_by_themselves(stack: Stack) -> None:
    stack.set_routes(ONE)
    routes = source(stack, Clock())
    with throttled(stack), pytest.raises(AwsUnavailable, match="could not read the routes"):
        routes()
    assert routes().targets("a/b") == [Target("1", None)]


@contextmanager
def throttled(stack: Stack) -> Iterator[list[str]]:
    """SSM refuses what is asked of it meanwhile, and notes it."""
    calls: list[str] = []

    def refuse(params: dict[str, Any], **_: Any) -> None:
        calls.append(params["Name"])
        answer: Any = {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}
        raise ClientError(answer, "GetParameter")

    stack.ssm.meta.events.register("provide-client-params.ssm.GetParameter", refuse)
    try:
        yield calls
    finally:
        stack.ssm.meta.events.unregister("provide-client-params.ssm.GetParameter", refuse)


def test_a_parameter_that_is_not_there_passes_by_itself(stack: Stack) -> None:
    routes = source(stack, Clock(), "other")
    with pytest.raises(AwsUnavailable, match="could not read the routes"):
        routes()
    stack.ssm.put_parameter(Name="other", Value='{"routes": []}', Type="String")
    assert routes().targets("a/b") == []
