"""Events of S3, CloudTrail, Step Functions, schedules and SNS, as AWS documents them.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/cloudtrail-logging-s3-info.html
https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
"""

import json
from typing import Any

BUCKET = "amzn-s3-demo-bucket"
KEY = "training-data/1234/alerts.csv"
TIME = "2025-01-15T14:30:00Z"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:training-data"

NOTIFICATIONS_OF_NEW_OBJECTS = (
    "ObjectCreated:Put",
    "ObjectCreated:Post",
    "ObjectCreated:Copy",
    "ObjectCreated:CompleteMultipartUpload",
)

OTHER_NOTIFICATIONS = {
    "ReducedRedundancyLostObject": "2.1",
    "ObjectRemoved:Delete": "2.1",
    "ObjectRemoved:DeleteMarkerCreated": "2.1",
    "ObjectRestore:Post": "2.1",
    "ObjectRestore:Completed": "2.1",
    "ObjectRestore:Delete": "2.3",
    "Replication:OperationFailedReplication": "2.2",
    "Replication:OperationMissedThreshold": "2.2",
    "Replication:OperationReplicatedAfterThreshold": "2.2",
    "Replication:OperationNotTracked": "2.2",
    "LifecycleExpiration:Delete": "2.3",
    "LifecycleExpiration:DeleteMarkerCreated": "2.3",
    "LifecycleTransition": "2.3",
    "IntelligentTiering": "2.3",
    "ObjectTagging:Put": "2.3",
    "ObjectTagging:Delete": "2.3",
    "ObjectAcl:Put": "2.3",
}
"""Event types, and the versions of their notifications."""

MORE_IN_NOTIFICATIONS: dict[str, dict[str, Any]] = {
    "ObjectRestore:Completed": {
        "glacierEventData": {
            "restoreEventData": {
                "lifecycleRestorationExpiryTime": "1970-01-01T00:01:00.000Z",
                "lifecycleRestoreStorageClass": "standard",
            }
        }
    },
    "Replication:OperationFailedReplication": {
        "replicationEventData": {
            "replicationRuleId": "rule",
            "destinationBucket": "arn:aws:s3:::amzn-s3-demo-bucket2",
            "s3Operation": "OBJECT_PUT",
            "requestTime": TIME,
            "failureReason": "AssumeRoleNotPermitted",
        }
    },
    "LifecycleTransition": {
        "lifecycleEventData": {"transitionEventData": {"destinationStorageClass": "GLACIER"}}
    },
    "IntelligentTiering": {"intelligentTieringEventData": {"destinationAccessTier": "ARCHIVE_ACCESS"}},
}

OTHER_EVENTS = {
    "Object Deleted": {"reason": "DeleteObject", "deletion-type": "Permanently Deleted"},
    "Object Restore Initiated": {"source-storage-class": "GLACIER"},
    "Object Restore Completed": {"restore-expiry-time": TIME, "source-storage-class": "GLACIER"},
    "Object Restore Expired": {},
    "Object Storage Class Changed": {"destination-storage-class": "GLACIER"},
    "Object Access Tier Changed": {"destination-access-tier": "ARCHIVE_ACCESS"},
    "Object ACL Updated": {},
    "Object Tags Added": {},
    "Object Tags Deleted": {},
}
"""Detail-types that do not report a new object, and the fields of their details."""


def notification(name: str, version: str = "2.1", **changes: Any) -> dict[str, Any]:
    """An S3 notification of one record. Deletions have no size; `changes` are of the object."""
    found: dict[str, Any] = {"key": KEY, "sequencer": "0055AED6DCD90281E5"}
    if not name.startswith(("ObjectRemoved", "LifecycleExpiration")):
        found |= {"size": 1024, "eTag": "b1946ac92492d2347c6235b4d2611184"}
    record: dict[str, Any] = {
        "eventVersion": version,
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": TIME,
        "eventName": name,
        "userIdentity": {"principalId": "EXAMPLE"},
        "requestParameters": {"sourceIPAddress": "192.0.2.7"},
        "responseElements": {"x-amz-request-id": "EXAMPLE", "x-amz-id-2": "EXAMPLE"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "training-data",
            "bucket": {
                "name": BUCKET,
                "ownerIdentity": {"principalId": "EXAMPLE"},
                "arn": f"arn:aws:s3:::{BUCKET}",
            },
            "object": found | changes,
        },
    }
    return {"Records": [record | MORE_IN_NOTIFICATIONS.get(name, {})]}


