"""A job addressed by id and by name has one entry, one run at a time and one history."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.e2e.scene import JOB_NAME, NewScene, Scene
from tests.support.arcanna.access import API_KEY, READ_SCOPE, RECOMPUTE_SCOPE, RESOURCES_SCOPE, KeyInfo
from tests.support.arcanna.platform import FOR_EVER, SHORT
from tests.support.installation import Installation


@contextmanager
def key_with(here: Installation, *scopes: str) -> Iterator[None]:
    """Gives the API key these scopes until the block ends."""
    here.arcanna.set_api_keys({API_KEY: KeyInfo(frozenset(scopes))})
    try:
        yield
    finally:
        here.arcanna.set_api_keys({API_KEY: KeyInfo()})


def by_name(scene: Scene) -> Scene:
    """The same model, addressed by the job's name."""
    return Scene(scene.here, scene.model, JOB_NAME)


def ask_both(scene: Scene) -> None:
    """Requests the model by id and by name at the same time."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Scene.invoke, (scene, by_name(scene))))


def test_requests_by_id_and_by_name_at_once_share_one_entry(scene: Scene) -> None:
    scene.behaves(FOR_EVER)  # the second request meets the run of the first
    with key_with(scene.here, READ_SCOPE, RECOMPUTE_SCOPE, RESOURCES_SCOPE):
        ask_both(scene)
        scene.until_held()
        scene.behaves(SHORT)
        scene.until_fresh()
        by_name(scene).until_rest()
        scene.until_rest()

    mailbox = by_name(scene).entry()
    assert (mailbox.history, mailbox.run_id, mailbox.dirty) == ((), None, False)
    assert len(scene.posts()) == len(scene.entry().history)
    assert len(scene.posts()) <= 2  # the second update may have come after the first claim
    assert by_name(scene).executions() == []


@pytest.mark.parametrize("waits", [JOB_NAME, "1234"])
def test_update_by_name_during_a_run_by_id_or_vice_versa_leads_to_one_more_run(
    scene: Scene, waits: str
) -> None:
    with key_with(scene.here, READ_SCOPE, RECOMPUTE_SCOPE, RESOURCES_SCOPE):
        first, second = scene, by_name(scene)
        if waits != JOB_NAME:
            first, second = second, first
        scene.behaves(FOR_EVER)
        first.invoke()
        scene.until_held()
        second.invoke()
        scene.until_waiting()
        scene.behaves(SHORT)
        scene.updated_at = max(first.updated_at, second.updated_at)
        scene.until_fresh()
        scene.until_rest()

    assert len(scene.posts()) == len(scene.entry().history) == 2


def test_job_id_is_learned_from_the_first_answer_if_the_key_may_not_look_it_up(new_scene: NewScene) -> None:
    scene = new_scene()
    named = by_name(scene)
    named.invoke()
    named.until_fresh()
    named.until_rest()
    assert (named.entry().name_of, len(named.entry().history)) == (scene.job_id, 1)

    scene.behaves(FOR_EVER)
    ask_both(scene)
    scene.until_held()
    scene.behaves(SHORT)
    scene.updated_at = max(scene.updated_at, named.updated_at)
    scene.until_fresh()
    named.until_rest()
    scene.until_rest()

    assert len(named.entry().history) == 1
    assert len(scene.posts()) == 1 + len(scene.entry().history) <= 3
