"""Every change of an entry.

                 record                claim                hold
    free, clean ---------> free, dirty -------> claimed ----------> held --+
         ^                    ^                  |                  | ^    | resume: another
         |                    |                  |                  | +----+ execution follows
         |                    +-- give_back -----+                  |
         |                    +-- take_back -----+------------------+
         |                    +-- release, if anything waits -------+
         +----------------------- release, otherwise ---------------+

Each transition is a pure function of the entry that was read. It returns the entry to write, the same entry
if nothing changes, or None if the entry is not in the state that the caller expects.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import inf
from operator import attrgetter
from typing import NamedTuple

from arcanna_metrics.protocol.decide import starts_at
from arcanna_metrics.protocol.entry import Accepted, Element, Entry, earliest, later, latest, pruned
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import Pace
from arcanna_metrics.times import from_iso
from arcanna_metrics.updates import WHOLE, Update

EXAMPLES = 5
HISTORY_LENGTH = 10
MOST_ELEMENTS = 1000
"""Updates in a batch: about 60 KB of the 400 KB that an item may have. A further one is needed at once."""

CLAIM_LIFETIME = 300.0
"""Seconds: longer than an invocation can live and its StartExecution can take."""

CHECK_UP_INTERVAL = 3600.0
"""Seconds between two check-ups of an execution whose end is not reported."""

CONSISTENT_AFTER = 10.0
"""Seconds after an execution's end until all responses of Step Functions show it."""

Transition = Callable[[Entry], Entry | None]


class Postponement(NamedTuple):
    """When the next attempt may be made; a request by hand overrides `retry_at`, but not `not_before`."""

    retry_at: float
    not_before: float | None = None
    trouble: str = ""  # why the attempt failed


def settled(entry: Entry, pace: Pace) -> Entry:
    """The entry in the form that is written: pruned, and due if it is dirty or held."""
    kept = pruned(entry)
    return kept if kept.run_id is not None else replace(kept, due_at=starts_at(kept, pace))


# --- What waits ------------------------------------------------------------------------------------------


