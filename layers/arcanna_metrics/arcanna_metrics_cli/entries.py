"""The state of each target and its last runs, derived from the ledger's entries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

from arcanna_metrics.protocol.decide import full_at
from arcanna_metrics.protocol.entry import NEVER, Accepted, Entry, Waiting, earliest, pruned
from arcanna_metrics.protocol.transitions import merged
from arcanna_metrics.targets import WHOLE, Target, is_id
from arcanna_metrics.times import from_iso
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.words import did_you_mean, span, without_stop

PASSED_OVER = 600.0
"""Seconds after which a due target should have been tried: there is a look every minute."""


Scores = Mapping[str, float | None]
"""Overall scores by the API's names; None if Arcanna does not show one."""


class PastRun(NamedTuple):
    """A run that has ended.

    `result` is the verdict of a completed run, or the reason of a failed one. `why` explains the verdict in a
    few words, and `detail` explains the failure in full. `requested_at` is in epoch seconds. `seconds` and
    `polls` are None if they are not known.
    """

    run_id: str
    cause: str
    requested_at: float
    seconds: float | None
    polls: int | None
    outcome: str
    result: str
    detail: str
    scores: Scores
    why: str = ""
    model_id: str | None = None

    @property
    def ended_at(self) -> float | None:
        """Epoch seconds; None if not known."""
        return None if self.seconds is None else self.requested_at + self.seconds

    @property
    def is_good(self) -> bool:
        """Whether the run completed and the model did not regress."""
        return self.outcome == "completed" and self.result != "regressed"

    def in_words(self) -> str:
        """How it ended and why, in a few words."""
        if self.outcome != "completed":
            return f"{self.outcome.replace('_', ' ')}: {self.result}"
        verdict = self.result.replace("_", " ")
        return f"{verdict}: {self.why}" if self.why else verdict


class Standing(NamedTuple):
    """The state of a target. Times are in epoch seconds, and None if there is no time.

    `model_id` is None for a job's active model. `active` is then the id of that model at its last run, if it
    is known. The metrics are fresh or stale since `since`, because of `why`. `waiting` has a line for each
    thing that waits. `runs` are the model's last runs, oldest first. `accepted` says who last accepted the
    model although it got worse.
    """

    job: str
    model_id: str | None
    active: str | None
    fresh: bool
    since: float | None
    why: str
    waiting: list[str]
    runs: Sequence[PastRun]
    entry: Entry
    accepted: Accepted | None

    @property
    def last(self) -> PastRun | None:
        """The model's last run."""
        return self.runs[-1] if self.runs else None

    @property
    def last_completed(self) -> PastRun | None:
        """The model's last run that completed."""
        return next((run for run in reversed(self.runs) if run.outcome == "completed"), None)

    @property
    def scores(self) -> Scores:
        """The scores after the last completed run."""
        return self.last_completed.scores if self.last_completed else {}

    @property
    def is_accepted(self) -> bool:
        """Whether somebody has accepted the model since its last completed run ended."""
        ended_at = self.last_completed.ended_at if self.last_completed else None
        return self.accepted is not None and from_iso(self.accepted["at"]) >= (ended_at or 0.0)

    @property
    def last_error(self) -> str:
        """Why the last attempt to start a run failed; empty if none failed since the last run."""
        claim = self.entry.claim
        return "" if claim and claim.held else pruned(self.entry).last_error

    @property
    def running_since(self) -> float | None:
        """When the run under way was requested; None if no run is under way."""
        return self.entry.claim.requested_at if self.entry.claim else None

    @property
    def model(self) -> str | None:
        """The id of the target's model, if it is known."""
        return self.model_id or self.active

    @property
    def is_of_reference(self) -> bool:
        """Whether the entry only has a model's reference, as for runs of the job's active model."""
        return _is_quiet(self.entry) and self.entry.quality_reference is not None


class UnderWay(NamedTuple):
    """What the execution of a run under way knows: its model, its first update, and how many updates."""

    model_id: str | None
    first_at: float
    updates: int


def standing(
    entry: Entry,
    now: float,
    visibility_lag: float,
    run: UnderWay | None = None,
    *,
    slots_taken: bool = False,
) -> Standing:
    """The state of the target at `now` (epoch seconds).

    `visibility_lag` is the stack's, in seconds. `run` is the run under way, if its execution could be read.
    `slots_taken` is whether all slots are known to be taken.
    """
    rest = left_over(entry)
    past = runs(entry)
    active = None if entry.target.model_id else (run and run.model_id) or last_model(entry)
    fresh, since, why = _freshness(entry, past, visibility_lag, run)
    return Standing(
        job=entry.target.job_id + (f" ({entry.name_of})" if entry.name_of else ""),
        model_id=entry.target.model_id,
        active=active,
        fresh=fresh,
        since=since,
        why=why,
        waiting=_waiting(rest, now, visibility_lag, run, slots_taken=slots_taken),
        runs=[each for each in past if active is None or each.model_id in (None, active)],
        entry=entry,
        accepted=entry.accepted,
    )


