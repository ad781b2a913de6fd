"""A stack of moto that counts as deployed, and the commands on it."""

import json
from typing import Any

from arcanna_metrics_cli.deployed import Deployed
from tests.support import command
from tests.support.command import Ended
from tests.support.doubles import Stack, client

NAME = "the-stack"


def deployed(stack: Stack, **outputs: str) -> Deployed:
    """A CloudFormation stack whose outputs name the resources."""
    named = {
        "UpdatesQueueUrl": stack.updates_url,
        "DeadLetterQueueUrl": stack.dead_letter_url,
        "LedgerTable": stack.ledger_table,
        "RecomputeWorkflowArn": stack.workflow_arn,
        "SettingsParameter": stack.settings_parameter,
        "DashboardLink": "https://eu-central-1.console.aws.amazon.com/cloudwatch",
        **outputs,
    }
    template = {
        # Of a type that the local cloud leaves to moto, in case it runs in this process.
        "Resources": {"Any": {"Type": "AWS::Kinesis::Stream", "Properties": {"ShardCount": 1}}},
        "Outputs": {name: {"Value": value} for name, value in named.items()},
    }
    cloudformation: Any = client("cloudformation")
    cloudformation.create_stack(StackName=NAME, TemplateBody=json.dumps(template))
    return Deployed(NAME)


def fill(stack: Stack, number: int) -> list[str]:
    """Sends that many dead letters. Returns their bodies."""
    bodies = [json.dumps({"job_id": job_id}) for job_id in range(number)]
    for body in bodies:
        attributes: Any = {
            "reason": {"DataType": "String", "StringValue": "PlatformUnavailable"},
            "detail": {"DataType": "String", "StringValue": "no answer"},
        }
        stack.sqs.send_message(QueueUrl=stack.dead_letter_url, MessageBody=body, MessageAttributes=attributes)
    return bodies


def run(*arguments: str, typed: str = "", width: int = 80) -> Ended:
    return command.run(*arguments, "--stack", NAME, typed=typed, width=width)
