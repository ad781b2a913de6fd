"""A deterministic simulation of the whole protocol: the real code, in a simulated and unreliable world.

`scheduler` holds the clock and interleaves the processes, `faults` decides what goes wrong, `aws` and
`platform` stand in for what the code calls, `workflow` interprets the state machine's definition, `world`
wires them and plays one history, `checks` judges it by the guarantees, `shrink` makes a broken one short.
"""

import os

os.environ.setdefault("POWERTOOLS_METRICS_NAMESPACE", "Simulation")  # read when the code is imported
