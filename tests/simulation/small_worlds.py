"""A whole installation in a few small numbers, for the explorer: entries, looks, executions and the platform.

Worlds with the same possible futures must be equal, otherwise exploration would never end. So an entry is a
`Row` without the fields that are only for people, and times and runs are small numbers of which only the
order matters. With `Setting.time_passes` there is a clock, and gaps between times matter up to a limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

from arcanna_metrics.protocol.decide import PATIENCE
from arcanna_metrics.protocol.entry import NEVER, Claim, Element, Entry, Waiting
from arcanna_metrics.protocol.transitions import record
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import WHOLE, Target, Update, is_id

FAR_AWAY = 1_000_000
"""A time that no clock reaches here."""


@dataclass(frozen=True)
class Setting:
    """The constants of a world."""

    targets: tuple[Target, ...] = (Target("1", "model"),)
    looks: int = 2  # looks under way at once
    slots: int = 0  # 0: no limit
    lag: int = 0  # in seconds, as are the next two
    spacing: int = 0
    max_wait: int = FAR_AWAY  # until a share of a threshold is recomputed in any case
    time_passes: bool = False
    wishes: bool = False  # whether anybody compares the platform's own timestamps
    exact: bool = True  # whether each run must be needed; not where two targets stand for one model

    @cached_property
    def pace(self) -> Pace:
        """The pace that the code decides with."""
        return Pace(
            visibility_lag=self.lag, spacing=self.spacing, slots=self.slots, start_grace=0, deadline=0,
            shortest_poll=1, longest_poll=1, first_backoff=0, longest_backoff=0,
        )  # fmt: skip

    @cached_property
    def named(self) -> bool:
        """Whether target 0 uses the name of the job whose id target 1 has."""
        return not is_id(self.targets[0].job_id)

    @cached_property
    def follows_active(self) -> bool:
        """Whether target 0, the only one, is its job's active model: number 0 or 1 at the platform."""
        return self.targets[0].model_id is None

    @cached_property
    def jobs(self) -> tuple[int, ...]:
        """The job of each target; also its model at the platform, unless that is the job's active one."""
        return tuple(0 if self.named else target for target in range(len(self.targets)))

    @cached_property
    def longest_gap(self) -> int:
        """The largest gap between two times, in seconds, beyond which its size makes no difference."""
        if not self.time_passes:
            return 1
        wait = max(self.lag, 0 if self.max_wait == FAR_AWAY else self.max_wait)
        return 1 + max(1, self.spacing, wait + PATIENCE * self.lag)


# --- The parts of a world --------------------------------------------------------------------------------


class Row(NamedTuple):
    """An entry, as far as the protocol depends on it. 0 is never, and no run."""

    needed: int = 0
    last_at: int = 0  # when the latest update happened
    since: int = 0  # only where time passes, as are the next three
    next_since: int = 0
    retry: int = 0
    not_before: int = 0
    wanted: int = 0
    wanted_at: int = 0
    batch: tuple[tuple[int, int], ...] = ()  # when an update happened, and its share
    due: bool = False  # whether there is a due_at
    run: int = 0
    requested: int = 0
    begun: int = 0  # executions: one more than the number of the last
    fresh: int = 0
    failed: int = 0
    last: int = 0  # when the last run claimed the target; only where runs are spaced

    @property
    def dirty(self) -> bool:
        """Whether anything waits."""
        return bool(self.needed or self.wanted or self.batch)

    @property
    def mark(self) -> int:
        """The time up to which updates no longer wait."""
        return max(self.fresh, self.failed)


class Message(NamedTuple):
    """An update or, with `as_of`, a wish."""

    at: int = 0
    target: int = 0
    share: int = WHOLE
    as_of: int = 0


Takers = tuple[tuple[int, int], ...]
"""Runs and their targets."""


class Look(NamedTuple):
    """A look of the trigger at one target, at the step that comes next."""

    step: str
    target: int
    seen: Row = Row()  # the entry that it has read, until it writes
    stale: bool = False  # the entry has changed since it was read
    run: int = 0
    number: int = 0  # of the execution to start
    requested: int = 0
    wanted: int = 0  # for a wish: metrics from then on suffice
    stamp: int = 0  # of the metrics that satisfy it
    model: int = 0
    newer: bool = False  # a recompute ended since the baseline
    rejected: bool = False
    takers: Takers = ()  # the takers of slots that it will write


class Execution(NamedTuple):
    """An execution, at the step that comes next. Of a dead one only its input counts."""

    step: str
    target: int
    run: int
    number: int = 0
    requested: int = 0
    model: int = 0
    newer: bool = False  # a recompute ended since the baseline
    rejected: bool = False
    outcome: str = ""
    changed: bool = False  # another model is active by now


