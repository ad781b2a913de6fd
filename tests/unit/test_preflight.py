"""What keeps a recompute from working is found, and named for what to do about it."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from arcanna_metrics.errors import ApiKeyUnavailable, AwsUnavailable
from arcanna_metrics.platform.preflight import RESERVE, preflight
from arcanna_metrics.settings import Settings, parse_settings
from tests.support.doubles import MODEL, Answer, ScriptedPlatform, answer, no_answer

BOTH = ["execute:recompute_model_metrics", "read:job_metrics"]
ALL_WELL = {"platform": None, "key": None, "scopes": None, "settings": None, "targets": None}


def routes_to(*targets: dict[str, Any]) -> Callable[[], Settings]:
    listed = [{"name": "nightly", "targets": list(targets)}] if targets else []
    return lambda: parse_settings(json.dumps({"routes": listed}))


NIGHTLY = routes_to({"job_id": 1234, "model_id": MODEL.model_id}, {"job_id": 77})


def reasons(
    platform: ScriptedPlatform,
    settings: Callable[[], Settings] = NIGHTLY,
    remaining: float = 100.0,
) -> dict[str, str | None]:
    found = preflight(platform.client(), settings, lambda: remaining)
    return {finding.check: finding.reason for finding in found}


def test_nothing_is_wrong_and_nothing_is_changed() -> None:
    platform = ScriptedPlatform()
    assert reasons(platform) == ALL_WELL
    assert platform.asked == ["scopes", "metrics", "job", "metrics"]


@pytest.mark.parametrize(
    ("scopes", "reason"),
    [
        (answer(401), {"key": "Unauthorised"}),
        (answer(403), {"key": "Unauthorised"}),
        (answer(503), {"platform": "PlatformUnavailable"}),
        (no_answer(httpx.ConnectError("certificate verify failed")), {"platform": "PlatformUnavailable"}),
        (answer(200, text="<html>"), {"platform": "UndocumentedAnswer"}),
        (answer(404), {"platform": "Rejected"}),
    ],
)
def test_without_an_answer_nothing_more_is_claimed(scopes: Answer, reason: dict[str, str]) -> None:
    platform = ScriptedPlatform(scopes=scopes)
    assert reasons(platform) == reason | {"settings": None}
    assert platform.asked == ["scopes"]


def test_a_secret_without_a_key_is_a_matter_of_the_key() -> None:
    def empty(_: bool) -> str:
        raise ApiKeyUnavailable("the secret does not hold an API key")

    (key, _) = preflight(ScriptedPlatform().client(empty), NIGHTLY, lambda: 100.0)
    assert (key.check, key.reason) == ("key", "ApiKeyUnavailable")


@pytest.mark.parametrize("lacking", BOTH)
def test_a_scope_that_the_key_lacks_is_named(lacking: str) -> None:
    platform = ScriptedPlatform(scopes=answer(json=[scope for scope in BOTH if scope != lacking]))
    found = {f.check: f for f in preflight(platform.client(), NIGHTLY, lambda: 100.0)}
    assert found["scopes"].reason == "ScopesMissing"
    assert found["scopes"].detail == f"The key lacks {lacking}"
    assert found["key"].reason is None


def test_narrowed_scopes_count() -> None:
    platform = ScriptedPlatform(scopes=answer(json=[f"{scope}:job:1234" for scope in BOTH]))
    assert reasons(platform) == ALL_WELL


def test_broken_settings_are_told_beside_the_platform() -> None:
    expected = ALL_WELL | {"settings": "ConfigurationError"}
    del expected["targets"]
    assert reasons(ScriptedPlatform(), lambda: parse_settings("{")) == expected


def test_settings_that_cannot_be_read_are_told_beside_the_platform() -> None:
    def unreadable() -> Settings:
        raise AwsUnavailable("could not read the settings: AccessDenied")

    expected = ALL_WELL | {"settings": "AwsUnavailable"}
    del expected["targets"]
    assert reasons(ScriptedPlatform(), unreadable) == expected


def test_routes_without_a_full_target_leave_none_to_look_at() -> None:
    assert "targets" not in reasons(ScriptedPlatform(), routes_to())


def test_every_target_that_arcanna_does_not_know_is_named() -> None:
    def only_77(request: httpx.Request) -> httpx.Response:
        known = request.url.params["job_id"] == "77"
        return answer(json={"active_model_id": MODEL.model_id})(request) if known else answer(404)(request)

    unknown = routes_to({"job_id": "unknown"}, {"job_id": 77}, {"job_id": "gone"})
    found = preflight(ScriptedPlatform(job=only_77).client(), unknown, lambda: 100.0)
    assert [f.reason for f in found if f.check == "targets"] == ["Rejected", "Rejected"]


def test_a_platform_that_stops_answering_is_not_asked_for_the_rest() -> None:
    platform = ScriptedPlatform(metrics=answer(503), job=answer(503))
    assert reasons(platform)["targets"] == "PlatformUnavailable"
    assert len(platform.asked) == 2


def test_what_there_was_no_time_for_is_told() -> None:
    assert reasons(ScriptedPlatform(), remaining=RESERVE - 1)["targets"] == "OutOfTime"
