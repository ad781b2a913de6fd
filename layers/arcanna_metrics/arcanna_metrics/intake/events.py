"""Reads every event that may reach the trigger into the domain's types.

    SQS message body, or payload of a direct invocation
    ├── SNS notification, as a queue or as a function gets it: the event in it
    ├── EventBridge event
    │   ├── of S3, also by CloudTrail: ObjectCreated, Ignored
    │   ├── of arcanna.training-data: Update
    │   ├── Scheduled Event: AllTargets
    │   └── Step Functions Execution Status Change: RunEnded, Ignored
    ├── S3 notification: ObjectCreated, Ignored
    ├── {"job_id": ...}, a request: Update
    ├── {"models": "all"}, a schedule: AllTargets
    └── {"sweep": true}: Sweep

No input is trusted. An event that cannot be understood raises BadInput, which says what is wrong and what to
send.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from arcanna_metrics.documents import shown
from arcanna_metrics.errors import BadInput, NotSubscribed
from arcanna_metrics.intake import fields
from arcanna_metrics.targets import Target, Update, identifier

LONGEST_AGE = 10**9
"""Seconds. Larger ages are reduced to this: no metrics are 31 years old."""

_REQUEST = ("job_id", "model_id", "happened_at", "cause", "older_than_seconds")
_SCHEDULE = ("models", "happened_at", "older_than_seconds")

_CREATING_CALLS = {"PutObject", "PostObject", "CopyObject", "CompleteMultipartUpload", "RenameObject"}
"""The operations of S3's API that create an object (RenameObject: in directory buckets)."""

_WHAT_TO_SEND = (
    'Send an S3 event of a new object, an event of source "arcanna.training-data" with detail-type'
    ' "Training Data Updated" or "Knowledge Base Corrected", a schedule ({"models": "all"}),'
    " or a request with a job_id."
)


class ObjectCreated(NamedTuple):
    """A new object, or a new version of an object. Routes give its targets."""

    bucket: str
    key: str  # decoded, not URL-encoded
    version_id: str | None
    happened_at: float  # epoch seconds
    size: int | None = None  # bytes; None: unknown


class AllTargets(NamedTuple):
    """A schedule asks for every target whose metrics are older than `older_than` seconds.

    0 means metrics of any age. None means the age in the job's settings.
    """

    happened_at: float  # epoch seconds
    older_than: float | None


class RunEnded(NamedTuple):
    """An execution of the workflow may have ended. This is only a hint; Step Functions has the truth."""

    target: Target  # the ledger's key
    run_id: str


class Sweep(NamedTuple):
    """It is time to look at what is due."""


class Ignored(NamedTuple):
    """An event that needs no action: the reason, and the object's key if there is one."""

    reason: str
    key: str | None = None


Occurrence = ObjectCreated | Ignored | Update | AllTargets | RunEnded | Sweep


def read(event: object, received_at: float) -> list[Occurrence]:
    """What an event says has happened.

    `received_at` (epoch seconds) is when its message was sent, or when the function was invoked. Nothing in
    it can have happened later, so this limits the times in events, which come from other clocks. Raises
    BadInput.
    """
    match event:
        case {"Records": [{"EventSource": "aws:sns"}, *_] as records}:
            messages = [fields.nested_json(record, "Sns.Message") for record in records]
            return [occurrence for message in messages for occurrence in read(message, received_at)]
        case {"Type": "Notification"}:
            return read(fields.nested_json(event, "Message"), received_at)
        case {"source": source, "detail-type": detail_type}:
            return [_event_bridge(source, detail_type, event, received_at)]
        case {"Records": [_, *_] as records}:
            return [_s3_record(record, received_at) for record in records]
        case dict():
            return [_other(event, received_at)]
        case _:
            raise BadInput(f"expected a JSON object, not {shown(event)}. {_WHAT_TO_SEND}")


def read_json(text: str, received_at: float) -> list[Occurrence]:
    """Like `read`, for an event that is still text."""
    return read(fields.parse_json("the message", text), received_at)


# --- The shapes ------------------------------------------------------------------------------------------


def _other(event: Mapping[str, object], received_at: float) -> Occurrence:
    match event:
        case {"job_id": _}:
            return _request(event, received_at)
        case {"models": "all"}:
            fields.assert_only(event, _SCHEDULE, "a schedule")
            return AllTargets(fields.time(event, "happened_at", received_at), older_than=_age(event))
        case {"models": models}:
            raise BadInput(f'models must be "all", not {shown(models)}')
        case {"sweep": True}:
            fields.assert_only(event, ("sweep",), "a sweep")
            return Sweep()
        case {"Event": "s3:TestEvent"}:
            return Ignored("s3:TestEvent")
        case {"Type": ("SubscriptionConfirmation" | "UnsubscribeConfirmation") as notice}:
            topic = shown(event.get("TopicArn"))
            raise NotSubscribed(
                f"SNS {notice}: topic {topic} does not deliver here. If you want its messages, confirm with:"
                " aws sns confirm-subscription --region <the topic's> --topic-arn <TopicArn> --token <Token>"
            )
        case _:
            names = fields.listed(event) or "(none)"
            raise BadInput(f"unknown event with the fields {names}. {_WHAT_TO_SEND}")


