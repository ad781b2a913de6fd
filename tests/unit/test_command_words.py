"""What the commands print, for each state of the stack and each answer of AWS."""

import io
import json
import time
from dataclasses import fields, replace
from typing import Any

import pytest
from botocore import exceptions
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from arcanna_metrics.errors import NO_WAY, NOT_ALLOWED, AwsUnavailable, ConfigurationError
from arcanna_metrics.intake.events import read_json
from arcanna_metrics.protocol.entry import NEVER, Accepted, Claim, Element, Entry, Waiting
from arcanna_metrics.runs.limits import cut
from arcanna_metrics.runs.quality import Reference
from arcanna_metrics.targets import WHOLE, Target
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli import checks, entries, executions, follow, letters, routing, view
from arcanna_metrics_cli.entries import UnderWay
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.links import Links
from arcanna_metrics_cli.output import Output
from arcanna_metrics_cli.troubles import explained
from arcanna_metrics_cli.words import did_you_mean, span

NOW = 1_750_000_000.0
LAG = 35.0
SCORES = {"overall_accuracy": 0.9, "overall_f1_score": 0.8, "overall_recall": 0.7, "overall_precision": 0.6}
TARGET = Target("1234", "m")


def past(requested_at: float, verdict: str = "improved") -> Any:
    return {
        "run_id": f"run-of-{requested_at}",
        "model_id": "m",
        "cause": "upload",
        "requested_at": to_iso(requested_at),
        "duration_seconds": 100.0,
        "polls": 3,
        "verdict": verdict,
        "scores": SCORES,
    }


def failure(requested_at: float, **changes: Any) -> Any:
    return {
        "run_id": f"run-of-{requested_at}",
        "model_id": "m",
        "cause": "schedule",
        "requested_at": to_iso(requested_at),
        "ended_at": to_iso(requested_at + 60),
        "polls": 2,
        "status": "failed",
        "reason": "NoNewResult",
        "detail": "It ended and left the metrics as they were",
        **changes,
    }


def completed(**changes: Any) -> Entry:
    """The entry after a run that was requested 500 s ago and ended 400 s ago."""
    waits = {field.name: changes.pop(field.name) for field in fields(Waiting) if field.name in changes}
    entry = Entry(TARGET, 7, Waiting(**waits), fresh_as_of=NOW - 500, history=(past(NOW - 500),))
    return replace(entry, **changes)


def waiting(**changes: Any) -> Entry:
    """The same with an update that happened 60 s ago and is due."""
    needs = {"needed_as_of": NOW - 25, "since": NOW - 60, "updates": 1, "due_at": NOW - 25}
    return completed(**{**needs, **changes})


def standing(entry: Entry, run: UnderWay | None = None) -> entries.Standing:
    return entries.standing(entry, NOW, LAG, run)


# --- The state of a target -------------------------------------------------------------------------------


def test_metrics_after_a_completed_run_are_fresh_since_its_end() -> None:
    row = standing(completed())
    assert (row.fresh, row.since, row.why) == (True, NOW - 400, "up to date with every known upload")
    assert row.last
    assert (row.last.in_words(), row.last.ended_at, row.scores) == ("improved", NOW - 400, SCORES)
    assert (row.running_since, row.waiting) == (None, [])


def test_schedules_wish_leaves_an_active_models_metrics_fresh_that_are_new_enough() -> None:
    """Until the trigger has asked Arcanna, which may be after the spacing."""
    wish = completed(
        target=TARGET._replace(model_id=None), wanted_as_of=NOW - 600, wanted_at=NOW - 5, due_at=NOW + 3600
    )
    assert standing(wish).fresh
    assert not standing(replace(wish, fresh_as_of=NOW - 700)).fresh


def test_metrics_during_a_run_are_stale_since_its_first_update() -> None:
    held = waiting(claim=Claim("two", NOW - 20, number=0))
    row = standing(held, UnderWay("m", NOW - 90, 4))
    assert (row.fresh, row.since, row.why) == (False, NOW - 90, "a run is under way")
    assert (row.running_since, row.waiting) == (NOW - 20, [])
    assert standing(held).since == NOW - 60


def test_claim_that_is_not_held_is_shown_as_a_run_being_started() -> None:
    row = standing(waiting(claim=Claim("two", NOW - 3)))
    assert (row.why, row.running_since) == ("a run is being started", NOW - 3)


def test_update_during_a_run_is_shown_as_waiting() -> None:
    held = waiting(claim=Claim("two", NOW - 70, number=0), updates=6, since=NOW - 90, next_since=NOW - 50)
    assert standing(held, UnderWay("m", NOW - 90, 4)).waiting == ["2 updates wait, for 50 seconds"]


def test_wish_that_waits_is_shown_beside_one_under_the_name_that_was_answered() -> None:
    wish = Entry(TARGET, failed_as_of=100.0, waiting=Waiting(wanted_as_of=140.0, wanted_at=150.0), rev=1)
    answered = Waiting(wanted_as_of=80.0, wanted_at=90.0)
    named = Entry(Target("alerts", TARGET.model_id), waiting=answered, name_of=TARGET.job_id, rev=1)
    (merged,) = entries.by_job([wish, named])
    assert standing(merged).waiting


def test_due_update_starts_at_the_next_look_or_when_a_slot_is_free() -> None:
    row = standing(waiting())
    assert (row.fresh, row.since, row.why) == (False, NOW - 60, "updates wait for the next run")
    assert row.waiting == ["1 update waits, for 60 seconds", "next attempt within a minute"]
    full = entries.standing(waiting(attempts=2), NOW, LAG, slots_taken=True)
    assert full.waiting[1] == "starts when a slot is free, 2 failed so far"


def test_update_that_waits_for_the_minimum_interval_is_shown_with_its_setting() -> None:
    row = standing(waiting(last_requested_at=NOW - 16, due_at=NOW + 74))
    assert row.waiting[1] == "next run in 74 seconds: the spacing (pace.spacing_seconds)"
    visible = standing(waiting(needed_as_of=NOW + 20, due_at=NOW + 20))
    assert visible.waiting[1] == "next attempt in 20 seconds"
    batch = (Element("e", NOW + 20, 1, NOW + 999),)
    assert standing(waiting(batch=batch, due_at=NOW + 20)).waiting[-1] == "next attempt in 20 seconds"


def test_failed_attempt_is_shown_with_the_time_of_the_next_one() -> None:
    row = standing(waiting(attempts=2, retry_at=NOW + 90, due_at=NOW + 90))
    assert (row.why, row.last_error) == ("the last attempt failed; will be retried", "")
    assert row.waiting[1] == "next attempt in 90 seconds, 2 failed so far"


