"""Checks the translated template for what a policy scanner looks for, and its alarms against the runbook."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from fnmatch import fnmatchcase
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from arcanna_metrics.errors import ApiKeyMissing, RetryLater
from tests.support.deployment import ROOT, resource, template
from tests.support.due_index import PROJECTED
from tests.support.local_cloud.resources import NAME_PROPERTIES
from tests.support.parameters import assert_rules, parameter_values
from tests.support.readme import anchor_of, runbook, section

KEPT = {
    "TrainingDataBucket": ("RetainExceptOnCreate", "Retain"),
    "TrainingDataBucketPolicy": ("RetainExceptOnCreate", "Retain"),
    "Ledger": ("RetainExceptOnCreate", "Retain"),
    "UpdatesQueue": ("Delete", "Retain"),
    "DeadLetterQueue": ("Delete", "Retain"),
    "ApiKeySecret": ("Delete", "Retain"),
    "SettingsParameter": ("Delete", "Retain"),
    "NotificationTopic": ("Delete", "Delete"),
    "NotificationKey": ("Delete", "Delete"),
    "TriggerRecomputeLogs": ("Delete", "Delete"),
    "CheckStatusLogs": ("Delete", "Delete"),
    "WorkflowLogs": ("Delete", "Delete"),
}
"""Data stores, and what happens to each when the stack is deleted, and when an update replaces it."""
UNLESS_STATED = ("Delete", "Delete")
STATEFUL = {
    *("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::SecretsManager::Secret"),
    *("AWS::SSM::Parameter", "AWS::SNS::Topic", "AWS::KMS::Key", "AWS::Logs::LogGroup"),
    "AWS::S3::BucketPolicy",
}
ADMITTED = ("events", "cloudwatch", "s3", "sns")
"""Services that resource policies may admit."""
ANY_RESOURCE = ("logs:", "ec2:Describe")
"""Actions without resource-level permissions: log delivery, descriptions of a network."""

OWN_ACCOUNT = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}

SETTINGS = json.loads((ROOT / "events/schemas/settings.schema.json").read_text())["properties"]
ENVIRONMENT_BYTES = 4096
"""Lambda's limit for a function's variables, as JSON, in bytes."""


@cache
def resources() -> dict[str, dict[str, Any]]:
    """The resources of the translated template, by logical id."""
    source: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())  # type: ignore[no-untyped-call]
    for given in source["Resources"].values():
        for name in {"CodeUri", "ContentUri", "DefinitionUri"} & given["Properties"].keys():
            given["Properties"][name] = "s3://bucket/key"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="eu-west-1"))
    parameters = {"ArcannaBaseUrl": "https://arcanna.example.com"}
    return dict(translator.translate(source, parameters)["Resources"])


def of_type(cfn_type: str) -> dict[str, dict[str, Any]]:
    """The properties of the resources of a type, by logical id. Asserts that there is one."""
    found = {name: r["Properties"] for name, r in resources().items() if r["Type"] == cfn_type}
    assert found
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "metrics",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/metrics/1a2b3c4d-11ee-8000",
}
PARAMETERS = {
    name: str(parameter.get("Default", "https://arcanna.example.com"))
    for name, parameter in template()["Parameters"].items()
}


def evaluated(value: Any, **given: str) -> str:
    """A text as CloudFormation evaluates it. `given` has values of references, with _ for ::."""
    known = PSEUDO | PARAMETERS | {name.replace("_", "::"): text for name, text in given.items()}
    match value:
        case {"Ref": str(name)}:
            return str(known[name])
        case {"Fn::Sub": str(pattern)}:
            return re.sub(r"\$\{([\w:.]+)\}", lambda found: known[found[1]], pattern)
        case {"Fn::Sub": [str(pattern), dict(named)]}:
            known |= {name: evaluated(inner, **given) for name, inner in named.items()}
            return re.sub(r"\$\{([\w:.]+)\}", lambda found: known[found[1]], pattern)
        case {"Fn::Select": [int(number), {"Fn::Split": [str(separator), text]}]}:
            return evaluated(text, **given).split(separator)[number]
        case {"Fn::FindInMap": [str(name), key, str(attribute)]}:
            return str(template()["Mappings"][name][evaluated(key, **given)][attribute])
        case {"Fn::If": [_, created, _]}:
            return evaluated(created, **given)
    assert isinstance(value, str), value
    return str(value)


def statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements of a policy, including conditional ones."""
    return [s["Fn::If"][1] if "Fn::If" in s else s for s in document["Statement"]]


def resource_policies() -> Iterator[dict[str, Any]]:
    """The statements of the policies of buckets, queues, topics and keys."""
    for found in resources().values():
        if found["Type"] == "AWS::IAM::ManagedPolicy":
            continue  # a role's policy
        properties = found["Properties"]
        document = properties.get("PolicyDocument") or properties.get("KeyPolicy")
        yield from statements(document) if document else []


