"""Every change of an entry.

                 record                claim                hold
    free, clean ---------> free, dirty -------> claimed ----------> held --+
         ^                    ^                  |                  | ^    | hold: by the execution
         |                    |                  |                  | +----+ that resumes the run
         |                    +-- give_back -----+                  |
         |                    +-- take_back -----+------------------+
         |                    +-- release, if anything waits -------+
         +----------------------- release, otherwise ---------------+

Each transition is a pure function of the entry that was read. It returns the entry to write, the same entry
if nothing changes, or None if the entry is not in the state that the caller expects.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from operator import attrgetter

from arcanna_metrics.protocol.decide import Postponement, starts_at
from arcanna_metrics.protocol.entry import NEVER, Accepted, Claim, Element, Entry, Waiting, earliest, pruned
from arcanna_metrics.runs.quality import Reference, Rules, learned
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import WHOLE, Example, Update

EXAMPLES = 5
HISTORY_LENGTH = 10
MOST_ELEMENTS = 1000
"""Updates in a batch: about 60 KB of the 400 KB that an item may have. A further one is needed at once."""

CLAIM_LIFETIME = 300.0
"""Seconds: longer than an invocation can live and its StartExecution can take."""

CONSISTENT_AFTER = 10.0
"""Seconds after an execution's end until all responses of Step Functions show it."""


def settled(entry: Entry, pace: Pace) -> Entry:
    """The entry in the form that is written: pruned, and due if it is dirty or held."""
    kept = pruned(_by_a_shorter_lag(entry, pace))
    return kept if kept.claim is not None else replace(kept, due_at=starts_at(kept, pace))


def _by_a_shorter_lag(entry: Entry, pace: Pace) -> Entry:
    """The entry as if the lag had been as short as now when its updates were recorded."""
    waiting, visible_at = entry.waiting, entry.waiting.last_at + pace.visibility_lag
    last = max([waiting.needed_as_of, *(element.as_of for element in waiting.batch)])
    if not last > visible_at > NEVER:
        return entry
    retry_at = entry.retry_at if entry.attempts else min(entry.retry_at, visible_at)
    batch = tuple(each._replace(as_of=min(each.as_of, visible_at)) for each in waiting.batch)
    needed = min(waiting.needed_as_of, visible_at)
    return replace(entry, waiting=replace(waiting, needed_as_of=needed, batch=batch), retry_at=retry_at)


# --- What waits ------------------------------------------------------------------------------------------


