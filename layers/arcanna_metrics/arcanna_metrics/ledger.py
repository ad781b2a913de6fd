"""The ledger: one DynamoDB item per model, changed only by conditional updates.

Attributes: job_id and model_id (the key), run_id, requested_at, lease_expires_at, pending_at, pending_since,
pending_updates, covered_until, stale_since, gathered, wake_at, promised_at and follows_at (see
coverage.Entry), history (JSON, the last completed runs), quality_reference (JSON, see quality.Reference),
last_run_id (so that a release may be repeated), claimed_at (of the last claim, also of one that came to
nothing), last_outcome, last_ended_at and last_failure (for people) and expires_at (time to live). Times are
ISO 8601 strings of fixed width. The workflow writes the same item: at its start it makes the claim a run,
with requested_at and a long lease, and at its end it releases the model.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from arcanna_metrics.aws import aws_call
from arcanna_metrics.coverage import Entry
from arcanna_metrics.gathering import fewest
from arcanna_metrics.targets import Model
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics.updates import Update

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PLACES = " "
"""The job_id of items that are no models (see places): no job's id is blank."""

FORGET_AFTER = 400 * 86400  # seconds without an update; older model ids are of trainings long gone


_REFUSED = {"S": "failed: Rejected"}
"""As the workflow writes the outcome of a run that the platform has refused."""

_Value = str | int | frozenset[str]

_NO_LATER_FOLLOWS = "attribute_not_exists(follows_at) OR follows_at <= :follows"


class Write(NamedTuple):
    """Whether a conditional write was made, and the entry after it, or the one that refused it.

    Of a claim that was made, it is the entry before: with what the claim takes along.
    """

    made: bool
    entry: Entry