class Model(NamedTuple):
    """A model at the platform."""

    queued: int = 0  # requests whose recompute has not begun
    working: int = 0  # when the recompute began that is under way
    last: int = 0  # when the last recompute that completed had begun
    stamp: int = 0  # when it ended


class World(NamedTuple):
    """The state at one moment. The first fields count events that may still happen."""

    to_come: tuple[Message, ...] = ()  # updates and wishes
    crashes: int = 0  # deaths and ambiguous failures
    failures: int = 0  # recomputes that fail, or requests that are rejected
    timeouts: int = 0  # runs that pass their deadline
    unchecked: int = 0  # runs whose check cannot be called
    others: int = 0  # recomputes that other people ask for
    changes: int = 0  # of the active model
    duplicates: int = 0  # messages that are delivered once more
    unknown: int = 0  # look-ups of a name without an answer

    clock: int = 0
    messages: tuple[Message, ...] = ()  # in the queue
    rows: tuple[Row, ...] = (Row(),)
    takers: Takers = ()
    looks: tuple[Look, ...] = ()
    executions: tuple[Execution, ...] = ()
    models: tuple[Model, ...] = (Model(),)
    active: int = 0

    open: tuple[Message, ...] = ()  # what has happened, and was neither covered nor told to have failed
    covered: int = 0  # the metrics of a model that was active afterwards were of a recompute that began then
    fault: str = ""


# --- Rows and entries ------------------------------------------------------------------------------------


def to_entry(row: Row, target: int, setting: Setting) -> Entry:
    """The entry that is passed to the project's code."""
    return Entry(
        setting.targets[target],
        waiting=Waiting(
            needed_as_of=_time(row.needed),
            last_at=_time(row.last_at),
            since=float(row.since) if row.since else None,
            next_since=float(row.next_since) if row.next_since else None,
            wanted_as_of=_time(row.wanted),
            wanted_at=_time(row.wanted_at),
            batch=tuple(_element(Message(at, target, share), setting) for at, share in row.batch),
        ),
        claim=Claim(run_id(row.run), float(row.requested), row.begun - 1 if row.begun else None)
        if row.run
        else None,
        retry_at=_time(row.retry),
        not_before=_time(row.not_before),
        due_at=0.0 if row.due else None,
        last_requested_at=_time(row.last),
        fresh_as_of=_time(row.fresh),
        failed_as_of=_time(row.failed),
    )


def to_row(entry: Entry, setting: Setting) -> Row:
    """The part of an entry on which the protocol depends. Without a clock, delays make no difference."""
    timed, claim = setting.time_passes, entry.claim
    return Row(
        needed=_small(entry.waiting.needed_as_of),
        last_at=_small(entry.waiting.last_at),
        since=int(entry.waiting.since or 0) if timed else 0,
        next_since=int(entry.waiting.next_since or 0) if timed else 0,
        retry=_small(entry.retry_at) if timed else 0,
        not_before=_small(entry.not_before) if timed else 0,
        wanted=_small(entry.waiting.wanted_as_of),
        wanted_at=_small(entry.waiting.wanted_at),
        batch=tuple((int(element.as_of) - setting.lag, element.share) for element in entry.waiting.batch),
        due=entry.due_at is not None,
        run=int(claim.run_id.removeprefix("run-")) if claim else 0,
        requested=int(claim.requested_at) if claim else 0,
        begun=claim.number + 1 if claim and claim.number is not None else 0,
        fresh=_small(entry.fresh_as_of),
        failed=_small(entry.failed_as_of),
        last=_small(entry.last_requested_at) if setting.spacing else 0,
    )


def to_update(message: Message, setting: Setting) -> Update:
    """A message as the project's code receives it."""
    return Update(
        setting.targets[message.target],
        float(message.at),
        "upload",
        share=message.share,
        max_wait=float(setting.max_wait),
        older_than=float(message.at - message.as_of) if message.as_of else None,
    )


def to_run(execution: Execution, setting: Setting) -> Run:
    """The run of an execution, as far as a release reads it."""
    job_id, model_id = setting.targets[execution.target]
    run = {
        "run_id": run_id(execution.run),
        "target": {"job_id": job_id, "model_id": model_id},
        "model_id": "model",
        "platform_job_id": None,
        "cause": {"updates": 1, "examples": []},
    }
    return cast("Run", run)


