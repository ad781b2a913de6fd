"""`make local`: the stack and the reference server on this machine, up until interrupted.

For `arcanna-metrics` to be tried on. Faults and behaviour of the platform are set over HTTP: see
tests/support/arcanna/control.py.
"""

import logging
import sys
import threading
from pathlib import Path

from arcanna_metrics_cli.process import run
from tests.support.arcanna.alerts import TYPICAL_ACCURACY, labelled_alerts
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.harness import installation
from tests.support.local_cloud.cloud import OPERATOR, REGION, STACK

JOBS = {
    1234: Job(name="security-alerts", models=("generic-1-1234-model-1747385873.hdf5",)),
    77: Job(name="phishing-triage", models=("generic-1-77-model-1751030400.hdf5",)),
}


def main(name: str) -> None:
    """What is built, the logs and a file of alerts are under build/`name`."""
    logging.getLogger("moto").setLevel(logging.CRITICAL)  # its interpreter logs every Choice as an error
    with installation(JOBS, Behaviour(delay=0.5, duration=3.0), name) as here:
        print(f"# The platform is at {here.arcanna.url}, the bucket is {here.bucket}.")
        print("# In another shell, for make status and the others, or arcanna-metrics; here, Ctrl-C ends it:")
        print("unset AWS_PROFILE AWS_DEFAULT_PROFILE HTTP_PROXY http_proxy")
        print(
            f"export AWS_ENDPOINT_URL={here.cloud.url} AWS_REGION={REGION} AWS_DEFAULT_REGION={REGION}"
            f" AWS_ACCESS_KEY_ID={OPERATOR} AWS_SECRET_ACCESS_KEY=local"
            f" STACK={STACK} ARCANNA_METRICS_STACK={STACK}",
        )
        alerts = Path("build", name, "alerts.csv")
        alerts.write_text(labelled_alerts(400, TYPICAL_ACCURACY, seed=1))
        print("# And for training data:")
        print(f"aws s3 cp {alerts} s3://{here.bucket}/training-data/1234/{JOBS[1234].models[0]}/", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    run(lambda: main(*(sys.argv[1:] or ["local"])))
