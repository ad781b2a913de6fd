"""Every documented event is understood. Everything else is refused with a reason."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput, NotSubscribed, RecomputeError
from arcanna_metrics.intake.events import (
    LONGEST_AGE,
    AllTargets,
    Ignored,
    ObjectCreated,
    Occurrence,
    RunEnded,
    Sweep,
    read,
    read_json,
)
from arcanna_metrics.intake.fields import EARLIEST, TEXT_LENGTH
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import Target, Update
from arcanna_metrics.times import from_iso
from tests.tools.fuzz import paths, put
from tests.unit import aws_events as aws
from tests.unit.strategies import any_json, any_text

EVENTS = Path("events")
SAMPLES = {path.name: json.loads(path.read_text()) for path in sorted(EVENTS.glob("*.json"))}

MODEL_ID = "generic-1-1234-model-1747385873.hdf5"
MODEL = Target("1234", MODEL_ID)
ACTIVE = Target("security-alerts", None)
BUCKET = "example-training-data"
KEY = f"training-data/1234/{MODEL_ID}/alerts 2025-01-15 a+b.csv"
RECEIVED_AT = from_iso("2025-01-16T00:00:00Z")
HALF_PAST_TWO = from_iso("2025-01-15T14:30:00Z")
THREE = from_iso("2025-01-15T03:00:00Z")

NOTIFIED = [ObjectCreated(BUCKET, KEY, "096fKKXTRTtl3on89fVO.nfljtsv6qko", HALF_PAST_TWO - 1.877, 48213)]
NEW_OBJECT = ObjectCreated(aws.BUCKET, aws.KEY, None, HALF_PAST_TWO, 1024)


def sample(name: str) -> Any:
    return copy.deepcopy(SAMPLES[name])


def refused(event: object) -> str:
    """Why an event is refused."""
    with pytest.raises(BadInput) as error:
        read(event, RECEIVED_AT)
    return str(error.value)


# --- The samples -----------------------------------------------------------------------------------------

READ_AS: dict[str, list[Occurrence]] = {
    "s3-object-created.eventbridge.json": [
        ObjectCreated(BUCKET, KEY, "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", HALF_PAST_TWO - 2, 48213)
    ],
    "s3-notification.json": list(NOTIFIED),
    "s3-notification-via-sns.json": list(NOTIFIED),
    "s3-test-event.json": [Ignored("s3:TestEvent")],
    "training-data-updated.json": [Update(MODEL, HALF_PAST_TWO, "Training Data Updated")],
    "knowledge-base-corrected.json": [Update(ACTIVE, HALF_PAST_TWO, "Knowledge Base Corrected")],
    "schedule.json": [AllTargets(THREE, 43200.0)],
    "scheduled-event.json": [AllTargets(THREE, None)],
    "sweep.json": [Sweep()],
    "request.json": [Update(MODEL, RECEIVED_AT, "manual", by_hand=True)],
    "request-active-model.json": [Update(ACTIVE, HALF_PAST_TWO, "quarterly report")],
    "run-ended.json": [RunEnded(MODEL, "6f1c1d0a-7f0e-4a52-9a3c-0d2f6a3b9c11")],
}


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "sqs-batch.json"])
def test_sample_event_is_read_as_its_name_says(name: str) -> None:
    assert read(SAMPLES[name], RECEIVED_AT) == READ_AS[name]
    assert read_json(json.dumps(SAMPLES[name]), RECEIVED_AT) == READ_AS[name]


def test_messages_of_sample_batch_are_read_except_the_unusable_one() -> None:
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


def test_sample_run_has_the_default_pace() -> None:
    run = json.loads(SAMPLES["run-ended.json"]["detail"]["input"])["run"]
    defaults = asdict(Pace())
    assert run["pace"] == {name: defaults[name] for name in run["pace"]}


# --- What AWS sends, in every wrapping -------------------------------------------------------------------


@pytest.fixture(params=["plain", "SNS", "SNS to function"])
def wrap(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Wraps an event as a queue or a function gets it: unchanged, or in an SNS notification."""
    wrappings: dict[str, Callable[[Any], Any]] = {
        "plain": lambda event: event,
        "SNS": aws.in_sns,
        "SNS to function": aws.in_sns_to_lambda,
    }
    return wrappings[request.param]


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2", "2.3", "2.4", "2.5"])
@pytest.mark.parametrize("name", aws.NOTIFICATIONS_OF_NEW_OBJECTS)
def test_notification_of_new_object_is_an_upload(name: str, version: str, wrap: Callable[[Any], Any]) -> None:
    for written in (name, f"s3:{name}", name.lower()):
        assert read(wrap(aws.notification(written, version)), RECEIVED_AT) == [NEW_OBJECT]


