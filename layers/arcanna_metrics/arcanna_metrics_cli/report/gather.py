"""Reads the facts of a deployed stack from its ledger, its executions and its queues."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from arcanna_metrics.protocol.check_up import MOST_EXECUTIONS
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.targets import is_id
from arcanna_metrics.times import from_iso
from arcanna_metrics_cli import entries
from arcanna_metrics_cli.deployed import Deployed
from arcanna_metrics_cli.letters import Group, groups
from arcanna_metrics_cli.report.facts import Facts, Model, Told
from arcanna_metrics_cli.report.markup import counted

T = TypeVar("T")

MOST_TOLD = 200
"""Executions to read in one look: Step Functions allows an account about this many calls at once."""

AT_ONCE = 8
"""Concurrent calls."""


class _Story(NamedTuple):
    """The outcome of the last completed run, or why it could not be read."""

    told: Told | None
    untold: str = ""


class Gatherer:
    """Reads a stack, once or repeatedly. It reads only once what cannot change any more."""

    def __init__(self, stack: Deployed) -> None:
        self._stack = stack
        self._stories: dict[str, _Story] = {}
        self._letters: tuple[Group, ...] = ()
        self._dead: Mapping[str, int] | None = None

    def look(self, now: float) -> Facts:
        """The state of the stack. Raises NotDeployed, and botocore's errors if the ledger cannot be read."""
        stack = self._stack
        every, unreadable = stack.readable_entries()
        notes = [str(trouble) for trouble in unreadable]
        listed = entries.by_job(every)
        names = {job_id: name for name, job_id in entries.ids_of_names(every).items()}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            looks = [partial(stack.under_way, entry) for entry in listed]
            found = pool.map(lambda look: _tried(look, None, "a run under way", notes), looks)
            running = dict(zip(map(_run_of, listed), found, strict=True))
            full = stack.slots_taken()
            lag = float(stack.parameters.get("VisibilityLagSeconds", 0))
            every_row = [
                entries.standing(entry, now, lag, running[_run_of(entry)], slots_taken=full)
                for entry in listed
            ]
            rows = entries.without_references(entries.agreeing(every_row))
            notes += self._read_stories(rows, pool)
        dead, letters = self._dead_letters(notes)
        objective = stack.parameters.get("FreshnessObjectiveSeconds")
        return Facts(
            stack=stack.name,
            region=stack.region,
            at=now,
            models=tuple(self._model(row, names.get(row.entry.target.job_id)) for row in rows),
            dead=dead,
            letters=letters,
            queued=_tried(lambda: sum(stack.messages("UpdatesQueueUrl").values()), None, "the queue", notes),
            objective=float(objective) if objective else None,
            notes=tuple(notes),
        )

    # --- One model -----------------------------------------------------------------------------------------

    def _model(self, standing: entries.Standing, job_name: str | None) -> Model:
        entry = standing.entry
        rest = entries.left_over(entry)
        story, last = _Story(None), standing.last_completed
        if last:
            story = self._stories.get(last.run_id, _Story(None, "It has not been read"))
        target = entry.target
        named = None if is_id(target.job_id) else target.job_id
        return Model(
            job=(entry.name_of or target.job_id) if named else target.job_id,
            job_name=named or job_name,
            model_id=target.model_id,
            active=standing.active,
            fresh=standing.fresh,
            since=standing.since,
            why=standing.why,
            running_since=standing.running_since,
            waiting=tuple(standing.waiting),
            waits_since=standing.since if rest.dirty and not standing.fresh else None,
            overdue_since=entry.overdue_since,
            waiting_objects=tuple(_object(*example[:2]) for example in rest.waiting.examples),
            attempts=0 if entry.claim and entry.claim.held else rest.attempts,
            last_error=standing.last_error,
            runs=tuple(standing.runs),
            told=story.told,
            untold=story.untold,
            accepted=_accepted(standing),
        )

    # --- What the last completed run of each told ----------------------------------------------------------

    def _read_stories(self, rows: Iterable[entries.Standing], pool: ThreadPoolExecutor) -> list[str]:
        """Reads the outcomes that were not read before, first those of worse models. Returns notes."""
        completed = {last.run_id: last for row in rows if (last := row.last_completed)}
        unread = sorted(
            completed.keys() - self._stories.keys(),
            key=lambda run_id: (
                completed[run_id].result == "regressed",
                completed[run_id].requested_at,
            ),
            reverse=True,
        )
        stories = dict(
            zip(unread, pool.map(partial(_attempt, self._story), unread[:MOST_TOLD]), strict=False)
        )
        failed = [str(story) for story in stories.values() if isinstance(story, str)]
        # Only the last completed run of each model is shown.
        known = self._stories | {run_id: s for run_id, s in stories.items() if isinstance(s, _Story)}
        self._stories = {run_id: story for run_id, story in known.items() if run_id in completed}
        notes = (
            [f"The details of {counted(len(failed), 'run')} could not be read: {failed[0]}"] if failed else []
        )
        if left := len(unread) - len(stories):
            notes.append(f"The last runs of {counted(left, 'model')} were not read: {MOST_TOLD} at a time")
        return notes

    def _story(self, run_id: str) -> _Story:
        """The outcome of a run, from the execution that ended it."""
        for number in range(MOST_EXECUTIONS):
            execution = self._stack.execution(run_id, number)
            if execution is None:
                break
            if execution["status"] == "SUCCEEDED" and (told := told_by(run_id, execution)):
                return _Story(told)
        return _Story(None, "Step Functions does not show this run's outcome, or no longer does")

    # --- The queues ----------------------------------------------------------------------------------------

    def _dead_letters(self, notes: list[str]) -> tuple[int | None, tuple[Group, ...]]:
        """Their number if it could be read, and their groups.

        Reads them only if their number changed, as reading hides them.
        """
        counts = _tried(lambda: self._stack.messages("DeadLetterQueueUrl"), None, "the dead letters", notes)
        if counts is None:
            return None, ()
        dead = sum(counts.values())
        if dead and counts != self._dead:
            read = _tried(self._look_at_letters, None, "the dead letters", notes)
            if read is None:
                return dead, ()
            self._letters = read
        self._dead = counts
        return dead, self._letters if dead else ()

    def _look_at_letters(self) -> tuple[Group, ...]:
        letters = self._stack.dead_letters()
        self._stack.put_back(letters)
        return tuple(groups(letters))


