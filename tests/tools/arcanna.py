"""The command `arcanna` for shells that have read build/local.env: breaks and mends the local Arcanna.

It uses tests/support/arcanna/control.py, which can do more over HTTP.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx

from tests.support.arcanna.access import API_KEY
from tests.support.arcanna.alerts import TYPICAL_ACCURACY, labelled_alerts
from tests.support.arcanna.platform import Job

ARCANNA, BUCKET = "ARCANNA_URL", "BUCKET"
"""Variables of build/local.env."""

ALERTS = 400
"""Alerts in each object."""

WRONG = dict.fromkeys(TYPICAL_ACCURACY, 0.3)
"""The accuracy of the model on alerts that make it look bad."""

JOBS = {
    1234: Job(name="security-alerts", models=("generic-1-1234-model-1747385873.hdf5",)),
    77: Job(name="phishing-triage", models=("generic-1-77-model-1751030400.hdf5",)),
}
JOB = "1234"
"""The default job for uploads."""

MALFORMED = '{"jobid": 1234}'
"""A message for the updates queue with a mistake in it."""

NEW_KEY = "rotated-key"
WELL = {"delay": 0.5, "duration": 3.0}


@dataclass(frozen=True)
class How:
    """A state of Arcanna. `says` describes its consequences, and names the section of the runbook."""

    says: str
    behaviour: Mapping[str, Any] = field(default_factory=lambda: WELL)
    fault: Mapping[str, Any] | None = None
    keys: tuple[str, ...] = (API_KEY, NEW_KEY)


HOWS = {
    "slow": How("recomputes take an hour: runs end as DeadlinePassed (Runs fail)", {"duration": 3600.0}),
    "busy": How(
        "somebody else recomputes all the time: PlatformBusy (Updates wait)",
        fault={"endpoint": "metrics", "fields": {"is_recomputing_metrics": True}},
    ),
    "failing": How("recomputes fail: runs end as NoNewResult (Runs fail)", {**WELL, "fails": True}),
    "key": How(
        f"only {NEW_KEY} is valid; arcanna secret {NEW_KEY} repairs it (The API key is refused)",
        keys=(NEW_KEY,),
    ),
    "away": How("no answers: PlatformUnavailable (Updates wait)", fault={"drop": "close"}),
    "well": How("Arcanna works normally again"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Raises SystemExit if it cannot."""
    given = _arguments(arguments)
    if ARCANNA not in os.environ:
        sys.exit("Which Arcanna? Keep make local up, and type this first: . build/local.env")
    if not _answers(os.environ[ARCANNA]):
        sys.exit("make local is not running. Start it, and then type . build/local.env again.")
    if given.command == "upload":
        print(f"Uploaded {_upload(given.job, given.model, worse=given.worse)}")
    elif given.command == "secret":
        _put_secret(given.key)
        print("The secret holds the key now.")
    elif given.command == "malformed":
        _send(MALFORMED)
        print(f"Sent {MALFORMED} to the updates queue. arcanna-metrics redrive shows what became of it.")
    else:
        become(HOWS[given.command], os.environ[ARCANNA])
        print(f"Arcanna: {HOWS[given.command].says}")


def _answers(url: str) -> bool:
    """Whether a server listens there. Otherwise each client would fail with a message of its own."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 80), timeout=5).close()
    except OSError:
        return False
    return True


def become(how: How, url: str) -> None:
    """Puts the Arcanna at that address into this state. Raises httpx.HTTPError."""
    with httpx.Client(base_url=f"{url}/_reference/", trust_env=False) as control:

        def tell(method: str, path: str, json: object = None, **params: str) -> None:
            control.request(method, path, json=json, params=params).raise_for_status()

        tell("DELETE", "faults")
        for model_id in (model_id for job in JOBS.values() for model_id in job.models):
            tell("PUT", "behaviour", dict(how.behaviour), model_id=model_id)
        tell("PUT", "api_keys", {key: {} for key in how.keys})
        if how.fault is not None:
            tell("POST", "faults", {**how.fault, "times": None})


def _upload(job: str, model: str, *, worse: bool) -> str:
    """Uploads an object with alerts. Returns its address."""
    number = time.time_ns() // 1_000_000
    body = labelled_alerts(
        ALERTS, WRONG if worse else TYPICAL_ACCURACY, seed=number, first_id=number * ALERTS
    )
    bucket, key = os.environ[BUCKET], f"training-data/{job}/{model}/{number}.csv"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body.encode())
    return f"s3://{bucket}/{key}"


def _put_secret(key: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=_output("ApiKeySecretArn"), SecretString=key)


def _send(message: str) -> None:
    boto3.client("sqs").send_message(QueueUrl=_output("UpdatesQueueUrl"), MessageBody=message)


def _output(name: str) -> str:
    """An output of the stack."""
    stack = boto3.client("cloudformation").describe_stacks(StackName=os.environ["STACK"])["Stacks"][0]
    return next(str(o["OutputValue"]) for o in stack["Outputs"] if o["OutputKey"] == name)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="arcanna", description="What happens to the Arcanna of make local.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, how in HOWS.items():
        commands.add_parser(name, help=how.says)
    upload = commands.add_parser("upload", help="new training data: a recompute follows")
    upload.add_argument("job", nargs="?", default=JOB)
    upload.add_argument("model", nargs="?", help="the job's own by default")
    upload.add_argument("--worse", action="store_true", help="it makes the model worse")
    secret = commands.add_parser("secret", help="put a key into the stack's secret")
    secret.add_argument("key")
    commands.add_parser("malformed", help="a message that becomes a dead letter (Dead letters)")
    given = parser.parse_args(arguments)
    if given.command == "upload" and not given.model:
        models = {str(number): job.models[0] for number, job in JOBS.items()}
        if given.job not in models:
            upload.error(f"Arcanna has the jobs {', '.join(models)}. For another one, name a model, too")
        given.model = models[given.job]
    if given.command == "secret" and not given.key:
        secret.error("the key is empty")
    return given


if __name__ == "__main__":
    main()
