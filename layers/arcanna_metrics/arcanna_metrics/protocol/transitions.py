"""Every way in which an entry changes.

                 record                claim                hold
    free, clean ---------> free, dirty -------> claimed ----------> held --+
         ^                    ^                  |                  | ^    | resume: another
         |                    |                  |                  | +----+ execution follows
         |                    +-- give_back -----+                  |
         |                    +-- take_back -----+------------------+
         |                    +-- release, if anything waits -------+
         +----------------------- release, otherwise ---------------+

Each transition is a pure function of the entry that was read. It returns the entry to write, the same entry
where nothing changes, or None where the entry is not what the caller takes it for.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import inf
from typing import NamedTuple

from arcanna_metrics.protocol.decide import starts_at
from arcanna_metrics.protocol.entry import Element, Entry, later, pruned
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import Pace
from arcanna_metrics.times import from_iso
from arcanna_metrics.updates import WHOLE, Update

EXAMPLES = 5
HISTORY_LENGTH = 10
MOST_ELEMENTS = 1000
"""Updates in a batch: some 60 KB of the 400 KB that an item may have. Beyond, an update is simply needed."""

CLAIM_LIFETIME = 300.0
"""Seconds, more than an invocation lives and its StartExecution may travel."""

CHECK_UP_INTERVAL = 3600.0
"""Seconds between two looks at an execution of which nothing is reported."""

SETTLES = 10.0
"""Seconds after an execution's end until Step Functions tells of it wherever it is asked."""

Transition = Callable[[Entry], Entry | None]


class Postponement(NamedTuple):
    """When the next attempt may be made; a request by hand overrides `retry_at`, but not `not_before`."""

    retry_at: float
    not_before: float | None = None


def settled(entry: Entry, pace: Pace) -> Entry:
    """The entry as it is written: pruned, and due whenever it is dirty or held."""
    kept = pruned(entry)
    return kept if kept.run_id is not None else replace(kept, due_at=starts_at(kept, pace))


# --- What waits ------------------------------------------------------------------------------------------


def record(entry: Entry, updates: Iterable[Update], pace: Pace) -> Entry:
    """Notes updates and wishes of the target. What is covered, or known to wait, changes nothing."""
    wishes: list[Update] = []
    shares: list[Update] = []
    needs: list[Update] = []
    for update in updates:
        kind = needs if update.share >= WHOLE else shares
        (kind if update.older_than is None else wishes).append(update)
    new, gathered, beyond = _gather(entry, shares, pace)
    new, needed = _need(new, [*needs, *beyond], pace)
    new, wanted = _wish(new, wishes)
    if new is entry:
        return entry
    return settled(_noted(new, [*gathered, *needed, *wanted]), pace)


def _need(entry: Entry, updates: Sequence[Update], pace: Pace) -> tuple[Entry, list[Update]]:
    """With updates that are worth a recompute each, and those of them that are news."""
    waits_until = later(entry.watermark, entry.needed_as_of)
    timed = [(u.happened_at + (0.0 if u.by_hand else pace.visibility_lag), u) for u in updates]
    if entry.retry_at is not None and any(u.by_hand and as_of > entry.watermark for as_of, u in timed):
        entry = replace(entry, retry_at=None)
    news = [(as_of, update) for as_of, update in timed if as_of > waits_until]
    if not news:
        return entry, []
    needed = replace(
        entry,
        needed_as_of=max(as_of for as_of, _ in news),
        waiting_since=_earliest(entry.waiting_since, *(update.happened_at for _, update in news)),
    )
    return needed, [update for _, update in news]


def _gather(entry: Entry, updates: Sequence[Update], pace: Pace) -> tuple[Entry, list[Update], list[Update]]:
    """With updates that are worth a part of a recompute; which of them are news, and which find no room."""
    known = {element.identity for element in entry.batch}
    news: dict[str, Update] = {}
    for update in updates:
        waits = update.happened_at + pace.visibility_lag > entry.watermark
        if waits and (identity := _identity(update)) not in known:
            news.setdefault(identity, update)
    room = MOST_ELEMENTS - len(entry.batch)
    fitting, beyond = dict(list(news.items())[:room]), list(news.values())[room:]
    if not fitting:
        return entry, [], beyond
    elements = (
        Element(identity, u.happened_at + pace.visibility_lag, u.share, u.happened_at + u.max_wait)
        for identity, u in fitting.items()
    )
    return replace(entry, batch=(*entry.batch, *elements)), list(fitting.values()), beyond


