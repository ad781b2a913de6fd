"""Every kind of event is read as what it says, and everything else is refused with a reason."""

import copy
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput, RecomputeError
from arcanna_metrics.intake.events import (
    AHEAD,
    COUNT_LIMIT,
    TEXT_LENGTH,
    AllModels,
    Ignored,
    ObjectChanged,
    Occurrence,
    RunEnded,
    read,
    read_json,
    request_body,
)
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso
from arcanna_metrics.updates import Update
from tests.fuzz import paths, put
from tests.unit.strategies import LAST, any_json, any_text, updates

EVENTS = Path("events")
SAMPLES = {path.name: json.loads(path.read_text()) for path in sorted(EVENTS.glob("*.json"))}

MODEL_ID = "generic-1-1234-model-1747385873.hdf5"
MODEL = Target("1234", MODEL_ID)
ACTIVE = Target("security-alerts", None)
BUCKET = "example-training-data"
KEY = f"training-data/1234/{MODEL_ID}/alerts 2025-01-15 a+b.csv"
RECEIVED_AT = from_iso("2025-01-16T00:00:00Z")
HALF_PAST_TWO = from_iso("2025-01-15T14:30:00Z")
AGES_AWAY = LAST / 1000

NOTIFIED = [ObjectChanged(BUCKET, KEY, "096fKKXTRTtl3on89fVO.nfljtsv6qko", HALF_PAST_TWO - 1.877, 48213)]


def sample(name: str) -> Any:
    return copy.deepcopy(SAMPLES[name])


# --- The samples -----------------------------------------------------------------------------------------

READ_AS: dict[str, list[Occurrence]] = {
    "s3-object-created.eventbridge.json": [
        ObjectChanged(BUCKET, KEY, "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", HALF_PAST_TWO - 2, 48213)
    ],
    "s3-notification.json": list(NOTIFIED),
    "s3-notification-via-sns.json": list(NOTIFIED),
    "s3-test-event.json": [Ignored("s3:TestEvent")],
    "training-data-updated.json": [Update.single(MODEL, HALF_PAST_TWO, "Training Data Updated")],
    "knowledge-base-corrected.json": [Update.single(ACTIVE, HALF_PAST_TWO, "Knowledge Base Corrected")],
    "schedule.json": [AllModels(from_iso("2025-01-15T03:00:00Z"), 43200)],
    "request.json": [Update.single(MODEL, RECEIVED_AT, "manual")],
    "request-active-model.json": [Update.single(ACTIVE, HALF_PAST_TWO, "quarterly report")],
    "run-ended.json": [
        RunEnded(
            SAMPLES["run-ended.json"]["detail"]["executionArn"],
            json.loads(SAMPLES["run-ended.json"]["detail"]["input"])["run"],
            "ABORTED",
            "Stopped for maintenance",
        )
    ],
}


@pytest.mark.parametrize(
    "name", [name for name in SAMPLES if name != "sqs-batch.json" and not name.startswith("check-")]
)
def test_a_sample_is_read_as_what_it_says(name: str) -> None:
    assert read(SAMPLES[name], RECEIVED_AT) == READ_AS[name]
    assert read_json(json.dumps(SAMPLES[name]), RECEIVED_AT) == READ_AS[name]


def test_the_messages_of_the_sample_batch_are_read_but_for_the_unusable_one() -> None:
    *usable, unusable = [record["body"] for record in SAMPLES["sqs-batch.json"]["Records"]]
    assert [read_json(body, RECEIVED_AT) for body in usable] == [
        READ_AS["s3-object-created.eventbridge.json"],
        READ_AS["s3-notification.json"],
        READ_AS["s3-notification-via-sns.json"],
        READ_AS["training-data-updated.json"],
        READ_AS["request.json"],
    ]
    with pytest.raises(BadInput, match=r"^the message is not JSON"):
        read_json(unusable, RECEIVED_AT)


# --- Keys ------------------------------------------------------------------------------------------------

object_keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)


