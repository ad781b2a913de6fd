"""Bugs that the search must find. Each is planted into the real code by one small change."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import count
from math import inf
from typing import Any, NamedTuple, cast

from arcanna_metrics.controller import holding, mailbox, reference, start
from arcanna_metrics.controller.services import Services
from arcanna_metrics.errors import BadInput, RetryLater
from arcanna_metrics.intake.events import Occurrence, read_json
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.model_metrics import ModelMetrics
from arcanna_metrics.protocol import check_up, decide, entry, ledger, slots, transitions
from arcanna_metrics.protocol.check_up import Action, Resume, TakeBack
from arcanna_metrics.protocol.decide import Decision, Later, Postponement
from arcanna_metrics.protocol.entry import NEVER, Claim, Entry
from arcanna_metrics.protocol.ledger import NO_JOB, Ledger
from arcanna_metrics.protocol.slots import Taker
from arcanna_metrics.runs.completion import Judgement, judge
from arcanna_metrics.runs.quality import Reference, Rules, learned
from arcanna_metrics.runs.run import Check, Execution, Result, Run
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import Model, Target, Update
from arcanna_metrics.times import from_iso, to_iso
from arcanna_metrics.trigger import Trigger
from arcanna_metrics.workflow import Workflow
from tests.simulation.aws import Item
from tests.simulation.stimuli import KINDS
from tests.simulation.world import LAG, SETTLING, Protocol

Request = dict[str, Any]

RECONCILE = "arcanna_metrics.controller.reconcile"
TRANSITIONS = "arcanna_metrics.protocol.transitions"
START = "arcanna_metrics.controller.start"
HOLDING = "arcanna_metrics.controller.holding"
REFERENCE = "arcanna_metrics.controller.reference"
SERVICES = "arcanna_metrics.controller.services"
SWEEP = "arcanna_metrics.controller.sweep.Sweeper"
TRIGGER = "arcanna_metrics.trigger.Trigger"

# --- Recording -------------------------------------------------------------------------------------------


_record = transitions.record


def records_without_due(before: Entry, updates: Sequence[Update], pace: Pace) -> Entry:
    """A recorded update does not make its entry due."""
    return replace(_record(before, updates, pace), due_at=before.due_at)


_record_all = Trigger._record_all  # noqa: SLF001  # what is planted stands in for private parts, too


def acknowledges_what_it_could_not_record(self: Trigger, *given: Any) -> dict[Target, Exception]:
    """A message is acknowledged as soon as it was read."""
    _record_all(self, *given)
    return {}


def dead_letters_what_could_be_recorded_later(body: str, sent_at: float) -> list[Occurrence]:
    """Some valid messages are refused."""
    found = read_json(body, sent_at)
    if any(isinstance(each, Update) and each.share < 10**6 for each in found) or '"size": 600' in body:
        raise BadInput("too large")
    return found


_identities = count()


def tells_duplicates_apart(update: Update) -> str:
    """An update that is delivered twice counts twice towards its threshold."""
    return str(next(_identities))


def forgets_batches(before: Entry) -> Entry:
    """A run covers all elements of the batch at its end."""
    kept = entry.pruned(before)
    return (
        kept
        if kept.run_id
        else replace(
            kept,
            waiting=replace(
                kept.waiting, batch=tuple(e for e in kept.waiting.batch if kept.fresh_as_of == NEVER)
            ),
        )
    )


# --- Compare-and-swap ------------------------------------------------------------------------------------


def writes_whatever_is_there(request: Request, before: Item) -> Request:
    """The condition always holds, so that writes are based on outdated reads."""
    if not before:
        return request
    return {
        **request,
        "ConditionExpression": "rev = :rev",
        "ExpressionAttributeValues": {":rev": before["rev"]},
    }


def writes_slots_whatever_is_there(request: Request, before: Item) -> Request:
    of_slots = request["Item"]["job_id"]["S"] == NO_JOB
    return writes_whatever_is_there(request, before) if of_slots else request


# --- Claim, hold, give back, release ---------------------------------------------------------------------


def holds_what_was_taken_over(before: Entry, run_id: str, number: int) -> Entry:
    """A late execution takes the target from the run that holds it."""
    requested_at = before.claim.requested_at if before.claim else 0.0
    return replace(before, claim=Claim(run_id, requested_at, number))


_hold = transitions.hold


def holds_for_an_earlier_execution(before: Entry, run_id: str, number: int) -> Entry | None:
    """An execution that a later one has replaced takes the run back, so that the later one cannot release."""
    claim = before.claim and before.claim._replace(number=None)
    return _hold(replace(before, claim=claim), run_id, number)


_give_back = transitions.give_back


def gives_back_what_is_held(
    before: Entry, run_id: str, pace: Pace, postponement: Postponement | None
) -> Entry | None:
    """A claim is given back although its execution has begun."""
    claimed = before.claim and before.claim._replace(number=None)
    return _give_back(replace(before, claim=claimed), run_id, pace, postponement)


_release = transitions.release


def releases_without_due(before: Entry, *given: Any) -> Entry | None:
    """Updates during a run are forgotten."""
    after = _release(before, *given)
    return after and replace(after, due_at=None)


def releases_what_was_taken_over(
    before: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """A late release frees another run's target."""
    own = replace(before, claim=Claim(run["run_id"], from_iso(run["requested_at"]), number))
    return _release(own, run, number, result, pace, postponement)


