"""The client against the contract: the documented examples, word for word, and the reference server."""

import json
import re
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from arcanna_metrics.errors import (
    PlatformUnavailable,
    RecomputeError,
    Rejected,
    Unauthorised,
    UndocumentedAnswer,
)
from arcanna_metrics.platform.client import REQUEST_STATUSES, Arcanna, RecomputeRequest
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.platform.model_metrics import ModelMetrics
from arcanna_metrics.targets import Model
from tests.support.arcanna import (
    API_KEY,
    ERROR_MESSAGE_BODY,
    READ_SCOPE,
    REASON_BODY,
    RECOMPUTE_SCOPE,
    RESOURCES_SCOPE,
    ArcannaServer,
    Behaviour,
    Fault,
    InMemoryAlerts,
    Job,
    KeyInfo,
    labelled_alerts,
)
from tests.support.arcanna.alerts import TYPICAL_ACCURACY
from tests.support.doubles import Logs, ScriptedPlatform, answer, metrics_body
from tests.support.waiting import eventually

MODEL = Model("1234", "generic-1-1234-model-1747385873.hdf5")

ACCEPTED = """
{
"message": "Metrics recomputation initiated successfully",
"job_id": 1234,
"model_id": "generic-1-1234-model-1747385873.hdf5",
"status": "queued",
"requested_at": "2025-01-15T14:30:00Z"
}
"""
NOT_FOUND = """
{
"error": "Model not found",
"details": "Model 'generic-1-1234-model-1747385873.hdf5' not found for job '1234'"
}
"""
INVALID = """
{
"detail": [
{
"loc": ["query", "model_id"],
"msg": "Model ID is required",
"type": "value_error"
}
]
}
"""
CALLS: dict[str, Callable[[Arcanna], object]] = {
    "metrics": lambda arcanna: arcanna.metrics(MODEL),
    "recompute": lambda arcanna: arcanna.request_recompute(MODEL),
    "job": lambda arcanna: arcanna.active_model(MODEL.job_id),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
READS = {name: call for name, call in CALLS.items() if name != "recompute"}


# --- The page ----------------------------------------------------------------------------------------------


def test_documented_success_example_is_an_accepted_request() -> None:
    platform = ScriptedPlatform(request=answer(content=ACCEPTED.encode()))
    accepted = platform.client().request_recompute(MODEL)
    assert accepted == RecomputeRequest(False, "2025-01-15T14:30:00Z", "1234")


def test_request_matches_the_documented_example() -> None:
    platform = ScriptedPlatform()
    platform.client(lambda read_again: "your-api-key-here").request_recompute(MODEL)
    (request,) = platform.requests

    assert request.method == "POST"
    assert str(request.url).endswith(
        "/api/v2/metrics/model/request_recompute_metrics"
        "?job_id=1234&model_id=generic-1-1234-model-1747385873.hdf5"
    )
    assert request.headers["X-Arcanna-Api-Key"] == "your-api-key-here"
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", REQUEST_STATUSES)
def test_every_documented_request_status_is_understood(status: str) -> None:
    body = {**json.loads(ACCEPTED), "status": status}
    accepted = ScriptedPlatform(request=answer(json=body)).client().request_recompute(MODEL)
    assert accepted.failed == (status == "failed")


def test_known_request_statuses_are_the_documented_ones() -> None:
    assert set(REQUEST_STATUSES) == {"queued", "in_progress", "completed", "failed"}


@every_call
@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (404, NOT_FOUND, Rejected, "not found for job"),
        (422, INVALID, Rejected, "Model ID is required"),
        (401, '{"error": "Unauthorized", "details": "expired"}', Unauthorised, "expired"),
        (403, '{"error": "Forbidden", "details": "scope"}', Unauthorised, "read:job_metrics"),
        (429, "", PlatformUnavailable, "429"),
        (500, "Internal Server Error", PlatformUnavailable, "500"),
        (502, "<html>Bad Gateway</html>", PlatformUnavailable, "Bad Gateway"),
        (503, "", PlatformUnavailable, "503"),
        (504, "", PlatformUnavailable, "504"),
        (408, "", PlatformUnavailable, "408"),
        # Not documented.
        (302, "", UndocumentedAnswer, "302"),
        (400, "{}", UndocumentedAnswer, "400"),
        (409, "{}", UndocumentedAnswer, "409"),
        (200, NOT_FOUND, UndocumentedAnswer, "not found for job"),
        (200, INVALID, UndocumentedAnswer, "Model ID is required"),
        (202, json.dumps(ERROR_MESSAGE_BODY), UndocumentedAnswer, "Internal error"),
        (200, json.dumps(ERROR_MESSAGE_BODY), UndocumentedAnswer, "Arcanna"),
        (200, json.dumps(REASON_BODY), UndocumentedAnswer, "Arcanna"),
    ],
)
def test_error_answer_raises_the_matching_error(
    call: Callable[[Arcanna], object], status: int, body: str, error: type[RecomputeError], says: str
) -> None:
    same = answer(status, content=body.encode())
    with pytest.raises(error, match=re.escape(says)) as raised:
        call(ScriptedPlatform(metrics=same, request=same, job=same).client())
    assert type(raised.value) is error


