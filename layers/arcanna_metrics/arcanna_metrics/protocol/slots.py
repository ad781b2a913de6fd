"""Limits how many recomputes run at once: a counting semaphore without a counter.

One item lists the runs that have taken a slot. Runs do not give slots back. When all slots are taken, the
takers' entries are read. A slot is free if and only if its taker's entry has a different run or no run. So
short runs free their slots immediately, and a crash leaves nothing behind.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import MOST_TRIES, NO_JOB, Ledger
from arcanna_metrics.targets import Target

MOST_UNREAD = 100
"""When the list has this many takers, those whose runs have ended are removed. An item may have 400 KB."""

KEY = {"job_id": {"S": NO_JOB}, "model_id": {"S": "slots"}}


class Taker(NamedTuple):
    """A run that has taken a slot, and its target."""

    run_id: str
    target: Target


class Taken(NamedTuple):
    """The slots that are taken: the item's rev and its takers."""

    rev: int
    takers: Sequence[Taker]


def take(ledger: Ledger, limit: int, taker: Taker) -> bool:
    """Takes one of `limit` slots for a run that has claimed its target; False if none is free.

    Raises AwsUnavailable.
    """
    for _ in range(MOST_TRIES):
        rev, takers = taken(ledger, min(limit, MOST_UNREAD))  # so that ended runs do not fill the item
        if len(takers) >= limit:
            return False
        listed = json.dumps([*takers, taker], separators=(",", ":"), ensure_ascii=False)
        if ledger.swap_item({**KEY, "rev": {"N": str(rev + 1)}, "takers": {"S": listed}}, rev):
            return True
    raise AwsUnavailable("the slots kept changing")


def taken(ledger: Ledger, most: int) -> Taken:
    """The slots that are taken. If `most` seem to be, leaves out the takers whose runs have ended.

    Raises AwsUnavailable.
    """
    item = ledger.read_item(KEY)
    if not item:
        return Taken(0, ())
    rev, listed = int(item["rev"]["N"]), json.loads(item["takers"]["S"])
    takers = [Taker(run_id, Target(*target)) for run_id, target in listed]
    if len(takers) < most:
        return Taken(rev, takers)
    entries = ledger.read_all(taker.target for taker in takers)
    return Taken(rev, still_taken(takers, entries))


def still_taken(takers: Sequence[Taker], entries: Mapping[Target, Entry]) -> list[Taker]:
    """The takers whose entries still have their run.

    If an entry could not be read, its slot counts as taken, because too few runs are better than too many.
    """
    return [
        taker
        for taker in takers
        if taker.target not in entries or entries[taker.target].run_id == taker.run_id
    ]
