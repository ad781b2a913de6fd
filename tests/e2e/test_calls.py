"""A recompute makes as few calls as possible."""

from tests.e2e.scene import Scene
from tests.support.arcanna.platform import Behaviour
from tests.tools.benchmarks.calls import calls_of


def test_run_with_k_checks_takes_k_plus_2_requests_and_a_fixed_number_of_writes(
    scene: Scene,
) -> None:
    scene.behaves(Behaviour(delay=0.2, looks=2))
    scene.invoke()

    calls = calls_of(scene.here, scene.model)

    assert calls.polls >= 3
    assert calls.platform == calls.polls + 2  # the baseline, the request, and the checks
    assert calls.writes == 4  # record, claim, hold, release
    # Hold, IsHeld, Judge; then Wait, CheckStatus, Judge for each check; then Publish, IsNotified, Release,
    # Conclude, Completed.
    assert calls.transitions == 3 + 3 * calls.polls + 5
    assert calls.connections == 2  # one of each function: environments keep theirs
