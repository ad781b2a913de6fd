"""`python -m tests.tools.fuzz --seconds 60`: attacks until the time is over, or until the first bug.

Prints the seed of the bug; `--seed` begins with it.
"""

import argparse
import sys
import time
import traceback
from itertools import count

from tests.tools.fuzz import Fuzzer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.tools.fuzz")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    fuzzer, accepted, slowest = Fuzzer(), 0, (0.0, arguments.seed)
    end = time.monotonic() + arguments.seconds
    for seed in count(arguments.seed):
        started = time.process_time()
        try:
            accepted += fuzzer.run(seed)
        except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
            traceback.print_exc()
            print(f"seed {seed}: {fuzzer.case(seed)[1]!r}"[:10_000])
            return 1
        slowest = max(slowest, (time.process_time() - started, seed))
        if time.monotonic() >= end:
            break
    cases = seed + 1 - arguments.seed
    print(f"{cases} cases, {accepted} accepted, {cases - accepted} refused; no bug")
    print(f"the slowest took {slowest[0] * 1000:.1f} ms: seed {slowest[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