def role_statements() -> Iterator[dict[str, Any]]:
    """The statements of the roles' own and shared policies."""
    for role in of_type("AWS::IAM::Role").values():
        for policy in role.get("Policies", []):
            yield from policy["PolicyDocument"]["Statement"]
    for policy in of_type("AWS::IAM::ManagedPolicy").values():
        yield from (s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow")


# --- Who may -----------------------------------------------------------------------------------------------


def test_resource_policies_admit_services_only_for_this_account() -> None:
    admitted = [s for s in resource_policies() if s["Effect"] == "Allow" and "Service" in s["Principal"]]
    assert admitted
    for statement in admitted:
        named = statement["Principal"]["Service"]
        services = [named] if isinstance(named, str) else named
        assert {service.removesuffix(".amazonaws.com") for service in services} <= set(ADMITTED)
        conditions = {key for condition in statement["Condition"].values() for key in condition}
        assert conditions & {"aws:SourceArn", "aws:SourceAccount"}


def queue_policy() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The queues' statements: those in force always, and those in force if senders are named."""
    (policy,) = of_type("AWS::SQS::QueuePolicy").values()
    given = policy["PolicyDocument"]["Statement"]
    named = [s["Fn::If"] for s in given if "Fn::If" in s]
    assert [(condition, other) for condition, _, other in named] == [
        ("AdmitSenders", {"Ref": "AWS::NoValue"})
    ] * len(named)
    return [s for s in given if s.get("Effect") == "Allow"], [statement for _, statement, _ in named]


def rule_arn(name: str, **given: str) -> str:
    """As EventBridge documents it: those of the default bus do not name it."""
    rule = of_type("AWS::Events::Rule")[name]
    bus = evaluated(rule.get("EventBusName", "default"), **given)
    parts = ["rule", *([bus] if bus != "default" else []), evaluated(rule["Name"], **given)]
    return f"arn:aws:events:eu-west-1:123456789012:{'/'.join(parts)}"


def admitted(**given: str) -> str:
    """The ARNs of rules that the queues admit, as a pattern."""
    (allowed,), _ = queue_policy()
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert list(allowed["Condition"]) == ["ArnLike"]
    return evaluated(allowed["Condition"]["ArnLike"]["aws:SourceArn"], **given)


ANOTHER_STACK = {
    "AWS_StackName": "other",
    "AWS_StackId": PSEUDO["AWS::StackId"].replace("1a2b3c4d", "5f6a7b8c"),
}


@pytest.mark.parametrize("bus", ["default", "security.events"])
@pytest.mark.parametrize("name", sorted(of_type("AWS::Events::Rule")))
def test_queues_admit_only_the_rules_of_this_stack(name: str, bus: str) -> None:
    assert fnmatchcase(rule_arn(name, EventBusName=bus), admitted())
    assert not fnmatchcase(rule_arn(name, EventBusName=bus, **ANOTHER_STACK), admitted())


def test_changed_bus_renames_its_rule() -> None:
    """CloudFormation replaces no resource that has a name of its own by another one of that name."""
    names = {
        rule_arn("TrainingDataEventRule", EventBusName=bus).rpartition("/")[2] for bus in ("a", "b", "c")
    }
    assert len(names) == 3


def references(value: Any) -> Iterator[str]:
    """The logical ids that a part of the template refers to."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::Sub": str(text)} | {"Fn::Sub": [str(text), _]}:
            yield from re.findall(r"\$\{(\w+)[.}]", text)
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from references(inner)


def created_before(name: str) -> set[str]:
    """The resources that CloudFormation creates before this one."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        resource_ = resources()[waiting.pop()]
        needed = {*references(resource_), *listed(resource_.get("DependsOn", []))} & resources().keys()
        waiting += needed - found
        found |= needed
    return found


def test_every_delivery_depends_on_its_resource_policy() -> None:
    for rule in of_type("AWS::Events::Rule"):
        assert "QueuePolicy" in created_before(rule)
    assert created_before("QueuePolicy") == {"UpdatesQueue", "DeadLetterQueue"}
    for schedule in of_type("AWS::Scheduler::Schedule"):
        assert "ScheduleRole" in created_before(schedule)  # the role contains its policy
    assert "TriggerRecomputeFunctionRole" in created_before("TriggerRecomputeFunctionUpdates")


def test_no_resource_depends_on_itself() -> None:
    for name in resources():
        assert name not in created_before(name)


def test_only_the_updates_queue_admits_named_buckets_topics_and_rules() -> None:
    _, named = queue_policy()
    assert [s["Principal"]["Service"] for s in named] == [
        "s3.amazonaws.com",
        ["sns.amazonaws.com", "events.amazonaws.com"],
    ]
    for statement in named:
        assert statement["Action"] == "sqs:SendMessage"
        assert statement["Resource"] == {"Fn::GetAtt": ["UpdatesQueue", "Arn"]}
        assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": {"Ref": "SenderArns"}}
        if statement["Principal"]["Service"] == "s3.amazonaws.com":  # anybody may own a bucket with that name
            own = {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
            assert statement["Condition"]["StringEquals"] == own


def test_no_resource_policy_admits_another_account() -> None:
    for statement in resource_policies():
        if statement["Effect"] == "Allow":
            assert statement["Principal"] != "*"
            assert "AWS" not in statement["Principal"] or "AccountId" in str(statement["Principal"]["AWS"])


@pytest.mark.parametrize(
    ("cfn_type", "policy_type", "names"),
    [
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"),
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"),
    ],
)
def test_access_without_tls_is_denied(cfn_type: str, policy_type: str, names: str) -> None:
    policies = of_type(policy_type).values()
    assert {ref["Ref"] for p in policies for ref in listed(p[names])} == set(of_type(cfn_type))
    for policy in policies:
        (denied,) = [s for s in statements(policy["PolicyDocument"]) if s["Effect"] == "Deny"]
        assert denied["Principal"] == "*"
        assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_no_bucket_is_public() -> None:
    for bucket in of_type("AWS::S3::Bucket").values():
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


SHARED = {"TriggerRecomputeFunctionRole", "CheckStatusFunctionRole"}
"""Roles with the policy for both functions."""


def test_roles_have_only_policies_written_in_the_template() -> None:
    for name, role in of_type("AWS::IAM::Role").items():
        assert role.get("ManagedPolicyArns", []) == ([{"Ref": "FunctionsPolicy"}] if name in SHARED else [])
    assert set(of_type("AWS::IAM::ManagedPolicy")) == {"FunctionsPolicy"}


def of_the_functions(sid: str) -> dict[str, Any]:
    """A statement of the policy for both functions."""
    given = of_type("AWS::IAM::ManagedPolicy")["FunctionsPolicy"]["PolicyDocument"]["Statement"]
    (statement,) = [s for s in given if s["Sid"] == sid]
    return dict(statement)


def test_roles_keep_the_permission_to_delete_network_interfaces() -> None:
    """Lambda deletes them with the role's permissions, minutes after the function has left the VPC."""
    assert "Condition" not in resources()["FunctionsPolicy"]
    writing, reading = of_the_functions("NetworkInterfaces"), of_the_functions("DescribeNetwork")
    assert {*writing["Action"], *reading["Action"]} == OF_LAMBDA_IN_A_VPC
    for function in of_type("AWS::Lambda::Function").values():
        assert function["Role"]["Fn::GetAtt"][0] in SHARED
        condition, _, otherwise = function["VpcConfig"]["Fn::If"]
        assert (condition, otherwise) == ("InVpc", {"Ref": "AWS::NoValue"})


def test_function_code_cannot_use_network_interface_permissions() -> None:
    denied = of_the_functions("NotTheFunctions")
    assert (denied["Effect"], denied["Action"], denied["Resource"]) == ("Deny", "ec2:*", "*")
    assert list(denied["Condition"]) == ["ArnLike"]
    assert list(denied["Condition"]["ArnLike"]) == ["lambda:SourceFunctionArn"]


OF_LAMBDA_IN_A_VPC = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}
"""The actions of AWS's policy AWSLambdaVPCAccessExecutionRole, without those on logs."""


def test_secret_with_another_key_account_or_region_can_be_decrypted() -> None:
    """Secrets Manager decrypts in the caller's name, and gives the secret's ARN as encryption context."""
    secret = {"Fn::If": ["CreateSecret", {"Ref": "ApiKeySecret"}, {"Ref": "ApiKeySecretArn"}]}
    assert of_the_functions("ApiKey")["Resource"] == secret
    decrypt = of_the_functions("ApiKeyUnderAnotherKey")
    assert decrypt["Action"] == "kms:Decrypt"
    assert decrypt["Condition"] == {
        "StringEquals": {"kms:EncryptionContext:SecretARN": secret},
        "StringLike": {"kms:ViaService": {"Fn::Sub": "secretsmanager.*.${AWS::URLSuffix}"}},
    }


@pytest.mark.parametrize(
    ("arn", "is_complete"),
    [
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:arcanna-AbC12d", True),
        ("arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:soc/arcanna!key_1+2=3.4@5-AbC12d", True),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:arcanna", False),
        ("arcanna-AbC12d", False),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:arcanna-AbC12d:key::", False),
    ],
)
def test_secret_parameter_accepts_only_a_full_arn(arn: str, is_complete: bool) -> None:
    """IAM compares the whole ARN, so a secret by a part of it could not be read."""
    given = {"ArcannaBaseUrl": "https://arcanna.example", "ApiKeySecretArn": arn}
    with nullcontext() if is_complete else pytest.raises(ValueError, match="six characters at its end"):
        parameter_values(template()["Parameters"], given)


def test_permission_for_every_resource_is_only_for_actions_without_resources() -> None:
    for statement in role_statements():
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action]
        if "*" in listed(statement["Resource"]) and "Condition" not in statement:
            assert all(action.startswith(ANY_RESOURCE) for action in actions)


