"""The routes of an SSM parameter: the latest that are right are in force."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from arcanna_metrics.errors import AwsUnavailable, ConfigurationError
from arcanna_metrics.intake.route_source import ROUTES_MAX_AGE, RouteSource
from arcanna_metrics.observability import metrics
from arcanna_metrics.targets import Target
from tests.support.doubles import Clock, Logs, Stack

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
    assert logs.lines[0]["detail"] == 'routes[0] lacks "targets"'
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
        with pytest.raises(ConfigurationError, match="lacks"):
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
