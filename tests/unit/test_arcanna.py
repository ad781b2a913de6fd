"""Whatever is asked and whatever is answered: the same URLs, the project's own errors, and no key in them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import PlatformUnavailable, RecomputeError, Unauthorised, UndocumentedAnswer
from arcanna_metrics.platform.client import Arcanna, ModelMetrics, RecomputeRequest, retry_after
from arcanna_metrics.targets import Model
from tests.doubles import API_KEY, MODEL, Answer, ScriptedPlatform, answer, metrics_body, no_answer

DATE = "Wed, 15 Jan 2025 14:00:00 GMT"
CALLS: list[Callable[[Arcanna], object]] = [
    lambda arcanna: arcanna.metrics(MODEL),
    lambda arcanna: arcanna.request_recompute(MODEL),
    lambda arcanna: arcanna.active_model(MODEL.job_id),
    lambda arcanna: arcanna.scopes(),
]
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256) | st.sampled_from(
    ["..", "../../admin", "a&job_id=2", "a#b", "a?b", "%2e%2e", "//evil.example", "a b", "a+b", "@evil", ";"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def ask_all(arcanna: Arcanna) -> list[RecomputeError]:
    """Makes every call; only the project's own errors may come of it."""
    errors = []
    for call in CALLS:
        try:
            call(arcanna)
        except RecomputeError as error:
            errors.append(error)
    return errors


def scripted(same: Answer) -> ScriptedPlatform:
    return ScriptedPlatform(metrics=same, request=same, job=same, scopes=same)


# --- What is asked ---------------------------------------------------------------------------------------


@given(job_id=ids, model_id=ids)
def test_ids_cannot_change_which_url_is_called(job_id: str, model_id: str) -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(model_id=model_id)))
    arcanna, model = platform.client(), Model(job_id, model_id)
    arcanna.metrics(model)
    arcanna.request_recompute(model)
    arcanna.active_model(job_id)
    arcanna.scopes()
    both = [("job_id", job_id), ("model_id", model_id)]
    assert [
        (request.method, request.url.host, request.url.path, request.url.params.multi_items())
        for request in platform.requests
    ] == [
        ("GET", "arcanna.example", "/prefix/api/v2/metrics/model", both),
        ("POST", "arcanna.example", "/prefix/api/v2/metrics/model/request_recompute_metrics", both),
        ("POST", "arcanna.example", "/prefix/api/v2/metrics/job", [("job_id", job_id)]),
        ("GET", "arcanna.example", "/prefix/api/v2/token/scopes", []),
    ]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "location", ["http:login", "mailto:x", "https://xn--/", "https://[", "//a:b", "\xff"]
)
def test_a_redirect_to_nowhere_is_one_of_our_errors(call: Callable[[Arcanna], object], location: str) -> None:
    platform = scripted(answer(307, headers={"Location": location.encode("latin-1")}))
    with pytest.raises((PlatformUnavailable, UndocumentedAnswer)):
        call(platform.client())
    assert len(platform.requests) == 1


@pytest.mark.parametrize("model_id", ["a\u200bb", "x" * 257, "a\nb", " "])
def test_an_active_model_whose_id_could_not_be_asked_for_is_none(model_id: str) -> None:
    platform = ScriptedPlatform(job=answer(json={"active_model_id": model_id}))
    with pytest.raises(UndocumentedAnswer, match="active_model_id"):
        platform.client().active_model("1234")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_not_passed_on(text: str) -> None:
    body = metrics_body(metrics_per_decision={text: {"recall": 1.0}})
    platform = ScriptedPlatform(metrics=answer(content=json.dumps(body).encode()))
    with pytest.raises(UndocumentedAnswer, match="not JSON"):
        platform.client().metrics(MODEL)


def test_metrics_that_no_workflow_can_carry_are_refused_with_their_size() -> None:
    matrix = [[0] * 120 for _ in range(120)]
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(confusion_matrix=[*matrix, *matrix])))
    with pytest.raises(UndocumentedAnswer, match=r"have \d{5} bytes, more than the 49152"):
        platform.client().metrics(MODEL)


