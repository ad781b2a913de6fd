"""No recompute asks more of others than it must."""

from tests.arcanna.platform import Behaviour
from tests.benchmarks.calls import calls_of
from tests.e2e.conftest import JOB
from tests.harness import Installation


def test_a_run_with_k_polls_takes_k_plus_2_requests_and_the_fewest_writes_and_transitions(
    here: Installation, model: str
) -> None:
    here.arcanna.set_behaviour(Behaviour(delay=0.2, looks=2), model)
    here.cloud.invoke("TriggerRecomputeFunction", {"job_id": JOB, "model_id": model})

    calls = calls_of(here, model)

    assert calls.polls >= 3
    assert calls.platform == calls.polls + 2  # the baseline, the request, and the polls
    assert calls.writes == 4  # claim, place, hold, release
    # Hold, judge; wait, check, judge for each poll; publish, release, conclude, end.
    assert calls.transitions == 2 + 3 * calls.polls + 4
    assert calls.connections == 2  # one for each function: environments keep theirs from one poll to the next
