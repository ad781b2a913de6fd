"""Follows a target by its entry in the ledger until a requested recompute has ended.

    waiting -> run under way -> ended: fresh, or failed
       ^            |
       +------------+  it could not be requested or checked, or another model has become the active one

Only the ledger decides when the run has ended, and how. Its executions only tell about the checks.
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from arcanna_metrics.protocol.entry import NEVER, Entry
from arcanna_metrics.targets import Target
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics_cli import executions
from arcanna_metrics_cli.deployed import Deployed
from arcanna_metrics_cli.entries import (
    PastRun,
    answering,
    is_passed_over,
    waits_for_spacing,
    was_not_checked,
)
from arcanna_metrics_cli.executions import Told
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.output import Output
from arcanna_metrics_cli.words import counted, span, without_stop

LOOK = 2.0
"""Seconds between two looks at the ledger."""
SLACK = 600.0
"""Seconds to wait for a run to start, counted from when it is due."""
HEARTBEAT = 30.0
"""Seconds after which a line is repeated that has not changed, except for its numbers."""

_NUMBERS = re.compile(r"[0-9]+")


class Unfinished(NamedTuple):
    """The time is up. `began` is whether a run that answers the request is under way.

    `state` is what the target waited for at the last look.
    """

    began: bool
    state: str


def asked_as_of(entry: Entry) -> float:
    """The request time from which on a run answers what was just recorded in the entry, in epoch seconds.

    It is the ledger's time, not this machine's. If nothing is needed any more, a run has already answered.
    """
    asked, needed = entry.waiting.asked_at, entry.waiting.needed_as_of
    return next((at for at in (asked, needed) if at > NEVER), entry.watermark)


def is_forwarded(entry: Entry) -> bool:
    """Whether what was recorded under a job's name is now recorded under its id."""
    return entry.name_of is not None and not entry.dirty and entry.claim is None


class Follower:
    """Follows what was just recorded for a target, and prints what happens.

    From a job's name, it moves on to the job's id.
    """

    def __init__(self, stack: Deployed, recorded_in: Target, out: Output) -> None:
        entry = stack.entry(recorded_in)
        if is_forwarded(entry):
            entry = max(entry, stack.entry(stack.home(recorded_in)), key=asked_as_of)
        self._stack = stack
        self.target = entry.target
        self._asked = asked_as_of(entry)
        self._out = out
        self._told: dict[str, tuple[str, float]] = {}
        self._seen: dict[tuple[str, int], int] = {}

    def ending(self, began_at: float, timeout: float | None = None) -> PastRun | Unfinished:
        """Waits for the end of the run, until `timeout` seconds after `began_at` (epoch seconds).

        Without a timeout, waits SLACK seconds for the run to start, and for its end without a limit. Raises
        Trouble if the request is gone, such as by `forget`.
        """
        slack_ends = None
        while True:
            entry = self._stack.entry(self.target)
            if run := answering(entry, self._asked):
                return run
            if is_forwarded(entry):
                self.target = self._stack.home(self.target)
                continue
            if not (entry.dirty or entry.claim):
                said = "The request is no longer in the ledger."
                raise Trouble(Exit.NOT_STARTED, said, "arcanna-metrics status")
            now = time.time()
            claim = entry.claim
            began = claim if claim and claim.held else None  # a claim may still be given back
            ours = began is not None and began.requested_at >= self._asked
            due = claim is None and (entry.due_at or 0.0) <= now
            slots_taken = due and self._stack.slots_taken()
            waits_for = state(entry, self._asked, now, slots_taken=slots_taken)
            self._tell("state", waits_for)
            if began and ours:
                self._tell_checks(began.run_id, began.number or 0)
            if slack_ends is None or began:  # a run ends by its own deadline
                slack_ends = max(now, 0.0 if began else (entry.due_at or 0.0)) + SLACK
            if now > (slack_ends if timeout is None else began_at + timeout):
                return Unfinished(ours, waits_for)
            left = LOOK if timeout is None else min(LOOK, began_at + timeout - now + 0.01)
            self._out.waiting(f"waiting for {span(now - began_at)} ...")
            time.sleep(left)

    def tell_last_checks(self, run: PastRun) -> Told | None:
        """Prints the last checks of a run that has ended. Returns what its last execution has told.

        None if Step Functions does not show it.
        """
        number = max((number for run_id, number in self._seen if run_id == run.run_id), default=0)
        self._tell_checks(run.run_id, number)
        with suppress(BotoCoreError, ClientError):
            if execution := self._stack.execution(run.run_id, number):
                return executions.told(execution)
        return None

    def _tell(self, what: str, text: str) -> None:
        """Prints the text if it is new. Repeats one that only differs in numbers after HEARTBEAT."""
        now = time.time()
        told, told_at = self._told.get(what, ("", 0.0))
        if _NUMBERS.sub("", text) == _NUMBERS.sub("", told) and now - told_at < HEARTBEAT:
            return
        self._out.say(f"Still: {text}" if text == told else text)
        self._told[what] = text, now

    def _tell_checks(self, run_id: str, number: int) -> None:
        with suppress(BotoCoreError, ClientError):  # only words: the ledger decides
            for each in range(number + 1):
                for line in self._news(run_id, each):
                    self._tell("check", f"  {line}")

    def _news(self, run_id: str, number: int) -> Iterator[str]:
        known = (run_id, number)
        if known not in self._seen:
            yield self._stack.execution_link(run_id, number)
            if number:
                yield f"the run is resumed, {number}"
        for event in self._stack.events_after(run_id, number, self._seen.setdefault(known, 0)):
            self._seen[known] = event["id"]
            if line := executions.news(event):
                yield line


def state(entry: Entry, asked: float, now: float, *, slots_taken: bool = False) -> str:
    """What the target waits for, in words that do not change with every look.

    `asked` and `now` are in epoch seconds. `slots_taken` is whether all slots are known to be taken.
    """
    if claim := entry.claim:
        if claim.requested_at >= asked:
            return f"The run {claim.run_id} is {'under way' if claim.held else 'being started'}."
        return f"Waiting for run {claim.run_id}, which began earlier, to end."
    due_at = entry.due_at or 0.0
    at = f"at {to_iso(due_at)[:19]}Z"
    if due_at <= now:
        at = "when a slot is free" if slots_taken else "within a minute"
    if any(from_iso(past["requested_at"]) >= asked for past in entry.history):
        return f"The job has another active model now. Its run starts {at}."
    if was_not_checked(entry):
        return f"The run could not be checked. The next one starts {at}."
    if entry.attempts:
        why = without_stop(entry.last_error) or "arcanna-metrics doctor may show why"
        return f"{counted(entry.attempts, 'attempt')} failed ({why}). The next one starts {at}."
    if is_passed_over(entry, now) and not slots_taken:
        return f"Due for {span(now - due_at)}, but looks end before it; arcanna-metrics doctor may show why."
    if due_at <= now:
        what = "a free slot: all are taken" if slots_taken else "the next look at what is due (once a minute)"
        return f"Waiting for {what}."
    why = "the last update is visible at Arcanna then"
    if waits_for_spacing(entry):
        why = "the spacing after the last run (pace.spacing_seconds)"
    return f"Waiting until {at[3:]}: {why}."
