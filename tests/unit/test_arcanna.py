"""Any arguments and any answer lead to the same URLs and to project errors without the key."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import (
    ApiKeyUnavailable,
    PlatformUnavailable,
    RecomputeError,
    RetryLater,
    Unauthorised,
    UndocumentedAnswer,
)
from arcanna_metrics.platform.answers import MOST_LEVELS, retry_after
from arcanna_metrics.platform.client import REQUEST_STATUSES, Arcanna, RecomputeRequest
from arcanna_metrics.platform.model_metrics import ModelMetrics
from arcanna_metrics.targets import Model
from tests.support.doubles import (
    API_KEY,
    MODEL,
    Answer,
    Logs,
    ScriptedPlatform,
    answer,
    metrics_body,
    no_answer,
    request_body,
)

DATE = "Wed, 15 Jan 2025 14:00:00 GMT"
CALLS: list[Callable[[Arcanna], object]] = [
    lambda arcanna: arcanna.metrics(MODEL),
    lambda arcanna: arcanna.request_recompute(MODEL),
    lambda arcanna: arcanna.active_model(MODEL.job_id),
    lambda arcanna: arcanna.scopes(),
]
NAME = "security-alerts"
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256) | st.sampled_from(
    ["..", "../../admin", "a&job_id=2", "a#b", "a?b", "%2e%2e", "//evil.example", "a b", "a+b", "@evil", ";"]
)


def ask_all(arcanna: Arcanna) -> list[RecomputeError]:
    """Makes every call. Returns the project's errors; any other error is raised."""
    errors = []
    for call in CALLS:
        try:
            call(arcanna)
        except RecomputeError as error:
            errors.append(error)
    return errors


def scripted(same: Answer) -> ScriptedPlatform:
    return ScriptedPlatform(metrics=same, request=same, job=same, scopes=same, resources=same)


# --- What is asked ---------------------------------------------------------------------------------------


@given(job_id=ids, model_id=ids)
def test_ids_cannot_change_which_url_is_called(job_id: str, model_id: str) -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(model_id=model_id)))
    arcanna, model = platform.client(), Model(job_id, model_id)
    arcanna.metrics(model)
    arcanna.request_recompute(model)
    arcanna.active_model(job_id)
    arcanna.scopes()
    arcanna.job_id_of(job_id)
    both = [("job_id", job_id), ("model_id", model_id)]

    assert [
        (request.method, request.url.host, request.url.path, request.url.params.multi_items())
        for request in platform.requests
    ] == [
        ("GET", "arcanna.example", "/prefix/api/v2/metrics/model", both),
        ("POST", "arcanna.example", "/prefix/api/v2/metrics/model/request_recompute_metrics", both),
        ("POST", "arcanna.example", "/prefix/api/v2/metrics/job", [("job_id", job_id)]),
        ("GET", "arcanna.example", "/prefix/api/v2/token/scopes", []),
        (
            "GET",
            "arcanna.example",
            "/prefix/api/v2/resources",
            [("resource_type", "job"), ("title", job_id)],
        ),
    ]


def test_every_call_sends_and_accepts_json() -> None:
    platform = ScriptedPlatform()
    ask_all(platform.client())
    platform.client().job_id_of(NAME)
    assert platform.asked == ["metrics", "request", "job", "scopes", "resources"]
    for request in platform.requests:
        assert request.headers["Content-Type"] == request.headers["Accept"] == "application/json"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "location", ["http:login", "mailto:x", "https://xn--/", "https://[", "//a:b", "\xff"]
)
def test_invalid_redirect_location_is_one_of_the_projects_errors(
    call: Callable[[Arcanna], object], location: str
) -> None:
    platform = scripted(answer(307, headers={"Location": location.encode("latin-1")}))
    with pytest.raises((PlatformUnavailable, UndocumentedAnswer)):
        call(platform.client())
    assert len(platform.requests) == 1


@pytest.mark.parametrize("model_id", ["a\u2028b", "x" * 257, "a\nb", " ", 7])
def test_invalid_active_model_id_is_refused(model_id: object) -> None:
    platform = ScriptedPlatform(job=answer(json={"active_model_id": model_id}))
    with pytest.raises(UndocumentedAnswer, match="active_model_id"):
        platform.client().active_model("1234")


