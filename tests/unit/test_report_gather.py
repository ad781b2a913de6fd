"""The report's facts of a stack: what is read, how often, and what is shown if it cannot be read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from botocore.exceptions import ClientError

from arcanna_metrics.protocol.entry import Claim, Element, Entry, Waiting
from arcanna_metrics.runs.run import Failure, PastRun
from arcanna_metrics.targets import Example, Target
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.deployed import Deployed
from arcanna_metrics_cli.entries import Standing, UnderWay
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.letters import DeadLetter
from arcanna_metrics_cli.report import gather
from arcanna_metrics_cli.report.facts import Facts
from arcanna_metrics_cli.report.gather import Gatherer

NOW = 1_795_910_400.0
TARGET = Target("1234", "the-model")
THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "Describe")


class Stack:
    """A stack that answers from memory and counts the calls."""

    name, region = "the-stack", "eu-west-1"
    parameters: Mapping[str, str] = {"VisibilityLagSeconds": "35", "FreshnessObjectiveSeconds": "7200"}

    def __init__(self, *known: Entry) -> None:
        self.known = list(known)
        self.executions: dict[tuple[str, int], dict[str, Any] | ClientError] = {}
        self.unreadable: list[Trouble] = []
        self.letters: list[DeadLetter] = []
        self.hides_queues = self.hides_letters = False
        self.asked: Counter[str] = Counter()

    def readable_entries(self) -> tuple[list[Entry], list[Trouble]]:
        return self.known, self.unreadable

    def slots_taken(self) -> bool:
        return False

    def execution(self, run_id: str, number: int = 0) -> dict[str, Any] | None:
        self.asked[run_id] += 1
        found = self.executions.get((run_id, number))
        if isinstance(found, ClientError):
            raise found
        return found

    def under_way(self, entry: Entry) -> UnderWay | None:
        return Deployed.under_way(cast(Deployed, self), entry)

    def standings(self, *given: Any) -> list[Standing]:
        return Deployed.standings(cast(Deployed, self), *given)

    def messages(self, queue: str) -> dict[str, int]:
        if self.hides_queues:
            raise THROTTLED
        return {"visible": len(self.letters) if queue == "DeadLetterQueueUrl" else 2}

    def dead_letters(self) -> list[DeadLetter]:
        self.asked["dead letters"] += 1
        if self.hides_letters:
            raise THROTTLED
        return self.letters

    def put_back(self, letters: Sequence[DeadLetter]) -> None:
        self.asked["put back"] += len(letters)


def gatherer(stack: Stack) -> Gatherer:
    return Gatherer(cast(Deployed, stack))


def look(stack: Stack) -> Facts:
    return gatherer(stack).look(NOW)


def past(run_id: str = "run-1", at: float = NOW - 600) -> PastRun:
    return {
        "run_id": run_id,
        "model_id": "the-model",
        "cause": "upload",
        "requested_at": to_iso(at),
        "duration_seconds": 60.0,
        "polls": 2,
        "verdict": "improved",
        "scores": {"overall_accuracy": 0.9},
    }


def completed(run_id: str = "run-1", target: Target = TARGET) -> Entry:
    return Entry(target, rev=3, fresh_as_of=NOW - 600, history=(past("older", NOW - 9000), past(run_id)))


def execution(status: str = "SUCCEEDED", **detail: Any) -> dict[str, Any]:
    cause = {
        "updates": 3,
        "first_at": to_iso(NOW - 700),
        "last_at": to_iso(NOW - 650),
        "examples": [{"bucket": "b", "key": "k/1.csv", "version_id": None}],
    }
    event = {"Detail": json.dumps({"why": "it rose", "before": None, "after": {"x": 1}, **detail})}
    run = {"model_id": "the-model", "cause": cause}
    return {
        "status": status,
        "input": json.dumps({"run": run}),
        "output": json.dumps({"run": run, "check": {"outcome": {"events": [event]}}}),
    }


def test_metrics_of_the_last_completed_run_are_read_from_its_execution() -> None:
    stack = Stack(completed())
    stack.executions["run-1", 0] = execution()

    facts = look(stack)

    (model,) = facts.models
    assert (facts.stack, facts.region, facts.at, facts.objective) == ("the-stack", "eu-west-1", NOW, 7200)
    assert (model.job, model.model_id, model.fresh) == ("1234", "the-model", True)
    assert [run.run_id for run in model.runs] == ["older", "run-1"]
    assert model.told is not None
    assert (model.told.why, model.told.updates) == ("it rose", 3)
    assert (model.told.objects, model.told.after) == (("s3://b/k/1.csv",), {"x": 1})
    assert facts.notes == ()
    assert stack.asked == {"run-1": 1}


def test_metrics_of_a_resumed_run_are_read_from_its_last_execution() -> None:
    stack = Stack(completed())
    stack.executions["run-1", 0] = execution("ABORTED")
    stack.executions["run-1", 1] = {"status": "SUCCEEDED", "output": "{}"}  # the next version replaced it
    stack.executions["run-1", 2] = execution(why="told at last")

    (model,) = look(stack).models

    assert model.told is not None
    assert model.told.why == "told at last"


def test_execution_that_has_released_but_not_ended_is_read_again() -> None:
    stack = Stack(completed())
    stack.executions["run-1", 0] = {"status": "RUNNING", "input": execution()["input"]}
    looks = gatherer(stack)
    assert looks.look(NOW).models[0].told is None

    stack.executions["run-1", 0] = execution()
    told = looks.look(NOW + 5).models[0].told
    assert told is not None
    assert told.why == "it rose"


def test_missing_execution_is_reported_and_not_read_again() -> None:
    stack = Stack(completed())
    looks = gatherer(stack)

    first, second = looks.look(NOW), looks.look(NOW + 5)

    assert first.models[0].told is None
    assert (
        first.models[0].untold
        == second.models[0].untold
        == ("Step Functions does not show this run's outcome, or no longer does")
    )
    assert stack.asked == {"run-1": 1}


def test_execution_is_read_once_until_there_is_a_newer_run() -> None:
    stack = Stack(completed())
    stack.executions["run-1", 0], stack.executions["run-2", 0] = execution(), execution(why="it fell")
    looks = gatherer(stack)

    for _ in range(3):
        looks.look(NOW)
    stack.known = [completed("run-2")]
    newer = looks.look(NOW)

    assert newer.models[0].told is not None
    assert newer.models[0].told.why == "it fell"
    assert stack.asked == {"run-1": 1, "run-2": 1}


def test_failed_call_is_reported_and_repeated_at_the_next_look() -> None:
    stack = Stack(completed())
    stack.executions["run-1", 0] = THROTTLED
    looks = gatherer(stack)
    first = looks.look(NOW)
    stack.executions["run-1", 0] = execution()
    second = looks.look(NOW)

    assert "Rate exceeded" in first.notes[0]
    assert first.models[0].untold == "It has not been read"
    assert second.models[0].told is not None
    assert second.notes == ()


def test_executions_of_many_models_are_read_a_few_at_a_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(gather, "MOST_TOLD", 2)
    stack = Stack(*(completed(f"run-{n}", Target(str(n), "m")) for n in range(5)))
    looks = gatherer(stack)

    first, second, third = (looks.look(NOW) for _ in range(3))

    assert len([note for note in first.notes if "of 3 models were not read" in note]) == 1
    assert len([note for note in second.notes if "of 1 model were not read" in note]) == 1
    assert third.notes == ()
    assert set(stack.asked.values()) == {1}


def test_outcomes_of_models_that_got_worse_are_read_first(monkeypatch: Any) -> None:
    monkeypatch.setattr(gather, "MOST_TOLD", 1)
    worse = completed("run-0", Target("0", "m"))
    worse = replace(worse, history=({**worse.history[-1], "verdict": "regressed"},), fresh_as_of=1.0)
    stack = Stack(*(completed(f"run-{n}", Target(str(n), "m")) for n in range(1, 4)), worse)
    gatherer(stack).look(NOW)

    assert stack.asked == {"run-0": 1}


def test_last_run_of_each_model_is_read_although_its_entry_has_had_one_of_another() -> None:
    worse: PastRun = {**past("of the old model"), "verdict": "regressed"}
    newer: PastRun = {**past("of the new model", NOW - 60), "model_id": "trained anew"}
    by_id = Entry(TARGET, rev=1, fresh_as_of=NOW - 900, history=(past("by its id", NOW - 900),))
    active = Entry(Target(TARGET.job_id, None), rev=2, fresh_as_of=NOW - 60, history=(worse, newer))
    stack = Stack(by_id, active)
    for run_id in ("by its id", "of the old model", "of the new model"):
        stack.executions[run_id, 0] = execution(why=run_id)

    models = {model.model_id: model for model in look(stack).models}

    whys = {model_id: model.told and model.told.why for model_id, model in models.items()}
    assert whys == {TARGET.model_id: "of the old model", None: "of the new model"}
    assert models[TARGET.model_id].is_worse
    assert "by its id" not in stack.asked


def test_entry_that_cannot_be_read_is_noted_beside_the_others() -> None:
    stack = Stack(completed())
    stack.unreadable = [Trouble(Exit.WRONG, "The item of job '9' cannot be read")]
    facts = look(stack)
    assert (len(facts.models), facts.notes) == (1, ("The item of job '9' cannot be read",))


def test_waiting_updates_and_runs_are_shown_with_their_objects() -> None:
    waiting = Entry(
        TARGET,
        waiting=Waiting(
            needed_as_of=NOW - 5, since=NOW - 40, updates=2, examples=(Example("b", "late.csv", None),)
        ),
        rev=1,
        attempts=3,
        last_error="PlatformBusy: as before",
        due_at=NOW + 9,
    )
    running = Entry(
        Target("77", None), waiting=Waiting(since=NOW - 90), claim=Claim("run-7", NOW - 20, number=0), rev=1
    )
    stack = Stack(waiting, running)
    stack.executions["run-7", 0] = execution()

    first, second = look(stack).models

    assert (first.waits, first.fresh, first.attempts, first.waits_since) == (True, False, 3, NOW - 40)
    assert first.last_error == "PlatformBusy: as before"
    assert first.waiting_objects == ("s3://b/late.csv",)
    assert (second.running_since, second.active, second.waiting) == (NOW - 20, "the-model", ())


def test_batch_below_its_threshold_is_not_overdue_and_a_long_run_is() -> None:
    element = Element("a", NOW - 9000, 10_000, NOW + 70_000)
    batch = Entry(TARGET, waiting=Waiting(batch=(element,)), rev=1, due_at=NOW + 70_000)
    run = Entry(Target("77", None), claim=Claim("run-7", NOW - 9000, number=0), rev=1, due_at=NOW + 9)

    first, second = look(Stack(batch, run)).models

    assert (first.overdue_since or NOW) >= NOW
    assert second.overdue_since == NOW - 9000


def test_run_under_way_has_no_failed_attempts() -> None:
    waiting = Waiting(needed_as_of=NOW - 5, since=NOW - 40, updates=2)
    run = Entry(TARGET, waiting=waiting, claim=Claim("run-7", NOW - 20, number=0), attempts=3, rev=1)

    (model,) = look(Stack(run)).models

    assert (model.attempts, model.has_failed) == (0, False)


def test_failed_run_is_listed_and_makes_its_model_failed() -> None:
    failure: Failure = {
        "run_id": "run-2",
        "model_id": "the-model",
        "cause": "upload",
        "requested_at": to_iso(NOW - 60),
        "ended_at": to_iso(NOW - 30),
        "polls": 4,
        "status": "failed",
        "reason": "NoNewResult",
        "detail": "as they were",
    }
    entry = Entry(TARGET, rev=2, failed_as_of=NOW - 60, history=(past(),), last_failure=failure)

    (model,) = look(Stack(entry)).models

    assert (model.has_failed, model.fresh) == (True, False)
    assert [run.result for run in model.runs] == ["improved", "NoNewResult"]


def test_model_counts_as_accepted_until_its_next_run() -> None:
    since, before = (
        replace(completed(), accepted={"at": to_iso(at), "by": "somebody"}) for at in (NOW - 10, NOW - 700)
    )

    assert look(Stack(since)).models[0].accepted.startswith("by somebody, 2026-")
    assert look(Stack(before)).models[0].accepted == ""


def test_acceptance_during_a_run_does_not_cover_the_runs_result() -> None:
    during = replace(completed(), accepted={"at": to_iso(NOW - 570), "by": "somebody"})
    assert look(Stack(during)).models[0].accepted == ""


def test_acceptance_does_not_cover_a_later_run_of_the_model_by_its_other_target() -> None:
    by_id = replace(completed(), accepted={"at": to_iso(NOW - 700), "by": "somebody"})
    active = replace(
        completed(target=Target(TARGET.job_id, None)),
        fresh_as_of=NOW - 900,
        history=(past("earlier", NOW - 900),),
    )
    assert [model.accepted for model in look(Stack(active, by_id)).models] == ["", ""]


def test_entry_that_only_has_a_reference_has_no_row() -> None:
    active = completed(target=Target(TARGET.job_id, None))
    by_id = Entry(TARGET, rev=1, quality_reference={"overall_accuracy": (0.9, 100)})
    assert [model.model_id for model in look(Stack(active, by_id)).models] == [None]


def test_job_is_shown_by_its_name_if_the_ledger_knows_it() -> None:
    mailbox = Entry(Target("security-alerts", "the-model"), rev=1, name_of="1234")

    (model,) = look(Stack(completed(), mailbox)).models

    assert (model.job, model.job_name) == ("1234", "security-alerts")


def test_dead_letters_are_read_when_their_number_changes_and_put_back() -> None:
    stack = Stack()
    stack.letters = [DeadLetter(str(n), "BadInput", "no job_id", NOW - n, "{}", "handle") for n in range(3)]
    looks = gatherer(stack)

    first, second = looks.look(NOW), looks.look(NOW)
    stack.letters = stack.letters[1:]
    third = looks.look(NOW)

    assert (first.dead, first.letters[0].number, first.letters == second.letters) == (3, 3, True)
    assert (third.dead, third.letters[0].number) == (2, 2)
    assert stack.asked == {"dead letters": 2, "put back": 5}


def test_queues_that_cannot_be_read_have_no_count_until_they_can() -> None:
    stack = Stack(completed())
    stack.letters = [DeadLetter("1", "BadInput", "no job_id", NOW, "{}", "handle")]
    looks = gatherer(stack)
    looks.look(NOW)
    stack.hides_queues = True
    hidden = looks.look(NOW)
    stack.hides_queues = False
    seen = looks.look(NOW)

    assert (hidden.dead, hidden.letters, hidden.queued) == (None, (), None)
    assert [note.partition(" could")[0] for note in hidden.notes[-2:]] == ["The dead letters", "The queue"]
    assert (seen.dead, len(seen.letters), seen.queued) == (1, 1, 2)


def test_dead_letters_that_could_not_be_read_are_read_at_the_next_look() -> None:
    stack = Stack()
    stack.letters = [DeadLetter("1", "BadInput", "no job_id", NOW, "{}", "handle")]
    stack.hides_letters = True
    looks = gatherer(stack)
    unread = looks.look(NOW)
    stack.hides_letters = False
    read = looks.look(NOW)

    assert (unread.dead, unread.letters, len(unread.notes)) == (1, (), 1)
    assert (read.dead, len(read.letters), read.notes) == (1, 1, ())
