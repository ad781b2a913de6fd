"""A deployed stack, found by its name, with the credentials, the region and the endpoint that boto3 finds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config
from botocore.exceptions import ClientError

from arcanna_metrics.ledger import PLACES
from arcanna_metrics.times import to_iso
from tests.operate.letters import DeadLetter, dead_letter

INVOCATION = 150
"""Seconds to wait for the trigger's answer: longer than its timeout, or boto3 would invoke it twice."""
PEEK = 30
"""Seconds for which messages are hidden while they are looked at."""


class NotDeployed(Exception):
    """There is no such stack, or it is none of this application."""


class Deployed:
    """The calls that the commands make. All raise botocore's ClientError and BotoCoreError."""

    def __init__(self, name: str) -> None:
        """Raises NotDeployed."""
        self.name = name
        self._session: Any = boto3.Session()
        try:
            (stack,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            region = self._session.region_name
            raise NotDeployed(
                f"there is no stack {name!r} in {region}: deploy it, or give STACK=..."
            ) from error
        self.status: str = stack["StackStatus"]
        self.parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", [])}
        self._outputs = {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}

    def output(self, name: str) -> str:
        """An output of the stack. Raises NotDeployed."""
        try:
            return str(self._outputs[name])
        except KeyError:
            raise NotDeployed(
                f"the stack {self.name!r} has no output {name}: it is {self.status}, or another one"
            ) from None

    # --- The ledger and the runs ---------------------------------------------------------------------------

    def ledger(self, job_id: str | None, model_id: str | None) -> list[dict[str, Any]]:
        """The items of these models, or of all, as plain values."""
        dynamodb, table = self._client("dynamodb"), self.output("LedgerTable")
        if job_id is None:
            pages = dynamodb.get_paginator("scan").paginate(TableName=table)
        else:
            pages = dynamodb.get_paginator("query").paginate(
                TableName=table,
                KeyConditionExpression="job_id = :job",
                ExpressionAttributeValues={":job": {"S": job_id}},
            )
        plain = TypeDeserializer().deserialize
        items = [{name: plain(v) for name, v in item.items()} for page in pages for item in page["Items"]]
        models = [item for item in items if item["job_id"] != PLACES]
        return [item for item in models if model_id in (None, item["model_id"])]

    def forget_reference(self, job_id: str, model_id: str, now: float) -> str | None:
        """Forgets what a model is judged by, so that this is taken anew; else says why not."""
        dynamodb = self._client("dynamodb")
        try:
            dynamodb.update_item(
                TableName=self.output("LedgerTable"),
                Key={"job_id": {"S": job_id}, "model_id": {"S": model_id}},
                UpdateExpression="REMOVE quality_reference",
                # A run writes at its end what it was given at its start.
                ConditionExpression="attribute_exists(job_id)"
                " AND (attribute_not_exists(run_id) OR lease_expires_at < :now)",
                ExpressionAttributeValues={":now": {"S": to_iso(now)}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except dynamodb.exceptions.ConditionalCheckFailedException as refused:
            if "Item" in refused.response:
                return "A run of the model is under way: try again when it has ended."
            return "The ledger knows no such model: make status shows those that it knows."
        return None

    def execution(self, run_id: str) -> dict[str, Any] | None:
        """The execution that follows a run; None where there is none, or none any more."""
        states = self._client("stepfunctions")
        try:
            return dict(states.describe_execution(executionArn=self._execution_arn(run_id)))
        except states.exceptions.ExecutionDoesNotExist:
            return None

    def events_after(self, run_id: str, event_id: int) -> list[dict[str, Any]]:
        """The events of a run's execution that are newer than the one of that id, oldest first."""
        pages = (
            self._client("stepfunctions")
            .get_paginator("get_execution_history")
            .paginate(executionArn=self._execution_arn(run_id), reverseOrder=True)
        )
        newest_first = (event for page in pages for event in page["events"])
        return list(takewhile(lambda event: event["id"] > event_id, newest_first))[::-1]

    def _execution_arn(self, run_id: str) -> str:
        return f"{self.output('RecomputeWorkflowArn').replace(':stateMachine:', ':execution:')}:{run_id}"

    def invoke_trigger(self, event: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """What the trigger answers, and whether it failed: then the answer is Lambda's of an error."""
        unrepeated = Config(read_timeout=INVOCATION, retries={"total_max_attempts": 1})
        answer = self._client("lambda", unrepeated).invoke(
            FunctionName=self.output("TriggerRecomputeFunction"), Payload=json.dumps(event)
        )
        return json.loads(answer["Payload"].read()), "FunctionError" in answer

    # --- The queues ----------------------------------------------------------------------------------------

    def messages(self, queue: str) -> dict[str, int]:
        """How many messages the queue of that output has: visible, put off, in work."""
        counts = self._client("sqs").get_queue_attributes(
            QueueUrl=self.output(queue), AttributeNames=["All"]
        )["Attributes"]
        kinds = {"visible": "", "put off": "Delayed", "in work": "NotVisible"}
        return {kind: int(counts[f"ApproximateNumberOfMessages{name}"]) for kind, name in kinds.items()}

    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters. They stay where they are, hidden for PEEK seconds or until `put_back`."""
        sqs, url = self._client("sqs"), self.output("DeadLetterQueueUrl")
        found: dict[str, DeadLetter] = {}
        while received := sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=PEEK,
            WaitTimeSeconds=1,  # asks all of SQS's servers, so that an empty answer means that there are none
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages"):
            known = len(found)
            found |= {message["MessageId"]: dead_letter(message) for message in received}
            if len(found) == known:  # there are so many that the first can be seen again
                break
        return list(found.values())

    def put_back(self, letters: Sequence[DeadLetter]) -> None:
        """Makes dead letters visible at once, where they are not so again already."""
        for n in range(0, len(letters), 10):
            # SQS answers which ones it refused: those that are visible, which is all that is wanted.
            self._client("sqs").change_message_visibility_batch(
                QueueUrl=self.output("DeadLetterQueueUrl"),
                Entries=[
                    {"Id": str(number), "ReceiptHandle": letter.handle, "VisibilityTimeout": 0}
                    for number, letter in enumerate(letters[n : n + 10])
                ],
            )

    def redrive(self, letters: Sequence[DeadLetter]) -> Iterator[DeadLetter]:
        """Sends each into the updates queue, and only then deletes it: nothing is lost in between."""
        sqs = self._client("sqs")
        for letter in letters:
            sqs.send_message(QueueUrl=self.output("UpdatesQueueUrl"), MessageBody=letter.update)
            sqs.delete_message(QueueUrl=self.output("DeadLetterQueueUrl"), ReceiptHandle=letter.handle)
            yield letter

    # --- What the stack stands on --------------------------------------------------------------------------

    def routes(self) -> str:
        """The routes as they are written in the SSM parameter."""
        answer = self._client("ssm").get_parameter(Name=self.output("RoutesParameter"))
        return str(answer["Parameter"]["Value"])

    def bucket_notifications(self) -> dict[str, Any]:
        """Of the bucket with the training data, as S3 answers them."""
        bucket = self.output("TrainingDataBucket")
        return dict(self._client("s3").get_bucket_notification_configuration(Bucket=bucket))

    def event_source_states(self) -> list[str]:
        """Of what brings the updates to the trigger: Enabled, Disabled, Creating, ..."""
        # By the queue alone: where deployments are gradual, it invokes an alias of the trigger.
        queue = self.output("UpdatesQueueArn")
        answer = self._client("lambda").list_event_source_mappings(EventSourceArn=queue)
        return [mapping["State"] for mapping in answer["EventSourceMappings"]]

    def schedule_state(self) -> str:
        """ENABLED or DISABLED."""
        resource = self._client("cloudformation").describe_stack_resource(
            StackName=self.name, LogicalResourceId="RecomputeSchedule"
        )["StackResourceDetail"]
        return str(self._client("scheduler").get_schedule(Name=resource["PhysicalResourceId"])["State"])

    def subscriptions(self) -> list[dict[str, Any]]:
        """Of the notification topic, as SNS lists them."""
        pages = self._client("sns").get_paginator("list_subscriptions_by_topic")
        topic = self.output("NotificationTopicArn")
        return [s for page in pages.paginate(TopicArn=topic) for s in page["Subscriptions"]]

    def _client(self, service: str, config: Config | None = None) -> Any:
        return self._session.client(service, config=config)
