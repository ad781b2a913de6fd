"""When to look next at a recompute: as soon as waiting longer would cost more than the check.

Polling trades checks against lag, the time between the end of a run and the check that sees it. This is the
inspection problem of reliability theory (Barlow, Hunter and Proschan, 1963), solved greedily: wait until
the expected cost of what is not seen has reached the price of a check.

**Survival.** S(t) is the estimated probability that the run takes longer than t. It is a sum of log-logistic
curves 1 / (1 + (t / median)^shape): one for each past run, around its duration, and a broad one that stands
for everything not seen so far. The broad curve alone guides the first run ever, hardly counts while past
runs explain the elapsed time, and takes over when the run outlasts them.

**Cost.** For a run that lives at `elapsed`, a check at t = elapsed + wait costs
    sum of 1 - S(elapsed + s) / S(elapsed) over the seconds s = 1 .. wait: the expected lag; and
    LATE (1 - S(u) / S(elapsed)) with u = t / (1 + TOLERATED), if that is after `elapsed`: the chance that
    the run ended so early that its lag will have been more than the tolerated part of its duration.
The lag alone would leave the runs that end earlier than usual to wait for the usual end: one in twenty
longer than half its duration. For long runs the second term vanishes, as no wait is a quarter of them.

**Price.** A check t seconds after the request costs PRICE / (OFFSET + t) seconds of lag, so that lag costs
about the same per run whether runs take minutes or an hour; but never less than t FRACTION^2 / 2, which takes
over after half an hour. Where nothing is known the waits thus tend first to sqrt(PRICE) = 43 s, then to
1/39 of the elapsed time: a day that nobody expected takes less than 250 checks, not the 2,000 of 43 s.

The constants are those by which the seeded workloads of `make bench` miss the fewest targets, rounded.
"""

from collections.abc import Sequence

PRICE = 1850.0  # s^2
OFFSET = 210.0  # seconds
FRACTION = 1 / 27.5
LATE = 100.0  # seconds
TOLERATED = 0.25  # lag by duration
SHAPE = 16  # half of all runs within 7 % of a past one
TYPICAL = 90.0  # seconds: the median of a run of which nothing is known
BROAD = 2  # the shape of the curve for such runs
UNSEEN = 0.02  # the weight of that curve, in past runs


def next_wait(
    elapsed: float, history: Sequence[float], *, shortest: float = 5.0, longest: float = 900.0
) -> int:
    """Whole seconds until the next check of a run that is `elapsed` seconds old and not finished.

    `history` holds the durations in seconds of the model's last completed runs, in any order; as all weigh
    the same, its length is the memory. The wait is never below `shortest` nor above `longest`, both at
    least 1 second.
    """
    # The platform's timestamps have whole seconds, so that a run may seem to have taken none.
    medians = [max(duration, 1.0) ** SHAPE for duration in history]

    def survival(t: float) -> float:
        power = t**SHAPE  # 1 / (1 + (t / median)^shape), with one power instead of one for each past run
        seen = sum([median / (median + power) for median in medians])
        return seen + UNSEEN / (1.0 + (t / TYPICAL) ** BROAD)

    alive = survival(elapsed)
    lag = 0.0
    for wait in range(1, int(longest)):
        t = elapsed + wait
        lag += 1.0 - survival(t) / alive
        early = t / (1.0 + TOLERATED)
        late = 1.0 - survival(early) / alive if early > elapsed else 0.0
        price = max(PRICE / (OFFSET + t), t * FRACTION**2 / 2)
        if wait >= shortest and lag + LATE * late >= price:
            return wait
    return int(longest)