def test_reason_of_a_failed_attempt_is_shown_until_a_run_is_under_way() -> None:
    stuck = waiting(
        attempts=1, last_error="PlatformBusy: Arcanna recomputes the model already.", due_at=NOW + 9
    )
    assert standing(stuck).why == (
        "the last attempt failed: PlatformBusy: Arcanna recomputes the model already; will be retried"
    )
    assert standing(stuck).last_error == stuck.last_error
    assert standing(replace(stuck, claim=Claim("two", NOW, number=0))).last_error == ""
    said = follow.state(stuck, NOW - 25, NOW)
    assert said.startswith("1 attempt failed (PlatformBusy: Arcanna recomputes the model already). The next")


def test_unchecked_run_is_distinguished_from_one_that_did_not_start() -> None:
    unchecked = failure(NOW - 300, reason="NotChecked", ended_at=None, polls=None)
    row = standing(waiting(attempts=1, last_failure=unchecked))
    assert row.why == "the last run could not be checked; will be retried"
    assert row.last
    assert (row.last.in_words(), row.last.ended_at) == ("failed: NotChecked", None)


def test_attempt_that_failed_after_an_unchecked_run_is_shown_with_its_own_reason() -> None:
    unchecked = failure(NOW - 300, reason="NotChecked", ended_at=None, polls=None)
    refused = waiting(attempts=2, last_failure=unchecked, last_error="Unauthorised: 401.", due_at=NOW + 9)
    assert standing(refused).why == "the last attempt failed: Unauthorised: 401; will be retried"
    said = follow.state(refused, NOW - 400, NOW)
    assert said.startswith("2 attempts failed (Unauthorised: 401). The next")


def test_reason_that_was_cut_keeps_its_dots() -> None:
    stuck = waiting(attempts=1, last_error=cut("PlatformBusy: " + "x" * 99, 20), due_at=NOW + 9)
    assert standing(stuck).why == "the last attempt failed: PlatformBusy: xxx...; will be retried"
    assert "(PlatformBusy: xxx...)" in follow.state(stuck, NOW - 25, NOW)


def test_metrics_after_a_failed_run_are_stale_with_the_earlier_scores() -> None:
    row = standing(completed(failed_as_of=NOW - 100, last_failure=failure(NOW - 100)))
    assert (row.fresh, row.since, row.why) == (False, NOW - 100, "the last run failed: NoNewResult")
    assert row.last
    assert (row.last.in_words(), row.scores, row.last.ended_at) == ("failed: NoNewResult", SCORES, NOW - 40)


def test_metrics_are_fresh_if_a_run_completed_after_the_last_failure() -> None:
    assert standing(completed(failed_as_of=NOW - 900)).fresh


