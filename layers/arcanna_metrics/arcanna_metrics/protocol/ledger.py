"""The ledger in DynamoDB: reads entries, and swaps one for another.

Every write is a compare-and-swap on `rev`; there is no other condition. A sparse index finds due entries: an
item has the constant `due` exactly if it has `due_at`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from arcanna_metrics.aws import aws_call
from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.protocol.entry import NEVER, Claim, Element, Entry, Waiting
from arcanna_metrics.targets import Target, is_id
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics.updates import Example

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

E = TypeVar("E", Entry, Entry | None)

ACTIVE = " "
"""Stands for a job's active model in the key. An id is never blank."""

NO_JOB = " "
"""The job_id of items that are not entries. A job's id is never blank."""

DUE_INDEX = "due"

FORGET_AFTER = 400 * 86400
"""Seconds. DynamoDB deletes an entry at least this long after its last use, if nothing waits or runs."""

RENEW_AFTER = 100 * 86400
"""Seconds. In each such period, an entry that is used but does not change is written once."""

MOST_TRIES = 20
"""How many times to try a write if other writers keep changing the item."""

MOST_KEYS = 100
"""Keys in one BatchGetItem: DynamoDB's own limit."""

UNREADABLE = (KeyError, ValueError, TypeError, OverflowError)
"""What an item raises that somebody has edited, when it is read or written again."""

DUE_PAGE = 25
"""Items of the index in one read. A look rarely needs more."""


class Ledger:
    """Reads and swaps entries. Every method raises AwsUnavailable, and one of UNREADABLE for such an entry,
    which `read_all` and the index leave out."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, clock: Callable[[], float]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._clock = clock

    def read(self, target: Target) -> Entry:
        """The target's entry, read consistently."""
        return to_entry(target, self.read_item(key_of(target)))

    def read_all(self, targets: Iterable[Target]) -> dict[Target, Entry]:
        """The entries of the targets, read consistently, without those that could not be read."""
        each_once = list(dict.fromkeys(targets))  # DynamoDB refuses the same key twice
        found: dict[Target, Entry] = {}
        for first in range(0, len(each_once), MOST_KEYS):
            some = each_once[first : first + MOST_KEYS]
            asked: Any = {"Keys": [key_of(target) for target in some], "ConsistentRead": True}
            with aws_call("read the ledger"):
                answer = self._dynamodb.batch_get_item(RequestItems={self._table: asked})
            missed: Any = answer["UnprocessedKeys"].get(self._table, {})
            unread = [to_target(key) for key in missed.get("Keys", [])]
            items = {to_target(item): item for item in answer["Responses"].get(self._table, [])}
            for target in some:
                if target not in unread:
                    with suppress(*UNREADABLE):
                        found[target] = to_entry(target, items.get(target, {}))
        return found

    def swap(self, before: Entry, after: Entry) -> bool:
        """Writes `after` if the entry is still `before`; False if it has changed.

        If nothing changes, writes nothing and returns True, but renews an entry that nothing waits or runs
        for. Times are stored in milliseconds.
        """
        period = int(self._clock()) // RENEW_AFTER + 1
        expires_at = period * RENEW_AFTER + FORGET_AFTER if after.due_at is None else 0
        item = to_item(after, before.rev + 1)
        if item == to_item(before, before.rev + 1) and before.expires_at in (0, expires_at):
            return True
        item.pop("expires_at", None)
        if expires_at:
            item["expires_at"] = {"N": str(expires_at)}
        return self.swap_item(item, before.rev)

    def apply(self, target: Target, transition: Callable[[Entry], E], known: Entry | None = None) -> E:
        """Swaps the current entry for what the transition makes of it; None if the transition refuses.

        Returns the entry without its new `rev` and `expires_at`. A `known` entry is read again only if it has
        changed since.
        """
        for _ in range(MOST_TRIES):
            before, known = known or self.read(target), None
            after = transition(before)
            if after is None or self.swap(before, after):
                return after
        raise AwsUnavailable(f"the ledger's entry of {target} kept changing")

    def due(self, now: float) -> Iterator[Target]:
        """Targets that are due, the longest due first. Reads pages of the index as needed."""
        condition = "due = :due AND due_at <= :now"
        for item in self._index(condition, {":now": {"S": to_iso(now)}}, page=DUE_PAGE):
            yield to_target(item)

    def waiting_or_running(self) -> list[Entry]:
        """All entries for which anything waits or runs, the next due first.

        The index, eventually consistent, has only their target, due_at, since, run_id, requested_at,
        attempts, retry_at and not_before.
        """
        found = []
        for item in self._index("due = :due", {}):
            with suppress(*UNREADABLE):
                found.append(to_entry(to_target(item), item))
        return found

    def _index(
        self, condition: str, values: dict[str, Any], page: int | None = None
    ) -> Iterator[Mapping[str, Any]]:
        with aws_call("read what is due"):
            pages = self._dynamodb.get_paginator("query").paginate(
                TableName=self._table,
                IndexName=DUE_INDEX,
                KeyConditionExpression=condition,
                ExpressionAttributeValues={":due": {"S": DUE_INDEX}, **values},
                PaginationConfig={"PageSize": page} if page else {},
            )
            for found in pages:
                yield from found["Items"]

    def jobs(self) -> set[str]:
        """The jobs that a schedule covers.

        Leaves out a job whose runs have all failed, because it was probably mistyped. A name stands for its
        job if a run of the name has completed.
        """
        with aws_call("read the ledger"):
            pages = self._dynamodb.get_paginator("scan").paginate(
                TableName=self._table, ProjectionExpression="job_id, fresh_as_of, failed_as_of, name_of"
            )
            items = [item for page in pages for item in page["Items"]]
        fresh = {_job_of(item) for item in items if "fresh_as_of" in item}
        failed = {_job_of(item) for item in items if "failed_as_of" in item}
        return fresh | {job_id for item in items if is_id(job_id := item["job_id"]["S"])} - failed

    def read_item(self, key: dict[str, Any]) -> Mapping[str, Any]:
        """The item with this key, read consistently; empty if there is none."""
        with aws_call("read the ledger"):
            answer = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return answer.get("Item", {})

    def swap_item(self, item: dict[str, Any], rev: int) -> bool:
        """Writes an item if the stored one has this `rev`, or does not exist if it is 0; False otherwise.

        boto3 repeats a write whose response is lost. If the first write took effect, DynamoDB refuses the
        second, and the stored item equals the new one. Then the write counts as made.
        """
        expected: dict[str, Any] = (
            {"ConditionExpression": "rev = :rev", "ExpressionAttributeValues": {":rev": {"N": str(rev)}}}
            if rev
            else {"ConditionExpression": "attribute_not_exists(rev)"}
        )
        with aws_call("write to the ledger"):
            try:
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item=item,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **expected,
                )
            except self._dynamodb.exceptions.ConditionalCheckFailedException as refused:
                return refused.response.get("Item") == item
        return True


