"""The ledger in DynamoDB: reads entries, and swaps one for another.

Every write is a compare-and-swap on `rev`; there is no other condition. A sparse index finds due entries: an
item has the constant `due` exactly if it has `due_at`.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from arcanna_metrics.aws import aws_call
from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.protocol.entry import Claim, Element, Entry, Waiting
from arcanna_metrics.targets import Example, Target, is_id
from arcanna_metrics.times import from_iso, to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

E = TypeVar("E", Entry, Entry | None)
P = ParamSpec("P")
Transition = Callable[Concatenate[Entry, P], E]
"""Makes the entry to write from the one that was read, and from what else it is given; see `transitions`."""

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
    """Reads and swaps entries. Every method raises AwsUnavailable, and one of UNREADABLE for an entry that
    somebody has edited. `read_all` and `each` leave such an entry out."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, clock: Callable[[], float]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._clock = clock

    def read(self, target: Target) -> Entry:
        """The target's entry, read consistently."""
        return to_entry(target, self.read_item(key_of(target)))

    def read_all(self, targets: Iterable[Target]) -> dict[Target, Entry]:
        """The entries of the targets, read consistently, without those that could not be read."""
        return {target: entry for target, entry in self.each(targets) if entry is not None}

    def each(self, targets: Iterable[Target]) -> Iterator[tuple[Target, Entry | None]]:
        """Each target once, with its entry, read consistently; None if that could not be read.

        Reads some at a time: an entry with a full batch takes 0.3 MB of memory, and targets may be thousands.
        """
        each_once = list(dict.fromkeys(targets))  # DynamoDB refuses the same key twice
        for first in range(0, len(each_once), MOST_KEYS):
            some = each_once[first : first + MOST_KEYS]
            asked: Any = {"Keys": [key_of(target) for target in some], "ConsistentRead": True}
            with aws_call("read the ledger"):
                answer = self._dynamodb.batch_get_item(RequestItems={self._table: asked})
            missed: Any = answer["UnprocessedKeys"].get(self._table, {})
            unread = [to_target(key) for key in missed.get("Keys", [])]
            items = {to_target(item): item for item in answer["Responses"].get(self._table, [])}
            for target in some:
                entry = None
                if target not in unread:
                    with suppress(*UNREADABLE):
                        entry = to_entry(target, items.get(target, {}))
                yield target, entry

    def swap(self, before: Entry, after: Entry) -> bool:
        """Writes `after` if the entry is still `before`; False if it has changed.

        If nothing changes, writes nothing and returns True, but renews an entry that nothing waits or runs
        for. Times are stored in milliseconds.
        """
        period = int(self._clock()) // RENEW_AFTER + 1
        expires_at = period * RENEW_AFTER + FORGET_AFTER if after.due_at is None else 0
        item = to_item(replace(after, expires_at=expires_at), before.rev + 1)
        unchanged = replace(before, expires_at=before.expires_at or expires_at)
        return item == to_item(unchanged, before.rev + 1) or self.swap_item(item, before.rev)

    def apply(self, to: Target | Entry, transition: Transition[P, E], *args: P.args, **given: P.kwargs) -> E:
        """Swaps the current entry for what the transition makes of it; None if the transition refuses.

        Returns the entry without its new `rev` and `expires_at`. An entry that the caller has read is read
        again only if it has changed since.
        """
        before = to if isinstance(to, Entry) else self.read(to)
        for _ in range(MOST_TRIES):
            after = transition(before, *args, **given)
            if after is None or self.swap(before, after):
                return after
            before = self.read(before.target)
        raise AwsUnavailable(f"the ledger's entry of {before.target} kept changing")

    def due(self, now: float) -> Iterator[Entry]:
        """Entries that are due, the longest due first. Reads pages of the index as needed."""
        return self._index("due = :due AND due_at <= :now", {":now": {"S": to_iso(now)}}, page_size=DUE_PAGE)

    def waiting_or_running(self) -> list[Entry]:
        """All entries for which anything waits or runs, the next due first."""
        return list(self._index("due = :due", {}))

    def _index(self, condition: str, values: dict[str, Any], page_size: int | None = None) -> Iterator[Entry]:
        """Entries of the index, which is eventually consistent.

        It has only their target, due_at, since, failing_since, run_id, requested_at, attempts, retry_at and
        not_before, and only the target if another attribute is unreadable.
        """
        with aws_call("read what is due"):
            pages = self._dynamodb.get_paginator("query").paginate(
                TableName=self._table,
                IndexName=DUE_INDEX,
                KeyConditionExpression=condition,
                ExpressionAttributeValues={":due": {"S": DUE_INDEX}, **values},
                PaginationConfig={"PageSize": page_size} if page_size else {},
            )
            for item in (item for page in pages for item in page["Items"]):
                entry = Entry(to_target(item))
                with suppress(*UNREADABLE):
                    entry = to_entry(entry.target, item)
                yield entry

    def jobs(self, named: Collection[str] = ()) -> set[str]:
        """The jobs that a schedule covers, without those of these ids and names.

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
        known = fresh | {job_id for item in items if is_id(job_id := item["job_id"]["S"])} - failed
        return known.difference(named, (_job_of(item) for item in items if item["job_id"]["S"] in named))

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


class _Kind(NamedTuple):
    """How values of a kind are stored: DynamoDB's type, and the functions to and from its text."""

    type: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]


