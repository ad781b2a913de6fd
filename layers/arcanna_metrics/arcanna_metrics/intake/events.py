"""Everything that may reach the trigger, read into what the domain knows.

The same shapes come as SQS message bodies and by direct invocation, S3's also wrapped by SNS. Nothing here
is trusted: whatever is not understood raises BadInput with a message that says what is wrong.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from arcanna_metrics.errors import BadInput
from arcanna_metrics.gathering import MOST_MARKS, Significance, mark, read_mark
from arcanna_metrics.runs.run import Run, parse_run
from arcanna_metrics.targets import Target, identifier
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics.updates import MANUAL, SAMPLE_SIZE, Sample, Update

TEXT_LENGTH = 1024
"""Characters that a key or another text may have: S3's own limit for keys (there in bytes of UTF-8)."""

AHEAD = 3600.0
"""Seconds that promises may be ahead of the queue: far more than clocks differ, and less than does harm."""

COUNT_LIMIT = 2**50
"""Where counts of updates and of bytes saturate."""

_SCHEDULE_FIELDS = {"happened_at", "older_than_seconds"}
_REQUEST_FIELDS = {"job_id", "model_id", "happened_at", "cause", "older_than_seconds"}
_CARRIED_FIELDS = {
    "first_at",
    "count",
    "sample",
    "attempt",
    "waiting_since",
    "marks",
    "significance",
    "waker",
    "promised_at",
    "follows_active",
}
_SAMPLE_FIELDS = {"bucket", "key", "version_id"}


class ObjectChanged(NamedTuple):
    """An object was written; routes say whose training data it is.

    `key` is the real key, decoded, `size` in bytes, 0 where it is not told.
    """

    bucket: str
    key: str
    version_id: str | None
    happened_at: float
    size: int = 0

    def update(self, target: Target, significance: Significance | None) -> Update:
        """The update of one target that it is."""
        bucket, key, version_id, happened_at, size = self
        marks = {mark(happened_at, size, bucket, key, version_id)} if significance else ()
        return Update(
            target,
            happened_at,
            "upload",
            happened_at,
            sample=({"bucket": bucket, "key": key, "version_id": version_id},),
            marks=frozenset(marks),
            significance=significance,
        )


class AllModels(NamedTuple):
    """A schedule asks for every model; with `older_than`, in seconds, for those whose metrics are older."""

    happened_at: float
    older_than: int | None = None

    def update(self, target: Target) -> Update:
        """The update of one target that it counts as."""
        return Update(target, self.happened_at, "schedule", self.happened_at, older_than=self.older_than)


class RunEnded(NamedTuple):
    """An execution of the workflow ended without success; `run` is its input's.

    `error` is the name of what it failed of, None where it did not end by itself.
    """

    execution_arn: str
    run: Run
    status: str
    detail: str
    error: str | None = None


class Ignored(NamedTuple):
    """What S3 tells that is no new training data: the word for what it is, and the object's key, if any."""

    reason: str
    key: str | None = None


Occurrence = ObjectChanged | Ignored | Update | AllModels | RunEnded


def read(event: object, received_at: float) -> list[Occurrence]:
    """What an event says has happened.

    `received_at` (epoch seconds) is when the queue or the function got the event. No update happened later,
    so it bounds the times that events claim, which come from other people's clocks.
    Raises BadInput.
    """
    match event:
        case {"Type": "Notification"}:
            return _read_unwrapped(_json(event, "Message"), received_at)
        case {"Records": [{"EventSource": "aws:sns"}, *_] as records}:
            return [
                occurrence
                for record in records
                for occurrence in _read_unwrapped(_json(record, "Sns.Message"), received_at)
            ]
        case _:
            return _read_unwrapped(event, received_at)


def read_json(text: str, received_at: float) -> list[Occurrence]:
    """Like `read`, for an event that is still text."""
    return read(_parse_json("the message", text), received_at)


def request_body(update: Update) -> str:
    """The message that asks for this update again, later; `read_json` reads it back."""
    target, waiting_since, significance = update.target, update.waiting_since, update.significance
    seldom: dict[str, object] = {
        "older_than_seconds": update.older_than,
        "marks": sorted(update.marks),
        "significance": significance and significance._asdict(),
        "waker": update.waker,
        "promised_at": None if update.promised_at is None else to_iso(update.promised_at),
        "follows_active": update.follows_active,
    }
    return json.dumps(
        {
            **{name: value for name, value in seldom.items() if value},
            "job_id": target.job_id,
            "model_id": target.model_id,
            "happened_at": to_iso(update.happened_at),
            "cause": update.cause,
            "first_at": to_iso(update.first_at),
            "count": update.count,
            "sample": update.sample,
            "attempt": update.attempt,
            "waiting_since": None if waiting_since is None else to_iso(waiting_since),
        }
    )


# --- The shapes ------------------------------------------------------------------------------------------