def test_batch_is_shown_with_its_share_of_the_threshold_and_its_next_run() -> None:
    batch = tuple(Element(str(n), NOW - 60 + LAG + n, WHOLE // 5, NOW + 300 + n) for n in range(3))
    row = standing(completed(batch=batch, updates=3, due_at=NOW + 300, last_at=NOW - 58))
    assert (row.fresh, row.since, row.why) == (False, NOW - 60, "updates wait for their threshold")
    assert row.waiting == ["threshold 60 % reached", "next attempt in 5 minutes at the latest"]
    both = standing(waiting(batch=batch, updates=4, last_at=NOW - 58))
    assert both.waiting[0] == "1 update waits, for 60 seconds"


def test_full_batch_that_the_spacing_delays_says_so() -> None:
    batch = (Element("a", NOW - 60, WHOLE, NOW + 7200),)
    row = standing(completed(batch=batch, updates=1, due_at=NOW + 3600, last_at=NOW - 95))
    assert row.waiting == [
        "threshold 100 % reached",
        "next run in 60 minutes: the spacing (pace.spacing_seconds)",
    ]


def test_batch_of_a_job_with_a_longer_lag_has_not_waited_since_the_future() -> None:
    batch = (Element("a", NOW + 7140, WHOLE // 2, NOW + 9000),)
    assert standing(completed(batch=batch, updates=1, due_at=NOW + 9000, last_at=NOW - 60)).since == NOW - 60


def test_unsatisfied_wish_makes_the_metrics_stale() -> None:
    row = standing(completed(wanted_as_of=NOW - 400, wanted_at=NOW - 10, updates=1, due_at=NOW - 10))
    assert (row.fresh, row.since, row.why) == (False, NOW - 10, "a schedule wants newer metrics")
    assert row.waiting == ["a schedule's request, for 10 seconds", "next attempt within a minute"]


def test_update_that_a_watermark_has_passed_does_not_wait() -> None:
    assert standing(completed(needed_as_of=NOW - 510, since=NOW - 545)).fresh


def test_target_without_a_recompute_is_not_fresh() -> None:
    row = standing(Entry(TARGET, rev=1))
    assert (row.fresh, row.since, row.why) == (False, None, "not recomputed by this application yet")
    assert (row.last, row.scores) == (None, {})


def test_active_model_is_the_one_of_the_run_under_way_or_of_the_last_run() -> None:
    active = completed(target=ACTIVE)
    assert (standing(active).model_id, standing(active).active) == (None, "m")
    without_active_model = failure(NOW - 1, model_id=None)
    none = replace(active, last_failure=without_active_model)
    assert standing(none).active == "m"
    held = replace(active, claim=Claim("two", NOW - 3, number=0))
    assert standing(held, UnderWay("trained anew", NOW - 9, 1)).active == "trained anew"
    assert standing(completed()).active is None


def test_runs_are_listed_in_order_including_the_failed_one() -> None:
    entry = completed(
        history=(past(NOW - 300), past(NOW - 200, "regressed")), last_failure=failure(NOW - 100)
    )
    assert [(run.outcome, run.result, run.seconds, run.polls) for run in entries.runs(entry)] == [
        ("completed", "improved", 100.0, 3),
        ("completed", "regressed", 100.0, 3),
        ("failed", "NoNewResult", 60.0, 2),
    ]


def test_id_that_looks_like_markup_is_shown_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    row = standing(completed(target=Target("[red]phishing", "x[/old]")))
    Output(width=80).show(view.standings([row], NOW, 80, {}))
    out = capsys.readouterr().out
    assert "x[/old]" in out
    assert "job [red]phishing" in out


def test_unknown_values_of_a_run_are_left_out_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry(TARGET, last_failure=failure(NOW, ended_at=None, polls=None, reason="NotChecked"))
    Output(width=80).show(view.history(entries.runs(entry)))
    assert "None" not in capsys.readouterr().out


def test_ended_run_is_described_with_its_outcome_and_reason() -> None:
    worse = past(NOW - 300, "regressed") | {"why": "Escalate.recall 0.74 -> 0.61"}
    unsure = past(NOW - 200, "not_judged") | {"why": "Escalate.recall on 19 alerts of 30"}
    late = failure(NOW - 100, status="timed_out", reason="DeadlinePassed")
    entry = completed(history=(past(NOW - 400, "unchanged"), worse, unsure), last_failure=late)
    assert [run.in_words() for run in entries.runs(entry)] == [
        "unchanged",
        "regressed: Escalate.recall 0.74 -> 0.61",
        "not judged: Escalate.recall on 19 alerts of 30",
        "timed out: DeadlinePassed",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 seconds"),
        (1.9, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (200_000, "2 days"),
    ],
)
def test_age_is_written_in_its_natural_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


LONG = "training-data/" + "a-long-key-" * 9


@pytest.mark.parametrize(
    "table",
    [
        view.dead_letters([letters.Group("BadInput", 1, NOW, NOW, LONG)], NOW),
        view.history(entries.runs(Entry(TARGET, last_failure=failure(NOW, detail=LONG)))),
        view.figures([view.Figure(LONG, 0.5, 0.4)]),
    ],
    ids=["dead letters", "history", "figures"],
)
def test_long_words_are_shown_in_full_in_a_narrow_table(table: Table) -> None:
    printed = io.StringIO()
    Console(file=printed, width=80).print(table)
    assert "…" not in printed.getvalue()
    assert max(map(len, printed.getvalue().splitlines())) <= 80


# --- One model, two rows ---------------------------------------------------------------------------------

ACTIVE = Target("1234", None)


REFERENCE: Reference = {"overall_accuracy": (0.9, 100)}
BY: Accepted = {"by": "arn:aws:iam::123456789012:user/ana", "at": to_iso(NOW)}


def rows(*listed: Entry) -> list[tuple[bool, str]]:
    return [(row.fresh, row.why) for row in entries.agreeing(map(standing, listed))]


def test_active_model_with_an_update_waiting_by_its_id_is_not_fresh() -> None:
    active = completed(target=ACTIVE)
    assert rows(active, waiting()) == [
        (False, "by its id: updates wait for the next run"),
        (False, "updates wait for the next run"),
    ]


def test_model_has_one_history_by_its_id_and_as_the_active_one() -> None:
    active = completed(target=ACTIVE, fresh_as_of=NOW - 50, history=(past(NOW - 50, "unchanged"),))
    by_id = completed(history=(past(NOW - 500, "regressed"),))
    for row in entries.agreeing(map(standing, (active, by_id))):
        assert [run.result for run in row.runs] == ["regressed", "unchanged"]
        assert row.last == row.runs[-1]


def test_runs_of_an_earlier_active_model_are_not_those_of_the_model_whose_run_is_under_way() -> None:
    held = completed(target=ACTIVE, claim=Claim("two", NOW - 3, number=0))
    row = standing(held, UnderWay("trained anew", NOW - 9, 1))
    assert (row.active, row.runs, row.last, row.scores) == ("trained anew", [], None, {})


def test_failed_model_recomputed_later_as_the_active_one_is_fresh() -> None:
    failed = completed(fresh_as_of=NEVER, failed_as_of=NOW - 900, last_failure=failure(NOW - 900), history=())
    active = completed(target=ACTIVE)
    assert rows(active, failed)[1] == (True, "as the active model: up to date with every known upload")


def test_row_of_the_active_model_says_who_accepted_it() -> None:
    active, by_id = completed(target=ACTIVE), Entry(TARGET, rev=1, quality_reference=REFERENCE)
    row, other = entries.agreeing(map(standing, (active, replace(by_id, accepted=BY))))
    assert (row.fresh, row.accepted, row.is_of_reference, other.is_of_reference) == (True, BY, False, True)
    assert not standing(replace(by_id, history=completed().history)).is_of_reference
    by_name = replace(active, target=Target("security-alerts", None), name_of="1234")
    assert entries.agreeing(map(standing, (by_name, replace(by_id, accepted=BY))))[0].accepted == BY


def test_many_models_of_one_job_are_shown_without_a_long_wait() -> None:
    listed = []
    for model_id in map(str, range(2000)):
        history = tuple({**past(NOW - 60 * n), "model_id": model_id} for n in range(10))
        listed.append(standing(completed(target=Target("1234", model_id), history=history)))
    began = time.process_time()
    assert len(entries.agreeing(listed)) == 2000
    assert time.process_time() - began < 5  # much more if each row looks at the runs of all


def test_model_of_another_job_or_unknown_active_model_is_not_compared() -> None:
    assert rows(completed(target=ACTIVE, history=()), waiting())[0][0]
    other = completed(target=Target("77", "m"))
    assert rows(other, waiting())[0][0]


@pytest.mark.parametrize("terminal", [True, False])
def test_run_under_way_is_a_link_on_a_terminal_and_plain_in_a_pipe(terminal: bool) -> None:
    row = standing(waiting(claim=Claim("two", NOW - 20, number=0)))
    printed = io.StringIO()
    table = view.standings([row], NOW, 80, {"two": "https://console"})
    Console(file=printed, force_terminal=terminal, width=80).print(table)
    assert "a run is under way" in printed.getvalue()
    assert ("\x1b]8;" in printed.getvalue()) is ("https://console" in printed.getvalue()) is terminal


# --- One job, one row ------------------------------------------------------------------------------------

NAME = Target("security-alerts", "m")


def test_empty_entry_of_a_name_has_no_row() -> None:
    assert entries.by_job([completed(), Entry(NAME, rev=2, name_of="1234")]) == [completed()]
    assert entries.by_job([Entry(NAME, rev=2)]) == []


def test_entry_of_a_name_has_a_row_if_it_is_the_jobs_only_entry() -> None:
    (entry,) = entries.by_job([completed(target=NAME, name_of="1234")])
    assert standing(entry).job == "security-alerts (1234)"
    assert entries.by_job([Entry(NAME, waiting=Waiting(needed_as_of=NOW), rev=1)])


def test_updates_and_runs_under_a_jobs_name_are_shown_in_the_row_of_its_id() -> None:
    mailbox = Entry(
        NAME,
        waiting=Waiting(needed_as_of=NOW - 5, since=NOW - 40, updates=2),
        name_of="1234",
        due_at=NOW - 5,
        fresh_as_of=NOW - 900,
        history=(past(NOW - 900),),
    )
    (entry,) = entries.by_job([completed(), mailbox])
    assert entry.target == TARGET
    assert standing(entry).waiting == ["2 updates wait, for 40 seconds", "next attempt within a minute"]
    assert [run.requested_at for run in entries.runs(entry)] == [NOW - 900, NOW - 500]


def test_run_under_a_jobs_name_is_shown_in_the_row_of_its_id() -> None:
    mailbox = Entry(NAME, claim=Claim("two", NOW - 9, number=0), name_of="1234")
    (entry,) = entries.by_job([completed(), mailbox])
    assert (entry.run_id, standing(entry).why) == ("two", "a run is under way")


def test_latest_run_of_a_job_and_its_name_decides_whether_metrics_are_fresh() -> None:
    mailbox = Entry(NAME, name_of="1234", failed_as_of=NOW - 90, last_failure=failure(NOW - 90))
    (entry,) = entries.by_job([completed(), mailbox])
    assert standing(entry).why == "the last run failed: NoNewResult"
    (entry,) = entries.by_job([completed(fresh_as_of=NOW - 20, history=(past(NOW - 20),)), mailbox])
    assert standing(entry).fresh


def test_entries_of_a_job_are_found_by_its_id_or_name() -> None:
    by_id, mailbox, other = completed(), Entry(NAME, name_of="1234"), completed(target=Target("77", "m"))
    every = [by_id, mailbox, other]
    for job in ("1234", "security-alerts"):
        assert entries.named(every, job, None) == entries.named(every, job, "m") == [by_id, mailbox]
    assert entries.named(every, "1234", "another") == []
    assert entries.jobs(every) == ["1234", "security-alerts", "77"]
    assert entries.models(every, "77") == ["m"]


def test_mailbox_is_of_the_job_that_its_name_belongs_to_now_although_the_name_had_another() -> None:
    mailbox = Entry(NAME._replace(model_id=None), name_of="1234")
    every = [mailbox, Entry(NAME, name_of="99")]
    assert entries.named(every, "1234") == [mailbox]
    assert mailbox not in entries.named(every, "99")


def test_entry_of_a_name_that_moved_is_of_the_same_job_in_every_list() -> None:
    waits = Entry(NAME, name_of="99", waiting=Waiting(needed_as_of=NOW))
    of_jobs = [Entry(Target(job, NAME.model_id)) for job in ("1234", "99")]
    every = [Entry(NAME._replace(model_id=None), name_of="1234"), waits, *of_jobs]
    for listed in (every, entries.named(every, "99")):
        assert [entry.target.job_id for entry in entries.by_job(listed) if entry.dirty] == ["99"]


def test_no_job_is_suggested_for_a_model() -> None:
    assert "1234" not in str(entries.unknown([Entry(Target("1234", None))], None, "mdoel-7"))


# --- Following a request ---------------------------------------------------------------------------------


def test_request_is_answered_only_by_a_run_requested_then_or_later() -> None:
    assert entries.answering(completed(), NOW - 499) is None
    run = entries.answering(completed(), NOW - 500)
    assert run
    assert (run.outcome, run.result) == ("completed", "improved")


def test_request_is_answered_by_a_failed_run() -> None:
    failed = completed(failed_as_of=NOW - 100, last_failure=failure(NOW - 100))
    run = entries.answering(failed, NOW - 200)
    assert run
    assert (run.outcome, run.result) == ("failed", "NoNewResult")


def test_failure_that_a_run_of_another_active_model_has_replaced_answers_nothing() -> None:
    # Such a run moves no watermark, and only the last failure is kept. A later run will answer.
    assert entries.answering(waiting(failed_as_of=NOW - 100), NOW - 200) is None


def test_request_is_as_of_when_it_was_made_or_the_ledgers_need_or_else_the_last_run() -> None:
    assert follow.asked_as_of(waiting(needed_as_of=NOW + 3000, asked_at=NOW - 9)) == NOW - 9
    assert follow.asked_as_of(waiting()) == NOW - 25
    assert follow.asked_as_of(completed()) == NOW - 500


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (waiting(claim=Claim("two", NOW - 9, number=0)), "The run two is under way."),
        (waiting(claim=Claim("two", NOW - 9)), "The run two is being started."),
        (waiting(claim=Claim("one", NOW - 99, number=0)), "Waiting for run one"),
        (waiting(), "Waiting for the next look at what is due"),
        (
            waiting(due_at=NOW + 60),
            "Waiting until 2025-06-15T15:07:40Z: the spacing after the last run (pace.spacing_",
        ),
        (
            waiting(needed_as_of=NOW + 60, asked_at=NOW - 9, due_at=NOW + 60),
            "Waiting until 2025-06-15T15:07:40Z: the spacing after the last run (pace.spacing_",
        ),
        (
            waiting(needed_as_of=NOW + 60, due_at=NOW + 60),
            "Waiting until 2025-06-15T15:07:40Z: the last update is visible at Arcanna then.",
        ),
        (
            waiting(due_at=NOW + 60, attempts=1),
            "1 attempt failed (arcanna-metrics doctor may show why). The next one starts at 2025-06-15T15:07",
        ),
        (
            waiting(due_at=NOW - 60, attempts=1),
            "1 attempt failed (arcanna-metrics doctor may show why). The next one starts within a minute",
        ),
        (waiting(history=(past(NOW - 20),)), "The job has another active model now"),
    ],
)
def test_wait_is_explained_by_the_state_of_the_entry(entry: Entry, said: str) -> None:
    assert follow.state(entry, NOW - 25, NOW).startswith(said)


def test_wait_for_a_slot_is_explained_if_all_are_taken() -> None:
    said = follow.state(waiting(), NOW - 25, NOW, slots_taken=True)
    assert said == "Waiting for a free slot: all are taken."
    said = follow.state(waiting(attempts=2), NOW - 25, NOW, slots_taken=True)
    assert said.endswith("The next one starts when a slot is free.")


# --- Executions ------------------------------------------------------------------------------------------


def check_event(**check: object) -> dict[str, Any]:
    output = json.dumps({"check": check})
    return {
        "type": "TaskStateExited",
        "stateExitedEventDetails": {"name": "CheckStatus", "output": output},
    }


def test_status_check_is_described_in_one_line() -> None:
    running = check_event(status="running", polls=2, detail="recomputing", wait_seconds=9)
    assert executions.news(running) == "check 2: recomputing, next check in 9 s"
    done = check_event(status="completed", polls=3, detail="The metrics are new", wait_seconds=9)
    assert executions.news(done) == "check 3: The metrics are new"


def test_failed_call_is_described_and_other_states_are_not() -> None:
    failed = {"type": "LambdaFunctionFailed", "lambdaFunctionFailedEventDetails": {"error": "Unauthorised"}}
    assert executions.news(failed) == "a call failed (Unauthorised) and is retried"
    assert executions.news({"type": "TaskStateExited", "stateExitedEventDetails": {"name": "Hold"}}) is None
    assert executions.news({"type": "WaitStateEntered"}) is None


def test_run_under_way_is_read_from_the_input_of_its_execution() -> None:
    cause = {"first_at": to_iso(NOW), "updates": 3}
    execution = {"input": json.dumps({"run": {"model_id": "m", "cause": cause}})}
    assert executions.under_way(execution) == UnderWay("m", NOW, 3)


def ended(status: str = "SUCCEEDED", **detail: Any) -> dict[str, Any]:
    cause = {"updates": 1, "first_at": to_iso(NOW), "last_at": to_iso(NOW), "examples": []}
    outcome = {"events": [{"Detail": json.dumps(detail)}]}
    output = {"run": {"cause": cause}, "check": {"outcome": outcome}}
    return {"status": status, "output": json.dumps(output)}


def test_verdict_is_described_with_its_reasons_and_scores() -> None:
    told = executions.told(ended(why="Escalate.recall rose", before={"overall_accuracy": 0.8}, after=SCORES))
    assert told
    assert told.verdict.startswith("Escalate.recall rose (accuracy 0.800 -> 0.900")


def test_verdict_without_scores_is_described_with_its_reason_only() -> None:
    told = executions.told(ended(why="There are no earlier metrics", before=None, after={}))
    assert told
    assert told.verdict == "There are no earlier metrics"


def test_execution_that_ended_without_an_outcome_tells_nothing() -> None:
    assert executions.told({"status": "FAILED"}) is None
    assert executions.told({"status": "SUCCEEDED", "output": "{}"}) is None  # it ended at Hold
    assert executions.told(ended(reason="NoNewResult", detail="as they were")) is None


def test_run_without_scores_has_no_line_of_scores(capsys: pytest.CaptureFixture[str]) -> None:
    without = past(NOW - 60) | {"scores": dict.fromkeys(SCORES)}
    row = standing(Entry(TARGET, fresh_as_of=NOW - 60, history=(without,)))
    Console(width=80).print(view.standings([row], NOW, 80, {}), view.history(entries.runs(row.entry)))
    assert "none" not in capsys.readouterr().out


# --- Dead letters ----------------------------------------------------------------------------------------


def message(body: str, sent_at: float = NOW, source: str | None = None, **attributes: str) -> dict[str, Any]:
    return {
        "Body": body,
        "MessageId": "id",
        "ReceiptHandle": "handle",
        "Attributes": {
            "SentTimestamp": str(int(sent_at * 1000)),
            **({"DeadLetterQueueSourceArn": source} if source else {}),
        },
        "MessageAttributes": {n: {"DataType": "String", "StringValue": v} for n, v in attributes.items()},
    }


def test_dead_letter_by_the_trigger_has_its_reason() -> None:
    letter = letters.dead_letter(message("body", reason="Rejected", detail="404"))
    assert letter == ("id", "Rejected", "404", NOW, "body", "handle")


def test_dead_letter_by_eventbridge_or_scheduler_has_their_error() -> None:
    given = message("body", ERROR_CODE="NO_PERMISSIONS", ERROR_MESSAGE="not allowed", RULE_ARN="arn")
    assert letters.dead_letter(given)[1:3] == ("NO_PERMISSIONS", "not allowed")


def test_dead_letter_that_killed_the_trigger_has_no_reason() -> None:
    letter = letters.dead_letter(message("body", source="arn:aws:sqs:eu-west-1:123456789012:updates"))
    assert letter.reason == "none"
    assert "The trigger died" in letter.detail
    assert "does not say why" in letters.dead_letter(message("body")).detail


def test_record_of_a_failed_invocation_is_unwrapped_to_its_event() -> None:
    request = {"job_id": 1234, "model_id": "m"}
    record = {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": request,
        "responsePayload": {"errorType": "AwsUnavailable", "errorMessage": "no ledger"},
    }
    letter = letters.dead_letter(message(json.dumps(record)))
    assert letter[1:3] == ("AwsUnavailable", "no ledger")
    (update,) = read_json(letter.update, NOW)
    assert update == read_json(json.dumps(request), NOW)[0]


def test_record_that_the_trigger_has_rejected_keeps_the_triggers_reason() -> None:
    # Any sender can send a message that looks like a record.
    told = {"errorType": "ApiKeyUnavailable", "errorMessage": "Enter the key elsewhere"}
    record = {"requestContext": {}, "requestPayload": {}, "responsePayload": told}
    letter = letters.dead_letter(message(json.dumps(record), reason="BadInput", detail="unknown event"))
    assert letter[1:3] == ("BadInput", "unknown event")


def test_record_without_a_response_has_its_condition_as_reason() -> None:
    # Without a response, Lambda leaves the field out.
    record = {"requestContext": {"condition": "EventAgeExceeded"}, "requestPayload": {"job_id": 1}}
    assert letters.dead_letter(message(json.dumps(record))).reason == "EventAgeExceeded"


def test_sweep_is_distinguished_from_other_dead_letters() -> None:
    assert letters.dead_letter(message('{"sweep": true}')).is_sweep
    assert not letters.dead_letter(message('{"sweep": true, "job_id": 1}')).is_sweep
    assert not letters.dead_letter(message("sweep")).is_sweep


@given(st.text() | st.recursive(st.none() | st.text(), st.lists, max_leaves=3).map(json.dumps))
def test_body_that_is_not_a_record_is_sent_again_unchanged(body: str) -> None:
    assert letters.dead_letter(message(body)).update == body


def test_dead_letters_are_grouped_by_reason_and_detail_most_frequent_first() -> None:
    found = [
        letters.dead_letter(message("d", NOW - 40, reason="Rejected", detail="old")),
        letters.dead_letter(message("a", NOW - 30, reason="Rejected", detail="old")),
        letters.dead_letter(message("b", NOW - 10, reason="Rejected", detail="new")),
        letters.dead_letter(message("c", NOW - 20, reason="BadInput", detail="no JSON")),
    ]
    assert letters.groups(found) == [
        ("Rejected", 2, NOW - 40, NOW - 30, "old"),
        ("Rejected", 1, NOW - 10, NOW - 10, "new"),
        ("BadInput", 1, NOW - 20, NOW - 20, "no JSON"),
    ]


def test_rare_details_of_one_reason_share_a_group() -> None:
    found = [
        letters.dead_letter(message(f"{age}", NOW - age, reason="BadInput", detail=f"key {age}"))
        for age in range(1, 31)
    ]
    *first, rest = letters.groups(found)

    assert [group.detail for group in first] == ["key 1", "key 2", "key 3", "key 4"]
    assert rest == ("BadInput", 26, NOW - 30, NOW - 5, "26 other details, the newest: key 5")


# --- Routes ----------------------------------------------------------------------------------------------

ROUTES = json.dumps(
    {
        "routes": [
            {"keys": ["a/*", "b/*"], "targets": [{"job_id": "first"}]},
            {"name": "nightly", "targets": [{"job_id": 77}]},
            {"name": "by-job", "keys": ["{job}.csv"], "targets": [{"job_id": "{job}"}, {"job_id": 1}]},
        ]
    }
)


def test_key_is_answered_with_its_first_matching_route_and_targets() -> None:
    assert routing.lead(ROUTES, "b/x.csv") == ("1", [Target("first", None)], "", "")
    assert routing.lead(ROUTES, "seven.csv") == ("by-job", [Target("seven", None), Target("1", None)], "", "")


def test_route_with_a_threshold_is_shown_with_it() -> None:
    threshold = {"objects": 100, "max_wait_seconds": 3600}
    route = {"keys": ["*"], "targets": [{"job_id": 1}], "threshold": threshold}
    found = routing.lead(json.dumps({"routes": [route]}), "a")
    assert found
    assert json.loads(found.threshold) == threshold


def test_key_without_a_route_leads_nowhere_and_the_patterns_are_listed() -> None:
    assert routing.lead(ROUTES, "c/x.txt") is None
    assert routing.patterns(ROUTES) == [("1", "a/*"), ("1", "b/*"), ("by-job", "{job}.csv")]


def test_key_with_an_invalid_id_is_answered_with_its_route_and_the_problem() -> None:
    found = routing.lead(ROUTES, " .csv")
    assert found
    assert (found.route, found.targets) == ("by-job", [])
    assert "job_id is empty" in found.problem


def test_invalid_route_is_named_by_its_position() -> None:
    with pytest.raises(ConfigurationError, match=r"^routes\[1\]"):
        routing.lead('{"routes": [{"targets": [{"job_id": 1}]}, {"targets": []}]}', "a")


def route(*keys: str, name: str = "first") -> dict[str, Any]:
    return {"name": name, "keys": list(keys), "targets": [{"job_id": 1}]}


def warned(*listed: dict[str, Any]) -> list[str]:
    return routing.warnings(json.dumps({"routes": listed}))


def test_routes_that_can_all_match_cause_no_warning() -> None:
    assert routing.warnings("{}") == routing.warnings(ROUTES) == []
    assert warned(route("t/{job}/a.csv", "t/?/*", "*.csv"), route("t/{job}/*", name="second")) == []
    assert warned(route("t/{job}/{model}/*"), route("t/{job}/*", name="second")) == []
    assert warned(route("t/x*"), route("t/*", "t/?", name="second")) == []


@pytest.mark.parametrize("listed", [[], [{"targets": [{"job_id": 1}]}]])
def test_routes_without_keys_cause_a_warning(listed: list[dict[str, Any]]) -> None:
    assert warned(*listed) == ["no route has keys, so every upload is ignored"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("x/*", "x/y/*"),
        ("t/{job}/*", "t/{job}/{model}/*"),
        ("a*", "a?c"),
        ("t/{job}/*", "t/{job}/*.csv"),
        ("t/*", "t/{job}"),
    ],
)
def test_route_whose_keys_an_earlier_one_takes_causes_a_warning(earlier: str, later: str) -> None:
    assert warned(route(earlier), route(later, "other/*", name="second")) == [
        f"{later!r} of route second never applies, because route first takes all its keys"
    ]


@pytest.mark.parametrize("key", ["s3://bucket/a/*", "/a/*"])
def test_key_pattern_with_a_bucket_or_a_leading_slash_causes_a_warning(key: str) -> None:
    (said,) = warned(route(key))
    assert said == f"{key!r} of route first: an object's key has no bucket, and seldom a leading slash"


# --- The checks of the doctor ----------------------------------------------------------------------------

KNOWN = checks.Known(
    region="eu-west-1",
    queue_arn="arn:aws:sqs:eu-west-1:123456789012:updates",
    senders=(),
    trigger="trigger",
    base_url="https://arcanna.example",
    secret_arn="arn:of:the:secret",  # noqa: S106  # an ARN
    secret_field="",
    settings_parameter="the-settings",
    topic_arn="arn:of:the:topic",
    deploy="make deploy STACK=soc",
)


def found(check: str, reason: str | None, detail: str = "detail") -> checks.Check:
    answer = {"findings": [{"check": check, "reason": reason, "detail": detail}]}
    (line,) = checks.preflight(answer, False, KNOWN)
    return line


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE"])
def test_complete_stack_is_good(status: str) -> None:
    assert not checks.stack("s", status).remedy


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "CREATE_FAILED"])
def test_stack_with_a_failed_deployment_needs_another_deployment(status: str) -> None:
    assert "deploy again" in checks.stack("s", status).remedy


