"""A whole installation on this machine: the Arcanna reference server, and the stack on the local cloud.

Used by the demo and by the end-to-end tests. Times are those of a hurried customer: seconds where the
defaults are minutes.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

import tests.support.this_machine  # noqa: F401
from arcanna_metrics.intake.routes import DEFAULT_ROUTES
from tests.support.arcanna.access import API_KEY, API_KEY_HEADER
from tests.support.arcanna.alerts import AlertObject, AlertSource, S3Alerts
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.deployment import substitutions
from tests.support.local_cloud import LocalCloud, deaths

T = TypeVar("T")

ROUTES: Sequence[dict[str, Any]] = (
    *DEFAULT_ROUTES,
    {
        "name": "feedback",
        "keys": ["feedback/{job_id}/{model_id}/*"],
        "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
        "threshold": {"objects": 5, "bytes": 100000, "max_wait_seconds": 3600},
    },
)
"""The default ones, and one with a threshold."""

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
    """What takes too long here of the template's constants, and the settings that the stack begins with.

    `pace` is added to PACE; `tries` is how often the workflow tries a step.
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
    """Alerts from a source that is known only when the stack, and with it the bucket, is there."""

    source: AlertSource | None = None

    def read(self, job_id: int, model_id: str) -> Sequence[AlertObject]:
        """What the source has; nothing before there is one."""
        return self.source.read(job_id, model_id) if self.source else []


@dataclass(frozen=True)
class Installation:
    """The stack and the platform that it looks after."""

    cloud: LocalCloud
    arcanna: ArcannaServer
    bucket: str

    samples = Path(__file__).parents[2] / "events"

    def upload(self, key: str, body: str) -> None:
        """Puts an object of training data."""
        self.cloud.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body.encode())

    def log_entries(self, function: str) -> list[dict[str, Any]]:
        """The function's JSON log lines, metrics among them."""
        return [json.loads(line) for line in self.cloud.logs(function) if line.startswith("{")]

    def served(self, job_id: int, model_id: str) -> dict[str, Any]:
        """The model's metrics as the platform answers them to anybody who asks."""
        answer = httpx.get(
            f"{self.arcanna.url}/api/v2/metrics/model",
            params={"job_id": job_id, "model_id": model_id},
            headers={API_KEY_HEADER: API_KEY},
        )
        return dict(answer.raise_for_status().json())


@contextmanager
def installation(
    jobs: Mapping[int, Job],
    behaviour: Behaviour,
    name: str,
) -> Iterator[Installation]:
    """Deploys the project's own template beside a reference server with these jobs.

    What is built, and the logs, are under build/`name`: of those of another name, one may run meanwhile.
    """
    alerts = LaterAlerts()
    with ArcannaServer(jobs, alerts, behaviour=behaviour) as arcanna:
        given = {"ArcannaBaseUrl": arcanna.url, **PARAMETERS}
        with LocalCloud(given, Path("build") / name, constants=hurried()) as cloud:
            cloud.client("secretsmanager").put_secret_value(
                SecretId=cloud.outputs["ApiKeySecretArn"], SecretString=API_KEY
            )
            bucket = cloud.outputs["TrainingDataBucket"]
            alerts.source = S3Alerts(cloud.client("s3"), bucket)
            yield Installation(cloud, arcanna, bucket)


def wait_for(what: str, look: Callable[[], T], seconds: float = 30.0) -> T:
    """The first truthy answer of `look`. Raises TimeoutError naming what did not come, and ProcessDied as
    soon as a function's process has died by itself: what it was to do comes only minutes later."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if deaths:
            raise deaths[0]
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.1)
    return found