@pytest.mark.parametrize("call", READS.values(), ids=READS)
@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (204, "", "with 204: '': not JSON"),
        (200, "", "with 200: '': not JSON"),
        (200, "<html>Sign in</html>", "with 200: '<html>Sign in</html>': not JSON"),
        (200, ACCEPTED[:40], "not JSON"),
        (200, f"[{ACCEPTED}]", "not a JSON object"),
        (200, "null", "with 200: 'null': not a JSON object"),
        (200, "{}", "is missing"),
        (201, ACCEPTED, "is missing"),
    ],
)
def test_2xx_without_documented_fields_is_an_undocumented_answer(
    call: Callable[[Arcanna], object], status: int, body: str, says: str
) -> None:
    same = answer(status, content=body.encode())
    with pytest.raises(UndocumentedAnswer, match=re.escape(says)):
        call(ScriptedPlatform(metrics=same, job=same).client())


@pytest.mark.parametrize("status", [201, 202, 203])
def test_documented_body_with_another_2xx_status_is_accepted(status: int) -> None:
    metrics, job = answer(status, json=metrics_body()), answer(status, json={"active_model_id": "m"})
    arcanna = ScriptedPlatform(metrics=metrics, job=job, request=answer(status, text=ACCEPTED)).client()

    assert arcanna.metrics(MODEL).timestamp == "2025-01-15T14:00:00Z"
    assert arcanna.active_model("1234") == "m"
    assert arcanna.request_recompute(MODEL) == RecomputeRequest(False, "2025-01-15T14:30:00Z", "1234")


@pytest.mark.parametrize(
    ("flag", "timestamp", "recomputing"),
    [
        (True, "2025-01-15T14:30:00Z", True),
        (False, "2025-01-15T14:30:00.123456Z", False),
        (None, None, False),
    ],
)
def test_null_flag_and_timestamp_are_understood(
    flag: bool | None, timestamp: str | None, recomputing: bool
) -> None:
    body = metrics_body(model_id=None, is_recomputing_metrics=flag, last_recomputed_timestamp=timestamp)
    seen = ScriptedPlatform(metrics=answer(json=body)).client().metrics(MODEL)
    assert (seen.recomputing, seen.timestamp) == (recomputing, timestamp)


@pytest.mark.parametrize(
    "changes",
    [
        {"is_recomputing_metrics": "false"},
        {"is_recomputing_metrics": 0},
        {"last_recomputed_timestamp": 1747385873},
        {"last_recomputed_timestamp": ["2025-01-15T14:30:00Z"]},
    ],
)
def test_metrics_with_wrong_types_are_an_undocumented_answer(changes: dict[str, object]) -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(**changes)))
    with pytest.raises(UndocumentedAnswer):
        platform.client().metrics(MODEL)


@pytest.mark.parametrize("field", ["is_recomputing_metrics", "last_recomputed_timestamp"])
def test_metrics_without_flag_or_timestamp_are_an_undocumented_answer(field: str) -> None:
    body = metrics_body()
    del body[field]
    with pytest.raises(UndocumentedAnswer, match=f"with 200: .*: {field} is missing"):
        ScriptedPlatform(metrics=answer(json=body)).client().metrics(MODEL)


