"""Decides what to do about a run, given the state of its executions. Pure, so it is tested without AWS.

its executions             then
the last one runs          look again in an hour
the last one has ended     resume in another, or take back after a few
there is none              take back, once the claim's invocation is over
"""

from collections.abc import Sequence
from dataclasses import dataclass

from arcanna_metrics.protocol.decide import Later
from arcanna_metrics.protocol.entry import Claim
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME
from arcanna_metrics.runs.run import Execution

MOST_EXECUTIONS = 4

CHECK_UP_INTERVAL = 3600.0
"""Seconds between two check-ups of an execution whose end is not reported."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Continue the run in another execution."""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Free the target: no execution will release it."""

    why: str


Action = Later | Resume | TakeBack


def check_up(claim: Claim, executions: Sequence[Execution], now: float) -> Action:
    """Decides about the run that holds the target, given its executions, the first one first."""
    if not executions:
        claimed_until = claim.requested_at + CLAIM_LIFETIME
        if now < claimed_until:  # its invocation may still be about to start one
            return Later(claimed_until)
        return TakeBack("the run has no execution")
    if executions[-1].running:
        return Later(now + CHECK_UP_INTERVAL)  # Step Functions is eventually consistent
    if len(executions) >= MOST_EXECUTIONS:
        return TakeBack(f"{len(executions)} executions of the run ended without releasing the target")
    return Resume()
