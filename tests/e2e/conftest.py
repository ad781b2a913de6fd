"""One installation for all end-to-end tests of a worker; each test uses models of its own."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.arcanna.platform import SHORT, Job
from tests.harness import Installation, installation

JOB = 1234
OTHER_JOB = 77
MODELS = tuple(f"generic-1-{JOB}-model-{1747385873 + n}.hdf5" for n in range(120))
OTHER_MODELS = ("generic-1-77-model-1751030400.hdf5", "generic-1-77-model-1761030400.hdf5")


@pytest.fixture(scope="package")
def here(worker_id: str) -> Iterator[Installation]:
    jobs = {
        JOB: Job(name="security-alerts", models=MODELS),
        OTHER_JOB: Job(name="phishing-triage", models=OTHER_MODELS),
    }
    with installation(jobs, SHORT, f"e2e-{worker_id}") as installed:
        yield installed


@pytest.fixture(scope="session")
def fresh_model() -> Callable[[], str]:
    """Gives a model of job 1234 that no other test has."""
    models = itertools.chain(MODELS)
    return lambda: next(models)


@pytest.fixture
def model(fresh_model: Callable[[], str]) -> str:
    return fresh_model()