@pytest.mark.parametrize("active", [None, ""])
def test_job_without_active_model_is_rejected(active: str | None) -> None:
    platform = ScriptedPlatform(job=answer(json={"active_model_id": active}))
    with pytest.raises(Rejected, match="'1234' has no active model"):
        platform.client().active_model("1234")


# --- The reference server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[ArcannaServer]:
    jobs = {
        1234: Job("security-alerts", (MODEL.model_id,)),
        99: Job("phishing", ("untouched.hdf5",)),
        98: Job("untrained", ()),
    }
    alerts = InMemoryAlerts()
    alerts.put(1234, MODEL.model_id, "alerts.csv", labelled_alerts(50, TYPICAL_ACCURACY, seed=1))
    with ArcannaServer(jobs, alerts) as server:
        yield server


@pytest.fixture
def server(running: ArcannaServer) -> ArcannaServer:
    running.clear_faults()
    running.set_api_keys({API_KEY: KeyInfo()})
    running.set_behaviour(Behaviour())
    return running


@pytest.fixture(scope="module")
def http(running: ArcannaServer) -> Iterator[httpx.Client]:
    with BoundedClient(base_url=running.url) as http:
        yield http


@pytest.fixture
def arcanna(server: ArcannaServer, http: httpx.Client) -> Arcanna:
    return Arcanna(http, lambda read_again: API_KEY)


def metrics_newer_than(before: ModelMetrics, arcanna: Arcanna) -> ModelMetrics | None:
    """Waits for metrics of another recompute of the idle model, and returns them."""
    now = arcanna.metrics(MODEL)
    return None if now.recomputing or now.timestamp == before.timestamp else now


def test_requested_recompute_ends_with_new_metrics(server: ArcannaServer, arcanna: Arcanna) -> None:
    before = arcanna.metrics(MODEL)
    accepted = arcanna.request_recompute(MODEL)
    assert not accepted.failed
    assert accepted.requested_at
    after = eventually("new metrics", lambda: metrics_newer_than(before, arcanna))
    assert 0 < after.fields["overall_accuracy"] <= 1
    assert len(after.fields["confusion_matrix"]) == 3
    assert None not in after.fields.values()


def test_job_can_be_addressed_by_name(server: ArcannaServer, arcanna: Arcanna) -> None:
    by_name = Model("security-alerts", MODEL.model_id)
    assert arcanna.metrics(by_name) == arcanna.metrics(MODEL)
    assert arcanna.active_model("security-alerts") == arcanna.active_model("1234") == MODEL.model_id
    assert arcanna.request_recompute(by_name).job_id == "1234"


def test_job_name_is_resolved_if_the_key_may_read_resources(server: ArcannaServer, arcanna: Arcanna) -> None:
    assert arcanna.job_id_of("security-alerts") is None
    server.set_api_keys({API_KEY: KeyInfo(KeyInfo().scopes | {RESOURCES_SCOPE})})
    assert arcanna.job_id_of("security-alerts") == "1234"
    assert arcanna.job_id_of("unknown") is None
    server.set_api_keys({})
    assert arcanna.job_id_of("security-alerts") is None


def test_odd_answers_seen_in_the_field_are_understood(
    server: ArcannaServer, arcanna: Arcanna, logs: Logs
) -> None:
    server.set_api_keys({API_KEY: KeyInfo(KeyInfo().scopes | {RESOURCES_SCOPE})})
    server.set_behaviour(Behaviour(odd=True))
    assert arcanna.metrics(Model("99", "untouched.hdf5")).timestamp is None
    accepted = arcanna.request_recompute(Model("security-alerts", MODEL.model_id))
    assert server.requests[-1].status == 202
    assert (accepted.failed, accepted.job_id) == (False, "1234")
    before = arcanna.metrics(MODEL)
    after = eventually("new metrics", lambda: metrics_newer_than(before, arcanna))
    assert after.fields["overall_accuracy"] > 0
    counts = after.fields["metrics_per_decision"]["Drop"]["true_positives"]
    assert (type(counts), counts % 1) == (float, 0)
    assert arcanna.active_model("security-alerts") == MODEL.model_id
    assert arcanna.job_id_of("security-alerts") == "1234"
    assert {line["message"] for line in logs.lines} <= {"undefined numbers"}


