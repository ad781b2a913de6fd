"""Explores the protocol's own transitions in every possible order of events.

`search` plays random histories of the whole application. The explorer visits small worlds completely,
nearest first, so the first broken guarantee comes with the shortest history that breaks it. The project's
own code makes every write of the ledger. `mutants` replaces parts of that code and shows the consequences.

These events may happen at any moment: an update or a wish; the delivery of a message, possibly twice; a
sweep; the next step of a look (two at a time) or of an execution; the death of either; a StartExecution or a
request to the platform that takes effect late or only seems to fail; a call that outlives its execution;
somebody else's recompute; a recompute that fails, passes its deadline or cannot be checked; another active
model; an unresolved name.

Time is reduced to order. Events that wait for a time (the end of a backoff, a check-up, the end of a claim's
invocation) may happen at any moment after their cause. There is a clock only with `Setting.time_passes`, for
visibility lag, spacing and thresholds.
"""

from array import array
from collections import deque
from typing import Any, NamedTuple

from tests.simulation.small_steps import FOLLOWS, HAS_SLOT, Code, Steps
from tests.simulation.small_worlds import FAR_AWAY, Setting, World

# --- Guarantees -----------------------------------------------------------------------------------------


def broken(w: World, setting: Setting, *, quiet: bool) -> str | None:
    """The guarantee that this world breaks. A world is quiet when nothing more can happen in it."""
    return w.fault or _together(w, setting) or _unseen(w) or (_lost(w, setting) if quiet else None)


def _together(w: World, setting: Setting) -> str | None:
    following = [(e.target, e.run) for e in w.executions if e.step in FOLLOWS]
    if len(set(following)) < len(following):
        return "single flight: one run, followed twice"
    if len({target for target, _ in following}) < len(following):
        return "single flight: two runs of a target at once"
    if setting.slots:
        running = {run for _, run in following} | {k.run for k in w.looks if k.step in HAS_SLOT}
        if len(running) > setting.slots:
            return "slots: more runs at once than there are"
    return None


def _unseen(w: World) -> str | None:
    for row in w.rows:
        if (row.dirty or row.run) and not row.due:
            return "invariant: dirty or held, and nobody has to look"
        if row.due and not (row.dirty or row.run):
            return "invariant: clean and free, and somebody has to look"
    return None


def _lost(w: World, setting: Setting) -> str | None:
    # An update below its threshold may wait for more, unless its longest wait is over.
    batches = w.rows if setting.max_wait == FAR_AWAY else ()
    waiting = {(at, target) for target, row in enumerate(batches) for at, _ in row.batch}
    if any((o.at, o.target) not in waiting for o in w.open):
        return "lost update: neither recomputed nor told to have failed"
    return None


# --- Exploring -------------------------------------------------------------------------------------------


class Explored(NamedTuple):
    """The number of worlds, and the first broken guarantee with the shortest history that leads to it."""

    worlds: int
    fault: str | None = None
    history: tuple[str, ...] = ()


def explore(start: World, setting: Setting, code: Code) -> Explored:
    """Visits all reachable worlds, nearest first, until a guarantee is broken."""
    small = Steps(setting, code)
    start = small.canonical(start)
    numbers = {start: 0}
    came_from: list[tuple[int, str]] = [(0, "")]
    before, after = array("I"), array("I")
    quiet: list[int] = []
    parts: dict[Any, Any] = {}  # parts that worlds share
    todo = deque([start])
    while todo:
        world = todo.popleft()
        n = numbers[world]
        calm = True
        for name, outcome in small.steps(world):
            then = small.canonical(outcome)
            if then == world:
                continue
            calm = False
            m = numbers.get(then)
            if m is None:
                m = numbers[_sharing(then, parts)] = len(numbers)
                came_from.append((n, parts.setdefault(name, name)))
                todo.append(then)
            before.append(n)
            after.append(m)
        if fault := broken(world, setting, quiet=calm):
            return Explored(len(numbers), fault, _history(n, came_from))
        if calm:
            quiet.append(n)
    stuck = _never_quiet(len(numbers), before, after, quiet)
    if stuck is not None:
        return Explored(len(numbers), "stuck: never quiet again", _history(stuck, came_from))
    return Explored(len(numbers))


def _sharing(world: World, parts: dict[Any, Any]) -> World:
    """The same world, with parts shared to save memory."""
    return World._make(
        parts.setdefault((n, part), part) if isinstance(part, tuple) else part for n, part in enumerate(world)
    )


def _never_quiet(worlds: int, before: "array[int]", after: "array[int]", quiet: list[int]) -> int | None:
    """A world from which no quiet world can be reached."""
    leads_to: list[list[int]] = [[] for _ in range(worlds)]  # backwards
    for n, m in zip(before, after, strict=True):
        leads_to[m].append(n)
    calm = bytearray(worlds)
    todo = list(quiet)
    while todo:
        n = todo.pop()
        if not calm[n]:
            calm[n] = True
            todo += leads_to[n]
    stuck = calm.find(0)
    return None if stuck < 0 else stuck


def _history(n: int, came_from: list[tuple[int, str]]) -> tuple[str, ...]:
    names = []
    while n:
        n, name = came_from[n]
        names.append(name)
    return tuple(reversed(names))
