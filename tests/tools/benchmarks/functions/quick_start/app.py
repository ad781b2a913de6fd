"""A status check in the style of a quick-start template: same libraries, clients built at import."""

import os
from typing import Any

import boto3
import httpx
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger()
metrics = Metrics()
secrets = boto3.client("secretsmanager")
http = httpx.Client(base_url=os.environ["ARCANNA_BASE_URL"])


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> Any:
    """Returns the platform's metrics of the run's model."""
    secret = secrets.get_secret_value(SecretId=os.environ["ARCANNA_API_KEY_SECRET_ARN"])
    answer = http.get(
        "/api/v2/metrics/model",
        params={"job_id": event["run"]["job_id"], "model_id": event["run"]["model_id"]},
        headers={"X-Arcanna-Api-Key": secret["SecretString"]},
    )
    answer.raise_for_status()
    logger.info("status checked")
    metrics.add_metric(name="StatusChecks", unit=MetricUnit.Count, value=1)
    return answer.json()
