"""The ledger: one DynamoDB item per model, changed only by conditional updates.

Attributes: job_id and model_id (the key), run_id, requested_at, lease_expires_at, pending_at and
covered_until (see coverage.Entry), history (JSON, the last completed runs), last_run_id (so that a release
may be repeated), last_outcome, last_ended_at and last_failure (for people), expires_at (time to live). Times
are ISO 8601 strings of fixed width. The workflow writes the same item: at its start it makes the claim a run,
with requested_at and a long lease, and at its end it releases the model.
"""

import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from recompute.aws import aws_call
from recompute.coverage import Entry
from recompute.timestamps import from_iso, to_iso
from recompute.updates import Model

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FORGET_AFTER = 400 * 86400  # seconds without an update; older model ids are of trainings long gone


class Write(NamedTuple):
    """Whether a conditional write was made, and the entry after it, or the one that refused it."""

    made: bool
    entry: Entry


class Ledger:
    """Every method makes one conditional write and raises AwsUnavailable if DynamoDB fails."""

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
    ) -> Write:
        """Takes the model for a run, on the conditions of `coverage.decide`."""
        return self._update(
            model,
            "SET run_id = :run, lease_expires_at = :lease, expires_at = :forget"
            " REMOVE requested_at, pending_at",
            "(attribute_not_exists(run_id) OR lease_expires_at < :now)"
            " AND (attribute_not_exists(covered_until) OR covered_until <= :horizon)"
            " AND (attribute_not_exists(pending_at) OR pending_at < :settled)",
            {
                ":run": run_id,
                ":now": to_iso(now),
                ":lease": to_iso(lease_expires_at),
                ":horizon": to_iso(happened_at + margin),
                ":settled": to_iso(now - margin),
                ":forget": int(now) + FORGET_AFTER,
            },
        )

    def mark_pending(self, model: Model, run_id: str, happened_at: float) -> Write:
        """Notes on this very run that an update came which it does not cover."""
        return self._update(
            model,
            "SET pending_at = :at",
            "run_id = :run AND (attribute_not_exists(pending_at) OR pending_at < :at)",
            {":run": run_id, ":at": to_iso(happened_at)},
        )

    def give_back(self, model: Model, run_id: str) -> Write:
        """Undoes a claim that led to no run, unless its workflow holds the model after all."""
        return self._update(
            model,
            "REMOVE run_id, lease_expires_at",
            "run_id = :run AND attribute_not_exists(requested_at)",
            {":run": run_id},
        )

    def hold(self, model: Model, run_id: str, lease_expires_at: float) -> Write:
        """Prolongs the lease of a run, if the run still holds the model."""
        return self._update(
            model,
            "SET lease_expires_at = :lease",
            "run_id = :run",
            {":run": run_id, ":lease": to_iso(lease_expires_at)},
        )

    def _update(self, model: Model, update: str, condition: str, values: dict[str, str | int]) -> Write:
        with aws_call("write to the ledger"):
            try:
                answer = self._dynamodb.update_item(
                    TableName=self._table,
                    Key={"job_id": {"S": model.job_id}, "model_id": {"S": model.model_id}},
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeValues={
                        name: {"N": str(value)} if isinstance(value, int) else {"S": value}
                        for name, value in values.items()
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._dynamodb.exceptions.ConditionalCheckFailedException as refused:
                return Write(False, _entry(cast("dict[str, Any]", refused.response.get("Item", {}))))
        return Write(True, _entry(answer.get("Attributes", {})))


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
    )
