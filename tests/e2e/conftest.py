"""One installation for all end-to-end tests of a pytest worker. Each test uses its own models."""

import itertools
from collections.abc import Iterator

import pytest

from tests.e2e.scene import (
    JOB,
    JOB_NAME,
    MODELS,
    OTHER_JOB,
    OTHER_MODELS,
    VISIBILITY,
    Mailbox,
    NewScene,
    Scene,
)
from tests.support.arcanna.platform import SHORT, Job
from tests.support.installation import Installation, installation


@pytest.fixture(scope="package")
def here(worker_id: str) -> Iterator[Installation]:
    jobs = {
        JOB: Job(name=JOB_NAME, models=MODELS),
        OTHER_JOB: Job(name="phishing-triage", models=OTHER_MODELS),
    }
    with installation(jobs, SHORT, f"e2e-{worker_id}") as installed:
        installed.cloud.client("sqs").set_queue_attributes(
            QueueUrl=installed.cloud.outputs["UpdatesQueueUrl"], Attributes={"VisibilityTimeout": VISIBILITY}
        )
        yield installed


@pytest.fixture(scope="package")
def new_scene(here: Installation) -> NewScene:
    """Gives a scene with a model of job 1234 that no other test uses."""
    models = itertools.chain(MODELS)
    return lambda: Scene(here, next(models))


@pytest.fixture
def scene(new_scene: NewScene) -> Scene:
    return new_scene()


@pytest.fixture(scope="package")
def told(here: Installation) -> Mailbox:
    """All outcome events and notifications."""
    return Mailbox(here, "told").with_events().with_notifications()
