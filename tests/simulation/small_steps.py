"""The steps of a small world, which the explorer takes in every order.

The steps follow the code between the transitions (`reconcile`, `start`, `holding`, `Trigger`, the workflow).
They call the project's own functions to change an entry or to decide (see `Code`).

A read and write that the code repeats until it succeeds is one step (record, hold, give back, release),
because the swap excludes all others. A look reads, asks the platform and writes later, so these are separate
steps. A sweep stands for every hint, because each hint leads to the same look.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Any

from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.check_up import MOST_EXECUTIONS, Action, Resume, TakeBack, check_up
from arcanna_metrics.protocol.decide import CheckUp, Decision, Postponement, Start, decide
from arcanna_metrics.protocol.entry import Claim, Entry
from arcanna_metrics.protocol.slots import Taker, still_taken
from arcanna_metrics.protocol.transitions import CLAIM_LIFETIME
from arcanna_metrics.runs.run import Execution as Described
from arcanna_metrics.targets import WHOLE
from tests.simulation.small_worlds import (
    FAR_AWAY,
    Execution,
    Look,
    Message,
    Model,
    Row,
    Setting,
    Takers,
    World,
    new_run,
    renamed,
    run_id,
    to_entry,
    to_result,
    to_row,
    to_run,
    to_update,
)


@dataclass(frozen=True)
class Code:
    """The explored code: the functions that change entries, and the rules of the steps between them."""

    record: Callable[..., Entry] = transitions.record
    receive: Callable[..., Entry] = transitions.receive
    empty: Callable[..., Entry] = transitions.empty
    claim: Callable[..., Entry] = transitions.claim
    hold: Callable[..., Entry | None] = transitions.hold
    give_back: Callable[..., Entry | None] = transitions.give_back
    take_back: Callable[..., Entry] = transitions.take_back
    postpone: Callable[..., Entry] = transitions.postpone
    report_end: Callable[..., Entry | None] = transitions.report_end
    postpone_check_up: Callable[..., Entry] = transitions.postpone_check_up
    satisfy: Callable[..., Entry | None] = transitions.satisfy
    release: Callable[..., Entry | None] = transitions.release
    decide: Callable[..., Decision] = decide
    check_up: Callable[..., Action] = check_up
    still_taken: Callable[..., list[Taker]] = still_taken

    swaps: bool = True  # a look writes only where the entry is still the one that it has read
    swaps_mailbox: bool = True
    swaps_slots: bool = True
    counts_slots: bool = False  # a slot is free once it is given back, rather than by its taker's entry
    claims_before_slot: bool = True
    acknowledges_after_record: bool = True  # a message is deleted once its update is in the ledger
    claims_before_baseline: bool = True  # requested_at is taken before the platform is read
    waits_for_others: bool = True  # nothing is requested while the platform shows the model recomputing
    names_by_number: bool = True  # a run has one execution of a number
    looks_model_up_again: bool = True  # at the end of a run: whether its model is still the active one
    receives_before_emptied: bool = True


Step = tuple[str, World]
On = Callable[..., World]
"""The world with the look or execution at another step, and with changes of it."""

READ = frozenset(("claim", "describe", "take back", "resume", "forward", "receive", "empty"))
"""Steps of a look that goes by the entry that it has read."""

SWAPS = frozenset(("claim", "describe", "take back", "resume"))
"""Those at which it can do nothing any more if the entry is another by now."""

HAS_SLOT = frozenset(("resolve", "baseline", "satisfied", "request", "look up", "start"))
"""Steps of a look whose run has a slot."""

HAS_CLAIM = HAS_SLOT | {"take slot", "write slot", "give back", "no slot"}
"""Steps of a look whose run holds the target."""

FOLLOWS = frozenset(("poll", "look up", "tell", "release"))
"""Steps of an execution that follows a run."""


class Steps:
    """The steps that are possible in worlds of a setting, with some code."""

    def __init__(self, setting: Setting, code: Code) -> None:
        self.setting = setting
        self.code = code
        self._timed = setting.time_passes
        # The same few entries come again and again.
        self._entry = cache(lambda target, row: to_entry(row, target, setting))
        self._decision = cache(self._decide)
        self._changed = cache(self._change)
        self._released = cache(self._release)

    def _decide(self, target: int, row: Row, now: int) -> Decision:
        return self.code.decide(self._entry(target, row), float(now), self.setting.pace)

    def _change(self, change: str, target: int, row: Row, *given: Any) -> Row | None:
        """The row after the code's function of that name. None if the function refuses."""
        after = getattr(self.code, change)(self._entry(target, row), *given)
        return None if after is None else to_row(after, self.setting)

    def _release(self, row: Row, e: Execution, again: Postponement) -> Row | None:
        entry, run, result = self._entry(e.target, row), to_run(e, self.setting), to_result(e)
        after = self.code.release(entry, run, e.number, result, self.setting.pace, again)
        return None if after is None else to_row(after, self.setting)

    def _row(self, change: str, target: int, row: Row, *given: Any) -> Row:
        after = self._changed(change, target, row, *given)
        assert after is not None, change
        return after

    def _write(self, w: World, target: int, row: Row | None) -> World:
        """The world with that entry, and what looks have read of it stale; the same if it was refused."""
        if row is None:
            return w
        looks = tuple(k._replace(stale=True) if k.target == target and k.step in READ else k for k in w.looks)
        return w._replace(rows=_put(w.rows, target, row), looks=looks)

    def _write_news(self, w: World, target: int, row: Row | None) -> World:
        """Like this, where nothing is written if nothing changes."""
        return w if row == w.rows[target] else self._write(w, target, row)

    def _again(self, w: World) -> Postponement:
        return Postponement(float(w.clock + 1) if self._timed else 0.0)

    # --- What may happen ---------------------------------------------------------------------------------

    def steps(self, w: World) -> Iterator[Step]:
        """Every next world, and what leads there."""
        yield from self._outside(w)
        yield from self._at_platform(w)
        yield from self._deliver(w)
        yield from self._look_at(w)
        for n, look in enumerate(w.looks):
            rest = w._replace(looks=_without(w.looks, n))
            yield from self._look(rest, look)
            if w.crashes and self._does_harm(look):
                yield f"look dies at {look.step}", rest._replace(crashes=w.crashes - 1)
        for n, execution in enumerate(w.executions):
            rest = w._replace(executions=_without(w.executions, n))
            yield from self._execute(rest, execution)
            if w.crashes and (execution.step in FOLLOWS or execution.step == "hold"):
                yield from self._abort(rest._replace(crashes=w.crashes - 1), execution)

    def _outside(self, w: World) -> Iterator[Step]:
        """The steps of people and clocks."""
        for n, coming in enumerate(w.to_come):
            if coming in w.to_come[:n]:
                continue
            left = w._replace(to_come=_without(w.to_come, n))
            for at in range(w.clock + 1, w.clock + 1 + self.setting.longest_gap):
                message = coming._replace(at=at)
                if coming.as_of:
                    message = message._replace(at=at + 1, as_of=at)
                yield (
                    self._what(message),
                    left._replace(clock=message.at, messages=(*w.messages, message), open=(*w.open, message)),
                )
        # Nothing asks for the time while a run is under way: it may as well pass before and after.
        if self._timed and any(row.dirty and not row.run for row in w.rows):
            yield "a second passes", w._replace(clock=w.clock + 1)
        if w.changes:
            yield "another model is active", w._replace(changes=w.changes - 1, active=1 - w.active)

    def _at_platform(self, w: World) -> Iterator[Step]:
        tick = w.clock if self._timed else w.clock + 1
        for m, model in enumerate(w.models):
            of = f" of model {m}" if len(w.models) > 1 else ""

            def on(world: World = w, m: int = m, model: Model = model, **changes: int) -> World:
                return world._replace(models=_put(world.models, m, model._replace(**changes)))

            if w.others:
                yield f"others ask{of}", on(w._replace(others=w.others - 1), queued=model.queued + 1)
            if model.queued and not model.working:
                begun = w._replace(clock=tick)
                yield f"recompute begins{of}", on(begun, queued=model.queued - 1, working=tick)
            if model.working:
                yield f"recompute ends{of}", self._recomputed(w, m, tick)
                if w.failures:
                    failed = w._replace(failures=w.failures - 1)
                    yield f"recompute fails{of}", on(failed, working=0)

    def _recomputed(self, w: World, m: int, tick: int) -> World:
        wishes, model = self.setting.wishes, w.models[m]
        return w._replace(
            clock=tick if wishes else w.clock,
            models=_put(w.models, m, Model(model.queued, 0, model.working, tick if wishes else 0)),
            looks=tuple(
                k._replace(newer=True) if k.model == m and k.step in ("request", "start") else k
                for k in w.looks
            ),
            executions=tuple(e._replace(newer=True) if e.model == m else e for e in w.executions),
            # A wish takes any recompute that ended since, whoever asked for it.
            open=tuple(o for o in w.open if not o.as_of or self.setting.jobs[o.target] != m),
        )

    def _deliver(self, w: World) -> Iterator[Step]:
        for n, message in enumerate(w.messages):
            updates = (to_update(message, self.setting),)
            row = self._row("record", message.target, w.rows[message.target], updates, self.setting.pace)
            recorded = self._write(w, message.target, row)
            left = _without(w.messages, n)
            what = self._what(message)
            yield f"record {what}", recorded._replace(messages=left)
            if w.duplicates:
                yield f"record {what}, which stays", recorded._replace(duplicates=w.duplicates - 1)
            if w.crashes and not self.code.acknowledges_after_record:
                yield (
                    f"invocation dies before it records {what}",
                    w._replace(crashes=w.crashes - 1, messages=left),
                )

    # --- Looks -------------------------------------------------------------------------------------------

    def _look_at(self, w: World) -> Iterator[Step]:
        """A look begins: it reads the entry and decides."""
        for target, row in enumerate(w.rows):
            if row.due and len(w.looks) < self.setting.looks and self._is_looked_at(w, target):
                yield from self._reconcile(w, target, row)
            if row.due and w.crashes:  # whatever may fail in a look, but for the start of a run
                again = self._row("postpone", target, row, self.setting.pace, self._again(w))
                if again != row:
                    failed = self._write(w._replace(crashes=w.crashes - 1), target, again)
                    yield f"a look{self._of(target)} fails", failed

    def _is_looked_at(self, w: World, target: int) -> bool:
        """Whether a slot is free, or the target's own run, which may be dead, holds one."""
        limit = self.setting.slots
        if not limit or len(w.takers) < limit:
            return True
        holding = self._holding(w)
        return len(holding) < limit or any(taker == target for _, taker in holding)

    def _holding(self, w: World) -> Takers:
        if self.code.counts_slots:
            return w.takers
        targets = self.setting.targets
        entries = {targets[target]: self._entry(target, row) for target, row in enumerate(w.rows)}
        takers = [Taker(run_id(run), targets[target]) for run, target in w.takers]
        still = self.code.still_taken(takers, entries)
        return tuple(each for each, taker in zip(w.takers, takers, strict=True) if taker in still)

    def _reconcile(self, w: World, target: int, row: Row) -> Iterator[Step]:
        look = Look("describe", target, seen=row)
        match self._decision(target, row, w.clock):
            case Start() if self.setting.named and target == 0:
                look = look._replace(step="forward")
            case Start() if not self.code.claims_before_slot:
                look = look._replace(step="take slot", run=new_run(w))
            case Start():
                look = look._replace(step="claim")
            case CheckUp():
                pass
            case _:
                return
        yield f"look{self._of(target)}: {look.step}", w._replace(looks=(*w.looks, look))

    def _look(self, w: World, k: Look) -> Iterator[Step]:
        """The next step of a look, which is not among those of `w` any more."""

        def on(step: str, world: World = w, **changes: Any) -> World:
            return world._replace(looks=(*world.looks, k._replace(step=step, **changes)))

        if k.stale and self._is_refused_if_stale(k):
            yield f"{k.step}{self._of(k.target)} is refused", w
        elif k.step in HAS_CLAIM:
            yield from self._start(w, k, on)
        elif k.step in ("forward", "receive", "empty"):
            yield from self._forward(w, k, on)
        else:
            yield from self._look_after(w, k, on)

    def _does_harm(self, k: Look) -> bool:
        """Whether it makes a difference that a look dies before this step: it has written something."""
        return k.step not in READ or (k.step == "receive" and not self.code.receives_before_emptied)

    def _is_refused_if_stale(self, k: Look) -> bool:
        if k.step == "empty":
            return self.code.swaps_mailbox
        return k.step in SWAPS and self.code.swaps

    # --- A look that starts a run ------------------------------------------------------------------------

    def _claim(self, w: World, k: Look) -> Step:
        run = k.run or new_run(w)
        at = w.clock if self._timed else w.clock + 1
        row = self._row("claim", k.target, k.seen, Claim(run_id(run), float(at)))
        claimed = self._write(w, k.target, row)._replace(clock=at)
        if k.seen.mark and at < k.seen.mark + self.setting.spacing:
            claimed = claimed._replace(fault="spacing: two runs of a target too close together")
        look = Look(
            "take slot" if self.setting.slots and self.code.claims_before_slot else self._after_slot(),
            k.target,
            run=run,
            requested=at,
            wanted=0 if k.seen.needed or k.seen.batch else k.seen.wanted,
            model=self.setting.jobs[k.target],
        )
        return f"claim {run}{self._of(k.target)}", claimed._replace(looks=(*claimed.looks, look))

    def _after_slot(self) -> str:
        return "resolve" if self.setting.follows_active else "baseline"

    def _start(self, w: World, k: Look, on: On) -> Iterator[Step]:
        match k.step:
            case "take slot":
                yield self._take_slot(w, k, on)
            case "write slot":
                yield self._write_slot(w, k, on)
            case "resolve":
                yield f"model {w.active} is the active one for {k.run}", on("baseline", model=w.active)
            case "baseline":
                yield from self._baseline(w, k, on)
            case "satisfied":
                row = self._changed(
                    "satisfy", k.target, w.rows[k.target], run_id(k.run), float(k.stamp), self.setting.pace
                )
                yield f"{k.run} is satisfied", self._write(w, k.target, row)
            case "request":
                yield from self._request(w, k, on)
            case "look up":  # another model may be accepted
                changed = w.active != k.model
                yield (
                    f"{k.run} finds that {_active(changed=changed)}",
                    on("give back") if changed else on("start"),
                )
            case "start":
                yield from self._start_execution(w, k, on)
            case _:
                yield self._give_back(w, k)

    def _take_slot(self, w: World, k: Look, on: On) -> Step:
        """Reads who has the slots and, where all are taken, whether they still hold their targets."""
        takers = w.takers
        if len(takers) >= self.setting.slots:
            takers = self._holding(w)
        if len(takers) >= self.setting.slots:
            return f"no slot for {k.run}", on("no slot") if self.code.claims_before_slot else w
        return f"see a slot for {k.run}", on("write slot", takers=(*takers, (k.run, k.target)))

    def _write_slot(self, w: World, k: Look, on: On) -> Step:
        if k.stale and self.code.swaps_slots:
            return f"the slot for {k.run} is refused", on("take slot", stale=False, takers=())
        others = tuple(x._replace(stale=True) if x.step == "write slot" else x for x in w.looks)
        taken = w._replace(takers=k.takers, looks=others)
        step = self._after_slot() if self.code.claims_before_slot else "claim"
        return f"take a slot for {k.run}", on(step, taken, stale=False, takers=())

    def _baseline(self, w: World, k: Look, on: On) -> Iterator[Step]:
        model = w.models[k.model]
        if k.wanted and k.wanted <= model.stamp:
            yield f"baseline for {k.run}: new enough", on("satisfied", stamp=model.stamp)
        elif model.working and self.code.waits_for_others:  # perhaps of older data
            yield f"baseline for {k.run}: busy", on("give back")
        else:
            worth = w
            if self.setting.exact and not self._is_worth(w, k):
                worth = w._replace(fault="more than needed: a run that nothing needs")
            yield f"baseline for {k.run}", on("request", worth)
            if w.failures:
                step = "look up" if self.setting.follows_active else "start"
                left = w._replace(failures=w.failures - 1)
                yield f"{k.run} is rejected", on(step, left, rejected=True)

    def _is_worth(self, w: World, k: Look) -> bool:
        """Whether open updates that were visible at the claim are enough for a run."""
        jobs, lag, max_wait = self.setting.jobs, self.setting.lag, self.setting.max_wait
        waiting = [o for o in w.open if jobs[o.target] == jobs[k.target] and o.at + lag <= k.requested]
        overdue = any(o.at + max_wait <= k.requested for o in waiting)
        return overdue or any(o.as_of for o in waiting) or sum(o.share for o in waiting) >= WHOLE

    def _request(self, w: World, k: Look, on: On) -> Iterator[Step]:
        model = w.models[k.model]
        at, rows = k.requested, w.rows
        if not self.code.claims_before_baseline:
            at, row = w.clock + 1, rows[k.target]
            rows = _put(rows, k.target, row._replace(requested=at)) if row.run == k.run else rows
        asked = w._replace(
            clock=max(w.clock, at),
            rows=rows,
            models=_put(w.models, k.model, model._replace(queued=model.queued + 1)),
        )
        yield f"request {k.run}", on("start", asked, requested=at)
        if w.crashes:
            yield (
                f"the request of {k.run} seems to fail",
                on("give back", asked._replace(crashes=w.crashes - 1)),
            )
            # A request that takes effect later is like a later request by others.
            late = w._replace(crashes=w.crashes - 1, others=w.others + 1)
            yield f"the request of {k.run} seems to fail, and is on its way", on("give back", late)

    def _start_execution(self, w: World, k: Look, on: On) -> Iterator[Step]:
        begun = Execution(
            "hold", k.target, k.run, requested=k.requested, model=k.model, newer=k.newer, rejected=k.rejected
        )
        yield f"start {k.run}", w._replace(executions=(*w.executions, begun))
        if w.crashes:
            on_its_way = begun._replace(step="on its way")
            late = w._replace(crashes=w.crashes - 1, executions=(*w.executions, on_its_way))
            yield f"look dies, the start of {k.run} on its way", late
            yield f"the start of {k.run} seems to fail", on("give back", late)

    def _give_back(self, w: World, k: Look) -> Step:
        again = self._again(w) if k.step == "give back" else None
        row = self._changed("give_back", k.target, w.rows[k.target], run_id(k.run), self.setting.pace, again)
        if row is None:
            return f"{k.run} is not given back", w
        return f"give {k.run} back", self._write(self._slot_back(w, k.run), k.target, row)

    def _slot_back(self, w: World, run: int) -> World:
        if not self.code.counts_slots:
            return w
        return w._replace(takers=tuple(taker for taker in w.takers if taker[0] != run))

    # --- A look at a name --------------------------------------------------------------------------------

    def _forward(self, w: World, k: Look, on: On) -> Iterator[Step]:
        """Updates under a name are forwarded. If the name cannot be resolved, the name has its own run."""
        receives_first = self.code.receives_before_emptied
        match k.step:
            case "forward":
                yield "the name is known", on("receive" if receives_first else "empty")
                if w.unknown:
                    yield "nobody knows the name", on("claim", w._replace(unknown=w.unknown - 1))
            case "receive":
                row = self._row("receive", 1, w.rows[1], self._entry(0, k.seen), self.setting.pace)
                received = self._write_news(w, 1, row)
                yield "receive", on("empty", received) if receives_first else received
            case _:
                row = self._row("empty", 0, w.rows[0] if k.stale else k.seen, self.setting.pace)
                empty = self._write(w, 0, row)
                yield "empty the mailbox", empty if receives_first else on("receive", empty)

    # --- A look after a run ------------------------------------------------------------------------------

    def _look_after(self, w: World, k: Look, on: On) -> Iterator[Step]:
        match k.step:
            case "claim":
                yield self._claim(w, k)
            case "describe":
                yield self._describe(w, k, on)
            case "take back":
                row = self._row(
                    "take_back", k.target, k.seen, self._claim_of(k), self.setting.pace, self._again(w)
                )
                yield f"take {k.run} back", self._write(w, k.target, row)
            case "resume":
                row = self._row("postpone_check_up", k.target, k.seen, 0.0)
                left = self._write(w, k.target, row)
                yield f"{k.run} is to go on as {k.number}", on("start again", left, seen=Row(), stale=False)
            case _:
                name = f"resume {k.run} as {k.number}"
                yield name, self._resumed(w, k, "hold")
                if w.crashes:
                    left = w._replace(crashes=w.crashes - 1)
                    yield f"look dies, {name} on its way", self._resumed(left, k, "on its way")

    def _claim_of(self, k: Look) -> Claim:
        """The claim that the look has read."""
        claim = self._entry(k.target, k.seen).claim
        assert claim is not None
        return claim

    def _describe(self, w: World, k: Look, on: On) -> Step:
        """Describes the run that was read earlier, and decides what to do about it."""
        run = k.seen.run
        shown = {
            e.number: Described(e.step != "dead", "")
            for e in w.executions
            if e.run == run and (e.step in FOLLOWS or e.step in ("hold", "dead"))
        }
        executions = [shown[number] for number in takewhile(shown.__contains__, range(MOST_EXECUTIONS))]
        # An invocation that has claimed the target lives no longer than its claim.
        claiming = any(other.run == run and other.step in HAS_CLAIM for other in w.looks)
        now = k.seen.requested + (0 if claiming else CLAIM_LIFETIME)
        match self.code.check_up(self._claim_of(k), executions, now):
            case Resume():
                return f"{run} has ended", on("resume", run=run, number=len(executions))
            case TakeBack():
                return f"nothing follows {run}", on("take back", run=run)
            case later:
                row = self._row("postpone_check_up", k.target, k.seen, later.at)
                return f"{run} is left alone", w if k.stale or row == k.seen else self._write(
                    w, k.target, row
                )

    def _resumed(self, w: World, k: Look, step: str) -> World:
        """After StartExecution with the input of the execution before."""
        own = [e for e in w.executions if e.run == k.run and not e.step.startswith("late")]
        if self.code.names_by_number and any(e.number == k.number for e in own):
            return w  # the name is taken
        newer = any(e.newer for e in own)
        again = own[0]._replace(step=step, number=k.number, newer=newer, outcome="", changed=False)
        return w._replace(executions=(*w.executions, again))

    # --- Executions --------------------------------------------------------------------------------------

    def _execute(self, w: World, e: Execution) -> Iterator[Step]:
        """The next step of an execution, which is not among those of `w` any more."""
        name = f"{e.run}-{e.number}" if e.number else f"{e.run}"

        def on(step: str, world: World = w, **changes: Any) -> World:
            return world._replace(executions=(*world.executions, e._replace(step=step, **changes)))

        match e.step:
            case "on its way":
                yield f"{name} starts late", on("hold")
            case "hold" | "late hold":
                yield self._hold(w, e, on, name)
            case "poll":
                yield from self._poll(w, e, on, name)
            case "look up":
                changed = w.active != e.model and self.code.looks_model_up_again
                yield f"{name} finds that {_active(changed=changed)}", on("tell", changed=changed)
            case "tell":
                told = w
                if e.outcome != "completed" and w.rows[e.target].fresh == e.requested:
                    told = w._replace(fault="false failure: a run that has completed is told to have failed")
                yield f"{name} tells that it has {e.outcome}", on("release", told)
            case "release" | "late release":
                yield self._finish(w, e, name)
            case _:
                row = self._changed("report_end", e.target, w.rows[e.target], run_id(e.run), 0.0)
                yield f"the end of {name} is reported", on("dead", self._write_news(w, e.target, row))

    def _hold(self, w: World, e: Execution, on: On, name: str) -> Step:
        row = self._changed("hold", e.target, w.rows[e.target], run_id(e.run), e.number)
        if row is None:
            return f"{name} is superseded", on("dead")
        held = self._write(w, e.target, row)
        if e.step == "late hold":
            return f"late hold by {name}", held
        return f"hold by {name}", on("tell", held, outcome="failed") if e.rejected else on("poll", held)

    def _poll(self, w: World, e: Execution, on: On, name: str) -> Iterator[Step]:
        model = w.models[e.model]
        ended = "look up" if self.setting.follows_active else "tell"
        completed = e.newer and not model.working
        if completed:
            yield f"{name} has completed", on(ended, outcome="completed")
        elif not (e.newer or model.working or model.queued):
            yield f"{name} has failed", on(ended, outcome="failed")
        if w.timeouts and not completed:
            late = w._replace(timeouts=w.timeouts - 1)
            yield f"{name} passes its deadline", on(ended, late, outcome="timed_out")
        if w.unchecked:
            left = w._replace(unchecked=w.unchecked - 1)
            yield f"{name} cannot be checked", on("tell", left, outcome="not_checked")

    def _finish(self, w: World, e: Execution, name: str) -> Step:
        row = self._let_go(w, e)
        if row is None:
            return f"release by {name} is refused", w
        return f"release by {name}", self._ended(self._slot_back(self._write(w, e.target, row), e.run), e)

    def _let_go(self, w: World, e: Execution) -> Row | None:
        known = e._replace(step="", model=0, newer=False, rejected=False)
        return self._released(w.rows[e.target], known, self._again(w))

    def _ended(self, w: World, e: Execution) -> World:
        """After a release, the updates that the run answers are no longer open."""
        if e.changed or e.outcome == "not_checked":
            return w
        if e.outcome == "completed":
            if w.models[e.model].last < e.requested:
                return w._replace(
                    fault="proven end: completed by a recompute that had begun before the claim"
                )
            if self.setting.follows_active and w.covered < e.requested:
                return w  # no model was recomputed that was active afterwards
        jobs, lag = self.setting.jobs, self.setting.lag
        still = (
            o for o in w.open if jobs[o.target] != jobs[e.target] or (o.as_of or o.at + lag) > e.requested
        )
        return w._replace(open=tuple(still))

    def _abort(self, w: World, e: Execution) -> Iterator[Step]:
        dead = (*w.executions, e._replace(step="dead", outcome="", changed=False))
        yield f"{e.run} is aborted at {e.step}", w._replace(executions=dead)
        if e.step in ("hold", "release"):
            late = e._replace(step=f"late {e.step}")
            yield f"{e.run} is aborted, its {e.step} on its way", w._replace(executions=(*dead, late))

    # --- Worlds that are the same ------------------------------------------------------------------------

    def canonical(self, w: World) -> World:
        """The same world, without what makes no difference any more and with the smallest numbers."""
        looks = w.looks
        if any(k.stale for k in looks):
            looks = tuple(k for k in looks if not (k.stale and self._is_refused_if_stale(k)))
            w = w._replace(looks=looks)
        if w.executions:
            runs = {row.run for row in w.rows} | {k.run or k.seen.run for k in looks}
            w = w._replace(executions=tuple(e for e in w.executions if not self._is_over(w, e, runs)))
        if self.setting.follows_active:
            w = w._replace(covered=max(w.covered, w.models[w.active].last))
        if not self._timed:
            w = self._without_old_times(w)
        return renamed(w, self.setting)

    def _is_over(self, w: World, e: Execution, runs: set[int]) -> bool:
        """Whether no step will ask for a dead execution again, or a late call will be refused."""
        row = w.rows[e.target]
        match e.step:
            case "dead":
                return e.run not in runs
            case "on its way" | "hold" | "late hold":
                refused = self._changed("hold", e.target, row, run_id(e.run), e.number) is None
                return refused and (row.run != e.run or e.step == "late hold")
            case "late release":
                return self._let_go(w, e) is None
        return False

    def _without_old_times(self, w: World) -> World:
        """The world without times that all those are later than which they can be compared with."""
        rows = tuple(
            self._without_old_marks(w, target, row) if row.mark else row for target, row in enumerate(w.rows)
        )
        if self.setting.follows_active:
            return w._replace(rows=rows)
        asked = [e.requested for e in w.executions] + [k.requested for k in w.looks if k.requested]
        first = min(asked, default=FAR_AWAY)
        models = tuple(m._replace(last=0) if m.last < first else m for m in w.models)
        return w._replace(rows=rows, models=models)

    def _without_old_marks(self, w: World, target: int, row: Row) -> Row:
        if self.setting.wishes:
            return row
        mark, named = row.mark, self.setting.named
        rows = (*w.rows, *(k.seen for k in w.looks)) if named else (row,)
        times = [m.at for m in w.messages if named or m.target == target]
        times += [x.needed for x in rows if x.needed] + [at for at, _ in row.batch]
        if mark < min(times, default=FAR_AWAY) and all(e.requested != mark for e in w.executions):
            return row._replace(fresh=0, failed=0)
        return row if not (row.fresh and row.failed) else row._replace(fresh=mark, failed=0)

    # --- Names -------------------------------------------------------------------------------------------

    def _what(self, message: Message) -> str:
        kind = "wish" if message.as_of else "update" if message.share == WHOLE else "share"
        return f"{kind} {message.at}{self._of(message.target)}"

    def _of(self, target: int) -> str:
        return f" of target {target}" if len(self.setting.targets) > 1 else ""


def _put(them: tuple[Any, ...], n: int, one: Any) -> tuple[Any, ...]:
    return (*them[:n], one, *them[n + 1 :])


def _without(them: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    return (*them[:n], *them[n + 1 :])


def _active(*, changed: bool) -> str:
    return "another model is active" if changed else "the model is the active one"