def told_by(run_id: str, execution: Mapping[str, Any]) -> Told | None:
    """The outcome in a successful execution; None if it ended without one, at Hold."""
    try:
        ended = json.loads(execution["output"])
        run, outcome = ended["run"], ended["check"]["outcome"]
        detail = json.loads(outcome["events"][0]["Detail"])
        cause = run["cause"]
        return Told(
            run_id=run_id,
            why=detail["why"],
            updates=cause["updates"],
            first_at=from_iso(cause["first_at"]),
            last_at=from_iso(cause["last_at"]),
            objects=tuple(_object(example["bucket"], example["key"]) for example in cause["examples"]),
            before=detail["before"],
            after=detail["after"],
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _object(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"


def _run_of(entry: Entry) -> tuple[object, str | None]:
    return entry.target, entry.run_id


def _accepted(standing: entries.Standing) -> str:
    """Who accepted the model since the end of its last completed run, and when; empty if nobody did."""
    given = standing.accepted if standing.is_accepted else None
    return f"by {given['by']}, {given['at'][:19]}Z" if given else ""


def _attempt(call: Callable[[str], _Story], run_id: str) -> _Story | str:
    """The call's result, or why it failed."""
    try:
        return call(run_id)
    except (BotoCoreError, ClientError) as error:
        return str(error)


def _tried(call: Callable[[], T], otherwise: T, what: str, notes: list[str]) -> T:
    """The call's result. If it fails, `otherwise`, with a note."""
    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        notes.append(f"{what[0].upper()}{what[1:]} could not be read: {error}")
        return otherwise