class Ledger:
    """Every method but those that read makes one conditional write. All raise AwsUnavailable."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def claim(
        self,
        model: Model,
        run_id: str,
        *,
        now: float,
        lease_expires_at: float,
        happened_at: float,
        margin: float,
        spacing: float = 0.0,
        follows_active: bool = False,
        gathered: frozenset[str] = frozenset(),
        promised_at: float | None = None,
        expired: str | None = None,
        left_at: float | None = None,
    ) -> Write:
        """Takes the model for a run, on the conditions of `coverage.plan`.

        The run sees to all that is `gathered`, and nothing else may be: to what has settled by itself, to the
        rest, of which the latest happened at `left_at`, by its being pending. With `follows_active` it is for
        updates that follow the active model. `expired` is the run whose claim it takes the place of, if one
        is known: what that one had taken along may have been covered since, if it is not there any more.
        """
        only, these = _only(gathered)
        free = "run_id = :expired AND" if expired else "attribute_not_exists(run_id) OR"
        more: dict[str, _Value] = {":expired": expired} if expired else {}
        changes = "SET run_id = :run, lease_expires_at = :lease, claimed_at = :now, expires_at = :forget"
        removed = " REMOVE requested_at, gathered, wake_at"
        if left_at is None:
            removed += ", pending_at, pending_since, pending_updates"
        else:
            more |= {":left": to_iso(left_at), ":one": 1}
            changes += ", pending_at = :left, pending_since = :left, pending_updates = :one"
        if promised_at is not None:
            more[":promised"] = to_iso(promised_at)
            changes += ", promised_at = :promised"
        if follows_active:
            changes += ", follows_at = :latest"
            more[":latest"] = to_iso(happened_at)
        else:
            removed += ", follows_at"
        return self._update(
            model,
            changes + removed,
            f"({free} lease_expires_at < :now)"
            " AND (attribute_not_exists(covered_until) OR covered_until <= :horizon)"
            " AND (attribute_not_exists(pending_at) OR pending_at < :settled)"
            f" AND {only}",
            {
                **these,
                **more,
                ":run": run_id,
                ":now": to_iso(now),
                ":lease": to_iso(lease_expires_at),
                ":horizon": to_iso(min(happened_at + margin, now - spacing)),
                ":settled": to_iso(now - margin),
                ":forget": int(now) + FORGET_AFTER,
            },
            returns="ALL_OLD",
        )

    def read(self, model: Model) -> Entry:
        """What it knows of the model."""
        with aws_call("read the ledger"):
            answer = self._dynamodb.get_item(TableName=self._table, Key=_key(model), ConsistentRead=True)
        return _entry(answer.get("Item", {}))

    def gather(
        self, model: Model, marks: frozenset[str], now: float, *, follows_at: float | None = None
    ) -> Write:
        """Adds marks of updates that wait, and notes when one happened that follows the active model."""
        follows = {} if follows_at is None else {":follows": to_iso(follows_at)}
        return self._update(
            model,
            f"SET expires_at = :forget{', follows_at = :follows' if follows else ''} ADD gathered :marks",
            _NO_LATER_FOLLOWS if follows else None,
            {":forget": int(now) + FORGET_AFTER, ":marks": marks, **follows},
        )

    def forget_earliest(self, model: Model, gathered: frozenset[str]) -> Write:
        """Keeps the latest of exactly these marks."""
        only, these = _only(gathered)
        return self._update(model, "SET gathered = :kept", only, {**these, ":kept": fewest(gathered)})

    def promise(self, model: Model, wake_at: float, promised_at: float) -> Write:
        """Notes that a message has been sent which will ask by then for all that is gathered, unless another
        has promised that since, or this one has been handled by now."""
        return self._update(
            model,
            "SET wake_at = :at, promised_at = :promised",
            "attribute_exists(gathered) AND (attribute_not_exists(promised_at) OR promised_at < :promised)",
            {":at": to_iso(wake_at), ":promised": to_iso(promised_at)},
        )

    def break_promise(self, model: Model, promised_at: float | None) -> Write:
        """Notes that a message will not ask, unless another has promised it since."""
        return self._update(
            model,
            "SET promised_at = :promised REMOVE wake_at",
            "attribute_exists(gathered) AND (attribute_not_exists(promised_at) OR promised_at <= :promised)",
            {":promised": to_iso(promised_at or 0.0)},
        )

    def finish_waiting(self, model: Model, gathered: frozenset[str], promised_at: float) -> Write:
        """Takes the promise back, unless anything else has been gathered: its message then stays."""
        only, these = _only(gathered)
        return self._update(
            model,
            "SET promised_at = :promised REMOVE gathered, wake_at",
            f"attribute_exists(job_id) AND {only}",
            {":promised": to_iso(promised_at), **these},
        )

    def entries(self) -> dict[Model, Entry]:
        """All models that it knows: who holds them, and what is pending or gathered, but not the rest."""
        names = "job_id, model_id, run_id, requested_at, lease_expires_at"
        names += (
            ", pending_at, pending_since, pending_updates, gathered, wake_at, covered_until, last_outcome"
        )
        with aws_call("read the ledger"):
            pages = self._dynamodb.get_paginator("scan").paginate(
                TableName=self._table, ProjectionExpression=names
            )
            return {
                Model(item["job_id"]["S"], item["model_id"]["S"]): _entry(item)
                for page in pages
                for item in page["Items"]
                if item["job_id"]["S"] != PLACES
            }

    def mark_pending(self, model: Model, entry: Entry, update: Update) -> Write:
        """Notes on this very run, besides what the entry knows, updates that the run does not cover."""
        follows, known = update.follows_active, entry.pending_updates
        return self._update(
            model,
            "SET pending_updates = :updates, pending_since = :since, pending_at = :at"
            f"{', follows_at = :follows' if follows else ''}",
            "run_id = :run AND (attribute_not_exists(pending_at) OR pending_at <= :at)"
            f" AND {'pending_updates = :known' if known else 'attribute_not_exists(pending_updates)'}"
            f"{f' AND ({_NO_LATER_FOLLOWS})' if follows else ''}",
            {
                ":run": entry.run_id or "",
                ":at": to_iso(max(update.happened_at, entry.pending_at or 0.0)),
                ":since": to_iso(min(update.first_at, entry.pending_since or update.first_at)),
                ":updates": known + update.count,
                **({":known": known} if known else {}),
                **({":follows": to_iso(max(update.happened_at, entry.follows_at or 0.0))} if follows else {}),
            },
        )

    def follow(self, model: Model, run_id: str, follows_at: float) -> Write:
        """Notes on this very run that an update follows the active model which it covers."""
        return self._update(
            model,
            "SET follows_at = :follows",
            f"run_id = :run AND ({_NO_LATER_FOLLOWS})",
            {":run": run_id, ":follows": to_iso(follows_at)},
        )

    def give_back(self, model: Model, run_id: str, update: Update) -> Write:
        """Undoes a claim that led to no run, unless its workflow holds the model after all.

        The updates that it would have seen to are due.
        """
        return self._update(
            model,
            "SET pending_at = :at, pending_since = :since, pending_updates = :updates"
            f"{', follows_at = :at' if update.follows_active else ''} REMOVE run_id, lease_expires_at",
            "run_id = :run AND attribute_not_exists(requested_at)",
            {
                ":run": run_id,
                ":at": to_iso(update.happened_at),
                ":since": to_iso(update.first_at),
                ":updates": update.count,
            },
        )

    def hold(self, model: Model, run_id: str, lease_expires_at: float) -> Write:
        """Prolongs the lease of a run, if the run still holds the model."""
        return self._update(
            model,
            "SET lease_expires_at = :lease",
            "run_id = :run",
            {":run": run_id, ":lease": to_iso(lease_expires_at)},
        )

    def _update(
        self,
        model: Model,
        update: str,
        condition: str | None,
        values: Mapping[str, _Value],
        returns: Literal["ALL_NEW", "ALL_OLD"] = "ALL_NEW",
    ) -> Write:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _key(model),
            "UpdateExpression": update,
            "ReturnValues": returns,
        }
        if condition:
            request |= {
                "ConditionExpression": condition,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        if values:
            request["ExpressionAttributeValues"] = {name: _written(value) for name, value in values.items()}
        with aws_call("write to the ledger"):
            try:
                answer = self._dynamodb.update_item(**request)
            except self._dynamodb.exceptions.ConditionalCheckFailedException as refused:
                return Write(False, _entry(cast("dict[str, Any]", refused.response.get("Item", {}))))
        return Write(True, _entry(answer.get("Attributes", {})))


def _only(gathered: frozenset[str]) -> tuple[str, Mapping[str, _Value]]:
    """The condition that nothing else is gathered, and its values."""
    none = "attribute_not_exists(gathered)"
    return (f"({none} OR gathered = :gathered)", {":gathered": gathered}) if gathered else (none, {})


def _key(model: Model) -> dict[str, Any]:
    return {"job_id": {"S": model.job_id}, "model_id": {"S": model.model_id}}


def _written(value: _Value) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case int():
            return {"N": str(value)}
        case _:
            return {"SS": sorted(value)}


def _entry(item: dict[str, Any]) -> Entry:
    def time(name: str) -> float | None:
        return from_iso(item[name]["S"]) if name in item else None

    return Entry(
        run_id=item["run_id"]["S"] if "run_id" in item else None,
        requested_at=time("requested_at"),
        lease_expires_at=time("lease_expires_at"),
        pending_at=time("pending_at"),
        covered_until=time("covered_until"),
        history=tuple(json.loads(item["history"]["S"])) if "history" in item else (),
        gathered=frozenset(item["gathered"]["SS"]) if "gathered" in item else frozenset(),
        wake_at=time("wake_at"),
        promised_at=time("promised_at"),
        pending_since=time("pending_since"),
        pending_updates=int(item["pending_updates"]["N"]) if "pending_updates" in item else 0,
        follows_at=time("follows_at"),
        stale_since=time("stale_since"),
        reference=json.loads(item["quality_reference"]["S"]) if "quality_reference" in item else None,
        refused="covered_until" not in item and item.get("last_outcome") == _REFUSED,
    )
