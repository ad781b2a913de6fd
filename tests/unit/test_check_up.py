"""The decision about a run, by the state of its execution."""

from itertools import product

import pytest

from arcanna_metrics.protocol.check_up import CHECK_UP_INTERVAL, MOST_RESUMPTIONS, Resume, TakeBack, check_up
from arcanna_metrics.protocol.decide import Later
from arcanna_metrics.protocol.entry import Claim
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME
from arcanna_metrics.runs.run import Execution

NOW = 1_000_000.0
CLAIMED = Claim("run-1", NOW)
HELD = CLAIMED._replace(held=True)
RUNNING = Execution(True, "{}")
ENDED = Execution(False, "{}")


def resumed(number: int) -> Claim:
    return HELD._replace(number=number)


@pytest.mark.parametrize("claim", [CLAIMED, HELD, resumed(1)])
def test_running_execution_is_checked_again_in_an_hour(claim: Claim) -> None:
    assert check_up(claim, RUNNING, None, NOW) == Later(NOW + CHECK_UP_INTERVAL)


@pytest.mark.parametrize("execution", [None, ENDED])
def test_unheld_claim_is_left_alone_during_its_lifetime(execution: Execution | None) -> None:
    until = NOW + CLAIM_LIFETIME
    assert check_up(CLAIMED, execution, None, until - 0.001) == Later(until)


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


@pytest.mark.parametrize("claim", [HELD, resumed(1)])
def test_held_run_without_any_execution_is_taken_back(claim: Claim) -> None:
    assert isinstance(check_up(claim, None, None, NOW), TakeBack)


def test_every_combination_of_claim_execution_and_time_keeps_the_rules() -> None:
    claims = [CLAIMED, *(resumed(number) for number in range(MOST_RESUMPTIONS + 2))]
    executions = [None, RUNNING, ENDED]
    times = [NOW - 1, NOW, NOW + CLAIM_LIFETIME - 1, NOW + CLAIM_LIFETIME, NOW + 1e6]
    for claim, own, before, now in product(claims, executions, executions, times):
        finding = check_up(claim, own, before, now)
        running = own is not None and own.running
        match finding:
            case Later(at):
                assert at > now
                assert running or (not claim.held and now < NOW + CLAIM_LIFETIME)
            case Resume(number, _):
                assert claim.held
                assert number - claim.number == (0 if own is None else 1)
                assert number <= MOST_RESUMPTIONS or number == claim.number
                assert own or before
                assert not running
            case TakeBack(why):
                assert why
                assert not running  # nobody may follow a run that is taken back
