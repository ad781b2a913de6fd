"""Checks the guarantees on the true events of a history. Times are those of a perfect clock."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

from arcanna_metrics.controller.reconcile import MOST_FAILURES
from arcanna_metrics.protocol.transitions import CONSISTENT_AFTER
from arcanna_metrics.runs.completion import CLOCK_MARGIN
from arcanna_metrics.targets import WHOLE, Update, is_id
from arcanna_metrics.times import from_iso
from tests.simulation.journal import Event
from tests.simulation.stimuli import JOB_OF
from tests.simulation.world import SKEW, START_GRACE, SWEEP, History

SLACK = 2 * SKEW + 0.1
"""Seconds by which two clocks may differ, including rounding."""

SHOWS = 21.0
"""Seconds within which the index shows a write."""

PROMPT = SWEEP + 90.0
"""Seconds from when a target is due to its claim, where nothing goes wrong and every run gets a slot: the
sweep, the queue's delay and batching window, and an invocation's calls."""


def violations(history: History) -> list[str]:
    """A sentence for each guarantee that the history breaks."""
    return [
        violation
        for check in (
            no_lost_update,
            no_wish_forgotten,
            single_flight,
            no_request_while_recomputing,
            no_more_than_needed,
            no_more_often_than_allowed,
            proven_end,
            no_false_failure,
            nothing_dropped,
            no_more_than_slots,
            first_come_first_served,
            prompt,
            promptly_resumed,
            released,
            no_worse_model_passes,
            invariants,
        )
        for violation in check(history)
    ]


# --- 1. No lost update -----------------------------------------------------------------------------------


def no_lost_update(history: History) -> Iterator[str]:
    """Every update is followed by a completed run that was claimed after its data had arrived, or by a
    failure that was told: by an event, a notification, or the failed execution.

    For a job's active model, a run counts only if its model was the active one when its recompute
    had ended, or later.
    """
    runs = _runs(history)
    told = {
        e.details["run"]
        for e in history.journal.of("failed told", "notified", "execution ended")
        if e.what != "execution ended" or e.details["status"].endswith("NotTold")
    }
    failed = [e for e in history.journal.of("given up") if e.details["run"] in told]
    covered = history.journal.of("covered")
    excused = history.journal.of("caller told")
    for update in history.journal.of("update"):
        stimulus, arrives = update.details["by"], update.details["arrives"]
        if update.details["update"].older_than is not None:
            continue
        if any(e.details["of"] is stimulus for e in excused):
            continue
        if any(
            e.whom == update.whom and runs[e.details["run"]].claimed_at >= update.time - SLACK for e in failed
        ):
            continue
        if not any(
            e.whom == update.whom and runs[e.details["run"]].claimed_at >= arrives and _is_current(history, e)
            for e in covered
        ):
            yield f"1. No lost update: nothing became of {stimulus} of {update.whom}"


def no_wish_forgotten(history: History) -> Iterator[str]:
    """A wish for metrics of at most some age is met by a run, by a failure since, or by the platform's own
    timestamp, by whatever clock.

    For a job's active model, a run counts only if its model was the active one at the wish or later.
    """
    runs = _runs(history)
    excused = history.journal.of("caller told")
    for event in history.journal.of("update"):
        update: Update = event.details["update"]
        if update.older_than is None or any(e.details["of"] is event.details["by"] for e in excused):
            continue
        as_of = update.happened_at - update.older_than - SLACK
        ends = [e for e in history.journal.of("covered", "given up") if e.whom == event.whom]
        met = any(
            runs[e.details["run"]].claimed_at >= as_of and _is_active_since(history, e, event.time)
            if e.what == "covered"
            else runs[e.details["run"]].claimed_at >= event.time - SLACK - 1
            for e in ends
        )
        shown = history.journal.of("timestamp shown")
        if not met and not any(from_iso(e.details["timestamp"]) >= as_of for e in shown if _may_be(event, e)):
            yield f"1. No lost update: {event.details['by']} asked in vain for newer metrics of {event.whom}"


# --- 2. Single flight ------------------------------------------------------------------------------------


def single_flight(history: History) -> Iterator[str]:
    """Two executions never follow runs of a target at once, until the release or the execution's end."""
    following: dict[str, set[str]] = defaultdict(set)  # by entry, executions
    for event in history.journal.of("follows", "freed", "execution ended"):
        of_entry, execution = following[event.details["entry"]], event.details["execution"]
        if event.what == "follows":
            if others := of_entry - {execution}:
                yield f"2. Single flight: {execution} follows {event.whom} while {min(others)} does"
            of_entry.add(execution)
        else:
            of_entry.discard(execution)