@pytest.mark.parametrize(
    "name", ["ObjectCreated", "ObjectCreated:*", "s3:ObjectCreated:*", "ObjectCreated:New"]
)
def test_notification_of_new_object_is_an_upload_for_every_cause(name: str) -> None:
    assert read(aws.notification(name), RECEIVED_AT) == [NEW_OBJECT]


@pytest.mark.parametrize("reason", ["PutObject", "POST Object", "CopyObject", "CompleteMultipartUpload"])
def test_event_of_new_object_is_an_upload(reason: str, wrap: Callable[[Any], Any]) -> None:
    assert read(wrap(aws.s3_event("Object Created", reason=reason)), RECEIVED_AT) == [NEW_OBJECT]


@pytest.mark.parametrize("detail_type", ["object created", "ObjectCreated", "Object Created (Put)"])
def test_event_of_new_object_is_an_upload_in_every_notation(detail_type: str) -> None:
    assert read(aws.s3_event(detail_type), RECEIVED_AT) == [NEW_OBJECT]


@pytest.mark.parametrize("name", ["PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload"])
def test_api_call_that_creates_an_object_is_an_upload(name: str, wrap: Callable[[Any], Any]) -> None:
    assert read(wrap(aws.api_call(name)), RECEIVED_AT) == [NEW_OBJECT._replace(size=None)]


def test_api_call_on_directory_bucket_is_an_upload() -> None:
    assert read(aws.api_call("RenameObject", "aws.s3express"), RECEIVED_AT) == [
        NEW_OBJECT._replace(size=None)
    ]


def test_api_call_tells_the_version_and_the_key_as_it_is() -> None:
    event = aws.api_call("PutObject", responseElements={"x-amz-version-id": "v1"})
    event["detail"]["requestParameters"]["key"] = "a+b%20c.csv"
    (created,) = read(event, RECEIVED_AT)
    assert isinstance(created, ObjectCreated)
    assert (created.key, created.version_id) == ("a+b%20c.csv", "v1")


@pytest.mark.parametrize(
    "name", ["GetObject", "DeleteObject", "CreateMultipartUpload", "UploadPart", "PutObjectAcl"]
)
def test_api_call_that_creates_no_object_is_ignored(name: str, wrap: Callable[[Any], Any]) -> None:
    assert read(wrap(aws.api_call(name)), RECEIVED_AT) == [Ignored(name, aws.KEY)]


@pytest.mark.parametrize("sent", [0, 0.0])
def test_put_of_an_empty_object_reported_as_api_call_is_ignored(sent: float) -> None:
    event = aws.api_call("PutObject", additionalEventData={"bytesTransferredIn": sent})
    assert read(event, RECEIVED_AT) == [Ignored("empty", aws.KEY)]


@pytest.mark.parametrize("more", [{}, None, {"bytesTransferredIn": None}])
def test_put_of_unknown_size_is_an_upload(more: Any) -> None:
    event = aws.api_call("PutObject", additionalEventData=more)
    assert read(event, RECEIVED_AT) == [NEW_OBJECT._replace(size=None)]


def test_api_call_that_failed_is_ignored() -> None:
    event = aws.api_call("PutObject", errorCode="AccessDenied", errorMessage="Access Denied")
    assert read(event, RECEIVED_AT) == [Ignored("PutObject failed: AccessDenied", aws.KEY)]


