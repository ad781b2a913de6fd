"""When to look next at a recompute: by the schedule of checks that costs least, given the target's past runs.

Polling trades checks against lag, the time between the end of a run and the check that sees it. This is the
inspection problem of reliability theory (Barlow, Hunter and Proschan, 1963), and PRICE is what a check may
cost in lag. A schedule with checks at t1 < t2 < ... costs, up to a constant,

    the sum of S(t) (PRICE + wait after t) over its times, 0 included,

because a run that still runs at t, with probability S(t), is waited for and checked once more. The cheapest
schedule is found backwards over the times at which a check may pay: quantiles of what a run may take.

**Survival.** S is estimated as a sum of log-logistic curves 1 / (1 + (t / median)^shape): those around each
past run, and a broad one for everything not seen so far. The broad curve alone guides the first run ever.
Beside n past runs, it counts as an nth of one: it doubts what a few runs say, hardly counts while many
explain the elapsed time, and matters again when the run outlasts them. Past runs have two shapes, each as
often as it predicts each of them from the others (pseudo-Bayesian model averaging by leave-one-out
likelihoods; Geisser and Eddy, 1979). As far as the others do not predict a run, its curve is broader: a lone
straggler says that runs straggle, but less about how long the next one takes (variable kernels; Breiman,
Meisel and Purcell, 1977).
"""

from collections.abc import Sequence
from math import ceil, exp, log, prod
from typing import NamedTuple

PRICE = 5.0  # seconds of lag that a check may cost
SHAPES = 17.0, 2.2  # half of all runs within 7 % or 65 % of a past one
RARE = 0.02  # a shape whose share is smaller is left out
BROADER = 1.6  # how many times as broad, over log(t), the curve of a lone past run is
TYPICAL, BROAD = 150.0, 1.6  # seconds: the median of a run of which nothing is known; and its shape
LONE = 0.2  # a past run is half a lone one where the density of the others, over log(t), is this, in runs
LIVING = [(2 * n + 1) / 28 for n in range(14)]  # parts of the runs that live when a check may pay,
# and of those that are unlike the past ones:
UNSEEN_LIVING = [1 - 0.01 * 1.1**n for n in range(48)] + [0.08 * 0.8**n for n in range(20)]


class Curve(NamedTuple):
    """1 / (1 + (t / median)^shape), as often as `weight` says."""

    median: float
    shape: float
    weight: float

    def survival(self, t: float) -> float:
        """The part of the runs that take longer than t seconds."""
        return self.weight / (1 + float((t / self.median) ** self.shape))

    def time(self, elapsed: float, living: float) -> float:
        """The time until which this part lives of the runs that live at `elapsed`."""
        power = (1 + (elapsed / self.median) ** self.shape) / living - 1
        return self.median * float(power ** (1 / self.shape))


def next_wait(
    elapsed: float, history: Sequence[float], *, shortest: float, longest: float, price: float = PRICE
) -> int:
    """Whole seconds until the next check of a run that is `elapsed` seconds old and not finished.

    `history` holds the durations in seconds of the target's last completed runs, in any order; as all weigh
    the same, its length is the memory. The wait is never below `shortest` nor above `longest`, both at
    least 1 second.
    """
    # The platform's timestamps have whole seconds, so that a run may seem to have taken none.
    past = [max(duration, 1.0) for duration in history]
    weight = 1 / max(len(past), 1)  # of everything not seen so far, in past runs
    unseen = Curve(sorted(past)[len(past) // 2] if past else TYPICAL, BROAD, weight)
    curves, times = [unseen], [unseen.time(elapsed, living) for living in UNSEEN_LIVING]
    for shape, share, lone in _shapes(past, weight):
        for duration, part in zip(past, lone, strict=True):
            alike = Curve(duration, shape, share * (1 - part))
            unlike = Curve(duration, shape / BROADER, share * part)
            curves += [alike, unlike]
            times += [(unlike if part > 0.5 else alike).time(elapsed, living) for living in LIVING]
    waits = [0, *sorted({max(ceil(time - elapsed), ceil(shortest)) for time in times})]
    best, costs = waits[-1], {waits[-1]: 0.0}  # the costs from each wait on, from the last one backwards
    for wait in reversed(waits[:-1]):
        alive = sum([curve.survival(elapsed + wait) for curve in curves])
        cheapest, best = min([(alive * later + cost, later) for later, cost in costs.items()])
        costs[wait] = cheapest + alive * (price - wait)
    return min(best, int(longest))


def _shapes(past: Sequence[float], unseen: float) -> list[tuple[float, float, list[float]]]:
    """Each shape with its share, and which part of each past run the others do not predict with it.

    `unseen` is the weight of everything not seen so far, in past runs.
    """
    logs = [log(duration) for duration in past]

    def densities(shape: float) -> list[float]:
        """Of each run by those of the others, in runs for a factor of e."""
        odds = ([exp(-abs(shape * (here - other))) for other in logs] for here in logs)
        return [sum([shape * o / (1 + o) ** 2 for o in of]) - shape / 4 for of in odds]  # without its own

    found = [(shape, densities(shape)) for shape in SHAPES]
    likelihoods = [prod([density + unseen for density in of]) for _, of in found]
    shares = [likelihood / sum(likelihoods) for likelihood in likelihoods]
    return [
        (shape, share, [LONE / (LONE + density) for density in of])
        for (shape, of), share in zip(found, shares, strict=True)
        if share > RARE
    ]
