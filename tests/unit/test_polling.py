"""The poll-interval policy: its bounds, what it learns, and how it compares with fixed intervals."""

import itertools
import math
import random
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcanna_metrics.runs import polling
from arcanna_metrics.runs.polling import PRICE
from tests.tools.benchmarks import known_family
from tests.tools.benchmarks import polling as benchmark
from tests.tools.benchmarks.durations import LogNormal, Shape, Steady, Straggling, TwoKinds

HOUR, DAY = 3600.0, 86400.0

next_wait = partial(polling.next_wait, shortest=5.0, longest=900.0)

durations = st.floats(0.0, 2 * DAY)
histories = st.lists(durations, max_size=10)


def schedule(history: Sequence[float], duration: float) -> list[int]:
    """The times of a run's checks, in seconds, up to the one that sees its end."""
    times, elapsed = [], 0
    while elapsed < duration:
        elapsed += next_wait(elapsed, history)
        times.append(elapsed)
    return times


@given(durations, histories, st.integers(1, 60), st.integers(0, 900))
def test_waits_are_whole_seconds_within_the_bounds(
    elapsed: float, history: list[float], shortest: int, more: int
) -> None:
    wait = next_wait(elapsed, history, shortest=shortest, longest=shortest + more)
    assert isinstance(wait, int)
    assert shortest <= wait <= shortest + more


@given(durations, histories.flatmap(lambda history: st.tuples(st.just(history), st.permutations(history))))
def test_order_of_the_history_does_not_matter(
    elapsed: float, orders: tuple[list[float], list[float]]
) -> None:
    history, other = orders
    # The order changes the last digit of a sum of floats, and so may change a comparison.
    assert abs(next_wait(elapsed, history) - next_wait(elapsed, other)) <= 1


@settings(max_examples=10)
@given(st.floats(10.0, DAY))
def test_run_without_history_has_bounded_checks_and_lag(duration: float) -> None:
    """The chance that it ends falls with the elapsed time, so waits and checks grow with its square root."""
    times = schedule([], duration)
    assert len(times) <= 3 + 0.9 * math.sqrt(duration)
    assert times[-1] - duration <= 60.0 + 3.0 * math.sqrt(duration)


@settings(max_examples=5)
@given(histories)
def test_day_long_run_stays_far_below_the_event_limit(history: list[float]) -> None:
    """Nine events a check, 25,000 events an execution."""
    assert len(schedule(history, DAY)) < 1000


@settings(max_examples=10)
@given(st.floats(60.0, HOUR), st.floats(0.95, 1.05))
def test_steady_model_is_rarely_checked_before_its_usual_end(usual: float, factor: float) -> None:
    times = schedule([usual * (0.97 + 0.02 * (number % 4)) for number in range(10)], usual * factor)
    assert len([time for time in times if time < 0.7 * usual]) <= 3
    assert times[-1] - usual * factor <= 90.0


@given(histories, st.sampled_from([0.5, 0.2, 0.1]))
def test_cheaper_checks_come_no_later(history: list[float], part: float) -> None:
    assert next_wait(0.0, history, price=PRICE * part) <= next_wait(0.0, history)


@settings(max_examples=10)
@given(st.floats(300.0, 3000.0))
def test_varied_history_brings_the_first_check_forward(usual: float) -> None:
    alike = [usual * (0.97 + 0.006 * number) for number in range(10)]
    unlike = [usual * 1.4 ** (number - 5) for number in range(10)]
    assert schedule(unlike, usual)[0] < schedule(alike, usual)[0]


@settings(max_examples=20)
@given(st.floats(60.0, 900.0), st.floats(1.0, DAY))
def test_one_outlier_in_the_history_changes_little(usual: float, outlier: float) -> None:
    steady = [usual] * 9
    clean, spoilt = schedule(steady, usual), schedule([*steady, outlier], usual)
    assert len(spoilt) <= len(clean) + 3
    assert spoilt[-1] - usual <= max(30.0, 0.05 * usual)


@pytest.mark.parametrize(("before", "after"), [(90.0, 600.0), (600.0, 90.0)])
def test_changed_duration_is_learned_after_five_runs(before: float, after: float) -> None:
    changed = [before] * 5 + [after] * 5
    known = schedule([after] * 10, after)
    times = schedule(changed, after)
    assert len(times) <= len(known) + 3
    assert times[-1] - after <= 20.0