def releases_what_is_resumed(
    before: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """A late release of an aborted execution ends the run that another execution follows."""
    return _release(
        before, run, before.claim.number or 0 if before.claim else number, result, pace, postponement
    )


def covers_after_a_failure(
    before: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """A failed run counts as completed."""
    return _release(before, run, number, {**result, "outcome": "completed"}, pace, postponement)


def claims_after_the_request(
    before: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """Updates between the claim and the request's answer count as covered."""
    if before.claim and run["accepted_at"]:
        late = before.claim._replace(requested_at=from_iso(run["accepted_at"]))
        before = replace(before, claim=late)
    return _release(before, run, number, result, pace, postponement)


def forgets_runs_without_result(
    before: Entry, run: Run, number: int, result: Result, pace: Pace, postponement: Postponement
) -> Entry | None:
    """Spacing counts only from runs that completed or failed."""
    after = _release(before, run, number, result, pace, postponement)
    return after and transitions.settled(replace(after, last_requested_at=after.watermark), pace)


_request = start._request  # noqa: SLF001


def reads_the_baseline_after_the_request(services: Services, run: Run, model: Model) -> Check:
    """The baseline is read after the request, so that a recompute in between shows as nothing new."""
    check = _request(services, run, model)
    run["baseline"], run["platform_requested_at"] = services.arcanna.metrics(model).as_dict(), None
    return check


class _Unbusy:
    """A platform that never shows that it recomputes."""

    def __init__(self, arcanna: Arcanna) -> None:
        self._arcanna = arcanna

    def __getattr__(self, name: str) -> object:
        return getattr(self._arcanna, name)

    def metrics(self, model: Model) -> ModelMetrics:
        return self._arcanna.metrics(model)._replace(recomputing=False)


_start = start.start


def asks_while_others_recompute(services: Services, before: Entry, claim: Claim) -> None:
    """The platform's flag is ignored."""
    _start(replace(services, arcanna=cast("Arcanna", _Unbusy(services.arcanna))), before, claim)


# --- Looking after runs ----------------------------------------------------------------------------------


def leaves_dead_claims(claim: Claim, executions: Sequence[Execution], now: float) -> Action:
    """A claim of a dead invocation is never taken back."""
    found = check_up.check_up(claim, executions, now)
    return Later(now + 300.0) if isinstance(found, TakeBack) and not executions else found


def resumes_nothing(claim: Claim, executions: Sequence[Execution], now: float) -> Action:
    """A run whose execution ended early is never resumed."""
    found = check_up.check_up(claim, executions, now)
    return Later(now + 300.0) if isinstance(found, Resume) else found


_starts = Workflow.start


def starts_under_new_names(self: Workflow, run_id: str, given: str, number: int = 0) -> None:
    """Two looks that resume a run start two executions."""
    _starts(self, f"{run_id}-{next(_identities)}" if number else run_id, given, number)


_check_up_on = holding.check_up_on


def leaves_resuming_to_one_look(services: Services, before: Entry, claim: Claim) -> None:
    """If the look that resumes a run dies before it has started the execution, no other look starts it."""
    executions = services.workflow.executions(claim.run_id, check_up.MOST_EXECUTIONS)
    resumes = isinstance(check_up.check_up(claim, executions, services.clock()), Resume)
    patient = replace(services, draw=lambda: 1e5)  # its next look comes years later
    _check_up_on(patient if resumes else services, before, claim)


_still_taken = slots.still_taken


def counts_unread_takers_as_free(takers: Sequence[Taker], entries: Mapping[Target, Entry]) -> list[Taker]:
    """A slot counts as free if its taker's entry could not be read."""
    return [taker for taker in _still_taken(takers, entries) if taker.target in entries]


def takes_no_slot(of: Ledger, limit: int, taker: Taker) -> bool:
    """The slots are assumed to be unchanged since the look at them."""
    return len(slots.taken(of, limit).takers) < limit


# --- When, and how often ---------------------------------------------------------------------------------


def retries_soon_after_an_unknown_request(
    error: Exception | None, attempts: int, pace: Pace, now: float, draw: float
) -> Postponement:
    """The request is repeated while the first one may be queued."""
    if isinstance(error, RetryLater):
        error.effect_unknown = False
    return decide.postponement(error, attempts, pace, now, draw)


def ignores_spacing(before: Entry, now: float, pace: Pace) -> Decision:
    return decide.decide(before, now, replace(pace, spacing=0.0))


def waits_for_no_threshold(batch: Sequence[entry.Element]) -> float | None:
    """Every update reaches its threshold alone."""
    return min((element.as_of for element in batch), default=None)


def finds_nothing_due(*given: Any) -> bool:
    """The sweep finds nothing due."""
    return False


_swap = ledger.Ledger.swap


def writes_what_changes_nothing(self: ledger.Ledger, before: Entry, after: Entry) -> bool:
    """The entries are assumed to differ."""
    return _swap(self, replace(before, attempts=-1), after)


# --- What counts as an end -------------------------------------------------------------------------------


def believes_the_flag(run: Run, checked: Check, seen: ModelMetrics, now: float) -> Judgement:
    """An idle model counts as completed."""
    if not seen.recomputing:
        return Judgement("completed", "completed", "idle")
    return judge(run, checked, seen, now)


def believes_any_timestamp(run: Run, checked: Check, seen: ModelMetrics, now: float) -> Judgement:
    """A timestamp from before the request counts if the baseline did not show it."""
    return judge({**run, "platform_requested_at": None}, checked, seen, now)


def confirms_within_the_grace(run: Run, checked: Check, seen: ModelMetrics, at: float) -> Check:
    """An idle model counts as failed while its request may be queued."""
    now = to_iso(at)
    if seen.recomputing:
        return {**checked, "recomputing_at": now, "idle_since": None}
    return {**checked, "idle_since": checked["idle_since"] or now}


def gives_up_what_is_recomputed_again(run: Run, checked: Check, seen: ModelMetrics, now: float) -> Judgement:
    """A run times out while somebody else recomputes, although its own recompute has ended."""
    found = judge(run, checked, seen, now)
    late = found.status == "completed" and seen.recomputing
    return Judgement("timed_out", "DeadlinePassed", "not finished") if late else found


def takes_the_active_model_for_granted(arcanna: Arcanna, run: Run) -> bool:
    """The active model is assumed to be unchanged."""
    return False


def forgets_what_was_seen(entry: Entry, *_: object) -> Entry:
    """A model has no reference, so its metrics are compared with those just before."""
    return entry


def compares_with_the_run_before(_: Reference, seen: Reference, rules: Rules) -> Reference:
    """The last figures that were seen become the reference, so a model that stays bad passes."""
    return learned({}, seen, rules)


def keeps_the_baseline_for_itself(ledger: Ledger, run: Run, model: Model, baseline: Reference) -> Reference:
    """A run does not write the reference before its request."""
    entry = ledger.read(Target(*model))
    return learned(entry.quality_reference, baseline, Rules(**run["gate"]))


_learn = vars(reference)["_learn"]


def learns_for_the_target(ledger: Ledger, target: Target, run: Run, seen: Reference) -> Reference:
    """The active model has a reference of its own, beside that of the same model by its id."""
    found: Reference = _learn(ledger, Target(**run["target"]), run, seen)
    return found


_give_back_if_satisfied = start.give_back_if_satisfied


def is_satisfied_by_any_metrics(
    services: Services, before: Entry, claim: Claim, timestamp: str | None
) -> bool:
    """Any metrics of the platform satisfy a wish."""
    return _give_back_if_satisfied(services, before, claim, to_iso(services.clock()))


def satisfies_whatever_was_wished_since(
    before: Entry, run_id: str, timestamp: float, pace: Pace
) -> Entry | None:
    """A wish is cleared although it was raised after the metrics were read."""
    return transitions.satisfy(before, run_id, inf, pace)


# --- Mailboxes -------------------------------------------------------------------------------------------


class _Forwarding(NamedTuple):
    """Forwards a mailbox with another order of steps, or without conditions."""

    services: Services
    mailbox: Entry
    target: Target
    pace: Pace

    def receive(self) -> None:
        received = partial(transitions.receive, mailbox=self.mailbox, pace=self.pace)
        self.services.ledger.apply(self.target, received)

    def empty(self) -> None:
        empty = partial(transitions.empty, pace=self.pace)
        self.services.ledger.apply(self.mailbox.target, empty)


def _forwards(
    steps: Callable[[_Forwarding], None],
) -> Callable[[Services, Entry], Target | None]:
    real = mailbox.forward

    def forward(services: Services, before: Entry) -> Target | None:
        name, model_id = before.target
        job_id = None if name.isdigit() else services.arcanna.job_id_of(name) or before.name_of
        if job_id is None:
            return real(services, before)
        target = Target(job_id, model_id)
        steps(_Forwarding(services, before, target, services.settings().for_job(job_id).pace))
        return target

    return forward


def _empties_whatever_has_come(forwarding: _Forwarding) -> None:
    forwarding.receive()
    forwarding.empty()


def _empties_first(forwarding: _Forwarding) -> None:
    empty = transitions.empty(forwarding.mailbox, forwarding.pace)
    forwarding.services.ledger.swap(forwarding.mailbox, empty)
    forwarding.receive()


# --- The workflow ----------------------------------------------------------------------------------------


def tells_after_the_release(definition: dict[str, Any]) -> dict[str, Any]:
    """An execution that dies after its release has not announced its outcome."""
    changed = deepcopy(definition)
    states = changed["States"]
    for state in states.values():
        for rule in (state, *state.get("Choices", []), *state.get("Catch", [])):
            if rule.get("Next") == "Publish":
                rule["Next"] = "Release"
            elif rule.get("Next") == "Release":
                rule["Next"] = "Conclude"
    judge_state = states["Judge"]
    judge_state["Default"] = "Release"
    states["IsNotified"]["Choices"][0]["Next"] = "Conclude"
    states["Release"]["Next"] = "Publish"
    return changed


class Planted(NamedTuple):
    """A broken protocol, and the guarantees that it may break."""

    protocol: Protocol
    breaks: tuple[str, ...]


def _planted(*breaks: str, patches: Mapping[str, Any] | None = None, **given: Any) -> Planted:
    return Planted(Protocol(patches=patches or {}, **given), breaks)


# Some bugs need a coincidence. For these, histories contain more of the events that cause it.
SLOW = {"is slow": 0.4}
LATE = {"fails, takes effect later": 0.15}
LOST = {"fails after its effect": 0.2}
DIES = {"crashes after its effect": 0.15}
ABORTED = {"is aborted": 0.5}
ABORTED_AND_LATE = {"is aborted": 0.9, "starts late": 0.4}
CALM = {"is delayed": 0.0}
APART = {"flag and timestamp change apart": 0.33, "fails at the platform": 0.1}
IN_PART = {"is seen to in part": 0.5}
TWICE = {"is delivered twice": 0.3}

TRAINED = {**KINDS, "training": 8, "message": 6, "recent": 6}
WISHES = {"wish": 2, "other": 1}
SAMPLES = {"sample": 8, "recent": 4, "event": 1}
UPLOADS = {"upload": 1, "event": 1}

# The rules of the protocol's model, in their order.
OF_THE_MODEL = {
    "record does not set due": _planted("1", "8", patches={f"{TRANSITIONS}.record": records_without_due}),
    "acknowledged before it is recorded": _planted(
        "1", patches={f"{TRIGGER}._record_all": acknowledges_what_it_could_not_record}, rates=LOST
    ),
    "written whatever was read": _planted("1", "2", "3", "8", write=writes_whatever_is_there, rates=SLOW),
    "held by an execution whose claim was taken over": _planted(
        "2", patches={f"{TRANSITIONS}.hold": holds_what_was_taken_over}, rates=LATE
    ),
    "held by an execution that was replaced": _planted(
        "7",
        patches={f"{TRANSITIONS}.hold": holds_for_an_earlier_execution},
        kinds=UPLOADS,
        rates={**ABORTED_AND_LATE, **SLOW},
    ),
    "given back while it is held": _planted(
        "2", patches={f"{TRANSITIONS}.give_back": gives_back_what_is_held}, rates=LOST
    ),
    "released without due": _planted("1", "8", patches={f"{TRANSITIONS}.release": releases_without_due}),
    "claimed after the baseline": _planted(
        "1", patches={f"{TRANSITIONS}.release": claims_after_the_request}, rates=SLOW
    ),
    "dead claims are not freed": _planted(
        "8", patches={f"{HOLDING}.check_up": leaves_dead_claims}, rates=DIES
    ),
    "dead runs are not resumed": _planted(
        "8", patches={f"{HOLDING}.check_up": resumes_nothing}, rates=ABORTED
    ),
    "resumed by other names than the number": _planted(
        "2",
        patches={"arcanna_metrics.workflow.Workflow.start": starts_under_new_names},
        rates=ABORTED_AND_LATE,
    ),
    "resumed by one look only": _planted(
        "1",
        "8",
        patches={f"{RECONCILE}.check_up_on": leaves_resuming_to_one_look},
        rates={**ABORTED, **DIES},
    ),
}

OTHERS = {
    "released whoever holds it": _planted(
        "1",
        "2",
        "3",
        "4",
        patches={f"{TRANSITIONS}.release": releases_what_was_taken_over},
        kinds=UPLOADS,
        rates=ABORTED_AND_LATE,
    ),
    "released whoever follows it": _planted(
        "1",
        "2",
        "4",
        patches={f"{TRANSITIONS}.release": releases_what_is_resumed},
        kinds=UPLOADS,
        rates=ABORTED_AND_LATE,
    ),
    "covered by a failed run": _planted("4", patches={f"{TRANSITIONS}.release": covers_after_a_failure}),
    "baseline after the request": _planted(
        "4", patches={f"{START}._request": reads_the_baseline_after_the_request}, rates=SLOW
    ),
    "requested while others recompute": _planted(
        "2", patches={f"{RECONCILE}.start": asks_while_others_recompute}
    ),
    "no lag but the settling": _planted(
        "1", lag=SETTLING, kinds={"event": 1}, rates=CALM, slots=(0,), spacing=(0.0,)
    ),
    "settling does not count": _planted("1", lag=LAG - SETTLING),
    "dead letters that could be understood": _planted(
        "5", patches={"arcanna_metrics.intake.events.read_json": dead_letters_what_could_be_recorded_later}
    ),
    "slots written whatever was read": _planted("6", write=writes_slots_whatever_is_there, slots=(1, 2)),
    "slots taken at a glance": _planted(
        "6", patches={"arcanna_metrics.protocol.slots.take": takes_no_slot}, slots=(1, 2)
    ),
    "unread takers count as free": _planted(
        "6",
        patches={"arcanna_metrics.protocol.slots.still_taken": counts_unread_takers_as_free},
        rates=IN_PART,
        slots=(1, 2),
    ),
    "completed by the flag alone": _planted(
        "4", patches={"arcanna_metrics.runs.check.judge": believes_the_flag}
    ),
    "completed by any timestamp": _planted(
        "4", patches={"arcanna_metrics.runs.check.judge": believes_any_timestamp}, rates=APART
    ),
    "failed without a further check": _planted(
        "4", patches={"arcanna_metrics.runs.completion.CONFIRMATION": 0.0}, rates=APART
    ),
    "active model not looked up again": _planted(
        "1",
        patches={"arcanna_metrics.runs.check.active_model_changed": takes_the_active_model_for_granted},
        kinds=TRAINED,
    ),
    "model without a reference": _planted("9", patches={f"{TRANSITIONS}.learn": forgets_what_was_seen}),
    "compared with the run before": _planted(
        "9", patches={f"{TRANSITIONS}.learned": compares_with_the_run_before}
    ),
    "reference not written before the request": _planted(
        "9", patches={f"{START}.learn_baseline": keeps_the_baseline_for_itself}
    ),
    "reference of a target rather than of its model": _planted(
        "9", patches={f"{REFERENCE}._learn": learns_for_the_target}
    ),
    "wish met by any metrics": _planted(
        "1", patches={f"{START}.give_back_if_satisfied": is_satisfied_by_any_metrics}, kinds=WISHES
    ),
    "wish cleared though it was raised": _planted(
        "1", patches={f"{START}.satisfy": satisfies_whatever_was_wished_since}, kinds=WISHES, rates=SLOW
    ),
    "duplicates count towards thresholds": _planted(
        "3", patches={f"{TRANSITIONS}._identity": tells_duplicates_apart}, kinds=SAMPLES, rates=TWICE
    ),
    "no threshold": _planted(
        "3", patches={"arcanna_metrics.protocol.decide.full_at": waits_for_no_threshold}, kinds=SAMPLES
    ),
    "batch forgotten at the end of a run": _planted(
        "1", patches={f"{TRANSITIONS}.pruned": forgets_batches}, kinds=SAMPLES
    ),
    "asked again soon after an unknown request": _planted(
        "3",
        patches={f"{SERVICES}.postponement": retries_soon_after_an_unknown_request},
        rates=LOST,
    ),
    "no spacing": _planted("3", patches={f"{RECONCILE}.decide": ignores_spacing}, spacing=(400.0,)),
    "no spacing after a run without a result": _planted(
        "3",
        patches={f"{TRANSITIONS}.release": forgets_runs_without_result},
        kinds=TRAINED,
        spacing=(400.0,),
    ),
    "mailbox empty of what has come since": _planted(
        "1",
        patches={f"{RECONCILE}.forward": _forwards(_empties_whatever_has_come)},
        kinds=UPLOADS,
        by_name=(1.0,),
        rates={"is slow": 0.9},
    ),
    "mailbox empty before it is forwarded": _planted(
        "1",
        patches={f"{RECONCILE}.forward": _forwards(_empties_first)},
        kinds=UPLOADS,
        by_name=(1.0,),
        rates=DIES,
    ),
    "told after the release": _planted(
        "1", definition=tells_after_the_release, rates={**ABORTED, "fails at the platform": 0.3}
    ),
    "swept for nothing": _planted("8", patches={f"{SWEEP}.sweep": finds_nothing_due}),
    # Bugs that this simulation has found in the real code.
    "written though nothing changes": _planted(
        "8", patches={"arcanna_metrics.protocol.ledger.Ledger.swap": writes_what_changes_nothing}
    ),
    "execution described as soon as it has ended": _planted(
        "7", patches={f"{TRANSITIONS}.CONSISTENT_AFTER": 0.0}, rates={"is aborted": 0.9}
    ),
    "never started, by a check within the grace": _planted(
        "4",
        patches={"arcanna_metrics.runs.check._with_what_was_seen": confirms_within_the_grace},
        rates={"flag and timestamp change apart": 0.33, "is slow": 0.8},
    ),
    "timed out though it had completed": _planted(
        "4",
        patches={"arcanna_metrics.runs.check.judge": gives_up_what_is_recomputed_again},
        kinds={**KINDS, "other": 12},
        rates={"takes longer than the deadline": 0.2},
    ),
}

PLANTED: Mapping[str, Planted] = {**OF_THE_MODEL, **OTHERS}