def test_what_the_transport_says_is_cut() -> None:
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


@given(body=json_values | st.dictionaries(st.sampled_from([*metrics_body(), "status"]), json_values))
def test_any_json_is_understood_or_refused(body: object) -> None:
    ask_all(scripted(answer(content=json.dumps(body).encode())).client())


@given(
    status=st.integers(100, 599).filter(lambda status: status not in range(100, 200)),
    body=st.binary(max_size=100),
    retry=st.text(st.characters(codec="latin-1"), max_size=50),
)
def test_any_other_answer_is_one_of_our_errors(status: int, body: bytes, retry: str) -> None:
    headers = {b"Retry-After": retry.encode("latin-1"), b"Date": DATE.encode()}
    platform = scripted(lambda _: httpx.Response(status, content=body, headers=headers))
    assert len(ask_all(platform.client())) == len(CALLS)


@pytest.mark.parametrize(
    "charset",
    ["utf-8", "latin-1", "UTF-16", "base64", "hex", "zlib", "idna", "punycode", "rot13", "undefined", "none"],
)
def test_any_charset_is_understood_or_refused(charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    ask_all(scripted(answer(content=b'{"status": "\xff\xc3"}', headers=headers)).client())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br, gzip"])
def test_a_body_that_is_not_in_its_encoding_is_no_answer(encoding: str) -> None:
    # A stream, because httpx decodes ready-made content when the response is made.
    def garbled(_: httpx.Request) -> httpx.Response:
        headers = {"Content-Encoding": encoding}
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"not compressed"))

    with pytest.raises((PlatformUnavailable, UndocumentedAnswer)):
        scripted(garbled).client().metrics(MODEL)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_figures_that_json_cannot_hold_are_refused(number: str) -> None:
    body = json.dumps(metrics_body()).replace("0.75", number)
    with pytest.raises(UndocumentedAnswer, match="not JSON"):
        ScriptedPlatform(metrics=answer(content=body.encode())).client().metrics(MODEL)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(UndocumentedAnswer, match="not JSON"):
        scripted(answer(content=b"[" * 100_000)).client().metrics(MODEL)


def test_the_answers_become_values() -> None:
    platform = ScriptedPlatform(metrics=answer(json=metrics_body(is_recomputing_metrics=True)))
    seen = platform.client().metrics(MODEL)
    figures = metrics_body()
    for name in ("model_id", "is_recomputing_metrics", "last_recomputed_timestamp"):
        del figures[name]
    assert seen == ModelMetrics(True, "2025-01-15T14:00:00Z", figures)
    assert seen.as_dict() == {"last_recomputed_timestamp": "2025-01-15T14:00:00Z", **figures}


@pytest.mark.parametrize("requested_at", [None, 1736951400, {}])
def test_a_request_without_a_readable_time_is_still_accepted(requested_at: object) -> None:
    body = {"status": "queued", "requested_at": requested_at}
    accepted = ScriptedPlatform(request=answer(json=body)).client().request_recompute(MODEL)
    assert accepted == RecomputeRequest("queued", None)


@pytest.mark.parametrize("body", [{"scopes": []}, [1], [["read:job_metrics"]], None])
def test_scopes_are_a_list_of_texts(body: object) -> None:
    with pytest.raises(UndocumentedAnswer):
        ScriptedPlatform(scopes=answer(json=body)).client().scopes()