def _wish(entry: Entry, updates: Sequence[Update]) -> tuple[Entry, list[Update]]:
    """With wishes for metrics of at most some age, and those of them that are news."""
    news = []
    for update in updates:
        as_of, at = update.happened_at - (update.older_than or 0.0), update.happened_at
        met = as_of <= later(-inf, entry.fresh_as_of) or at <= later(-inf, entry.failed_as_of)
        known = as_of <= later(-inf, entry.wanted_as_of) and at <= later(-inf, entry.wanted_at)
        if not met and not known:
            news.append(update)
            entry = replace(
                entry, wanted_as_of=later(as_of, entry.wanted_as_of), wanted_at=later(at, entry.wanted_at)
            )
    return entry, news


def _noted(entry: Entry, news: Sequence[Update]) -> Entry:
    """With what people are shown of these updates."""
    if not news:
        return entry
    latest = max(news, key=lambda update: update.happened_at)
    is_latest = not entry.cause or latest.happened_at >= later(-inf, entry.last_at)
    distinct = {(update.happened_at, update.example) for update in news}
    examples = dict.fromkeys((*entry.examples, *(u.example for u in news if u.example)))
    return replace(
        entry,
        last_at=later(latest.happened_at, entry.last_at),
        updates=entry.updates + len(distinct),
        cause=latest.cause if is_latest else entry.cause,
        examples=tuple(examples)[:EXAMPLES],
    )


def receive(entry: Entry, mailbox: Entry, pace: Pace) -> Entry:
    """Notes for a job what has arrived under its name."""
    known = {element.identity for element in entry.batch}
    more = [element for element in mailbox.batch if element.identity not in known]
    room = max(0, MOST_ELEMENTS - len(entry.batch))
    new = settled(
        replace(
            entry,
            needed_as_of=_latest(entry.needed_as_of, mailbox.needed_as_of, *(e.as_of for e in more[room:])),
            waiting_since=_earliest(entry.waiting_since, mailbox.waiting_since),
            wanted_as_of=_latest(entry.wanted_as_of, mailbox.wanted_as_of),
            wanted_at=_latest(entry.wanted_at, mailbox.wanted_at),
            batch=(*entry.batch, *more[:room]),
        ),
        pace,
    )
    if _waiting(new) == _waiting(entry):
        return entry
    return replace(
        new,
        last_at=_latest(entry.last_at, mailbox.last_at),
        updates=entry.updates + mailbox.updates,
        cause=mailbox.cause or entry.cause,
        examples=tuple(dict.fromkeys((*entry.examples, *mailbox.examples)))[:EXAMPLES],
    )


def emptied(mailbox: Entry, pace: Pace) -> Entry:
    """The entry of a name whose updates are recorded under the job's id by now."""
    return settled(replace(mailbox, needed_as_of=None, wanted_as_of=None, batch=()), pace)


# --- The run that holds the target -----------------------------------------------------------------------


def claim(entry: Entry, run_id: str, now: float) -> Entry:
    """Takes a free target for a run. If the invocation dies, a look takes the claim back."""
    return replace(entry, run_id=run_id, requested_at=now, held=False, resumed=0, due_at=now + CLAIM_LIFETIME)


def hold(entry: Entry, run_id: str, number: int, now: float) -> Entry | None:
    """Makes the claim the execution's own; None if the claim or the execution's number was taken over."""
    if (entry.run_id, entry.resumed) != (run_id, number):
        return None
    if entry.due_at is not None and entry.due_at <= now + SETTLES:  # the end may be reported already
        return replace(entry, held=True)
    return replace(entry, held=True, due_at=now + CHECK_UP_INTERVAL)


def give_back(entry: Entry, run_id: str, pace: Pace, postponement: Postponement | None) -> Entry | None:
    """Undoes a claim that led to no run; None if its execution holds the target after all.

    Without a postponement the target is due as it was before: others took the last slot, say.
    """
    if entry.run_id != run_id or entry.held:
        return None
    return take_back(entry, pace, postponement)


def take_back(entry: Entry, pace: Pace, postponement: Postponement | None) -> Entry:
    """Frees a target whose run nobody follows any more."""
    free = _freed(entry)
    return settled(free, pace) if postponement is None else postpone(free, pace, postponement)


