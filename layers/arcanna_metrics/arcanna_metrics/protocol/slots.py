"""Limits how many recomputes run at once: a counting semaphore without a counter.

One item lists the runs that have taken a slot. Runs do not give slots back. When all slots are taken, the
takers' entries are read. A slot is free if and only if its taker's entry has a different run or no run. So
short runs free their slots immediately, and a crash leaves nothing behind.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from arcanna_metrics.aws import aws_call
from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import MOST_TRIES, NO_JOB, Ledger, swap_item
from arcanna_metrics.targets import Target

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MOST_UNREAD = 100
"""When the list has this many takers, those whose runs have ended are removed. An item may have 400 KB."""

KEY = {"job_id": {"S": NO_JOB}, "model_id": {"S": "slots"}}


class Taker(NamedTuple):
    """A run that has taken a slot, and its target."""

    run_id: str
    target: Target


class Vacancy(NamedTuple):
    """How many slots are free, and the entries of the takers of the others, if they were read."""

    free: int
    taken_by: Sequence[Entry] = ()


class Slots:
    """The slots of one platform. Every method raises AwsUnavailable."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, ledger: Ledger) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._ledger = ledger

    def glance(self, limit: int) -> Vacancy:
        """How many of `limit` slots are free. Takes none."""
        _, takers = self._read()
        if len(takers) < limit:
            return Vacancy(limit - len(takers))
        takers, entries = self._read_entries(takers)
        return Vacancy(max(0, limit - len(takers)), entries)

    def take(self, limit: int, taker: Taker) -> bool:
        """Takes one of `limit` slots for a run that has claimed its target; False if none is free."""
        for _ in range(MOST_TRIES):
            rev, takers = self._read()
            if len(takers) >= min(limit, MOST_UNREAD):  # so that ended runs do not fill the item
                takers, _ = self._read_entries(takers)
            if len(takers) >= limit:
                return False
            if self._swap(rev, [*takers, taker]):
                return True
        raise AwsUnavailable("the slots kept changing")

    def _read_entries(self, takers: Sequence[Taker]) -> tuple[list[Taker], list[Entry]]:
        """The takers whose entries still have their run, and these entries."""
        entries = self._ledger.read_all([taker.target for taker in takers])
        still = still_taken(takers, entries)
        return still, [entries[taker.target] for taker in still if taker.target in entries]

    def _read(self) -> tuple[int, list[Taker]]:
        with aws_call("read the slots"):
            answer = self._dynamodb.get_item(TableName=self._table, Key=KEY, ConsistentRead=True)
        if not (item := answer.get("Item")):
            return 0, []
        listed = json.loads(item["takers"]["S"])
        return int(item["rev"]["N"]), [Taker(run_id, Target(*target)) for run_id, target in listed]

    def _swap(self, rev: int, takers: Sequence[Taker]) -> bool:
        listed = json.dumps(takers, separators=(",", ":"), ensure_ascii=False)
        item: dict[str, Any] = {**KEY, "rev": {"N": str(rev + 1)}, "takers": {"S": listed}}
        return swap_item(self._dynamodb, self._table, item, rev)


def still_taken(takers: Sequence[Taker], entries: Mapping[Target, Entry]) -> list[Taker]:
    """The takers whose entries still have their run.

    If an entry could not be read, its slot counts as taken, because too few runs are better than too many.
    """
    return [
        taker
        for taker in takers
        if taker.target not in entries or entries[taker.target].run_id == taker.run_id
    ]
