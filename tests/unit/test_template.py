"""What a policy scanner would look for, and the runbook, asked of the template as CloudFormation gets it."""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from typing import Any

import boto3
import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from recompute.errors import BadInput, RecomputeError, Rejected, RetryLater
from tests.deployment import ROOT, template, workflow
from tests.local_cloud.deployment import assert_rules, parameter_values
from tests.readme import headings, section, table

OUTLIVE_THE_STACK = {"TrainingDataBucket", "Ledger"}
ANY_RESOURCE = {"xray", "logs"}
"""Services of actions that know no resources: traces, and the set-up of Step Functions' log delivery."""

ENVIRONMENT_BYTES = 4096
"""Lambda's own limit for all variables of a function, names and values."""


@cache
def resources() -> dict[str, dict[str, Any]]:
    """The resources of the translated template, by logical id."""
    source: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())  # type: ignore[no-untyped-call]
    for resource in source["Resources"].values():
        for name in {"CodeUri", "ContentUri", "DefinitionUri"} & resource["Properties"].keys():
            resource["Properties"][name] = "s3://bucket/key"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="eu-west-1"))
    given = {"ArcannaBaseUrl": "https://arcanna.example.com"}
    return dict(translator.translate(source, given)["Resources"])


def of_type(cfn_type: str) -> dict[str, dict[str, Any]]:
    """The properties of the resources of a type, by logical id; there is at least one."""
    found = {name: r["Properties"] for name, r in resources().items() if r["Type"] == cfn_type}
    assert found
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def resource_policies() -> Iterator[dict[str, Any]]:
    """The statements of the policies of buckets, queues, topics and keys."""
    for resource in resources().values():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            continue  # which is a role's
        properties = resource["Properties"]
        document = properties.get("PolicyDocument") or properties.get("KeyPolicy")
        yield from document["Statement"] if document else []


def role_statements() -> Iterator[dict[str, Any]]:
    for role in of_type("AWS::IAM::Role").values():
        for policy in role["Policies"]:
            yield from policy["PolicyDocument"]["Statement"]


# --- Who may -----------------------------------------------------------------------------------------------


def test_a_service_is_admitted_only_for_what_belongs_to_this_account() -> None:
    admitted = [s for s in resource_policies() if s["Effect"] == "Allow" and "Service" in s["Principal"]]
    assert admitted
    for statement in admitted:
        assert statement["Principal"]["Service"] in ("events.amazonaws.com", "cloudwatch.amazonaws.com")
        conditions = {key for condition in statement["Condition"].values() for key in condition}
        assert conditions & {"aws:SourceArn", "aws:SourceAccount"}


def test_the_queues_admit_the_rules_of_this_stack_and_no_others() -> None:
    (policy,) = of_type("AWS::SQS::QueuePolicy").values()
    (allowed,) = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    rules = allowed["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert {rule["Fn::GetAtt"][0] for rule in rules} == set(of_type("AWS::Events::Rule"))


def test_nobody_from_outside_of_the_account_is_admitted() -> None:
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
def test_nothing_is_reached_without_tls(cfn_type: str, policy_type: str, names: str) -> None:
    policies = of_type(policy_type).values()
    assert {ref["Ref"] for p in policies for ref in listed(p[names])} == set(of_type(cfn_type))
    for policy in policies:
        (denied,) = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
        assert denied["Principal"] == "*"
        assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_no_bucket_is_public() -> None:
    for bucket in of_type("AWS::S3::Bucket").values():
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


def test_roles_have_no_policies_but_those_that_the_template_spells_out() -> None:
    for role in of_type("AWS::IAM::Role").values():
        assert role.get("ManagedPolicyArns", NETWORK_INTERFACES) == NETWORK_INTERFACES


NETWORK_INTERFACES = {"Fn::If": ["InVpc", [{"Ref": "NetworkInterfacesPolicy"}], {"Ref": "AWS::NoValue"}]}


def test_only_the_functions_get_network_interfaces_and_only_in_a_vpc() -> None:
    roles = {name for name, role in of_type("AWS::IAM::Role").items() if "ManagedPolicyArns" in role}
    assert roles == {"TriggerRecomputeFunctionRole", "CheckStatusFunctionRole"}
    assert resources()["NetworkInterfacesPolicy"]["Condition"] == "InVpc"
    for function in of_type("AWS::Lambda::Function").values():
        condition, _, otherwise = function["VpcConfig"]["Fn::If"]
        assert (condition, otherwise) == ("InVpc", {"Ref": "AWS::NoValue"})


def test_the_policy_for_network_interfaces_is_lambda_s_own_and_not_for_the_code() -> None:
    (policy,) = of_type("AWS::IAM::ManagedPolicy").values()
    allowed, denied = policy["PolicyDocument"]["Statement"]
    assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
    assert set(allowed["Action"]) == OF_LAMBDA_IN_A_VPC
    assert (denied["Action"], denied["Resource"]) == ("ec2:*", "*")
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
"""Those of AWS's own policy AWSLambdaVPCAccessExecutionRole, but for logs."""


def test_a_role_s_permission_for_every_resource_is_for_actions_that_know_none() -> None:
    for statement in role_statements():
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action]
        if "*" in listed(statement["Resource"]):
            assert {action.partition(":")[0] for action in actions} <= ANY_RESOURCE