def no_request_while_recomputing(history: History) -> Iterator[str]:
    """No request is made while the platform has shown the model to be recomputing since before the claim."""
    runs = _runs(history)
    for event in _requests(history):
        busy_since = event.details["busy_since"]
        if busy_since is not None and busy_since < runs[event.details["by"]].claimed_at:
            yield f"2. Single flight: {event.details['by']} asked for {event.whom} while that was recomputing"


# --- 3. No more than needed ------------------------------------------------------------------------------


def no_more_than_needed(history: History) -> Iterator[str]:
    """A request needs an update, or a wish, that the last completed or failed run of its target is not known
    to cover; and one that is only part of a threshold needs enough of them, or their longest wait."""
    runs, pace = _runs(history), history.pace
    marks = history.journal.of("covered", "given up")
    for event in _requests(history):
        run = runs[event.details["by"]]
        mark = max(
            (
                e.details["until"]
                for e in marks
                if e.details["entry"] == run.entry and e.time < run.claimed_at
            ),
            default=float("-inf"),
        )
        reasons = [
            e.details["update"]
            for e in history.journal.of("update")
            if e.time <= run.claimed_at and (e.whom == run.whom or e.details["by"].kind == "schedule")
        ]
        reasons = [u for u in reasons if _as_of(u, pace.visibility_lag) > mark - SLACK]
        if not reasons:
            yield f"3. No more than needed: {event.details['by']} of {run.whom} was for nothing new"
        elif all(update.share < WHOLE for update in reasons):
            yield from _too_early(run, reasons)


def _too_early(run: "_Run", samples: Sequence[Update]) -> Iterator[str]:
    distinct = {(update.example, update.happened_at): update for update in samples}
    enough = sum(update.share for update in distinct.values()) >= WHOLE
    waited = any(run.claimed_at >= u.happened_at + u.max_wait - SLACK for u in distinct.values())
    if not enough and not waited:
        yield f"3. No more than needed: {run.name} of {run.whom} was for less than its threshold"


def no_more_often_than_allowed(history: History) -> Iterator[str]:
    """Requests keep the spacing after the last run. After a request of unknown effect, the next one for the
    same target comes after the start grace."""
    runs = _runs(history)
    spacing = min([history.pace.spacing, *(e.details["spacing"] for e in history.journal.of("settings"))])
    last: dict[str, float] = {}  # by entry, the claim of the last run
    asked: dict[tuple[str, str], Event] = {}  # by entry and model, the last request
    for event in history.journal.of("job requested", "freed"):
        name: str = event.details["by" if event.what == "job requested" else "run"]
        if event.what == "freed" and event.details["how"] not in ("given back", "taken over"):
            last[runs[name].entry] = runs[name].asked_at
            asked = {key: before for key, before in asked.items() if before.details["by"] != name}
        elif event.what == "job requested" and name in runs and event.time < runs[name].freed_at:
            run = runs[name]
            since = run.asked_at - last.get(run.entry, float("-inf"))
            if since < spacing - SLACK:
                yield f"3. No more than needed: {run.name} of {run.whom} was {since:.0f} s after the last run"
            before = asked.get((run.entry, event.whom))
            since = event.details["asked_at"] - (before.details["asked_at"] if before else float("-inf"))
            if since < START_GRACE - SLACK:
                yield f"3. No more than needed: {run.name} asked for {event.whom} again after {since:.0f} s"
            asked[run.entry, event.whom] = event


