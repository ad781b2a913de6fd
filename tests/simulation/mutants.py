"""Bugs planted in the protocol, one at a time: a changed transition, or a missing rule between transitions.

The explorer has to find each of them, or it proves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.check_up import Action, Resume, TakeBack, check_up
from arcanna_metrics.protocol.decide import Decision, Later, Postponement, decide
from arcanna_metrics.protocol.entry import NEVER, Claim, Entry
from arcanna_metrics.protocol.slots import Taker, still_taken
from arcanna_metrics.protocol.transitions import settled
from arcanna_metrics.runs.run import Execution, Result, Run
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import WHOLE, Target, Update
from tests.simulation.small_steps import Code


class Mutant(NamedTuple):
    """Code with one bug, and a scenario in which it shows."""

    bug: str
    scenario: str
    code: Code


# --- What waits ------------------------------------------------------------------------------------------


def record_without_due(entry: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    return replace(transitions.record(entry, updates, pace), due_at=entry.due_at)


def record_without_lag(entry: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    return transitions.record(entry, updates, replace(pace, visibility_lag=0.0))


def record_by_delivery(entry: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    """An update counts from its delivery, so that a covered one counts again."""
    late = [u._replace(happened_at=max(u.happened_at, entry.watermark + 1)) for u in updates]
    return transitions.record(entry, late, pace)


def record_judging_batches(entry: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    """Elements that a run under way will cover count towards a full batch."""
    after = transitions.record(entry, updates, pace)
    if sum(element.share for element in after.waiting.batch) < WHOLE:
        return after
    full = max(element.as_of for element in after.waiting.batch)
    return settled(
        replace(after, waiting=replace(after.waiting, needed_as_of=max(full, after.waiting.needed_as_of))),
        pace,
    )


def satisfy_whatever_is_wanted(entry: Entry, run_id: str, timestamp: float, pace: Pace) -> Entry | None:
    """A wish is cleared although it was raised since."""
    lowered = replace(entry, waiting=replace(entry.waiting, wanted_as_of=NEVER, wanted_at=NEVER))
    return transitions.satisfy(lowered, run_id, timestamp, pace)


def decide_before_visible(entry: Entry, now: float, pace: Pace) -> Decision:
    return decide(entry, now + pace.visibility_lag, pace)


def decide_without_spacing(entry: Entry, now: float, pace: Pace) -> Decision:
    return decide(entry, now, replace(pace, spacing=0.0))


def decide_without_longest_wait(entry: Entry, now: float, pace: Pace) -> Decision:
    batch = tuple(element._replace(until=element.until + 1e6) for element in entry.waiting.batch)
    return decide(replace(entry, waiting=replace(entry.waiting, batch=batch)), now, pace)


def postpone_without_due(entry: Entry, pace: Pace, postponement: Postponement) -> Entry:
    return replace(transitions.postpone(entry, pace, postponement), due_at=None)


# --- The run that holds the target -----------------------------------------------------------------------


def hold_whoever_has_it(entry: Entry, run_id: str, number: int) -> Entry | None:
    requested_at = entry.claim.requested_at if entry.claim else 0.0
    own = replace(entry, claim=Claim(run_id, requested_at))
    return transitions.hold(own, run_id, number)


def give_back_what_is_held(
    entry: Entry, run_id: str, pace: Pace, postponement: Postponement | None
) -> Entry | None:
    claimed = entry.claim and entry.claim._replace(number=None)
    return transitions.give_back(replace(entry, claim=claimed), run_id, pace, postponement)


def take_back_what_waits(entry: Entry, claim: Claim, pace: Pace, postponement: Postponement) -> Entry:
    """Updates that the run was for are forgotten."""
    forgotten = replace(entry, waiting=replace(entry.waiting, needed_as_of=NEVER))
    return transitions.take_back(forgotten, claim, pace, postponement)


def release_without_due(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    after = transitions.release(entry, run, number, result, pace, postponement)
    return after and replace(after, due_at=None)


def release_all_that_waits(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """Updates during the run count as covered."""
    after = transitions.release(entry, run, number, result, pace, postponement)
    return after and settled(
        replace(after, fresh_as_of=max(after.waiting.needed_as_of, after.fresh_as_of)), pace
    )


def release_whoever_has_it(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    requested_at = entry.claim.requested_at if entry.claim else 0.0
    own = replace(entry, claim=Claim(run["run_id"], requested_at, number))
    return transitions.release(own, run, number, result, pace, postponement)


def release_whatever_the_number(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    return transitions.release(
        entry, run, entry.claim.number or 0 if entry.claim else number, result, pace, postponement
    )


def release_although_another_is_active(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    moved: Result = {**result, "active_changed": False}
    return transitions.release(entry, run, number, moved, pace, postponement)


def release_unchecked_as_failed(
    entry: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    failed: Result = {**result, "outcome": "failed"} if result["outcome"] == "not_checked" else result
    return transitions.release(entry, run, number, failed, pace, postponement)


# --- Checking up -----------------------------------------------------------------------------------------


def leave_dead_claims(claim: Claim, executions: Sequence[Execution], now: float) -> Action:
    finding = check_up(claim, executions, now)
    return Later(now + 1) if isinstance(finding, TakeBack) and not executions else finding


def leave_dead_runs(claim: Claim, executions: Sequence[Execution], now: float) -> Action:
    finding = check_up(claim, executions, now)
    return Later(now + 1) if isinstance(finding, Resume) else finding


def take_young_claims_back(claim: Claim, executions: Sequence[Execution], now: float) -> Action:
    return check_up(claim, executions, now + 1e6)


def resume_what_is_running(claim: Claim, executions: Sequence[Execution], now: float) -> Action:
    return check_up(claim, [execution._replace(running=False) for execution in executions], now)


def only_held_slots(takers: Sequence[Taker], entries: Mapping[Target, Entry]) -> list[Taker]:
    """A slot counts as free until the run's execution has begun."""
    return [t for t in still_taken(takers, entries) if (claim := entries[t.target].claim) and claim.held]


