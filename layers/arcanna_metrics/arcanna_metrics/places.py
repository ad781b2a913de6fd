"""At most so many recomputes at the platform at once.

Each place is an item in the ledger's table, with the run that has taken it. A place is free when its run no
longer holds its model: so the release of the model frees it, and after a crash the end of the lease does.
Places are taken by conditional writes, those that are free are found by consistent reads.
"""

import json
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from arcanna_metrics.aws import aws_call
from arcanna_metrics.ledger import PLACES
from arcanna_metrics.targets import Model
from arcanna_metrics.times import from_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

GRACE = 7200.0
"""Seconds that a place stays taken after the end of a lease that nobody else has ended.

A workflow may still be about to begin, with all its retries, for a trigger that has been stopped. Usually it
is not so long: when the update is delivered again, its model is claimed by another run.
"""

FULL_FOR = 5.0
"""Seconds until places that were all taken are looked at again."""

BATCH = 100
"""Items, DynamoDB's own limit for one call."""


class Holder(NamedTuple):
    """Who has taken a place: a run of a model."""

    job_id: str
    model_id: str
    run_id: str


class _Place(NamedTuple):
    """A place, and what is written there."""

    name: str
    written: str | None


class Places:
    """The places of one platform. Every method raises AwsUnavailable."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, number: int) -> None:
        """`number` of places; 0 means that there is no limit."""
        self._dynamodb = dynamodb
        self._table = table
        self._number = number
        self._free: deque[_Place] = deque()
        self._taken: dict[Model, _Place] = {}
        self._full_until = 0.0

    def all_taken(self, model: Model, now: float) -> bool:
        """Whether a claim of the model would be in vain, because there is no place for its run.

        There is one if the model itself has taken it: the run that did so is over when the next one claims.
        """
        if self._number and not self._free and now >= self._full_until:
            self._look(now)
        return bool(self._number) and not self._free and model not in self._taken

    def take(self, model: Model, run_id: str, now: float) -> bool:
        """Takes a place for a run that holds its model; False if others have taken the last one."""
        if not self._number:
            return True
        while not self.all_taken(model, now):
            place = self._taken.pop(model, None) or self._free.popleft()
            if self._write(place, Holder(*model, run_id)):
                return True
        return False

    def _look(self, now: float) -> None:
        """Finds out which places are free and which are taken."""
        with aws_call("read the places"):  # all in one answer: at most 1,000, of less than 1 KB each
            answer = self._dynamodb.query(
                TableName=self._table,
                KeyConditionExpression="job_id = :places",
                ExpressionAttributeValues={":places": {"S": PLACES}},
                ConsistentRead=True,
            )
        written = {item["model_id"]["S"]: item["holder"]["S"] for item in answer["Items"]}
        holders = {name: Holder(*json.loads(text)) for name, text in written.items()}
        taken = self._holding(set(holders.values()), now)
        self._taken.clear()
        for number in range(1, self._number + 1):
            place = _Place(name := f"{number:04}", written.get(name))
            if (holder := holders.get(name)) and holder in taken:
                self._taken[Model(*holder[:2])] = place
            else:
                self._free.append(place)
        # Where the limit has been lowered, runs go on in places that are none any more.
        for _ in taken & {holder for name, holder in holders.items() if int(name) > self._number}:
            if self._free:
                self._free.pop()
        if not self._free:
            self._full_until = now + FULL_FOR

    def _holding(self, holders: set[Holder], now: float) -> set[Holder]:
        """Those whose run still holds its model."""
        found = set()
        models = sorted({holder[:2] for holder in holders})
        for first in range(0, len(models), BATCH):
            keys: Any = [{"job_id": {"S": j}, "model_id": {"S": m}} for j, m in models[first : first + BATCH]]
            names = "job_id, model_id, run_id, lease_expires_at"
            with aws_call("read who holds the places"):
                answer = self._dynamodb.batch_get_item(
                    RequestItems={
                        self._table: {"Keys": keys, "ConsistentRead": True, "ProjectionExpression": names}
                    }
                )
            unread: Any = answer["UnprocessedKeys"].get(self._table, {"Keys": []})["Keys"]
            skipped = {(key["job_id"]["S"], key["model_id"]["S"]) for key in unread}
            found |= {holder for holder in holders if holder[:2] in skipped}  # rather than too many runs
            for item in answer["Responses"].get(self._table, []):
                lease = from_iso(item["lease_expires_at"]["S"]) if "lease_expires_at" in item else 0.0
                if "run_id" in item and lease + GRACE >= now:
                    found.add(Holder(item["job_id"]["S"], item["model_id"]["S"], item["run_id"]["S"]))
        return found & holders

    def _write(self, place: _Place, holder: Holder) -> bool:
        """Takes a place, unless somebody else was faster."""
        before = {":before": {"S": place.written}} if place.written else {}
        with aws_call("take a place"):
            try:
                self._dynamodb.update_item(
                    TableName=self._table,
                    Key={"job_id": {"S": PLACES}, "model_id": {"S": place.name}},
                    UpdateExpression="SET holder = :holder",
                    ConditionExpression="holder = :before" if before else "attribute_not_exists(holder)",
                    ExpressionAttributeValues={":holder": {"S": json.dumps(holder)}, **before},
                )
            except self._dynamodb.exceptions.ConditionalCheckFailedException:
                return False
        return True
