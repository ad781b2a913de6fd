"""What waits together is enough at some time, and duplicates do not make it more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput
from arcanna_metrics.gathering import MOST_MARKS, Mark, Significance, due_at, fewest, mark, read_mark
from tests.unit.strategies import any_text, marks, milliseconds, significances

AT = 1_736_950_000.0
TEN = Significance(10, None, 3600.0)
NOW = float("-inf")


def some(number: int, size: int = 100) -> list[Mark]:
    return [Mark(AT + n, size) for n in range(number)]


@pytest.mark.parametrize(
    ("found", "significance", "due"),
    [
        (some(1), None, NOW),
        (some(9), TEN, AT + 3600),
        (some(10), TEN, NOW),
        (some(9), Significance(10, 900, 3600.0), NOW),
        (some(8), Significance(10, 900, 3600.0), AT + 3600),
        (some(2), Significance(None, 1000, 0.0), AT),
        (some(MOST_MARKS - 1), Significance(None, None, 60.0), AT + 60),
        (some(MOST_MARKS), Significance(None, None, 60.0), NOW),
    ],
)
def test_when_it_is_enough(found: list[Mark], significance: Significance | None, due: float) -> None:
    assert due_at(found, significance) == due


@given(st.lists(marks, min_size=1, max_size=20), significances)
def test_nothing_waits_longer_than_the_first_of_it_may(texts: list[str], significance: Significance) -> None:
    found = [read_mark(text) for text in texts]
    assert due_at(found, significance) <= min(mark.at for mark in found) + significance.max_wait


@given(milliseconds, st.integers(0, 2**50), st.text(st.characters(codec="utf-8")))
def test_a_mark_is_read_as_it_was_written(at: int, size: int, key: str) -> None:
    assert read_mark(mark(at / 1000, size, "bucket", key)) == Mark(at / 1000, size)


def test_equal_updates_have_equal_marks_and_others_have_not() -> None:
    written = {
        mark(AT, 1, "bucket", "key", "v1"),
        mark(AT, 1, "bucket", "key", "v1"),
        mark(AT, 1, "bucket", "key", "v2"),
        mark(AT, 1, "bucket", "key", None),
        mark(AT, 2, "bucket", "key", "v1"),
        mark(AT + 1, 1, "bucket", "key", "v1"),
    }
    assert len(written) == 5


@given(any_text)
def test_anything_else_is_no_mark(text: str) -> None:
    with pytest.raises(BadInput, match="a mark"):
        read_mark(text)


@pytest.mark.parametrize("text", ["2025-02-30T00:00:00Z 1 0123456789ab", "then 1 0123456789ab"])
def test_a_mark_needs_a_time(text: str) -> None:
    with pytest.raises(BadInput, match="begins with an ISO 8601 time"):
        read_mark(text)


def test_of_too_many_marks_the_latest_stay_which_are_covered_last() -> None:
    written = [mark(AT + n, 0) for n in range(MOST_MARKS + 5)]
    assert fewest(reversed(written)) == frozenset(written[-MOST_MARKS:])
