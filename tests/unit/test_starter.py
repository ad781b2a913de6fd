"""From an update to a run: claimed first, then the baseline, then the request, then the workflow."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any, NoReturn, cast

import httpx
import pytest

from arcanna_metrics.aws import Workflow
from arcanna_metrics.errors import (
    AwsUnavailable,
    BadInput,
    PlatformBusy,
    PlatformUnavailable,
    RetryLater,
    Unauthorised,
    UndocumentedAnswer,
)
from arcanna_metrics.gathering import MOST_MARKS, Significance, mark
from arcanna_metrics.intake.events import RunEnded
from arcanna_metrics.ledger import Ledger
from arcanna_metrics.places import Places
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.runs.polling import next_wait
from arcanna_metrics.runs.run import Cause, Check, PastRun, Run
from arcanna_metrics.settings import PollSettings
from arcanna_metrics.starter import LEASE_SLACK, LONGEST_DOUBT, Fate, Starter
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.updates import Update
from tests.doubles import (
    BASELINE,
    MODEL,
    Answer,
    Clock,
    ScriptedPlatform,
    Stack,
    answer,
    metrics_body,
    no_answer,
    request_body,
)

MARGIN = 5.0
LEASE = 100.0
DEADLINE = 3600.0
POLLS = PollSettings(shortest=5, longest=900, start_grace=600)


class Scene:
    """A starter with its platform, AWS resources and clock. Runs are named run-1, run-2, ..."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.platform = ScriptedPlatform()
        self.clock = Clock()
        self.ledger = Ledger(stack.dynamodb, stack.ledger_table)
        self.starter = self.starter_with(self.ledger)

    def starter_with(self, ledger: Ledger, workflow: Workflow | None = None, spacing: float = 0.0) -> Starter:
        numbers = count(1)
        return Starter(
            self.arcanna,
            ledger,
            workflow or Workflow(self.stack.states, self.stack.workflow_arn),
            Places(self.stack.dynamodb, self.stack.ledger_table, 0),
            spacing=spacing,
            margin=MARGIN,
            run_deadline=DEADLINE,
            polls=POLLS,
            clock=self.clock,
            new_id=lambda: f"run-{next(numbers)}",
        )

    @property
    def arcanna(self) -> Arcanna:
        return self.platform.client()

    def update(self, age: float = 60.0) -> Update:
        """An update that happened `age` seconds ago."""
        return Update.single(Target(*MODEL), self.clock.now - age, "upload", key="a.csv")

    def ask(self, age: float = 60.0) -> Fate:
        return self.starter.ask(self.update(age), MODEL, LEASE)

    def ask_and_hold(self, age: float = 60.0) -> None:
        """Starts a run, and has its workflow make the claim its own."""
        fate = self.ask(age)
        assert self.workflow_writes("HoldModel", fate.detail)

    def workflow_writes(self, state: str, run_id: str = "run-1") -> bool:
        return self.stack.workflow_writes(state, self.stack.executions()[run_id])

    @property
    def held(self) -> bool:
        return "run_id" in self.stack.item()


@pytest.fixture
def scene(stack: Stack) -> Scene:
    return Scene(stack)


# --- A run begins ----------------------------------------------------------------------------------------


def test_an_update_starts_a_run(scene: Scene) -> None:
    now = scene.clock.now
    assert scene.ask() == Fate("started", "run-1")
    assert scene.platform.asked == ["metrics", "request"]
    item = scene.stack.item()
    assert (item["run_id"], item["lease_expires_at"]) == ("run-1", to_iso(now + LEASE))
    assert "requested_at" not in item  # a claim is not a run yet: that is the workflow's to say
    ((name, data),) = scene.stack.executions().items()
    assert name == "run-1"
    run, check = data["run"], data["check"]
    assert (run["run_id"], run["job_id"], run["model_id"]) == ("run-1", *MODEL)
    assert run["requested_at"] == to_iso(now)
    assert run["deadline_at"] == to_iso(now + DEADLINE)
    assert run["lease_until"] == to_iso(now + DEADLINE + LEASE_SLACK)
    assert run["platform_requested_at"] == request_body()["requested_at"]
    assert run["baseline"]["last_recomputed_timestamp"] == BASELINE
    assert run["baseline"]["overall_accuracy"] == 0.75
    assert run["cause"]["sample"] == [{"key": "a.csv"}]
    assert (check["status"], check["polls"]) == ("running", 0)
    assert POLLS.shortest <= check["wait_seconds"] <= POLLS.longest