def _read_unwrapped(event: object, received_at: float) -> list[Occurrence]:
    match event:
        case {"source": source, "detail-type": detail_type}:
            return [_event_bridge(source, detail_type, event, received_at)]
        case {"Records": [_, *_] as records}:
            return [_s3_record(record, received_at) for record in records]
        case dict() if "job_id" in event:
            return [_request(event, received_at)]
        case {"models": "all", **others}:
            if unknown := others.keys() - _SCHEDULE_FIELDS:
                raise BadInput(
                    f"unknown field {_listed(unknown)}; a schedule has models,"
                    f" {', '.join(sorted(_SCHEDULE_FIELDS))}"
                )
            older_than = _seconds(event, "older_than_seconds")
            return [AllModels(_time(event, "happened_at", received_at), older_than)]
        case {"models": models}:
            raise BadInput(f"models must be 'all', not {_shown(models)}")
        case {"Event": "s3:TestEvent"}:
            return [Ignored("s3:TestEvent")]
        case dict():
            raise BadInput(
                "not an event of S3, EventBridge, SNS or a schedule, and no request with a job_id; "
                f"it has the fields {_listed(event) or '(none)'}"
            )
        case _:
            raise BadInput(f"expected a JSON object, not {_shown(event)}")


def _event_bridge(source: object, detail_type: object, event: object, received_at: float) -> Occurrence:
    happened_at = _time(event, "time", received_at)
    match source, detail_type:
        case "aws.s3", "Object Created":
            # Not decoded, unlike the key of a notification. (Powertools' data class does decode it, so that
            # "a+b.csv" becomes "a b.csv".)
            return _unless_folder(
                ObjectChanged(
                    _text(event, "detail.bucket.name"),
                    _text(event, "detail.object.key"),
                    _optional_text(event, "detail.object.version-id"),
                    happened_at,
                    _count(event, "detail.object.size", 0),
                )
            )
        case "aws.s3", str(reason):
            return Ignored(reason, _optional_text(event, "detail.object.key"))
        case "arcanna.training-data", ("Training Data Updated" | "Knowledge Base Corrected") as cause:
            return Update.single(_target(event, "detail."), happened_at, cause)
        case "aws.states", "Step Functions Execution Status Change":
            return _run_ended(event)
        case _:
            raise BadInput(
                f"source {_shown(source)} with detail-type {_shown(detail_type)} is no event of "
                "training data, nor the end of a run"
            )


def _s3_record(record: object, received_at: float) -> ObjectChanged | Ignored:
    if (source := _at(record, "eventSource")) != "aws:s3":
        raise BadInput(f"eventSource must be 'aws:s3', not {_shown(source)}")
    encoded = _at(record, "s3.object.key")
    key = _checked("s3.object.key", unquote_plus(encoded) if isinstance(encoded, str) else encoded)
    if not (name := _text(record, "eventName")).startswith("ObjectCreated:"):
        return Ignored(name, key)
    return _unless_folder(
        ObjectChanged(
            _text(record, "s3.bucket.name"),
            key,
            _optional_text(record, "s3.object.versionId"),
            _time(record, "eventTime", received_at),
            _count(record, "s3.object.size", 0),
        )
    )


def _unless_folder(changed: ObjectChanged) -> ObjectChanged | Ignored:
    """Consoles show a folder by an empty object of its name.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-folders.html
    """
    if changed.key.endswith("/") and changed.size == 0:
        return Ignored("folder", changed.key)
    return changed


def _run_ended(event: object) -> RunEnded:
    arn, status = _text(event, "detail.executionArn"), _text(event, "detail.status")
    run = parse_run("the run in detail.input", _at(_json(event, "detail.input"), "run"))
    cause = _at(event, "detail.cause") or f"The execution ended as {status}"
    # Cut rather than refused: without this event the model would stay held.
    detail = _checked("detail.cause", cause[:TEXT_LENGTH] if isinstance(cause, str) else cause)
    return RunEnded(arn, run, status, detail, _optional_text(event, "detail.error"))


def _request(event: Mapping[str, object], received_at: float) -> Update:
    if unknown := event.keys() - _REQUEST_FIELDS - _CARRIED_FIELDS:
        raise BadInput(
            f"unknown field {_listed(unknown)}; a request has {', '.join(sorted(_REQUEST_FIELDS))}"
        )
    happened_at = _time(event, "happened_at", received_at)
    cause = event.get("cause")
    waiting, promised = (event.get(name) is not None for name in ("waiting_since", "promised_at"))
    return Update(
        target=_target(event),
        happened_at=happened_at,
        cause=MANUAL if cause is None else identifier("cause", cause),
        first_at=_time(event, "first_at", happened_at),
        count=_count(event, "count", 1),
        sample=_sample(event.get("sample")),
        attempt=_count(event, "attempt", 0),
        waiting_since=_time(event, "waiting_since", received_at) if waiting else None,
        marks=_marks(event.get("marks"), received_at),
        significance=_significance(event.get("significance")),
        waker=_flag(event, "waker"),
        promised_at=_time(event, "promised_at", received_at + AHEAD) if promised else None,
        older_than=_seconds(event, "older_than_seconds"),
        follows_active=_flag(event, "follows_active"),
    )