def test_active_model_id_in_any_script_is_taken_as_it_is() -> None:
    platform = ScriptedPlatform(job=answer(json={"active_model_id": "modèle\u00a0\u200c1"}))
    assert platform.client().active_model("1234") == "modèle\u00a0\u200c1"


def test_lone_surrogate_is_replaced_because_aws_refuses_it() -> None:
    body = metrics_body(metrics_per_decision={"a\udfff\U0001f600": {"recall": 1.0}})
    platform = ScriptedPlatform(metrics=answer(content=json.dumps(body).encode()))
    assert platform.client().metrics(MODEL).fields["metrics_per_decision"] == {
        "a?\U0001f600": {"recall": 1.0}
    }


@pytest.mark.parametrize("model_id", ["other.hdf5", 5, 0, False])
def test_metrics_of_another_model_are_refused_with_its_id(model_id: object) -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(model_id=model_id)))
    with pytest.raises(UndocumentedAnswer, match=rf"the metrics of another model, {model_id!r}$"):
        platform.client().metrics(MODEL)


@pytest.mark.parametrize("model_id", ["5", 5, "", None])
def test_metrics_of_a_model_with_a_number_as_its_id_are_taken(model_id: object) -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(model_id=model_id)))
    assert platform.client().metrics(Model("1234", "5")).timestamp


def test_long_transport_error_is_shortened() -> None:
    platform = scripted(no_answer(httpx.RemoteProtocolError("x" * 100_000)))
    with pytest.raises(PlatformUnavailable) as caught:
        platform.client().metrics(MODEL)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("location", ["https://evil.example/", "/elsewhere", "http://arcanna.example/prefix"])
def test_redirects_are_not_followed(call: Callable[[Arcanna], object], location: str) -> None:
    platform = scripted(answer(307, headers={"Location": location}))
    with pytest.raises(UndocumentedAnswer, match="307"):
        call(platform.client())
    assert len(platform.requests) == 1


# --- What is answered ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "charset",
    ["utf-8", "latin-1", "UTF-16", "base64", "hex", "zlib", "idna", "punycode", "rot13", "undefined", "none"],
)
def test_answer_in_any_charset_is_understood_or_refused(charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    ask_all(scripted(answer(content=b'{"status": "\xff\xc3"}', headers=headers)).client())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br, gzip"])
def test_body_that_does_not_match_its_content_encoding_is_an_error(encoding: str) -> None:
    # A stream, because httpx decodes ready-made content when the response is made.
    def garbled(_: httpx.Request) -> httpx.Response:
        headers = {"Content-Encoding": encoding}
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"not compressed"))

    with pytest.raises((PlatformUnavailable, UndocumentedAnswer)):
        scripted(garbled).client().metrics(MODEL)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_compressed_answer_is_named_and_not_quoted(status: int) -> None:
    packed = gzip.compress(json.dumps(metrics_body()).encode())

    def gateway(_: httpx.Request) -> httpx.Response:
        headers = {"Content-Encoding": "gzip"}
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(packed))

    with pytest.raises(RecomputeError) as error:
        ScriptedPlatform(metrics=gateway).client().metrics(MODEL)
    said = "'(The response is compressed, though no compression was asked for. A gateway may do that.)'"
    assert f"with {status}: {said}" in str(error.value)


def test_answer_that_only_claims_to_be_compressed_is_read() -> None:
    content = httpx.ByteStream(json.dumps(metrics_body()).encode())
    platform = ScriptedPlatform(
        metrics=lambda _: httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=content)
    )
    assert platform.client().metrics(MODEL).fields["overall_recall"] == 0.8