def test_each_role_is_assumed_by_one_service_for_this_account() -> None:
    for role in of_type("AWS::IAM::Role").values():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert re.fullmatch(r"\w+\.amazonaws\.com", statement["Principal"]["Service"])
        assert statement["Condition"] == OWN_ACCOUNT


def test_workflow_may_publish_on_the_old_and_the_new_bus() -> None:
    """A run that began earlier uses the old bus. A check with the new environment uses the new one."""
    statements_ = of_type("AWS::IAM::Role")["RecomputeWorkflowRole"]["Policies"][0]["PolicyDocument"][
        "Statement"
    ]
    (outcome,) = [s for s in statements_ if s["Action"] == "events:PutEvents"]
    for bus in ("default", "security.events"):
        arn = f"arn:aws:events:eu-west-1:123456789012:event-bus/{bus}"
        assert fnmatchcase(arn, evaluated(outcome["Resource"]))


# --- Networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({}, None),
        ({"SubnetIds": "subnet-0a1,subnet-0b2", "SecurityGroupIds": "sg-01"}, None),
        ({"SubnetIds": "subnet-0a1"}, "SubnetIds needs SecurityGroupIds"),
        ({"SecurityGroupIds": "sg-01"}, "SecurityGroupIds needs SubnetIds"),
        ({"SubnetIds": "subnet-0a1,vpc-1", "SecurityGroupIds": "sg-01"}, "ids of subnets"),
        ({"SubnetIds": "subnet-0a1", "SecurityGroupIds": "default"}, "ids of security groups"),
        ({"ProxyUrl": "http://proxy.internal:3128"}, None),
        ({"ProxyUrl": "https://10.0.0.7:8443/", "NoProxy": "arcanna.internal:9666, .amazonaws.com"}, None),
        ({"ProxyUrl": "http://user:password@proxy:3128"}, "without credentials"),
        ({"ProxyUrl": "proxy.internal:3128"}, "http://host:port"),
        ({"NoProxy": "arcanna.internal\nSECRET=1"}, "hosts separated by commas"),
        ({"CaBundle": "-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----"}, None),
        ({"CaBundle": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}, None),
        ({"CaBundle": "ca.pem"}, "certificates as PEM"),
        ({"CaBundle": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n" * 26}, "too long"),
        ({"CaBundle": "-----BEGIN CERTIFICATE-----\nMIIB"}, "certificates as PEM"),
        (
            {"CaBundle": "# Our CA\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"},
            "other text",
        ),
        ({"NoProxy": "*.corp.internal"}, "write corp.internal"),
        ({"NoProxy": "10.20.*"}, "IP addresses in full"),
        ({"NoProxy": "a b"}, "separated by commas"),
        ({"NoProxy": "host."}, "separated by commas"),
        ({"NoProxy": "*"}, None),
        ({"SenderArns": "arn:aws:s3:::customer-*,arn:aws-cn:sns:cn-north-1:123456789012:up*"}, None),
        (
            {
                "SenderArns": "arn:aws:events:eu-west-1:123456789012:rule/nightly,"
                "arn:aws:events:eu-west-1:123456789012:rule/my-bus/labels-*"
            },
            None,
        ),
        ({"SenderArns": "*"}, "ARNs of S3 buckets"),
        ({"SenderArns": "arn:aws:events:*:*:rule/*"}, "ARNs of S3 buckets"),
        ({"SenderArns": "arn:aws:s3:::mine,arn:aws:s3:::*"}, "ARNs of S3 buckets"),
        ({"SenderArns": "arn:aws:sns:*:*:*"}, "ARNs of S3 buckets"),
    ],
)
def test_invalid_network_or_sender_parameter_is_refused_before_deployment(
    given: dict[str, str], refused: str | None
) -> None:
    with pytest.raises(ValueError, match=refused) if refused else nullcontext():
        assert_rules(
            template()["Rules"],
            parameter_values(
                template()["Parameters"], {"ArcannaBaseUrl": "https://arcanna.example", **given}
            ),
        )


LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?"
NAME = rf"\.?(?:{LABEL}\.)*(?=[0-9\-]*[A-Za-z]){LABEL}"
OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
PORT = r"(?!443(?![0-9]))[1-9][0-9]{0,4}"
DIRECT = rf"(?:{NAME}|{OCTET}(?:\.{OCTET}){{3}})(?::{PORT})?"


def test_no_proxy_accepts_only_hosts_that_both_http_clients_call_directly() -> None:
    """Names, addresses and ports. A last label without a letter is a part of an address, and never matches a
    host. No URL shows its port 443.
    """
    pattern = template()["Parameters"]["NoProxy"]["AllowedPattern"]
    assert pattern == rf"^(?! *,)(?:\*|(?:(?:^| *, *){DIRECT})*)$"


# --- What is kept, and how ---------------------------------------------------------------------------------


def test_everything_is_encrypted_at_rest() -> None:
    for bucket in of_type("AWS::S3::Bucket").values():
        assert bucket["BucketEncryption"]
    for queue in of_type("AWS::SQS::Queue").values():
        assert queue["SqsManagedSseEnabled"] is True
    for table_ in of_type("AWS::DynamoDB::Table").values():
        assert table_["SSESpecification"]["SSEEnabled"] is True
    for topic in of_type("AWS::SNS::Topic").values():
        assert topic["KmsMasterKeyId"]["Ref"] in of_type("AWS::KMS::Key")
    for key in of_type("AWS::KMS::Key").values():
        assert key["EnableKeyRotation"] is True


def test_every_data_store_has_a_deletion_policy() -> None:
    stated = {
        name: (
            resource.get("DeletionPolicy", UNLESS_STATED[0]),
            resource.get("UpdateReplacePolicy", UNLESS_STATED[1]),
        )
        for name, resource in resources().items()
        if resource["Type"] in STATEFUL
    }
    assert stated == KEPT


def test_only_data_stores_are_retained_when_the_stack_is_deleted() -> None:
    left = {name for name, resource in resources().items() if "Retain" in resource.get("DeletionPolicy", "")}
    assert left == {name for name, (deleted, _) in KEPT.items() if "Retain" in deleted}