def _event_bridge(source: object, detail_type: object, event: object, received_at: float) -> Occurrence:
    match source, detail_type:
        case (("aws.s3" | "aws.s3express"), "AWS API Call via CloudTrail"):
            return _s3_call(event, received_at)
        case "aws.s3", str(name):
            if _is_creation(name):
                return _s3_event(event, received_at)
            return Ignored(name, fields.optional_text(event, "detail.object.key"))
        case "arcanna.training-data", ("Training Data Updated" | "Knowledge Base Corrected") as cause:
            return Update(_target(event, "detail."), fields.time(event, "time", received_at), cause)
        case (("aws.events" | "aws.scheduler"), "Scheduled Event"):
            return AllTargets(fields.time(event, "time", received_at), older_than=None)
        case "aws.states", "Step Functions Execution Status Change":
            return _run_ended(event)
        case _:
            what = f"source {shown(source)}, detail-type {shown(detail_type)}"
            raise BadInput(f"unknown event: {what}. {_WHAT_TO_SEND}")


def _s3_event(event: object, received_at: float) -> ObjectCreated | Ignored:
    """An "Object Created" event. Its key is not URL-encoded, unlike the key of a notification.

    (Powertools' data class decodes it, so "a+b.csv" would become "a b.csv".)
    """
    return _created(
        fields.text(event, "detail.bucket.name"),
        fields.text(event, "detail.object.key"),
        fields.optional_text(event, "detail.object.version-id"),
        fields.time(event, "time", received_at),
        fields.whole_number(event, "detail.object.size"),
    )


def _s3_call(event: object, received_at: float) -> ObjectCreated | Ignored:
    """A call of S3's API, reported by CloudTrail. It does not contain the object's size.

    But a PutObject that sent no bytes made an empty object. A CopyObject, for example, never sends any.
    """
    name = fields.text(event, "detail.eventName")
    error = fields.optional_text(event, "detail.errorCode")
    if error or name not in _CREATING_CALLS:
        reason = f"{name} failed: {error}" if error else name
        return Ignored(reason, fields.optional_text(event, "detail.requestParameters.key"))
    sent = fields.at(event, "detail.additionalEventData.bytesTransferredIn") if name == "PutObject" else None
    return _created(
        fields.text(event, "detail.requestParameters.bucketName"),
        fields.text(event, "detail.requestParameters.key"),
        fields.optional_text(event, "detail.responseElements.x-amz-version-id"),
        fields.time(event, "time", received_at),
        0 if sent == 0 else None,
    )


def _s3_record(record: object, received_at: float) -> ObjectCreated | Ignored:
    if (source := fields.at(record, "eventSource")) != "aws:s3":
        raise BadInput(f'eventSource must be "aws:s3", not {shown(source)}. {_WHAT_TO_SEND}')
    encoded = fields.at(record, "s3.object.key")
    key = fields.checked("s3.object.key", unquote_plus(encoded) if isinstance(encoded, str) else encoded)
    if not _is_creation(name := fields.text(record, "eventName")):
        return Ignored(name, key)
    return _created(
        fields.text(record, "s3.bucket.name"),
        key,
        fields.optional_text(record, "s3.object.versionId"),
        fields.time(record, "eventTime", received_at),
        fields.whole_number(record, "s3.object.size"),
    )


def _is_creation(name: str) -> bool:
    """Whether S3's name of an event means a new object. Raises BadInput if that is not clear.

    In notifications the name begins with "ObjectCreated:". Bucket configurations and S3-compatible stores
    put "s3:" before it.
    """
    plain = name.lower().removeprefix("s3:").replace(" ", "")
    if plain.startswith("objectcreated"):
        return True
    if "deletemarker" not in plain and any(word in plain for word in ("creat", "copy", "copied")):
        raise BadInput(f"the S3 event {shown(name)} may mean a new object. {_WHAT_TO_SEND}")
    return False


def _created(
    bucket: str, key: str, version_id: str | None, happened_at: float, size: int | None
) -> ObjectCreated | Ignored:
    """The new object, unless it is empty: a marker such as _SUCCESS, or a folder in a console.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-folders.html
    """
    if size or (size is None and not key.endswith("/")):
        return ObjectCreated(bucket, key, version_id, happened_at, size)
    return Ignored("folder" if key.endswith("/") else "empty", key)


def _run_ended(event: object) -> RunEnded | Ignored:
    if fields.at(event, "detail.input") is None:  # Step Functions omits an input that is too large
        return Ignored("run ended without its input")
    given = {"detail": {"input": fields.nested_json(event, "detail.input")}}
    run_id = identifier("detail.input.run.run_id", fields.at(given, "detail.input.run.run_id"))
    return RunEnded(_target(given, "detail.input.run.target."), run_id)


def _request(event: Mapping[str, object], received_at: float) -> Update:
    fields.assert_only(event, _REQUEST, "a request")
    older_than, cause = _age(event), event.get("cause")
    return Update(
        _target(event),
        fields.time(event, "happened_at", received_at),
        "manual" if cause is None else identifier("cause", cause),
        older_than=older_than,
        by_hand=event.get("happened_at") is None and older_than is None,
    )


def _target(event: object, prefix: str = "") -> Target:
    return Target.of(fields.at(event, f"{prefix}job_id"), fields.at(event, f"{prefix}model_id"), prefix)


def _age(event: object) -> float | None:
    """In seconds; None if the event has none."""
    age = fields.whole_number(event, "older_than_seconds")
    return None if age is None else float(min(age, LONGEST_AGE))