def record(entry: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    """Records updates and wishes of the target. Those that are covered or known change nothing.

    A request by hand ends the backoff.
    """
    overrides = any(update.by_hand and update.happened_at > entry.watermark for update in updates)
    if overrides and entry.retry_at is not None:
        entry = settled(replace(entry, retry_at=None), pace)
    return receive(entry, _news(entry, updates, pace), pace)


def _news(entry: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    """The updates that are neither covered nor known, as a separate entry."""
    known = {element.identity for element in entry.batch}
    waits_until = later(entry.watermark, entry.needed_as_of)
    needs: list[tuple[float, Update]] = []
    batch: dict[str, tuple[Element, Update]] = {}
    wishes: list[tuple[float, Update]] = []
    for update in updates:
        at, as_of = update.happened_at, update.happened_at + (0.0 if update.by_hand else pace.visibility_lag)
        if update.older_than is not None:
            if not _is_granted(entry, at - update.older_than, at):
                wishes.append((at - update.older_than, update))
        elif update.share < WHOLE:
            if as_of > entry.watermark and (identity := _identity(update)) not in known:
                element = Element(identity, as_of, update.share, at + update.max_wait)
                batch.setdefault(identity, (element, update))
        elif as_of > waits_until:
            needs.append((as_of, update))
    news = [update for _, update in (*needs, *wishes, *batch.values())]
    return Entry(
        entry.target,
        needed_as_of=latest(*(as_of for as_of, _ in needs)),
        waiting_since=earliest(*(update.happened_at for _, update in needs)),
        wanted_as_of=latest(*(as_of for as_of, _ in wishes)),
        wanted_at=latest(*(update.happened_at for _, update in wishes)),
        batch=tuple(element for element, _ in batch.values()),
        last_at=latest(*(update.happened_at for update in news)),
        updates=len({(update.happened_at, update.example) for update in news}),
        cause=max(news, key=attrgetter("happened_at")).cause if news else "",
        examples=tuple(dict.fromkeys(update.example for update in news if update.example)),
    )


def _is_granted(entry: Entry, as_of: float, at: float) -> bool:
    """Whether a run has answered the wish, or the wish already waits."""
    met = as_of <= later(-inf, entry.fresh_as_of) or at <= later(-inf, entry.failed_as_of)
    return met or (as_of <= later(-inf, entry.wanted_as_of) and at <= later(-inf, entry.wanted_at))


def receive(entry: Entry, arrived: Entry, pace: Pace) -> Entry:
    """Adds what waits in `arrived`: new updates of the target, or those recorded under its job's name."""
    known = {element.identity for element in entry.batch}
    more = [element for element in arrived.batch if element.identity not in known]
    room = max(0, MOST_ELEMENTS - len(entry.batch))
    new = settled(
        replace(
            entry,
            needed_as_of=latest(entry.needed_as_of, arrived.needed_as_of, *(e.as_of for e in more[room:])),
            waiting_since=earliest(entry.waiting_since, arrived.waiting_since),
            wanted_as_of=latest(entry.wanted_as_of, arrived.wanted_as_of),
            wanted_at=latest(entry.wanted_at, arrived.wanted_at),
            batch=(*entry.batch, *more[:room]),
        ),
        pace,
    )
    if _waiting(new) == _waiting(entry):
        return entry
    is_latest = later(-inf, arrived.last_at) >= later(-inf, entry.last_at)
    return replace(
        new,
        last_at=latest(entry.last_at, arrived.last_at),
        updates=entry.updates + arrived.updates,
        cause=(is_latest and arrived.cause) or entry.cause or arrived.cause,
        examples=tuple(dict.fromkeys((*entry.examples, *arrived.examples)))[:EXAMPLES],
    )


def emptied(mailbox: Entry, pace: Pace) -> Entry:
    """The entry of a name after its updates were recorded under the job's id."""
    return settled(replace(mailbox, needed_as_of=None, wanted_as_of=None, batch=()), pace)


# --- The run that holds the target -----------------------------------------------------------------------


def claim(entry: Entry, run_id: str, now: float) -> Entry:
    """Takes a free target for a run. If the invocation dies, a look takes the claim back."""
    return replace(entry, run_id=run_id, requested_at=now, held=False, resumed=0, due_at=now + CLAIM_LIFETIME)


def hold(entry: Entry, run_id: str, number: int, now: float) -> Entry | None:
    """Confirms the claim for the execution; None if another run or execution has taken over."""
    if (entry.run_id, entry.resumed) != (run_id, number):
        return None
    # A late hold may follow the report of the execution's end. Then the entry stays due.
    reported = entry.due_at is not None and entry.due_at <= now + CONSISTENT_AFTER
    return replace(entry, held=True, due_at=entry.due_at if reported else now + CHECK_UP_INTERVAL)


def give_back(entry: Entry, run_id: str, pace: Pace, postponement: Postponement | None) -> Entry | None:
    """Undoes a claim that did not become a run; None if its execution holds the target after all.

    Without a postponement, for example if no slot was free, the target is due as before.
    """
    if entry.run_id != run_id or entry.held:
        return None
    return take_back(entry, pace, postponement)


def take_back(entry: Entry, pace: Pace, postponement: Postponement | None) -> Entry:
    """Frees a target whose run has no execution that will release it."""
    free = _freed(entry)
    return settled(free, pace) if postponement is None else postpone(free, pace, postponement)


def postpone(entry: Entry, pace: Pace, postponement: Postponement) -> Entry:
    """Records that an attempt failed, and when the next one may be made."""
    retry_at, not_before, trouble = postponement
    again = replace(entry, attempts=entry.attempts + 1, trouble=trouble, retry_at=retry_at, due_at=retry_at)
    if not_before is not None:
        again = replace(again, not_before=later(not_before, entry.not_before))
    return settled(again, pace)


def restore_due_at(entry: Entry, now: float, pace: Pace) -> Entry:
    """After the backoff, restores the due time that the target had before its failed attempts.

    So an outage does not change the order, and the update that has waited longest is recomputed first.
    """
    if entry.run_id is not None:
        return entry
    over = entry.attempts and max(later(-inf, entry.retry_at), later(-inf, entry.not_before)) <= now
    waiting = settled(replace(entry, retry_at=None, not_before=None) if over else entry, pace)
    return entry if waiting.due_at == entry.due_at else waiting


def satisfied(entry: Entry, run_id: str, timestamp: float, pace: Pace) -> Entry | None:
    """Undoes the claim for a wish that metrics of this time satisfy, unless a newer wish has arrived."""
    if entry.run_id != run_id or entry.held:
        return None
    met = later(-inf, entry.wanted_as_of) <= timestamp
    free = replace(_freed(entry), attempts=0, trouble="", retry_at=None)
    return settled(replace(free, wanted_as_of=None, wanted_at=None) if met else free, pace)


def report(entry: Entry, run_id: str, now: float) -> Entry | None:
    """Makes a check-up due after the run's execution was reported to have ended.

    It is due when all responses of Step Functions show the end. An earlier due time stays.
    """
    if entry.run_id != run_id:
        return None
    return postpone_check_up(entry, min(now + CONSISTENT_AFTER, later(-inf, entry.due_at)))


def postpone_check_up(entry: Entry, at: float) -> Entry:
    """Makes the next look at the run's execution due at that time."""
    return replace(entry, due_at=at)


def resume(entry: Entry, number: int, at: float) -> Entry:
    """Makes the execution of that number the one that follows the run. The next look at it is due `at`."""
    return replace(entry, resumed=number, due_at=at)


def release(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """Frees the target at the end of its run, and records the result; None if the run was taken over.

    Only the execution of the entry's number may release. A release of an aborted execution may arrive late.
    It must not free the target of the execution that has replaced it.

    In two cases no watermark moves: if another model has become active, because it has no new metrics yet;
    and if the run could not be checked, which counts as a failed attempt.
    """
    if (entry.run_id, entry.resumed) != (run["run_id"], number):
        return None
    asked, outcome = from_iso(run["requested_at"]), result["outcome"]
    free = _remembering(_freed(entry), run, result)
    if outcome == "not_checked":
        return postpone(free, pace, postponement)
    # Updates during the run share the next run, which waits until the last of them is visible.
    free = replace(free, attempts=0, trouble="", retry_at=entry.needed_as_of, not_before=None)
    if result["active_changed"]:
        return settled(replace(free, not_before=asked + pace.spacing), pace)
    if entry.waiting_since is not None:
        free = replace(free, waiting_since=max(entry.waiting_since, asked))
    if outcome == "completed":
        free = replace(free, fresh_as_of=later(asked, entry.fresh_as_of))
    else:
        free = replace(free, failed_as_of=later(asked, entry.failed_as_of))
    return _without_those_of(settled(free, pace), run)


def accept(entry: Entry, by: Accepted) -> Entry | None:
    """Removes the model's reference, so that the next run is compared with the metrics just before it.

    None while a run holds the target: it began with the old reference, and would write it again.
    """
    if entry.run_id is not None:
        return None
    reference = entry.quality_reference or {}
    if reference.get("model_id") != by["model_id"]:
        return entry
    return replace(entry, quality_reference=None, accepted=by)


def _remembering(entry: Entry, run: Run, result: Result) -> Entry:
    past, reference = result["past_run"], result["reference"]
    if past:
        entry = replace(entry, history=(*entry.history, past)[-HISTORY_LENGTH:])
    if reference is not None:
        entry = replace(entry, quality_reference={"model_id": run["model_id"], "figures": reference})
    return replace(entry, last_failure=result["failure"], name_of=run.get("platform_job_id") or entry.name_of)


def _without_those_of(entry: Entry, run: Run) -> Entry:
    """Removes the updates and examples of the run, so that people see only what still waits."""
    if not entry.dirty:
        return entry
    shown = [tuple(example.values()) for example in run["cause"]["examples"]]
    return replace(
        entry,
        updates=max(entry.updates - run["cause"]["updates"], len(entry.batch), 1),
        examples=tuple(example for example in entry.examples if tuple(example) not in shown),
    )


def _freed(entry: Entry) -> Entry:
    return replace(entry, run_id=None, requested_at=None, held=False, resumed=0)


def _identity(update: Update) -> str:
    """Identifies an update. Every delivery of the same update gives the same text."""
    parts = (str(update.happened_at), *(part or "" for part in update.example or ()))
    return blake2b("\0".join(parts).encode(errors="replace"), digest_size=6).hexdigest()


def _waiting(entry: Entry) -> tuple[object, ...]:
    return entry.needed_as_of, entry.wanted_as_of, entry.wanted_at, entry.batch
