"""The guarantees of the design, checked on what truly happened in a history. Times are true times."""

from collections.abc import Iterator

from arcanna_metrics.intake.events import RunEnded, read_json
from arcanna_metrics.times import from_iso
from tests.simulation.journal import Event
from tests.simulation.stimuli import JOB_OF
from tests.simulation.world import INVOCATION, MARGIN, SKEW, History


def violations(history: History) -> list[str]:
    """Every guarantee that the history breaks, in words."""
    return [
        violation
        for check in (
            no_lost_update,
            single_flight,
            coalescing,
            proven_end,
            nothing_dropped,
            no_more_than_allowed,
        )
        for violation in check(history)
    ]


def no_lost_update(history: History) -> Iterator[str]:
    """1. Every update is followed by a completed run that was claimed after its data had arrived at the
    platform, or by a told failure. For one that follows a job's active model, only such a run counts whose
    model was the active one when its recompute had ended, or later."""
    claimed = _claims(history)

    def counts(event: Event, update: Event) -> bool:
        if not _concerns(event, update):
            return False
        since = claimed.get(event.details.get("run", ""), event.time)
        match event.what:
            case "covered":
                active = event.model == update.model or _is_active(
                    history, event.model, _proof(history, event)
                )
                return since >= update.details["arrives"] and active
            case "caller told":
                return event.details["of"] is update.details["by"]
            case "dead letter":
                return _latest(event) >= update.time - SKEW - 1  # whole seconds, by whatever clock
        return since >= update.time

    for update in history.journal.of("update"):
        if update.details.get("if_stale"):
            continue  # nothing has changed: whether its model is stale depends on clocks that differ by far
        ends = history.journal.of("covered", "failed told", "dead letter", "caller told")
        after = [event for event in ends if counts(event, update)]
        if not after:
            yield f"1. No lost update: nothing became of {update.details['by']} of {update.model}"


def single_flight(history: History) -> Iterator[str]:
    """2. While a run holds its model, no other run does."""
    holding: dict[str, set[str]] = {}
    for event in history.journal.of("held", "released", "execution ended"):
        holders = holding.setdefault(event.model, set())
        run = event.details["run"]
        if event.what == "held":
            if others := holders - {run}:
                yield f"2. Single flight: {run} holds {event.model} while {min(others)} does"
            holders.add(run)
        else:
            holders.discard(run)


def coalescing(history: History) -> Iterator[str]:
    """3. A further run needs an update that the completed one before is not known to cover. A claim that was
    never heard of again counts as one, up to its end: for all that is known, it was for something new."""
    claimed = _claims(history)
    accounted_for = {event.details["run"] for event in history.journal.of("held", "given back")}
    abandoned = [e for e in history.journal.of("claimed") if e.details["run"] not in accounted_for]
    reasons = [(update, update.time) for update in history.journal.of("update")]
    reasons += [(claim, claim.time + INVOCATION) for claim in abandoned]
    for completed in history.journal.of("covered"):
        run, model = completed.details["run"], completed.model
        later = [
            event
            for event in history.journal.of("held")
            if event.model == model and claimed[event.details["run"]] > completed.time
        ]
        if not later:
            continue
        since = from_iso(completed.details["until"]) - MARGIN - SKEW  # by whatever clock the update came with
        until = claimed[later[0].details["run"]]
        # An update of the job's other model counts too: its run may have followed the active one.
        if not any(
            event.time <= until and end >= since for event, end in reasons if _job(event.model) == _job(model)
        ):
            yield f"3. Coalescing: {run} covered {model}, and {later[0].details['run']} ran for no new update"


def proven_end(history: History) -> Iterator[str]:
    """4. What is told or noted as completed is a recompute that began after the claim and truly ended."""
    for event in history.journal.of("completed told", "covered"):
        if _proof(history, event) is None:
            yield f"4. Proven end: {event.details['run']} of {event.model} counts as completed without proof"


def nothing_dropped(history: History) -> Iterator[str]:
    """5. What cannot be used is in the dead-letter queue, with its reason."""
    dead = {event.details["body"] for event in history.journal.of("dead letter") if event.details["reason"]}
    for garbage in history.journal.of("garbage"):
        if str(garbage.details["body"]) not in dead:
            yield f"5. Nothing is dropped: {garbage.details['body']} is not in the dead-letter queue"


def no_more_than_allowed(history: History) -> Iterator[str]:
    """6. No more runs hold their models at once than there are places."""
    holding: set[str] = set()
    for event in history.journal.of("held", "released", "execution ended"):
        run = event.details["run"]
        if event.what != "held":
            holding.discard(run)
            continue
        holding.add(run)
        if history.places and len(holding) > history.places:
            yield f"6. Places: {', '.join(sorted(holding))} hold their models at once"


def _claims(history: History) -> dict[str, float]:
    return {event.details["run"]: event.time for event in history.journal.of("claimed")}


def _proof(history: History, completed: Event) -> Event | None:
    """The first recompute that proves it: it began after the run's claim, and truly ended."""
    claimed = _claims(history)[completed.details["run"]]
    began = {event.details["job"]: event.time for event in history.journal.of("job began")}
    return next(
        (
            done
            for done in history.journal.of("job done")
            if done.model == completed.model
            and done.time <= completed.time
            and began[done.details["job"]] >= claimed
        ),
        None,
    )


def _latest(dead_letter: Event) -> float:
    """When the last update happened that a dead letter is for."""
    occurrences = read_json(dead_letter.details["body"], dead_letter.time)
    for_all = any(isinstance(each, RunEnded) or getattr(each, "waker", False) for each in occurrences)
    return dead_letter.time if for_all else max(getattr(each, "happened_at", 0.0) for each in occurrences)


def _is_active(history: History, model: str, since: Event | None) -> bool:
    """Whether the model was its job's active one then, or later."""
    if since is None:
        return False
    trained = [event for event in history.journal.of("active") if _job(event.model) == _job(model)]
    return any(
        event.model == model and (following is None or following.time >= since.time)
        for event, following in zip(trained, [*trained[1:], None], strict=True)
    )


def _concerns(event: Event, update: Event) -> bool:
    """Whether it happened to the update's model, or to one of a job whose active one the update follows."""
    return update.model in (event.model, _job(event.model))


def _job(model: str) -> str:
    return f"job {JOB_OF[model]}" if model in JOB_OF else model