@pytest.mark.parametrize("name", aws.OTHER_NOTIFICATIONS)
def test_notification_of_anything_else_is_ignored(name: str, wrap: Callable[[Any], Any]) -> None:
    for written in (name, f"s3:{name}"):
        event = wrap(aws.notification(written, aws.OTHER_NOTIFICATIONS[name]))
        assert read(event, RECEIVED_AT) == [Ignored(written, aws.KEY)]


@pytest.mark.parametrize("detail_type", aws.OTHER_EVENTS)
def test_eventbridge_event_about_anything_else_is_ignored(
    detail_type: str, wrap: Callable[[Any], Any]
) -> None:
    event = wrap(aws.s3_event(detail_type, **aws.OTHER_EVENTS[detail_type]))
    assert read(event, RECEIVED_AT) == [Ignored(detail_type, aws.KEY)]


@pytest.mark.parametrize(
    "event",
    [
        aws.notification("ObjectSynced:Create"),
        aws.notification("s3:ObjectCopied"),
        aws.s3_event("Async Copy Completion"),
        aws.s3_event("New Object Created"),
    ],
)
def test_unknown_s3_event_that_may_mean_a_new_object_is_refused(event: Any) -> None:
    assert "may mean a new object. Send an S3 event of a new object" in refused(event)


@pytest.mark.parametrize("source", ["aws.events", "aws.scheduler"])
@pytest.mark.parametrize("detail", [{}, "{}"])
def test_plain_schedule_wishes_for_all_targets_with_the_stacks_age(
    source: str, detail: object, wrap: Callable[[Any], Any]
) -> None:
    event = wrap(aws.event(source, "Scheduled Event", detail))
    assert read(event, RECEIVED_AT) == [AllTargets(HALF_PAST_TWO, None)]


@pytest.mark.parametrize(
    ("age", "older_than"), [(None, None), (0, 0.0), (3600, 3600.0), (3600.0, 3600.0), (10**100, LONGEST_AGE)]
)
def test_schedule_with_an_age_wishes_with_that_age(age: object, older_than: float | None) -> None:
    schedule = {"models": "all", "older_than_seconds": age}
    assert read(schedule, RECEIVED_AT) == [AllTargets(RECEIVED_AT, older_than)]


EXECUTION_INPUT = json.dumps({"run": {"run_id": "r1", "target": {"job_id": "1234", "model_id": None}}})


@pytest.mark.parametrize(
    "status", ["RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE", "something new"]
)
def test_status_change_of_an_execution_is_a_hint_whatever_its_status(
    status: str, wrap: Callable[[Any], Any]
) -> None:
    event = wrap(aws.status_change(status, EXECUTION_INPUT))
    assert read(event, RECEIVED_AT) == [RunEnded(Target("1234", None), "r1")]


def test_status_change_without_the_executions_input_is_ignored(wrap: Callable[[Any], Any]) -> None:
    event = wrap(aws.status_change("FAILED", None))
    assert read(event, RECEIVED_AT) == [Ignored("run ended without its input")]


@pytest.mark.parametrize(
    ("execution_input", "complaint"),
    [
        ("{}", "detail.input.run.run_id is missing"),
        ("[]", "detail.input must be an object"),
        ('{"run": "ab"}', "detail.input.run must be an object"),
        ('{"run": {"run_id": "r"}}', "detail.input.run.target.job_id is missing"),
    ],
)
def test_status_change_of_another_workflow_is_refused(execution_input: str, complaint: str) -> None:
    assert refused(aws.status_change("FAILED", execution_input)).startswith(complaint)


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_unconfirmed_subscription_has_its_own_reason_and_remedy(
    kind: str, wrap: Callable[[Any], Any]
) -> None:
    with pytest.raises(NotSubscribed) as error:
        read(wrap(aws.subscription_notice(kind)), RECEIVED_AT)
    assert str(error.value) == (
        f'SNS {kind}: topic "{aws.TOPIC}" does not deliver here. If you want its messages, confirm with:'
        " aws sns confirm-subscription --region <the topic's> --topic-arn <TopicArn> --token <Token>"
    )