# --- Their fields, by dotted path ------------------------------------------------------------------------


def _at(event: object, path: str) -> Any:
    """The value at the path; None where there is none."""
    for name in path.split("."):
        if not isinstance(event, dict):
            return None
        event = event.get(name)
    return event


def _target(event: object, prefix: str = "") -> Target:
    job_id, model_id = _at(event, f"{prefix}job_id"), _at(event, f"{prefix}model_id")
    return Target(
        identifier(f"{prefix}job_id", job_id),
        None if model_id is None else identifier(f"{prefix}model_id", model_id),
    )


def _text(event: object, path: str) -> str:
    return _checked(path, _at(event, path))


def _optional_text(event: object, path: str) -> str | None:
    value = _at(event, path)
    return None if value is None else _checked(path, value)


def _checked(name: str, value: object) -> str:
    if value is None:
        raise BadInput(f"{name} is missing")
    if not isinstance(value, str):
        raise BadInput(f"{name} must be a string, not {_shown(value)}")
    if len(value) > TEXT_LENGTH:
        raise BadInput(f"{name} has {len(value)} characters, more than {TEXT_LENGTH}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can hold half a surrogate pair, no AWS API can
        raise BadInput(f"{name} is no valid Unicode: {error.reason}") from error
    return value


def _json(event: object, path: str) -> object:
    value = _at(event, path)
    if not isinstance(value, str):
        raise BadInput(f"{path} must be a string with JSON, not {_shown(value)}")
    return _parse_json(path, value)


def _parse_json(name: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} is not JSON: {error}") from error


def _time(event: object, path: str, latest: float) -> float:
    """Epoch seconds, `latest` at most, and where there is no time."""
    value = _at(event, path)
    if value is None:
        return latest
    if not isinstance(value, str):
        raise BadInput(f"{path} must be an ISO 8601 time, not {_shown(value)}")
    try:
        return min(from_iso(value), latest)
    except ValueError as error:
        raise BadInput(f"{path} must be an ISO 8601 time, not {_shown(value)}") from error


def _count(event: object, path: str, default: int) -> int:
    value = _at(event, path)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadInput(f"{path} must be a whole number, not {_shown(value)}")
    return min(value, COUNT_LIMIT)


def _seconds(event: object, path: str) -> int | None:
    """Whole seconds; None where there are none, or 0."""
    return _count(event, path, 0) or None


def _flag(event: Mapping[str, object], name: str) -> bool:
    value = event.get(name, False)
    if not isinstance(value, bool):
        raise BadInput(f"{name} must be true or false, not {_shown(value)}")
    return value


def _marks(listed: object, latest: float) -> frozenset[str]:
    if listed is None:
        return frozenset()
    if not isinstance(listed, list) or len(listed) > MOST_MARKS:
        raise BadInput(f"marks must be a list of at most {MOST_MARKS}")
    marks = (_checked("a mark", text) for text in listed)
    # None is later than its message, by that message's clock: as with all other times.
    return frozenset(
        text if read_mark(text).at <= latest else f"{to_iso(latest)} {text.partition(' ')[2]}"
        for text in marks
    )


def _significance(fields: object) -> Significance | None:
    if fields is None:
        return None
    if not isinstance(fields, dict) or fields.keys() != set(Significance._fields):
        raise BadInput(f"significance must have {', '.join(Significance._fields)}")
    objects, size = (_count(fields, name, 0) or None for name in ("objects", "bytes"))
    max_wait = fields["max_wait"]
    if not isinstance(max_wait, int | float) or not 0 <= max_wait <= COUNT_LIMIT:
        raise BadInput(f"max_wait must be a number of seconds, not {_shown(max_wait)}")
    return Significance(objects, size, float(max_wait))


def _sample(listed: object) -> tuple[Sample, ...]:
    if listed is None:
        return ()
    if not isinstance(listed, list) or len(listed) > SAMPLE_SIZE:
        raise BadInput(f"sample must be a list of at most {SAMPLE_SIZE} objects")
    for item in listed:
        if not isinstance(item, dict) or item.keys() - _SAMPLE_FIELDS:
            raise BadInput(f"sample must hold objects with {', '.join(sorted(_SAMPLE_FIELDS))}")
    return tuple({name: _optional_text(item, name) for name in item} for item in listed)


def _shown(value: object) -> str:
    """A value as error messages show it: never long, never nested."""
    return repr(value[:64]) if isinstance(value, str) else f"a value of type {type(value).__name__}"


def _listed(names: Iterable[object]) -> str:
    return ", ".join(_shown(name) for name in sorted(map(str, names))[:10])
