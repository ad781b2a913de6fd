"""From the updates of a model to a run of it, or to the knowledge that none is needed."""

import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

from arcanna_metrics.aws import Workflow
from arcanna_metrics.coverage import Entry, Plan, plan
from arcanna_metrics.errors import AwsUnavailable, BadInput, PlatformBusy, Rejected, RetryLater
from arcanna_metrics.gathering import MOST_MARKS
from arcanna_metrics.intake.events import RunEnded
from arcanna_metrics.ledger import Ledger
from arcanna_metrics.observability import logger
from arcanna_metrics.places import GRACE, Places
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.runs.polling import next_wait
from arcanna_metrics.runs.run import Check, Run, cause_of, durations, failed_check, first_check, label
from arcanna_metrics.settings import PollSettings
from arcanna_metrics.targets import Model, Target
from arcanna_metrics.times import RESOLUTION, from_iso, to_iso
from arcanna_metrics.updates import Update

LEASE_SLACK = 7200.0
"""Seconds between a run's deadline and the end of its lease: for the last retries and the release."""

CONCLUSIONS = 5
"""How many executions may try to conclude a run that does not end by itself."""

LONGEST_DOUBT = 10
"""Seconds until a claim in doubt is looked at again: it rarely is one for long."""

PATIENCE = 3600.0
"""Seconds for which an update that waits for a place promises to ask for all of its model."""

CONTENTION = 5
"""How often one invocation decides anew because the ledger's entry has changed meanwhile."""


SOME_TIME = 0
"""Stands for a wait that the caller may choose."""


class Fate(NamedTuple):
    """What became of updates. `wait` is how many seconds those that settle or wait have to be put off.

    A message that is put off promises to ask for all who wait by `wake_at`, unless it has done so before, at
    `promised_at` (epoch seconds).
    `latest` (epoch seconds) is when the last of all those happened that have been rejected together, and
    `follows_active` whether any of them follows the active model.
    """

    outcome: Literal[
        "started", "covered", "fresh", "coalesced", "settling", "gathered", "waiting", "rejected"
    ]
    detail: str = ""
    wait: int = 0
    wake_at: float | None = None
    promised_at: float | None = None
    latest: float = 0.0
    follows_active: bool = False