def agreeing(rows: Iterable[Standing]) -> list[Standing]:
    """The rows, with the same state and the same runs in all rows of one model.

    A model may have an entry by its id and another as its job's active model, but it has one set of metrics.
    So the entry with an update that waits or a run under way decides whether they are fresh, or else the one
    with the last run.
    """
    listed = list(rows)
    same: dict[tuple[str, str | None], list[Standing]] = {}
    of_model: dict[tuple[str, str | None], list[PastRun]] = {}
    for row in listed:
        same.setdefault(_model_of(row), []).append(row)
        for run in runs(row.entry):
            of_model.setdefault((_job_of(row), run.model_id), []).append(run)
    return [_agreeing(row, same[_model_of(row)], of_model.get(_model_of(row), ())) for row in listed]


def without_references(rows: Sequence[Standing]) -> list[Standing]:
    """The rows without those that only have the reference for runs of their job's active model."""
    of_active = {_job_of(row) for row in rows if row.model_id is None}
    return [row for row in rows if not (row.is_of_reference and _job_of(row) in of_active)]


def _job_of(row: Standing) -> str:
    return row.entry.name_of or row.entry.target.job_id


def _model_of(row: Standing) -> tuple[str, str | None]:
    return _job_of(row), row.model


def _agreeing(row: Standing, same: Sequence[Standing], of_model: Sequence[PastRun]) -> Standing:
    """The row with the state of the `same` model's rows, and with the runs `of_model` from all of its job's.

    These include its runs as the active model, which may be another one now.
    """
    accepted = next((each.accepted for each in same if each.accepted), None)
    every = [*of_model, *(run for run in row.runs if run not in of_model)]
    row = row._replace(accepted=accepted, runs=sorted(every, key=attrgetter("requested_at")))
    leading = max(same, key=_decisive)
    if row.fresh != leading.fresh:
        how = "by its id" if leading.model_id else "as the active model"
        return row._replace(fresh=leading.fresh, since=leading.since, why=f"{how}: {leading.why}")
    return row._replace(since=leading.since) if row.fresh else row


def _decisive(row: Standing) -> tuple[bool, float]:
    return bool(row.entry.run_id or pruned(row.entry).dirty), row.entry.watermark


def left_over(entry: Entry) -> Entry:
    """The entry without the updates that the run under way covers."""
    if entry.claim is None:
        return pruned(entry)
    asked = entry.claim.requested_at
    return pruned(replace(entry, waiting=entry.waiting.after_run(asked), fresh_as_of=asked))


def by_job(entries: Iterable[Entry]) -> list[Entry]:
    """One entry for each job and model, in order.

    The entry of a job's name is left out unless something waits in it, or it had a run. It is merged into the
    entry of the job's id, if that is known and has one.
    """
    known = {entry.target: entry for entry in entries}
    ids = ids_of_names(known.values())
    for target, entry in list(known.items()):
        if is_id(target.job_id):
            continue
        entry = known[target] = replace(entry, name_of=_id_of(entry, ids))
        home = Target(entry.name_of or "", target.model_id)
        if home in known:
            known[home] = _together(known[home], entry)
        if home in known or _is_quiet(entry):
            del known[target]
    return [known[target] for target in sorted(known, key=lambda t: (t.job_id, t.model_id or ""))]


def _is_quiet(entry: Entry) -> bool:
    """Whether nothing waits in the entry, and no run of it is known."""
    return not (entry.dirty or entry.run_id or entry.history or entry.last_failure)


def _together(entry: Entry, mailbox: Entry) -> Entry:
    """The entries of a job's id and of its name, merged."""
    last = max(entry, mailbox, key=attrgetter("watermark"))
    return replace(
        entry,
        waiting=merged(
            entry.waiting, mailbox.waiting, answered=max(entry.failed_as_of, mailbox.failed_as_of)
        ),
        claim=entry.claim or mailbox.claim,
        due_at=earliest(entry.due_at, mailbox.due_at),
        attempts=max(entry.attempts, mailbox.attempts),
        failing_since=earliest(entry.failing_since, mailbox.failing_since),
        last_error=max(entry, mailbox, key=attrgetter("attempts")).last_error,
        fresh_as_of=max(entry.fresh_as_of, mailbox.fresh_as_of),
        failed_as_of=max(entry.failed_as_of, mailbox.failed_as_of),
        history=tuple(sorted((*entry.history, *mailbox.history), key=lambda past: past["requested_at"])),
        last_failure=last.last_failure,
    )


