"""Customers' buckets without EventBridge: their notifications come by queue, by topic, or directly."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.scene import TRIGGER, Scene, alerts, in_queue
from tests.support.installation import Installation
from tests.support.waiting import eventually

Connect = Callable[[Installation, str], dict[str, Any]]
"""Connects a bucket to the stack. Returns the bucket's notification configuration."""

EVENTS = {"Events": ["s3:ObjectCreated:*"]}


def updates_queue_arn(here: Installation) -> str:
    return here.cloud.outputs["UpdatesQueueArn"]


def by_queue(here: Installation, _: str) -> dict[str, Any]:
    return {"QueueConfigurations": [{"QueueArn": updates_queue_arn(here), **EVENTS}]}


def by_topic(here: Installation, name: str, **attributes: str) -> dict[str, Any]:
    sns = here.cloud.client("sns")
    topic = sns.create_topic(Name=name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=updates_queue_arn(here), Attributes=attributes)
    return {"TopicConfigurations": [{"TopicArn": topic, **EVENTS}]}


def by_raw_topic(here: Installation, name: str) -> dict[str, Any]:
    return by_topic(here, name, RawMessageDelivery="true")


def directly(here: Installation, name: str) -> dict[str, Any]:
    functions = here.cloud.client("lambda")
    function = here.cloud.outputs["TriggerRecomputeFunction"]
    functions.add_permission(
        FunctionName=function,
        StatementId=name,
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{name}",
        SourceAccount="123456789012",
    )
    arn = functions.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    return {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, **EVENTS}]}


def connected(here: Installation, connect: Connect) -> str:
    """Creates a customer's bucket whose notifications come that way. Returns its name."""
    s3, name = here.cloud.client("s3"), f"customer-{connect.__name__.replace('_', '-')}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=connect(here, name))
    return name


@pytest.mark.parametrize("connect", [by_queue, by_topic, by_raw_topic, directly])
def test_upload_to_a_connected_bucket_leads_to_a_recompute(
    here: Installation, scene: Scene, connect: Connect
) -> None:
    bucket = connected(here, connect)
    key = scene.key("a+b c.csv")

    here.cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=alerts().encode())

    (execution,) = scene.ended(1)
    assert execution["status"] == "SUCCEEDED"
    cause = execution["run"]["cause"]
    assert cause["kind"] == "upload"
    assert cause["examples"] == [{"bucket": bucket, "key": key, "version_id": None}]
    scene.until_rest()
    assert len(scene.posts()) == 1


def by_queue_alone(here: Installation, name: str) -> dict[str, Any]:
    return by_queue(here, name)


def by_topic_alone(here: Installation, name: str) -> dict[str, Any]:
    return by_topic(here, name)


@pytest.mark.parametrize("connect", [by_queue_alone, by_topic_alone])
def test_s3_test_event_of_a_connected_bucket_is_neither_update_nor_dead_letter(
    here: Installation, connect: Connect
) -> None:
    before = len(here.cloud.executions())
    seen = _test_events(here)
    connected(here, connect)

    eventually("S3's test event", lambda: _test_events(here) > seen)
    eventually("its end", lambda: not in_queue(here))

    assert len(here.cloud.executions()) == before
    assert not [c for c in here.cloud.calls if c.service == "sqs" and "s3:TestEvent" in str(c.parameters)]


def _test_events(here: Installation) -> int:
    """How many of S3's test events the trigger has ignored so far."""
    return sum(record.get("reason") == "s3:TestEvent" for record in here.cloud.log_records(TRIGGER))