def test_checks_cluster_at_both_usual_durations() -> None:
    times = schedule([60.0] * 5 + [1200.0] * 5, 1200.0)
    assert 55 <= times[0] <= 80
    assert len([time for time in times if 100 < time < 900]) <= 1


@pytest.mark.parametrize("usual", [60.0, 120.0])
def test_next_slow_run_is_checked_before_it_takes_as_long_as_a_lone_one(usual: float) -> None:
    steady = [usual * (0.95 + 0.0125 * number) for number in range(9)]
    times = schedule([*steady, 10 * usual], 3 * usual)
    assert times[-1] <= 9 * usual


def test_several_similar_slow_runs_delay_the_checks_before_their_usual_end() -> None:
    usual = [300.0 * (0.95 + 0.0125 * number) for number in range(7)]
    times = schedule([*usual, 2800.0, 3000.0, 3100.0], 3000.0)
    lone = schedule([*usual, 300.0, 300.0, 3000.0], 3000.0)
    assert len(times) < len(lone)


@pytest.mark.parametrize(
    "shape", [LogNormal(0.15), TwoKinds(0.12, math.log(6), 0.3), Straggling(0.15, 0.1, 1.2)], ids=repr
)
def test_drawn_durations_have_the_calculated_survival_and_density(shape: Shape) -> None:
    rng = random.Random(1)
    drawn = sorted(shape.draw(rng) for _ in range(10_000))
    for part in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        z = drawn[int(part * len(drawn))]
        assert shape.survival(z) == pytest.approx(1 - part, abs=0.02)
        density = (shape.survival(z - 1e-5) - shape.survival(z + 1e-5)) / 2e-5
        middle = (shape.survival(-1e-5) - shape.survival(1e-5)) / 2e-5
        assert shape.likelihood([z]) - shape.likelihood([0.0]) == pytest.approx(math.log(density / middle))


def test_estimate_within_a_known_family_is_close_to_past_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_family, "DRAWS", 5_000)
    rng, times = random.Random(1), [0.0, 50.0, 100.0, 200.0, 400.0, 800.0]
    past = Steady(100.0, LogNormal(0.1)).draw(rng, 10)
    slower = past[:7] + [6 * duration for duration in past[7:]]

    for family in (LogNormal, TwoKinds, Straggling):
        survival = known_family.expected(family, past, times, rng)
        assert survival == sorted(survival, reverse=True)
        assert survival[0] == pytest.approx(1.0)
        assert survival[1] > 0.99
        assert 0.3 < survival[2] < 0.7
        assert survival[3] < 0.1
    kinds = known_family.expected(TwoKinds, slower, times, rng)
    assert 0.2 < kinds[4] < 0.45
    assert kinds[5] < 0.01 < known_family.expected(Straggling, slower, times, rng)[5]


def test_optimal_schedule_is_the_cheapest_of_all_schedules() -> None:
    """Tries all schedules of a small world."""
    times = [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0]
    alive = [1.0, 0.9, 0.85, 0.4, 0.35, 0.3, 0.05, 0.0]

    def cost(schedule: Sequence[float], price: float) -> float:
        waits = itertools.pairwise([0.0, *schedule])
        return sum(alive[times.index(time)] * (price + later - time) for time, later in waits)

    ways = [
        [*way, times[-1]]
        for number in range(len(times))
        for way in itertools.combinations(times[1:-1], number)
        if all(later - time >= benchmark.SHORTEST for time, later in itertools.pairwise([0.0, *way]))
    ]
    for price in (0.5, 1.0, 2.0, 5.0, 20.0):
        schedule = benchmark.optimal_schedule(times, alive, price)
        assert list(schedule) in ways
        assert cost(schedule, price) == pytest.approx(min(cost(way, price) for way in ways))


def test_expected_checks_and_lag_equal_the_means_of_many_runs() -> None:
    distribution = Steady(100.0, LogNormal(0.2))
    future = benchmark.Future(distribution)
    schedule = [60.0, 90.0, 100.0, 120.0, 150.0, future.longest]
    runs = [benchmark.Run(duration, []) for duration in distribution.draw(random.Random(1), 20_000)]

    checks, lag = benchmark.mean(benchmark.scheduled(schedule, runs))
    expected_checks, expected_lag = future.of(schedule)
    assert checks == pytest.approx(expected_checks, rel=0.02)
    assert lag == pytest.approx(expected_lag, rel=0.02)
