"""The decision about a run, by the state of its execution."""

from itertools import product

import pytest

from arcanna_metrics.protocol.check_up import MOST_RESUMPTIONS, CheckUpAgain, Resume, TakeBack, check_up
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.transitions import CHECK_UP_INTERVAL, CLAIM_LIFETIME, claim, hold, resume
from arcanna_metrics.targets import Target
from arcanna_metrics.workflow import Execution

NOW = 1_000_000.0
CLAIMED = claim(Entry(Target("1", "model")), "run-1", NOW)
HELD = hold(CLAIMED, "run-1", 0, NOW) or CLAIMED
RUNNING = Execution(True, "{}")
ENDED = Execution(False, "{}")


def resumed(number: int) -> Entry:
    return resume(HELD, number, NOW)


@pytest.mark.parametrize("entry", [CLAIMED, HELD, resumed(1)])
def test_running_execution_is_checked_again_within_the_hour(entry: Entry) -> None:
    assert check_up(entry, RUNNING, None, NOW) == CheckUpAgain(NOW + CHECK_UP_INTERVAL)


@pytest.mark.parametrize("execution", [None, ENDED])
def test_unheld_claim_is_left_alone_during_its_lifetime(execution: Execution | None) -> None:
    until = NOW + CLAIM_LIFETIME
    assert check_up(CLAIMED, execution, None, until - 0.001) == CheckUpAgain(until)


@pytest.mark.parametrize("execution", [None, ENDED])
def test_unheld_claim_is_taken_back_after_its_lifetime(execution: Execution | None) -> None:
    assert isinstance(check_up(CLAIMED, execution, None, NOW + CLAIM_LIFETIME), TakeBack)


@pytest.mark.parametrize("number", range(MOST_RESUMPTIONS))
def test_held_run_is_resumed_with_the_next_number_after_its_execution_ended(number: int) -> None:
    ended = Execution(False, "its input")
    assert check_up(resumed(number), ended, None, NOW) == Resume(number + 1, "its input")


def test_held_run_is_taken_back_after_the_last_resumption_ended() -> None:
    assert isinstance(check_up(resumed(MOST_RESUMPTIONS), ENDED, None, NOW), TakeBack)


@pytest.mark.parametrize("number", range(1, MOST_RESUMPTIONS + 1))
def test_resumption_that_was_written_but_not_started_is_started(number: int) -> None:
    before = Execution(False, "input of the one before")
    assert check_up(resumed(number), None, before, NOW) == Resume(number, "input of the one before")


@pytest.mark.parametrize("entry", [HELD, resumed(1)])
def test_held_run_without_any_execution_is_taken_back(entry: Entry) -> None:
    assert isinstance(check_up(entry, None, None, NOW), TakeBack)


def test_every_combination_of_entry_execution_and_time_keeps_the_rules() -> None:
    entries = [CLAIMED, *(resumed(number) for number in range(MOST_RESUMPTIONS + 2))]
    executions = [None, RUNNING, ENDED]
    times = [NOW - 1, NOW, NOW + CLAIM_LIFETIME - 1, NOW + CLAIM_LIFETIME, NOW + 1e6]
    for entry, own, before, now in product(entries, executions, executions, times):
        finding = check_up(entry, own, before, now)
        running = own is not None and own.running
        match finding:
            case CheckUpAgain(at):
                assert at > now
                assert running or (not entry.held and now < NOW + CLAIM_LIFETIME)
            case Resume(number, _):
                assert entry.held
                assert number - entry.resumed == (0 if own is None else 1)
                assert number <= MOST_RESUMPTIONS or number == entry.resumed
                assert own or before
                assert not running
            case TakeBack(why):
                assert why
                assert not running  # nobody may follow a run that is taken back