@given(object_keys | st.sampled_from(["a+b.csv", "ä ö/%2B.csv", "with some spaces.csv"]))
def test_the_key_is_the_same_from_both_kinds_of_s3_event(key: str) -> None:
    event, notification = sample("s3-object-created.eventbridge.json"), sample("s3-notification.json")
    event["detail"]["object"]["key"] = key
    notification["Records"][0]["s3"]["object"]["key"] = quote_plus(key)
    (by_event,), (by_notification,) = read(event, RECEIVED_AT), read(notification, RECEIVED_AT)
    assert isinstance(by_event, ObjectChanged)
    assert isinstance(by_notification, ObjectChanged)
    assert by_event.key == by_notification.key == key


def test_the_longest_key_that_s3_allows_is_read_though_encoded_it_is_longer() -> None:
    key = "ä" * (TEXT_LENGTH // 2)
    notification = sample("s3-notification.json")
    notification["Records"][0]["s3"]["object"]["key"] = quote_plus(key)
    (changed,) = read(notification, RECEIVED_AT)
    assert isinstance(changed, ObjectChanged)
    assert changed.key == key


def test_an_unversioned_object_has_no_version() -> None:
    event, notification = sample("s3-object-created.eventbridge.json"), sample("s3-notification.json")
    del event["detail"]["object"]["version-id"]
    notification["Records"][0]["s3"]["object"]["versionId"] = None
    for (changed,) in (read(event, RECEIVED_AT), read(notification, RECEIVED_AT)):
        assert isinstance(changed, ObjectChanged)
        assert changed.version_id is None


# --- What of S3 is no new training data ------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "ObjectTagging:Put", "ObjectRestore:Post"],
)
def test_a_notification_of_anything_but_a_new_object_is_ignored(name: str) -> None:
    notification = sample("s3-notification.json")
    removed = copy.deepcopy(notification["Records"][0])
    removed["eventName"] = name
    del removed["s3"]["object"]["size"]  # as S3 leaves it out
    notification["Records"].insert(0, removed)
    assert read(notification, RECEIVED_AT) == [Ignored(name, KEY), *NOTIFIED]


def test_an_event_of_anything_but_a_new_object_is_ignored() -> None:
    event = sample("s3-object-created.eventbridge.json")
    event["detail-type"] = "Object Deleted"
    assert read(event, RECEIVED_AT) == [Ignored("Object Deleted", KEY)]


@pytest.mark.parametrize(
    ("key", "size", "ignored"),
    [
        ("training-data/1234/", 0, True),
        ("training-data/1234/", 1, False),
        ("training-data/1234/empty.csv", 0, False),
    ],
)
def test_an_empty_object_that_stands_for_a_folder_is_ignored(key: str, size: int, ignored: bool) -> None:
    event, notification = sample("s3-object-created.eventbridge.json"), sample("s3-notification.json")
    for found in (event["detail"]["object"], notification["Records"][0]["s3"]["object"]):
        found |= {"key": key, "size": size}
    for (occurrence,) in (read(event, RECEIVED_AT), read(notification, RECEIVED_AT)):
        assert (occurrence == Ignored("folder", key)) is ignored
        assert isinstance(occurrence, ObjectChanged) is not ignored


# --- Times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "taken"),
    [
        ("2025-01-15T14:30:00Z", HALF_PAST_TWO),
        ("2025-01-15T16:30:00+02:00", HALF_PAST_TWO),
        ("2025-01-15T14:30:00", HALF_PAST_TWO),
        ("2025-01-16T00:00:01Z", RECEIVED_AT),
        ("9999-12-31T23:59:59Z", RECEIVED_AT),
        ("0001-01-01T00:00:00Z", from_iso("0001-01-01T00:00:00Z")),
        (None, RECEIVED_AT),
    ],
)
def test_no_update_happened_later_than_it_was_received(claimed: str | None, taken: float) -> None:
    request = {"job_id": 1234, "happened_at": claimed}
    assert read(request, RECEIVED_AT) == [Update.single(Target("1234", None), taken, "manual")]


def test_an_event_without_a_time_counts_from_when_it_was_received() -> None:
    event = sample("training-data-updated.json")
    del event["time"]
    assert read(event, RECEIVED_AT) == [Update.single(MODEL, RECEIVED_AT, "Training Data Updated")]


# --- Requests --------------------------------------------------------------------------------------------


@given(updates())
def test_an_update_that_is_put_off_comes_back_as_it_was(update: Update) -> None:
    assert read_json(request_body(update), AGES_AWAY) == [update]