def _job_of(item: Mapping[str, Any]) -> str:
    """The job's id, also if the item is of the job's name and the id is known."""
    return str(item.get("name_of", item["job_id"])["S"])


# --- Entries as items ------------------------------------------------------------------------------------


def key_of(target: Target) -> dict[str, Any]:
    """The key of the target's item."""
    return {"job_id": {"S": target.job_id}, "model_id": {"S": target.model_id or ACTIVE}}


def to_target(item: Mapping[str, Any]) -> Target:
    """The target of an item or a key."""
    model_id = item["model_id"]["S"]
    return Target(item["job_id"]["S"], None if model_id == ACTIVE else model_id)


_TIMES = (
    "needed_as_of", "wanted_as_of", "wanted_at", "asked_at", "since", "last_at", "due_at",
    "retry_at", "not_before", "requested_at", "last_requested_at", "fresh_as_of", "failed_as_of",
)  # fmt: skip
_NUMBERS = ("updates", "attempts", "expires_at")
_TEXTS = ("cause", "last_error", "run_id", "name_of")
_DOCUMENTS = (
    "batch", "examples", "history", "last_failure", "quality_reference", "accepted",
)  # fmt: skip
_OF_ENTRY, _OF_WAITING = ([field.name for field in fields(record)] for record in (Entry, Waiting))


def to_item(entry: Entry, rev: int) -> dict[str, Any]:
    """The entry as DynamoDB's item, without empty attributes."""
    values = {name: getattr(entry, name) for name in _OF_ENTRY}
    values |= {name: getattr(entry.waiting, name) for name in _OF_WAITING}
    values |= entry.claim._asdict() if entry.claim else {}
    values["batch"] = [[e.identity, to_iso(e.as_of), e.share, to_iso(e.until)] for e in entry.waiting.batch]

    item: dict[str, Any] = {**key_of(entry.target), "rev": {"N": str(rev)}}
    item |= {
        name: {"S": to_iso(at)} for name in _TIMES if (at := values.get(name, NEVER)) not in (None, NEVER)
    }
    item |= {name: {"N": str(number)} for name in _NUMBERS if (number := values.get(name))}
    item |= {name: {"S": text} for name in _TEXTS if (text := values.get(name))}
    item |= {name: {"S": _json(value)} for name in _DOCUMENTS if (value := values[name])}
    if (number := values.get("number")) is not None:
        item["number"] = {"N": str(number)}
    if entry.due_at is not None:
        item["due"] = {"S": DUE_INDEX}
    return item


def to_entry(target: Target, item: Mapping[str, Any]) -> Entry:
    """The entry of an item. An empty item gives an entry with all defaults."""
    values: dict[str, Any] = {name: from_iso(item[name]["S"]) for name in _TIMES if name in item}
    values |= {name: int(item[name]["N"]) for name in (*_NUMBERS, "number", "rev") if name in item}
    values |= {name: item[name]["S"] for name in _TEXTS if name in item}
    values |= {name: json.loads(item[name]["S"]) for name in _DOCUMENTS if name in item}
    batch, examples = values.get("batch", ()), values.get("examples", ())
    values["batch"] = tuple(Element(i, from_iso(at), share, from_iso(until)) for i, at, share, until in batch)
    values["examples"] = tuple(Example(*example) for example in examples)
    values["history"] = tuple(values.get("history", ()))

    def part(names: Iterable[str]) -> dict[str, Any]:
        return {name: values[name] for name in names if name in values}

    claim = Claim(**part(Claim._fields)) if "run_id" in values else None
    return Entry(target, waiting=Waiting(**part(_OF_WAITING)), claim=claim, **part(_OF_ENTRY))


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