_json = partial(json.dumps, separators=(",", ":"))
_KINDS = {
    **dict.fromkeys((
        "needed_as_of", "wanted_as_of", "wanted_at", "asked_at", "since", "next_since", "last_at", "due_at",
        "failing_since", "retry_at", "not_before", "requested_at", "last_requested_at", "fresh_as_of",
        "failed_as_of",
    ), _Kind("S", to_iso, from_iso)),
    **dict.fromkeys(("rev", "updates", "attempts", "number", "expires_at"), _Kind("N", str, int)),
    **dict.fromkeys(("cause", "last_error", "run_id", "name_of"), _Kind("S", str, str)),
    **dict.fromkeys(("last_failure", "quality_reference", "accepted"), _Kind("S", _json, json.loads)),
    "history": _Kind("S", _json, lambda text: tuple(json.loads(text))),
    "examples": _Kind("S", _json, lambda text: tuple(Example(*each) for each in json.loads(text))),
    "batch": _Kind(
        "S",
        lambda batch: _json([(e.identity, to_iso(e.as_of), e.share, to_iso(e.until)) for e in batch]),
        lambda text: tuple(Element(i, from_iso(a), s, from_iso(u)) for i, a, s, u in json.loads(text)),
    ),
}  # fmt: skip
_OF_ENTRY, _OF_WAITING = ([field.name for field in fields(record)] for record in (Entry, Waiting))


def _values(entry: Entry) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in _OF_ENTRY}
    values |= {name: getattr(entry.waiting, name) for name in _OF_WAITING}
    return values | (entry.claim._asdict() if entry.claim else {})


_DEFAULTS = _values(Entry(Target("", None)))


def to_item(entry: Entry, rev: int) -> dict[str, Any]:
    """The entry as DynamoDB's item, without the attributes that have their defaults."""
    item = key_of(entry.target) | ({} if entry.due_at is None else {"due": {"S": DUE_INDEX}})
    for name, value in (_values(entry) | {"rev": rev}).items():
        if name in _KINDS and value != _DEFAULTS.get(name):
            item[name] = {_KINDS[name].type: _KINDS[name].write(value)}
    return item


def to_entry(target: Target, item: Mapping[str, Any]) -> Entry:
    """The entry of an item. An empty item gives an entry with all defaults."""
    values = {name: kind.read(value[kind.type]) for name, value in item.items() if (kind := _KINDS.get(name))}

    def part(names: Iterable[str]) -> dict[str, Any]:
        return {name: values[name] for name in names if name in values}

    claim = Claim(**part(Claim._fields)) if "run_id" in values else None
    return Entry(target, waiting=Waiting(**part(_OF_WAITING)), claim=claim, **part(_OF_ENTRY))