# --- 4. Proven end ---------------------------------------------------------------------------------------


def proven_end(history: History) -> Iterator[str]:
    """A run counts as completed only if a recompute began after the claim and truly ended."""
    for event in history.journal.of("completed told", "covered"):
        if _proof(history, event) is None:
            yield f"4. Proven end: {event.details['run']} of {event.whom} counts as completed without proof"


def no_false_failure(history: History) -> Iterator[str]:
    """A run announced as failed had not completed. A run announced as timed out had not completed as far as
    the platform showed it to the last check. A request that takes effect only after the start grace may count
    as never started."""
    done = {e.details["job"]: e.time for e in history.journal.of("job done")}
    shown = {e.details["job"]: e.time for e in history.journal.of("job shown")}
    asked = {
        e.details["by"]: e.details["job"]
        for e in _requests(history)
        if e.time <= e.details["asked_at"] + START_GRACE
    }
    for event in history.journal.of("checked"):
        run, how = event.details["run"], event.details["how"]
        ended = {"failed": done, "timed_out": shown}.get(how.split()[0], {}).get(asked.get(run, ""))
        if ended is not None and ended < event.details["began"] and "Rejected" not in how:
            yield f"4. Proven end: {run} of {event.whom} was {how}, but had completed"
    completed = {e.details["run"]: e.time for e in history.journal.of("completed told", "covered")}
    # If the model is gone or cannot be checked, the run's result cannot be known any more.
    told = history.journal.of("failed told")
    unknown = {e.details["run"] for e in told if e.details["reason"] in ("Rejected", "NotChecked")}
    for event in history.journal.of("failed told", "given up"):
        run = event.details["run"]
        if run not in unknown and completed.get(run, float("inf")) < event.time:
            yield f"4. Proven end: {run} of {event.whom} had completed, and is told to fail"


# --- 5. Nothing is dropped -------------------------------------------------------------------------------


def nothing_dropped(history: History) -> Iterator[str]:
    """The dead-letter queue has exactly the invalid messages, each with a reason."""
    garbage = {str(event.details["body"]) for event in history.journal.of("garbage")}
    dead = {event.details["body"] for event in history.journal.of("dead letter") if event.details["reason"]}
    for body in sorted(garbage - dead):
        yield f"5. Nothing is dropped: {body} is not in the dead-letter queue"
    for body in sorted(dead - garbage):
        yield f"5. Nothing is dropped: {body} is in the dead-letter queue"


# --- 6. Slots --------------------------------------------------------------------------------------------


def no_more_than_slots(history: History) -> Iterator[str]:
    """Runs never exceed slots, from the request or the execution's first step to the release."""
    changed_at, before, limit, holding = 0.0, 0, history.pace.slots, set[str]()
    runs = _runs(history)
    if not limit:
        return
    for event in history.journal.of("held", "job requested", "freed", "settings"):
        run = event.details.get("run", event.details.get("by"))
        if event.what == "settings":
            changed_at, before, limit = event.time, limit, event.details["slots"]
        elif event.what == "freed":
            holding.discard(run)
        elif run in runs and event.time <= runs[run].freed_at:
            more = run not in holding
            holding.add(run)
            if more and len(holding) > (limit if runs[run].claimed_at > changed_at else max(limit, before)):
                yield f"6. Slots: {', '.join(sorted(holding))} hold their targets at once"