@pytest.mark.parametrize(
    ("number", "named"),
    [("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity"), ("1e999", "Infinity")],
)
def test_undefined_score_is_null_and_the_log_says_what_it_was(logs: Logs, number: str, named: str) -> None:
    per_decision = {"Drop": {"recall": "X", "precision": 0.5}}
    body = json.dumps(
        metrics_body(overall_precision="X", metrics_per_decision=per_decision, confusion_matrix=[["X"]])
    )
    content = body.replace('"X"', number).encode()
    fields = ScriptedPlatform(metrics=answer(content=content)).client().metrics(MODEL).fields
    assert (fields["overall_precision"], fields["overall_recall"]) == (None, 0.8)
    assert fields["metrics_per_decision"] == {"Drop": {"recall": None, "precision": 0.5}}
    (line,) = logs.lines
    assert (line["level"], line["message"]) == ("WARNING", "undefined numbers")
    assert line["numbers"] == [named] * 3
    assert line["call"] == "GET /api/v2/metrics/model"


def test_count_written_as_a_float_stays_a_number() -> None:
    per_decision = {"Drop": {"true_positives": 95.0, "recall": 1}}
    body = metrics_body(metrics_per_decision=per_decision, confusion_matrix=[[95.0]], buckets_in_kb=2.0)
    fields = ScriptedPlatform(metrics=answer(json=body)).client().metrics(MODEL).fields

    assert json.dumps(fields["metrics_per_decision"]) == '{"Drop": {"true_positives": 95.0, "recall": 1}}'
    assert (fields["confusion_matrix"], fields["buckets_in_kb"]) == ([[95]], 2)


