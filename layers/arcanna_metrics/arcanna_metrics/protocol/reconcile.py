"""Level-triggered, as controllers are: read one entry, decide by a pure function, do one thing.

May be called at any time, by anybody, any number of times, and does nothing where nothing is due. Those who
call are hints: after recording, at the end of a run, and in a sweep every minute.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from random import random
from typing import Literal

from arcanna_metrics.errors import ActiveModelChanged, PlatformBusy, Rejected, RetryLater, UndocumentedAnswer
from arcanna_metrics.observability import count, logger, said
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.protocol.backoff import postponement
from arcanna_metrics.protocol.check_up import LookAgain, Resume, TakeBack, check_up
from arcanna_metrics.protocol.decide import CheckUp, Decision, Start, decide
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.protocol.slots import Holder, Slots
from arcanna_metrics.protocol.start import Starter
from arcanna_metrics.protocol.transitions import (
    Postponement,
    claim,
    emptied,
    give_back,
    look_again,
    postpone,
    receive,
    resume,
    settled,
    take_back,
)
from arcanna_metrics.settings import JobSettings, Pace
from arcanna_metrics.targets import Target, is_id
from arcanna_metrics.workflow import Workflow, resumed_input

RESERVE = 50.0
"""Seconds kept for the last run that is started: its calls to the platform may get no answer."""

MOST_FAILURES = 3
"""Attempts in a row that fail until a look ends: the platform is away, most likely."""

Step = Literal["nothing", "done", "failed", "no slot"]


class Reconciler:
    """Looks at what is due. Built once per execution environment."""

    def __init__(
        self,
        ledger: Ledger,
        slots: Slots,
        workflow: Workflow,
        arcanna: Arcanna,
        settings: Callable[[str], JobSettings],
        event_bus: str,
        clock: Callable[[], float],
        *,
        draw: Callable[[], float] = random,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`settings` are those of a job, by its id; `draw` is uniform in [0, 1), for jitter."""
        self._ledger = ledger
        self._slots = slots
        self._workflow = workflow
        self._arcanna = arcanna
        self._starter = Starter(ledger, workflow, arcanna, settings, event_bus, clock)
        self._settings = settings
        self._clock = clock
        self._draw = draw
        self._new_id = new_id

    # --- Looking -----------------------------------------------------------------------------------------

    def look(self, remaining: Callable[[], float], recorded: Iterable[Target] = ()) -> None:
        """Sees to what is due, the longest due first, while there are slots and time.

        `remaining` tells the invocation's remaining seconds. `recorded` may be due without being in the index
        yet, and come last. Raises AwsUnavailable where it cannot be read what is due.
        """
        if not self._has_vacancy(remaining):
            return
        failures = 0
        for target in _unique(chain(self._ledger.due(self._clock()), recorded)):
            if remaining() < RESERVE or failures >= MOST_FAILURES:
                return
            step = self.reconcile(target)
            if step == "no slot":
                return
            failures = failures + 1 if step == "failed" else 0

    def _has_vacancy(self, remaining: Callable[[], float]) -> bool:
        """Whether a slot is free, also after a look at the runs that hold them, where that is due."""
        limit = self._pace("").slots
        if not limit:
            return True
        vacancy = self._slots.glance(limit)
        due = [e.target for e in vacancy.holding if isinstance(self._decide(e), CheckUp)]
        failures = 0
        for target in due:
            if remaining() < RESERVE or failures >= MOST_FAILURES:
                break
            failures = failures + 1 if self.reconcile(target) == "failed" else 0
        return vacancy.free > 0 or (bool(due) and self._slots.glance(limit).free > 0)

    def reconcile(self, target: Target) -> Step:
        """Does the one thing that is due for the target, if any. Errors are logged, and put it off."""
        try:
            return self._reconcile(self._ledger.read(target))
        except RetryLater as error:
            self._tell(error, target)
            self._put_off(target, error)
            return _step_after(error)
        except Exception as error:  # noqa: BLE001  # a bug that one entry meets holds no other back
            logger.exception("entry postponed", extra=target._asdict())
            self._put_off(target, error)
            return "done"

    def _reconcile(self, entry: Entry) -> Step:
        match self._decide(entry):
            case Start() if self._forwarded(entry):
                return "done"
            case Start():
                return self._start(entry)
            case CheckUp():
                self._check_up(entry)
                return "done"
        right = settled(entry, self._pace(entry.target.job_id))
        if right.due_at != entry.due_at:  # the pace is another one since
            self._ledger.swap(entry, right)
        return "nothing"

    # --- Starting a run ----------------------------------------------------------------------------------

    def _start(self, entry: Entry) -> Step:
        """Claims the target and makes the claim a run, or gives it back."""
        target, pace = entry.target, self._pace(entry.target.job_id)
        run_id, now = self._new_id(), self._clock()
        claimed = claim(entry, run_id, now)
        if not self._ledger.swap(entry, claimed):
            return "nothing"  # somebody else was faster
        with logger.append_context_keys(
            run_id=run_id, **target._asdict(), cause=entry.cause, execution=self._workflow.arn(run_id)
        ):
            try:
                if pace.slots and not self._slots.take(pace.slots, Holder(run_id, target)):
                    self._give_back(claimed, None)
                    return "no slot"
                self._starter.start(claimed)
            except RetryLater as error:
                self._tell(error, target)
                self._give_back(claimed, error)
                return _step_after(error)
            except Exception as error:  # noqa: BLE001  # a bug keeps neither the target nor the slot
                logger.exception("run not started", extra=said(error))
                self._give_back(claimed, RetryLater(str(error), effect_unknown=True))
        return "done"

    def _give_back(self, claimed: Entry, error: RetryLater | None) -> None:
        """Undoes the claim, unless an execution holds the target after all."""
        when = self._postponement(claimed, error) if error else None
        pace = self._pace(claimed.target.job_id)
        undo = partial(give_back, run_id=claimed.run_id or "", pace=pace, postponement=when)
        self._ledger.apply(claimed.target, undo)

    def _forwarded(self, entry: Entry) -> bool:
        """Whether the target's job is a name, and what waits is recorded under the job's id by now.

        The name is looked up every time, since names are reused. Where it cannot be, the id counts that the
        platform last answered with; where there is none, the run is the name's own, and its answer tells.
        """
        name, model_id = entry.target
        if is_id(name):
            return False
        job_id = self._arcanna.job_id_of(name) or self._learned_id(entry)
        if job_id is None:
            return False
        pace = self._pace(job_id)
        target = Target(job_id, model_id)
        self._ledger.apply(target, partial(receive, mailbox=entry, pace=pace))
        self._ledger.swap(entry, replace(emptied(entry, pace), name_of=job_id))
        self.reconcile(target)
        return True

    def _learned_id(self, entry: Entry) -> str | None:
        """The id that the platform last answered with, unless it does not know that job any more."""
        if entry.name_of is None:
            return None
        failure = self._ledger.read(Target(entry.name_of, entry.target.model_id)).last_failure
        return None if failure and failure["reason"] == Rejected.__name__ else entry.name_of

    # --- Looking after a run -----------------------------------------------------------------------------

    def _check_up(self, entry: Entry) -> None:
        """Looks how the execution is that is to follow the run, and sees to it that there is one."""
        run_id, number, now = entry.run_id or "", entry.resumed, self._clock()
        execution = self._workflow.describe(run_id, number)
        before = self._workflow.describe(run_id, number - 1) if number and not execution else None
        match check_up(entry, execution, before, now):
            case LookAgain(at):
                self._ledger.swap(entry, look_again(entry, at))
            case Resume(number, given):
                at = self._postponement(entry, None).retry_at
                if self._ledger.swap(entry, resume(entry, number, at)):
                    self._workflow.start(run_id, resumed_input(given, number), number)
                    logger.warning("run resumed", run_id=run_id, number=number, extra=entry.target._asdict())
            case TakeBack(why):
                self._take_back(entry, why)

    def _take_back(self, entry: Entry, why: str) -> None:
        """Frees the target, as a failed attempt."""
        pace = self._pace(entry.target.job_id)
        if self._ledger.swap(entry, take_back(entry, pace, self._postponement(entry, None))):
            count("RunsTakenBack")
            logger.warning("run taken back", run_id=entry.run_id, detail=why, extra=entry.target._asdict())

    # --- Errors ------------------------------------------------------------------------------------------

    def _put_off(self, target: Target, error: Exception) -> None:
        try:
            entry = self._ledger.read(target)
            if isinstance(self._decide(entry), Start | CheckUp):  # unless somebody else has seen to it
                pace = self._pace(target.job_id)
                self._ledger.swap(entry, postpone(entry, pace, self._postponement(entry, error)))
        except Exception as again:  # noqa: BLE001  # the next look meets it as it was
            logger.error("entry not postponed", extra=target._asdict() | said(again))

    def _tell(self, error: RetryLater, target: Target) -> None:
        count(type(error).__name__)
        logger.warning("attempt failed", extra=target._asdict() | said(error))

    def _postponement(self, entry: Entry, error: Exception | None) -> Postponement:
        pace = self._pace(entry.target.job_id)
        return postponement(error, entry.attempts, pace, self._clock(), self._draw())

    def _decide(self, entry: Entry) -> Decision:
        return decide(entry, self._clock(), self._pace(entry.target.job_id))

    def _pace(self, job_id: str) -> Pace:
        return self._settings(job_id).pace


def _unique(targets: Iterable[Target]) -> Iterator[Target]:
    seen: set[Target] = set()
    for target in targets:
        if target not in seen:
            seen.add(target)
            yield target


def _step_after(error: RetryLater) -> Step:
    """Whether others would fail likewise: not where the error may be of this target alone."""
    of_one = PlatformBusy | UndocumentedAnswer | ActiveModelChanged
    return "done" if isinstance(error, of_one) else "failed"