def test_ledger_has_point_in_time_recovery() -> None:
    for table_ in of_type("AWS::DynamoDB::Table").values():
        assert table_["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_due_index_projects_what_a_sweep_needs() -> None:
    (table_,) = of_type("AWS::DynamoDB::Table").values()
    (index,) = table_["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "due"
    assert {key["KeyType"]: key["AttributeName"] for key in index["KeySchema"]} == {
        "HASH": "due",
        "RANGE": "due_at",
    }
    projected = {"ProjectionType": "INCLUDE", "NonKeyAttributes": PROJECTED}
    assert index["Projection"] == projected
    policies = of_type("AWS::IAM::Role")["TriggerRecomputeFunctionRole"]["Policies"]
    (query,) = [
        s for s in policies[0]["PolicyDocument"]["Statement"] if "dynamodb:Query" in listed(s["Action"])
    ]
    assert query["Resource"] == {"Fn::Sub": f"${{Ledger.Arn}}/index/{index['IndexName']}"}


def test_upgrade_keeps_edited_settings() -> None:
    """CloudFormation writes all properties if one has changed, so these must never change."""
    assert resource("SettingsParameter") == {
        "Type": "String",
        "Tier": "Intelligent-Tiering",
        "Description": "Routes, quality gate and pace, as JSON (see events/README.md). Changes take effect"
        " within a minute.",
        "Value": "{}",
    }


# --- Anywhere, and more than once --------------------------------------------------------------------------

LONGEST = {
    "AWS_StackName": "s" * 128,
    "AWS_Region": "us-isob-east-1",
    "EventBusName": "b" * template()["Parameters"]["EventBusName"]["MaxLength"],
}
LONGEST_NAMES = {
    "AWS::CloudWatch::Dashboard": 255,
    "AWS::Events::Rule": 64,
    "AWS::Lambda::LayerVersion": 140,
    "AWS::Logs::LogGroup": 512,
    "AWS::Logs::QueryDefinition": 255,
    "AWS::StepFunctions::StateMachine": 80,
}
"""The most characters of each name that the template sets, as AWS documents them."""


def test_two_stacks_share_no_resource_name() -> None:
    named = {
        (resource["Type"], logical_id): resource["Properties"][name]
        for logical_id, resource in resources().items()
        if (name := NAME_PROPERTIES[resource["Type"]]) in resource["Properties"]
    }
    assert {cfn_type for cfn_type, _ in named} == LONGEST_NAMES.keys()
    assert len({evaluated(name) for name in named.values()}) == len(named)
    for (cfn_type, _), name in named.items():
        assert evaluated(name) != evaluated(name, **ANOTHER_STACK)
        assert len(evaluated(name, **LONGEST)) <= LONGEST_NAMES[cfn_type]


def test_trigger_may_use_only_the_workflow_that_it_names() -> None:
    """It is allowed by name, because the workflow invokes the trigger and so is created after it."""
    name = evaluated(of_type("AWS::StepFunctions::StateMachine")["RecomputeWorkflow"]["StateMachineName"])
    arn = f"arn:aws:states:eu-west-1:123456789012:stateMachine:{name}"
    variables = of_type("AWS::Lambda::Function")["TriggerRecomputeFunction"]["Environment"]["Variables"]
    assert evaluated(variables["WORKFLOW_ARN"]) == arn
    policies = of_type("AWS::IAM::Role")["TriggerRecomputeFunctionRole"]["Policies"]
    may = {
        statement["Action"]: evaluated(statement["Resource"])
        for statement in policies[0]["PolicyDocument"]["Statement"]
        if str(statement["Action"]).startswith("states:")
    }
    executions = arn.replace(":stateMachine:", ":execution:")
    assert may == {"states:StartExecution": arn, "states:DescribeExecution": f"{executions}:*"}


def test_globally_unique_names_include_the_region() -> None:
    for dashboard in of_type("AWS::CloudWatch::Dashboard").values():
        assert "${AWS::Region}" in dashboard["DashboardName"]["Fn::Sub"]


DEPLOYED = [
    *("template.yaml", "samconfig.yaml", "functions"),
    *("layers/arcanna_metrics/arcanna_metrics", "layers/arcanna_metrics/Makefile", "layers/dependencies"),
]
SOMEWHERE = re.compile(
    r"arn:aws[\w-]*:"  # a partition
    r"|[\w.-]*amazonaws\.com[\w.]*|[\w.-]*aws\.amazon\.com[\w.]*"  # an endpoint
    r"|\b[a-z]{2}(-[a-z]+)+-\d\b"  # a region
)
SERVICE_PRINCIPAL = re.compile(r"[a-z0-9]+\.amazonaws\.com")
"""The same in all partitions."""
CONSOLES = {console["Domain"] for console in template()["Mappings"]["Console"].values()}
"""By partition, for links."""


def test_no_partition_region_or_endpoint_is_hard_coded() -> None:
    files = [p for d in DEPLOYED for p in (ROOT / d, *(ROOT / d).rglob("*")) if p.is_file()]
    found = {
        (path.name, match)
        for path in files
        if path.suffix != ".pyc"
        for line in path.read_text().splitlines()
        if not re.search(r"^ +(Constraint)?Description: |such as", line)  # examples
        for match in (m[0] for m in SOMEWHERE.finditer(line))
        if match != "docs.aws.amazon.com"
    }
    assert ("template.yaml", "events.amazonaws.com") in found
    assert {match for _, match in found if not SERVICE_PRINCIPAL.fullmatch(match)} == {
        domain for domain in CONSOLES if SOMEWHERE.search(domain)
    }
    assert {name for name, _ in found} == {"template.yaml", "outcome.py"}


PARTITIONS = {
    "aws": ("eu-west-1", "amazonaws.com", "eu-west-1.console.aws.amazon.com"),
    "aws-cn": ("cn-north-1", "amazonaws.com.cn", "cn-north-1.console.amazonaws.cn"),
    "aws-us-gov": ("us-gov-west-1", "amazonaws.com", "us-gov-west-1.console.amazonaws-us-gov.com"),
}
"""A region, the domain of endpoints, and the console's host."""
LINKED = {
    "DashboardLink": "metrics-dashboard",
    "ExecutionsLink": "arn:workflow",
    "ApiKeySecretLink": ":secret:arcanna",
    "SettingsLink": "CFN-settings",
    "DeadLettersLink": "letters",
}
"""What a link leads to."""


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("name", LINKED)
def test_console_links_use_the_stacks_partition_and_region(name: str, partition: str) -> None:
    region, suffix, host = PARTITIONS[partition]
    given = {
        "AWS_Partition": partition,
        "AWS_Region": region,
        "AWS_URLSuffix": suffix,
        "Dashboard": "metrics-dashboard",
        "RecomputeWorkflow": "arn:workflow",
        "ApiKeySecret": f"arn:{partition}:secretsmanager:{region}:123456789012:secret:arcanna",
        "SettingsParameter": "CFN-settings",
        "DeadLetterQueue.QueueName": "letters",
    }
    link = urlsplit(evaluated(template()["Outputs"][name]["Value"], **given))
    assert (link.scheme, link.netloc) == ("https", host)
    assert parse_qs(link.query)["region"] == [region]
    assert LINKED[name] in link.geturl()
    if name == "DeadLettersLink":
        assert f"https://sqs.{region}.{suffix}/123456789012/letters" in unquote(link.fragment)


def test_link_to_a_secret_leads_to_the_secrets_region() -> None:
    given = {
        "AWS_Region": "eu-west-1",
        "ApiKeySecret": "arn:aws:secretsmanager:us-east-1:1:secret:arcanna-AbCdEf",
    }
    link = urlsplit(evaluated(template()["Outputs"]["ApiKeySecretLink"]["Value"], **given))
    assert link.netloc == "us-east-1.console.aws.amazon.com"
    assert parse_qs(link.query)["region"] == ["us-east-1"]


def test_outputs_are_console_links_or_names_for_commands() -> None:
    links = {name for name in template()["Outputs"] if name.endswith("Link")}
    assert links == LINKED.keys()


def test_template_can_be_published_to_the_serverless_application_repository() -> None:
    """By the limits of https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/\
serverless-sam-template-publishing-applications-metadata-properties.html"""
    metadata = template()["Metadata"]["AWS::ServerlessRepo::Application"]
    assert re.fullmatch(r"[A-Za-z0-9\-]{1,140}", metadata["Name"])
    assert 1 <= len(metadata["Description"]) <= 256
    assert re.fullmatch(r"[a-z0-9]([a-z0-9]|-(?!-)){0,125}[a-z0-9]", metadata["Author"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["SemanticVersion"])
    assert len(metadata["Labels"]) <= 10
    assert all(re.fullmatch(r"[A-Za-z0-9+\-_:/@]{1,127}", label) for label in metadata["Labels"])
    assert (ROOT / metadata["ReadmeUrl"]).is_file()
    assert (ROOT / metadata["LicenseUrl"]).read_text().startswith(metadata["SpdxLicenseId"])


# --- Sweeps, and messages that come again -------------------------------------------------------------------


def test_sweep_is_sent_every_minute_without_retries() -> None:
    sweep = of_type("AWS::Scheduler::Schedule")["SweepSchedule"]
    assert sweep["ScheduleExpression"] == "rate(1 minute)"
    assert "State" not in sweep  # ENABLED
    target = sweep["Target"]
    assert target["Arn"] == {"Fn::GetAtt": ["UpdatesQueue", "Arn"]}
    assert json.loads(target["Input"]) == {"sweep": True}
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 0}
    assert "DeadLetterConfig" not in target


def test_message_is_retried_for_a_weekend_before_it_becomes_a_dead_letter() -> None:
    queue = of_type("AWS::SQS::Queue")["UpdatesQueue"]
    seconds = queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]
    assert 2.5 * 86400 <= seconds <= queue["MessageRetentionPeriod"] / 2


def test_failed_asynchronous_invocation_goes_to_the_dead_letter_queue() -> None:
    (config,) = of_type("AWS::Lambda::EventInvokeConfig").values()
    assert config["FunctionName"] == {"Ref": "TriggerRecomputeFunction"}
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == {
        "Fn::GetAtt": ["DeadLetterQueue", "Arn"]
    }
    assert config["MaximumRetryAttempts"] == 2


# --- Logs and settings -------------------------------------------------------------------------------------


def test_log_groups_belong_to_the_stack_and_expire() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    for group in groups.values():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for function in of_type("AWS::Lambda::Function").values():
        assert function["LoggingConfig"]["LogGroup"]["Ref"] in groups
    for machine in of_type("AWS::StepFunctions::StateMachine").values():
        (destination,) = machine["LoggingConfiguration"]["Destinations"]
        assert destination["CloudWatchLogsLogGroup"]["LogGroupArn"]["Fn::GetAtt"][0] in groups


LINE = "A" * 32 + "\r\n"
"""The shortest line of a certificate that the template admits. Only the last line may be shorter."""


def longest(name: str) -> str:
    """The value of a parameter with the most bytes as JSON."""
    parameter = template()["Parameters"][name]
    if parameter["Type"] == "Number":
        return str(parameter["MaxValue"])
    size = int(parameter["MaxLength"])
    if name == "CaBundle":
        begin, end = "-----BEGIN CERTIFICATE-----\r\n", "-----END CERTIFICATE-----\r\n"
        return begin + LINE * ((size - len(begin + end)) // len(LINE)) + end
    return "x" * size


def test_constraints_continue_the_sentence_of_cloudformation() -> None:
    """It writes: Parameter ... failed to satisfy constraint: must be ..."""
    described = [
        p["ConstraintDescription"] for p in template()["Parameters"].values() if "AllowedPattern" in p
    ]
    assert [text for text in described if not text.startswith("must be ") or text.endswith(".")] == []


def test_longest_certificates_as_json_are_accepted() -> None:
    given = {"ArcannaBaseUrl": "https://arcanna.example", "CaBundle": longest("CaBundle")}
    assert parameter_values(template()["Parameters"], given)["CaBundle"] == longest("CaBundle")


def test_certificates_that_would_need_more_bytes_as_json_are_refused() -> None:
    denser = longest("CaBundle").replace("AAA\r", "\r\n\r")  # more characters that JSON escapes
    given = {"ArcannaBaseUrl": "https://arcanna.example", "CaBundle": denser}
    with pytest.raises(ValueError, match=template()["Parameters"]["CaBundle"]["ConstraintDescription"]):
        parameter_values(template()["Parameters"], given)


OF_GENERATED_NAMES = {
    "Ledger": "x" * (128 + len("-Ledger-") + 13),
    "ApiKeySecret": "x" * 180,
    "SettingsParameter": "CFN-SettingsParameter-" + "x" * 13,
    "UpdatesQueue": "https://sqs.us-gov-west-1.amazonaws.com/123456789012/" + "x" * 80,
    "DeadLetterQueue": "https://sqs.us-gov-west-1.amazonaws.com/123456789012/" + "x" * 80,
}
"""The longest values of the functions' variables that CloudFormation produces."""


@pytest.mark.parametrize("name", sorted(of_type("AWS::Lambda::Function")))
def test_longest_parameters_fit_into_the_functions_environment(name: str) -> None:
    """Lambda counts the variables as JSON."""
    bounded = [p for p, how in template()["Parameters"].items() if how.keys() & {"MaxLength", "MaxValue"}]
    given = OF_GENERATED_NAMES | {parameter: longest(parameter) for parameter in bounded}
    given |= LONGEST | {"AWS_URLSuffix": "amazonaws.com.cn", "AWS_Region": "us-gov-west-1"}
    given |= {"AWS_Partition": "aws-us-gov", "AWS_StackId": PSEUDO["AWS::StackId"]}

    def text(value: Any) -> str:
        match value:
            case {"Fn::If": [_, one, other]}:
                return max(text(one), text(other), key=len)
        return evaluated(value, **given)

    variables = of_type("AWS::Lambda::Function")[name]["Environment"]["Variables"]
    measured = json.dumps({key: text(value) for key, value in variables.items()}, separators=(",", ":"))
    assert len(measured) <= ENVIRONMENT_BYTES


def test_escaped_characters_are_accepted_only_where_their_length_is_counted() -> None:
    """Quotes, backslashes, control characters and all beyond ASCII take more bytes than they are long."""
    variables = {
        found
        for function in of_type("AWS::Lambda::Function").values()
        for found in references(function["Environment"]["Variables"])
    }
    texts = {p for p in variables & PARAMETERS.keys() if template()["Parameters"][p]["Type"] == "String"}
    assert {"CaBundle", "ApiKeySecretField"} < texts
    for name in texts - {"CaBundle"}:
        pattern = template()["Parameters"][name]["AllowedPattern"]
        example = {"ArcannaBaseUrl": "https://a", "ProxyUrl": "http://a:1"}.get(name, "a")
        if name == "ApiKeySecretArn":
            example = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbC12d"
        assert re.fullmatch(pattern, example)
        for character in '"\\\n\x01\u00e4':
            for at in range(len(example) + 1):
                assert not re.fullmatch(pattern, example[:at] + character + example[at:])


def test_no_secret_is_in_the_environment_of_a_function() -> None:
    for function in of_type("AWS::Lambda::Function").values():
        named = {name for name in function["Environment"]["Variables"] if re.search("KEY|SECRET|TOKEN", name)}
        assert named == {"ARCANNA_API_KEY_SECRET_ARN", "ARCANNA_API_KEY_SECRET_FIELD"}


def test_first_deployment_requires_one_of_at_most_18_parameters() -> None:
    parameters = template()["Parameters"]
    assert len(parameters) <= 18
    assert [name for name, how in parameters.items() if "Default" not in how] == ["ArcannaBaseUrl"]


def test_every_parameter_is_in_one_group_of_the_console() -> None:
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(p for group in groups for p in group["Parameters"]) == sorted(template()["Parameters"])


# --- Alarms and their runbook ------------------------------------------------------------------------------

RUNBOOK = runbook()


@pytest.mark.parametrize("name", sorted(of_type("AWS::CloudWatch::Alarm")))
def test_alarm_description_names_its_section_of_the_runbook(name: str) -> None:
    description = described(name)
    found = re.search(r" functions/RUNBOOK\.md#(\S+)", description)
    assert found, description
    assert found[1] in map(anchor_of, RUNBOOK)
    assert len(description) <= LONGEST_ALARM_DESCRIPTION


def described(alarm: str) -> str:
    """The description of an alarm, as CloudFormation evaluates it."""
    return evaluated(
        of_type("AWS::CloudWatch::Alarm")[alarm]["AlarmDescription"], RecomputeWorkflow="arn:aws:states"
    )


LONGEST_ALARM_DESCRIPTION = 1024
"""The most characters that CloudWatch accepts."""


def test_every_alarm_notifies() -> None:
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == [{"Ref": "NotificationTopic"}]


def test_missing_sweeps_raise_an_alarm() -> None:
    alarm = of_type("AWS::CloudWatch::Alarm")["SweepAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Invocations")
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": "TriggerRecomputeFunction"}}]
    # CloudWatch fills in what is missing only if none of the last points is there, and it looks at a few more
    # than it evaluates. With longer periods, one sweep would keep the alarm silent for that much longer.
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (60, 15)
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Sum", "LessThanThreshold")
    assert alarm["Threshold"] == 1
    assert alarm["TreatMissingData"] == "breaching"


def test_message_that_cannot_be_recorded_raises_an_alarm_before_it_is_a_dead_letter() -> None:
    """Its invocation does not fail. The error is counted whenever the queue delivers it again."""
    alarm = of_type("AWS::CloudWatch::Alarm")["FunctionsAlarm"]
    stats = [m["MetricStat"] for m in alarm["Metrics"] if "MetricStat" in m]
    named = {(stat["Metric"]["Namespace"], stat["Metric"]["MetricName"]) for stat in stats}
    assert {("ArcannaMetrics", "AwsUnavailable"), ("ArcannaMetrics", "UnexpectedErrors")} <= named

    again = of_type("AWS::SQS::Queue")["UpdatesQueue"]["VisibilityTimeout"]
    periods = math.ceil(again / min(stat["Period"] for stat in stats))
    assert alarm["DatapointsToAlarm"] == 2
    assert alarm["EvaluationPeriods"] >= 2 * periods  # two deliveries in every window, or the alarm flaps


def test_missing_data_raises_no_other_alarm() -> None:
    missing = {name: a["TreatMissingData"] for name, a in of_type("AWS::CloudWatch::Alarm").items()}
    assert {name for name, treated in missing.items() if treated != "notBreaching"} == {"SweepAlarm"}


ON_EXPRESSIONS = [name for name, alarm in of_type("AWS::CloudWatch::Alarm").items() if "Metrics" in alarm]


@pytest.mark.parametrize("name", ON_EXPRESSIONS)
def test_expression_of_an_alarm_uses_exactly_the_metrics_beside_it(name: str) -> None:
    metrics = of_type("AWS::CloudWatch::Alarm")[name]["Metrics"]
    (alarmed,) = (m for m in metrics if m.get("ReturnData", True))
    used = set(re.findall(r"\b[a-z]\w*", alarmed["Expression"]))  # names of functions are in capitals
    assert used == {m["Id"] for m in metrics if "MetricStat" in m}


@pytest.mark.parametrize("name", ON_EXPRESSIONS)
def test_point_that_is_published_late_does_not_clear_an_alarm(name: str) -> None:
    """FILL counts the newest minute as 0 if the service has not published it yet.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
    """
    alarm = of_type("AWS::CloudWatch::Alarm")[name]
    filled = any("FILL(" in m.get("Expression", "") for m in alarm["Metrics"])
    period = min(m["MetricStat"]["Period"] for m in alarm["Metrics"] if "MetricStat" in m)
    assert not filled or alarm["EvaluationPeriods"] * period > 60


@pytest.mark.parametrize(
    ("name", "longest_gap"), [("UnauthorisedAlarm", 900 + 60), ("UpdatesLateAlarm", 720 + 20 + 120)]
)
def test_gauge_alarm_does_not_flap_between_measurements(name: str, longest_gap: int) -> None:
    """Failed attempts are at most the longest backoff and a sweep apart, failed checks the longest wait, and
    deliveries of a message the visibility timeout, a wait for messages and the trigger's time-out."""
    assert of_type("AWS::SQS::Queue")["UpdatesQueue"]["VisibilityTimeout"] == 720
    alarm = of_type("AWS::CloudWatch::Alarm")[name]
    pace = SETTINGS["pace"]["properties"]
    longest = [pace[name]["maximum"] for name in ("longest_backoff_seconds", "longest_poll_seconds")]
    assert max(longest) == 900
    periods = {m["MetricStat"]["Period"] for m in alarm["Metrics"] if "MetricStat" in m}
    assert alarm["DatapointsToAlarm"] == 1
    assert alarm["EvaluationPeriods"] > 1  # or the newest point, if it is missing, clears the alarm
    assert (alarm["EvaluationPeriods"] - 1) * min(periods) >= longest_gap  # the last one may just begin


OF_THE_FUNCTIONS = {
    *("UpdatesReceived", "UpdatesIgnored", "UpdatesRejected", "RecomputesRequested", "RecomputesCompleted"),
    *("RecomputesFailed", "RecomputesTimedOut", "RunsTakenBack", "RunsFailed", "StatusChecks", "PollsPerRun"),
    *("TargetsDue", "OldestUpdateAge", "SlotsTaken", "FreshnessLag", "RunDuration", "QualityVerdict"),
    *("OverallAccuracy", "OverallF1Score", "OverallPrecision", "OverallRecall", "SettingsInvalid"),
    *(error.__name__ for error in RetryLater.__subclasses__()),
    ApiKeyMissing.__name__,
    "UnexpectedErrors",
}
"""Their metrics, which events/README.md documents."""


def test_alarms_and_dashboard_show_exactly_the_functions_metrics() -> None:
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(re.sub(r"\$\{[\w:.]+\}", "1", dashboard["DashboardBody"]["Fn::Sub"]))["widgets"]
    shown: set[str] = set()
    for widget in widgets:
        namespace = ""
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], dict):
                shown |= set(re.findall(r'MetricName="(\w+)"', metric[0]["expression"]))
                continue
            namespace = metric[0] if metric[0] != "." else namespace
            shown |= {metric[1]} if namespace == "ArcannaMetrics" else set()
    alarmed = {
        metric["MetricName"]
        for alarm in of_type("AWS::CloudWatch::Alarm").values()
        for metric in [
            alarm,
            *(m["MetricStat"]["Metric"] for m in alarm.get("Metrics", []) if "MetricStat" in m),
        ]
        if metric.get("Namespace") == "ArcannaMetrics"
    }
    assert shown | alarmed == OF_THE_FUNCTIONS


WITHOUT_ALARM = {"A model got worse", "Entries of the ledger are lost", "Uploads do not start a recompute"}
"""People learn of the first from a notification. Nothing can detect the others."""


@pytest.mark.parametrize("title", RUNBOOK)
def test_section_of_the_runbook_names_exactly_its_alarms(title: str) -> None:
    leading = {
        alarm
        for alarm in of_type("AWS::CloudWatch::Alarm")
        if described(alarm).partition("RUNBOOK.md#")[2].split(" ")[0] == anchor_of(title)
    }
    assert set(re.findall(r"`(\w+Alarm)`", section(title))) == leading


def test_every_runbook_section_has_an_alarm_or_is_listed_as_without() -> None:
    named = [re.findall(r"#([a-z-]+)", described(alarm))[0] for alarm in of_type("AWS::CloudWatch::Alarm")]
    assert {title for title in RUNBOOK if anchor_of(title) not in named} == WITHOUT_ALARM