def test_whole_number_of_more_than_64_bits_is_null_because_eventbridge_refuses_it() -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html"""
    body = metrics_body(buckets_in_kb=2**63, confusion_matrix=[[-(2**63), 2**63 - 1], [-(2**63) - 1, 1e308]])
    fields = ScriptedPlatform(metrics=answer(json=body)).client().metrics(MODEL).fields

    assert fields["buckets_in_kb"] is None
    assert fields["confusion_matrix"] == [[-(2**63), 2**63 - 1], [None, 1e308]]


@pytest.mark.parametrize("unset", ["", " ", "\n"])
def test_empty_timestamp_is_none(unset: str) -> None:
    body = metrics_body(last_recomputed_timestamp=unset)
    seen = ScriptedPlatform(metrics=answer(json=body)).client().metrics(MODEL)

    assert seen.timestamp is None
    assert seen.as_dict()["last_recomputed_timestamp"] is None


@pytest.mark.parametrize(
    "text", ["2025-01-15T14:30:00Z", "1970-01-01T00:00:01Z", "0001-01-01T00:00:00Z", "yesterday", "0"]
)
def test_timestamp_is_kept_as_the_platform_writes_it(text: str) -> None:
    body = metrics_body(last_recomputed_timestamp=f" {text}\n")
    assert ScriptedPlatform(metrics=answer(json=body)).client().metrics(MODEL).timestamp == text


@pytest.mark.parametrize("call", CALLS)
def test_byte_order_mark_before_an_answer_is_dropped(call: Callable[[Arcanna], object]) -> None:
    platform = ScriptedPlatform()
    expected = call(platform.client())
    for endpoint in ("metrics", "request", "job", "scopes"):
        plain: Answer = getattr(platform, endpoint)
        setattr(platform, endpoint, with_byte_order_mark(plain))

    assert call(platform.client()) == expected


def with_byte_order_mark(plain: Answer) -> Answer:
    return lambda request: httpx.Response(200, content=b"\xef\xbb\xbf" + plain(request).content)


def test_deeply_nested_answer_is_refused() -> None:
    with pytest.raises(UndocumentedAnswer, match="not JSON"):
        scripted(answer(content=b"[" * 100_000)).client().metrics(MODEL)


@pytest.mark.parametrize("levels", [MOST_LEVELS - 1, MOST_LEVELS])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
def test_answer_with_more_levels_than_any_documented_one_is_refused(
    levels: int, begin: str, end: str
) -> None:
    """The object around the field is a level, too. Brackets in a text and values side by side are not."""
    deep = begin * levels + '"[[["' + end * levels
    body = json.dumps(metrics_body(confusion_matrix="X", buckets_in_kb=[[]] * 500)).replace('"X"', deep)
    platform = ScriptedPlatform(metrics=answer(content=body.encode()))
    if levels < MOST_LEVELS:
        assert platform.client().metrics(MODEL).fields["confusion_matrix"]
    else:
        with pytest.raises(UndocumentedAnswer, match="nested too deeply"):
            platform.client().metrics(MODEL)


def test_answer_becomes_model_metrics() -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(is_recomputing_metrics=True)))
    seen = platform.client().metrics(MODEL)
    fields = metrics_body()
    for name in ("model_id", "is_recomputing_metrics", "last_recomputed_timestamp"):
        del fields[name]

    assert seen == ModelMetrics(True, "2025-01-15T14:00:00Z", fields)
    assert seen.as_dict() == {"last_recomputed_timestamp": "2025-01-15T14:00:00Z", **fields}


# --- The answer to a request -------------------------------------------------------------------------------


def accepted(status: int = 200, **content: Any) -> RecomputeRequest:
    """The result of a request with this answer. Asserts that it was sent once."""
    platform = ScriptedPlatform(request=answer(status, **content))
    request = platform.client().request_recompute(MODEL)
    assert platform.asked == ["request"]
    return request


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 206, 226, 299])
def test_request_is_accepted_with_any_2xx_status(status: int) -> None:
    assert accepted(status, json=request_body()) == RecomputeRequest(False, "2025-01-15T14:30:00Z", "1234")


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"status": "queued", "job_id": ' + b"[" * MOST_LEVELS + b"]" * MOST_LEVELS + b"}",
        b"9" * 5_000,
        b'{"status": "queued"',
        b'"queued"',
        b"true",
        b"<html>Accepted</html>",
        b'[{"error": "none of the documented shapes"}]',
        b'{"status": "\\ud800"}',
        b'{"status": "queued", "message": "\\ud800"}',
        json.dumps({"status": "queued"}).encode("utf-16"),
        b"\xff\xfe\x00",
        b" " * 900_000,
        json.dumps({"status": "pondering"}).encode(),
        json.dumps({"status": None}).encode(),
        json.dumps({"status": 1}).encode(),
        json.dumps({"status": ["queued"]}).encode(),
        json.dumps({"status": "OK", "reason": "", "reason_details": ""}).encode(),
        json.dumps({"status": "OK", "error": None, "error_message": "", "detail": []}).encode(),
        json.dumps({"status": "queued", "detail": "The recompute has position 3 in the queue"}).encode(),
    ],
    ids=lambda body: str(body[:30]) if isinstance(body, bytes) else None,
)
def test_2xx_without_an_error_counts_as_accepted_whatever_its_body(status: int, body: bytes) -> None:
    assert accepted(status, content=body) == RecomputeRequest(False, None, None)


def test_unreadable_answer_to_a_request_is_logged(logs: Logs) -> None:
    accepted(202, text="<html>Accepted</html>")
    (line,) = logs.lines

    assert (line["level"], line["message"]) == (
        "WARNING",
        "undocumented answer to a request, treated as accepted",
    )
    assert "with 202: '<html>Accepted</html>': not JSON" in line["detail"]


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize(
    "body",
    [
        {"status": "error"},
        {"status": " ERROR "},
        {"status": "error", "error_message": "Internal error"},
        {"status": "error", "reason": "Internal error", "reason_details": "See the logs"},
        {"status": "Internal error", "reason": "", "reason_details": "See the logs"},
        {"status": None, "reason": "Internal error"},
        {"status": "queued", "error_message": "Internal error"},
        {"error": "Model not found", "details": "Model 'm' not found for job '1234'"},
        {"detail": [{"loc": ["query", "model_id"], "msg": "Model ID is required", "type": "value_error"}]},
        {"detail": "Not Found"},
        {"status": "error", "error_message": "half of a \ud83d"},
    ],
)
def test_error_in_the_body_of_a_2xx_is_an_error(status: int, body: dict[str, Any]) -> None:
    platform = ScriptedPlatform(request=answer(status, content=json.dumps(body).encode()))
    with pytest.raises(UndocumentedAnswer, match=f"request_recompute_metrics with {status}: '{{") as raised:
        platform.client().request_recompute(MODEL)

    assert not raised.value.effect_unknown
    assert platform.asked == ["request"]


@pytest.mark.parametrize(
    ("said", "failed"),
    [*((status, status == "failed") for status in REQUEST_STATUSES), ("QUEUED", False), (" Failed", True)],
)
def test_request_status_is_read_in_any_case(said: str, failed: bool) -> None:
    assert accepted(json=request_body(status=said)).failed == failed


def test_request_with_status_failed_has_failed_whatever_else_it_says() -> None:
    body = request_body(status="failed", reason="No data", error_message="No data", error="No data")
    assert accepted(json=body).failed


@pytest.mark.parametrize(
    "requested_at",
    [
        None,
        1736951400,
        {},
        "2025-01-15T14:30:00." + "0" * 60 + "Z",
        float("nan"),
    ],
)
def test_request_without_a_time_is_still_accepted(requested_at: object) -> None:
    body = json.dumps(request_body(requested_at=requested_at))
    assert accepted(content=body.encode()).requested_at is None


@pytest.mark.parametrize(
    ("shown", "job_id"),
    [
        (1234, "1234"),
        (1234.0, "1234"),
        ("1234", "1234"),
        (0, "0"),
        (2**63 - 1, "9223372036854775807"),
        (None, None),
        ("", None),
        ("security-alerts", None),
        ("-1", None),
        ("\u0661", None),
        (-1, None),
        (12.5, None),
        (True, None),
        (1e300, None),
        ("9" * 20, None),
        (float("nan"), None),
        ([1234], None),
    ],
)
def test_job_id_in_the_answer_is_used_only_if_it_is_an_integer(shown: object, job_id: str | None) -> None:
    assert accepted(content=json.dumps(request_body(job_id=shown)).encode()).job_id == job_id


# --- What became of a request that failed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "unknown"),
    [
        (no_answer(httpx.ReadTimeout("slow")), True),
        (no_answer(httpx.WriteTimeout("slow")), True),
        (no_answer(httpx.ReadError("reset")), True),
        (no_answer(httpx.WriteError("reset")), True),
        (no_answer(httpx.CloseError("reset")), True),
        (no_answer(httpx.RemoteProtocolError("closed")), True),
        (no_answer(httpx.DecodingError("garbled")), True),
        (lambda _: httpx.Response(200, stream=httpx.ByteStream(b" " * (2**20 + 1))), True),
        *((answer(status), True) for status in (408, 500, 502, 503, 504, 520, 599)),
        # Nothing was sent.
        (no_answer(httpx.ConnectError("refused")), False),
        (no_answer(httpx.ConnectTimeout("slow")), False),
        (no_answer(httpx.ProxyError("403 Forbidden")), False),
        # The server that answered did not accept it.
        *((answer(status), False) for status in (429, 401, 403, 400, 409, 413, 307)),
    ],
)
def test_failed_request_says_whether_it_may_have_taken_effect(failure: Answer, unknown: bool) -> None:
    platform = ScriptedPlatform(request=failure)
    with pytest.raises(RetryLater) as raised:
        platform.client().request_recompute(MODEL)

    assert raised.value.effect_unknown is unknown
    assert platform.asked == ["request"]


@pytest.mark.parametrize("failure", [no_answer(httpx.ReadTimeout("slow")), answer(500), answer(408)])
def test_failed_read_has_no_unknown_effect(failure: Answer) -> None:
    def look_up(arcanna: Arcanna) -> object:
        return arcanna.job_id_of(NAME)

    for call in (CALLS[0], *CALLS[2:], look_up):
        with pytest.raises(PlatformUnavailable) as raised:
            call(scripted(failure).client())
        assert not raised.value.effect_unknown


def test_request_without_an_api_key_is_not_sent() -> None:
    def no_key(_: bool) -> str:
        raise ApiKeyUnavailable("the secret does not hold an API key")

    platform = ScriptedPlatform()
    with pytest.raises(ApiKeyUnavailable) as raised:
        platform.client(no_key).request_recompute(MODEL)
    assert not raised.value.effect_unknown
    assert platform.asked == []


# --- The id of a job ---------------------------------------------------------------------------------------


def job_id_of(listed: object, name: str = NAME) -> str | None:
    platform = ScriptedPlatform(resources=answer(content=json.dumps(listed).encode()))
    return platform.client().job_id_of(name)


@pytest.mark.parametrize(
    ("listed", "job_id"),
    [
        ([{"id": 1234, "title": NAME}], "1234"),
        ([{"id": 1234.0, "title": NAME, "type": "job"}, {"id": 7, "title": "other"}], "1234"),
        ([{"id": "1234", "title": NAME}], "1234"),
        ([{"id": 1234, "title": NAME}, {"id": 1234, "title": NAME}], "1234"),
        ([{"id": 1234, "title": NAME}, None, 7, [], {}], "1234"),
        # Not exactly one job of exactly that title.
        ([], None),
        ([{"id": 1234, "title": NAME}, {"id": 99, "title": NAME}], None),
        ([{"id": 1234, "title": NAME}, {"id": None, "title": NAME}], None),
        ([{"id": 1234, "title": "Security-Alerts"}], None),
        ([{"id": 1234, "title": f"{NAME} (old)"}], None),
        ([{"id": 1234, "title": [NAME]}], None),
        ([{"id": 1234}], None),
        # No id, or an id that no job can have.
        ([{"title": NAME}], None),
        ([{"id": "vGWeqZUB", "title": NAME}], None),
        ([{"id": True, "title": NAME}], None),
        ([{"id": float("nan"), "title": NAME}], None),
        # Another shape.
        ({"id": 1234, "title": NAME}, None),
        ({"error": "Forbidden", "details": "scope"}, None),
        (None, None),
        ("1234", None),
        (1234, None),
    ],
)
def test_name_is_resolved_only_if_exactly_one_job_has_it(listed: object, job_id: str | None) -> None:
    assert job_id_of(listed) == job_id


def test_job_title_is_compared_character_by_character() -> None:
    listed = [{"id": 1, "title": "a\u00a0b"}, {"id": 2, "title": "a b"}, {"id": 3, "title": "a\u200cb"}]
    assert [job_id_of(listed, name) for name in ("a\u00a0b", "a b", "a\u200cb", "ab")] == [
        "1",
        "2",
        "3",
        None,
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 422, 400, 410, 302])
def test_name_stays_unresolved_if_the_look_up_is_refused(status: int) -> None:
    asked: list[bool] = []

    def api_key(read_again: bool) -> str:
        asked.append(read_again)
        return API_KEY

    platform = ScriptedPlatform(resources=answer(status, json=[{"id": 1234, "title": NAME}]))
    assert platform.client(api_key).job_id_of(NAME) is None
    assert asked == ([False, True] if status == 401 else [False])
    assert platform.asked == ["resources"]


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", b"[", b"\xff", b'[{"title": "\\ud800"}]'])
def test_name_stays_unresolved_if_the_answer_is_unreadable(content: bytes) -> None:
    assert ScriptedPlatform(resources=answer(content=content)).client().job_id_of(NAME) is None


@pytest.mark.parametrize(
    "failure", [answer(429), answer(500), answer(501), answer(503), no_answer(httpx.ReadTimeout("slow"))]
)
def test_unanswered_look_up_of_a_name_is_retried_later(failure: Answer) -> None:
    with pytest.raises(PlatformUnavailable):
        ScriptedPlatform(resources=failure).client().job_id_of(NAME)


def test_error_beside_the_documented_fields_is_no_answer() -> None:
    """Parts of the API answer 200 with an error_message beside their own fields, which are null then."""
    error = {"error_message": "Elasticsearch is away"}
    nothing = answer(json={**dict.fromkeys(metrics_body()), **error})
    no_model = answer(json={"active_model_id": None, **error})
    arcanna = ScriptedPlatform(metrics=nothing, job=no_model).client()
    with pytest.raises(UndocumentedAnswer, match="Elasticsearch"):
        arcanna.metrics(MODEL)
    with pytest.raises(UndocumentedAnswer, match="Elasticsearch"):
        arcanna.active_model("1234")


# --- The scopes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"scopes": []}, [1], [["read:job_metrics"]], ["a\nb"], None])
def test_scopes_that_are_not_a_list_of_strings_are_refused(body: object) -> None:
    with pytest.raises(UndocumentedAnswer):
        ScriptedPlatform(scopes=answer(json=body)).client().scopes()


# --- Retry-After -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("0", None, 0.0),
        ("120", None, 120.0),
        ("120.0", None, 120.0),
        ("1.5", None, 1.5),
        (" 120 ", None, 120.0),
        ("Wed, 15 Jan 2025 14:02:00 GMT", DATE, 120.0),
        ("Wednesday, 15-Jan-25 14:02:00 GMT", DATE, 120.0),
        ("Wed Jan 15 14:02:00 2025", DATE, 120.0),
        ("Wed, 15 Jan 2025 14:02:00 -0000", DATE, 120.0),
        ("Wed, 15 Jan 2025 14:02:00 GMT", "Wed Jan 15 14:00:00 2025", 120.0),
        ("Wed, 15 Jan 2025 13:00:00 GMT", DATE, 0.0),
        # Values without a meaning.
        (None, DATE, None),
        ("", DATE, None),
        ("-1", DATE, None),
        ("-1.5", DATE, None),
        ("1.", DATE, None),
        ("soon", DATE, None),
        ("86400000000", DATE, 1e9),
        ("9" * 400, DATE, 1e9),
        ("\u00b2", DATE, None),
        ("Wed, 15 Jan 2025 14:02:00 GMT", None, None),
        ("Wed, 15 Jan 2025 14:02:00 GMT", "today", None),
        ("Wed, 15 Jan 99999999999999 14:02:00 GMT", DATE, None),
        ("Wed, 99999999999999999999 Jan 2025 14:02:00 GMT", DATE, None),
    ],
)
def test_retry_after_header_becomes_seconds(
    value: str | None, date: str | None, seconds: float | None
) -> None:
    headers = {"Retry-After": value, "Date": date}
    given_headers = [
        (name.encode(), text.encode("latin-1")) for name, text in headers.items() if text is not None
    ]
    assert retry_after(httpx.Headers(given_headers)) == seconds


@given(st.integers(0, 2**32).map(lambda at: datetime.fromtimestamp(at, UTC)), st.integers(0, 10**6))
def test_retry_after_date_is_relative_to_the_answers_date(date: datetime, seconds: int) -> None:
    until = date + timedelta(seconds=seconds)
    headers = {"Date": format_datetime(date, usegmt=True), "Retry-After": format_datetime(until, usegmt=True)}
    assert retry_after(httpx.Headers(headers)) == seconds


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["7", "120"], 120.0),
        (["soon", "7"], 7.0),
        (["soon", ""], None),
        (["300, 300"], 300.0),  # joined by a proxy
        (["5,120", "7"], 120.0),
    ],
)
def test_longest_of_several_retry_after_headers_counts(values: list[str], seconds: float | None) -> None:
    assert retry_after(httpx.Headers([("Retry-After", value) for value in values])) == seconds


date_words = st.sampled_from([*"0123456789:,-+.()", " ", "Wed", "Jan", "GMT", "2025", "14:02:00", "9" * 20])


@given(
    value=st.text(st.characters(codec="latin-1")) | st.lists(date_words).map("".join),
    date=st.just(DATE) | st.lists(date_words).map("".join),
)
def test_any_retry_after_is_a_number_of_seconds_or_none(value: str, date: str) -> None:
    headers = httpx.Headers([(b"Retry-After", value.encode("latin-1")), (b"Date", date.encode())])
    seconds = retry_after(headers)
    assert seconds is None or seconds >= 0


# --- The key ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 307, 400, 401, 403, 404, 422, 429, 500, 503])
@pytest.mark.parametrize(
    "echo",
    [
        lambda key: {"content": f"your key is {key}".encode()},
        lambda key: {"json": {"error": key, "details": f"{key}{key}"}},
        lambda key: {
            "json": {"is_recomputing_metrics": key, "last_recomputed_timestamp": key, "status": key}
        },
        lambda key: {
            "json": {"model_id": key, "is_recomputing_metrics": False, "last_recomputed_timestamp": None}
        },
        lambda key: {
            "content": key.encode("utf-16"),
            "headers": {"Content-Type": "text/plain; charset=utf-16"},
        },
    ],
    ids=["text", "error", "fields", "model", "utf-16"],
)
def test_echo_of_the_api_key_is_in_no_error(status: int, echo: Callable[[str], dict[str, Any]]) -> None:
    errors = ask_all(scripted(answer(status, **echo(API_KEY))).client())
    assert errors
    for error in errors:
        assert not mentions(error, API_KEY)


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize(
    "echoed",
    [
        r'{"error": "ab\/cd+ef==hidden"}',
        r'{"error": "\u0061b/cd+ef==\u0068idden"}',
        "<p>ab&#x2F;cd+ef&#61;=hidden</p>",
        f"<p>ab&#x2F;cd+ef&#{61:06000};=hidden</p>",
        "X-Arcanna-Api-Key=ab%2Fcd%2Bef%3D%3Dhidden",
        "\0".join("the key ab/cd+ef==hidden is wrong"),  # as UTF-16 reads when it is taken for UTF-8
    ],
)
def test_escaped_echo_of_the_api_key_is_in_no_error(status: int, echoed: str) -> None:
    key = "ab/cd+ef==hidden"
    assert_unquoted(key, status, echoed)


def test_number_of_a_character_that_is_too_large_changes_nothing() -> None:
    label = f"&#{'9' * 6000};"
    metrics = metrics_body(metrics_per_decision={label: {"recall": 1.0}})
    shown = scripted(answer(json=metrics)).client().metrics(MODEL).fields["metrics_per_decision"]
    assert shown == {label: {"recall": 1.0}}


def test_api_key_with_a_backslash_is_in_no_error() -> None:
    assert_unquoted("ab\\cd-hidden", 500, json.dumps({"error": "ab\\cd-hidden"}))


def assert_unquoted(key: str, status: int, echoed: str) -> None:
    for error in ask_all(scripted(answer(status, text=echoed)).client(lambda _: key)):
        assert "quotes the API key" in str(error)
        assert "hidden" not in str(error)


def test_api_key_in_a_transport_error_is_removed() -> None:
    # The HTTP parser quotes what it cannot read.
    platform = scripted(no_answer(httpx.RemoteProtocolError(f"illegal status line: {API_KEY}")))
    with pytest.raises(PlatformUnavailable) as raised:
        platform.client().metrics(MODEL)
    assert not mentions(raised.value, API_KEY)


def mentions(error: BaseException | None, secret: str) -> bool:
    """Whether the error, or one that its traceback shows, contains the text."""
    while error is not None:
        if any(secret in text for text in (str(error), repr(error), repr(vars(error)))):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def keys(*in_turn: str) -> Callable[[bool], str]:
    """A secret with another key each time it is read again."""
    known = list(in_turn)

    def api_key(read_again: bool) -> str:
        if read_again and len(known) > 1:
            known.pop(0)
        return known[0]

    return api_key


def only(valid: str, status: int = 401) -> Answer:
    def answer_the_key(request: httpx.Request) -> httpx.Response:
        if request.headers["X-Arcanna-Api-Key"] != valid:
            return httpx.Response(status, json={"error": "Unauthorized"})
        body = {**metrics_body(), "status": "queued", "active_model_id": "m"}
        return httpx.Response(200, json=[] if request.url.path.endswith("/scopes") else body)

    return answer_the_key


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 403])
def test_call_succeeds_with_the_rotated_key(call: Callable[[Arcanna], object], status: int) -> None:
    platform = scripted(only("new", status))
    call(platform.client(keys("old", "new")))
    assert len(platform.requests) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_unchanged_key_is_not_tried_twice(status: int) -> None:
    platform = scripted(only("new", status))
    with pytest.raises(Unauthorised, match="execute:recompute_model_metrics"):
        platform.client(keys("old")).metrics(MODEL)
    assert len(platform.requests) == 1


def test_call_fails_if_the_new_key_is_refused_too() -> None:
    platform = scripted(only("newest"))
    with pytest.raises(Unauthorised):
        platform.client(keys("old", "new", "newest")).metrics(MODEL)
    assert len(platform.requests) == 2
