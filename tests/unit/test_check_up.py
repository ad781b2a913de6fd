"""The decision about a run, by the state of its execution."""

from itertools import product

import pytest

from arcanna_metrics.protocol.check_up import CHECK_UP_INTERVAL, MOST_EXECUTIONS, Resume, TakeBack, check_up
from arcanna_metrics.protocol.decide import Later
from arcanna_metrics.protocol.entry import Claim
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME
from arcanna_metrics.runs.run import Execution

NOW = 1_000_000.0
CLAIM = Claim("run-1", NOW)
RUNNING = Execution(True, "{}")
ENDED = Execution(False, "{}")


@pytest.mark.parametrize("before", range(MOST_EXECUTIONS))
def test_running_execution_is_checked_again_in_an_hour(before: int) -> None:
    assert check_up(CLAIM, [ENDED] * before + [RUNNING], NOW) == Later(NOW + CHECK_UP_INTERVAL)


def test_claim_without_an_execution_is_left_alone_during_its_lifetime() -> None:
    until = NOW + CLAIM_LIFETIME
    assert check_up(CLAIM, [], until - 0.001) == Later(until)
    assert isinstance(check_up(CLAIM, [], until), TakeBack)


@pytest.mark.parametrize("number", range(1, MOST_EXECUTIONS))
def test_run_is_resumed_after_its_execution_ended(number: int) -> None:
    assert check_up(CLAIM, [ENDED] * number, NOW) == Resume()


def test_run_is_taken_back_after_its_last_execution_ended() -> None:
    assert isinstance(check_up(CLAIM, [ENDED] * MOST_EXECUTIONS, NOW), TakeBack)


def test_every_combination_of_claim_executions_and_time_keeps_the_rules() -> None:
    claims = [CLAIM, *(CLAIM._replace(number=number) for number in range(MOST_EXECUTIONS))]
    executions = [[], *([ENDED] * n + [last] for n in range(MOST_EXECUTIONS) for last in (RUNNING, ENDED))]
    times = [NOW - 1, NOW, NOW + CLAIM_LIFETIME - 1, NOW + CLAIM_LIFETIME, NOW + 1e6]
    for claim, known, now in product(claims, executions, times):
        finding = check_up(claim, known, now)
        running = bool(known) and known[-1].running
        match finding:
            case Later(at):
                assert at > now
                assert running or (not known and now < NOW + CLAIM_LIFETIME)
            case Resume():
                assert known
                assert len(known) < MOST_EXECUTIONS
                assert not running
            case TakeBack(why):
                assert why
                assert not running  # nobody may follow a run that is taken back