def test_stack_under_deployment_needs_patience() -> None:
    assert checks.stack("s", "UPDATE_IN_PROGRESS").remedy == "Wait until it ends"


@pytest.mark.parametrize(
    ("check", "reason", "names"),
    [
        ("key", "ApiKeyUnavailable", "arn:of:the:secret"),
        ("key", "AwsUnavailable", "again later"),
        ("key", "Unauthorised", "arn:of:the:secret"),
        ("scopes", "ScopesMissing", "arn:of:the:secret"),
        ("platform", "PlatformUnavailable", "https://arcanna.example"),
        ("platform", "UndocumentedAnswer", "https://arcanna.example"),
        ("platform", "Rejected", "https://arcanna.example"),
        ("settings", "ConfigurationError", "the-settings"),
        ("settings", "AwsUnavailable", "ssm:GetParameter"),
        ("targets", "Rejected", "the-settings"),
        ("targets", "PlatformUnavailable", "https://arcanna.example"),
        ("targets", "OutOfTime", "slowly"),
        ("targets", "Unauthorised", "arn:of:the:secret"),
    ],
)
def test_finding_has_a_remedy_that_names_the_part_at_fault(check: str, reason: str, names: str) -> None:
    assert names in found(check, reason).remedy


def test_key_goes_into_the_secrets_region_also_if_the_stack_is_in_another() -> None:
    answer = {"findings": [{"check": "key", "reason": "ApiKeyMissing", "detail": "detail"}]}
    secret = "arn:aws:secretsmanager:us-east-1:1:secret:arcanna-AbCdEf"  # noqa: S105  # an ARN
    (line,) = checks.preflight(answer, False, KNOWN._replace(secret_arn=secret))
    assert f"put-secret-value --region us-east-1 --secret-id {secret} " in line.remedy