def first_come_first_served(history: History) -> Iterator[str]:
    """A target that gets a slot was due before all others that wait for one.

    This is checked if the invocation met no fault, and if both have been due and unchanged long enough for
    the index to show it. After some failures in a row, targets that have failed come in random order.
    """
    if not history.pace.slots:
        return
    claims: dict[str, int] = defaultdict(int)  # of each invocation
    faulty = {fault.partition(":")[0] for fault in history.faults}
    began = {e.details["of"]: e.time for e in history.journal.of("invocation")}
    waiting: dict[str, Event] = {}  # by entry, the last write that left it free and dirty
    named: dict[str, float] = {}  # by target, the last write of its entry under the job's name
    for event in history.journal.of("written", "claimed"):
        entry, by = event.details["entry"], event.details.get("by")
        if event.what == "written":
            waiting.pop(entry, None)
            if event.details["free"] and event.details["dirty"]:
                waiting[entry] = event
            if entry != event.whom:
                named[event.whom] = event.time
            continue
        at_random = claims[by or ""] >= MOST_FAILURES
        claims[by or ""] += 1
        if by in began and by not in faulty and named.get(event.whom, 0.0) < began[by]:
            settled = {
                other: left.details["due_at"]
                for other, left in waiting.items()
                if left.time + SHOWS < began[by] and not (at_random and left.details["failed"])
            }
            due_at = settled.pop(entry, float("-inf"))
            for other, before in settled.items():
                if before + SLACK < min(due_at, began[by]):
                    yield f"6. Slots: {event.details['run']} of {entry} came before {other}"


# --- The design's other promises -------------------------------------------------------------------------


def prompt(history: History) -> Iterator[str]:
    """The next sweep claims due targets, if nothing goes wrong and slots are free."""
    if history.faults or history.pace.slots:
        return
    left: dict[str, float] = {}  # by entry, the last write
    for event in history.journal.of("written", "claimed"):
        entry = event.details["entry"]
        if event.what == "written":
            left[entry] = event.time
            continue
        due_at = event.details["was_due"] or float("inf")
        if due_at > event.time + SLACK:
            yield f"7. Prompt: {event.details['run']} of {entry} was claimed before it was due"
        elif event.time - max(due_at, left[entry]) > PROMPT:
            yield f"7. Prompt: {event.details['run']} of {entry} was claimed long after it was due"


def promptly_resumed(history: History) -> Iterator[str]:
    """A run whose execution ended early is resumed by the next sweep, if nothing else goes wrong."""
    if not all(fault.endswith("is aborted") for fault in history.faults):
        return
    goes_on = history.journal.of("resumed", "freed")
    for event in history.journal.of("execution ended"):
        run = event.details["run"]
        early = event.details["status"].split()[0] in ("ABORTED", "TIMED_OUT")
        if early and not any(
            e.details["run"] == run and e.time - event.time < PROMPT + CONSISTENT_AFTER for e in goes_on
        ):
            yield f"7. Prompt: {run} of {event.whom} did not go on after {event.details['execution']}"


def released(history: History) -> Iterator[str]:
    """An execution that has followed a run and ends in success leaves its target free of that run."""
    follows = {e.details["execution"] for e in history.journal.of("follows")}
    freed = {e.details["run"]: e.time for e in reversed(history.journal.of("freed"))}
    for event in history.journal.of("execution ended"):
        run, execution = event.details["run"], event.details["execution"]
        succeeded = event.details["status"].startswith("SUCCEEDED") and execution in follows
        if succeeded and freed.get(run, inf) > event.time:
            yield f"7. Prompt: {execution} ended, but {run} still holds {event.whom}"


def invariants(history: History) -> Iterator[str]:
    """The invariants hold after every write, and no unexpected error occurs."""
    for event in history.journal.of("broken"):
        yield f"8. {event.details['rule']} ({event.whom})"


# --- 9. The quality gate ---------------------------------------------------------------------------------