def test_all_records_of_a_message_are_read() -> None:
    first, second = aws.notification("ObjectCreated:Put"), aws.notification("ObjectRemoved:Delete")
    both = {"Records": first["Records"] + second["Records"]}
    assert read(both, RECEIVED_AT) == [NEW_OBJECT, Ignored("ObjectRemoved:Delete", aws.KEY)]
    records = aws.in_sns_to_lambda(both)["Records"] * 2
    assert read({"Records": records}, RECEIVED_AT) == read(both, RECEIVED_AT) * 2


# --- Keys ------------------------------------------------------------------------------------------------

object_keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)


@given(object_keys | st.sampled_from(["a+b.csv", "ä ö/%2B.csv", "with some spaces.csv"]))
def test_key_is_the_same_from_all_kinds_of_s3_events(key: str) -> None:
    event, call = aws.s3_event("Object Created"), aws.api_call("PutObject")
    event["detail"]["object"]["key"] = call["detail"]["requestParameters"]["key"] = key
    notification = aws.notification("ObjectCreated:Put", key=quote_plus(key))
    found = [occurrence for each in (event, notification) for occurrence in read(each, RECEIVED_AT)]
    assert found == [NEW_OBJECT._replace(key=key)] * 2
    if not key.endswith("/"):
        assert read(call, RECEIVED_AT) == [NEW_OBJECT._replace(key=key, size=None)]


def test_longest_s3_key_is_read_although_its_encoding_is_longer() -> None:
    key = "ä" * (TEXT_LENGTH // 2)
    assert read(aws.notification("ObjectCreated:Put", key=quote_plus(key)), RECEIVED_AT) == [
        NEW_OBJECT._replace(key=key)
    ]


def test_unversioned_object_has_no_version() -> None:
    assert read(aws.notification("ObjectCreated:Put", versionId=None), RECEIVED_AT) == [NEW_OBJECT]


# --- Empty objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "size", "ignored"),
    [
        ("training-data/1234/", 0, "folder"),
        ("training-data/1234/", None, "folder"),
        ("training-data/1234/", 1, None),
        ("training-data/1234/_SUCCESS", 0, "empty"),
        ("training-data/1234_$folder$", 0, "empty"),
        ("training-data/1234/empty.csv", 0.0, "empty"),
        ("training-data/1234/of-unknown-size.csv", None, None),
    ],
)
def test_empty_object_is_ignored_and_one_of_unknown_size_is_not(
    key: str, size: int | None, ignored: str | None
) -> None:
    event = aws.s3_event("Object Created")
    event["detail"]["object"] |= {"key": key, "size": size}
    notification = aws.notification("ObjectCreated:Put", key=quote_plus(key), size=size)
    for each in (event, notification):
        expected = Ignored(ignored, key) if ignored else NEW_OBJECT._replace(key=key, size=size)
        assert read(each, RECEIVED_AT) == [expected]


# --- Times -----------------------------------------------------------------------------------------------

ZEROS = [
    "0001-01-01T00:00:00Z",
    "1601-01-01T00:00:00Z",
    "1900-01-01T00:00:00Z",
    "1969-12-31T23:59:00Z",
    "1970-01-01T00:00:00.000Z",
    "2001-01-01T00:00:00Z",
]
"""Values that programs write for an unknown time."""