def to_result(execution: Execution) -> Result:
    """The result of an execution, as a release stores it."""
    return {
        "outcome": cast("Any", execution.outcome),
        "active_changed": execution.changed,
        "past_run": None,
        "figures": None,
        "failure": None,
    }


def run_id(run: int) -> str:
    """The id of a run."""
    return f"run-{run}"


def _element(message: Message, setting: Setting) -> Element:
    update = to_update(message, setting)
    return record(Entry(update.target), [update], setting.pace).waiting.batch[0]


def _time(at: int) -> float:
    return float(at) if at else NEVER


def _small(at: float) -> int:
    return int(at) if at > NEVER else 0


# --- Renaming --------------------------------------------------------------------------------------------


def new_run(w: World) -> int:
    """A number that no known run has."""
    return max(_runs(w)) + 1


def renamed(w: World, setting: Setting) -> World:
    """The same world with the smallest numbers for times and runs, and what has no order sorted."""
    runs, times = _runs(w), _times(w)
    r: Mapping[int, int] = _SAME
    t: Mapping[int, int] = _SAME
    if max(runs) >= len(runs):
        r = {run: n for n, run in enumerate(sorted(runs))}
    if setting.time_passes:
        t = _without_long_gaps(times, setting.longest_gap)
    elif max(times) >= len(times):
        t = {at: n for n, at in enumerate(sorted(times))}
    if r is not _SAME or t is not _SAME:
        w = _with_numbers(w, t, r)
    return w._replace(
        messages=tuple(sorted(w.messages)),
        open=tuple(sorted(w.open)),
        looks=tuple(sorted(w.looks)),
        executions=tuple(sorted(w.executions)),
    )


def _runs(w: World) -> set[int]:
    runs = {0}
    runs.update(row.run for row in w.rows)
    runs.update(execution.run for execution in w.executions)
    runs.update(run for run, _ in w.takers)
    for look in w.looks:
        runs.update((look.run, look.seen.run))
        runs.update(run for run, _ in look.takers)
    return runs


def _times(w: World) -> set[int]:
    times = {0, w.clock, w.covered}
    for row in w.rows:
        times.update(_times_of(row))
    for look in w.looks:
        times.update(_times_of(look.seen))
        times.update((look.requested, look.wanted, look.stamp))
    times.update(execution.requested for execution in w.executions)
    for model in w.models:
        times.update(model[1:])
    for message in (*w.messages, *w.open):
        times.update((message.at, message.as_of))
    return times


def _times_of(row: Row) -> tuple[int, ...]:
    times = (
        row.needed, row.last_at, row.since, row.next_since, row.retry, row.not_before, row.wanted,
        row.wanted_at, row.requested, row.fresh, row.failed, row.last,
    )  # fmt: skip
    return (*times, *(at for at, _ in row.batch)) if row.batch else times


class _Same(dict[int, int]):
    def __missing__(self, number: int) -> int:
        return number


_SAME = _Same()


def _without_long_gaps(times: set[int], longest: int) -> Mapping[int, int]:
    new: dict[int, int] = {}
    before = at = 0
    for time in sorted(times):
        at += min(time - before, longest)
        new[time] = at
        before = time
    return new


def _with_numbers(w: World, t: Mapping[int, int], r: Mapping[int, int]) -> World:
    def row(x: Row) -> Row:
        return Row(
            t[x.needed], t[x.last_at], t[x.since], t[x.next_since], t[x.retry], t[x.not_before],
            t[x.wanted], t[x.wanted_at], tuple((t[at], share) for at, share in x.batch), x.due,
            r[x.run], t[x.requested], x.begun, t[x.fresh], t[x.failed], t[x.last],
        )  # fmt: skip

    def look(x: Look) -> Look:
        return x._replace(
            seen=row(x.seen), run=r[x.run], requested=t[x.requested], wanted=t[x.wanted], stamp=t[x.stamp],
            takers=tuple((r[run], target) for run, target in x.takers),
        )  # fmt: skip

    def message(x: Message) -> Message:
        return Message(t[x.at], x.target, x.share, t[x.as_of])

    return w._replace(
        clock=t[w.clock],
        covered=t[w.covered],
        messages=tuple(map(message, w.messages)),
        open=tuple(map(message, w.open)),
        rows=tuple(map(row, w.rows)),
        takers=tuple((r[run], target) for run, target in w.takers),
        looks=tuple(map(look, w.looks)),
        executions=tuple(e._replace(run=r[e.run], requested=t[e.requested]) for e in w.executions),
        models=tuple(Model(m.queued, t[m.working], t[m.last], t[m.stamp]) for m in w.models),
    )