def test_key_in_a_field_of_the_secret_is_not_replaced_by_plain_text() -> None:
    answer = {"findings": [{"check": "key", "reason": "ApiKeyUnavailable", "detail": "detail"}]}
    known = KNOWN._replace(secret_field="arcanna_key")  # noqa: S106  # a name
    (line,) = checks.preflight(answer, False, known)
    assert "the field arcanna_key of arn:of:the:secret" in line.remedy
    assert "put-secret-value" not in line.remedy


def test_expired_certificate_needs_renewal() -> None:
    detail = "ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate certificate has expired"
    assert "Renew" in found("platform", "PlatformUnavailable", detail).remedy


def test_untrusted_certificate_is_distinguished_from_a_closed_connection() -> None:
    detail = "ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate"
    assert "certificate" in found("platform", "PlatformUnavailable", detail).remedy


@pytest.mark.parametrize(("check", "reason"), [("key", "ApiKeyUnavailable"), ("settings", "AwsUnavailable")])
def test_unreachable_aws_service_needs_a_vpc_endpoint(check: str, reason: str) -> None:
    assert "VPC endpoint" in found(check, reason, f"ConnectTimeout. {NO_WAY}").remedy


def test_key_without_permission_is_distinguished_from_a_missing_one() -> None:
    remedy = found("key", "ApiKeyUnavailable", f"Access to KMS is not allowed. {NOT_ALLOWED}").remedy
    assert "kms:Decrypt" in remedy
    assert "put-secret-value" not in remedy


