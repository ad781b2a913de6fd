"""Slots limit concurrent runs, whatever crashes. Runs never have to return them."""

from dataclasses import replace

import pytest

from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.slots import Taker, Vacancy
from arcanna_metrics.targets import Target
from tests.unit.scene import Scene

TARGETS = [Target("1", f"model-{number}") for number in range(9)]


def claimed(scene: Scene, number: int, run_id: str | None = None) -> Taker:
    """A run that has claimed the target of that number."""
    run_id = run_id or f"run-{number}"
    scene.ledger.apply(TARGETS[number], lambda entry: replace(entry, run_id=run_id, due_at=1.0))
    return Taker(run_id, TARGETS[number])


def release(scene: Scene, number: int) -> None:
    scene.ledger.apply(TARGETS[number], lambda entry: replace(entry, run_id=None))


def test_slots_are_taken_until_none_is_left(scene: Scene) -> None:
    assert [scene.slots.take(2, claimed(scene, number)) for number in range(3)] == [True, True, False]


def test_slot_of_a_released_run_is_taken_by_the_next_one(scene: Scene) -> None:
    assert scene.slots.take(1, claimed(scene, 0))
    release(scene, 0)
    assert scene.slots.take(1, claimed(scene, 1))
    assert not scene.slots.take(1, claimed(scene, 2))


def test_slot_is_free_when_another_run_has_claimed_the_target(scene: Scene) -> None:
    assert scene.slots.take(1, claimed(scene, 0))
    assert scene.slots.take(1, claimed(scene, 0, "run-of-its-own"))


def test_claim_without_a_slot_leaves_the_taken_slots_alone(scene: Scene) -> None:
    assert scene.slots.take(1, claimed(scene, 0))
    claimed(scene, 1)
    assert scene.slots.glance(1).free == 0


def test_glance_takes_nothing(scene: Scene) -> None:
    scene.slots.take(3, claimed(scene, 0))
    assert scene.slots.glance(3) == scene.slots.glance(3) == Vacancy(2)


def test_glance_at_full_slots_shows_the_entries_that_hold_them(scene: Scene) -> None:
    scene.slots.take(2, claimed(scene, 0))
    scene.slots.take(2, claimed(scene, 1))
    release(scene, 1)
    vacancy = scene.slots.glance(2)

    assert vacancy.free == 1
    assert [entry.target for entry in vacancy.taken_by] == [TARGETS[0]]


def test_lowered_limit_grants_no_slot_until_runs_have_ended(scene: Scene) -> None:
    for number in range(3):
        scene.slots.take(3, claimed(scene, number))
    assert not scene.slots.take(1, claimed(scene, 3))
    for number in range(3):
        release(scene, number)
    assert scene.slots.take(1, claimed(scene, 3))


def test_unreadable_entry_counts_as_holding_its_slot(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.slots.take(1, claimed(scene, 0))
    release(scene, 0)

    def reads_nothing(targets: list[Target]) -> dict[Target, Entry]:
        return {}

    monkeypatch.setattr(scene.ledger, "read_all", reads_nothing)
    assert scene.slots.glance(1).free == 0
    assert not scene.slots.take(1, claimed(scene, 1))


def test_former_holders_are_removed_from_the_item(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcanna_metrics.protocol.slots.MOST_UNREAD", 5)
    for number in range(10):
        target = Target("я" * 120, f"model-{number}")
        scene.ledger.apply(target, lambda entry: replace(entry, run_id="run", due_at=1.0))
        assert scene.slots.take(1000, Taker("run", target))
        scene.ledger.apply(target, lambda entry: replace(entry, run_id=None))
    assert scene.slots.glance(1000).free >= 1000 - 5


def test_one_of_two_concurrent_runs_gets_the_last_slot(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = claimed(scene, 0), claimed(scene, 1)
    taken = []
    swap = scene.slots._swap  # noqa: SLF001  # the moment between reading and writing

    def swap_after_the_other(rev: int, takers: list[Taker]) -> bool:
        monkeypatch.setattr(scene.slots, "_swap", swap)
        taken.append(scene.slots.take(1, second))
        return swap(rev, takers)

    monkeypatch.setattr(scene.slots, "_swap", swap_after_the_other)
    taken.append(scene.slots.take(1, first))
    assert taken == [True, False]
