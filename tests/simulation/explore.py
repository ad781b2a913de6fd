"""Explores small worlds: python -m tests.simulation.explore [--small] [--mutants]

Every scenario, completely, and then every mutant, which has to be found. Fails where a guarantee is broken,
with the shortest history that breaks it, and where a mutant is not found.
"""

import argparse
import sys
import time
from dataclasses import replace
from typing import NamedTuple

from arcanna_metrics.targets import Target
from tests.simulation.explorer import explore
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.small_steps import Code
from tests.simulation.small_worlds import Message, Model, Row, Setting, World


class Scenario(NamedTuple):
    """What to begin with."""

    name: str
    start: World
    setting: Setting = Setting()


ONE = (Message(),)
TWO = ONE * 2
HALF = (Message(share=500_000),)
WISH = (Message(as_of=1),)

EACH = (Message(target=0), Message(target=1))
PAIR = (Row(), Row())
MODELS = (Model(), Model())

SLOT = Setting(slots=1)
SHARED_SLOT = Setting(targets=(Target("1", "model"), Target("2", "model")), slots=1)
ACTIVE = Setting(targets=(Target("1", None),))
NAME = Setting(targets=(Target("name", "model"), Target("1", "model")))
UNKNOWN = replace(NAME, exact=False)  # an unresolved name may cause one more run of its job
WISHES = Setting(wishes=True)
LAG = Setting(lag=1, time_passes=True)
SPACING = Setting(lag=1, spacing=2, time_passes=True)
WAIT = Setting(max_wait=2, time_passes=True)
WAIT_AND_LAG = replace(WAIT, lag=1)

SMALL = [
    Scenario("one update", World(ONE)),
    Scenario("one update, one death", World(ONE, crashes=1)),
    Scenario("one update, two deaths", World(ONE, crashes=2)),
    Scenario("one update, one failure, one death", World(ONE, failures=1, crashes=1)),
    Scenario("one update, one time-out, one death", World(ONE, timeouts=1, crashes=1)),
    Scenario("one update, one run unchecked", World(ONE, unchecked=1)),
    Scenario("one update, others ask", World(ONE, others=1)),
    Scenario("one update, others ask, one death", World(ONE, others=1, crashes=1)),
    Scenario("one update, one slot, one death", World(ONE, crashes=1), SLOT),
    Scenario("two updates", World(TWO)),
    Scenario("two updates, one failure", World(TWO, failures=1)),
    Scenario("two updates, one death", World(TWO, crashes=1)),
    Scenario("two updates, delivered twice", World(TWO, duplicates=2)),
    Scenario("three updates", World(ONE * 3)),
    Scenario("two targets, one slot", World(EACH, rows=PAIR, models=MODELS), SHARED_SLOT),
    Scenario(
        "two targets, one slot, one failure", World(EACH, rows=PAIR, models=MODELS, failures=1), SHARED_SLOT
    ),
    Scenario("an active model that changes", World(ONE, models=MODELS, changes=1), ACTIVE),
    Scenario(
        "an active model that changes, one failure", World(ONE, models=MODELS, changes=1, failures=1), ACTIVE
    ),
    Scenario(
        "an active model that changes, one death", World(ONE, models=MODELS, changes=1, crashes=1), ACTIVE
    ),
    Scenario("two halves of a threshold, an update", World(HALF * 2 + ONE)),
    Scenario("two wishes, others ask", World(WISH * 2, others=1), WISHES),
    Scenario("a wish, an update, others ask", World(WISH + ONE, others=1), WISHES),
    Scenario("a wish, one failure, one death", World(WISH, failures=1, crashes=1), WISHES),
    Scenario("one update under a name, one death", World(ONE, rows=PAIR, crashes=1), NAME),
    Scenario("two updates under a name", World(TWO, rows=PAIR), NAME),
    Scenario("an update under a name, one under the id", World(EACH, rows=PAIR), NAME),
    Scenario("a visibility lag", World(ONE), LAG),
    Scenario("a visibility lag, two updates", World(TWO), LAG),
    Scenario("a longest wait, half of a threshold", World(HALF), WAIT),
    Scenario("a longest wait, two halves of a threshold", World(HALF * 2), WAIT),
]

