"""A run counts as completed only when the platform's own data proves it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arcanna_metrics.runs.completion import is_from_before, is_newer, judge

BASELINE = "2025-01-15T14:00:00Z"
REQUESTED = "2025-01-15T14:10:00Z"
OF_ANOTHER = "2025-01-15T14:09:59Z"
LATER = "2025-01-15T14:30:00Z"
RULES = {"start_grace": 600.0, "confirmation": 60.0, "deadline": 3600.0}

seconds = st.floats(0, 1e6)
offsets = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
texts = st.none() | st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.text()
looks = st.fixed_dictionaries(
    {
        "baseline": texts,
        "requested_at": texts,
        "timestamp": texts,
        "recomputing": st.booleans(),
        "seen_recomputing": st.booleans(),
        "idle_for": st.none() | seconds,
        "elapsed": seconds,
        "start_grace": seconds,
        "confirmation": seconds,
        "deadline": seconds,
    }
)


@pytest.mark.parametrize(
    ("timestamp", "recomputing", "seen_recomputing", "idle_for", "elapsed", "expected"),
    [
        # Idle, as before: queued, until the grace period is over.
        (BASELINE, False, False, None, 0.0, ("running", "running")),
        (BASELINE, False, False, None, 599.9, ("running", "running")),
        (BASELINE, False, False, None, 600.0, ("failed", "NeverStarted")),
        # Recomputing.
        (BASELINE, True, False, None, 10.0, ("running", "running")),
        (BASELINE, True, True, None, 700.0, ("running", "running")),
        (BASELINE, True, True, None, 3600.0, ("timed_out", "DeadlinePassed")),
        # Done: the timestamp moved on, whether or not anybody saw the flag up.
        (LATER, False, True, 0.0, 300.0, ("completed", "completed")),
        (LATER, False, False, None, 1.0, ("completed", "completed")),
        (LATER, False, False, None, 9999.0, ("completed", "completed")),
        # The timestamp moved on before the flag fell.
        (LATER, True, True, None, 300.0, ("running", "running")),
        (LATER, True, False, None, 9999.0, ("timed_out", "DeadlinePassed")),
        # The flag fell and the timestamp did not move: perhaps it lags, in the end it failed.
        (BASELINE, False, True, 0.0, 300.0, ("running", "running")),
        (BASELINE, False, True, 59.9, 360.0, ("running", "running")),
        (BASELINE, False, True, 60.0, 360.0, ("failed", "NoNewResult")),
        (None, False, True, 60.0, 360.0, ("failed", "NoNewResult")),
        # The timestamp moved on, but to a time before the request: it is of somebody else's recompute.
        (OF_ANOTHER, False, False, None, 0.0, ("running", "running")),
        (OF_ANOTHER, False, False, None, 600.0, ("failed", "NeverStarted")),
        (OF_ANOTHER, True, False, None, 700.0, ("running", "running")),
        (OF_ANOTHER, True, True, None, 3600.0, ("timed_out", "DeadlinePassed")),
        (OF_ANOTHER, False, True, 59.9, 360.0, ("running", "running")),
        (OF_ANOTHER, False, True, 60.0, 360.0, ("failed", "NoNewResult")),
    ],
)
def test_what_a_look_means(
    timestamp: str | None,
    recomputing: bool,
    seen_recomputing: bool,
    idle_for: float | None,
    elapsed: float,
    expected: tuple[str, str],
) -> None:
    judgement = judge(
        baseline=BASELINE,
        requested_at=REQUESTED,
        timestamp=timestamp,
        recomputing=recomputing,
        seen_recomputing=seen_recomputing,
        idle_for=idle_for,
        elapsed=elapsed,
        **RULES,
    )
    assert (judgement.status, judgement.reason) == expected
    assert judgement.detail


@given(looks)
def test_completed_exactly_when_idle_with_a_newer_timestamp(look: dict[str, Any]) -> None:
    moved_on = is_newer(look["timestamp"], look["baseline"])
    proven = not look["recomputing"] and moved_on
    proven = proven and not is_from_before(look["timestamp"], look["requested_at"])
    assert (judge(**look).status == "completed") == proven


@given(
    baseline=texts,
    requested_at=texts,
    elapsed=st.lists(seconds, min_size=1),
    rules=st.tuples(seconds, seconds, seconds),
)
def test_a_recompute_that_stays_queued_is_never_completed(
    baseline: str | None, requested_at: str | None, elapsed: list[float], rules: tuple[float, float, float]
) -> None:
    start_grace, confirmation, deadline = rules
    for seconds_since in sorted(elapsed):
        judgement = judge(
            baseline=baseline,
            requested_at=requested_at,
            timestamp=baseline,
            recomputing=False,
            seen_recomputing=False,
            idle_for=None,
            elapsed=seconds_since,
            start_grace=start_grace,
            confirmation=confirmation,
            deadline=deadline,
        )
        assert judgement.status != "completed"
        assert (judgement.status == "running") == (seconds_since < min(start_grace, deadline))


@given(looks)
def test_a_run_never_fails_while_the_platform_recomputes(look: dict[str, Any]) -> None:
    assert judge(**{**look, "recomputing": True}).status in ("running", "timed_out")


@given(looks)
def test_no_run_goes_on_past_its_deadline(look: dict[str, Any]) -> None:
    assert judge(**{**look, "elapsed": look["deadline"]}).status != "running"


@given(
    st.datetimes(),
    st.sampled_from([lambda t: t + "Z", lambda t: t + "+00:00", lambda t: t, lambda t: t + ".000Z"]),
    st.sampled_from([lambda t: t + "Z", lambda t: t + "+00:00", lambda t: t, lambda t: t + ".000000Z"]),
)
def test_the_same_moment_written_differently_is_not_newer(
    moment: Any, one: Callable[[str], str], other: Callable[[str], str]
) -> None:
    text = moment.replace(microsecond=0).isoformat()
    assert not is_newer(one(text), other(text))


@pytest.mark.parametrize(
    ("timestamp", "baseline", "newer"),
    [
        (None, None, False),
        (None, BASELINE, False),
        (BASELINE, None, True),
        (LATER, BASELINE, True),
        ("2025-01-15T14:00:00.000001Z", BASELINE, True),
        ("2025-01-15T15:30:00+01:00", BASELINE, True),
        ("2025-01-15T15:00:00+01:00", BASELINE, False),
        ("a week ago", "a week ago", False),
        ("just now", "a week ago", True),
        (BASELINE, "a week ago", True),
    ],
)
def test_whether_a_timestamp_is_newer(timestamp: str | None, baseline: str | None, newer: bool) -> None:
    assert is_newer(timestamp, baseline) is newer


moments = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001  # the offset is drawn


@given(moments, moments)
def test_times_that_name_their_offset_are_compared_as_moments(ended: datetime, asked: datetime) -> None:
    assume(ended.microsecond)
    assert is_from_before(ended.isoformat(), asked.isoformat()) == (ended < asked)


@given(moments, moments.map(lambda moment: moment.astimezone(UTC)))
def test_a_timestamp_of_whole_seconds_is_compared_by_whole_seconds(ended: datetime, asked: datetime) -> None:
    """The platform cuts what is finer: a recompute may end in the second in which it was asked for."""
    cut = ended.replace(microsecond=0)
    assert is_from_before(cut.isoformat(), asked.isoformat()) == (cut < asked.replace(microsecond=0))


@given(texts, texts)
def test_no_metrics_are_from_before_their_own_request(timestamp: str | None, other: str | None) -> None:
    assert not is_from_before(timestamp, timestamp)
    assert not (is_from_before(timestamp, other) and is_from_before(other, timestamp))


@pytest.mark.parametrize(
    ("timestamp", "requested_at", "before"),
    [
        ("2025-01-15T14:09:59Z", REQUESTED, True),
        ("2025-01-15T14:10:00Z", REQUESTED, False),
        ("2025-01-15T14:09:59.999999Z", REQUESTED, True),
        ("2025-01-15T15:09:59+01:00", REQUESTED, True),
        ("2025-01-15T13:30:00-01:00", REQUESTED, False),
        # A fraction that the timestamp does not show is not held against it.
        ("2025-01-15T14:10:00Z", "2025-01-15T14:10:00.900Z", False),
        ("2025-01-15T14:10:00.100Z", "2025-01-15T14:10:00.900Z", True),
        ("2025-01-15T14:09:59Z", "2025-01-15T14:10:00.900Z", True),
        # Without an offset, nobody knows when that was.
        ("2025-01-15T14:09:59", REQUESTED, False),
        ("2025-01-15T14:09:59Z", "2025-01-15T14:10:00", False),
        ("2025-01-15T14:09:59", "2025-01-15T14:10:00", False),
        # What the platform does not tell, or not so that it can be read, speaks against nothing.
        (None, REQUESTED, False),
        (BASELINE, None, False),
        (None, None, False),
        ("a week ago", REQUESTED, False),
        (BASELINE, "just now", False),
        ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", True),
    ],
)
def test_whether_a_timestamp_is_from_before_the_request(
    timestamp: str | None, requested_at: str | None, before: bool
) -> None:
    assert is_from_before(timestamp, requested_at) is before
