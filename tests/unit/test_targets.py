"""Which texts are valid ids."""

from typing import Any
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput
from arcanna_metrics.targets import ID_LENGTH, Target, identifier
from tests.unit.strategies import any_json


def test_message_of_a_target_names_job_and_model() -> None:
    target = Target("1234", "generic-1-1234-model-1747385873.hdf5")
    assert str(target) == "job '1234', model 'generic-1-1234-model-1747385873.hdf5'"
    assert str(Target("security-alerts", None)) == "job 'security-alerts', active model"


@pytest.mark.parametrize(("job_id", "model_id"), [(12, "m"), (12.0, "m"), ("12", "m"), ("0012", "m")])
def test_one_jobs_id_in_any_form_is_one_target(job_id: object, model_id: object) -> None:
    assert Target.of(job_id, model_id) == Target("12", "m")


def test_job_name_and_model_id_keep_their_zeros() -> None:
    assert Target.of("00-alerts", "0012") == Target("00-alerts", "0012")
    assert Target.of("0", None) == Target("0", None)


def test_integer_is_an_id_in_its_string_form() -> None:
    assert identifier("job_id", 1234) == identifier("job_id", "1234") == "1234"


@pytest.mark.parametrize(
    "name",
    [
        "警報\u3000一次",  # ideographic space
        "alerts\u00a01",  # no-break space
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # zero-width non-joiner in Persian
        "क\u094d\u200dष",  # zero-width joiner
        "soft\u00adhyphen",
        "\ue000",  # private use
        "\U000e0041",  # tag
        "Zürich 🔥",
        " padded ",
    ],
)
def test_name_in_any_script_is_taken_as_it_is(name: str) -> None:
    assert identifier("job_id", name) == name


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "job_id is missing"),
        ("", "job_id is empty"),
        ("  ", "job_id is empty"),
        ("\u3000\u00a0", "job_id is empty"),
        (True, "job_id must be a string or a 64-bit integer, not bool"),
        (12.5, "job_id must be a string or a 64-bit integer, not float"),
        (1e22, "job_id must be a string or a 64-bit integer, not int"),
        (float("inf"), "job_id must be a string or a 64-bit integer, not float"),
        pytest.param(10**5000, "job_id must be a string or a 64-bit integer, not int", id="5,001 digits"),
        (["1234"], "job_id must be a string or a 64-bit integer, not list"),
        ("a" * 10_000, f"job_id has 10000 characters, more than {ID_LENGTH}"),
        ("1234\r\nX: x", r"job_id has control characters (U+000D, U+000A): '1234\r\nX: x'"),
        ("a\x00", r"job_id has control characters (U+0000): 'a\x00'"),
        ("a\x7f", r"job_id has control characters (U+007F): 'a\x7f'"),
        ("a\x85b", r"job_id has control characters (U+0085): 'a\x85b'"),
        ("a\u2028b", r"job_id has control characters (U+2028): 'a\u2028b'"),
        ("a\u2029b", r"job_id has control characters (U+2029): 'a\u2029b'"),
        ("12\ud800", r"job_id has control characters (U+D800): '12\ud800'"),
    ],
)
def test_invalid_id_is_refused_with_the_fields_name(value: object, complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        identifier("job_id", value)
    assert str(refused.value) == complaint


@given(any_json | st.text(max_size=300))
def test_accepted_id_can_be_sent_stored_and_logged(value: Any) -> None:
    try:
        accepted = identifier("job_id", value)
    except BadInput as refused:
        str(refused).encode()  # the message can also be encoded
        return
    assert accepted == str(int(value) if isinstance(value, float) else value)
    assert not [character for character in accepted if category(character) in ("Cc", "Zl", "Zp", "Cs")]
    assert 0 < len(accepted.encode()) <= 4 * ID_LENGTH


@given(st.text(st.characters(exclude_categories=("Cc", "Zl", "Zp", "Cs")), min_size=1, max_size=ID_LENGTH))
def test_only_blank_names_are_refused_among_printable_ones(name: str) -> None:
    if name.strip():
        assert identifier("job_id", name) == name
