"""The ledger: one DynamoDB item per model, changed only by conditional updates.

Attributes: job_id and model_id (the key), run_id, requested_at, lease_expires_at, pending_at, covered_until,
gathered and wake_at (see coverage.Entry), history (JSON, the last completed runs), last_run_id (so that a
release may be repeated), claimed_at (of the last claim, also of one that came to nothing), last_outcome,
last_ended_at and last_failure (for people), expires_at (time to live). Times are ISO 8601 strings of fixed
width. The workflow writes the same item: at its start it makes the claim a run, with requested_at and a long
lease, and at its end it releases the model.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from recompute.aws import aws_call
from recompute.coverage import Entry
from recompute.timestamps import from_iso, to_iso
from recompute.updates import Model

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PLACES = " "
"""The job_id of items that are no models (see places): no job's id is blank."""

FORGET_AFTER = 400 * 86400  # seconds without an update; older model ids are of trainings long gone


_Value = str | int | frozenset[str]


class Write(NamedTuple):
    """Whether a conditional write was made, and the entry after it, or the one that refused it."""

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
        gathered: frozenset[str] = frozenset(),
        left_at: float | None = None,
    ) -> Write:
        """Takes the model for a run, on the conditions of `coverage.plan`.

        The run sees to all that is `gathered`, and nothing else may be: to what has settled by itself, to
        the rest, of which the latest happened at `left_at`, by its being pending.
        """
        only, these = _only(gathered)
        left, then = (", pending_at = :left", "") if left_at is not None else ("", ", pending_at")
        return self._update(
            model,
            f"SET run_id = :run, lease_expires_at = :lease, claimed_at = :now, expires_at = :forget{left}"
            f" REMOVE requested_at, gathered, wake_at{then}",
            "(attribute_not_exists(run_id) OR lease_expires_at < :now)"
            " AND (attribute_not_exists(covered_until) OR covered_until <= :horizon)"
            " AND (attribute_not_exists(pending_at) OR pending_at < :settled)"
            f" AND {only}",
            {
                **these,
                **({":left": to_iso(left_at)} if left_at is not None else {}),
                ":run": run_id,
                ":now": to_iso(now),
                ":lease": to_iso(lease_expires_at),
                ":horizon": to_iso(min(happened_at + margin, now - spacing)),
                ":settled": to_iso(now - margin),
                ":forget": int(now) + FORGET_AFTER,
            },
        )

    def read(self, model: Model) -> Entry:
        """What it knows of the model."""
        with aws_call("read the ledger"):
            answer = self._dynamodb.get_item(TableName=self._table, Key=_key(model), ConsistentRead=True)
        return _entry(answer.get("Item", {}))

    def gather(self, model: Model, marks: frozenset[str], now: float) -> Write:
        """Adds marks of updates that wait."""
        return self._update(
            model,
            "SET expires_at = :forget ADD gathered :marks",
            None,
            {":forget": int(now) + FORGET_AFTER, ":marks": marks},
        )

    def promise(self, model: Model, wake_at: float) -> Write:
        """Notes that a message has been sent which will ask by then for all that is gathered."""
        return self._update(
            model, "SET wake_at = :at", "attribute_exists(gathered)", {":at": to_iso(wake_at)}
        )

    def finish_waiting(self, model: Model, gathered: frozenset[str]) -> Write:
        """Takes the promise back, unless anything else has been gathered: its message then stays."""
        only, these = _only(gathered)
        return self._update(model, "REMOVE gathered, wake_at", f"attribute_exists(job_id) AND {only}", these)

    def jobs(self) -> set[str]:
        """The ids of all jobs of which it knows a model."""
        with aws_call("read the ledger"):
            pages = self._dynamodb.get_paginator("scan").paginate(
                TableName=self._table, ProjectionExpression="job_id"
            )
            return {item["job_id"]["S"] for page in pages for item in page["Items"]} - {PLACES}

    def mark_pending(self, model: Model, run_id: str, happened_at: float) -> Write:
        """Notes on this very run that an update came which it does not cover."""
        return self._update(
            model,
            "SET pending_at = :at",
            "run_id = :run AND (attribute_not_exists(pending_at) OR pending_at < :at)",
            {":run": run_id, ":at": to_iso(happened_at)},
        )

    def give_back(self, model: Model, run_id: str, happened_at: float) -> Write:
        """Undoes a claim that led to no run, unless its workflow holds the model after all.

        The updates that it would have seen to, of which the latest happened at `happened_at`, are due.
        """
        return self._update(
            model,
            "SET pending_at = :at REMOVE run_id, lease_expires_at",
            "run_id = :run AND attribute_not_exists(requested_at)",
            {":run": run_id, ":at": to_iso(happened_at)},
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
    ) -> Write:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _key(model),
            "UpdateExpression": update,
            "ReturnValues": "ALL_NEW",
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
    )