LARGE = [
    Scenario("one update, three deaths", World(ONE, crashes=3)),
    Scenario("one update, three looks, two deaths", World(ONE, crashes=2), Setting(looks=3)),
    Scenario(
        "one update, one of everything, two deaths",
        World(ONE, crashes=2, failures=1, timeouts=1, unchecked=1, others=1, duplicates=1),
    ),
    Scenario("two updates, two deaths", World(TWO, crashes=2)),
    Scenario("two updates, others ask, one death", World(TWO, others=1, crashes=1)),
    Scenario(
        "two updates, one of everything, one death",
        World(TWO, crashes=1, failures=1, timeouts=1, unchecked=1, others=1, duplicates=1),
    ),
    Scenario("three updates, one death", World(ONE * 3, crashes=1)),
    Scenario(
        "two targets, one slot, one death", World(EACH, rows=PAIR, models=MODELS, crashes=1), SHARED_SLOT
    ),
    Scenario(
        "three updates of two targets, one slot", World(EACH + ONE, rows=PAIR, models=MODELS), SHARED_SLOT
    ),
    Scenario(
        "an active model that changes twice, one failure, one death",
        World(ONE, models=MODELS, changes=2, failures=1, crashes=1),
        ACTIVE,
    ),
    Scenario(
        "an active model that changes, two updates, one death",
        World(TWO, models=MODELS, changes=1, crashes=1),
        ACTIVE,
    ),
    Scenario("two halves of a threshold, an update, one death", World(HALF * 2 + ONE, crashes=1)),
    Scenario("two wishes, an update, others ask", World(WISH * 2 + ONE, others=1), WISHES),
    Scenario("a wish, an update, others ask, one death", World(WISH + ONE, others=1, crashes=1), WISHES),
    Scenario("two updates under a name, one death", World(TWO, rows=PAIR, crashes=1), NAME),
    Scenario("an update under a name, one under the id, one death", World(EACH, rows=PAIR, crashes=1), NAME),
    Scenario(
        "an update under a name that nobody knows, one death",
        World(ONE, rows=PAIR, unknown=1, crashes=1),
        UNKNOWN,
    ),
    Scenario("an update under an unknown name, one under the id", World(EACH, rows=PAIR, unknown=1), UNKNOWN),
    Scenario("a visibility lag, one death", World(ONE, crashes=1), LAG),
    Scenario("a visibility lag, three updates", World(ONE * 3), LAG),
    Scenario("a visibility lag and spacing, two updates", World(TWO), SPACING),
    Scenario("a longest wait, half of a threshold, one death", World(HALF, crashes=1), WAIT),
    Scenario("a longest wait and a lag, half of a threshold, an update", World(HALF + ONE), WAIT_AND_LAG),
    Scenario("a longest wait and a lag, two halves of a threshold", World(HALF * 2), WAIT_AND_LAG),
]

SCENARIOS = {scenario.name: scenario for scenario in (*SMALL, *LARGE)}


def holds(scenario: Scenario) -> bool:
    """Whether every guarantee holds in all its worlds. Prints their number, or the broken guarantee."""
    began = time.perf_counter()
    found = explore(scenario.start, scenario.setting, Code())
    said = found.fault or "every guarantee holds"
    seconds = time.perf_counter() - began
    print(
        f"{scenario.name}: {found.worlds:,} worlds, {seconds:.1f} s; {said}",
        *found.history,
        sep="\n    ",
        flush=True,
    )
    return found.fault is None


def is_found(mutant: Mutant) -> bool:
    """Whether the mutant breaks a guarantee. Prints the history."""
    scenario = SCENARIOS[mutant.scenario]
    found = explore(scenario.start, scenario.setting, mutant.code)
    said = f"{found.fault}\n    {scenario.name}: {' > '.join(found.history)}" if found.fault else "NOT FOUND"
    print(f"{mutant.bug}: {said}", flush=True)
    return found.fault is not None


def main() -> int:
    """The exit status: 0 if every guarantee holds and every mutant is found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="only the scenarios of the tests")
    parser.add_argument("--mutants", action="store_true", help="only the mutants")
    options = parser.parse_args()
    scenarios = () if options.mutants else SMALL if options.small else (*SMALL, *LARGE)
    good = [holds(scenario) for scenario in scenarios]
    good += [is_found(mutant) for mutant in MUTANTS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
