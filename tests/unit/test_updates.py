"""What an update is by default: something that is worth a recompute alone."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given

from arcanna_metrics.targets import Target
from arcanna_metrics.updates import WHOLE, Example, Update
from tests.unit.strategies import updates

TARGET = Target("1234", "generic-1-1234-model-1747385873.hdf5")


def test_update_has_a_full_share_and_is_not_by_hand_by_default() -> None:
    update = Update(TARGET, 100.0, "upload")
    assert (update.example, update.share, update.max_wait) == (None, WHOLE, 0.0)
    assert (update.older_than, update.by_hand) == (None, False)


def test_updates_with_equal_fields_are_equal() -> None:
    example = Example("bucket", "key", None)
    assert len({Update(TARGET, 100.0, "upload", example), Update(TARGET, 100.0, "upload", example)}) == 1


def test_update_is_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        Update(TARGET, 100.0, "upload").share = 1  # type: ignore[misc]


@given(updates())
def test_wish_with_a_share_or_by_hand_is_refused(update: Update) -> None:
    """What the strategy promises to the tests that use it."""
    assert 1 <= update.share <= WHOLE
    assert (update.share < WHOLE) == (update.max_wait > 0)
    if update.older_than is not None:
        assert (update.share, update.by_hand) == (WHOLE, False)