@pytest.mark.parametrize(
    "call",
    [
        lambda arcanna: arcanna.metrics(Model("1234", "unknown")),
        lambda arcanna: arcanna.metrics(Model("4321", MODEL.model_id)),
        lambda arcanna: arcanna.request_recompute(Model("1234", "unknown")),
        lambda arcanna: arcanna.active_model("4321"),
        lambda arcanna: arcanna.active_model("untrained"),
        lambda arcanna: arcanna.metrics(Model("", MODEL.model_id)),
    ],
)
def test_unknown_job_or_model_is_rejected(arcanna: Arcanna, call: Callable[[Arcanna], object]) -> None:
    with pytest.raises(Rejected):
        call(arcanna)


@every_call
@pytest.mark.parametrize(
    "known",
    [
        {},
        {API_KEY: KeyInfo(expires_at=0)},
        {API_KEY: KeyInfo(scopes=frozenset())},
    ],
    ids=["unknown key", "expired key", "no scopes"],
)
def test_unknown_expired_or_unscoped_key_is_unauthorised(
    server: ArcannaServer, arcanna: Arcanna, call: Callable[[Arcanna], object], known: dict[str, KeyInfo]
) -> None:
    server.set_api_keys(known)
    with pytest.raises(Unauthorised) as raised:
        call(arcanna)
    assert API_KEY not in str(raised.value)


def test_scopes_named_in_the_error_suffice_for_all_calls(server: ArcannaServer, arcanna: Arcanna) -> None:
    server.set_api_keys({API_KEY: KeyInfo(scopes=frozenset({RECOMPUTE_SCOPE, READ_SCOPE}))})
    for call in CALLS.values():
        call(arcanna)


@every_call
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=429, headers={"Retry-After": "7"}), PlatformUnavailable),
        (Fault(status=500), PlatformUnavailable),
        (Fault(status=503), PlatformUnavailable),
        (Fault(drop="reset"), PlatformUnavailable),
        (Fault(drop="close"), PlatformUnavailable),
        (Fault(drop="truncate"), PlatformUnavailable),
        (Fault(status=200, body=ERROR_MESSAGE_BODY), UndocumentedAnswer),
        (Fault(status=200, body=REASON_BODY), UndocumentedAnswer),
    ],
    ids=lambda value: str(value.status or value.drop) if isinstance(value, Fault) else "",
)
def test_call_fails_with_the_matching_error_and_succeeds_afterwards(
    server: ArcannaServer,
    arcanna: Arcanna,
    call: Callable[[Arcanna], object],
    fault: Fault,
    error: type[RecomputeError],
) -> None:
    server.add_fault(fault)
    with pytest.raises(error) as raised:
        call(arcanna)
    assert getattr(raised.value, "retry_after", None) == (7 if fault.headers else None)
    call(arcanna)


@pytest.mark.parametrize("body", ["{", "<html>Sign in</html>", "", []])
def test_unreadable_answer_fails_reads_but_counts_as_accepted_request(
    server: ArcannaServer, arcanna: Arcanna, body: object
) -> None:
    server.add_fault(Fault(status=200, body=body, times=3, after_effect=True))
    assert not arcanna.request_recompute(MODEL).failed
    for call in READS.values():
        with pytest.raises(UndocumentedAnswer):
            call(arcanna)


def test_timeout_means_platform_unavailable(server: ArcannaServer) -> None:
    server.add_fault(Fault(slow=1.0))
    with httpx.Client(base_url=server.url, timeout=0.1) as http, pytest.raises(PlatformUnavailable):
        Arcanna(http, lambda read_again: API_KEY).metrics(MODEL)


def test_refused_connection_means_platform_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as http,
        pytest.raises(PlatformUnavailable, match="ConnectError"),
    ):
        Arcanna(http, lambda read_again: API_KEY).metrics(MODEL)