def test_good_finding_has_no_remedy() -> None:
    assert found("key", None) == checks.Check("key", "detail", "")


def test_failing_or_outdated_functions_are_reported() -> None:
    error = {"errorType": "ConfigurationError", "errorMessage": "ARCANNA_BASE_URL must be https"}
    (failed,) = checks.preflight(error, True, KNOWN)
    assert "ARCANNA_BASE_URL must be https" in failed.said
    assert failed.remedy
    (older,) = checks.preflight({"results": []}, False, KNOWN)
    assert older.remedy == "Deploy this version"


QUEUE = KNOWN.queue_arn
TOPIC = "arn:aws:sns:eu-west-1:123456789012:uploads"
TRIGGER = "arn:aws:lambda:eu-west-1:123456789012:function:trigger"
CREATED = {"Events": ["s3:ObjectCreated:Put"]}
BY_QUEUE = {"QueueConfigurations": [{"QueueArn": QUEUE, **CREATED}]}
BY_TOPIC = {"TopicConfigurations": [{"TopicArn": TOPIC, **CREATED}]}


def bucket(notifications: dict[str, Any], *senders: str, region: str = "eu-west-1") -> checks.Check:
    return checks.bucket("b", region, notifications, KNOWN._replace(senders=senders))


@pytest.mark.parametrize(
    ("notifications", "sender"),
    [
        ({"EventBridgeConfiguration": {}}, ""),
        ({"LambdaFunctionConfigurations": [{"LambdaFunctionArn": TRIGGER, **CREATED}]}, ""),
        ({"LambdaFunctionConfigurations": [{"LambdaFunctionArn": f"{TRIGGER}:live", **CREATED}]}, ""),
        (BY_QUEUE, "arn:aws:s3:::b"),
        (BY_QUEUE, "arn:aws:s3:::*"),
        (BY_QUEUE, "*"),
        (BY_TOPIC, TOPIC),
        (BY_TOPIC, "arn:aws:sns:*:123456789012:upload?"),
    ],
)
def test_bucket_whose_new_objects_reach_the_trigger_is_good(
    notifications: dict[str, Any], sender: str
) -> None:
    check = bucket(notifications, sender)
    assert not check.remedy, check