# --- Retry-After -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("0", None, 0.0),
        ("120", None, 120.0),
        (" 120 ", None, 120.0),
        ("9" * 400, None, 999_999_999.0),
        ("Wed, 15 Jan 2025 14:02:00 GMT", DATE, 120.0),
        ("Wednesday, 15-Jan-25 14:02:00 GMT", DATE, 120.0),
        ("Wed, 15 Jan 2025 13:00:00 GMT", DATE, 0.0),
        # What tells nothing.
        (None, DATE, None),
        ("", DATE, None),
        ("-1", DATE, None),
        ("1.5", DATE, None),
        ("soon", DATE, None),
        ("\u00b2", DATE, None),
        ("Wed, 15 Jan 2025 14:02:00 GMT", None, None),
        ("Wed, 15 Jan 2025 14:02:00 GMT", "today", None),
        ("Wed, 15 Jan 2025 14:02:00 -0000", DATE, None),
        ("Wed, 15 Jan 99999999999999 14:02:00 GMT", DATE, None),
        ("Wed, 99999999999999999999 Jan 2025 14:02:00 GMT", DATE, None),
    ],
)
def test_what_retry_after_asks_for(value: str | None, date: str | None, seconds: float | None) -> None:
    headers = {"Retry-After": value, "Date": date}
    given_headers = [
        (name.encode(), text.encode("latin-1")) for name, text in headers.items() if text is not None
    ]
    assert retry_after(httpx.Headers(given_headers)) == seconds


@given(st.integers(0, 2**32).map(lambda at: datetime.fromtimestamp(at, UTC)), st.integers(0, 10**6))
def test_a_date_counts_from_the_date_of_the_answer(date: datetime, seconds: int) -> None:
    until = date + timedelta(seconds=seconds)
    headers = {"Date": format_datetime(date, usegmt=True), "Retry-After": format_datetime(until, usegmt=True)}
    assert retry_after(httpx.Headers(headers)) == seconds


date_words = st.sampled_from([*"0123456789:,-+.()", " ", "Wed", "Jan", "GMT", "2025", "14:02:00", "9" * 20])


@given(
    value=st.text(st.characters(codec="latin-1")) | st.lists(date_words).map("".join),
    date=st.just(DATE) | st.lists(date_words).map("".join),
)
def test_any_retry_after_is_a_wait_or_nothing(value: str, date: str) -> None:
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
def test_an_echoed_key_is_in_no_error(status: int, echo: Callable[[str], dict[str, Any]]) -> None:
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
    ],
)
def test_a_key_that_is_echoed_with_escapes_is_in_no_error(status: int, echoed: str) -> None:
    key = "ab/cd+ef==hidden"
    assert_unquoted(key, status, echoed)


def test_a_key_with_a_backslash_is_in_no_error_either() -> None:
    assert_unquoted("ab\\cd-hidden", 500, json.dumps({"error": "ab\\cd-hidden"}))


def assert_unquoted(key: str, status: int, echoed: str) -> None:
    for error in ask_all(scripted(answer(status, text=echoed)).client(lambda _: key)):
        assert "quotes the API key" in str(error)
        assert "hidden" not in str(error)


def test_a_key_in_an_error_of_the_transport_goes_no_further() -> None:
    # The HTTP parser quotes what it cannot read.
    platform = scripted(no_answer(httpx.RemoteProtocolError(f"illegal status line: {API_KEY}")))
    with pytest.raises(PlatformUnavailable) as raised:
        platform.client().metrics(MODEL)
    assert not mentions(raised.value, API_KEY)


def mentions(error: BaseException | None, secret: str) -> bool:
    """Whether the error, or one that a traceback would show with it, holds the text."""
    while error is not None:
        if any(secret in text for text in (str(error), repr(error), repr(vars(error)))):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def keys(*in_turn: str) -> Callable[[bool], str]:
    """A secret that holds another key each time it is read again."""
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
def test_a_rotated_key_heals_the_call(call: Callable[[Arcanna], object], status: int) -> None:
    platform = scripted(only("new", status))
    call(platform.client(keys("old", "new")))
    assert len(platform.requests) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_the_same_key_is_not_tried_twice(status: int) -> None:
    platform = scripted(only("new", status))
    with pytest.raises(Unauthorised, match="execute:recompute_model_metrics"):
        platform.client(keys("old")).metrics(MODEL)
    assert len(platform.requests) == 1


def test_a_new_key_that_is_refused_too_ends_it() -> None:
    platform = scripted(only("newest"))
    with pytest.raises(Unauthorised):
        platform.client(keys("old", "new", "newest")).metrics(MODEL)
    assert len(platform.requests) == 2