def test_a_role_is_assumed_by_one_service() -> None:
    for role in of_type("AWS::IAM::Role").values():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert re.fullmatch(r"\w+\.amazonaws\.com", statement["Principal"]["Service"])


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
        ({"CaBundle": "-----BEGIN CERTIFICATE-----" + 2048 * "x"}, "too long"),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_anything_is_deployed(
    given: dict[str, str], refused: str | None
) -> None:
    with pytest.raises(ValueError, match=refused) if refused else nullcontext():
        assert_rules(
            template()["Rules"],
            parameter_values(
                template()["Parameters"], {"ArcannaBaseUrl": "https://arcanna.example", **given}
            ),
        )


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


def test_what_cannot_be_made_again_outlives_the_stack() -> None:
    kept = {name for name, resource in resources().items() if resource.get("DeletionPolicy") == "Retain"}
    assert kept == OUTLIVE_THE_STACK
    replaced = {name for name, r in resources().items() if r.get("UpdateReplacePolicy") == "Retain"}
    assert replaced >= OUTLIVE_THE_STACK


def test_everything_logs_into_groups_of_the_stack_and_for_a_limited_time() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    for group in groups.values():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for function in of_type("AWS::Lambda::Function").values():
        assert function["LoggingConfig"]["LogGroup"]["Ref"] in groups
    for machine in of_type("AWS::StepFunctions::StateMachine").values():
        (destination,) = machine["LoggingConfiguration"]["Destinations"]
        assert destination["CloudWatchLogsLogGroup"]["LogGroupArn"]["Fn::GetAtt"][0] in groups


@pytest.mark.parametrize("name", sorted(of_type("AWS::Lambda::Function")))
def test_the_largest_ca_bundle_fits_into_the_environment(name: str) -> None:
    longest = {"CaBundle": 2048, "ProxyUrl": 80, "NoProxy": 200, "ArcannaBaseUrl": 80}
    assert template()["Parameters"]["CaBundle"]["MaxLength"] == longest["CaBundle"]

    def size(value: Any) -> int:
        match value:
            case {"Ref": str(parameter)} if parameter in template()["Parameters"]:
                default = template()["Parameters"][parameter].get("Default")
                return longest.get(parameter, len(str(default)))
            case str():
                return len(value)
        return 150  # an ARN, a URL or a name of this stack

    variables = of_type("AWS::Lambda::Function")[name]["Environment"]["Variables"]
    assert sum(len(key) + size(value) for key, value in variables.items()) < ENVIRONMENT_BYTES


def test_no_secret_is_in_the_environment_of_a_function() -> None:
    for function in of_type("AWS::Lambda::Function").values():
        named = {name for name in function["Environment"]["Variables"] if re.search("KEY|SECRET|TOKEN", name)}
        assert named == {"ARCANNA_API_KEY_SECRET_ARN"}


def test_every_parameter_is_where_people_look_for_it() -> None:
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(p for group in groups for p in group["Parameters"]) == sorted(template()["Parameters"])


# --- Alarms and their runbook ------------------------------------------------------------------------------

RUNBOOK = section("When something is wrong")


@pytest.mark.parametrize("name", sorted(of_type("AWS::CloudWatch::Alarm")))
def test_an_alarm_says_what_to_do_first_and_names_its_section(name: str) -> None:
    description = of_type("AWS::CloudWatch::Alarm")[name]["AlarmDescription"]
    found = re.fullmatch(r'.+\. First .+\. README, runbook section "(.+)"\.', description)
    assert found, description
    assert found[1] in headings(RUNBOOK)


def test_an_alarm_tells_people() -> None:
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == [{"Ref": "NotificationTopic"}]


WITHOUT_ALARM = {"A model got worse", "Uploads lead to nothing"}
"""A notification tells of the first; of the second nothing can."""


def test_every_section_of_the_runbook_but_two_belongs_to_an_alarm() -> None:
    named = " ".join(alarm["AlarmDescription"] for alarm in of_type("AWS::CloudWatch::Alarm").values())
    assert {title for title in headings(RUNBOOK) if f'"{title}"' not in named} == WITHOUT_ALARM


@pytest.mark.parametrize("title", sorted(set(headings(RUNBOOK)) - WITHOUT_ALARM))
def test_a_section_says_what_it_means_where_to_look_and_when_it_is_mended(title: str) -> None:
    parts = re.findall(r"\*\*(Meaning|First\s+look|Mended)\b", section(title))
    assert [part.split()[0] for part in parts] == ["Meaning", "First", "Mended"]


def test_the_runbook_knows_every_reason_of_a_dead_letter() -> None:
    errors: list[type[RecomputeError]] = [BadInput, Rejected, *RetryLater.__subclasses__()]
    reasons = {error.__name__ for error in errors}
    rows = table(section("Dead letters"), "Reason")
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == reasons


def test_the_runbook_knows_every_error_that_the_workflow_ends_with() -> None:
    errors = {state["Error"] for state in workflow()["States"].values() if "Error" in state}
    assert errors
    rows = table(section("Runs fail"), "Reason")
    assert errors - {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == set()
