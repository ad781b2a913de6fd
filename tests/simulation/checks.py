"""The guarantees of the design, checked on what truly happened in a history. Times are true times."""

from collections.abc import Iterator

from recompute.timestamps import from_iso
from tests.simulation.journal import Event
from tests.simulation.world import MARGIN, SKEW, History


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
    platform, or by a told failure."""
    claimed = _claims(history)
    for update in history.journal.of("update"):
        after = [
            event
            for event in history.journal.of("covered", "failed told", "dead letter", "caller told")
            if event.model == update.model
            and claimed.get(event.details.get("run", ""), event.time)
            >= (update.details["arrives"] if event.what == "covered" else update.time)
            and (event.what != "caller told" or event.details["of"] is update.details["by"])
        ]
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
    """3. A further run needs an update that the completed one before is not known to cover."""
    claimed = _claims(history)
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
        if not any(u.model == model and since <= u.time <= until for u in history.journal.of("update")):
            yield f"3. Coalescing: {run} covered {model}, and {later[0].details['run']} ran for no new update"


def proven_end(history: History) -> Iterator[str]:
    """4. What is told or noted as completed is a recompute that began after the claim and truly ended."""
    claimed = _claims(history)
    began: dict[str, Event] = {event.details["job"]: event for event in history.journal.of("job began")}
    for event in history.journal.of("completed told", "covered"):
        proof = [
            done
            for done in history.journal.of("job done")
            if done.model == event.model
            and done.time <= event.time
            and began[done.details["job"]].time >= claimed[event.details["run"]]
        ]
        if not proof:
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
