"""Decides what to do about a run, given the state of its execution. Pure, so it is tested without AWS.

claim      execution with the claim's number      then
any        running                                look again in an hour
not held   does not exist, or ended               take back, once the claim's invocation is over
held       ended                                  resume with the next number, or take back after a few
held       does not exist, the one before does    resume with this number: its starter died
held       neither exists                         take back: it was deleted
"""

from dataclasses import dataclass

from arcanna_metrics.protocol.decide import Later
from arcanna_metrics.protocol.entry import Claim
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME
from arcanna_metrics.runs.run import Execution

MOST_RESUMPTIONS = 3

CHECK_UP_INTERVAL = 3600.0
"""Seconds between two check-ups of an execution whose end is not reported."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Continue the run in the execution of this number, with this input."""

    number: int
    given: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Free the target: no execution will release it."""

    why: str


Action = Later | Resume | TakeBack


def check_up(claim: Claim, execution: Execution | None, before: Execution | None, now: float) -> Action:
    """Decides about the run that holds the target.

    `execution` has the claim's number, and `before` the number before it. `before` matters only if
    `execution` does not exist.
    """
    if execution and execution.running:
        return Later(now + CHECK_UP_INTERVAL)  # Step Functions is eventually consistent
    if not claim.held:
        claimed_until = claim.requested_at + CLAIM_LIFETIME
        if now < claimed_until:  # its invocation may still be about to start one
            return Later(claimed_until)
        return TakeBack("its invocation died")
    if execution and claim.number >= MOST_RESUMPTIONS:
        return TakeBack(f"{claim.number + 1} executions ended without releasing it")
    if execution:
        return Resume(claim.number + 1, execution.input)
    if before:
        return Resume(claim.number, before.input)
    return TakeBack("its execution no longer exists")