def record(entry: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    """Records updates and wishes of the target. Those that are covered or known change nothing."""
    return _adding(entry, _news(entry, updates, pace), pace)


def _news(entry: Entry, updates: Sequence[Update], pace: Pace) -> Iterator[Waiting]:
    """What waits because of each update that is neither covered nor known."""
    waiting, mark = entry.waiting, entry.watermark
    known = {element.identity for element in waiting.batch}
    for update in dict.fromkeys(updates):
        at, as_of = update.happened_at, update.happened_at + pace.visibility_lag
        examples = (update.example,) if update.example else ()
        news = partial(Waiting, last_at=at, updates=1, cause=update.cause, examples=examples)
        if update.older_than is not None:
            if at - update.older_than > entry.metrics_as_of and at > mark:
                yield news(wanted_as_of=at - update.older_than, wanted_at=at)
        elif update.share < WHOLE:
            if as_of > mark and (identity := _identity(update)) not in known:
                known.add(identity)
                yield news(batch=(Element(identity, as_of, update.share, at + update.max_wait),))
        elif update.by_hand:
            if at > max(mark, waiting.asked_at):
                yield news(needed_as_of=at, since=at, asked_at=at)
        elif as_of > mark and (as_of > waiting.needed_as_of or at > waiting.last_at):  # of a longer lag
            yield news(needed_as_of=as_of, since=at)


def _adding(entry: Entry, arrived: Iterable[Waiting], pace: Pace) -> Entry:
    """Adds what has arrived. A request by hand ends the backoff."""
    # A schedule's next wish does not change when the first one is due. A failure of the run in progress
    # answers the wishes before it, but not those since then.
    answered = entry.claim.requested_at if entry.claim else NEVER
    if entry.claim is not None:
        arrived = [
            replace(part, next_since=part.since) if part.needed_as_of > answered else part for part in arrived
        ]
    waiting = merged(entry.waiting, *arrived, answered=answered)
    if _needs(waiting) == _needs(entry.waiting):
        return entry
    retry_at = NEVER if waiting.asked_at > entry.waiting.asked_at else entry.retry_at
    return settled(replace(entry, waiting=waiting, retry_at=retry_at), pace)


def merged(*parts: Waiting, answered: float = NEVER) -> Waiting:
    """What waits in any of the parts. Elements for which the batch has no room are needed at once.

    Of the wishes, the first one made after `answered` counts, or else the last one.
    """
    wishes = [part.wanted_at for part in parts]
    batch = tuple({element.identity: element for part in parts for element in part.batch}.values())
    beyond = [element.as_of for element in batch[MOST_ELEMENTS:]]
    latest = max(parts, key=attrgetter("last_at"))
    return Waiting(
        needed_as_of=max([*(part.needed_as_of for part in parts), *beyond]),
        wanted_as_of=max(part.wanted_as_of for part in parts),
        wanted_at=min((at for at in wishes if at > answered), default=max(wishes)),
        asked_at=max(part.asked_at for part in parts),
        batch=batch[:MOST_ELEMENTS],
        since=earliest(*(part.since for part in parts), *beyond),
        next_since=earliest(*(part.next_since for part in parts)),
        last_at=latest.last_at,
        updates=sum(part.updates for part in parts),
        cause=latest.cause,
        examples=tuple(dict.fromkeys(one for part in parts for one in part.examples))[:EXAMPLES],
    )


def receive(entry: Entry, mailbox: Entry, pace: Pace) -> Entry:
    """Adds what has arrived under the job's name."""
    return _adding(entry, [pruned(replace(entry, waiting=mailbox.waiting)).waiting], pace)


def empty(mailbox: Entry, pace: Pace) -> Entry:
    """Empties the entry of a name after the job's id has received its updates."""
    return settled(replace(mailbox, waiting=Waiting()), pace)


# --- The model's reference -------------------------------------------------------------------------------


def learn(entry: Entry, seen: Reference, rules: Rules, as_of: str) -> Entry:
    """Updates the model's reference after its metrics had these figures in a run.

    What somebody has accepted since the run was requested, `as_of` (ISO 8601), counts more.
    """
    if entry.accepted and entry.accepted["at"] > as_of:
        return entry
    return replace(entry, quality_reference=learned(entry.quality_reference, seen, rules) or None)


def accept(entry: Entry, figures: Reference, by: Accepted) -> Entry:
    """Makes the figures that somebody has accepted the model's reference."""
    return replace(entry, quality_reference=figures, accepted=by)


# --- The run that holds the target -----------------------------------------------------------------------


def claim(entry: Entry, by: Claim) -> Entry:
    """Takes a free target for a run. If the invocation dies, a look takes the claim back."""
    asked = by.requested_at
    next_since = asked if entry.waiting.needed_as_of > asked else None
    waiting = replace(entry.waiting, next_since=next_since)
    return replace(entry, waiting=waiting, claim=by, due_at=asked + CLAIM_LIFETIME)


def hold(entry: Entry, run_id: str, number: int) -> Entry | None:
    """Confirms the claim for the execution; None if another run or a later execution has taken over.

    The next look stays due as it is: at the end of the claim's lifetime, or after the report of an end.
    """
    claim = entry.claim
    if claim is None or claim.run_id != run_id or number < (claim.number or 0):
        return None
    return replace(entry, claim=claim._replace(number=number))


def give_back(entry: Entry, run_id: str, pace: Pace, postponement: Postponement | None) -> Entry | None:
    """Undoes a claim that did not become a run; None unless it is still only claimed.

    Without a postponement, for example if no slot was free, the target is due as before.
    """
    if entry.claim is None or entry.claim.run_id != run_id or entry.claim.held:
        return None
    free = settled(replace(entry, claim=None), pace)
    return free if postponement is None else postpone(free, pace, postponement)


def take_back(entry: Entry, claim: Claim, pace: Pace, postponement: Postponement) -> Entry:
    """Frees a target whose run has no execution that will release it.

    If the claim was not held, its request may be queued, which Arcanna does not show during the start grace.
    """
    free = _after_run(entry, claim)
    if not claim.held:
        free = replace(free, not_before=claim.requested_at + pace.start_grace)
    return postpone(free, pace, postponement, claim)


def postpone(entry: Entry, pace: Pace, postponement: Postponement, claim: Claim | None = None) -> Entry:
    """Records that an attempt, perhaps with this claim, failed, and when the next one may be made."""
    retry_at, not_before, error = postponement
    postponed = replace(
        entry,
        attempts=entry.attempts + 1,
        failing_since=earliest(entry.failing_since, claim.requested_at if claim else entry.due_at),
        last_error=error,
        retry_at=retry_at,
        not_before=max(not_before, entry.not_before),
        due_at=retry_at,
    )
    return settled(postponed, pace)


def correct_due_at(entry: Entry, now: float, pace: Pace) -> Entry:
    """Corrects when a free target is due, after a change of the pace and after the backoff.

    The backoff's end restores the due time from before the failed attempts. So an outage does not change the
    order, and the update that has waited longest is recomputed first.
    """
    is_over = entry.attempts and max(entry.retry_at, entry.not_before) <= now
    corrected = settled(replace(entry, retry_at=NEVER, not_before=NEVER) if is_over else entry, pace)
    return entry if corrected.due_at == entry.due_at else corrected


def satisfy(entry: Entry, run_id: str, timestamp: float, pace: Pace) -> Entry | None:
    """Undoes the claim for a wish that metrics of this time satisfy, unless a newer wish has arrived."""
    waiting = entry.waiting
    if waiting.wanted_as_of <= timestamp:
        updates = max(waiting.updates - 1, len(waiting.batch))  # a wish counts as one
        waiting = replace(waiting, wanted_as_of=NEVER, updates=updates)
    granted = replace(entry.without_attempts(), waiting=waiting, retry_at=NEVER)
    return give_back(granted, run_id, pace, None)


def report_end(entry: Entry, run_id: str, now: float) -> Entry | None:
    """Makes a check-up due after the run's execution was reported to have ended.

    It is due when all responses of Step Functions show the end, unless it is due already.
    """
    if entry.run_id != run_id:
        return None
    is_due = entry.due_at is not None and entry.due_at <= now
    return entry if is_due else replace(entry, due_at=now + CONSISTENT_AFTER)


def postpone_check_up(entry: Entry, at: float) -> Entry:
    """Makes the next look at the run's executions due at that time."""
    return replace(entry, due_at=at)


def release(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """Frees the target at the end of its run, and records the result; None if the run was taken over.

    Only the last execution that has begun may release. A release of an aborted execution may arrive late.
    It must not free the target of the execution that has replaced it.

    In two cases no watermark moves: if another model has become active, because it has no new metrics yet;
    and if the run could not be checked, which counts as a failed attempt.
    """
    claim = entry.claim
    if claim is None or (claim.run_id, claim.number) != (run["run_id"], number):
        return None
    waiting, asked, outcome = entry.waiting, claim.requested_at, result["outcome"]
    free = _remembering(_after_run(entry, claim), run, result)
    if outcome == "not_checked":
        return postpone(free, pace, postponement, claim)
    # Updates during the run share the next run, which waits until the last of them is visible. It does not
    # wait if somebody has asked for it by hand.
    next_at = NEVER if waiting.asked_at > asked else waiting.needed_as_of
    free = replace(free.without_attempts(), retry_at=next_at, not_before=NEVER)
    if result["active_changed"]:  # the new model's run comes after targets that were due at this run's start
        return settled(replace(free, retry_at=max(next_at, asked)), pace)
    free = replace(free, waiting=waiting.after_run(asked))
    if outcome == "completed":
        free = replace(free, fresh_as_of=max(asked, entry.fresh_as_of))
    else:
        free = replace(free, failed_as_of=max(asked, entry.failed_as_of))
    return _without_those_of(settled(free, pace), run)


def _after_run(entry: Entry, claim: Claim) -> Entry:
    """Frees the target. The spacing counts from this run, whatever became of it."""
    return replace(entry, claim=None, last_requested_at=max(claim.requested_at, entry.last_requested_at))


def _remembering(entry: Entry, run: Run, result: Result) -> Entry:
    if past := result["past_run"]:
        entry = replace(entry, history=(*entry.history, past)[-HISTORY_LENGTH:])
    return replace(entry, last_failure=result["failure"], name_of=run.get("platform_job_id") or entry.name_of)


def _without_those_of(entry: Entry, run: Run) -> Entry:
    """Removes the updates and examples of the run, so that people see only what still waits."""
    if not entry.dirty:
        return entry
    waiting, cause = entry.waiting, run["cause"]
    of_run = {Example(**example) for example in cause["examples"]}
    updates = max(waiting.updates - cause["updates"], len(waiting.batch), 1)
    examples = tuple(example for example in waiting.examples if example not in of_run)
    return replace(entry, waiting=replace(waiting, updates=updates, examples=examples))


def _identity(update: Update) -> str:
    """Identifies an update. Every delivery of the same update gives the same text.

    S3's own notifications tell milliseconds, and EventBridge's events seconds. Only a version of an object is
    one write for certain; without it, two writes within a second must not count as one.
    """
    at, example = update.happened_at, update.example
    if example and example.version_id:
        at //= 1
    parts = (str(at), *(part or "" for part in example or ()))
    return blake2b("\0".join(parts).encode(errors="replace"), digest_size=6).hexdigest()


def _needs(waiting: Waiting) -> tuple[object, ...]:
    """What a run is needed for, and when the latest update happened, which tells when all are visible."""
    needed, wanted = waiting.needed_as_of, (waiting.wanted_as_of, waiting.wanted_at)
    return needed, wanted, waiting.asked_at, waiting.batch, waiting.last_at