def postpone(entry: Entry, pace: Pace, postponement: Postponement) -> Entry:
    """Notes that an attempt failed, and when the next one may be made."""
    retry_at, not_before = postponement
    again = replace(entry, attempts=entry.attempts + 1, retry_at=retry_at, due_at=retry_at)
    if not_before is not None:
        again = replace(again, not_before=later(not_before, entry.not_before))
    return settled(again, pace)


def back_in_line(entry: Entry, now: float, pace: Pace) -> Entry:
    """When the backoff after failed attempts is over, makes the target due as of when it was before them.

    So an outage leaves the order as it was, and the update that has waited longest is recomputed first.
    """
    if entry.run_id is not None:
        return entry
    if entry.attempts and later(now, entry.retry_at) <= now and later(now, entry.not_before) <= now:
        entry = replace(entry, retry_at=None, not_before=None)
    return settled(entry, pace)


def satisfied(entry: Entry, run_id: str, timestamp: float, pace: Pace) -> Entry | None:
    """Undoes the claim for a wish that metrics of this time satisfy, unless the wish was raised since."""
    if entry.run_id != run_id or entry.held:
        return None
    met = later(-inf, entry.wanted_as_of) <= timestamp
    free = replace(_freed(entry), attempts=0, retry_at=None)
    return settled(replace(free, wanted_as_of=None, wanted_at=None) if met else free, pace)


def report(entry: Entry, run_id: str, now: float) -> Entry | None:
    """Has somebody look at the execution of a run, because its end was reported, once it shows as ended.

    Never later than somebody looks in any case.
    """
    if entry.run_id != run_id:
        return None
    return look_again(entry, min(now + SETTLES, later(-inf, entry.due_at)))


def look_again(entry: Entry, at: float) -> Entry:
    """Has somebody look at the execution of the run that holds the target, at that time."""
    return replace(entry, due_at=at)


def resume(entry: Entry, number: int, at: float) -> Entry:
    """Has the execution of that number follow the run; `at` is when somebody looks whether it does."""
    return replace(entry, resumed=number, due_at=at)


def release(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """Lets the target go at the end of its run, and remembers how that ended; None if it was taken over.

    Only the execution of the entry's number may do so. One that was aborted may have left this call on its
    way, which must not release the target under the execution that follows the run in its place.

    No watermark moves where another model has become the job's active one, which has no new metrics yet, nor
    where the run could not be checked: then it was one more attempt.
    """
    if (entry.run_id, entry.resumed) != (run["run_id"], number):
        return None
    asked, outcome = from_iso(run["requested_at"]), result["outcome"]
    free = _remembering(_freed(entry), run, result)
    if outcome == "not_checked":
        return postpone(free, pace, postponement)
    # What came during the run shares the next one, which waits until the last of it is visible.
    free = replace(free, attempts=0, retry_at=entry.needed_as_of, not_before=None)
    if result["active_changed"]:
        return settled(replace(free, not_before=asked + pace.spacing), pace)
    if entry.waiting_since is not None:
        free = replace(free, waiting_since=max(entry.waiting_since, asked))
    if outcome == "completed":
        free = replace(free, fresh_as_of=later(asked, entry.fresh_as_of))
    else:
        free = replace(free, failed_as_of=later(asked, entry.failed_as_of))
    return _without_those_of(settled(free, pace), run)


def _remembering(entry: Entry, run: Run, result: Result) -> Entry:
    past, reference = result["past_run"], result["reference"]
    if past:
        entry = replace(entry, history=(*entry.history, past)[-HISTORY_LENGTH:])
    if reference is not None:
        entry = replace(entry, quality_reference={"model_id": run["model_id"], "figures": reference})
    return replace(entry, last_failure=result["failure"], name_of=run.get("platform_job_id") or entry.name_of)


def _without_those_of(entry: Entry, run: Run) -> Entry:
    """Without the updates and examples that the run was for, as far as people are shown what waits."""
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
    """The same for the same update, however often it is delivered."""
    parts = (str(update.happened_at), *(part or "" for part in update.example or ()))
    return blake2b("\0".join(parts).encode(errors="replace"), digest_size=6).hexdigest()


def _waiting(entry: Entry) -> tuple[object, ...]:
    return entry.needed_as_of, entry.wanted_as_of, entry.wanted_at, entry.batch


def _latest(*times: float | None) -> float | None:
    return max((at for at in times if at is not None), default=None)


def _earliest(*times: float | None) -> float | None:
    return min((at for at in times if at is not None), default=None)
