"""Reads the facts of a deployed stack from its ledger, its executions and its queues."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from arcanna_metrics.protocol.check_up import MOST_EXECUTIONS
from arcanna_metrics.targets import is_id
from arcanna_metrics_cli import entries, executions
from arcanna_metrics_cli.deployed import Deployed
from arcanna_metrics_cli.executions import Told
from arcanna_metrics_cli.letters import Group, groups
from arcanna_metrics_cli.report.facts import Facts, Model
from arcanna_metrics_cli.words import counted

T = TypeVar("T")

MOST_TOLD = 200
"""Executions to read in one look: Step Functions allows an account about this many calls at once."""

NOT_SHOWN = "Step Functions does not show this run's outcome, or no longer does"

AT_ONCE = 8
"""Concurrent calls."""


class Gatherer:
    """Reads a stack, once or repeatedly. It reads only once what cannot change any more."""

    def __init__(self, stack: Deployed) -> None:
        self._stack = stack
        self._told: dict[str, Told | None] = {}
        """What the last completed run of each model told, by its id. None if no execution shows it."""
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
            runs = pool.map(lambda look: _tried(look, "a run under way", notes), looks)
            rows = entries.without_references(stack.standings(listed, runs, now))
            notes += self._read_outcomes(rows, pool)
        dead, letters = self._dead_letters(notes)
        objective = stack.parameters.get("FreshnessObjectiveSeconds")
        return Facts(
            stack=stack.name,
            region=stack.region,
            at=now,
            models=tuple(self._model(row, names.get(row.entry.target.job_id)) for row in rows),
            dead=dead,
            letters=letters,
            queued=_tried(lambda: sum(stack.messages("UpdatesQueueUrl").values()), "the queue", notes),
            objective=float(objective) if objective else None,
            notes=tuple(notes),
        )

    # --- One model -----------------------------------------------------------------------------------------

    def _model(self, standing: entries.Standing, job_name: str | None) -> Model:
        entry = standing.entry
        rest = entries.left_over(entry)
        last, untold = standing.last_completed, ""
        told = self._told.get(last.run_id) if last else None
        if last and told is None:
            untold = NOT_SHOWN if last.run_id in self._told else "It has not been read"
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
            waiting_objects=tuple(executions.address(*example[:2]) for example in rest.waiting.examples),
            attempts=0 if entry.claim and entry.claim.held else rest.attempts,
            last_error=standing.last_error,
            runs=tuple(standing.runs),
            told=told,
            untold=untold,
            accepted=_accepted(standing),
        )

    # --- What the last completed run of each told ----------------------------------------------------------

    def _read_outcomes(self, rows: Iterable[entries.Standing], pool: ThreadPoolExecutor) -> list[str]:
        """Reads the outcomes that were not read before, first those of worse models. Returns notes."""
        completed = {last.run_id: last for row in rows if (last := row.last_completed)}
        self._told = {run_id: told for run_id, told in self._told.items() if run_id in completed}
        unread = sorted(
            completed.keys() - self._told.keys(),
            key=lambda run_id: (completed[run_id].result == "regressed", completed[run_id].requested_at),
            reverse=True,
        )
        failures = [error for error in pool.map(self._read_outcome, unread[:MOST_TOLD]) if error]
        notes = []
        if failures:
            runs = counted(len(failures), "run")
            notes.append(f"The details of {runs} could not be read: {failures[0]}")
        if left := len(unread[MOST_TOLD:]):
            notes.append(f"The last runs of {counted(left, 'model')} were not read: {MOST_TOLD} at a time")
        return notes

    def _read_outcome(self, run_id: str) -> Exception | None:
        """Reads what the execution that ended a run told. Returns the error if that failed."""
        told = None
        try:
            for number in range(MOST_EXECUTIONS):
                execution = self._stack.execution(run_id, number)
                if execution is None or (told := executions.told(execution)):
                    break
                if execution["status"] == "RUNNING":  # it has released the target, and is about to end
                    return None
        except (BotoCoreError, ClientError) as error:
            return error
        self._told[run_id] = told
        return None

    # --- The queues ----------------------------------------------------------------------------------------

    def _dead_letters(self, notes: list[str]) -> tuple[int | None, tuple[Group, ...]]:
        """Their number if it could be read, and their groups.

        Reads them only if their number changed, as reading hides them.
        """
        counts = _tried(lambda: self._stack.messages("DeadLetterQueueUrl"), "the dead letters", notes)
        if counts is None:
            return None, ()
        dead = sum(counts.values())
        if dead and counts != self._dead:
            read = _tried(self._look_at_letters, "the dead letters", notes)
            if read is None:
                return dead, ()
            self._letters = read
        self._dead = counts
        return dead, self._letters if dead else ()

    def _look_at_letters(self) -> tuple[Group, ...]:
        letters = self._stack.dead_letters()
        self._stack.put_back(letters)
        return tuple(groups(letters))


def _accepted(standing: entries.Standing) -> str:
    """Who accepted the model since the end of its last completed run, and when; empty if nobody did."""
    given = standing.accepted if standing.is_accepted else None
    return f"by {given['by']}, {given['at'][:19]}Z" if given else ""


def _tried(call: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """The call's result. If it fails, None, with a note."""
    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        notes.append(f"{what[0].upper()}{what[1:]} could not be read: {error}")
        return None
