"""What trigger_recompute does: record what has happened, then look at what is due."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from random import random
from typing import Any, NamedTuple

from arcanna_metrics.errors import BadInput, RetryLater
from arcanna_metrics.intake.events import (
    AllTargets,
    Ignored,
    ObjectCreated,
    Occurrence,
    RunEnded,
    Sweep,
    read,
    read_json,
)
from arcanna_metrics.intake.queues import DeadLetter, Queues
from arcanna_metrics.observability import count, gauges, logger, run_ended, said
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.backoff import postponement
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.protocol.reconcile import RESERVE, Reconciler
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import Pace, Settings
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.updates import Update

FAN_OUT = 100
"""Targets of one schedule that are recorded at once; for more, each is asked for by a message of its own."""

NAP = 5.0
"""Seconds for which it pays to wait for what was recorded: the next sweep may be a minute away."""


class Recorded(NamedTuple):
    """What the ledger says of a target after its updates were recorded and what was due was looked at.

    `run_id` is the run that holds the target, `due_at` when somebody looks at it next, or null.
    """

    job_id: str
    model_id: str | None
    updates: int
    run_id: str | None
    due_at: str | None


@dataclass
class _Intake:
    """What a batch of messages says, sorted by what is to be done about it."""

    updates: dict[Target, list[Update]] = field(default_factory=lambda: defaultdict(list))
    messages: dict[Target, list[str]] = field(default_factory=lambda: defaultdict(list))
    recorded: dict[Target, Entry] = field(default_factory=dict)
    ended: list[RunEnded] = field(default_factory=list)
    sweep: bool = False

    def add(self, update: Update, message_id: str) -> None:
        self.updates[update.target].append(update)
        self.messages[update.target].append(message_id)


class Trigger:
    """Built once per execution environment."""

    def __init__(
        self,
        ledger: Ledger,
        reconciler: Reconciler,
        queues: Queues,
        settings: Callable[[], Settings],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        draw: Callable[[], float] = random,
    ) -> None:
        """`settings` are those that are in force. It raises AwsUnavailable and ConfigurationError."""
        self._ledger = ledger
        self._reconciler = reconciler
        self._queues = queues
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._applied: Settings | None = None

    # --- Record, then reconcile --------------------------------------------------------------------------

    def handle_batch(self, records: Iterable[Mapping[str, Any]], remaining: Callable[[], float]) -> list[str]:
        """A batch of the updates queue. Returns the ids of the messages that must come again.

        Those are only the ones that could not be recorded. A message that is recorded is done with. Raises
        AwsUnavailable and ConfigurationError where there are no settings: then all come again.
        """
        self._settings()
        intake = _Intake()
        failed: list[str] = []
        unusable: dict[str, DeadLetter] = {}
        for message in records:
            message_id = message["messageId"]
            try:
                sent_at = int(message["attributes"]["SentTimestamp"]) / 1000
                self._sort(read_json(message["body"], sent_at), intake, message_id)
            except BadInput as error:
                unusable[message_id] = DeadLetter(message["body"], type(error).__name__, str(error))
            except Exception as error:  # noqa: BLE001  # a bug that one message meets holds no other back
                logger.exception("message stays in the queue", message_id=message_id, extra=said(error))
                failed.append(message_id)
        failed += self._dead_letter_all(unusable)
        stranded = self._record_all(intake, remaining)
        failed += [message_id for target in stranded for message_id in intake.messages[target]]
        self._reconcile(intake, remaining)
        return failed

    def handle_event(self, event: object, remaining: Callable[[], float]) -> list[Recorded]:
        """An event by direct invocation. Raises BadInput, ConfigurationError and AwsUnavailable."""
        intake = _Intake()
        self._sort(read(event, self._clock()), intake, "")
        for error in self._record_all(intake, remaining).values():
            raise error
        self._reconcile(intake, remaining)
        return [
            _recorded(self._ledger.read(target), len(intake.updates[target])) for target in intake.updates
        ]

    def _sort(self, occurrences: Iterable[Occurrence], intake: _Intake, message_id: str) -> None:
        """Raises BadInput, AwsUnavailable and ConfigurationError; then nothing of the message is added."""
        updates: list[Update] = []
        for occurrence in occurrences:
            match occurrence:
                case Update():
                    updates.append(occurrence)
                case ObjectCreated():
                    updates += self._routed(occurrence)
                case Ignored():
                    _ignored("no training data", occurrence)
                case AllTargets():
                    updates += self._scheduled(occurrence)
                case RunEnded():
                    intake.ended.append(occurrence)
                case Sweep():
                    intake.sweep = True
        if updates:
            count("UpdatesReceived", len(updates))
        for update in updates:
            intake.add(update, message_id)

    def _routed(self, created: ObjectCreated) -> list[Update]:
        updates = self._settings().routes.updates(created)
        if not updates:
            _ignored("no route", created)
        return updates

    def _scheduled(self, schedule: AllTargets) -> list[Update]:
        """What a schedule asks for; nothing if it was so much that it is asked for by messages."""
        settings = self._settings()
        updates = settings.routes.scheduled(
            schedule, self._ledger.jobs(), lambda job_id: settings.for_job(job_id).pace.stale_after
        )
        logger.info("schedule", targets=len(updates))
        if len(updates) <= FAN_OUT:
            return updates
        self._queues.request_all(updates)
        return []

    def _record_all(self, intake: _Intake, remaining: Callable[[], float]) -> dict[Target, Exception]:
        """Records what has happened, by one write for each target. Returns what failed."""
        failed: dict[Target, Exception] = {}
        try:
            entries = self._ledger.read_all(list(intake.updates))
        except RetryLater as error:
            logger.exception("updates stay in the queue", extra=said(error))
            return dict.fromkeys(intake.updates, error)
        for target, updates in intake.updates.items():
            try:
                _assert_time(remaining)
                pace = self._pace(target)
                record = partial(transitions.record, updates=updates, pace=pace)
                if entry := self._ledger.apply(target, record, entries.get(target)):
                    intake.recorded[target] = entry
                logger.info("updates recorded", updates=len(updates), extra=target._asdict())
            except Exception as error:  # noqa: BLE001  # nor does a bug that one target meets
                logger.exception("updates stay in the queue", extra=target._asdict() | said(error))
                failed[target] = error
        return failed

    def _reconcile(self, intake: _Intake, remaining: Callable[[], float]) -> None:
        """Looks at what is due. What this misses, the next sweep does not."""
        for ended in intake.ended:
            report = partial(transitions.report, run_id=ended.run_id, now=self._clock())
            with _as_a_hint("report not noted"):
                self._ledger.apply(ended.target, report)
        waits = False
        if intake.sweep:  # whatever else there is: alarms need the gauges most while updates keep coming
            with _as_a_hint("nothing measured"):
                waits = self._measure(remaining)
        if intake.recorded or waits:
            self._nap(intake.recorded.values())
            self._look(remaining, self._due(intake.recorded))

    def _look(self, remaining: Callable[[], float], recorded: Iterable[Target]) -> None:
        """Looks at what is due. Whoever calls has done its own work, so no error is the caller's."""
        with _as_a_hint("look cut short"):
            self._reconciler.look(remaining, recorded)

    def _nap(self, entries: Iterable[Entry]) -> None:
        """Waits for what is due within moments: clocks differ, and the next sweep may be a minute away."""
        now = self._clock()
        waits = [entry.due_at - now for entry in entries if entry.due_at is not None and entry.run_id is None]
        if soon := [wait for wait in waits if 0 < wait <= NAP]:
            self._sleep(max(soon))

    def _due(self, recorded: Mapping[Target, Entry]) -> list[Target]:
        now = self._clock()
        return [target for target, entry in recorded.items() if (entry.due_at or inf) <= now]

    def _measure(self, remaining: Callable[[], float]) -> bool:
        """Emits the gauges that alarms watch; False where nothing waits or runs."""
        listed, now = self._ledger.waiting_or_running(), self._clock()
        if not listed:
            return False
        self._apply_new_settings(
            [each.target for each in listed if not each.running and each.due_at > now], remaining
        )
        due = [each for each in listed if not each.running and each.due_at <= now]
        ages = [now - each.waiting_since for each in listed if each.waiting_since is not None]
        ages += [now - each.due_at for each in due]  # of a batch that has been enough since then
        gauges(due=len(due), oldest=max(ages, default=0.0), running=sum(each.running for each in listed))
        return True

    def _apply_new_settings(self, waiting: Iterable[Target], remaining: Callable[[], float]) -> None:
        """Has a pace that has changed reach what already waits: a lower spacing, say. Once for a change."""
        if (settings := self._settings()) == self._applied:
            return
        for target in waiting:
            if remaining() < RESERVE:
                return
            self._ledger.apply(target, partial(transitions.settled, pace=self._pace(target)))
        self._applied = settings

    def _pace(self, target: Target) -> Pace:
        return self._settings().for_job(target.job_id).pace

    def _dead_letter_all(self, unusable: Mapping[str, DeadLetter]) -> list[str]:
        """Sends messages, by their ids, to the dead-letter queue. Returns those that could not be sent."""
        failed = []
        errors = self._queues.dead_letter_all(list(unusable.values()))
        for (message_id, letter), error in zip(unusable.items(), errors, strict=True):
            if error:
                count(type(error).__name__)
                logger.error("message stays in the queue", message_id=message_id, extra=said(error))
                failed.append(message_id)
            else:
                count("UpdatesRejected")
                why = {"reason": letter.reason, "detail": letter.detail}
                logger.error("unusable message", message_id=message_id, extra=why)
        return failed

    # --- For the workflow --------------------------------------------------------------------------------

    def hold(self, run: Run, number: int) -> bool:
        """Whether the run's execution of that number may go on. Raises AwsUnavailable."""
        held = self._ledger.apply(
            target_of(run),
            lambda entry: transitions.hold(entry, run["run_id"], number, self._clock()),
        )
        if held is None:
            logger.warning("run superseded", run_id=run["run_id"], number=number)
        return held is not None

    def release(self, run: Run, number: int, result: Result, remaining: Callable[[], float]) -> bool:
        """Lets the run's target go, then looks at what is due, so that the next one gets the slot.

        `number` is that of the execution. False if that has been done before, or if the run or the number was
        taken over. Raises AwsUnavailable.
        """
        target = target_of(run)
        pace, now = self._pace(target), self._clock()
        after = self._ledger.apply(
            target,
            lambda entry: transitions.release(
                entry, run, number, result, pace, postponement(None, entry.attempts, pace, now, self._draw())
            ),
        )
        if after is not None and result["outcome"] == "not_checked":
            run_ended(run["unchecked"])
        logger.info("run released" if after else "run was released before", outcome=result["outcome"])
        self._look(remaining, [target])
        return after is not None


@contextmanager
def _as_a_hint(failure: str) -> Iterator[None]:
    """What only hurries things may fail: the message is recorded, and the next sweep looks again."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        if isinstance(error, RetryLater):
            count(type(error).__name__)
        logger.exception(failure, extra=said(error))


def target_of(run: Run) -> Target:
    """The ledger's key of a run."""
    return Target(run["target"]["job_id"], run["target"]["model_id"])


def _assert_time(remaining: Callable[[], float]) -> None:
    if remaining() < RESERVE:
        raise RetryLater("no time is left in this invocation")


def _recorded(entry: Entry, updates: int) -> Recorded:
    due_at = None if entry.due_at is None else to_iso(entry.due_at)
    return Recorded(*entry.target, updates, entry.run_id, due_at)


def _ignored(why: str, what: ObjectCreated | Ignored) -> None:
    count("UpdatesIgnored")
    logger.info(why, extra=what._asdict())