@pytest.mark.parametrize(
    ("claimed", "taken"),
    [
        ("2025-01-15T14:30:00Z", HALF_PAST_TWO),
        ("2025-01-15T16:30:00+02:00", HALF_PAST_TWO),
        ("2025-01-15T14:30:00", HALF_PAST_TWO),
        ("2006-03-14T00:00:00Z", EARLIEST),
        ("2025-01-16T00:00:01Z", RECEIVED_AT),
        ("9999-12-31T23:59:59Z", RECEIVED_AT),
        *((zero, RECEIVED_AT) for zero in ZEROS),
    ],
)
def test_impossible_time_of_an_update_is_replaced_by_the_messages(claimed: str, taken: float) -> None:
    report = {"job_id": 1234, "happened_at": claimed}
    assert read(report, RECEIVED_AT) == [Update(Target("1234", None), taken, "manual")]
    assert read({"models": "all", "happened_at": claimed}, RECEIVED_AT) == [AllTargets(taken, None)]
    event = aws.event("arcanna.training-data", "Training Data Updated", {"job_id": 1234})
    assert read({**event, "time": claimed}, RECEIVED_AT) == [
        Update(Target("1234", None), taken, "Training Data Updated")
    ]
    schedule = aws.event("aws.events", "Scheduled Event", {})
    assert read({**schedule, "time": claimed}, RECEIVED_AT) == [AllTargets(taken, None)]


@pytest.mark.parametrize("zero", ZEROS)
def test_upload_with_a_zero_time_happened_when_its_message_was_sent(zero: str) -> None:
    notification = aws.notification("ObjectCreated:Put")
    notification["Records"][0]["eventTime"] = zero
    expected = NEW_OBJECT._replace(happened_at=RECEIVED_AT)
    assert read(notification, RECEIVED_AT) == [expected]
    assert read({**aws.s3_event("Object Created"), "time": zero}, RECEIVED_AT) == [expected]
    assert read({**aws.api_call("PutObject"), "time": zero}, RECEIVED_AT) == [expected._replace(size=None)]


def test_event_without_a_time_counts_from_when_its_message_was_sent() -> None:
    event = sample("training-data-updated.json")
    del event["time"]
    assert read(event, RECEIVED_AT) == [Update(MODEL, RECEIVED_AT, "Training Data Updated")]


# --- Requests --------------------------------------------------------------------------------------------


def test_request_without_a_time_is_by_hand_and_with_one_a_report() -> None:
    request = {"job_id": 1234, "model_id": MODEL_ID}
    assert read(request, RECEIVED_AT) == [Update(MODEL, RECEIVED_AT, "manual", by_hand=True)]
    assert read({**request, "happened_at": None}, RECEIVED_AT) == read(request, RECEIVED_AT)
    report = {**request, "happened_at": "2025-01-15T14:30:00Z", "cause": "import"}
    assert read(report, RECEIVED_AT) == [Update(MODEL, HALF_PAST_TWO, "import")]


@pytest.mark.parametrize("age", [0, 3600])
def test_request_with_an_age_is_a_wish_and_not_by_hand(age: int) -> None:
    wish = {"job_id": 1234, "model_id": MODEL_ID, "older_than_seconds": age}
    assert read(wish, RECEIVED_AT) == [Update(MODEL, RECEIVED_AT, "manual", older_than=float(age))]


@pytest.mark.parametrize(
    "field",
    [
        *("model", "count", "sample", "attempt", "since", "marks", "significance", "waker"),
        *("promised_at", "follows_active", "first_at", "share", "max_wait", "by_hand", "example", "sweep"),
    ],
)
def test_request_with_an_unknown_field_is_refused(field: str) -> None:
    assert refused({"job_id": 1234, field: 1}) == (
        f'unknown field "{field}"; a request has job_id, model_id, happened_at, cause, older_than_seconds'
    )


# --- Byte order marks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["request.json", "s3-notification.json"])
def test_byte_order_mark_is_dropped(name: str) -> None:
    text = "\ufeff" + json.dumps(SAMPLES[name])
    assert read_json(text, RECEIVED_AT) == READ_AS[name]
    wrapped = aws.in_sns({}) | {"Message": text}
    assert read_json("\ufeff" + json.dumps(wrapped), RECEIVED_AT) == READ_AS[name]


# --- What is refused -------------------------------------------------------------------------------------

S3_EVENT, S3_NOTIFICATION = "s3-object-created.eventbridge.json", "s3-notification.json"
VIA_SNS, REPORT = "s3-notification-via-sns.json", "training-data-updated.json"


