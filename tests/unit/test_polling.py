"""The poll-interval policy: its bounds, what it learns, and how it compares with fixed intervals."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcanna_metrics.runs.polling import next_wait
from tests.tools.benchmarks import polling as benchmark

HOUR, DAY = 3600.0, 86400.0

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
    # Sums of floats depend on the order in their last digit, which may tip a comparison.
    assert abs(next_wait(elapsed, history) - next_wait(elapsed, other)) <= 1


@settings(max_examples=10)
@given(st.floats(10.0, DAY))
def test_run_without_history_has_bounded_checks_and_lag(duration: float) -> None:
    """Waits of 18 s and more, soon of 34 s and more, and after half an hour of 1/40 of the elapsed time."""
    first = min(duration, HOUR / 2) / 34
    then = 40 * math.log(max(2 * duration / HOUR, 1.0)) + duration / 900
    times = schedule([], duration)
    assert len(times) <= 4 + first + then
    assert times[-1] - duration <= max(45.0, duration / 36)


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
    assert times[-1] - usual * factor <= 60.0


@settings(max_examples=10)
@given(st.floats(60.0, 600.0), st.floats(0.8, 1.0))
def test_early_end_is_noticed_before_the_usual_time(usual: float, factor: float) -> None:
    history = [usual * (0.8 + 0.4 * number / 9) for number in range(10)]
    assert schedule(history, usual * factor)[-1] <= 1.25 * usual * factor + 5.0


@settings(max_examples=20)
@given(st.floats(60.0, 900.0), st.floats(1.0, DAY))
def test_one_outlier_in_the_history_changes_little(usual: float, outlier: float) -> None:
    steady = [usual] * 9
    clean, spoilt = schedule(steady, usual), schedule([*steady, outlier], usual)
    assert len(spoilt) <= len(clean) + 3
    assert spoilt[-1] - usual <= 30.0


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


def test_policy_beats_fixed_intervals_in_checks_and_lag() -> None:
    for result in benchmark.measure(workloads=("short", "mixed"), replications=2).values():
        policies = result["policies"]
        ours = policies[benchmark.OURS]
        assert ours["checks"] < policies["fixed 60 s"]["checks"]
        assert ours["lag"] < policies["fixed 30 s"]["lag"]
        assert ours["relative_lag_p95"] < 0.28
        assert ours["lag_by_optimum"] < 1.4