def last_model(entry: Entry) -> str | None:
    """The id of the model of the last run whose model is known; None if there is none."""
    return next((run.model_id for run in reversed(runs(entry)) if run.model_id), None)


def _freshness(
    entry: Entry, past: list[PastRun], visibility_lag: float, run: UnderWay | None
) -> tuple[bool, float | None, str]:
    """Whether the metrics are fresh, since when, and why."""
    if claim := entry.claim:
        since = run.first_at if run else earliest(entry.waiting.since, claim.requested_at)
        return False, since, "a run is under way" if claim.held else "a run is being started"
    waits = pruned(entry)
    # After a wish, the trigger still has to see whether the last run was of the model that is active now.
    only_wish = waits.waiting.needed_as_of == NEVER and not waits.waiting.batch and not waits.attempts
    if waits.dirty and not (only_wish and waits.waiting.wanted_as_of <= waits.fresh_as_of):
        return False, _waiting_since(waits, visibility_lag), _why_stale(waits)
    if entry.failed_as_of > entry.fresh_as_of:
        reason = f": {entry.last_failure['reason']}" if entry.last_failure else ""
        return False, entry.failed_as_of, f"the last run failed{reason}"
    if entry.fresh_as_of == NEVER and entry.quality_reference:
        return False, None, "no run by its id yet"
    if entry.fresh_as_of == NEVER:
        return False, None, "not recomputed by this application yet"
    completed = [run for run in past if run.outcome == "completed"]
    since = completed[-1].ended_at if completed else None
    return True, since or entry.fresh_as_of, "up to date with every known upload"


def _why_stale(waits: Entry) -> str:
    if was_not_checked(waits):
        return "the last run could not be checked; will be retried"
    if waits.attempts:
        why = f": {without_stop(waits.last_error)}" if waits.last_error else ""
        return f"the last attempt failed{why}; will be retried"
    if waits.waiting.needed_as_of > NEVER:
        return "updates wait for the next run"
    return "updates wait for their threshold" if waits.waiting.batch else "a schedule wants newer metrics"


def was_not_checked(entry: Entry) -> bool:
    """Whether the last attempt was a run that could not be checked. Every other one leaves a `last_error`."""
    failure = entry.last_failure
    return bool(entry.attempts and not entry.last_error and failure and failure["reason"] == "NotChecked")


def waits_for_spacing(entry: Entry) -> bool:
    """Whether the spacing delays the run of a free target, rather than its updates or a failed attempt."""
    waiting = entry.waiting
    visible = max([waiting.needed_as_of, *(element.as_of for element in waiting.batch)])
    if _is_only_a_batch(waiting):  # else it does not wait for the threshold
        visible = max(visible, full_at(waiting.batch) or NEVER)
    if waiting.asked_at > NEVER:
        visible = waiting.asked_at
    ready = max(visible, waiting.wanted_as_of, waiting.wanted_at, entry.retry_at, entry.not_before)
    return not entry.attempts and (entry.due_at or 0.0) > ready


def is_passed_over(entry: Entry, now: float) -> bool:
    """Whether a free target has long been due without an attempt: looks end while Arcanna is away."""
    return not entry.attempts and entry.due_at is not None and now > entry.due_at + PASSED_OVER


