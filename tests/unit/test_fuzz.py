"""The fuzzer reaches accepted and refused input, and finds bugs."""

import pytest

from arcanna_metrics.targets import Target, Update
from tests.tools.fuzz import RECEIVED_AT, Fuzzer

SEEDS = range(300)


def test_first_cases_find_no_bug_and_some_are_accepted() -> None:
    fuzzer = Fuzzer()
    accepted = [fuzzer.run(seed) for seed in SEEDS]
    assert 0.1 < sum(accepted) / len(accepted) < 0.9


def test_same_seed_gives_the_same_case() -> None:
    assert Fuzzer().case(7)[1][0] == Fuzzer().case(7)[1][0]


def test_fuzzer_finds_an_error_that_is_not_the_projects_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(text: str, received_at: float) -> list[object]:
        raise KeyError(text)

    monkeypatch.setattr("tests.tools.fuzz.read_json", careless)
    with pytest.raises(KeyError):
        list(map(Fuzzer().run, SEEDS))


@pytest.mark.parametrize(
    "wrong",
    [
        Update(Target(" ", None), RECEIVED_AT, "upload"),
        Update(Target("1234", None), RECEIVED_AT + 1, "upload"),
        Update(Target("1234", None), 0.0, "upload"),
        Update(Target("1234", None), RECEIVED_AT, "upload", share=0),
        Update(Target("1234", None), RECEIVED_AT, "manual", older_than=60.0, by_hand=True),
    ],
)
def test_fuzzer_finds_an_update_that_the_ledger_cannot_record(
    wrong: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.tools.fuzz.read_json", lambda text, received_at: [wrong])
    with pytest.raises(AssertionError):
        list(map(Fuzzer().run, SEEDS))