@pytest.mark.parametrize(
    ("notifications", "sender", "needed"),
    [
        (BY_QUEUE, "", "arn:aws:s3:::b"),
        (BY_QUEUE, "arn:aws:s3:::another", "arn:aws:s3:::b"),
        (BY_QUEUE, "arn:aws:s3:*:b", "arn:aws:s3:::b"),  # not an ARN of a bucket
        (BY_TOPIC, "arn:aws:s3:::b", TOPIC),
    ],
)
def test_bucket_that_the_queue_does_not_admit_needs_sender_arns(
    notifications: dict[str, Any], sender: str, needed: str
) -> None:
    assert f"Add {needed} to the parameter SenderArns" in bucket(notifications, sender).remedy


@pytest.mark.parametrize(
    "notifications",
    [
        {},
        {"QueueConfigurations": [{"QueueArn": f"{QUEUE}-of-another", **CREATED}]},
        {"QueueConfigurations": [{"QueueArn": QUEUE, "Events": ["s3:ObjectRemoved:*"]}]},
        {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": f"{TRIGGER}-2", **CREATED}]},
    ],
)
def test_bucket_without_notifications_of_new_objects_needs_eventbridge(notifications: dict[str, Any]) -> None:
    assert "EventBridge" in bucket(notifications, "*").remedy


@pytest.mark.parametrize("notifications", [{}, {"EventBridgeConfiguration": {}}])
def test_bucket_in_another_region_is_refused_despite_its_notifications(
    notifications: dict[str, Any],
) -> None:
    check = bucket(notifications, "*", region="us-west-2")
    assert "b is in us-west-2, so its events do not reach this stack in eu-west-1" in check.said
    assert "Use a bucket in eu-west-1, or deploy the stack in us-west-2" in check.remedy


def test_bucket_in_another_region_may_notify_through_a_topic() -> None:
    topic = TOPIC.replace("eu-west-1", "us-west-2")
    by_topic = {"TopicConfigurations": [{"TopicArn": topic, **CREATED}]}
    assert not bucket(by_topic, topic, region="us-west-2").remedy
    assert f"Add {topic}" in bucket(by_topic, region="us-west-2").remedy


@pytest.mark.parametrize("states", [[], ["Disabled"], ["Enabling"]])
def test_queue_without_an_enabled_mapping_needs_a_remedy(states: list[str]) -> None:
    assert checks.queue(states).remedy
    assert not checks.queue(["Enabled"]).remedy


def test_disabled_schedule_needs_a_remedy() -> None:
    assert not checks.schedule("ENABLED").remedy
    assert "ScheduleExpression" in checks.schedule("DISABLED").remedy


def test_disabled_sweep_needs_a_remedy() -> None:
    assert not checks.sweep("ENABLED").remedy
    assert "failed attempts are not retried" in checks.sweep("DISABLED").said


@pytest.mark.parametrize(
    ("status", "remedy"), [("ACTIVE", ""), ("CREATING", "Wait"), (None, "Create the index")]
)
def test_index_that_is_not_active_needs_a_remedy(status: str | None, remedy: str) -> None:
    assert checks.index(status).remedy.startswith(remedy)
    assert bool(checks.index(status).remedy) == bool(remedy)


GONE = {"Endpoint": "soc@example.com", "SubscriptionArn": "Deleted"}
PENDING = {"Endpoint": "soc@example.com", "SubscriptionArn": "PendingConfirmation"}
CONFIRMED = {"Endpoint": "soc@example.com", "SubscriptionArn": "arn:aws:sns:eu-west-1:1:topic:7"}


@pytest.mark.parametrize("subscriptions", [[PENDING], [], [GONE]])
def test_unconfirmed_email_address_is_wrong(subscriptions: list[dict[str, str]]) -> None:
    assert checks.email("soc@example.com", subscriptions, KNOWN).state == "wrong"


def test_unsubscribed_email_address_needs_the_command_that_subscribes_it() -> None:
    remedy = checks.email("soc@example.com", [], KNOWN).remedy
    assert remedy.startswith("aws sns subscribe --topic-arn arn:of:the:topic")
    assert "--notification-endpoint soc@example.com" in remedy


@pytest.mark.parametrize("address", ["soc@example.com", ""])
def test_confirmed_subscription_is_good(address: str) -> None:
    assert checks.email(address, [CONFIRMED], KNOWN).state == "good"


@pytest.mark.parametrize("listed", [[], [GONE]])
def test_topic_without_subscriptions_is_a_warning_with_the_commands_that_subscribe(
    listed: list[dict[str, str]],
) -> None:
    check = checks.email("", listed, KNOWN)
    assert check.state == "warning"
    assert check.remedy.startswith("make deploy STACK=soc EMAIL=you@example.com, or without a clone aws sns")


def test_dead_letters_that_are_being_read_are_counted_too() -> None:
    assert checks.dead_letters({"visible": 0, "delayed": 0, "in progress": 2}).remedy
    assert not checks.dead_letters({"visible": 0, "delayed": 0, "in progress": 0}).remedy


def test_check_without_permission_needs_a_remedy() -> None:
    assert "credentials" in checks.unseen("bucket", client_error("AccessDenied")).remedy


def test_check_of_a_missing_part_does_not_ask_for_other_credentials() -> None:
    assert "Restore it" in checks.unseen("index", client_error("ResourceNotFoundException")).remedy


# --- Errors ----------------------------------------------------------------------------------------------


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeStacks")


@pytest.mark.parametrize(
    ("error", "said", "todo"),
    [
        (exceptions.NoCredentialsError(), "There are no AWS credentials.", "aws sso login --profile soc"),
        (
            exceptions.ProfileNotFound(profile="soc"),
            "The config profile (soc)",
            "aws configure list-profiles",
        ),
        (exceptions.NoRegionError(), "You must specify a region.", "--region eu-west-1"),
        (exceptions.SSOTokenLoadError(error_msg="expired"), "cannot be used", "aws sso login --profile soc"),
        (exceptions.TokenRetrievalError(provider="sso", error_msg="x"), "cannot be used", "aws sso login"),
        (
            exceptions.EndpointConnectionError(endpoint_url="https://x"),
            "AWS cannot be reached",
            "HTTPS_PROXY",
        ),
        (
            exceptions.ConnectTimeoutError(endpoint_url="https://x"),
            "AWS cannot be reached",
            "network and --region",
        ),
        (exceptions.ProxyConnectionError(proxy_url="p"), "AWS cannot be reached", "HTTPS_PROXY"),
        (
            exceptions.SSLError(endpoint_url="https://x", error=OSError("self-signed certificate")),
            "self-signed certificate",
            "AWS_CA_BUNDLE",
        ),
        (client_error("ExpiredToken"), "The AWS credentials have expired.", "aws sso login --profile soc"),
        (client_error("UnrecognizedClientException"), "AWS refuses the credentials", "get-caller-identity"),
        (client_error("AccessDeniedException"), "may not do this", "--profile NAME"),
        (client_error("ResourceNotFoundException"), "A part of the stack is missing", "metrics doctor"),
        (client_error("AWS.SimpleQueueService.NonExistentQueue"), "is missing", "is being deleted"),
        (client_error("ThrottlingException"), "ThrottlingException", ""),
    ],
)
def test_access_error_is_explained_with_what_to_type(error: Exception, said: str, todo: str) -> None:
    trouble = explained(error, "soc")
    assert trouble.status == Exit.NO_ACCESS
    assert said in str(trouble)
    assert todo in trouble.todo


def test_cause_of_a_ledger_error_is_the_one_explained() -> None:
    wrapped = AwsUnavailable("could not read the ledger")
    wrapped.__cause__ = client_error("ExpiredToken")
    assert str(explained(wrapped)) == "The AWS credentials have expired."
    assert str(explained(AwsUnavailable("it kept changing"))) == "it kept changing"


def test_explained_error_is_not_explained_again() -> None:
    trouble = Trouble(Exit.USAGE, "typo", "type it right")
    assert explained(trouble) is trouble


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (["1234", "security-alerts"], "Did you mean security-alerts?"),
        (["77", "78"], "There are 77, 78."),
        (["77"], "There is only 77."),
        ([str(n) for n in range(70, 77)], "There are 70, 71, 72, 73, 74 and 2 more."),
        ([], ""),
    ],
)
def test_typo_is_answered_with_the_nearest_or_all_names(known: list[str], said: str) -> None:
    assert did_you_mean("securty-alert", known) == said


