"""A deployed stack, found by its name, with the credentials, the region and the endpoint that boto3 finds."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cached_property
from itertools import takewhile
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from arcanna_metrics.aws import aws_call
from arcanna_metrics.errors import AwsUnavailable, ConfigurationError
from arcanna_metrics.protocol import slots
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import DUE_INDEX, NO_JOB, UNREADABLE, Ledger, key_of, to_entry, to_target
from arcanna_metrics.settings import parse_settings
from arcanna_metrics.targets import Target, is_id
from arcanna_metrics.workflow import Workflow
from arcanna_metrics_cli import executions
from arcanna_metrics_cli.entries import Standing, UnderWay, agreeing, standing
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.letters import DeadLetter, dead_letter
from arcanna_metrics_cli.links import Links
from arcanna_metrics_cli.words import did_you_mean

INVOCATION = 150
"""Seconds to wait for the trigger's answer: longer than its timeout, or boto3 would invoke it twice."""
PEEK = 30
"""Seconds for which messages are hidden while they are read."""
DECISION = 3600
"""Seconds for which they are hidden while somebody decides about them. If another reader, such as a report,
received one meanwhile, SQS would say that it deletes it for us, and keep it."""
BOUNDED = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
"""For every call, so that people do not wait for minutes if AWS cannot be reached."""
UNREPEATED = Config(connect_timeout=5, read_timeout=INVOCATION, retries={"total_max_attempts": 1})
"""For an invocation of the trigger."""


def session(region: str | None = None, profile: str | None = None) -> boto3.Session:
    """A session in the given region, in the one that boto3 finds, or in AWS_REGION, which boto3 ignores."""
    found = boto3.Session(region_name=region, profile_name=profile)
    if found.region_name or not (region := os.environ.get("AWS_REGION")):
        return found
    return boto3.Session(region_name=region, profile_name=profile)


class NotDeployed(Trouble):
    """There is no such stack, or it belongs to another application."""

    def __init__(self, message: str, todo: str) -> None:
        super().__init__(Exit.NO_ACCESS, message, todo)


