"""Thousands of targets: runs stay within the slots, a look costs little, and an outage loses nothing."""

import json
from collections import Counter
from random import Random

import httpx
import pytest

from tests.simulation.town import DAY, START, Town
from tests.simulation.world import unobserved


def test_a_thousand_targets_stay_within_the_slots_and_all_are_recomputed() -> None:
    targets, slots = 1000, 50
    town = Town(targets=targets, slots=slots, crash_every=20)
    town.send({"models": "all"}, START)
    with unobserved():
        town.play()

    assert len(town.completed) == targets
    assert max(town.completed.values()) == 1
    assert town.most == slots
    assert town.dead_letters == []
    assert town.now - START < 2 * targets / slots * 140  # slots are not left empty for long


def _calls_of_a_look(targets: int, slots: int, free: int) -> Counter[str]:
    """The calls of one look for a number of due targets, slots and free slots."""
    town = Town(targets=targets, slots=slots)
    town.send({"models": "all", "older_than_seconds": 0}, START)
    with unobserved():
        town.play(until=START + 100.0)
        _release(town, free)
        town.calls.clear()
        town.look()
    return town.calls


def _release(town: Town, number: int) -> None:
    """Releases that many runs, without a look."""
    held = [item for item in town.table.items() if "number" in item]
    for item in held[:number]:
        freed = {
            name: value for name, value in item.items() if name not in ("run_id", "number", "due_at", "due")
        }
        request = {
            "TableName": "ledger",
            "Item": {**freed, "rev": {"N": str(int(item["rev"]["N"]) + 1)}},
            "ConditionExpression": "rev = :rev",
            "ExpressionAttributeValues": {":rev": item["rev"]},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        town.table.put(request)


def test_work_of_a_look_is_proportional_to_the_free_slots() -> None:
    calls = {
        (targets, free): _calls_of_a_look(targets, slots=10, free=free)
        for targets in (200, 5000)
        for free in (0, 1, 5, 10)
    }
    for (targets, free), made in calls.items():
        del made["Query for the gauges"]  # of a page for each thousand: once a minute, by the sweep
        shown = ", ".join(f"{number} {what}" for what, number in sorted(made.items()))
        print(f"{targets} targets due, {free} of 10 slots free: {shown}")

    for free in (0, 1, 5, 10):
        assert calls[200, free] == calls[5000, free]
    nothing, one, five = (calls[5000, free] for free in (0, 1, 5))
    assert nothing["PutItem"] == nothing["platform"] == 0
    assert five["StartExecution"] == 5
    assert five.total() - one.total() <= 4 * (one.total() - nothing.total())


def test_sweep_during_an_outage_calls_no_more_where_more_targets_wait() -> None:
    most = {targets: _most_calls_of_a_sweep(targets) for targets in (100, 1000)}
    print(f"calls of a sweep during an outage, by the number of targets that wait: {most}")
    assert most[1000] < 2 * most[100]


def _most_calls_of_a_sweep(targets: int) -> int:
    """The most calls of ten sweeps, an hour after that many targets began to wait."""
    town = Town(targets=targets, slots=10, away=START, back=START + DAY)
    for n in range(targets):
        town.send({"job_id": str(n % 100), "model_id": f"model-{n}"}, START + 0.1 * n)
    most = 0
    with unobserved():
        for minute in range(10):
            town.play(until=START + 3600.0 + 60.0 * minute)
            town.calls.clear()
            town.look()
            most = max(most, town.calls.total())
    return most


def test_after_an_outage_the_updates_that_have_waited_longest_are_recomputed_first() -> None:
    targets, back = 60, START + 4 * 3600
    town = Town(targets=targets, slots=2, away=START, back=back)
    for n in range(targets):
        town.send({"job_id": str(n % 100), "model_id": f"model-{n}"}, START + 60 * n)
    with unobserved():
        town.play(until=back)
        attempts = len(town.claims)
        town.play()

    claimed = dict.fromkeys(model for _, model, _ in town.claims[attempts:])
    places = [int(model.removeprefix("model-")) for model in claimed]
    assert sorted(places) == list(range(targets))
    apart = [abs(place - by_age) for place, by_age in enumerate(places)]
    assert sum(apart) / targets < 4  # 20 would be random order; a few targets back off when the outage ends


class PartlyHanging(Town):
    """A town whose platform answers for some targets only after the client's time-out of 10 seconds."""

    def __init__(self, *, hanging: int, targets: int) -> None:
        self._hanging = hanging
        super().__init__(targets=targets, slots=10)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        model = request.url.params.get("model_id")
        if model and int(model.removeprefix("model-")) < self._hanging:
            self.now += 10.0
            raise httpx.ReadTimeout("no answer")
        return super()._answer(request)


class PartlyBusy(Town):
    """A town whose platform is recomputing some targets for somebody else all the time."""

    def __init__(self, *, busy: int, targets: int, slots: int) -> None:
        self._busy = busy
        self.asked: list[tuple[float, str]] = []
        self.started: list[int] = []
        super().__init__(targets=targets, slots=slots)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        model = request.url.params.get("model_id")
        if model and int(model.removeprefix("model-")) < self._busy:
            self.asked.append((self.now, model))
            shown = {"is_recomputing_metrics": True, "last_recomputed_timestamp": None}
            return httpx.Response(200, json=shown)
        return super()._answer(request)

    def _start(self, name: str, given: str) -> None:
        self.started.append(int(json.loads(given)["run"]["model_id"].removeprefix("model-")))
        super()._start(name, given)


def test_targets_that_keep_failing_change_nothing_in_the_order_of_the_others() -> None:
    busy, targets = 10, 60
    town = PartlyBusy(busy=busy, targets=targets, slots=2)
    for number in range(targets):
        at = START + (number if number < busy else 30.0 * number)
        town.send({"job_id": str(number % 100), "model_id": f"model-{number}"}, at)
    with unobserved():
        town.play(until=START + 2 * 3600.0)
    assert town.started == list(range(busy, targets))


def test_look_tries_a_target_once_though_several_in_a_row_fail() -> None:
    town = PartlyBusy(busy=6, targets=6, slots=10)
    for number in range(6):
        town.send({"job_id": str(number), "model_id": f"model-{number}"}, START)
    with unobserved():
        town.play(until=START + 1.0)
    assert sorted(model for _, model in town.asked) == [f"model-{number}" for number in range(6)]


def test_targets_for_which_the_platform_hangs_do_not_starve_the_others() -> None:
    hanging, healthy = 40, 5
    town = PartlyHanging(hanging=hanging, targets=hanging + healthy)
    for number in range(hanging + healthy):
        at = START if number < hanging else START + 600.0
        town.send({"job_id": str(number % 100), "model_id": f"model-{number}"}, at)
    with unobserved():
        town.play(until=START + 6 * 3600.0)
    assert town.completed.keys() == {f"model-{number}" for number in range(hanging, hanging + healthy)}


@pytest.mark.long
def test_week_without_the_platform_loses_no_update() -> None:
    targets, slots, back = 100, 10, START + 7 * DAY
    town = Town(targets=targets, slots=slots, away=START, back=back)
    updates = Random(2)
    for _ in range(1000):
        n = updates.randrange(targets)
        town.send({"job_id": str(n % 100), "model_id": f"model-{n}"}, START + updates.uniform(0, 7 * DAY))
    with unobserved():
        town.play(until=back)
        due = {item["model_id"]["S"] for item in town.table.due("9", None, None)}
        assert not town.completed
        town.judge_order()
        town.play()

    assert town.dead_letters == []
    assert set(town.completed) == due
    assert max(town.completed.values()) == 1
    assert town.most == slots
    assert town.overtaken == []
    first = [claim[0] - back for claim in town.claims if claim[0] >= back]
    attempts = len(town.claims) - len(first)
    print(
        f"{len(due)} targets: {attempts:,} attempts while the platform was away, the first {first[0]:.0f} s"
    )
    print(f"after it was back, the last run begun {first[-1]:.0f} s after, with {slots} slots")