def no_worse_model_passes(history: History) -> Iterator[str]:
    """A model that passes is as good as any run saw it that ended, or had requested, before this run began.

    A job by its name is another job for as long as its id is not known.
    """
    runs = _runs(history)
    requested = {e.details["by"]: e.time for e in _requests(history)}
    freed = history.journal.of("freed")
    ended = {e.details["run"]: e.time for e in freed if e.details["how"] in _WITH_METRICS}
    told = [
        (runs[e.details["run"]], e)
        for e in history.journal.of("completed told", "failed told")
        if is_id(runs[e.details["run"]].entry.partition("/")[0])
    ]
    seen = [  # model, accuracy, when it was seen, by which run; of a run that is told twice, the last counts
        (event.details["model"], event.details[what], at, run.name)
        for run, event in {run.name: (run, event) for run, event in told}.values()
        for what, times in (("before", requested), ("after", ended))
        if event.details[what] is not None and (at := times.get(run.name))
    ]
    for run, event in told:
        if event.details["verdict"] not in ("improved", "unchanged"):
            continue
        model, after = event.details["model"], event.details["after"]
        for of_model, accuracy, at, by in seen:
            if of_model == model and accuracy > after and at < run.claimed_at:
                yield f"9. Quality gate: {run.name} passes {model} with {after}, but {by} saw {accuracy}"


_WITH_METRICS = ("completed", "active changed")
"""Ends of runs that may have new metrics."""


# --- Questions to the journal ----------------------------------------------------------------------------


class _Run(NamedTuple):
    """A claim and what became of it."""

    name: str
    entry: str
    whom: str
    claimed_at: float
    asked_at: float  # by the claimer's clock, before the write
    freed_at: float


def _runs(history: History) -> dict[str, _Run]:
    freed = {e.details["run"]: e.time for e in history.journal.of("freed")}
    return {
        (name := e.details["run"]): _Run(
            name, e.details["entry"], e.whom, e.time, e.details["asked_at"], freed.get(name, float("inf"))
        )
        for e in history.journal.of("claimed")
    }


def _requests(history: History) -> list[Event]:
    """The requests of this project."""
    return [e for e in history.journal.of("job requested") if e.details["by"] != "others"]


def _as_of(update: Update, lag: float) -> float:
    """As of when the metrics are to be. A wish's own time counts: it may have been made before a failure."""
    return update.happened_at + (0.0 if update.by_hand else lag)


def _model(history: History, run: str) -> str | None:
    """The model that the run's status checks read."""
    return next((e.whom for e in history.journal.of("checked") if e.details["run"] == run), None)


def _proof(history: History, completed: Event) -> Event | None:
    """The first recompute that proves it: it began after the run's claim, and truly ended.

    If the run's own recompute never shows, one that ended just before the request also counts: the platform's
    times cannot distinguish them, because its clocks may differ.
    """
    run = _runs(history).get(completed.details["run"])
    if run is None:
        return None
    model = _model(history, run.name)
    began = {event.details["job"]: event.time for event in history.journal.of("job began")}
    asked = next((e.time for e in _requests(history) if e.details["by"] == run.name), float("inf"))
    return next(
        (
            done
            for done in history.journal.of("job done")
            if done.whom == model
            and done.time <= completed.time
            and (began[done.details["job"]] >= run.claimed_at or done.time > asked - CLOCK_MARGIN)
        ),
        None,
    )


def _is_current(history: History, covered: Event) -> bool:
    """Whether the run's model was that of its target when its recompute had ended, or later."""
    if not covered.whom.endswith("/active"):
        return True
    proof = _proof(history, covered)
    return proof is not None and _is_active_since(history, covered, proof.time)


def _is_active_since(history: History, covered: Event, time: float) -> bool:
    """Whether the run's model is that of its target: for a job's active model, the active one at that time
    or later; or none was active then, which is not another one."""
    job, _, of_target = covered.whom.partition("/")
    if of_target != "active":
        return True
    model = _model(history, covered.details["run"])
    events = [e for e in history.journal.of("active", "none active") if JOB_OF[e.whom] == job]
    return any(
        (event.whom == model if event.what == "active" else event.time <= covered.time)
        and (following is None or following.time >= time)
        for event, following in zip(events, [*events[1:], None], strict=True)
    )


def _may_be(update: Event, shown: Event) -> bool:
    """Whether the model is the target's or may be its job's active one."""
    job, _, of_target = update.whom.partition("/")
    return shown.whom == of_target or (of_target == "active" and JOB_OF[shown.whom] == job)
