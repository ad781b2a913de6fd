"""From events to the fate of each update: what trigger_recompute does."""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from arcanna_metrics.aws import DeadLetter, Queues
from arcanna_metrics.errors import (
    BadInput,
    RecomputeError,
    Rejected,
    RetryLater,
)
from arcanna_metrics.intake.events import (
    AllModels,
    Ignored,
    Occurrence,
    RunEnded,
    read,
    read_json,
    request_body,
)
from arcanna_metrics.intake.routes import Routes
from arcanna_metrics.observability import count, logger, run_failed, waiting
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.settings import RetrySettings
from arcanna_metrics.starter import Starter
from arcanna_metrics.targets import Model, Target
from arcanna_metrics.times import from_iso
from arcanna_metrics.updates import MANUAL, Update, merge

RESERVE = 40.0
"""Seconds kept for the last model that is begun, and for sending back what is left then."""

LONGEST_DELAY = 900
"""Seconds, SQS's own limit for one message."""

FAN_OUT = 20
"""Models of one schedule that are handled at once; more go through the queue, one message each."""

Outcome = Literal[
    "started",
    "covered",
    "fresh",
    "coalesced",
    "gathered",
    "settling",
    "waiting",
    "put_off",
    "rejected",
    "dead_lettered",
]
METRIC_OF: Mapping[Outcome, str] = {
    "started": "UpdatesClaimed",
    "covered": "UpdatesCovered",
    "fresh": "UpdatesFresh",
    "coalesced": "UpdatesCoalesced",
    "gathered": "UpdatesGathered",
    "waiting": "UpdatesPutOff",
    "settling": "UpdatesPutOff",
    "put_off": "UpdatesPutOff",
    "rejected": "UpdatesRejected",
    "dead_lettered": "UpdatesRejected",
}


class Result(NamedTuple):
    """What became of the updates of one target."""

    job_id: str
    model_id: str | None
    outcome: Outcome
    detail: str
    updates: int