def _waiting(
    rest: Entry, now: float, visibility_lag: float, run: UnderWay | None, *, slots_taken: bool
) -> list[str]:
    """A line for each thing that waits, and one that says what for."""
    if not rest.dirty:
        return []
    waiting = rest.waiting
    since = _waiting_since(rest, visibility_lag)
    age = f", for {span(now - since)}" if since is not None else ""
    lines = []
    if waiting.needed_as_of > NEVER:
        others = len(waiting.batch) + (run.updates if run else 0)
        number = max(1, waiting.updates - others)
        lines.append(f"{number} {'update waits' if number == 1 else 'updates wait'}{age}")
    if waiting.batch:
        full = min(100, _reached(waiting) * 100 // WHOLE)
        lines.append(f"threshold {full} % reached")
    if waiting.wanted_as_of > NEVER:
        lines.append(f"a schedule's request{age}")
    if rest.run_id is None:
        lines.append(_next_attempt(rest, now, slots_taken=slots_taken))
    return lines


def _next_attempt(waits: Entry, now: float, *, slots_taken: bool) -> str:
    """When the next run of a free target starts."""
    due_in = (waits.due_at or 0.0) - now
    after = f", {waits.attempts} failed so far" if waits.attempts else ""
    if due_in > 0 and waits_for_spacing(waits):
        return f"next run in {span(due_in)}: the spacing (pace.spacing_seconds)"
    if due_in > 0:
        may_fill = _is_only_a_batch(waits.waiting) and _reached(waits.waiting) < WHOLE
        latest = " at the latest" if may_fill else ""
        return f"next attempt in {span(due_in)}{latest}{after}"
    if slots_taken:
        return f"starts when a slot is free{after}"
    if is_passed_over(waits, now):
        return f"due for {span(-due_in)}, but looks end before it; arcanna-metrics doctor may show why"
    return f"next attempt within a minute{after}"


def _reached(waiting: Waiting) -> int:
    """The share of the threshold, in millionths."""
    return sum(element.share for element in waiting.batch)


def _is_only_a_batch(waiting: Waiting) -> bool:
    """Whether neither an update nor a wish waits that needs a run without the threshold."""
    return waiting.needed_as_of == waiting.wanted_as_of == NEVER


def _waiting_since(waits: Entry, visibility_lag: float) -> float | None:
    # A job's own lag may be longer than the stack's, but no update happened after the latest.
    last = waits.waiting.last_at
    first = [min(element.as_of - visibility_lag, last) for element in waits.waiting.batch]
    return earliest(waits.waiting.since, waits.waiting.wanted_at, *first)


def runs(entry: Entry) -> list[PastRun]:
    """The runs in the ledger, oldest first: the completed ones, and the last one if it failed."""
    found = [
        PastRun(
            run_id=past["run_id"],
            model_id=past["model_id"],
            cause=past["cause"],
            requested_at=from_iso(past["requested_at"]),
            seconds=past["duration_seconds"],
            polls=past["polls"],
            outcome="completed",
            result=past["verdict"],
            why=past.get("why", ""),
            detail="",
            scores=past["scores"],
        )
        for past in entry.history
    ]
    if failure := entry.last_failure:
        requested_at, ended_at = from_iso(failure["requested_at"]), failure["ended_at"]
        found.append(
            PastRun(
                run_id=failure["run_id"],
                model_id=failure["model_id"],
                cause=failure["cause"],
                requested_at=requested_at,
                seconds=None if ended_at is None else from_iso(ended_at) - requested_at,
                polls=failure["polls"],
                outcome=failure["status"],
                result=failure["reason"],
                detail=failure["detail"],
                scores={},
            )
        )
    return sorted(found, key=attrgetter("requested_at"))


def answering(entry: Entry, asked: float) -> PastRun | None:
    """The run that was requested at `asked` (epoch seconds) or later and has ended; None if there is none.

    None also if it failed, and the entry no longer has its failure.
    """
    fresh = entry.fresh_as_of >= asked
    if not fresh and entry.failed_as_of < asked:
        return None
    ended = [run for run in runs(entry) if (run.outcome == "completed") == fresh]
    return ended[-1] if ended else None


def ids_of_names(entries: Iterable[Entry]) -> dict[str, str]:
    """The id of each job whose name has an entry, by the name."""
    known = sorted(entries, key=lambda entry: entry.target.model_id is None)  # names are reused: as in home()
    return {entry.target.job_id: entry.name_of for entry in known if entry.name_of}


def _id_of(entry: Entry, ids: Mapping[str, str]) -> str | None:
    """The id of the job whose name the entry has, as Deployed.home() finds it; `ids` are those of names."""
    return entry.name_of or ids.get(entry.target.job_id)


def named(entries: Sequence[Entry], job: str, model_id: str | None = None) -> list[Entry]:
    """The entries of a job by its id or name, all or only those of one model's id."""
    ids = ids_of_names(entries)
    wanted = {job, *(entry.name_of for entry in entries if entry.target.job_id == job and entry.name_of)}
    return [
        entry
        for entry in entries
        if wanted & {entry.target.job_id, _id_of(entry, ids)}
        if model_id in (None, entry.target.model_id)
    ]


def jobs(entries: Iterable[Entry]) -> list[str]:
    """The ids and names of all jobs."""
    return [entry.target.job_id for entry in entries]


def models(entries: Sequence[Entry], job: str | None) -> list[str]:
    """The ids of the models of a job or of all, active ones as of their last run."""
    of_job = named(entries, job) if job else entries
    return [model for entry in of_job if (model := entry.target.model_id or last_model(entry))]


def unknown(entries: Sequence[Entry], job: str | None, model: str | None) -> Trouble:
    """Explains that no entry is of the job or of the model, and suggests the nearest names."""
    what = " of ".join([*([f"model {model!r}"] if model else []), *([f"job {job!r}"] if job else [])])
    known = models(entries, job) if model else []
    hint = did_you_mean(model, known) if model and known else did_you_mean(job, jobs(entries)) if job else ""
    said = f"The ledger does not know the {what}: it knows no update under this id or name. {hint}".rstrip()
    return Trouble(Exit.USAGE, said, "arcanna-metrics status lists what it knows")
