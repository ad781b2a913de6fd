"""A whole installation on this machine: the Arcanna reference server, and the stack on the local cloud.

Used by the demo and by the end-to-end tests. Times are seconds where the defaults are minutes.
"""

import fcntl
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx

import tests.support.this_machine  # noqa: F401
from arcanna_metrics.intake.routes import DEFAULT_ROUTES
from tests.support.arcanna.access import API_KEY, API_KEY_HEADER
from tests.support.arcanna.alerts import AlertObject, AlertSource, S3Alerts
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.deployment import substitutions
from tests.support.local_cloud import LocalCloud

ROUTES: Sequence[dict[str, Any]] = (
    *DEFAULT_ROUTES,
    {
        "name": "feedback",
        "keys": ["feedback/{job_id}/{model_id}/*"],
        "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
        "threshold": {"objects": 5, "bytes": 100000, "max_wait_seconds": 3600},
    },
)
"""The default routes, and a route with a threshold."""

PACE: Mapping[str, int] = {
    "slots": 50,
    "shortest_poll_seconds": 1,
    "longest_poll_seconds": 1,
    "start_grace_seconds": 10,
    "deadline_seconds": 60,
    "first_backoff_seconds": 1,
    "longest_backoff_seconds": 2,
}

PARAMETERS: Mapping[str, str] = {"VisibilityLagSeconds": "1"}


def hurried(pace: Mapping[str, int] | None = None, tries: int = 4) -> dict[str, object]:
    """Shorter values for the template's slow constants, and the settings that the stack starts with.

    `pace` is merged into PACE. `tries` is how often the workflow tries a step.
    """
    settings = {"routes": ROUTES, "pace": {**PACE, **(pace or {})}}
    (retry,) = json.loads(substitutions()["Retry"])
    retry |= {"IntervalSeconds": 1, "MaxDelaySeconds": 2, "MaxAttempts": tries - 1}
    window = "TriggerRecomputeFunction.Events.Updates.Properties.MaximumBatchingWindowInSeconds"
    return {
        "SettingsParameter.Value": json.dumps(settings),
        "RecomputeWorkflow.DefinitionSubstitutions.Retry": json.dumps([retry]),
        window: 1,
    }


class LaterAlerts:
    """Alerts from a source that is set after the stack has created the bucket."""

    source: AlertSource | None = None

    def read(self, job_id: int, model_id: str) -> Sequence[AlertObject]:
        """The source's alerts. Empty until there is a source."""
        return self.source.read(job_id, model_id) if self.source else []


@dataclass(frozen=True)
class Installation:
    """The stack, and the platform whose metrics it keeps fresh."""

    cloud: LocalCloud
    arcanna: ArcannaServer
    bucket: str

    samples = Path(__file__).parents[2] / "events"

    def upload(self, key: str, body: str) -> None:
        """Uploads an object to the training-data bucket."""
        self.cloud.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body.encode())

    def served(self, job_id: int, model_id: str) -> dict[str, Any]:
        """The model's metrics, as the platform serves them."""
        answer = httpx.get(
            f"{self.arcanna.url}/api/v2/metrics/model",
            params={"job_id": job_id, "model_id": model_id},
            headers={API_KEY_HEADER: API_KEY},
            trust_env=False,
        )
        return dict(answer.raise_for_status().json())


class Ports(NamedTuple):
    """The ports of the local cloud and the reference server on 127.0.0.1. 0 means a free port."""

    aws: int = 0
    arcanna: int = 0


ANY_PORTS = Ports()


@contextmanager
def alone(name: str, otherwise: str) -> Iterator[None]:
    """Ends the process with these words if another one runs the installation of that name: both would write
    the same logs.
    """
    Path("build").mkdir(exist_ok=True)
    with Path("build", f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(otherwise)
        yield


@contextmanager
def installation(
    jobs: Mapping[int, Job],
    behaviour: Behaviour,
    name: str,
    ports: Ports = ANY_PORTS,
) -> Iterator[Installation]:
    """Deploys the project's own template beside a reference server with these jobs.

    Logs are in build/`name`, and what is built is in build/artifacts. Installations of different names can
    run at the same time.
    """
    alerts = LaterAlerts()
    with ArcannaServer(jobs, alerts, behaviour=behaviour, port=ports.arcanna) as arcanna:
        given = {"ArcannaBaseUrl": arcanna.url, **PARAMETERS}
        with LocalCloud(given, Path("build") / name, constants=hurried(), port=ports.aws) as cloud:
            here = installed(cloud, arcanna)
            alerts.source = S3Alerts(cloud.client("s3"), here.bucket)
            yield here


def installed(cloud: LocalCloud, arcanna: ArcannaServer) -> Installation:
    """Puts the platform's key into the secret of the deployed stack, as an operator does."""
    cloud.client("secretsmanager").put_secret_value(
        SecretId=cloud.outputs["ApiKeySecretArn"], SecretString=API_KEY
    )
    return Installation(cloud, arcanna, cloud.outputs["TrainingDataBucket"])
