"""Searches many histories for a broken guarantee: `python -m tests.simulation --seeds 2000 [--start N]`."""

import argparse
import sys
from collections import Counter

from tests.simulation.faults import CALL_FAULTS, OTHER_FAULTS
from tests.simulation.search import examine
from tests.simulation.world import Protocol

COUNTED = {
    "update": "updates",
    "invocation": "invocations",
    "written": "writes of entries",
    "claimed": "claims",
    "job requested": "recomputes requested",
    "held": "runs held",
    "resumed": "runs resumed",
    "covered": "runs completed",
    "given up": "runs told to have failed",
    "dead letter": "dead letters",
}


def main() -> int:
    """0 if all guarantees held, 1 at the first history that breaks one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many histories")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    totals: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for seed in range(options.start, options.start + options.seeds):
        history, broken = examine(seed, Protocol())
        if broken:
            print(broken)
            return 1
        happened = Counter(event.what for event in history.journal.events)
        totals.update({"histories": 1, "steps": history.steps})
        totals.update({name: happened[what] for what, name in COUNTED.items()})
        faults.update(
            kind for fault in history.faults for kind in (*CALL_FAULTS, *OTHER_FAULTS) if fault.endswith(kind)
        )
    for name, number in totals.items():
        print(f"{number:12,} {name}")
    for name, number in sorted(faults.items()):
        print(f"{number:12,} faults: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
