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

from tests.deployment import ROOT, resource, template
from tests.local_cloud.deployment import assert_rules, parameter_values
from tests.local_cloud.resources import NAME_PROPERTIES
from tests.readme import headings, section

KEPT = {
    "TrainingDataBucket": ("RetainExceptOnCreate", "Retain"),
    "Ledger": ("RetainExceptOnCreate", "Retain"),
    "UpdatesQueue": ("Delete", "Retain"),
    "DeadLetterQueue": ("Delete", "Retain"),
    "ApiKeySecret": ("Delete", "Retain"),
    "RoutesParameter": ("Delete", "Retain"),
    "NotificationTopic": ("Delete", "Delete"),
    "NotificationKey": ("Delete", "Delete"),
    "TriggerRecomputeLogs": ("Delete", "Delete"),
    "CheckStatusLogs": ("Delete", "Delete"),
    "WorkflowLogs": ("Delete", "Delete"),
}
"""What holds data: what becomes of it when it is deleted with the stack, and when an update replaces it."""
STATEFUL = {
    *("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::SecretsManager::Secret"),
    *("AWS::SSM::Parameter", "AWS::SNS::Topic", "AWS::KMS::Key", "AWS::Logs::LogGroup"),
}
ADMITTED = ("events", "cloudwatch", "s3", "sns")
"""Services that may come in."""
ANY_RESOURCE = {"xray", "logs"}
"""Services of actions that know no resources: traces, and the set-up of Step Functions' log delivery."""

ENVIRONMENT_BYTES = 4096
"""Lambda's own limit for all variables of a function, names and values."""


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
    """The properties of the resources of a type, by logical id; there is at least one."""
    found = {name: r["Properties"] for name, r in resources().items() if r["Type"] == cfn_type}
    assert found
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements of a policy, those of conditions included."""
    return [s["Fn::If"][1] if "Fn::If" in s else s for s in document["Statement"]]


def resource_policies() -> Iterator[dict[str, Any]]:
    """The statements of the policies of buckets, queues, topics and keys."""
    for found in resources().values():
        if found["Type"] == "AWS::IAM::ManagedPolicy":
            continue  # which is a role's
        properties = found["Properties"]
        document = properties.get("PolicyDocument") or properties.get("KeyPolicy")
        yield from statements(document) if document else []


def role_statements() -> Iterator[dict[str, Any]]:
    for role in of_type("AWS::IAM::Role").values():
        for policy in role.get("Policies", []):
            yield from policy["PolicyDocument"]["Statement"]


# --- Who may -----------------------------------------------------------------------------------------------


def test_a_service_is_admitted_only_for_what_belongs_to_this_account() -> None:
    admitted = [s for s in resource_policies() if s["Effect"] == "Allow" and "Service" in s["Principal"]]
    assert admitted
    for statement in admitted:
        assert statement["Principal"]["Service"] in {f"{name}.amazonaws.com" for name in ADMITTED}
        conditions = {key for condition in statement["Condition"].values() for key in condition}
        assert conditions & {"aws:SourceArn", "aws:SourceAccount"}


def queue_policy() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the queues' policy allows always, and what under the condition that senders were named."""
    (policy,) = of_type("AWS::SQS::QueuePolicy").values()
    given = policy["PolicyDocument"]["Statement"]
    named = [s["Fn::If"] for s in given if "Fn::If" in s]
    assert [(condition, other) for condition, _, other in named] == [
        ("AdmitSenders", {"Ref": "AWS::NoValue"})
    ] * len(named)
    return [s for s in given if s.get("Effect") == "Allow"], [statement for _, statement, _ in named]