class Starter:
    """Claims models in the ledger, asks the platform, and has the workflow follow."""

    def __init__(
        self,
        arcanna: Arcanna,
        ledger: Ledger,
        workflow: Workflow,
        places: Places,
        *,
        margin: float,
        spacing: float,
        run_deadline: float,
        polls: PollSettings,
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._arcanna = arcanna
        self._ledger = ledger
        self._workflow = workflow
        self._places = places
        self._margin = margin
        self._spacing = spacing
        self._run_deadline = run_deadline
        self._polls = polls
        self._clock = clock
        self._new_id = new_id

    def ask(self, update: Update, model: Model, lease: float) -> Fate:
        """Starts a run for the update, unless it is covered, or will be by a run that is under way.

        `lease` is how many seconds the claim holds until the workflow prolongs it: no longer than this
        invocation lives. Raises RetryLater; nothing is held then.
        """
        # Usually nothing is in the way, and the conditional write itself tells. A waker acts for all marks.
        known = self._ledger.read(model) if update.waker else None
        for _ in range(CONTENTION):
            now = self._clock()
            planned = plan(known or Entry(), update, now, self._margin, self._spacing)
            if planned.action != "claim" or not self._places.all_taken(model, now):
                fate, known = self._try(planned, known or Entry(), update, model, now, lease)
            elif known is None:
                fate, known = None, self._ledger.read(model)  # perhaps no place is needed
            else:
                fate, known = self._wait(planned._replace(until=now + PATIENCE), known, update, model, now)
                fate = fate and fate._replace(wait=SOME_TIME)
            if fate:
                return fate
        raise AwsUnavailable(f"the ledger's entry of {update.target} kept changing")

    def _try(
        self, planned: Plan, entry: Entry, update: Update, model: Model, now: float, lease: float
    ) -> tuple[Fate | None, Entry]:
        """Does what is planned. No fate if the ledger's entry was another: then that is returned."""
        if planned.action == "covered":
            return self._covered(entry, update, model, now)
        if planned.action == "wait":
            return self._wait(planned, entry, update, model, now)
        if planned.action == "settle":
            settled = math.floor(entry.settles_at(planned.happened_at, self._margin) - now) + 1
            known = math.floor(entry.doubtful_until - now) + 1
            return Fate("settling", wait=max(settled, min(known, LONGEST_DOUBT))), entry
        due = replace(
            update,
            happened_at=planned.happened_at,
            first_at=planned.first_at,
            count=planned.updates,
            sample=update.sample if planned.own else (),
        )
        if planned.action == "coalesce":
            if update.older_than is not None and now - (entry.requested_at or 0.0) <= update.older_than:
                return Fate("fresh", f"{entry.run_id} is under way"), entry
            write = self._ledger.mark_pending(model, entry, due)
            if write.made:
                if update.waker:  # the workflow asks again, and may have to wait itself
                    self.break_promise(update)
                return Fate("coalesced", f"into the run after {entry.run_id}"), entry
            return None, write.entry
        run_id = self._new_id()
        write = self._ledger.claim(
            model,
            run_id,
            now=now,
            lease_expires_at=now + lease,
            happened_at=planned.happened_at,
            margin=self._margin,
            spacing=self._spacing,
            follows_active=update.follows_active or entry.must_follow(self._margin),
            gathered=entry.gathered,
            promised_at=entry.promised_by(update) if update.waker else None,
            expired=entry.run_id,
            left_at=planned.left_at,
        )
        if not write.made:
            return None, write.entry
        taken = write.entry  # what was pending, among others
        since = (planned.first_at, taken.pending_since, taken.stale_since)
        covering = replace(
            due,
            happened_at=max(planned.happened_at, taken.pending_at or 0.0),
            first_at=min(time for time in since if time is not None),
            count=max(planned.updates, taken.pending_updates),
            follows_active=update.follows_active or taken.must_follow(self._margin),
        )
        latest = max(covering.happened_at, planned.left_at or 0.0)
        return self._start(covering, model, run_id, now, write.entry, latest), entry

    def _covered(self, entry: Entry, update: Update, model: Model, now: float) -> tuple[Fate | None, Entry]:
        """Acknowledges the update; the run that covers it must know if it follows the active model."""
        if entry.held(now) and not entry.follows(update):
            write = self._ledger.follow(model, entry.run_id or "", update.happened_at)
            if not write.made:
                return None, write.entry
        if update.waker and not entry.others_wake(update, now):
            write = self._ledger.finish_waiting(model, entry.gathered, entry.promised_by(update))
            if not write.made and write.entry != entry:
                return None, write.entry
        return Fate("covered"), entry

    def _wait(
        self, planned: Plan, entry: Entry, update: Update, model: Model, now: float
    ) -> tuple[Fate | None, Entry]:
        """Has the update wait: by its marks alone if a message comes in time, else by being that message."""
        if len(entry.gathered) > 2 * MOST_MARKS:  # they would outgrow the ledger's item in the end
            return None, self._ledger.forget_earliest(model, entry.gathered).entry
        if not entry.knows(update.own_marks) or not entry.follows(update):
            follows_at = None if entry.follows(update) else update.happened_at
            return None, self._ledger.gather(model, update.own_marks, now, follows_at=follows_at).entry
        detail = f"one of {len(entry.gathered)} that wait, until {to_iso(planned.until)} at the latest"
        in_time = now <= (entry.wake_at or 0.0) <= planned.until
        if in_time and entry.others_wake(update, now):
            return Fate("gathered", detail), entry
        fate = Fate("waiting", detail, math.floor(planned.until - now) + 1, promised_at=update.promised_at)
        if in_time and update.promised_at == entry.promised_at is not None:
            return fate, entry
        promised_at = max(now, entry.promised_by(update) + RESOLUTION)
        return fate._replace(wake_at=planned.until, promised_at=promised_at), entry

    def fresh_from(self) -> float:
        """When updates happened (epoch seconds) that have not settled yet."""
        return self._clock() - self._margin

    def known(self) -> tuple[set[str], list[Update]]:
        """The jobs of all models that the ledger knows, and the updates that are left without a message.

        A job of which the platform has refused all models that were asked for is none: it was mistyped, say.
        Step Functions tells of an execution's end at its best effort only: where it did not, nobody has asked
        for what the workflow failed to ask for. Raises AwsUnavailable.
        """
        now, entries = self._clock(), self._ledger.entries()
        left = (_left_behind(model, entry, now, self._margin) for model, entry in entries.items())
        jobs = {model.job_id for model, entry in entries.items() if not entry.refused}
        return jobs, [update for update in left if update]

    def promise(self, model: Model, wake_at: float, promised_at: float) -> None:
        """Tells the ledger of the message that was sent to wake the model. Raises AwsUnavailable."""
        self._ledger.promise(model, wake_at, promised_at)

    def break_promise(self, waker: Update) -> None:
        """Tells the ledger that the waker will not ask any more, so that nobody relies on it.

        Raises AwsUnavailable.
        """
        model = Model(waker.target.job_id, waker.target.model_id or "")
        self._ledger.break_promise(model, waker.promised_at)

    def _start(
        self, update: Update, model: Model, run_id: str, now: float, entry: Entry, latest: float
    ) -> Fate:
        """Makes the claim a run. `latest` is when the last of all updates happened that it has taken."""
        deadline, due = now + self._run_deadline, replace(update, happened_at=latest)
        run: Run = {
            "run_id": run_id,
            "job_id": model.job_id,
            "model_id": model.model_id,
            "label": label(model),
            "cause": cause_of(update),
            "requested_at": to_iso(now),
            "deadline_at": to_iso(deadline),
            "lease_until": to_iso(deadline + LEASE_SLACK),
            "platform_requested_at": None,
            "baseline": None,
            "follows_active": update.follows_active,
        }
        with logger.append_context_keys(
            run_id=run_id,
            **model._asdict(),
            cause=update.cause,
            execution=self._workflow.execution(run_id),
        ):
            try:
                if not self._places.take(model, run_id, now):
                    self._ledger.give_back(model, run_id, due)
                    detail = "as many recomputes as allowed are under way"
                    return Fate("waiting", detail, SOME_TIME, promised_at=update.promised_at)
                check = self._request(run, model, entry)
                self._workflow.start(run_id, run, check)
            except RetryLater:
                self._ledger.give_back(model, run_id, due)
                raise
            logger.info("run started", status=check["status"], reason=check["reason"], updates=run["cause"])
        if check["reason"] == Rejected.__name__:
            return Fate("rejected", check["detail"], latest=latest, follows_active=update.follows_active)
        return Fate("started", run_id)

    def _request(self, run: Run, model: Model, entry: Entry) -> Check:
        """Reads the baseline, then asks; both go into `run`. Raises RetryLater.

        A refusal makes a run that has failed: the workflow tells of it and releases the model as ever.
        """
        try:
            baseline = self._arcanna.metrics(model)
            run["baseline"] = baseline.as_dict()
            if baseline.recomputing:
                # Perhaps from older data than ours, and its end could be taken for the end of ours.
                raise PlatformBusy(f"Arcanna is recomputing {model.model_id!r} for somebody else")
            request = self._arcanna.request_recompute(model)
        except Rejected as error:
            return failed_check(entry.history, Rejected.__name__, str(error))
        run["platform_requested_at"] = request.requested_at
        if request.status == "failed":
            detail = "Arcanna answered the request itself with the status failed"
            return failed_check(entry.history, "RequestFailed", detail, run["baseline"])
        polls = self._polls
        past = durations(entry.history)
        wait = next_wait(0.0, past, shortest=polls.shortest, longest=polls.longest)
        return first_check(entry.history, wait, run["baseline"], entry.reference)

    def conclude(self, ended: RunEnded) -> list[Update]:
        """Sees to a run whose execution ended as it should not: failed, timed out, or aborted.

        If the run still holds its model, the workflow is started once more, to tell of the failure and
        release the model. Otherwise that has been done. Returns the updates that the run did not cover and
        that must be asked for again.
        Raises AwsUnavailable, and BadInput where that has been tried too often.
        """
        run = ended.run
        model = Model(run["job_id"], run["model_id"])
        lease_until = self._clock() + LEASE_SLACK
        write = self._ledger.hold(model, run["run_id"], lease_until)
        if not write.made:
            return _left_by(ended, model, write.entry, self._clock(), self._margin)
        # Numbered, so that the same report delivered twice concludes once.
        last = ended.execution_arn.partition(f":{run['run_id']}-")[2]
        number = int(last) + 1 if last.isascii() and last.isdigit() else 1
        if number > CONCLUSIONS:
            raise BadInput(
                f"run {run['run_id']} of {model} could not be concluded by {CONCLUSIONS} executions;"
                f" its model is free again at {to_iso(lease_until)}"
            )
        run["lease_until"] = to_iso(lease_until)
        check = failed_check(write.entry.history, ended.status, ended.detail, run["baseline"])
        self._workflow.start(f"{run['run_id']}-{number}", run, check)
        cause = run["cause"]["kind"]
        logger.warning(
            "run concluded",
            run_id=run["run_id"],
            **model._asdict(),
            cause=cause,
            execution=ended.execution_arn,
            reason=ended.status,
        )
        return []  # the workflow asks again


def _left_by(ended: RunEnded, model: Model, entry: Entry, now: float, margin: float) -> list[Update]:
    """What the workflow of a run that has ended may have failed to ask for."""
    follows_active = ended.run["follows_active"]
    waiting = _waiting(model, entry, now, margin)
    left = [replace(waiting, follows_active=follows_active)] if waiting else []
    follows_at = entry.follows_at
    if follows_active:  # also those that came later, and were covered
        follows_at = max(from_iso(ended.run["cause"]["last_at"]), follows_at or 0.0)
    # Not whenever a run fails: what it was asked for has failed with it, and would be asked for without end.
    unasked = ended.error == "NotAskedAgain" or ended.status != "FAILED"
    if unasked and follows_at is not None and (follows_active or entry.run_id is None):
        left.append(Update.single(Target(model.job_id, None), follows_at, "asked_again"))
    return left


def _left_behind(model: Model, entry: Entry, now: float, margin: float) -> Update | None:
    """What is known to wait while no run holds the model, or was waiting when a run went without an end; or
    what was gathered for a message that has not come."""
    gathered = entry.uncovered(entry.gathered, now, margin)
    if gathered and (entry.wake_at or 0.0) < now - GRACE:
        return Update.single(Target(*model), max(mark.at for mark in gathered), "asked_again")
    began = entry.run_id is None or entry.requested_at is not None
    if entry.held(now if began else now - GRACE):  # its workflow may still be about to begin
        return None
    return _waiting(model, entry, now, margin)


def _waiting(model: Model, entry: Entry, now: float, margin: float) -> Update | None:
    """The pending updates, or those that an expired claim has taken along."""
    happened_at = entry.lapsed(now, margin) if entry.pending_at is None else entry.pending_at
    if happened_at is None:
        return None
    update = Update.single(Target(*model), happened_at, "asked_again")
    first_at = update.first_at if entry.pending_since is None else entry.pending_since
    return replace(update, first_at=first_at, count=max(entry.pending_updates, 1))