# --- Links to the console --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-west-1", "https://eu-west-1.console.aws.amazon.com/"),
        ("aws-cn", "cn-north-1", "https://cn-north-1.console.amazonaws.cn/"),
        ("aws-us-gov", "us-gov-west-1", "https://us-gov-west-1.console.amazonaws-us-gov.com/"),
    ],
)
def test_console_links_are_those_of_the_partition(partition: str, region: str, host: str) -> None:
    arn = f"arn:{partition}:cloudformation:{region}:123456789012:stack/s/1"
    links = Links.of(arn)
    secret = f"arn:{partition}:secretsmanager:{region}:123456789012:secret:soc/key-AbCdEf"
    made = [
        links.execution(f"arn:{partition}:states:{region}:123456789012:execution:m:run"),
        links.logs("/aws/lambda/s-trigger-recompute"),
        links.secret(secret),
        links.parameter("/s/settings"),
        links.stack(arn),
    ]
    assert all(link.startswith(host) and f"region={region}" in link for link in made)
    assert made[0].endswith(
        f"#/v2/executions/details/arn:{partition}:states:{region}:123456789012:execution:m:run"
    )
    assert made[1].endswith("#logsV2:log-groups/log-group/$252Faws$252Flambda$252Fs-trigger-recompute")
    assert "name=soc%2Fkey&" in made[2]


def test_target_that_looks_pass_over_does_not_seem_to_be_next() -> None:
    (_, line) = standing(waiting(due_at=NOW - 7200, attempts=0)).waiting
    assert line.startswith("due for 2 hours")
    (_, line) = standing(waiting(due_at=NOW - 7200, attempts=3)).waiting
    assert line.startswith("next attempt within a minute")