def event(source: str, detail_type: str, detail: Any) -> dict[str, Any]:
    """An event by EventBridge."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": detail_type,
        "source": source,
        "account": "123456789012",
        "time": TIME,
        "region": "eu-central-1",
        "resources": [],
        "detail": detail,
    }


def s3_event(detail_type: str, **more: Any) -> dict[str, Any]:
    """An S3 event by EventBridge."""
    return event(
        "aws.s3",
        detail_type,
        {
            "version": "0",
            "event-version": "1.1",
            "bucket": {"name": BUCKET},
            "object": {"key": KEY, "size": 1024, "etag": "b1946ac92492d2347c6235b4d2611184"},
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            **more,
        },
    )


def api_call(name: str, source: str = "aws.s3", **more: Any) -> dict[str, Any]:
    """CloudTrail's event about a call of the S3 API. `more` are further fields of the record."""
    return event(
        source,
        "AWS API Call via CloudTrail",
        {
            "eventVersion": "1.09",
            "userIdentity": {"type": "AssumedRole", "principalId": "EXAMPLE"},
            "eventTime": TIME,
            "eventSource": "s3.amazonaws.com",
            "eventName": name,
            "awsRegion": "eu-central-1",
            "requestParameters": {"bucketName": BUCKET, "Host": f"{BUCKET}.s3.amazonaws.com", "key": KEY},
            "responseElements": None,
            "additionalEventData": {
                "SignatureVersion": "SigV4",
                "bytesTransferredIn": 1024 if name in ("PutObject", "PostObject", "UploadPart") else 0,
            },
            "readOnly": False,
            "eventType": "AwsApiCall",
            **more,
        },
    )


def status_change(status: str, execution_input: str | None, **more: Any) -> dict[str, Any]:
    """A Step Functions Execution Status Change."""
    arn = "arn:aws:states:eu-central-1:123456789012:execution:recompute:6f1c1d0a"
    detail = {
        "executionArn": arn,
        "stateMachineArn": "arn:aws:states:eu-central-1:123456789012:stateMachine:recompute",
        "name": "6f1c1d0a",
        "status": status,
        "startDate": 1736951441000,
        "stopDate": None if status in ("RUNNING", "PENDING_REDRIVE") else 1736951700000,
        "input": execution_input,
        "output": None,
        "inputDetails": {"included": execution_input is not None},
        "outputDetails": None,
        **more,
    }
    return event("aws.states", "Step Functions Execution Status Change", detail)


def subscription_notice(kind: str) -> dict[str, Any]:
    """The message that a queue receives when it is subscribed to a topic, or unsubscribed."""
    return {
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "EXAMPLE",
        "TopicArn": TOPIC,
        "Message": "To confirm the subscription, visit the SubscribeURL included in this message.",
        "SubscribeURL": f"https://sns.example/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=EXAMPLE",
        "Timestamp": TIME,
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.example/SimpleNotificationService-EXAMPLE.pem",
    }


def in_sns(message: Any) -> dict[str, Any]:
    """An SNS notification as a queue receives it without raw message delivery."""
    return {
        "Type": "Notification",
        "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
        "TopicArn": TOPIC,
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message),
        "Timestamp": TIME,
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.example/SimpleNotificationService-EXAMPLE.pem",
        "UnsubscribeURL": "https://sns.example/?Action=Unsubscribe",
    }


def in_sns_to_lambda(message: Any) -> dict[str, Any]:
    """An SNS notification as a function receives it."""
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": f"{TOPIC}:EXAMPLE",
                "Sns": {**in_sns(message), "MessageAttributes": {}},
            }
        ]
    }
