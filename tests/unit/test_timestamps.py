"""Times survive being written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.times import from_iso, to_iso
from tests.unit.strategies import LAST, milliseconds


def test_time_is_written_with_milliseconds_in_utc() -> None:
    assert to_iso(1700000000.5) == "2023-11-14T22:13:20.500Z"
    assert to_iso(1700000000) == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-14T22:13:20Z", 1700000000),
        ("2023-11-14T22:13:20.250Z", 1700000000.25),
        ("2023-11-14T22:13:20.250000+00:00", 1700000000.25),
        ("2023-11-15T00:13:20+02:00", 1700000000),
        ("2023-11-14T22:13:20", 1700000000),
        ("2023-11-14t22:13:20z", 1700000000),
    ],
)
def test_time_is_read_with_and_without_fraction_and_offset(text: str, seconds: float) -> None:
    assert from_iso(text) == seconds


@given(milliseconds)
def test_whole_milliseconds_survive_a_round_trip(moment: int) -> None:
    assert from_iso(to_iso(moment / 1000)) == moment / 1000


@given(milliseconds, milliseconds)
def test_written_times_sort_like_the_times(a: int, b: int) -> None:
    assert (to_iso(a / 1000) < to_iso(b / 1000)) == (a < b)


@given(st.text() | st.datetimes(timezones=st.timezones()).map(str))
def test_any_text_is_a_writable_time_or_a_value_error(text: str) -> None:
    try:
        seconds = from_iso(text)
    except ValueError:
        return
    assert len(to_iso(min(seconds, LAST / 1000))) == len("2023-11-14T22:13:20.500Z")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "", "yesterday"])
def test_time_outside_the_years_1_to_9999_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|before the year 1 or after 9999"):
        from_iso(text)
