"""The settings of an SSM parameter: the last valid version is in force."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from arcanna_metrics.aws_json import MOST_TRIES
from arcanna_metrics.errors import AwsUnavailable, ConfigurationError
from arcanna_metrics.observability import metrics
from arcanna_metrics.settings_source import MAX_AGE, SettingsSource
from tests.support.aws_json import MOTO, aws_json
from tests.support.doubles import Clock, Logs, Stack

WRONG = {"pace": {"slots": -1}}
COMPLAINT = "pace.slots must be a whole number from 0 to 1000, not -1"


def slots(number: int) -> dict[str, Any]:
    return {"pace": {"slots": number}}


class Environment:
    """A new execution environment, which reads the stack's settings."""

    def __init__(self, parameter: str = "settings") -> None:
        self.clock = Clock()
        self.ssm = Ssm()
        ssm = aws_json("ssm", self.ssm)
        self.source = SettingsSource(ssm, parameter, 35.0, self.clock)

    def slots(self) -> int:
        """The slots of the settings in force."""
        return self.source().shared.pace.slots

    def slots_later(self) -> int:
        """The slots of the settings in force after the cache has expired."""
        self.clock.now += MAX_AGE
        return self.slots()


class Ssm(httpx.BaseTransport):
    """SSM, which refuses the operations in `throttled`. It keeps the operations called."""

    def __init__(self) -> None:
        self.throttled: set[str] = set()
        self.calls: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        operation = request.headers["X-Amz-Target"].removeprefix("AmazonSSM.")
        self.calls.append(operation)
        if operation in self.throttled:
            return httpx.Response(400, json={"__type": "ThrottlingException", "message": "Rate exceeded"})
        return MOTO.handle_request(request)


@pytest.fixture
def counted(capsys: pytest.CaptureFixture[str]) -> Iterator[list[float]]:
    """The values of SettingsInvalid that the test's invocation has emitted."""
    metrics.clear_metrics()
    values: list[float] = []
    yield values
    metrics.flush_metrics()
    printed = capsys.readouterr().out
    assert (json.loads(printed)["SettingsInvalid"] if printed else []) == values


def test_edit_is_in_force_after_the_cache_has_expired(stack: Stack) -> None:
    stack.write_settings(slots(1))
    warm = Environment()
    assert warm.slots() == 1
    stack.write_settings(slots(2))
    warm.clock.now += MAX_AGE - 1
    assert warm.slots() == 1
    warm.clock.now += 1
    assert warm.slots() == 2


def test_settings_of_a_job_follow_the_version_in_force(stack: Stack) -> None:
    stack.write_settings({"jobs": {"7": {"pace": {"spacing_seconds": 60}}}})
    source = Environment().source
    assert source().for_job("7").pace.spacing == 60
    assert source().for_job("8").pace.spacing == 0
    assert source().for_job("8").pace.visibility_lag == 35


def test_invalid_edit_leaves_the_last_valid_version_in_force_and_is_reported_until_corrected(
    stack: Stack, logs: Logs, counted: list[float]
) -> None:
    stack.write_settings(slots(1))
    warm = Environment()
    warm.slots()
    stack.write_settings(WRONG)
    assert [warm.slots_later(), warm.slots_later()] == [1, 1]
    stack.write_settings(slots(2))
    assert warm.slots_later() == 2

    assert [line["message"] for line in logs.lines] == [
        "the settings are wrong",
        "earlier settings are in force",
    ] * 2
    assert logs.lines[0]["detail"] == COMPLAINT
    counted += [1.0, 1.0]


def test_new_environment_finds_the_last_valid_version_behind_invalid_edits(stack: Stack) -> None:
    for document in (slots(2), *[WRONG] * 55, slots(1), *[WRONG] * 5, "no settings"):  # on two pages
        stack.write_settings(document)
    assert Environment().slots() == 1


def test_warm_and_new_environments_agree_on_the_version_in_force(stack: Stack) -> None:
    stack.write_settings(slots(1))
    warm = Environment()
    warm.slots()
    stack.write_settings(slots(2))
    stack.write_settings(WRONG)
    assert warm.slots_later() == Environment().slots() == 2


def test_settings_without_any_valid_version_are_reported_every_time(stack: Stack) -> None:
    stack.ssm.put_parameter(Name="never", Value=json.dumps(WRONG), Type="String")
    environment = Environment("never")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=COMPLAINT):
            environment.slots()


def test_version_that_is_in_force_outlives_the_history(stack: Stack) -> None:
    stack.write_settings(slots(1))
    warm = Environment()
    warm.slots()
    for _ in range(100):  # as many as SSM keeps
        stack.write_settings(WRONG)
    assert warm.slots_later() == 1
    with pytest.raises(ConfigurationError):
        Environment().slots()


@pytest.mark.parametrize("operation", ["GetParameter", "GetParameterHistory"])
def test_unreadable_settings_leave_the_last_ones_in_force_and_are_reported(
    stack: Stack, logs: Logs, counted: list[float], operation: str
) -> None:
    stack.write_settings(slots(1))
    warm = Environment()
    warm.slots()
    if operation == "GetParameterHistory":
        stack.write_settings(WRONG)
        counted.append(1.0)
    warm.clock.now += MAX_AGE
    warm.ssm.throttled.add(operation)
    warm.ssm.calls.clear()
    assert [warm.slots() for _ in range(3)] == [1, 1, 1]
    assert warm.ssm.calls.count(operation) == MOST_TRIES  # once for a batch, not for each object
    counted.append(1.0)
    assert logs.lines[-1]["message"] == "the settings cannot be read"
    assert "ThrottlingException" in logs.lines[-1]["detail"]
    warm.ssm.throttled.clear()
    stack.write_settings(slots(2))
    assert warm.slots_later() == 2


def test_first_settings_that_cannot_be_read_are_a_temporary_error(
    stack: Stack, logs: Logs, counted: list[float]
) -> None:
    stack.write_settings(slots(1))
    new = Environment()
    new.ssm.throttled.add("GetParameter")
    with pytest.raises(AwsUnavailable, match=r"AmazonSSM\.GetParameter at .*ThrottlingException"):
        new.slots()
    new.ssm.throttled.clear()
    assert [line["message"] for line in logs.lines] == ["the settings cannot be read"]
    assert new.slots() == 1
    counted.append(1.0)


def test_missing_parameter_is_a_temporary_error(stack: Stack) -> None:
    new = Environment("other")
    with pytest.raises(AwsUnavailable, match="could not read the settings"):
        new.slots()
    stack.ssm.put_parameter(Name="other", Value="{}", Type="String")
    assert new.slots() == 10