MUTANTS = [
    # The rules of the design's model.
    Mutant(
        "an update that is recorded has nobody look", "one update, one death", Code(record=record_without_due)
    ),
    Mutant(
        "a message is deleted before its update is recorded",
        "one update, one death",
        Code(acknowledges_after_record=False),
    ),
    Mutant("a look writes whatever is there by now", "one update, one death", Code(swaps=False)),
    Mutant(
        "an execution goes on although its claim was taken over",
        "one update, one death",
        Code(hold=hold_whoever_has_it),
    ),
    Mutant(
        "a claim is given back although it is held",
        "one update, one death",
        Code(give_back=give_back_what_is_held),
    ),
    Mutant("a release has nobody look at what waits", "two updates", Code(release=release_without_due)),
    Mutant(
        "a claim's time is taken after the baseline",
        "one update, one death",
        Code(claims_before_baseline=False),
    ),
    Mutant("a dead claim is left alone", "one update, one death", Code(check_up=leave_dead_claims)),
    Mutant("a dead run is left alone", "one update, one death", Code(check_up=leave_dead_runs)),
    Mutant(
        "a resumption has a name of its own each time", "one update, one death", Code(names_by_number=False)
    ),
    # Slots.
    Mutant("slots are written whatever is there by now", "two targets, one slot", Code(swaps_slots=False)),
    Mutant("slots are counted", "one update, one slot, one death", Code(counts_slots=True)),
    Mutant("a slot is taken before the claim", "two targets, one slot", Code(claims_before_slot=False)),
    Mutant(
        "a slot is free until its run is held", "two targets, one slot", Code(still_taken=only_held_slots)
    ),
    Mutant(
        "a claim is taken back while its invocation lives",
        "two targets, one slot",
        Code(check_up=take_young_claims_back),
    ),
    # The active model.
    Mutant(
        "the active model is not looked up again",
        "an active model that changes",
        Code(looks_model_up_again=False),
    ),
    Mutant(
        "a watermark moves although another model is active",
        "an active model that changes",
        Code(release=release_although_another_is_active),
    ),
    # Wishes and thresholds.
    Mutant(
        "a wish is cleared although it was raised since",
        "two wishes, others ask",
        Code(satisfy=satisfy_whatever_is_wanted),
    ),
    Mutant(
        "a batch is judged when it is recorded",
        "two halves of a threshold, an update",
        Code(record=record_judging_batches),
    ),
    Mutant(
        "a batch waits for ever",
        "a longest wait, half of a threshold",
        Code(decide=decide_without_longest_wait),
    ),
    # Time.
    Mutant("an update counts as visible at once", "a visibility lag", Code(record=record_without_lag)),
    Mutant(
        "a run starts before the update is visible", "a visibility lag", Code(decide=decide_before_visible)
    ),
    Mutant(
        "runs are not spaced",
        "a visibility lag and spacing, two updates",
        Code(decide=decide_without_spacing),
    ),
    # Names.
    Mutant("a mailbox is empty of what came since", "two updates under a name", Code(swaps_mailbox=False)),
    Mutant(
        "a mailbox is empty before its updates are received",
        "one update under a name, one death",
        Code(receives_before_emptied=False),
    ),
    # The rest.
    Mutant(
        "after a look that fails nobody looks", "one update, one death", Code(postpone=postpone_without_due)
    ),
    Mutant(
        "an update counts from its delivery", "two updates, delivered twice", Code(record=record_by_delivery)
    ),
    Mutant(
        "a run is taken back with what waits", "one update, one death", Code(take_back=take_back_what_waits)
    ),
    Mutant("others' recomputes are not waited for", "one update, others ask", Code(waits_for_others=False)),
    Mutant("a running execution is resumed", "one update", Code(check_up=resume_what_is_running)),
    Mutant("a release covers what came during the run", "two updates", Code(release=release_all_that_waits)),
    Mutant("a run is released by any other", "two updates, one death", Code(release=release_whoever_has_it)),
    Mutant(
        "a run is released by an execution that was aborted",
        "two updates, one death",
        Code(release=release_whatever_the_number),
    ),
    Mutant(
        "a run that could not be checked counts as failed",
        "one update, one run unchecked",
        Code(release=release_unchecked_as_failed),
    ),
]
