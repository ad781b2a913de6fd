"""A whole installation on this machine: the Arcanna reference server, and the stack on the local cloud.

Used by the demo and by the end-to-end tests. Times are seconds where the template's defaults are minutes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import tests.support.this_machine  # noqa: F401
from tests.support.arcanna.access import API_KEY, API_KEY_HEADER
from tests.support.arcanna.alerts import AlertObject, AlertSource, S3Alerts
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.local_cloud import LocalCloud
from tests.support.waiting import eventually

wait_for = eventually  # for tests/e2e/test_operate.py, which still uses this name

ROUTES: dict[str, Any] = {
    "routes": [
        {
            "name": "by-path",
            "keys": ["training-data/{job_id}/{model_id}/*"],
            "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
        },
        {"name": "by-job", "keys": ["training-data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
        {
            "name": "feedback",
            "keys": ["feedback/{job_id}/{model_id}/*"],
            "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
            "threshold": {"objects": 5, "bytes": 100000, "max_wait_seconds": 3600},
        },
    ]
}
"""The template's default routes, and one with a threshold."""

HURRY: Mapping[str, str] = {
    "Routes": json.dumps(ROUTES),
    "MaximumRecomputes": "50",
    "VisibilityLagSeconds": "1",
    "BatchingWindowSeconds": "1",
    "ShortestPollSeconds": "1",
    "LongestPollSeconds": "1",
    "StartGraceSeconds": "10",
    "RunDeadlineSeconds": "60",
    "RetryIntervalSeconds": "1",
    "RetryMaximumSeconds": "2",
    "RetryAttempts": "3",
}


class LaterAlerts:
    """Alerts from a source that is set later, when the stack has created the bucket."""

    source: AlertSource | None = None

    def read(self, job_id: int, model_id: str) -> Sequence[AlertObject]:
        """The source's alerts. Empty as long as there is no source."""
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

    def log_entries(self, function: str) -> list[dict[str, Any]]:
        """The function's JSON log lines, including metrics."""
        return [json.loads(line) for line in self.cloud.logs(function) if line.startswith("{")]

    def served(self, job_id: int, model_id: str) -> dict[str, Any]:
        """The model's metrics, as the platform serves them."""
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

    Build output and logs are in build/`name`. Installations of different names can run at the same time.
    """
    alerts = LaterAlerts()
    with ArcannaServer(jobs, alerts, behaviour=behaviour) as arcanna:
        given = {"ArcannaBaseUrl": arcanna.url, **HURRY}
        with LocalCloud(given, Path("build") / name) as cloud:
            cloud.client("secretsmanager").put_secret_value(
                SecretId=cloud.outputs["ApiKeySecretArn"], SecretString=API_KEY
            )
            bucket = cloud.outputs["TrainingDataBucket"]
            alerts.source = S3Alerts(cloud.client("s3"), bucket)
            yield Installation(cloud, arcanna, bucket)