class Deployed:
    """One stack, and the AWS calls that commands make to it. All raise ClientError and BotoCoreError."""

    def __init__(self, name: str, region: str | None = None, profile: str | None = None) -> None:
        """Raises NotDeployed."""
        self.name = name
        self._session: Any = session(region, profile)
        self._clients: dict[tuple[str, Config], Any] = {}
        self.region = str(self._session.region_name)
        try:
            (stack,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            raise NotDeployed(
                f"There is no stack {name!r} in {self.region}.",
                f"{self._others()}--stack NAME and --region NAME choose another; make deploy creates one",
            ) from error
        self.id: str = stack["StackId"]
        self.status: str = stack["StackStatus"]
        self.parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", [])}
        self._outputs = {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}

    def _others(self) -> str:
        """A sentence with the stacks of this application that have a similar name; may be empty."""
        try:
            pages = self._client("cloudformation").get_paginator("describe_stacks").paginate()
            named = [
                stack["StackName"]
                for page in pages
                for stack in page["Stacks"]
                if any(o["OutputKey"] == "RecomputeWorkflowArn" for o in stack.get("Outputs", []))
            ]
        except (BotoCoreError, ClientError):  # only a hint, and it needs another permission
            return ""
        return f"{hint} " if (hint := did_you_mean(self.name, named)) else ""

    def output(self, name: str) -> str:
        """An output of the stack. Raises NotDeployed."""
        try:
            return str(self._outputs[name])
        except KeyError:
            raise NotDeployed(
                f"The stack {self.name!r} has no output {name}: it is {self.status}, or another application.",
                "--stack NAME chooses another; if a deployment failed, see the stack's events",
            ) from None

    @property
    def links(self) -> Links:
        """The console's pages about the stack."""
        return Links.of(self.id)

    @property
    def trigger_log(self) -> str:
        """The console's page of the trigger's log."""
        return self.links.logs(f"/aws/lambda/{self.name}-trigger-recompute")

    def caller(self) -> tuple[str, float]:
        """The ARN of the caller, and the time by AWS's clock (epoch seconds, rounded down to whole ones)."""
        answer = self._client("sts").get_caller_identity()
        date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        return str(answer["Arn"]), parsedate_to_datetime(date).timestamp()

    # --- The ledger and the runs ---------------------------------------------------------------------------

    def readable_entries(self) -> tuple[list[Entry], list[Trouble]]:
        """The entries that can be read, and what is wrong with each of the others."""
        pages = self._client("dynamodb").get_paginator("scan").paginate(TableName=self.output("LedgerTable"))
        items = [item for page in pages for item in page["Items"] if item["job_id"]["S"] != NO_JOB]
        entries, troubles = [], []
        for item in items:
            try:
                with self._readable(target := to_target(item)):
                    entries.append(_understood(to_entry(target, item)))
            except Trouble as trouble:
                troubles.append(trouble)
        return entries, troubles

    def hints(self) -> list[Entry]:
        """The entries that can be read, to suggest names: none if the caller may not search the ledger."""
        try:
            return self.readable_entries()[0]
        except (BotoCoreError, ClientError):
            return []

    @contextmanager
    def _readable(self, target: Target) -> Iterator[None]:
        """Raises Trouble if the target's item cannot be read, because somebody has edited it."""
        try:
            yield
        except (*UNREADABLE, AttributeError) as error:
            raise Trouble(
                Exit.WRONG,
                f"The item of {target} in the table {self.output('LedgerTable')} cannot be read: {error}.",
                "Mend it as functions/README.md describes it, or delete it: what waits in it is then lost",
            ) from error

    def entry(self, target: Target) -> Entry:
        """The target's entry, read consistently. Raises AwsUnavailable, and Trouble if it cannot be read."""
        with self._readable(target):
            return _understood(self._ledger.read(target))

    def home(self, target: Target) -> Target:
        """The target under its job's id, if the ledger knows the job's name. Raises as `entry` does."""
        job_id, model_id = target
        known = (
            None if is_id(job_id) else self.entry(target).name_of or self.entry(Target(job_id, None)).name_of
        )
        return Target(known or job_id, model_id)

    def apply(self, target: Target, transition: Callable[[Entry], Entry]) -> Entry:
        """Applies the transition to the target's entry, see Ledger.apply. Raises as `entry` does."""
        with self._readable(target):
            return self._ledger.apply(target, transition)

    def delete(self, entry: Entry) -> bool:
        """Deletes an entry. Returns False if it has changed since it was read. Raises AwsUnavailable."""
        dynamodb = self._client("dynamodb")
        with aws_call("delete from the ledger"):
            try:
                dynamodb.delete_item(
                    TableName=self.output("LedgerTable"),
                    Key=key_of(entry.target),
                    ConditionExpression="rev = :rev",
                    ExpressionAttributeValues={":rev": {"N": str(entry.rev)}},
                )
            except dynamodb.exceptions.ConditionalCheckFailedException:
                return False
        return True

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self._client("dynamodb"), self.output("LedgerTable"), time.time)

    def execution(self, run_id: str, number: int | None = None) -> dict[str, Any] | None:
        """A run's execution with this number, by default the first; None if there is none, or no longer."""
        states = self._client("stepfunctions")
        try:
            return dict(states.describe_execution(executionArn=self._execution_arn(run_id, number)))
        except states.exceptions.ExecutionDoesNotExist:
            return None

    def under_way(self, entry: Entry) -> UnderWay | None:
        """The run under way, from its execution; None if there is no run, or no execution yet or any more."""
        claim = entry.claim
        execution = self.execution(claim.run_id, claim.number) if claim else None
        return executions.under_way(execution) if execution else None

    def standings(
        self, entries: Iterable[Entry], runs: Iterable[UnderWay | None], now: float
    ) -> list[Standing]:
        """The state of each entry's target. `runs` are the runs under way, in the same order."""
        lag, full = float(self.parameters.get("VisibilityLagSeconds", 0)), self.slots_taken()
        return agreeing(
            standing(entry, now, lag, run, slots_taken=full) for entry, run in zip(entries, runs, strict=True)
        )

    def events_after(self, run_id: str, number: int, event_id: int) -> list[dict[str, Any]]:
        """The events of an execution that follow the one with this id, oldest first. Empty if it is gone."""
        states = self._client("stepfunctions")
        pages = states.get_paginator("get_execution_history").paginate(
            executionArn=self._execution_arn(run_id, number), reverseOrder=True
        )
        newest_first = (event for page in pages for event in page["events"])
        try:
            return list(takewhile(lambda event: event["id"] > event_id, newest_first))[::-1]
        except states.exceptions.ExecutionDoesNotExist:
            return []

    def execution_link(self, run_id: str, number: int | None = None) -> str:
        """The console's page of a run's execution with this number, by default of the first."""
        return self.links.execution(self._execution_arn(run_id, number))

    def _execution_arn(self, run_id: str, number: int | None) -> str:
        return Workflow(self._client("stepfunctions"), self.output("RecomputeWorkflowArn")).arn(
            run_id, number or 0
        )

    def invoke_trigger(self, event: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """The trigger's answer, and whether it failed. If it failed, the answer is Lambda's error."""
        answer = self._client("lambda", UNREPEATED).invoke(
            FunctionName=self.output("TriggerRecomputeFunction"), Payload=json.dumps(event)
        )
        return json.loads(answer["Payload"].read()), "FunctionError" in answer

    # --- The queues ----------------------------------------------------------------------------------------

    def messages(self, queue: str) -> dict[str, int]:
        """How many messages a queue has, by state: visible, delayed, in progress. `queue` is its output."""
        counts = self._client("sqs").get_queue_attributes(
            QueueUrl=self.output(queue), AttributeNames=["All"]
        )["Attributes"]
        kinds = {"visible": "", "delayed": "Delayed", "in progress": "NotVisible"}
        return {kind: int(counts[f"ApproximateNumberOfMessages{name}"]) for kind, name in kinds.items()}

    def dead_letters(self, hidden: int = PEEK) -> list[DeadLetter]:
        """All dead letters. They stay in their queue, hidden for so many seconds or until `put_back`."""
        sqs, url = self._client("sqs"), self.output("DeadLetterQueueUrl")
        found: dict[str, DeadLetter] = {}
        while received := sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=hidden,
            WaitTimeSeconds=1,  # asks all of SQS's servers, so an empty answer means an empty queue
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages"):
            known = len(found)
            found |= {message["MessageId"]: dead_letter(message) for message in received}
            if len(found) == known:  # so many that the first ones are visible again
                break
        return list(found.values())

    def put_back(self, letters: Sequence[DeadLetter]) -> None:
        """Makes dead letters visible at once, unless they already are."""
        for n in range(0, len(letters), 10):
            # SQS refuses only messages that are visible already. It reports these, and nothing is to be done.
            self._client("sqs").change_message_visibility_batch(
                QueueUrl=self.output("DeadLetterQueueUrl"),
                Entries=[
                    {"Id": str(number), "ReceiptHandle": letter.handle, "VisibilityTimeout": 0}
                    for number, letter in enumerate(letters[n : n + 10])
                ],
            )

    def redrive(self, letter: DeadLetter) -> None:
        """Sends a dead letter to the updates queue, and deletes it only then, so that it is not lost.

        A sweep is only deleted, because there is a new one every minute.
        """
        if not letter.is_sweep:
            self._client("sqs").send_message(
                QueueUrl=self.output("UpdatesQueueUrl"), MessageBody=letter.update
            )
        self.discard(letter)

    def discard(self, letter: DeadLetter) -> None:
        """Deletes a dead letter for good."""
        self._client("sqs").delete_message(
            QueueUrl=self.output("DeadLetterQueueUrl"), ReceiptHandle=letter.handle
        )

    # --- Settings and resources ----------------------------------------------------------------------------

    @property
    def settings_parameter(self) -> str:
        """The name of the SSM parameter with the settings."""
        return self.output("SettingsParameter")

    def slots_taken(self) -> bool:
        """Whether all slots are known to be taken."""
        try:
            limit = parse_settings(self.settings()).shared.pace.slots
            return limit > 0 and len(slots.taken(self._ledger, limit).takers) >= limit
        except (BotoCoreError, ClientError, AwsUnavailable, ConfigurationError, *UNREADABLE):  # only a hint
            return False

    def settings(self) -> str:
        """The document in the SSM parameter."""
        answer = self._client("ssm").get_parameter(Name=self.settings_parameter)
        return str(answer["Parameter"]["Value"])

    def put_settings(self, text: str) -> None:
        """Replaces the document."""
        self._client("ssm").put_parameter(
            Name=self.settings_parameter,
            Value=text,
            Overwrite=True,
            Tier="Intelligent-Tiering",  # the default may be the standard tier, which takes 4 KB only
        )

    def bucket_region(self) -> str:
        """The region of the bucket with the training data."""
        answer = self._client("s3").head_bucket(Bucket=self.output("TrainingDataBucket"))
        return str(answer["BucketRegion"])

    def bucket_notifications(self) -> dict[str, Any]:
        """The notification configuration of the bucket with the training data, as S3 answers it."""
        bucket = self.output("TrainingDataBucket")
        return dict(self._client("s3").get_bucket_notification_configuration(Bucket=bucket))

    def event_source_states(self) -> list[str]:
        """The states of the trigger's event source mappings: Enabled, Disabled, Creating, ..."""
        queue = self.output("UpdatesQueueArn")
        answer = self._client("lambda").list_event_source_mappings(EventSourceArn=queue)
        return [mapping["State"] for mapping in answer["EventSourceMappings"]]

    def index_status(self) -> str | None:
        """The status of the index of what is due: ACTIVE, CREATING, ...; None if it does not exist."""
        table = self._client("dynamodb").describe_table(TableName=self.output("LedgerTable"))["Table"]
        indexes = table.get("GlobalSecondaryIndexes", [])
        return next((str(i["IndexStatus"]) for i in indexes if i["IndexName"] == DUE_INDEX), None)

    def schedule_state(self, logical_id: str) -> str:
        """ENABLED or DISABLED: the state of the schedule with this name in the template."""
        resource = self._client("cloudformation").describe_stack_resource(
            StackName=self.name, LogicalResourceId=logical_id
        )["StackResourceDetail"]
        return str(self._client("scheduler").get_schedule(Name=resource["PhysicalResourceId"])["State"])

    def subscriptions(self) -> list[dict[str, Any]]:
        """The subscriptions of the notification topic, as SNS lists them."""
        pages = self._client("sns").get_paginator("list_subscriptions_by_topic")
        topic = self.output("NotificationTopicArn")
        return [s for page in pages.paginate(TopicArn=topic) for s in page["Subscriptions"]]

    def _client(self, service: str, config: Config = BOUNDED) -> Any:
        if (service, config) not in self._clients:
            try:
                self._clients[service, config] = self._session.client(service, config=config)
            except BotoCoreError:  # some are ValueErrors
                raise
            except ValueError as error:  # such as for an endpoint without http://
                raise Trouble(
                    Exit.NO_ACCESS,
                    f"AWS's client for {service} cannot be set up: {error}.",
                    "Check AWS_ENDPOINT_URL, the other AWS_ variables, and ~/.aws/config",
                ) from error
        return self._clients[service, config]


def _understood(entry: Entry) -> Entry:
    """The entry, if its state can be told. Otherwise raises one of many errors."""
    standing(entry, now=0.0, visibility_lag=0.0)
    return entry
