"""Updates during an outage of the platform, slots of dead runs, and spacing.

No update is lost: there are no dead letters, gauges report the outage, and afterwards all models are
recomputed, longest waiting first, with no more recomputes at once than slots.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.times import from_iso
from tests.e2e.alone import alone, own_installation
from tests.e2e.scene import JOB, JOB_NAME, MODELS, Scene, dead_letters, emitted, sweep
from tests.e2e.steps import KILLED_AFTER, SLOT
from tests.support.arcanna.alerts import InMemoryAlerts
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import Behaviour, Job, Recompute
from tests.support.arcanna.server import ArcannaServer
from tests.support.installation import Installation
from tests.support.waiting import eventually

SLOTS, SPACING, WAITING = 2, 5, 5
"""Concurrent runs, seconds between two runs of a model, and models that wait for the platform."""

PACE = {"slots": SLOTS, "spacing_seconds": SPACING}
AWAY = Fault("any", times=None, drop="close")


@dataclass(frozen=True)
class Seen:
    """What was observed."""

    between_runs: float  # seconds between two runs of a model that was updated twice
    fresh_after_deaths: bool  # models whose slots were held by dead runs
    letters: list[tuple[str, str]]  # while the platform was away
    posts: int  # while the platform was away
    most_due: float  # the largest values of the gauges
    oldest: float
    due: list[str]  # models, the longest due first, when the platform came back
    started: list[str]  # in the order of their recomputes
    at_once: int  # the most recomputes at once
    fresh: bool


def _observe() -> Seen:
    jobs = {JOB: Job(JOB_NAME, MODELS[: 5 + WAITING])}
    platform = ArcannaServer(jobs, InMemoryAlerts(), behaviour=Behaviour(duration=1.0))
    with platform as arcanna, own_installation("outages", arcanna, pace=PACE, minute=None) as here:
        scenes = [Scene(here, model) for model in MODELS[: 5 + WAITING]]
        between_runs = _space(scenes[0])
        fresh_after_deaths = _die_with_the_slots(scenes[1:3], scenes[3:5])
        waiting = scenes[5:]
        arcanna.add_fault(AWAY)
        for scene in waiting:
            scene.request()
        _sweep_until(here, "attempts", lambda: _attempts(waiting) >= 2 * len(waiting))
        _sweep_until(here, "a gauge", lambda: max(emitted(here, "OldestUpdateAge")) >= 1)
        letters, posts = dead_letters(here), sum(len(scene.posts()) for scene in waiting)
        due = sorted(_all_due(waiting), key=lambda entry: entry.waiting.since or 0.0)
        arcanna.remove_fault(AWAY)
        _sweep_until(here, "fresh metrics of all", lambda: all(map(_is_fresh, waiting)))
        recomputes = [recompute for scene in waiting for recompute in scene.recomputes()]
        return Seen(
            between_runs,
            fresh_after_deaths,
            letters,
            posts,
            most_due=max(emitted(here, "TargetsDue")),
            oldest=max(emitted(here, "OldestUpdateAge")),
            due=[each.target.model_id or "" for each in due],
            started=[r.model_id for r in sorted(recomputes, key=lambda r: r.asks[0].at)],
            at_once=_most_at_once(recomputes),
            fresh=all(map(_is_fresh, waiting)),
        )


def _space(scene: Scene) -> float:
    """Updates a model twice. Returns the seconds between the starts of its runs."""
    for count in (1, 2):
        scene.invoke()
        _sweep_until(scene.here, "the run", lambda n=count: len(scene.entry().history) == n)  # type: ignore[misc]
    first, second = (from_iso(past["requested_at"]) for past in scene.entry().history)
    return second - first


def _die_with_the_slots(dying: list[Scene], others: list[Scene]) -> bool:
    """Whether all models become fresh although dead runs hold all slots."""
    for scene in dying:
        fault = SLOT.meets(KILLED_AFTER, scene)
        scene.try_to_invoke()
        eventually("its death", lambda f=fault: f.hits)  # type: ignore[misc]
    for scene in others:
        scene.invoke()
        assert scene.posts() == [], "there was a slot"
    for scene in dying:
        scene.let_claim_expire()
    _sweep_until(others[0].here, "fresh metrics", lambda: all(map(_is_fresh, [*dying, *others])))
    return all(map(_is_fresh, [*dying, *others]))


def _all_due(scenes: list[Scene]) -> list[Entry]:
    """The due targets, once the queue is empty and every backoff is over."""
    here = scenes[0].here
    eventually("an empty queue", lambda: not here.cloud.messages("UpdatesQueue"))

    def listed() -> list[Entry]:
        due = scenes[0].ledger.waiting_or_running()
        return due if all((each.due_at or 0.0) < time.time() for each in due) else []

    return eventually("all to be due", listed)


def _sweep_until(here: Installation, what: str, look: Callable[[], bool]) -> None:
    def swept() -> bool:
        if look():
            return True
        if not here.cloud.messages("UpdatesQueue"):
            sweep(here)
        return False

    eventually(what, swept)


def _attempts(scenes: Sequence[Scene]) -> int:
    """All attempts so far. A look ends after a few failures in a row, so some targets are not tried again."""
    return sum(len(scene.requests("metrics")) for scene in scenes)


def _is_fresh(scene: Scene) -> bool:
    entry = scene.entry()
    return entry.due_at is None and entry.fresh_as_of > scene.updated_at


def _most_at_once(recomputes: list[Recompute]) -> int:
    begun = [(r.asks[0].at, r.finished_at or time.time()) for r in recomputes]
    return max(sum(start <= at < end for start, end in begun) for at, _ in begun)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return alone(_observe)


def test_two_runs_of_a_model_are_spaced(seen: Seen) -> None:
    assert seen.between_runs >= SPACING


def test_slots_of_dead_runs_become_free(seen: Seen) -> None:
    assert seen.fresh_after_deaths


def test_updates_wait_and_gauges_rise_during_an_outage(seen: Seen) -> None:
    assert seen.letters == []
    assert seen.posts == 0
    assert seen.most_due > 1
    assert seen.oldest >= 1


def test_everything_is_recomputed_within_the_slots_after_an_outage(seen: Seen) -> None:
    assert seen.fresh
    assert sorted(seen.started) == sorted(seen.due)
    assert len(seen.due) == WAITING
    assert seen.at_once <= SLOTS


def test_longest_waiting_is_recomputed_first_after_an_outage(seen: Seen) -> None:
    # Two slots that become free at once may be taken in either order.
    places = [abs(seen.started.index(model) - place) for place, model in enumerate(seen.due)]
    assert max(places) < SLOTS
