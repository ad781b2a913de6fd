"""The sample's two functions: one requests a recompute, one asks whether it still runs."""

import os
from typing import Any

import boto3
import httpx

secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["ARCANNA_API_KEY_SECRET_ARN"])
arcanna = httpx.Client(
    base_url=os.environ["ARCANNA_BASE_URL"],
    headers={"X-Arcanna-Api-Key": secret["SecretString"]},
    timeout=20.0,
)


def request(event: dict[str, Any], context: object) -> dict[str, str]:
    """Requests a recompute of the uploaded object's model, and returns the model's ids."""
    _, job_id, model_id, _ = event["detail"]["object"]["key"].split("/")
    ids = {"job_id": job_id, "model_id": model_id}
    arcanna.post("/api/v2/metrics/model/request_recompute_metrics", params=ids).raise_for_status()
    return ids


def check(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Returns the model's ids, and whether a recompute of it is running."""
    ids = {"job_id": event["job_id"], "model_id": event["model_id"]}
    metrics = arcanna.get("/api/v2/metrics/model", params=ids).raise_for_status().json()
    return {**ids, "is_recomputing": metrics["is_recomputing_metrics"]}
