"""Never more runs than places, and no place lost to a run that is over."""

import pytest
from botocore.exceptions import ClientError

from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.ledger import PLACES, Ledger
from arcanna_metrics.places import FULL_FOR, GRACE, Places
from arcanna_metrics.targets import Model, Target
from arcanna_metrics.updates import Update
from tests.doubles import Stack

NOW = 1_736_950_000.0
LEASE = 100.0
A, B, C = Model("1", "a"), Model("1", "b"), Model("2", "c")
DUE = Update.single(Target(*A), NOW, "upload")


class Scene:
    """Models that are claimed and released, and places as another execution environment each sees them."""

    def __init__(self, stack: Stack, number: int) -> None:
        self.stack = stack
        self.ledger = Ledger(stack.dynamodb, stack.ledger_table)
        self.number = number

    def places(self) -> Places:
        return Places(self.stack.dynamodb, self.stack.ledger_table, self.number)

    def claim(self, model: Model, run_id: str, now: float = NOW) -> None:
        write = self.ledger.claim(
            model, run_id, now=now, lease_expires_at=now + LEASE, happened_at=now - 60, margin=5.0
        )
        assert write.made

    def run(self, model: Model, run_id: str, now: float = NOW) -> bool:
        """Claims the model and takes a place for the run, if there is one."""
        self.claim(model, run_id, now)
        return self.places().take(model, run_id, now)


@pytest.fixture
def two(stack: Stack) -> Scene:
    return Scene(stack, 2)


def test_there_are_as_many_places_as_there_are(two: Scene) -> None:
    assert two.run(A, "run-a")
    assert two.run(B, "run-b")
    assert not two.run(C, "run-c")


def test_runs_beyond_a_lowered_limit_count(two: Scene) -> None:
    two.number = 3
    for model in (A, B, C):
        assert two.run(model, f"run-{model.model_id}")
    two.ledger.give_back(A, "run-a", DUE)
    two.number = 2
    beyond = Model("3", "d")
    assert not two.run(beyond, "run-d")
    two.ledger.give_back(B, "run-b", DUE)
    assert two.places().take(beyond, "run-d", NOW)


def test_a_run_that_is_over_leaves_its_place(two: Scene) -> None:
    two.run(A, "run-a")
    two.run(B, "run-b")
    two.ledger.give_back(A, "run-a", DUE)
    assert two.run(C, "run-c")
    assert two.places().all_taken(Model("3", "d"), NOW)


def test_a_place_that_was_taken_for_a_claim_before_is_the_model_s_own(two: Scene) -> None:
    """After a crash the model would wait for the place that it has itself."""
    two.run(A, "run-a")
    two.run(B, "run-b")
    later = NOW + LEASE + 1
    assert not two.places().all_taken(A, later)
    assert two.run(A, "run-a2", later)
    assert two.places().all_taken(C, later)


def test_a_crash_frees_its_place_in_the_end(two: Scene) -> None:
    two.run(A, "run-a")
    two.run(B, "run-b", NOW + 1)
    later = NOW + LEASE + GRACE
    assert two.places().all_taken(C, later)
    assert two.run(C, "run-c", later + 0.5)
    assert two.places().all_taken(Model("3", "d"), later + 0.5)


def test_of_two_that_see_the_same_free_place_one_takes_it(stack: Stack) -> None:
    one = Scene(stack, 1)
    here, there = one.places(), one.places()
    assert not here.all_taken(A, NOW)
    assert not there.all_taken(B, NOW)
    one.claim(A, "run-a")
    one.claim(B, "run-b")
    assert here.take(A, "run-a", NOW)
    assert not there.take(B, "run-b", NOW)


def test_full_places_are_not_looked_at_again_at_once(stack: Stack) -> None:
    one = Scene(stack, 1)
    one.run(A, "run-a")
    places = one.places()
    assert places.all_taken(B, NOW)
    one.ledger.give_back(A, "run-a", DUE)
    assert places.all_taken(B, NOW + FULL_FOR - 0.1)
    assert not places.all_taken(B, NOW + FULL_FOR)


def test_more_than_one_call_s_worth_of_places(stack: Stack) -> None:
    many = Scene(stack, 101)
    places = many.places()
    for number in range(101):
        many.claim(Model("1", str(number)), f"run-{number}")
        assert places.take(Model("1", str(number)), f"run-{number}", NOW)
    assert many.places().all_taken(A, NOW)


def test_what_could_not_be_read_counts_as_taken(two: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    two.run(A, "run-a")
    two.run(B, "run-b")
    two.ledger.give_back(A, "run-a", DUE)
    table = two.stack.ledger_table
    unread = {"Keys": [{"job_id": {"S": A.job_id}, "model_id": {"S": A.model_id}}]}
    answer = two.stack.dynamodb.batch_get_item

    def throttled(**request: object) -> object:
        found = answer(**request)  # type: ignore[arg-type]  # as it came
        kept = [item for item in found["Responses"][table] if item["model_id"]["S"] != A.model_id]
        return {"Responses": {table: kept}, "UnprocessedKeys": {table: unread}}

    monkeypatch.setattr(two.stack.dynamodb, "batch_get_item", throttled)
    assert two.places().all_taken(C, NOW)


def test_without_a_limit_nothing_is_asked(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "Query")

    monkeypatch.setattr(stack.dynamodb, "query", fails)
    places = Scene(stack, 0).places()
    assert not places.all_taken(A, NOW)
    assert places.take(A, "run-a", NOW)
    with pytest.raises(AwsUnavailable, match="read the places"):
        Scene(stack, 1).places().all_taken(A, NOW)


def test_places_are_no_models(two: Scene) -> None:
    two.run(A, "run-a")
    assert two.stack.item(Model(PLACES, "0001"))["holder"] == '["1", "a", "run-a"]'
    assert {model.job_id for model in two.ledger.entries()} == {"1"}