@given(updates())
def test_an_update_that_is_put_off_is_a_message_that_sqs_takes(update: Update) -> None:
    assert all(character.isprintable() for character in request_body(update))


def test_no_promise_is_far_ahead_of_the_queue() -> None:
    request = {**sample("request.json"), "waker": True, "promised_at": "9999-12-31T23:59:59.999Z"}
    (update,) = read(request, RECEIVED_AT)
    assert isinstance(update, Update)
    assert update.promised_at == RECEIVED_AT + AHEAD


def test_a_count_saturates() -> None:
    (update,) = read({"job_id": 1234, "count": 10**100}, RECEIVED_AT)
    assert isinstance(update, Update)
    assert update.count == COUNT_LIMIT


# --- What is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "value", "complaint"),
    [
        ("s3-object-created.eventbridge.json", "detail", None, "detail.bucket.name is missing"),
        ("s3-object-created.eventbridge.json", "detail/bucket", [], "detail.bucket.name is missing"),
        ("s3-object-created.eventbridge.json", "detail/object/key", 7, "detail.object.key must be a string"),
        (
            "s3-object-created.eventbridge.json",
            "detail/object/key",
            "\ud800",
            "detail.object.key is no valid Uni",
        ),
        (
            "s3-object-created.eventbridge.json",
            "detail/object/key",
            "k" * 1025,
            "detail.object.key has 1025 char",
        ),
        (
            "s3-object-created.eventbridge.json",
            "detail/object/version-id",
            1,
            "detail.object.version-id must be",
        ),
        ("s3-object-created.eventbridge.json", "time", "now", "time must be an ISO 8601 time, not 'now'"),
        (
            "s3-object-created.eventbridge.json",
            "time",
            1736951400,
            "time must be an ISO 8601 time, not a value",
        ),
        (
            "s3-object-created.eventbridge.json",
            "detail-type",
            {"of": "S3"},
            "source 'aws.s3' with detail-type",
        ),
        ("s3-notification.json", "Records", [], "not an event of S3"),
        ("s3-notification.json", "Records/0", "record", "eventSource must be 'aws:s3'"),
        (
            "s3-notification.json",
            "Records/0/eventSource",
            "aws:sqs",
            "eventSource must be 'aws:s3', not 'aws:sqs'",
        ),
        (
            "s3-notification.json",
            "Records/0/eventName",
            None,
            "eventName is missing",
        ),
        ("s3-notification.json", "Records/0/s3/bucket/name", None, "s3.bucket.name is missing"),
        ("s3-notification.json", "Records/0/s3/object/key", ["a"], "s3.object.key must be a string"),
        ("s3-notification.json", "Records/0/eventTime", "0000", "eventTime must be an ISO 8601 time"),
        ("s3-notification-via-sns.json", "Records/0/Sns/Message", "hello", "Sns.Message is not JSON"),
        (
            "s3-notification-via-sns.json",
            "Records/0/Sns/Message",
            None,
            "Sns.Message must be a string with JSON",
        ),
        ("training-data-updated.json", "detail", "1234", "detail.job_id is missing"),
        (
            "training-data-updated.json",
            "detail/job_id",
            12.5,
            "detail.job_id must be a string or a 64-bit int",
        ),
        ("training-data-updated.json", "detail/model_id", "", "detail.model_id is empty"),
        ("training-data-updated.json", "source", "elsewhere", "source 'elsewhere' with detail-type"),
        ("schedule.json", "older_than", 60, "unknown field 'older_than'; a schedule has models, happened_at"),
        ("schedule.json", "models", ["all"], "models must be 'all', not a value of type list"),
        (
            "schedule.json",
            "happened_at",
            "<aws.scheduler.scheduled-time>",
            "happened_at must be an ISO 8601 time",
        ),
        ("run-ended.json", "detail/input", None, "detail.input must be a string with JSON"),
        ("run-ended.json", "detail/input", "{", "detail.input is not JSON"),
        ("run-ended.json", "detail/input", "[]", "the run in detail.input is missing"),
        (
            "run-ended.json",
            "detail/input",
            '{"run": "ab"}',
            "the run in detail.input is missing or no JSON obj",
        ),
        ("run-ended.json", "detail/input", '{"run": {}}', "the run in detail.input lacks baseline"),
        ("run-ended.json", "detail/status", None, "detail.status is missing"),
        ("request.json", "job_id", None, "job_id is missing"),
        ("request.json", "model_id", {}, "model_id must be a string or a 64-bit integer, not dict"),
        (
            "request.json",
            "model",
            "m",
            "unknown field 'model'; a request has cause, happened_at, job_id, model_id",
        ),
        ("request.json", "cause", "a\nb", "cause has control characters"),
        ("request.json", "count", -1, "count must be a whole number"),
        ("request.json", "count", True, "count must be a whole number, not a value of type bool"),
        ("request.json", "attempt", 0.5, "attempt must be a whole number"),
        ("request.json", "attempt", float("nan"), "attempt must be a whole number"),
        ("request.json", "waiting_since", 5, "waiting_since must be an ISO 8601 time"),
        ("request.json", "sample", "abc", "sample must be a list of at most 5 objects"),
        ("request.json", "sample", [{}] * 6, "sample must be a list of at most 5 objects"),
        ("request.json", "sample", [["key"]], "sample must hold objects with bucket, key, version_id"),
        ("request.json", "sample", [{"kez": "a"}], "sample must hold objects with bucket, key, version_id"),
        ("request.json", "sample", [{"key": {"a": 1}}], "key must be a string"),
        ("request.json", "sample", [{"key": "k" * 1025}], "key has 1025 characters"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(name: str, path: str, value: object, complaint: str) -> None:
    event = sample(name)
    put(event, [int(name) if name.isdigit() else name for name in path.split("/")], value)
    with pytest.raises(BadInput) as refused:
        read(event, RECEIVED_AT)
    assert str(refused.value).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the message is not JSON"),
        ("[" * 100_000, "the message is not JSON"),
        ('{"job_id": ' + "1" * 5000 + "}", "the message is not JSON: Exceeds the limit"),
        ("null", "expected a JSON object, not a value of type NoneType"),
        ('"request"', "expected a JSON object, not 'request'"),
        ("{}", "not an event of S3, EventBridge, SNS or a schedule"),
        ('{"job": 1}', "not an event of S3, EventBridge, SNS or a schedule, and no request with a job_id; "),
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_no_event_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_json(text, RECEIVED_AT)
    assert str(refused.value).startswith(complaint)


def test_a_notification_inside_a_notification_is_refused_however_deep() -> None:
    message = "{}"
    for _ in range(12):
        message = json.dumps({"Type": "Notification", "Message": message})
    with pytest.raises(BadInput, match="it has the fields 'Message', 'Type'"):
        read_json(message, RECEIVED_AT)


def test_a_run_that_ended_with_a_long_story_is_still_read() -> None:
    event = sample("run-ended.json")
    event["detail"]["cause"] = "because " * 4000
    (ended,) = read(event, RECEIVED_AT)
    assert isinstance(ended, RunEnded)
    assert ended.detail == ("because " * 4000)[:TEXT_LENGTH]


def test_a_run_that_ended_without_a_story_tells_its_status() -> None:
    event = sample("run-ended.json")
    event["detail"]["cause"] = None
    (ended,) = read(event, RECEIVED_AT)
    assert isinstance(ended, RunEnded)
    assert ended.detail == "The execution ended as ABORTED"


# --- Anything at all -------------------------------------------------------------------------------------


HUGE = st.just(10**5000)
"""An integer that Python refuses to make text of."""


@st.composite
def mutated_samples(draw: st.DrawFn) -> Any:
    event = sample(draw(st.sampled_from(sorted(SAMPLES))))
    for _ in range(draw(st.integers(1, 3))):
        put(event, draw(st.sampled_from(paths(event))), draw(any_json | HUGE))
    return event


@given(any_json | mutated_samples())
def test_any_json_is_read_or_refused(event: Any) -> None:
    try:
        occurrences = read(event, RECEIVED_AT)
    except RecomputeError as refused:
        assert 0 < len(str(refused)) < 2000  # noqa: PT017 - either outcome is right
    else:
        assert all(isinstance(occurrence, Occurrence) for occurrence in occurrences)


@given(any_text)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_json(text, RECEIVED_AT)
    except BadInput:
        return
