"""The trigger: records what has happened, then looks at what is due."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

from arcanna_metrics.controller.reconcile import RESERVE, look
from arcanna_metrics.controller.services import Services
from arcanna_metrics.controller.sweep import Sweeper
from arcanna_metrics.errors import AwsUnavailable, BadInput
from arcanna_metrics.intake import events
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.observability import count, log_error, logger, oldest_update, reason_and_detail
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.targets import Target, Update
from arcanna_metrics.times import to_iso

FAN_OUT = 100
"""Targets of one schedule that one invocation records. If there are more, each gets its own message."""

FOR_A_LETTER = 20.0
"""Seconds that an invocation must still have to send a dead letter, which may take 12."""

NAP = 5.0
"""Seconds that an invocation waits until what it has recorded is due: the next sweep may be a minute away."""


@dataclass
class _Intake:
    """What a batch of messages says, sorted by what to do about it."""

    updates: dict[Target, list[Update]] = field(default_factory=lambda: defaultdict(list))
    due_at: dict[Target, float] = field(default_factory=dict)  # of recorded targets; inf: no look is needed
    ended: list[events.RunEnded] = field(default_factory=list)
    sweep: bool = False


class Trigger:
    """Built once per execution environment."""

    def __init__(
        self, services: Services, queues: Callable[[], Queues], sleep: Callable[[float], None]
    ) -> None:
        """`queues` is called when something is first sent: few invocations need SQS's client."""
        self._services = services
        self._settings = services.settings
        self._ledger = services.ledger
        self._sweeper = Sweeper(services)
        self._queues = queues
        self._sleep = sleep

    def handle_batch(self, records: Iterable[Mapping[str, Any]], remaining: Callable[[], float]) -> list[str]:
        """Handles a batch of messages from the updates queue. Returns the ids of those to deliver again.

        These are the messages that could neither be recorded nor sent to the dead-letter queue. Raises
        AwsUnavailable and ConfigurationError if there are no settings. Then SQS delivers all messages again.
        """
        self._settings()
        intake = _Intake()
        messages: dict[Target, list[str]] = defaultdict(list)  # the ids of those about each target
        again: list[str] = []
        unusable: dict[str, tuple[str, BadInput]] = {}
        sent_at: dict[str, float] = {}
        for message in records:
            message_id = message["messageId"]
            sent_at[message_id] = int(message["attributes"]["SentTimestamp"]) / 1000
            try:
                for update in self._sort(events.read_json(message["body"], sent_at[message_id]), intake):
                    messages[update.target].append(message_id)
            except BadInput as error:
                unusable[message_id] = message["body"], error
            except Exception as error:  # noqa: BLE001  # a bug in handling one message must not stop the others
                log_error("message stays in the queue", error, message_id=message_id)
                again.append(message_id)
        for target in self._record_all(intake, remaining):
            again += messages[target]
        self._reconcile(intake, remaining)
        again += self._dead_letter_all(unusable, remaining)
        if again:  # SQS's own metric of the age leaves out what was received three times
            oldest_update(self._services.clock() - min(sent_at[message_id] for message_id in again))
        return again

    def handle_event(self, event: object, remaining: Callable[[], float]) -> list[dict[str, object]]:
        """Handles an event of a direct invocation. Raises BadInput, ConfigurationError and AwsUnavailable."""
        intake = _Intake()
        self._sort(events.read(event, self._services.clock()), intake)
        if errors := self._record_all(intake, remaining):
            raise next(iter(errors.values()))
        self._reconcile(intake, remaining)
        return [_recorded(self._ledger.read(target), len(new)) for target, new in intake.updates.items()]

    def look(self, remaining: Callable[[], float], recorded: Iterable[Target]) -> None:
        """Does what is due. Never raises, because the caller's own work is done."""
        if self._sweeper.is_overdue():
            self._sweep(remaining)
        with _best_effort("look ended early"):
            look(self._services, remaining, recorded)

    # --- What a batch says -------------------------------------------------------------------------------

    def _sort(self, occurrences: Iterable[events.Occurrence], intake: _Intake) -> list[Update]:
        """Adds what a message says. Returns its updates. If it raises, it adds none of them.

        Raises BadInput, AwsUnavailable and ConfigurationError.
        """
        updates: list[Update] = []
        for occurrence in occurrences:
            match occurrence:
                case Update():
                    updates.append(occurrence)
                case events.ObjectCreated():
                    updates += self._routed(occurrence)
                case events.Ignored():
                    _ignored("no training data", occurrence)
                case events.AllTargets():
                    updates += self._scheduled(occurrence)
                case events.RunEnded():
                    intake.ended.append(occurrence)
                case events.Sweep():
                    intake.sweep = True
        for update in updates:
            intake.updates[update.target].append(update)
        return updates

    def _routed(self, created: events.ObjectCreated) -> list[Update]:
        updates = self._settings().routes.updates(created)
        if not updates:
            _ignored("no route", created)
        return updates

    def _scheduled(self, schedule: events.AllTargets) -> list[Update]:
        """The updates that a schedule asks for. If there are many, it sends each to the queue instead.

        Covers every target that the routes name in full, and the active model of every other known job.
        """
        settings = self._settings()
        targets = settings.routes.fixed_targets()
        others = self._ledger.jobs({target.job_id for target in targets})
        targets += [Target(job_id, None) for job_id in sorted(others)]
        updates = [settings.wish(target, schedule) for target in targets]
        logger.info("schedule", targets=len(updates))
        if len(updates) <= FAN_OUT:
            return updates
        self._queues().request_all(updates)
        return []

    def _dead_letter_all(
        self, unusable: Mapping[str, tuple[str, BadInput]], remaining: Callable[[], float]
    ) -> list[str]:
        """Moves messages, by their ids, to the dead-letter queue. Returns those that stay.

        Comes last, so that a flood of them delays no run.
        """
        stay: list[str] = []
        for message_id, (body, error) in unusable.items():
            if remaining() < FOR_A_LETTER:
                stay.append(message_id)
                continue
            try:
                self._queues().dead_letter(body, error)
            except AwsUnavailable as failure:
                log_error("unusable message stays in the queue", failure, message_id=message_id)
                stay.append(message_id)
            else:
                count("UpdatesRejected")
                logger.error("unusable message", message_id=message_id, extra=reason_and_detail(error))
        return stay

    # --- Record, then reconcile --------------------------------------------------------------------------

    def _record_all(self, intake: _Intake, remaining: Callable[[], float]) -> dict[Target, Exception]:
        """Records what has happened, with one write for each target. Returns the errors."""
        errors: dict[Target, Exception] = {}
        try:
            for target, entry in self._ledger.each(intake.updates):
                if remaining() < RESERVE:
                    break
                try:
                    intake.due_at[target] = self._record(target, intake.updates[target], entry)
                except Exception as error:  # noqa: BLE001  # a bug with one target must not stop the others
                    log_error("updates stay in the queue", error, **target._asdict())
                    errors[target] = error
        except AwsUnavailable as error:
            log_error("updates stay in the queue", error)
            return {target: error for target in intake.updates if target not in intake.due_at} | errors
        done = intake.due_at.keys() | errors.keys()
        if left := [target for target in intake.updates if target not in done]:
            logger.warning("no time is left, so updates stay in the queue", targets=len(left))
            errors |= dict.fromkeys(left, TimeoutError("no time is left in this invocation"))
        return errors

    def _record(self, target: Target, updates: list[Update], known: Entry | None) -> float:
        """Records updates of the target. Returns when it is due; inf if it needs no look."""
        pace = self._settings().for_job(target.job_id).pace
        entry = self._ledger.apply(known or target, transitions.record, updates, pace)
        count("UpdatesReceived", len(updates))  # not before, or those that stay are counted again
        logger.info("updates recorded", updates=len(updates), extra=target._asdict())
        return inf if entry.due_at is None else entry.due_at

    def _reconcile(self, intake: _Intake, remaining: Callable[[], float]) -> None:
        """Does what is due. The next sweep does what this leaves undone."""
        for ended in intake.ended:
            with _best_effort("report not recorded"):
                now = self._services.clock()
                self._ledger.apply(ended.target, transitions.report_end, ended.run_id, now)
        # Also with other messages: alarms need the gauges most while updates keep coming.
        waits = (intake.sweep or self._sweeper.is_overdue()) and self._sweep(remaining)
        if intake.due_at or waits:
            self._nap(intake.due_at.values())
            now = self._services.clock()
            due = [target for target, due_at in intake.due_at.items() if due_at <= now]
            self.look(remaining, due)

    def _sweep(self, remaining: Callable[[], float]) -> bool:
        """Whether anything waits or runs, as far as is known."""
        with _best_effort("sweep ended early"):
            return self._sweeper.sweep(remaining)
        return True

    def _nap(self, times: Iterable[float]) -> None:
        """Waits for targets that are due in a few seconds, because the next sweep may be a minute away."""
        now = self._services.clock()
        if soon := [due_at - now for due_at in times if 0 < due_at - now <= NAP]:
            self._sleep(max(soon))


@contextmanager
def _best_effort(failure: str) -> Iterator[None]:
    """Logs an error. The next sweep does the work again."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log_error(failure, error)


def _recorded(entry: Entry, updates: int) -> dict[str, object]:
    """What the ledger says about a target after its updates were recorded and the trigger has looked.

    `run_id` is the run that holds the target. `due_at` is the time of the next look. Both may be null.
    """
    due_at = None if entry.due_at is None else to_iso(entry.due_at)
    return {**entry.target._asdict(), "updates": updates, "run_id": entry.run_id, "due_at": due_at}


def _ignored(why: str, what: events.ObjectCreated | events.Ignored) -> None:
    count("UpdatesIgnored")
    logger.info(why, extra=what._asdict())