@pytest.mark.parametrize(
    ("name", "path", "value", "complaint"),
    [
        (S3_EVENT, "detail", None, "detail.bucket.name is missing"),
        (S3_EVENT, "detail/bucket", [], "detail.bucket must be an object, not an empty list"),
        (S3_EVENT, "detail/object/key", 7, "detail.object.key must be a string"),
        (S3_EVENT, "detail/object/key", "\ud800", "detail.object.key is not valid Unicode"),
        (S3_EVENT, "detail/object/key", "k" * 1025, "detail.object.key has 1025 characters"),
        (S3_EVENT, "detail/object/version-id", 1, "detail.object.version-id must be a string"),
        (
            S3_EVENT,
            "detail/object/size",
            -1,
            "detail.object.size must be a whole number of at least 0, not -1",
        ),
        (
            S3_EVENT,
            "detail/object/size",
            1.5,
            "detail.object.size must be a whole number of at least 0, not 1.5",
        ),
        (
            S3_EVENT,
            "detail/object/size",
            "9",
            'detail.object.size must be a whole number of at least 0, not "9"',
        ),
        (S3_EVENT, "detail/object/size", float("nan"), "detail.object.size must be a whole number"),
        (
            S3_EVENT,
            "detail/object/size",
            True,
            "detail.object.size must be a whole number of at least 0, not true",
        ),
        (
            S3_EVENT,
            "detail/object/size",
            -(2**70),
            "detail.object.size must be a whole number of at least",
        ),
        (S3_EVENT, "time", "now", 'time must be an ISO 8601 time, not "now"'),
        (S3_EVENT, "time", "0001-01-01T00:00:00+23:59", "time must be an ISO 8601 time"),
        (S3_EVENT, "time", "", 'time must be an ISO 8601 time, not ""'),
        (S3_EVENT, "time", 1736951400, "time must be an ISO 8601 time, not 1736951400"),
        (
            S3_EVENT,
            "detail-type",
            {"of": "S3"},
            'unknown event: source "aws.s3", detail-type an object. Send',
        ),
        (S3_NOTIFICATION, "Records", [], 'unknown event with the fields "Records". Send an S3 event'),
        (S3_NOTIFICATION, "Records/0", "record", 'eventSource must be "aws:s3", not null'),
        (S3_NOTIFICATION, "Records/0/eventSource", "aws:sqs", 'eventSource must be "aws:s3", not "aws:sqs"'),
        (S3_NOTIFICATION, "Records/0/eventName", None, "eventName is missing"),
        (S3_NOTIFICATION, "Records/0/s3/bucket/name", None, "s3.bucket.name is missing"),
        (S3_NOTIFICATION, "Records/0/s3/object/key", ["a"], "s3.object.key must be a string"),
        (S3_NOTIFICATION, "Records/0/eventTime", "0000", "eventTime must be an ISO 8601 time"),
        (VIA_SNS, "Records/0/Sns", None, "Sns.Message must be a string with JSON, not null"),
        (VIA_SNS, "Records/0/Sns/Message", "hello", "Sns.Message is not JSON"),
        (VIA_SNS, "Records/0/Sns/Message", None, "Sns.Message must be a string with JSON"),
        (REPORT, "detail", None, "detail.job_id is missing"),
        (REPORT, "detail", '{"job_id": 1234}', r'detail must be an object, not "{\"job_id\": 1234}"'),
        ("run-ended.json", "detail/input", '{"run": [1]}', "detail.input.run must be an object, not a list"),
        (REPORT, "detail/job_id", 12.5, "detail.job_id must be a string or a 64-bit int"),
        (REPORT, "detail/model_id", "", "detail.model_id is empty"),
        (REPORT, "source", "elsewhere", 'unknown event: source "elsewhere", detail-type "Training Data'),
        (REPORT, "detail-type", "Updated", 'unknown event: source "arcanna.training-data", detail-type "Upd'),
        ("schedule.json", "older_than", 60, 'unknown field "older_than"; a schedule has models, happened_at'),
        ("schedule.json", "models", ["all"], 'models must be "all", not a list'),
        ("schedule.json", "happened_at", "<aws.scheduler.scheduled-time>", "happened_at must be an ISO 8601"),
        ("schedule.json", "older_than_seconds", "60", "older_than_seconds must be a whole number of at"),
        ("sweep.json", "sweep", False, 'unknown event with the fields "sweep"'),
        ("sweep.json", "job", 1, 'unknown field "job"; a sweep has sweep'),
        ("run-ended.json", "detail/input", {}, "detail.input must be a string with JSON"),
        ("run-ended.json", "detail/input", "{", "detail.input is not JSON"),
        ("request.json", "job_id", None, "job_id is missing"),
        ("request.json", "model_id", {}, "model_id must be a string or a 64-bit integer, not dict"),
        ("request.json", "cause", "a\nb", "cause "),
        ("request.json", "cause", 0.5, "cause must be a string"),
        (
            "request.json",
            "older_than_seconds",
            -1,
            "older_than_seconds must be a whole number of at least 0, not -1",
        ),
        ("request.json", "older_than_seconds", 0.5, "older_than_seconds must be a whole number"),
        ("request.json", "older_than_seconds", float("inf"), "older_than_seconds must be a whole number"),
    ],
)
def test_field_that_cannot_be_used_is_named(name: str, path: str, value: object, complaint: str) -> None:
    event = sample(name)
    put(event, [int(name) if name.isdigit() else name for name in path.split("/")], value)
    assert refused(event).startswith(complaint)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"job": 1},
        aws.event("aws.ec2", "EC2 Instance State-change Notification", {}),
        {"Records": [{"eventSource": "s3.amazonaws.com", "eventName": "PutObject"}]},
        {"Records": [{"messageId": "m", "body": "{}", "eventSource": "aws:sqs"}]},
        {"invocationSchemaVersion": "1.0", "tasks": [{"s3Key": "key"}]},
        [aws.notification("ObjectCreated:Put")],
        None,
    ],
)
def test_unknown_event_is_refused_with_what_to_send(event: object) -> None:
    assert refused(event).endswith(
        'Send an S3 event of a new object, an event of source "arcanna.training-data" with detail-type'
        ' "Training Data Updated" or "Knowledge Base Corrected", a schedule ({"models": "all"}),'
        " or a request with a job_id."
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the message is not JSON"),
        ("\ufeff", "the message is not JSON"),
        ("[" * 100_000, "the message is not JSON"),
        ('{"job_id": ' + "1" * 5000 + "}", "the message is not JSON: Exceeds the limit"),
        ("null", "expected a JSON object, not null"),
        ('"request"', 'expected a JSON object, not "request"'),
        ("{}", "unknown event with the fields (none). Send"),
        ('{"job": 1}', 'unknown event with the fields "job". Send'),
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_not_an_event_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as error:
        read_json(text, RECEIVED_AT)
    assert str(error.value).startswith(complaint)


def test_notification_inside_a_notification_is_read() -> None:
    message = json.dumps(SAMPLES["sweep.json"])
    for _ in range(12):  # each doubles the quotation marks, so more do not fit into a message
        message = json.dumps({"Type": "Notification", "Message": message})
    assert read_json(message, RECEIVED_AT) == [Sweep()]


# --- Anything at all -------------------------------------------------------------------------------------


HUGE = st.just(10**5000)
"""An integer that Python refuses to convert to text."""


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
    except RecomputeError as error:
        assert 0 < len(str(error)) < 2000  # noqa: PT017 - either outcome is right
        assert str(error).isprintable()  # noqa: PT017 - SQS refuses control characters
    else:
        assert all(isinstance(occurrence, Occurrence) for occurrence in occurrences)
        times = [found.happened_at for found in occurrences if isinstance(found, Update | ObjectCreated)]
        assert all(EARLIEST <= time <= RECEIVED_AT for time in times)


@given(any_text)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_json(text, RECEIVED_AT)
    except BadInput as error:
        assert str(error).isprintable()  # noqa: PT017 - SQS refuses control characters