def test_the_claim_is_made_before_the_platform_is_asked(scene: Scene) -> None:
    held_at: list[bool] = []

    def watching(then: Answer) -> Answer:
        def look(request: httpx.Request) -> httpx.Response:
            held_at.append(scene.held)
            scene.clock.now += 30  # what comes later must not count as the time of the request
            return then(request)

        return look

    asked_at = to_iso(scene.clock.now)
    scene.platform.metrics = watching(scene.platform.metrics)
    scene.platform.request = watching(scene.platform.request)
    scene.ask()
    assert held_at == [True, True]
    assert scene.stack.executions()["run-1"]["run"]["requested_at"] == asked_at


def test_a_run_knows_how_long_earlier_ones_took(scene: Scene) -> None:
    past: PastRun = {
        "run_id": "past",
        "cause": "upload",
        "requested_at": to_iso(scene.clock.now - 9999),
        "duration_seconds": 300.0,
        "polls": 3,
        "verdict": "unchanged",
        "scores": {},
    }
    scene.stack.put_item({"history": json.dumps([past])})
    scene.ask()
    check = scene.stack.executions()["run-1"]["check"]
    assert check["history"] == [past]
    assert check["wait_seconds"] == next_wait(0.0, [300.0], shortest=POLLS.shortest, longest=POLLS.longest)
    assert check["wait_seconds"] != next_wait(0.0, [], shortest=POLLS.shortest, longest=POLLS.longest)


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed"])
def test_an_accepted_request_is_followed_whatever_its_status(scene: Scene, status: str) -> None:
    scene.platform.request = answer(json=request_body(status=status))
    assert scene.ask().outcome == "started"
    assert scene.stack.executions()["run-1"]["check"]["status"] == "running"


# --- No run is needed, or not yet ------------------------------------------------------------------------


def test_an_update_during_a_run_is_noted_for_one_further_run(scene: Scene) -> None:
    scene.ask_and_hold()
    scene.clock.now += 20
    for age in (12, 11, 11, 10, 13):
        assert scene.ask(age) == Fate("coalesced", "into the run after run-1")
    assert scene.stack.item()["pending_at"] == to_iso(scene.clock.now - 10)
    assert list(scene.stack.executions()) == ["run-1"]


def test_the_update_of_a_run_that_comes_again_is_covered(scene: Scene) -> None:
    update = scene.update()
    scene.starter.ask(update, MODEL, LEASE)
    scene.workflow_writes("HoldModel")
    scene.clock.now += 20
    assert scene.starter.ask(update, MODEL, LEASE) == Fate("covered")
    assert "pending_at" not in scene.stack.item()


@pytest.mark.parametrize("age", [60, 0], ids=["older than the claim", "younger"])
def test_on_a_claim_that_is_no_run_yet_no_update_relies(scene: Scene, age: float) -> None:
    scene.ask()
    claimed = scene.stack.item()
    scene.clock.now += 20
    assert scene.ask(age + 20) == Fate("settling", wait=LONGEST_DOUBT)
    assert scene.stack.item() == claimed
    scene.workflow_writes("HoldModel")
    scene.clock.now += LONGEST_DOUBT
    known = "covered" if age else "coalesced"
    assert scene.ask(age + 20 + LONGEST_DOUBT).outcome == known


