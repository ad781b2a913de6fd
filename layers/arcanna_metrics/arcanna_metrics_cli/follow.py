"""Follows a target by its entry in the ledger until metrics are there that were asked for by hand.

    waiting -> run under way -> ended: fresh, or failed
       ^            |
       +------------+  it could not be requested or checked, or another model has become the active one

The ledger alone says when it is done and how it ended. The executions of the run only tell of its checks.
"""

import time
from collections.abc import Callable, Iterator
from math import inf

from arcanna_metrics.protocol.entry import Entry, later
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics_cli import executions
from arcanna_metrics_cli.deployed import Deployed
from arcanna_metrics_cli.entries import PastRun, answering, was_not_checked

LOOK = 2.0
"""Seconds between two looks at the ledger."""
SLACK = 600.0
"""Seconds that a run is waited for while none is under way, beyond the time at which it was due at first."""

Say = Callable[[str], None]


def asked_as_of(entry: Entry) -> float:
    """The time that a run must be requested at to answer what was just recorded in the entry.

    It is the ledger's own time, not this machine's. If nothing is needed any more, a run has answered it.
    """
    return entry.watermark if entry.needed_as_of is None else entry.needed_as_of


class Follower:
    """Follows one target and tells what happens."""

    def __init__(self, stack: Deployed, target: Target, asked: float, say: Say) -> None:
        self._stack = stack
        self._target = target
        self._asked = asked
        self._say = say
        self._told = ""
        self._seen: dict[tuple[str, int], int] = {}

    def ending(self) -> PastRun | None:
        """Waits for the end of the run; None if none began in time."""
        end = None
        while True:
            entry = self._stack.entry(self._target)
            if run := answering(entry, self._asked):
                return run
            now = time.time()
            self._tell(state(entry, self._asked, now))
            if entry.run_id and later(-inf, entry.requested_at) >= self._asked:
                self._tell_checks(entry.run_id, entry.resumed)
            if end is None or entry.held:  # a run has a deadline of its own
                end = max(now, later(0.0, entry.due_at) if not entry.held else 0.0) + SLACK
            if now > end:
                return None
            time.sleep(LOOK)

    def judgement(self, run: PastRun) -> str:
        """Tells the last checks, and returns why a completed run has its verdict; empty for a failed one."""
        number = max((number for run_id, number in self._seen if run_id == run.run_id), default=0)
        self._tell_checks(run.run_id, number)
        execution = self._stack.execution(run.run_id, number)
        return executions.judgement(execution) if execution else ""

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._say(text)
        self._told = text

    def _tell_checks(self, run_id: str, number: int) -> None:
        for each in range(number + 1):
            for line in self._news(run_id, each):
                self._say(f"  {line}")

    def _news(self, run_id: str, number: int) -> Iterator[str]:
        known = (run_id, number)
        if known not in self._seen and number:
            yield f"the run is resumed, {number}"
        for event in self._stack.events_after(run_id, number, self._seen.setdefault(known, 0)):
            self._seen[known] = event["id"]
            if line := executions.told(event):
                yield line


def state(entry: Entry, asked: float, now: float) -> str:
    """What the target waits for, in words that do not change at every look."""
    if entry.run_id:
        ours = later(-inf, entry.requested_at) >= asked
        if ours:
            return f"The run {entry.run_id} is {'under way' if entry.held else 'being started'}."
        return f"Waiting for the end of the run under way, {entry.run_id}, which began before."
    due_at = later(0.0, entry.due_at)
    at = to_iso(due_at)[:19] + "Z"
    if any(from_iso(past["requested_at"]) >= asked for past in entry.history):
        return f"The job has another active model now, whose run starts at {at} or when a slot is free."
    if was_not_checked(entry):
        return f"The run could not be checked. The next one starts at {at} or when a slot is free."
    if entry.attempts:
        failed = "1 attempt" if entry.attempts == 1 else f"{entry.attempts} attempts"
        return f"{failed} failed (make doctor may show why). The next one is at {at} or when a slot is free."
    if due_at <= now:
        return "Waiting for a free slot, or for the next look at what is due (once a minute)."
    return f"Waiting until {at}: runs of the target have a minimum interval."
