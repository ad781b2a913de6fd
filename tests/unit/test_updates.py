"""What an id is, and how the updates of one target become one."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput
from arcanna_metrics.gathering import Significance
from arcanna_metrics.targets import ID_LENGTH, Target, identifier
from arcanna_metrics.updates import SAMPLE_SIZE, Update, merge
from tests.unit.strategies import any_json, identifiers, updates

TARGET = Target("1234", "generic-1-1234-model-1747385873.hdf5")
FEW_TARGETS = st.sampled_from([TARGET, Target("1234", None), Target("security-alerts", None)])


def test_the_target_of_a_message_names_job_and_model() -> None:
    assert str(TARGET) == "job '1234', model 'generic-1-1234-model-1747385873.hdf5'"
    assert str(Target("security-alerts", None)) == "job 'security-alerts', active model"


def test_an_integer_is_an_id_in_its_string_form() -> None:
    assert identifier("job_id", 1234) == identifier("job_id", "1234") == "1234"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "job_id is missing"),
        ("", "job_id is empty"),
        ("  ", "job_id is empty"),
        (True, "job_id must be a string or a 64-bit integer, not bool"),
        (12.0, "job_id must be a string or a 64-bit integer, not float"),
        pytest.param(10**5000, "job_id must be a string or a 64-bit integer, not int", id="5,001 digits"),
        (["1234"], "job_id must be a string or a 64-bit integer, not list"),
        ("a" * 10_000, f"job_id has 10000 characters, more than {ID_LENGTH}"),
        ("1234\r\nX-Header: x", r"job_id has control characters: '1234\r\nX-Header: x'"),
        ("12\ud800", r"job_id has control characters: '12\ud800'"),
    ],
)
def test_what_is_no_id_is_refused_with_its_name(value: object, complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        identifier("job_id", value)
    assert str(refused.value) == complaint


@given(any_json)
def test_an_id_can_be_sent_stored_and_logged(value: Any) -> None:
    try:
        accepted = identifier("job_id", value)
    except BadInput:
        return
    assert accepted.isprintable()
    assert 0 < len(accepted.encode()) <= 4 * ID_LENGTH


def test_many_uploads_of_one_model_become_one_update_that_the_latest_dates() -> None:
    uploads = [Update.single(TARGET, 100.0 + n % 7, "upload", key=str(n)) for n in range(20)]
    assert merge(uploads) == [
        Update(
            TARGET,
            106.0,
            "upload",
            first_at=100.0,
            count=20,
            sample=tuple({"key": str(n)} for n in range(SAMPLE_SIZE)),
        )
    ]


def test_what_has_waited_longest_decides_how_long_the_merged_update_has_waited() -> None:
    fresh = Update.single(TARGET, 300.0, "upload")
    old = Update(TARGET, 100.0, "manual", 90.0, count=3, attempt=4, waiting_since=110.0)
    older = Update(TARGET, 95.0, "schedule", 95.0, attempt=2, waiting_since=105.0)
    assert merge([fresh, old, older]) == [
        Update(TARGET, 300.0, "upload", 90.0, count=5, attempt=4, waiting_since=105.0)
    ]


def test_updates_on_other_terms_are_not_merged() -> None:
    at_once = Update.single(TARGET, 100.0, "upload")
    gathered = replace(at_once, significance=Significance(10, None, 60.0))
    if_stale = replace(at_once, older_than=3600)
    assert merge([at_once, gathered, if_stale]) == [at_once, gathered, if_stale]


@given(updates())
def test_a_single_update_is_merged_to_itself(update: Update) -> None:
    assert merge([update]) == [update]


@given(st.lists(updates(FEW_TARGETS)), st.integers(0, 10))
def test_merging_in_batches_is_merging_at_once(batch: list[Update], split: int) -> None:
    assert merge([*merge(batch[:split]), *merge(batch[split:])]) == merge(batch)


@given(st.lists(updates(FEW_TARGETS)))
def test_merging_loses_no_update(batch: list[Update]) -> None:
    merged = {terms(update): update for update in merge(batch)}
    assert merged.keys() == {terms(update) for update in batch}
    assert sum(update.count for update in merged.values()) == sum(update.count for update in batch)
    for update in batch:
        together = merged[terms(update)]
        assert together.first_at <= update.first_at
        assert together.happened_at >= update.happened_at
        assert together.marks >= update.marks
        assert together.waker >= update.waker


def terms(update: Update) -> object:
    return update.target, update.significance, update.older_than


@given(identifiers)
def test_an_update_without_an_object_has_no_sample(job_id: str) -> None:
    assert Update.single(Target(job_id, None), 0.0, "manual").sample == ()