def test_an_update_that_waited_for_a_claim_in_doubt_is_the_next_to_claim(scene: Scene) -> None:
    """The claim comes to nothing: the update that met it is not lost with it."""
    fates: list[Fate] = []

    def meanwhile(request: httpx.Request) -> httpx.Response:
        fates.append(scene.starter_with(scene.ledger).ask(scene.update(), MODEL, LEASE))
        return httpx.Response(503)

    scene.platform.request = meanwhile
    with pytest.raises(PlatformUnavailable):
        scene.ask()
    assert [fate.outcome for fate in fates] == ["settling"]
    scene.platform.request = answer(json=request_body())
    scene.clock.now += fates[0].wait
    assert scene.ask().outcome == "started"


def test_nobody_waits_for_a_claim_longer_than_for_its_lease(scene: Scene) -> None:
    scene.ask()
    scene.clock.now += LEASE - 3.5
    fate = scene.ask()
    assert fate == Fate("settling", wait=4)
    scene.clock.now += fate.wait
    assert scene.ask().outcome == "started"


def test_an_update_from_before_a_completed_run_is_covered(scene: Scene) -> None:
    scene.stack.put_item({"covered_until": to_iso(scene.clock.now - 10)})
    assert scene.ask(60) == Fate("covered")
    assert scene.platform.requests == []


def test_a_fresh_update_settles_first(scene: Scene) -> None:
    fate = scene.ask(age=0)
    assert fate.outcome == "settling"
    assert scene.stack.item() == {}
    scene.clock.now += fate.wait
    assert scene.ask(age=fate.wait).outcome == "started"


def test_an_update_settles_with_the_one_that_is_pending(scene: Scene) -> None:
    scene.stack.put_item({"pending_at": to_iso(scene.clock.now)})
    fate = scene.ask(60)
    assert fate.outcome == "settling"
    scene.clock.now += fate.wait
    assert scene.ask(60).outcome == "started"


def test_a_run_that_died_is_followed_by_another(scene: Scene) -> None:
    scene.ask()
    scene.clock.now += LEASE + 1
    assert scene.ask(0.5 * LEASE) == Fate("started", "run-2")


# --- The claim is given back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "given_answer", "error"),
    [
        ("metrics", answer(503), PlatformUnavailable),
        ("metrics", answer(401), Unauthorised),
        ("metrics", answer(json=metrics_body(is_recomputing_metrics=True)), PlatformBusy),
        ("metrics", no_answer(httpx.ConnectTimeout("")), PlatformUnavailable),
        ("request", answer(429), PlatformUnavailable),
        ("request", answer(403), Unauthorised),
        ("request", answer(json=request_body(status="unheard of")), UndocumentedAnswer),
        ("request", no_answer(httpx.ReadTimeout("")), PlatformUnavailable),
    ],
)
def test_what_passes_by_itself_leaves_the_model_free(
    scene: Scene, endpoint: str, given_answer: Answer, error: type[RetryLater]
) -> None:
    setattr(scene.platform, endpoint, given_answer)
    with pytest.raises(error):
        scene.ask()
    assert not scene.held
    assert scene.stack.executions() == {}


def test_a_workflow_that_cannot_be_started_leaves_the_model_free(scene: Scene) -> None:
    gone = Workflow(scene.stack.states, scene.stack.workflow_arn + "-gone")
    starter = scene.starter_with(scene.ledger, gone)
    with pytest.raises(AwsUnavailable):
        starter.ask(scene.update(), MODEL, LEASE)
    assert not scene.held


