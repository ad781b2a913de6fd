"""A deterministic simulation of the whole protocol: the real code, in a simulated and unreliable world.

`scheduler` holds the clock and interleaves the processes, `faults` decides what goes wrong, `aws` and
`platform` stand in for what the code calls, `workflow` interprets the state machine's definition, `world`
wires them and plays one history, `checks` judges it by the guarantees, `search` looks for a broken one and
makes it short. `planted` holds bugs that it must find.

Beside it, `explorer` goes through small worlds completely: every order of `small_steps` from one of the
`small_worlds`, by the project's own transitions and decisions. `explore` has its scenarios, `mutants` its
bugs.
"""

import os

os.environ.setdefault("POWERTOOLS_METRICS_NAMESPACE", "Simulation")  # read on import