class Trigger:
    """Turns events into runs. Built once per execution environment."""

    def __init__(
        self,
        starter: Starter,
        arcanna: Arcanna,
        queues: Queues,
        routes: Callable[[], Routes],
        retries: RetrySettings,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._starter = starter
        self._arcanna = arcanna
        self._queues = queues
        self._routes = routes
        self._retries = retries
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    # --- The two ways in ---------------------------------------------------------------------------------

    def handle_event(self, event: object, remaining: Callable[[], float]) -> list[Result]:
        """An event by direct invocation; `remaining` tells the invocation's remaining seconds.

        Whoever asks by hand wants to see a run started: until then it is waited for here, if there is time.

        Raises BadInput, ConfigurationError, or AwsUnavailable where not even the queue can be reached.
        """
        updates = merge(self._updates_of(read(event, self._clock())), self._starter.fresh_from())
        results, stranded = self._handle_all(updates, remaining, self._sleep)
        for _, error in stranded:
            raise error
        return results

    def handle_batch(self, records: Iterable[Mapping[str, Any]], remaining: Callable[[], float]) -> list[str]:
        """A batch of the updates queue. Returns the ids of the messages that must come again.

        Those are only the ones that nothing could be done about. Updates that have to wait are sent anew,
        as one message for each target however many there were, with a delay and a count of their own.
        """
        failed: list[str] = []
        unusable: dict[str, DeadLetter] = {}
        updates: list[Update] = []
        messages: dict[Target, list[str]] = defaultdict(list)
        for record in records:
            message_id = record["messageId"]
            if remaining() < RESERVE:
                failed.append(message_id)
                continue
            try:
                found = self._read_message(record)
            except BadInput as error:
                unusable[message_id] = DeadLetter(record["body"], type(error).__name__, str(error))
                continue
            except Exception as error:  # noqa: BLE001  # also a bug that one message meets holds no other back
                logger.error("message stays in the queue", exc_info=error, extra=_error(error))
                failed.append(message_id)
                continue
            updates += found
            for update in found:
                messages[update.target].append(message_id)
        failed += self._dead_letter_all(unusable)
        updates = merge(updates, self._starter.fresh_from())
        _, stranded = self._handle_all(updates, remaining, None)
        for target, failure in stranded:
            logger.error(
                "updates stay in the queue", exc_info=failure, extra=target._asdict() | _error(failure)
            )
            failed += messages[target]
        return failed

    # --- From events to updates --------------------------------------------------------------------------

    def _read_message(self, record: Mapping[str, Any]) -> list[Update]:
        """The updates of a message. Raises BadInput, AwsUnavailable and ConfigurationError."""
        sent_at = int(record["attributes"]["SentTimestamp"]) / 1000
        return self._updates_of(read_json(record["body"], sent_at))

    def _dead_letter_all(self, unusable: Mapping[str, DeadLetter]) -> list[str]:
        """Sends messages, by their ids, to the dead-letter queue. Returns those that could not be sent."""
        failed = []
        errors = self._queues.dead_letter_all(list(unusable.values()))
        for (message_id, letter), error in zip(unusable.items(), errors, strict=True):
            said = {"reason": letter.reason, "detail": letter.detail}
            if error:
                count(type(error).__name__)
                logger.error("message stays in the queue", message_id=message_id, extra=_error(error))
                failed.append(message_id)
            else:
                count("UpdatesRejected")
                logger.error("unusable message", message_id=message_id, extra=said)
        return failed

    def _updates_of(self, occurrences: Iterable[Occurrence]) -> list[Update]:
        updates: list[Update] = []
        for occurrence in occurrences:
            if isinstance(occurrence, Update):
                updates.append(occurrence)
            elif isinstance(occurrence, RunEnded):
                updates += self._starter.conclude(occurrence)
                run_failed(occurrence.error or occurrence.status)
            elif isinstance(occurrence, AllModels):
                updates += self._scheduled(occurrence)
            elif isinstance(occurrence, Ignored):
                count("UpdatesIgnored")
                logger.info("no training data", extra=occurrence._asdict())
            else:
                found = self._routes().updates(occurrence)
                if not found:
                    count("UpdatesIgnored")
                    logger.info("no route", extra=occurrence._asdict())
                updates += found
        if new := sum(update.count for update in updates if _is_new(update)):
            count("UpdatesReceived", new)
        return updates

    def _scheduled(self, occurrence: AllModels) -> list[Update]:
        """What a schedule asks for, and what has been left behind; nothing if it was so much that it has been
        sent to the queue."""
        jobs, left_behind = self._starter.known()
        updates = [*left_behind, *self._routes().scheduled(occurrence, jobs)]
        logger.info("schedule", models=len(updates), older_than_seconds=occurrence.older_than)
        if len(updates) <= FAN_OUT:
            return updates
        for error in self._queues.put_off_all(updates):
            if error:
                raise error
        return []

    # --- From an update to its fate ----------------------------------------------------------------------

    def _handle_all(
        self,
        updates: Iterable[Update],
        remaining: Callable[[], float],
        sleep: Callable[[float], None] | None,
    ) -> tuple[list[Result], list[tuple[Target, Exception]]]:
        """The results, and the targets about which not even the queue could be told.

        When time runs out, the updates that are left go back into the queue, for the next invocation.
        """
        results: list[Result] = []
        stranded: list[tuple[Target, Exception]] = []
        todo = deque(updates)
        while todo and remaining() >= RESERVE:
            update = todo.popleft()
            try:
                results.append(self._handle(update, remaining, sleep))
            except Exception as error:  # noqa: BLE001  # also a bug that one target meets holds no other back
                stranded.append((update.target, error))
        errors = self._queues.put_off_all([replace(update, attempt=update.attempt + 1) for update in todo])
        for update, failure in zip(todo, errors, strict=True):
            if failure:
                stranded.append((update.target, failure))
            else:
                results.append(self._told(update, "put_off", "no time left in this invocation"))
        return results, stranded

    def _handle(
        self, update: Update, remaining: Callable[[], float], sleep: Callable[[float], None] | None
    ) -> Result:
        """Sees to the updates of one target. Raises AwsUnavailable where the queue cannot be told."""
        given = update  # what comes back has its model looked up again: by then another one may be active
        try:
            job_id, model_id = update.target
            model = Model(job_id, model_id or self._arcanna.active_model(job_id))
            follows_active = update.follows_active or model_id is None
            update = replace(update, target=Target(*model), follows_active=follows_active)
            if update.older_than is not None and (fresh := self._is_fresh(model, update.older_than)):
                return self._told(update, "fresh", fresh)
            fate = self._starter.ask(update, model, remaining())
            by_hand = sleep if update.cause == MANUAL else None
            while fate.outcome == "settling" and by_hand and fate.wait < remaining() - RESERVE:
                by_hand(fate.wait)
                fate = self._starter.ask(update, model, remaining())
        except Rejected as error:
            return self._follow(update) or self._dead_letter(update, error)
        except RetryLater as error:
            return self._put_off(given, error)
        if fate.outcome == "rejected":
            all_of_them = replace(
                update,
                happened_at=max(update.happened_at, fate.latest),
                marks=frozenset(),  # which are of this update alone
                significance=None,  # as they were due
                follows_active=update.follows_active or fate.follows_active,
            )
            followed = self._follow(all_of_them)
            return followed if followed and update.follows_active else self._refused(update, fate.detail)
        if fate.outcome in ("settling", "waiting"):
            later = replace(given, attempt=update.attempt + 1)
            if fate.outcome == "waiting":  # with others, for this very model: it asks for all of them
                waiting(self._clock() - update.first_at)
                follows = update.follows_active
                later = replace(
                    later,
                    target=update.target,
                    follows_active=follows,
                    waker=True,
                    promised_at=fate.promised_at,
                    waiting_since=None,
                    older_than=None,
                )
            wait = fate.wait or retry_delay(update.attempt, None, self._retries, self._jitter())
            self._queues.put_off(later, min(wait, LONGEST_DELAY))
            if fate.wake_at is not None and fate.promised_at is not None:
                self._starter.promise(model, fate.wake_at, fate.promised_at)
        elif fate.outcome == "started":
            count("RecomputesRequested")
        return self._told(update, fate.outcome, fate.detail)

    def _refused(self, update: Update, detail: str) -> Result:
        """A dead letter of what a run has failed for at once, which its workflow tells of."""
        self._send_to_dead_letters(update, Rejected.__name__, detail)
        return self._told(update, "rejected", detail)

    def _follow(self, update: Update) -> Result | None:
        """Asks for the job's active model, where one that was active before has been refused.

        None where the update does not follow the active model, or where there is no other.
        """
        job_id, model_id = update.target
        if not update.follows_active:
            return None
        anew = replace(update, target=Target(job_id, None), waker=False)
        try:
            if self._arcanna.active_model(job_id) == model_id:
                return None
        except Rejected:
            return None
        except RetryLater as error:
            return self._put_off(anew, error)
        self._queues.put_off(replace(anew, attempt=update.attempt + 1), 1)
        return self._told(update, "put_off", "it is not the active model any more")

    def _is_fresh(self, model: Model, older_than: int) -> str | None:
        """When the metrics were made, if that is not longer ago than `older_than` seconds."""
        timestamp = self._arcanna.metrics(model).timestamp
        try:
            age = self._clock() - from_iso(timestamp or "")
        except ValueError:
            return None  # never made, or at a time that cannot be read: that is no proof of freshness
        return timestamp if age <= older_than else None

    def _put_off(self, update: Update, error: RetryLater) -> Result:
        """Sends the updates again for later, or to the dead-letter queue if they have waited too long."""
        now = self._clock()
        waiting_since = now if update.waiting_since is None else update.waiting_since
        count(type(error).__name__)
        waiting(now - update.first_at)
        if now - waiting_since >= self._retries.give_up_after and self._may_go(update):
            return self._dead_letter(update, error)
        delay = retry_delay(update.attempt, error.retry_after, self._retries, self._jitter())
        later = replace(update, attempt=update.attempt + 1, waiting_since=waiting_since)
        self._queues.put_off(later, delay)
        logger.warning("updates put off", delay=delay, extra=update.target._asdict() | _error(error))
        return self._told(update, "put_off", f"{type(error).__name__}: {error}")

    def _may_go(self, update: Update) -> bool:
        """Whether nobody relies on the update's message: on a waker others do, until they are told."""
        try:
            if update.waker:
                self._starter.break_promise(update)
        except RetryLater as error:
            logger.warning("updates wait for this message", extra=update.target._asdict() | _error(error))
            return False
        return True

    def _dead_letter(self, update: Update, error: RecomputeError) -> Result:
        self._send_to_dead_letters(update, type(error).__name__, str(error))
        logger.error("updates given up", extra=update.target._asdict() | _error(error))
        return self._told(update, "dead_lettered", f"{type(error).__name__}: {error}")

    def _send_to_dead_letters(self, update: Update, reason: str, detail: str) -> None:
        afresh = replace(update, attempt=0, waiting_since=None)  # a re-drive begins anew
        self._queues.dead_letter(DeadLetter(request_body(afresh), reason, detail))

    def _told(self, update: Update, outcome: Outcome, detail: str) -> Result:
        """The result, logged and counted."""
        result = Result(*update.target, outcome, detail, update.count)
        count(METRIC_OF[outcome], update.count)
        logger.info("updates handled", cause=update.cause, extra=result._asdict())
        return result


def retry_delay(attempt: int, retry_after: float | None, retries: RetrySettings, jitter: float) -> int:
    """Seconds until the next attempt: what the platform asked for, else exponential with full jitter.

    `attempt` counts from 0, `jitter` is uniform in [0, 1). Full jitter spreads the models that one outage
    stopped over the whole interval, so that they do not come back at once.
    """
    if retry_after is not None:
        return max(1, min(int(retry_after) + 1, LONGEST_DELAY))
    ceiling = min(retries.interval * 2.0 ** min(attempt, 20), retries.maximum, LONGEST_DELAY)
    return max(1, round(ceiling * jitter))


def _is_new(update: Update) -> bool:
    """Whether it has just come in, rather than come back because it had to wait."""
    return update.attempt == 0 and update.cause != "asked_again"


def _error(error: Exception) -> dict[str, str]:
    return {"reason": type(error).__name__, "detail": str(error)}