class UnansweredWorkflow(Workflow):
    """Starts the execution, which begins; the answer that says so is lost."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack.states, stack.workflow_arn)
        self._stack = stack

    def start(self, name: str, run: Run, check: Check) -> None:
        super().start(name, run, check)
        assert self._stack.workflow_writes("HoldModel", {"run": run, "check": check})
        raise AwsUnavailable("could not start the workflow: ReadTimeoutError")


def test_a_workflow_that_holds_the_model_keeps_it_though_its_start_seemed_to_fail(scene: Scene) -> None:
    starter = scene.starter_with(scene.ledger, UnansweredWorkflow(scene.stack))
    with pytest.raises(AwsUnavailable):
        starter.ask(scene.update(), MODEL, LEASE)
    item = scene.stack.item()
    (run_id,) = scene.stack.executions()
    assert item["run_id"] == run_id
    assert item["lease_expires_at"] == to_iso(scene.clock.now + DEADLINE + LEASE_SLACK)
    assert scene.ask() == Fate("covered")  # when the update comes again


def test_nobody_is_asked_while_the_platform_recomputes_for_another(scene: Scene) -> None:
    scene.platform.metrics = answer(json=metrics_body(is_recomputing_metrics=True))
    with pytest.raises(PlatformBusy, match="for somebody else"):
        scene.ask()
    assert scene.platform.asked == ["metrics"]


# --- The platform refuses --------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["metrics", "request"])
def test_a_refusal_is_told_by_a_run_that_has_failed(scene: Scene, endpoint: str) -> None:
    setattr(scene.platform, endpoint, answer(404, json={"error": "Model not found", "details": ""}))
    fate = scene.ask()
    assert fate.outcome == "rejected"
    assert "Model not found" in fate.detail
    assert scene.held  # until the workflow releases it
    check = scene.stack.executions()["run-1"]["check"]
    assert (check["status"], check["reason"], check["detail"]) == ("failed", "Rejected", fate.detail)


def test_a_request_that_fails_at_once_is_a_run_that_has_failed(scene: Scene) -> None:
    scene.platform.request = answer(json=request_body(status="failed"))
    assert scene.ask() == Fate("started", "run-1")
    check = scene.stack.executions()["run-1"]["check"]
    assert (check["status"], check["reason"]) == ("failed", "RequestFailed")


# --- Others write to the ledger at the same time ---------------------------------------------------------


class Meanwhile:
    """A DynamoDB client before whose every write something else happens."""

    def __init__(self, stack: Stack, happens: Callable[[], object]) -> None:
        self._dynamodb = stack.dynamodb
        self._happens = happens
        self.exceptions = stack.dynamodb.exceptions

    def update_item(self, **arguments: Any) -> Any:
        self._happens()
        return self._dynamodb.update_item(**arguments)


def test_a_run_that_ends_while_an_update_is_noted_makes_way_for_the_next(scene: Scene) -> None:
    scene.ask_and_hold()
    scene.clock.now += 60
    writes = count(1)

    def second_write_comes_too_late() -> None:
        if next(writes) == 2:
            assert scene.workflow_writes("ReleaseFailed")

    meanwhile: Any = Meanwhile(scene.stack, second_write_comes_too_late)
    starter = scene.starter_with(Ledger(meanwhile, scene.stack.ledger_table))
    fate = starter.ask(scene.update(30), MODEL, LEASE)
    assert fate.outcome == "started"


def test_a_ledger_that_never_stands_still_is_left_for_later(scene: Scene) -> None:
    free = count(0)

    def changing() -> None:
        # Held whenever it is to be claimed, free whenever an update is to be noted.
        scene.stack.put_item(
            {}
            if next(free) % 2
            else {
                "run_id": "other",
                "requested_at": to_iso(scene.clock.now - 120),
                "lease_expires_at": to_iso(scene.clock.now + 120),
            }
        )

    meanwhile: Any = Meanwhile(scene.stack, changing)
    starter = scene.starter_with(Ledger(meanwhile, scene.stack.ledger_table))
    with pytest.raises(AwsUnavailable, match="kept changing"):
        starter.ask(scene.update(), MODEL, LEASE)
    assert scene.platform.requests == []


# --- A run that ended as it should not -------------------------------------------------------------------


def ended(scene: Scene, execution: str = "arn:execution:run-1") -> RunEnded:
    run = scene.stack.executions()["run-1"]["run"]
    return RunEnded(execution, run, "ABORTED", "by an operator")


def test_an_aborted_run_is_told_of_and_released_by_another_execution(scene: Scene) -> None:
    scene.ask_and_hold()
    scene.clock.now += 2 * LEASE
    assert scene.starter.conclude(ended(scene)) == []
    assert scene.stack.item()["lease_expires_at"] == to_iso(scene.clock.now + LEASE_SLACK)
    executions = scene.stack.executions()
    (name,) = executions.keys() - {"run-1"}
    assert name.startswith("run-1-")
    run, check = executions[name]["run"], executions[name]["check"]
    assert run["run_id"] == "run-1"
    assert run["lease_until"] == to_iso(scene.clock.now + LEASE_SLACK)
    assert (check["status"], check["reason"], check["detail"]) == ("failed", "ABORTED", "by an operator")


def test_the_same_report_delivered_twice_concludes_once(scene: Scene) -> None:
    scene.ask()
    for _ in range(2):
        scene.starter.conclude(ended(scene))
    assert len(scene.stack.executions()) == 2
    scene.starter.conclude(ended(scene, "arn:execution:run-1-1"))
    assert set(scene.stack.executions()) == {"run-1", "run-1-1", "run-1-2"}


def test_concluding_a_run_has_an_end(scene: Scene) -> None:
    scene.ask()
    with pytest.raises(BadInput, match="could not be concluded by 5 executions"):
        scene.starter.conclude(ended(scene, "arn:execution:run-1-5"))
    assert set(scene.stack.executions()) == {"run-1"}


def test_a_run_that_was_released_needs_no_further_execution(scene: Scene) -> None:
    scene.ask_and_hold()
    assert scene.workflow_writes("ReleaseFailed")
    assert scene.starter.conclude(ended(scene)) == []
    assert list(scene.stack.executions()) == ["run-1"]


def test_an_update_whose_asking_again_was_lost_is_asked_for(scene: Scene) -> None:
    scene.ask_and_hold()
    scene.clock.now += 20
    scene.ask(10)
    scene.ask(8)
    assert scene.workflow_writes("ReleaseFailed")
    (again,) = scene.starter.conclude(ended(scene))
    assert (again.target, again.cause, again.count) == (Target(*MODEL), "asked_again", 2)
    assert (scene.clock.now - again.first_at, scene.clock.now - again.happened_at) == (10, 8)


# --- What a run takes along ------------------------------------------------------------------------------


def cause(scene: Scene, run_id: str) -> Cause:
    return cast("Cause", scene.stack.executions()[run_id]["run"]["cause"])


def test_a_run_is_for_all_updates_that_came_too_late_for_the_one_before(scene: Scene) -> None:
    scene.ask_and_hold()
    scene.clock.now += 3540
    scene.ask(3480)
    first_at = to_iso(scene.clock.now - 3480)
    scene.ask(10)
    last_at = to_iso(scene.clock.now - 10)
    assert scene.workflow_writes("ReleaseCompleted")
    scene.clock.now += 60
    fate = scene.ask(70)  # which does not tell of the others
    told = cause(scene, fate.detail)
    assert (told["updates"], told["first_at"], told["last_at"]) == (2, first_at, last_at)


def test_a_run_after_a_failed_one_is_for_its_updates_as_well(scene: Scene) -> None:
    scene.ask_and_hold()
    first_at = cause(scene, "run-1")["first_at"]
    assert scene.workflow_writes("ReleaseFailed")
    scene.clock.now += 3600
    assert scene.ask().outcome == "started"
    assert cause(scene, "run-2")["first_at"] == first_at


# --- The job's active model ------------------------------------------------------------------------------


def follow(scene: Scene, age: float) -> Fate:
    return scene.starter.ask(replace(scene.update(age), follows_active=True), MODEL, LEASE)


def follows(scene: Scene, run_id: str) -> bool:
    return bool(scene.stack.executions()[run_id]["run"]["follows_active"])


@pytest.mark.parametrize(("age", "outcome"), [(10, "coalesced"), (60, "covered")])
def test_an_update_that_follows_is_noted_on_a_run_that_does_not(
    scene: Scene, age: float, outcome: str
) -> None:
    scene.ask_and_hold()
    scene.clock.now += 20
    assert follow(scene, age).outcome == outcome
    assert not follows(scene, "run-1")
    assert scene.stack.item()["follows_at"] == to_iso(scene.clock.now - age)
    scene.workflow_writes("ReleaseFailed")
    scene.clock.now += 20
    assert follows(scene, scene.ask(20).detail)


def test_of_those_that_a_run_covers_and_follow_the_latest_is_known(scene: Scene) -> None:
    begun = scene.clock.now
    assert follow(scene, 60).outcome == "started"
    scene.workflow_writes("HoldModel")
    scene.clock.now += 20
    for happened_at, latest in ((begun - 60, 60), (begun - 10, 10), (begun - 30, 10)):
        assert follow(scene, scene.clock.now - happened_at).outcome == "covered"
        assert scene.stack.item()["follows_at"] == to_iso(begun - latest)


def test_an_update_that_waits_with_others_has_their_run_follow(scene: Scene) -> None:
    much = Significance(objects=3, bytes=None, max_wait=100.0)
    for age, follows_active in ((60, False), (50, True)):
        update = replace(scene.update(age), significance=much, follows_active=follows_active)
        update = replace(update, marks=frozenset({mark(update.happened_at, 10, "a.csv")}))
        assert scene.starter.ask(update, MODEL, LEASE).outcome == "waiting"
    assert follows(scene, scene.ask(40).detail)


@pytest.mark.parametrize("ends", ["before it is known", "with its lease"])
def test_what_a_claim_took_along_is_not_forgotten_when_its_answer_was_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    claim = Ledger.claim

    def unanswered(*args: Any, **options: Any) -> NoReturn:
        claim(*args, **options)
        raise AwsUnavailable("no answer")

    now = scene.clock.now
    others = frozenset({mark(now - 50, 1)})
    scene.stack.put_item({"covered_until": to_iso(now - 60), "wake_at": to_iso(now)})
    scene.ledger.gather(MODEL, others, now)
    waker = replace(scene.update(100), waker=True)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "claim", unanswered)
        with pytest.raises(AwsUnavailable):
            scene.starter.ask(waker, MODEL, LEASE)
    if ends == "before it is known":
        assert scene.starter.ask(waker, MODEL, LEASE).outcome == "settling"
    scene.clock.now += LEASE + 1
    assert scene.starter.ask(waker, MODEL, LEASE).outcome == "started"


@pytest.mark.parametrize(("covered_ago", "left"), [(10.0, 0), (100.0, 1)])
def test_what_was_gathered_for_nobody_is_left_unless_it_is_covered(
    scene: Scene, covered_ago: float, left: int
) -> None:
    happened_at = scene.clock.now - 60
    scene.stack.put_item({"covered_until": to_iso(scene.clock.now - covered_ago)})
    scene.ledger.gather(MODEL, frozenset({mark(happened_at, 10, "a.csv")}), scene.clock.now)
    _, updates = scene.starter.known()
    assert [update.happened_at for update in updates] == [happened_at] * left


def test_what_waits_for_a_long_time_does_not_outgrow_the_ledger_s_item(scene: Scene) -> None:
    """400 KB are some 9,000 marks: then no update of the model could be noted any more."""
    begun = scene.clock.now
    scene.stack.put_item({"covered_until": to_iso(begun - 100)})
    patient = scene.starter_with(scene.ledger, spacing=3600.0)
    for batch in range(4):
        marks = frozenset(mark(begun - 60 + batch + n / MOST_MARKS, 1) for n in range(MOST_MARKS))
        latest = replace(scene.update(0), happened_at=begun - 60 + batch + 1, marks=marks)
        assert patient.ask(latest, MODEL, LEASE).outcome in ("waiting", "gathered")
        again = patient.ask(latest, MODEL, LEASE)  # and one that is delivered twice is no news
        assert again.outcome in ("waiting", "gathered")
        assert max(marks) in scene.ledger.read(MODEL).gathered
        assert len(scene.ledger.read(MODEL).gathered) <= 2 * MOST_MARKS
    earliest = replace(scene.update(100), marks=frozenset({mark(begun - 90, 1)}))
    assert patient.ask(earliest, MODEL, LEASE).outcome in ("waiting", "gathered")
    assert min(earliest.marks) not in scene.ledger.read(MODEL).gathered
    scene.clock.now += 3600
    assert patient.ask(replace(scene.update(0), waker=True), MODEL, LEASE).outcome in ("started", "settling")


@pytest.mark.parametrize(
    ("status", "error", "asked"),
    [
        ("FAILED", "NotAskedAgain", True),
        ("ABORTED", None, True),
        ("FAILED", "NeverStarted", False),  # it would fail again, without end
    ],
)
def test_a_run_that_may_not_have_asked_for_another_active_model_has_it_asked_for(
    scene: Scene, status: str, error: str | None, asked: bool
) -> None:
    follow(scene, 60)
    scene.workflow_writes("HoldModel")
    scene.workflow_writes("ReleaseCompleted")
    report = ended(scene)._replace(status=status, error=error)
    wanted = [Update.single(Target(MODEL.job_id, None), scene.clock.now - 60, "asked_again")]
    assert scene.starter.conclude(report) == (wanted if asked else [])
    scene.clock.now += 60  # whoever holds the model by then
    scene.ask(10)
    assert scene.starter.conclude(report) == (wanted if asked else [])


def test_a_run_that_did_not_follow_asks_for_the_active_model_if_an_update_does(scene: Scene) -> None:
    scene.ask_and_hold()
    scene.clock.now += 20
    follow(scene, 60)
    scene.workflow_writes("ReleaseCompleted")
    (update,) = scene.starter.conclude(ended(scene)._replace(status="FAILED", error="NotAskedAgain"))
    assert (update.target, update.happened_at) == (Target(MODEL.job_id, None), scene.clock.now - 60)


def test_a_report_that_comes_again_asks_for_what_a_stopped_invocation_had_claimed(
    scene: Scene,
) -> None:
    scene.ask_and_hold()
    report = ended(scene)
    scene.clock.now += 60
    assert scene.ask(10).outcome == "coalesced"
    scene.workflow_writes("ReleaseFailed")
    scene.clock.now += 60
    (pending,) = scene.starter.conclude(report)
    scene.ledger.claim(  # and is stopped
        MODEL,
        "lost",
        now=scene.clock.now,
        lease_expires_at=scene.clock.now + LEASE,
        happened_at=pending.happened_at,
        margin=MARGIN,
    )
    scene.clock.now += LEASE + 1
    (left,) = scene.starter.conclude(report)
    assert scene.starter.ask(left, MODEL, LEASE).outcome == "started"


def test_a_report_that_comes_after_the_next_run_asks_for_nothing_that_this_one_covers(scene: Scene) -> None:
    scene.ask_and_hold()
    report = ended(scene)
    scene.workflow_writes("ReleaseFailed")
    scene.clock.now += 60
    assert follow(scene, 40).outcome == "started"
    scene.workflow_writes("HoldModel", "run-2")
    scene.workflow_writes("ReleaseCompleted", "run-2")
    scene.clock.now += 60
    for update in scene.starter.conclude(report):
        assert scene.starter.ask(update, MODEL, LEASE).outcome == "covered"


def test_a_run_that_ended_before_it_held_its_model_is_concluded_as_well(scene: Scene) -> None:
    scene.ask()
    assert scene.starter.conclude(ended(scene)) == []
    assert set(scene.stack.executions()) == {"run-1", "run-1-1"}
    assert scene.workflow_writes("HoldModel", "run-1-1")


def test_what_is_told_of_a_run_fits_the_update(scene: Scene) -> None:
    update = replace(scene.update(), count=200)
    scene.starter.ask(update, MODEL, LEASE)
    assert scene.stack.executions()["run-1"]["run"]["cause"]["updates"] == 200
