"""When to look next at a recompute: as soon as waiting longer would cost more than the check.

Polling trades checks against lag, the time between the end of a run and the check that sees it. This is the
inspection problem of reliability theory (Barlow, Hunter and Proschan, 1963), solved greedily: wait until
the expected lag has reached the price of a check.

**Expected lag.** S(t) is the estimated probability that the run takes longer than t. It is a sum of
log-logistic curves 1 / (1 + (t / median)^shape): one for each past run, around its duration, and a broad one
that stands for everything not seen so far. The broad curve alone guides the first run ever, hardly counts
while past runs explain the elapsed time, and takes over when the run outlasts them. A run that lives at
`elapsed` and is checked `wait` seconds later has an expected lag of
    sum of 1 - S(elapsed + s) / S(elapsed) over the seconds s = 1 .. wait.

**Price.** A check t seconds after the request costs PRICE / (TYPICAL + t) seconds of lag, so that lag costs
the same per run whether runs take minutes or an hour; but never less than t FRACTION^2 / 2, which takes over
after an hour. Where nothing is known the waits thus tend first to sqrt(2 PRICE) = 44 s, then to 1/80 of the
elapsed time: a day that nobody expected takes less than 350 checks, not the nearly 2,000 of 44 s.
"""

from collections.abc import Sequence

PRICE = 950.0  # s^2
TYPICAL = 60.0  # seconds: the median of a run of which nothing is known
FRACTION = 1 / 80
SHAPE = 20  # half of all runs within 6 % of a past one
UNSEEN = 0.2  # weight of the broad curve, in past runs


def next_wait(
    elapsed: float, history: Sequence[float], *, shortest: float = 5.0, longest: float = 900.0
) -> int:
    """Whole seconds until the next check of a run that is `elapsed` seconds old and not finished.

    `history` holds the durations in seconds of the model's last completed runs, in any order; as all weigh
    the same, its length is the memory. The wait is never below `shortest` nor above `longest`, both at
    least 1 second.
    """
    # The platform's timestamps have whole seconds, so that a run may seem to have taken none.
    medians = [max(duration, 1.0) for duration in history]

    def survival(t: float) -> float:
        seen = sum(1.0 / (1.0 + (t / median) ** SHAPE) for median in medians)
        return seen + UNSEEN / (1.0 + t / TYPICAL)

    alive = survival(elapsed)
    lag = 0.0
    for wait in range(1, int(longest)):
        t = elapsed + wait
        lag += 1.0 - survival(t) / alive
        if wait >= shortest and lag >= max(PRICE / (TYPICAL + t), t * FRACTION**2 / 2):
            return wait
    return int(longest)
