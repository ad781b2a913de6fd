"""`python -m tests.support.arcanna`: the reference server for people to try the application against."""

import argparse
import threading

import boto3

from tests.support.arcanna.access import API_KEY, API_KEY_HEADER
from tests.support.arcanna.alerts import AlertSource, InMemoryAlerts, S3Alerts, labelled_alerts
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.arcanna.server import ArcannaServer


def main() -> None:
    arguments = _parse_arguments()
    job = Job(arguments.job_name, tuple(arguments.model))
    with ArcannaServer(
        {arguments.job_id: job},
        _alerts(arguments),
        behaviour=Behaviour(delay=arguments.delay, duration=arguments.duration),
        port=arguments.port,
    ) as server:
        query = f"job_id={arguments.job_id}&model_id={job.models[0]}"
        print(f"Arcanna reference server on {server.url} (described by {server.url}/openapi.json)")
        print(f"curl -H '{API_KEY_HEADER}: {API_KEY}' '{server.url}/api/v2/metrics/model?{query}'")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.arcanna", description=__doc__)
    parser.add_argument("--port", type=int, default=8666)
    parser.add_argument("--job-id", type=int, default=1234)
    parser.add_argument("--job-name", default="security-alerts")
    parser.add_argument("--model", nargs="+", default=["generic-1-1234-model-1747385873.hdf5"])
    parser.add_argument("--delay", type=float, default=2.0, help="seconds a recompute is queued")
    parser.add_argument("--duration", type=float, default=5.0, help="seconds a recompute takes")
    parser.add_argument(
        "--bucket",
        help="read labelled alerts from training-data/{job_id}/{model_id}/*.csv of this bucket "
        "(AWS_ENDPOINT_URL is honoured); without it, made-up ones are served",
    )
    return parser.parse_args()


def _alerts(arguments: argparse.Namespace) -> AlertSource:
    if arguments.bucket:
        return S3Alerts(boto3.client("s3"), arguments.bucket)
    made_up = InMemoryAlerts()
    accuracy = {"Drop": 0.95, "Investigate": 0.8, "Escalate": 0.7}
    for seed, model_id in enumerate(arguments.model):
        alerts = labelled_alerts(500, accuracy, seed=seed)
        made_up.put(arguments.job_id, model_id, "initial.csv", alerts)
    return made_up


if __name__ == "__main__":
    main()
