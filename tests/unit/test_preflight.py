"""The preflight finds what prevents recomputes, and says what to do."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from arcanna_metrics.errors import ApiKeyUnavailable, AwsUnavailable
from arcanna_metrics.preflight import RESERVE, LookUp, look_up, preflight
from arcanna_metrics.settings import Settings, parse_settings
from tests.support.doubles import (
    ACTIVE_TARGET,
    MODEL,
    NOT_FOUND,
    TARGET,
    Answer,
    ScriptedPlatform,
    answer,
    metrics_body,
    no_answer,
)

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


def test_preflight_without_problems_only_reads() -> None:
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
        (NOT_FOUND, {"platform": "Rejected"}),
        (answer(404), {"platform": "UndocumentedAnswer"}),
    ],
)
def test_failed_first_call_ends_the_platform_checks(scopes: Answer, reason: dict[str, str]) -> None:
    platform = ScriptedPlatform(scopes=scopes)
    assert reasons(platform) == reason | {"settings": None}
    assert platform.asked == ["scopes"]


def test_secret_without_a_key_is_a_finding_about_the_key() -> None:
    def empty(_: bool) -> str:
        raise ApiKeyUnavailable("the secret does not hold an API key")

    (key, _) = preflight(ScriptedPlatform().client(empty), NIGHTLY, lambda: 100.0)
    assert (key.check, key.reason) == ("key", "ApiKeyUnavailable")


def test_secrets_manager_that_does_not_answer_is_a_finding_about_the_key() -> None:
    def away(_: bool) -> str:
        raise AwsUnavailable("the secret could not be read: ReadTimeout")

    (key, _) = preflight(ScriptedPlatform().client(away), NIGHTLY, lambda: 100.0)
    assert (key.check, key.reason) == ("key", "AwsUnavailable")


@pytest.mark.parametrize("lacking", BOTH)
def test_missing_scope_is_named(lacking: str) -> None:
    platform = ScriptedPlatform(scopes=answer(json=[scope for scope in BOTH if scope != lacking]))
    found = {f.check: f for f in preflight(platform.client(), NIGHTLY, lambda: 100.0)}

    assert found["scopes"].reason == "ScopesMissing"
    assert found["scopes"].detail == f"The key lacks {lacking}"
    assert found["key"].reason is None


def test_scopes_narrowed_to_a_job_are_accepted() -> None:
    platform = ScriptedPlatform(scopes=answer(json=[f"{scope}:job:1234" for scope in BOTH]))
    assert reasons(platform) == ALL_WELL


def test_invalid_settings_are_reported_beside_the_platform() -> None:
    expected = ALL_WELL | {"settings": "ConfigurationError"}
    del expected["targets"]
    assert reasons(ScriptedPlatform(), lambda: parse_settings("{")) == expected


def test_unreadable_settings_are_reported_beside_the_platform() -> None:
    def unreadable() -> Settings:
        raise AwsUnavailable("could not read the settings: AccessDenied")

    expected = ALL_WELL | {"settings": "AwsUnavailable"}
    del expected["targets"]
    assert reasons(ScriptedPlatform(), unreadable) == expected


def test_routes_without_a_full_target_have_no_targets_finding() -> None:
    assert "targets" not in reasons(ScriptedPlatform(), routes_to())


def test_every_unknown_target_is_named() -> None:
    def only_77(request: httpx.Request) -> httpx.Response:
        known = request.url.params["job_id"] == "77"
        return answer(json={"active_model_id": MODEL.model_id})(request) if known else NOT_FOUND(request)

    unknown = routes_to({"job_id": "unknown"}, {"job_id": 77}, {"job_id": "gone"})
    found = preflight(ScriptedPlatform(job=only_77).client(), unknown, lambda: 100.0)
    assert [f.reason for f in found if f.check == "targets"] == ["Rejected", "Rejected"]


def test_preflight_stops_asking_an_unavailable_platform() -> None:
    platform = ScriptedPlatform(metrics=answer(503), job=answer(503))
    assert reasons(platform)["targets"] == "PlatformUnavailable"
    assert len(platform.asked) == 2


def test_targets_left_unchecked_for_lack_of_time_are_reported() -> None:
    assert reasons(ScriptedPlatform(), remaining=RESERVE - 1)["targets"] == "OutOfTime"


# --- One target ------------------------------------------------------------------------------------------

OTHER = "generic-1-1234-model-1740000000.hdf5"
JOB = {"active_model_id": MODEL.model_id, "all_model_ids": [OTHER, MODEL.model_id, None]}
JOBS = [{"id": 1234, "title": "security-alerts"}, {"id": 77, "title": "phishing-triage"}, {"title": "\n"}]


def test_target_that_arcanna_knows_is_shown_with_its_metrics() -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(is_recomputing_metrics=True)))
    found = look_up(platform.client(), TARGET)
    assert (found.reason, found.model_id, found.recomputing) == (None, MODEL.model_id, True)
    assert (found.metrics or {})["overall_accuracy"] == 0.75
    assert platform.asked == ["metrics"]


def test_active_model_is_resolved() -> None:
    platform = ScriptedPlatform()
    assert look_up(platform.client(), ACTIVE_TARGET).model_id == MODEL.model_id
    assert platform.asked == ["job", "metrics"]


def test_unknown_model_comes_with_those_of_its_job() -> None:
    platform = ScriptedPlatform(metrics=NOT_FOUND, job=answer(json=JOB))
    found = look_up(platform.client(), TARGET)
    assert (found.reason, found.unknown, found.known) == ("Rejected", "model", [OTHER, MODEL.model_id])


def test_unknown_job_comes_with_the_ids_and_names_of_all_jobs() -> None:
    platform = ScriptedPlatform(metrics=NOT_FOUND, job=NOT_FOUND, resources=answer(json=JOBS))
    found = look_up(platform.client(), TARGET)
    assert (found.reason, found.unknown) == ("Rejected", "job")
    assert found.known == ["1234", "security-alerts", "77", "phishing-triage"]


@pytest.mark.parametrize("resources", [answer(403), answer(503), answer(200, text="<html>")])
def test_unknown_job_is_reported_even_if_jobs_cannot_be_listed(resources: Answer) -> None:
    platform = ScriptedPlatform(job=NOT_FOUND, resources=resources)
    found = look_up(platform.client(), ACTIVE_TARGET)
    assert (found.unknown, list(found.known)) == ("job", [])


def test_job_without_an_active_model_is_distinguished_from_an_unknown_job() -> None:
    platform = ScriptedPlatform(job=answer(json={**JOB, "active_model_id": None}))
    found = look_up(platform.client(), ACTIVE_TARGET)
    assert (found.reason, found.unknown) == ("Rejected", "model")
    assert "no active model" in found.detail


@pytest.mark.parametrize(
    ("metrics", "reason"), [(answer(503), "PlatformUnavailable"), (answer(401), "Unauthorised")]
)
def test_target_is_not_judged_without_an_answer(metrics: Answer, reason: str) -> None:
    found = look_up(ScriptedPlatform(metrics=metrics).client(), TARGET)
    assert (found.reason, found.unknown, found.metrics) == (reason, None, None)
    gone = ScriptedPlatform(metrics=NOT_FOUND, job=metrics)
    assert look_up(gone.client(), TARGET).unknown is None


def test_unknown_target_is_not_attributed_if_the_platform_stops_answering() -> None:
    platform = ScriptedPlatform(metrics=NOT_FOUND, job=answer(503))
    assert look_up(platform.client(), TARGET) == LookUp("Rejected", look_up(platform.client(), TARGET).detail)