def test_the_queues_admit_the_rules_of_this_stack_and_no_others() -> None:
    (allowed,), _ = queue_policy()
    rules = allowed["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert {rule["Fn::GetAtt"][0] for rule in rules} == set(of_type("AWS::Events::Rule"))


def test_buckets_and_topics_are_admitted_by_name_to_the_updates_queue_alone() -> None:
    _, named = queue_policy()
    assert {s["Principal"]["Service"] for s in named} == {"s3.amazonaws.com", "sns.amazonaws.com"}
    for statement in named:
        assert statement["Action"] == "sqs:SendMessage"
        assert statement["Resource"] == {"Fn::GetAtt": ["UpdatesQueue", "Arn"]}
        assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": {"Ref": "SenderArns"}}
        if statement["Principal"]["Service"].startswith("s3"):  # anybody may own a bucket of a name
            own = {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
            assert statement["Condition"]["StringEquals"] == own


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
        (denied,) = [s for s in statements(policy["PolicyDocument"]) if s["Effect"] == "Deny"]
        assert denied["Principal"] == "*"
        assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_no_bucket_is_public() -> None:
    for bucket in of_type("AWS::S3::Bucket").values():
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


def test_roles_have_no_policies_but_those_that_the_template_spells_out() -> None:
    roles = of_type("AWS::IAM::Role")
    (policy,) = roles.pop("DeploymentRole")["ManagedPolicyArns"]  # which AWS keeps up to date
    assert policy["Fn::Sub"].endswith(":iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited")
    for role in roles.values():
        assert role.get("ManagedPolicyArns", NETWORK_INTERFACES) == NETWORK_INTERFACES


NETWORK_INTERFACES = {"Fn::If": ["InVpc", [{"Ref": "NetworkInterfacesPolicy"}], {"Ref": "AWS::NoValue"}]}


def test_only_the_functions_get_network_interfaces_and_only_in_a_vpc() -> None:
    roles = {name for name, role in of_type("AWS::IAM::Role").items() if "ManagedPolicyArns" in role}
    assert roles - {"DeploymentRole"} == {"TriggerRecomputeFunctionRole", "CheckStatusFunctionRole"}
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
        ({"SenderArns": "arn:aws:s3:::customer-*,arn:aws-cn:sns:cn-north-1:123456789012:up*"}, None),
        ({"SenderArns": "*"}, "ARNs of S3 buckets"),
        ({"SenderArns": "arn:aws:s3:::mine,arn:aws:s3:::*"}, "ARNs of S3 buckets"),
        ({"SenderArns": "arn:aws:sns:*:*:*"}, "ARNs of S3 buckets"),
    ],
)
def test_a_network_or_a_sender_that_cannot_be_is_refused_before_anything_is_deployed(
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


def test_it_is_written_down_what_becomes_of_all_that_holds_data() -> None:
    stated = {
        name: (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        for name, resource in resources().items()
        if resource["Type"] in STATEFUL
    }
    assert stated == KEPT


def test_nothing_else_is_left_behind_when_the_stack_is_deleted() -> None:
    left = {name for name, resource in resources().items() if "Retain" in resource.get("DeletionPolicy", "")}
    assert left == {name for name, (deleted, _) in KEPT.items() if "Retain" in deleted}


def test_the_ledger_can_be_put_back_to_any_second_of_the_last_weeks() -> None:
    for table_ in of_type("AWS::DynamoDB::Table").values():
        assert table_["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_an_upgrade_does_not_write_over_the_routes_that_were_edited() -> None:
    """CloudFormation writes all properties as soon as one has changed: so these stay as they are for ever."""
    assert resource("RoutesParameter") == {
        "Type": "String",
        "Tier": "Intelligent-Tiering",
        "Description": "Which object keys lead to a recompute of which models; changes are in force within a"
        " minute",
        "Value": {"Ref": "Routes"},
    }


# --- Anywhere, and more than once --------------------------------------------------------------------------

LONGEST_STACK_NAME, LONGEST_REGION = "s" * 128, "us-isob-east-1"
LONGEST_NAMES = {
    "AWS::CloudWatch::Dashboard": 255,
    "AWS::Lambda::LayerVersion": 140,
    "AWS::Logs::LogGroup": 512,
    "AWS::Logs::QueryDefinition": 255,
}
"""Characters, as AWS documents them, of what the template names; all else CloudFormation names."""


def test_stacks_share_no_name() -> None:
    named = {
        (resource["Type"], name): resource["Properties"][name]
        for resource in resources().values()
        if (name := NAME_PROPERTIES[resource["Type"]]) in resource["Properties"]
    }
    assert {cfn_type for cfn_type, _ in named} == LONGEST_NAMES.keys()
    for (cfn_type, _), value in named.items():
        pattern = value["Fn::Sub"]
        assert "${AWS::StackName}" in pattern
        name = pattern.replace("${AWS::StackName}", LONGEST_STACK_NAME)
        name = name.replace("${AWS::Region}", LONGEST_REGION)
        assert "$" not in name
        assert len(name) <= LONGEST_NAMES[cfn_type]


def test_what_an_account_has_but_once_is_named_by_region_too() -> None:
    for dashboard in of_type("AWS::CloudWatch::Dashboard").values():
        assert "${AWS::Region}" in dashboard["DashboardName"]["Fn::Sub"]


DEPLOYED = ["template.yaml", "samconfig.toml", "functions", "layers"]
SOMEWHERE = re.compile(
    r"arn:aws[\w-]*:"  # a partition
    r"|[\w.-]*amazonaws\.com[\w.]*|[\w.-]*aws\.amazon\.com[\w.]*"  # an endpoint
    r"|\b[a-z]{2}(-[a-z]+)+-\d\b"  # a region
)
SERVICE_PRINCIPAL = re.compile(r"[a-z0-9]+\.amazonaws\.com")
"""The same in all partitions."""


def test_nothing_that_is_deployed_names_a_partition_a_region_or_an_endpoint() -> None:
    files = [p for d in DEPLOYED for p in (ROOT / d, *(ROOT / d).rglob("*")) if p.is_file()]
    found = {
        (path.name, match)
        for path in files
        if path.suffix != ".pyc"
        for line in path.read_text().splitlines()
        if not re.match(r" +(Constraint)?Description: ", line)  # which may have examples
        for match in (m[0] for m in SOMEWHERE.finditer(line))
        if match != "docs.aws.amazon.com"
    }
    assert ("template.yaml", "events.amazonaws.com") in found
    assert {(name, match) for name, match in found if not SERVICE_PRINCIPAL.fullmatch(match)} == set()
    assert {name for name, _ in found} == {"template.yaml"}


def test_the_serverless_application_repository_takes_it() -> None:
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


# --- Gradually ---------------------------------------------------------------------------------------------

GRADUALLY = {"TriggerRecomputeFunction": "TriggerRecompute", "CheckStatusFunction": "CheckStatus"}
"""How the names of the resources begin that deploy a function gradually."""


@pytest.mark.parametrize(("function", "prefix"), GRADUALLY.items())
def test_a_gradual_deployment_goes_back_when_the_new_version_fails(function: str, prefix: str) -> None:
    alias = resources()[f"{prefix}Alias"]
    policy = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    group = resources()[policy["DeploymentGroupName"]["Ref"]]["Properties"]
    (watched,) = group["AlarmConfiguration"]["Alarms"]
    alarm = resources()[watched["Name"]["Ref"]]["Properties"]
    assert group["AlarmConfiguration"]["Enabled"] is True
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    version = {"Fn::GetAtt": [f"{prefix}Version", "Version"]}
    assert alias["Properties"]["FunctionVersion"] == version
    assert {d["Name"]: d["Value"] for d in alarm["Dimensions"]} == {
        "FunctionName": {"Ref": function},
        "Resource": {"Fn::Sub": f"${{{function}}}:{alias['Properties']['Name']}"},
        "ExecutedVersion": version,
    }


@pytest.mark.parametrize(("function", "prefix"), GRADUALLY.items())
def test_a_new_release_is_a_new_version_of_something_that_has_changed(function: str, prefix: str) -> None:
    """Lambda publishes none where nothing has changed since the last, which CloudFormation takes ill."""
    assert resources()[f"{prefix}Version"]["Properties"]["Description"] == {"Ref": "Release"}
    assert "${Release}" in resources()[function]["Properties"]["Description"]["Fn::Sub"]


def test_nothing_is_there_of_gradual_deployment_unless_it_is_wanted() -> None:
    types = ("AWS::CodeDeploy::", "AWS::Lambda::Version", "AWS::Lambda::Alias")
    named = {name for name, r in resources().items() if r["Type"].startswith(types)}
    conditional = {name for name, r in resources().items() if r.get("Condition") == "Gradual"}
    assert named < conditional
    assert template()["Parameters"]["DeploymentType"]["Default"] == "AllAtOnce"


def test_what_is_deployed_gradually_is_what_is_called() -> None:
    mapping, machine = resources()["TriggerRecomputeFunctionUpdates"], resources()["RecomputeWorkflow"]
    called = (
        mapping["Properties"]["FunctionName"],
        machine["Properties"]["DefinitionSubstitutions"]["CheckStatusFunction"],
    )
    assert [call["Fn::If"][:2] for call in called] == [
        ["Gradual", {"Ref": f"{prefix}Alias"}] for prefix in GRADUALLY.values()
    ]


# --- Logs and settings -------------------------------------------------------------------------------------


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
def test_the_longest_parameters_fit_into_the_environment(name: str) -> None:
    parameters = template()["Parameters"]

    def size(value: Any) -> int:
        match value:
            case {"Ref": str(parameter)} if parameter in parameters:
                given = parameters[parameter]
                return int(given["MaxLength"]) if given["Type"] == "String" else len(str(given["MaxValue"]))
            case {"Fn::If": [_, _, {"Ref": str(parameter)}]}:
                return int(parameters[parameter]["MaxLength"])
            case {"Ref": "AWS::StackName"}:
                return 128
            case str():
                return len(value)
        return 150  # an ARN, a URL or a name of this stack: AWS cuts these names

    variables = of_type("AWS::Lambda::Function")[name]["Environment"]["Variables"]
    assert sum(len(key) + size(value) for key, value in variables.items()) < ENVIRONMENT_BYTES


def test_lambda_does_not_stop_what_sends_its_updates_back_into_the_queue() -> None:
    sends = {"Ref": "UpdatesQueue"}
    looping = {
        name
        for name, function in of_type("AWS::Lambda::Function").items()
        if sends in function["Environment"]["Variables"].values()
    }
    allowed = {n for n, f in of_type("AWS::Lambda::Function").items() if f.get("RecursiveLoop") == "Allow"}
    assert looping == allowed == {"TriggerRecomputeFunction"}


def test_no_secret_is_in_the_environment_of_a_function() -> None:
    for function in of_type("AWS::Lambda::Function").values():
        named = {name for name in function["Environment"]["Variables"] if re.search("KEY|SECRET|TOKEN", name)}
        assert named == {"ARCANNA_API_KEY_SECRET_ARN", "ARCANNA_API_KEY_SECRET_FIELD"}


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
