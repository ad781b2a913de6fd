"""The fuzzer runs, reaches the code behind the refusals, and finds bugs."""

import pytest

from tests.fuzz import Fuzzer

SEEDS = range(1000)


def test_the_first_cases_find_no_bug_and_are_both_accepted_and_refused() -> None:
    fuzzer = Fuzzer()
    accepted = [fuzzer.run(seed) for seed in SEEDS]
    assert 0.1 < sum(accepted) / len(accepted) < 0.9


def test_a_seed_is_always_the_same_case() -> None:
    assert Fuzzer().case(7)[1][0] == Fuzzer().case(7)[1][0]


def test_an_error_that_is_not_the_projects_own_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(text: str, received_at: float) -> list[object]:
        raise KeyError(text)

    monkeypatch.setattr("tests.fuzz.read_json", careless)
    with pytest.raises(KeyError):
        list(map(Fuzzer().run, SEEDS))


def test_an_update_that_changes_when_it_is_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.request_body", lambda update: '{"job_id": "another"}')
    fuzzer = Fuzzer()
    with pytest.raises(AssertionError):
        list(map(fuzzer.run, SEEDS))
