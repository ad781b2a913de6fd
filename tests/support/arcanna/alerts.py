"""Labelled alerts, which are the training data of a model: generated ones, and sources to read them from."""

import csv
import io
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DECISIONS = ("Drop", "Investigate", "Escalate")
COLUMNS = ("alert_id", "bucket", "decision", "consensus")
TYPICAL_ACCURACY = {"Drop": 0.95, "Investigate": 0.85, "Escalate": 0.7}


class Alert(NamedTuple):
    """The model's decision, and the analysts' consensus, which is empty until there is one."""

    alert_id: str
    decision: str
    consensus: str
    bucket: str


class AlertObject(NamedTuple):
    """A CSV object with labelled alerts. `last_modified` is in epoch seconds."""

    last_modified: float
    key: str
    body: str


class AlertSource(Protocol):
    def read(self, job_id: int, model_id: str) -> Sequence[AlertObject]:
        """All current objects of the model. Any error makes the recompute fail."""


class InMemoryAlerts:
    """Alert objects put by the same process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[tuple[int, str], dict[str, AlertObject]] = {}

    def put(self, job_id: int, model_id: str, name: str, body: str) -> None:
        with self._lock:
            objects = self._objects.setdefault((job_id, model_id), {})
            objects[name] = AlertObject(time.time(), name, body)

    def read(self, job_id: int, model_id: str) -> Sequence[AlertObject]:
        with self._lock:
            return list(self._objects.get((job_id, model_id), {}).values())


class S3Alerts:
    """The `.csv` objects under `{prefix}{job_id}/{model_id}/` of a bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "training-data/") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._bodies: dict[tuple[str, str], str] = {}  # a burst's objects are fetched only once

    def read(self, job_id: int, model_id: str) -> Sequence[AlertObject]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{job_id}/{model_id}/"
        )
        return [
            AlertObject(
                found["LastModified"].timestamp(),
                found["Key"],
                self._body(found["Key"], found["ETag"]),
            )
            for page in pages
            for found in page.get("Contents", [])
            if found["Key"].endswith(".csv")
        ]

    def _body(self, key: str, etag: str) -> str:
        if (key, etag) not in self._bodies:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            self._bodies[key, etag] = answer["Body"].read().decode()
        return self._bodies[key, etag]


def current_alerts(objects: Iterable[AlertObject]) -> list[Alert]:
    """Each alert once: a row in a newer object (at equal times: the later key) corrects older ones.

    Raises ValueError if an object lacks a column or a row lacks a value.
    """
    alerts: dict[str, Alert] = {}
    for found in sorted(objects):
        for row in csv.DictReader(io.StringIO(found.body)):
            alert_id, decision = row.get("alert_id"), row.get("decision")
            consensus = row.get("consensus")
            if not alert_id or not decision or consensus is None:
                raise ValueError(f"{found.key}: incomplete row {row}")
            alerts[alert_id] = Alert(alert_id, decision, consensus, row.get("bucket") or alert_id)
    return list(alerts.values())


def labelled_alerts(count: int, accuracy: Mapping[str, float], *, seed: int, first_id: int = 1) -> str:
    """CSV of `count` alerts. The model is right as often as `accuracy` says for each true decision.

    Like a real queue, most alerts are to be dropped and few are escalated. The same seed gives
    the same alerts.
    """
    chance = random.Random(seed)
    alerts = []
    for number in range(first_id, first_id + count):
        (consensus,) = chance.choices(DECISIONS, weights=(6, 3, 1))
        wrong = [decision for decision in DECISIONS if decision != consensus]
        right = chance.random() < accuracy[consensus]
        decision = consensus if right else chance.choice(wrong)
        bucket = f"{consensus.lower()}-{chance.randrange(max(1, count // 5))}"
        alerts.append(Alert(f"alert-{number:06}", decision, consensus, bucket))
    return _to_csv(alerts)


def corrections(alerts_csv: str, share: float, *, seed: int) -> str:
    """CSV that corrects a `share` (0 to 1) of the wrong decisions in `alerts_csv`."""
    chance = random.Random(seed)
    alerts = current_alerts([AlertObject(0, "uncorrected", alerts_csv)])
    wrong = [alert for alert in alerts if alert.decision != alert.consensus]
    corrected = chance.sample(wrong, round(share * len(wrong)))
    return _to_csv([alert._replace(decision=alert.consensus) for alert in corrected])


def _to_csv(alerts: Iterable[Alert]) -> str:
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(alert._asdict() for alert in alerts)
    return text.getvalue()
