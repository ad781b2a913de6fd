"""CloudFormation resource types, each created by the AWS API calls that CloudFormation makes for it.

moto's own CloudFormation leaves out resource types and drops properties without a word. So every type that
the template uses is written down here, and what a resource's calls did not take is kept in `dropped`.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

# This import must come first: of several classes for a type, moto takes the last one defined.
import moto.cloudformation.parsing  # noqa: F401
import yaml
from moto.core.common_models import CloudFormationModel

Properties = dict[str, Any]
Created = tuple[str, dict[str, Any]]  # the value of Ref, and the values of GetAtt by attribute name


class Resource:
    """One resource: its `properties`, resolved, and the paths of the `dropped` ones."""

    client: ClassVar[Callable[[str], Any]]  # moto makes the resources, so it cannot be an argument

    def __init__(self, name: str, cfn_type: str, properties: Properties) -> None:
        self.name = name
        self.type = cfn_type
        self.properties = properties
        self.dropped: list[str] = []
        self.physical_resource_id = name
        self._attributes: dict[str, Any] = {}
        self._left = dict(properties)

    def take(self, name: str, default: Any = None) -> Any:
        """Returns a property, which the caller handles itself."""
        return self._left.pop(name, default)

    def call(self, service: str, operation: str, **given: Any) -> Any:
        """Calls the API with `given`, and with each property for which it has a parameter of that name."""
        client = Resource.client(service)
        api_name = client.meta.method_to_api_mapping[operation]
        shape = client.meta.service_model.operation_model(api_name).input_shape
        names = {name.lower() for name in shape.members}
        mine = {name: self._left.pop(name) for name in list(self._left) if name.lower() in names}
        return getattr(client, operation)(**self._fitted(shape, mine | given, self.type))

    def finish(self, created: Created) -> None:
        self.physical_resource_id, self._attributes = created
        self.dropped += [f"{self.type}.{name}" for name in self._left]

    def _fitted(self, shape: Any, value: Any, path: str) -> Any:
        """Converts names and scalars: CloudFormation and the API differ in case and types."""
        match shape.type_name:
            case "structure":
                members = {name.lower(): name for name in shape.members}
                self.dropped += [f"{path}.{name}" for name in value if name.lower() not in members]
                known = {members[k.lower()]: v for k, v in value.items() if k.lower() in members}
                return {k: self._fitted(shape.members[k], v, f"{path}.{k}") for k, v in known.items()}
            case "list":
                return [self._fitted(shape.member, item, path) for item in value if item is not None]
            case "map":
                if isinstance(value, list):  # CloudFormation always has tags as a list
                    value = {tag["Key"]: tag["Value"] for tag in value}
                return {k: self._fitted(shape.value, v, f"{path}.{k}") for k, v in value.items()}
            case "string":
                return value if isinstance(value, str) else json.dumps(value)
            case "integer" | "long":
                return int(value)
            case "double" | "float":
                return float(value)
            case "boolean":
                return value in (True, "true")
        return value

    def update(self, properties: Properties) -> None:
        """Replaces the properties. Raises NotImplementedError for a type that cannot be updated here."""
        if properties == self.properties:
            return
        if self.type not in _UPDATES:
            changed = [
                k for k in {**properties, **self.properties} if properties.get(k) != self.properties.get(k)
            ]
            raise NotImplementedError(f"an update of {self.type}: {', '.join(sorted(changed))}")
        self.properties, self._left = properties, dict(properties)
        _UPDATES[self.type](self)

    # The methods that moto calls.

    def is_created(self) -> bool:
        return True

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True

    def get_cfn_attribute(self, attr: str) -> Any:
        return self._attributes[attr]


@contextmanager
def created_by(client: Callable[[str], Any]) -> Iterator[None]:
    """Creates resources with clients from this factory, until the block ends."""
    Resource.client = staticmethod(client)
    try:
        yield
    finally:
        del Resource.client


_UPDATES: dict[str, Callable[[Resource], object]] = {}
"""The functions that update a resource, by type."""

_types: list[type[CloudFormationModel]] = []  # moto searches live subclasses, but keeps no reference


def _creates(cfn_type: str, name_property: str = "") -> Callable[[Callable[[Resource], Created]], None]:
    def register(create: Callable[[Resource], Created]) -> None:
        class Type(Resource, CloudFormationModel):
            @staticmethod
            def cloudformation_type() -> str:
                return cfn_type

            @staticmethod
            def cloudformation_name_type() -> str:
                return name_property

            @classmethod
            def create_from_cloudformation_json(
                cls, resource_name: str, cloudformation_json: Properties, *_: Any, **__: Any
            ) -> Resource:
                properties = cloudformation_json["Properties"]
                # moto expects another property for the name of some types, and so has generated a name.
                resource = cls(properties.get(name_property, resource_name), cfn_type, properties)
                resource.take(name_property)
                resource.finish(create(resource))
                return resource

        _types.append(Type)  # type: ignore[type-abstract]  # what it lacks, moto asks of other stacks

    return register


# --- Where data is kept ----------------------------------------------------------------------------------


@_creates("AWS::S3::Bucket", "BucketName")
def _bucket(r: Resource) -> Created:
    s3 = Resource.client("s3")
    s3.create_bucket(Bucket=r.name, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    if notifications := dict(r.take("NotificationConfiguration", {})):
        bridge = notifications.pop("EventBridgeConfiguration", {"EventBridgeEnabled": False})
        r.dropped += [f"{r.type}.NotificationConfiguration.{name}" for name in notifications]
        if bridge.get("EventBridgeEnabled", True) in (True, "true"):
            s3.put_bucket_notification_configuration(
                Bucket=r.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )
    if encryption := r.take("BucketEncryption"):
        rules = [
            {f"Apply{k}" if k == "ServerSideEncryptionByDefault" else k: v for k, v in rule.items()}
            for rule in encryption["ServerSideEncryptionConfiguration"]
        ]
        r.call(
            "s3",
            "put_bucket_encryption",
            Bucket=r.name,
            ServerSideEncryptionConfiguration={"Rules": rules},
        )
    if "VersioningConfiguration" in r.properties:
        r.call("s3", "put_bucket_versioning", Bucket=r.name)
    if tags := r.take("Tags"):
        s3.put_bucket_tagging(Bucket=r.name, Tagging={"TagSet": tags})
    if "PublicAccessBlockConfiguration" in r.properties:
        r.call("s3", "put_public_access_block", Bucket=r.name)
    return r.name, {"Arn": f"arn:aws:s3:::{r.name}"}


@_creates("AWS::S3::BucketPolicy")
def _bucket_policy(r: Resource) -> Created:
    r.call("s3", "put_bucket_policy", Policy=r.take("PolicyDocument"))
    return r.name, {}


@_creates("AWS::DynamoDB::Table", "TableName")
def _table(r: Resource) -> Created:
    encryption = r.take("SSESpecification", {})
    encryption = {{"SSEEnabled": "Enabled"}.get(k, k): v for k, v in encryption.items()}
    made = r.call("dynamodb", "create_table", TableName=r.name, SSESpecification=encryption)
    if "PointInTimeRecoverySpecification" in r.properties:
        r.call("dynamodb", "update_continuous_backups", TableName=r.name)
    if "TimeToLiveSpecification" in r.properties:
        r.call("dynamodb", "update_time_to_live", TableName=r.name)
    return r.name, {"Arn": made["TableDescription"]["TableArn"]}


@_creates("AWS::SecretsManager::Secret", "Name")
def _secret(r: Resource) -> Created:
    arn = r.call("secretsmanager", "create_secret", Name=r.name)["ARN"]
    return arn, {"Id": arn}


@_creates("AWS::SSM::Parameter", "Name")
def _parameter(r: Resource) -> Created:
    value = r.properties["Value"]
    r.call("ssm", "put_parameter", Name=r.name)
    return r.name, {"Value": value, "Type": r.properties["Type"]}


@_creates("AWS::KMS::Key")
def _key(r: Resource) -> Created:
    made = r.call("kms", "create_key", Policy=r.take("KeyPolicy"))["KeyMetadata"]
    if r.take("EnableKeyRotation"):
        r.call("kms", "enable_key_rotation", KeyId=made["KeyId"])
    return made["KeyId"], {"Arn": made["Arn"], "KeyId": made["KeyId"]}


@_creates("AWS::KMS::Alias", "AliasName")
def _alias(r: Resource) -> Created:
    r.call("kms", "create_alias", AliasName=r.name)
    return r.name, {}


# --- Messages, events and schedules ----------------------------------------------------------------------


@_creates("AWS::SQS::Queue", "QueueName")
def _queue(r: Resource) -> Created:
    names = [name for name in r.properties if name not in ("Tags", "QueueName")]
    attributes = {name: r.take(name) for name in names}
    made = r.call("sqs", "create_queue", QueueName=r.name, Attributes=attributes)
    found = Resource.client("sqs").get_queue_attributes(
        QueueUrl=made["QueueUrl"], AttributeNames=["QueueArn"]
    )
    arn = found["Attributes"]["QueueArn"]
    return made["QueueUrl"], {"Arn": arn, "QueueName": r.name, "QueueUrl": made["QueueUrl"]}


@_creates("AWS::SQS::QueuePolicy")
def _queue_policy(r: Resource) -> Created:
    policy = json.dumps(r.take("PolicyDocument"))
    for url in r.take("Queues"):
        r.call("sqs", "set_queue_attributes", QueueUrl=url, Attributes={"Policy": policy})
    return r.name, {}


@_creates("AWS::SNS::Topic", "TopicName")
def _topic(r: Resource) -> Created:
    names = ("DisplayName", "KmsMasterKeyId", "SignatureVersion", "TracingConfig")
    attributes = {name: r.take(name) for name in names if name in r.properties}
    arn = r.call("sns", "create_topic", Name=r.name, Attributes=attributes)["TopicArn"]
    return arn, {"TopicArn": arn, "TopicName": r.name}


@_creates("AWS::SNS::TopicPolicy")
def _topic_policy(r: Resource) -> Created:
    policy = json.dumps(r.take("PolicyDocument"))
    for arn in r.take("Topics"):
        r.call(
            "sns",
            "set_topic_attributes",
            TopicArn=arn,
            AttributeName="Policy",
            AttributeValue=policy,
        )
    return r.name, {}


@_creates("AWS::SNS::Subscription")
def _subscription(r: Resource) -> Created:
    made = r.call("sns", "subscribe", ReturnSubscriptionArn=True)
    return made["SubscriptionArn"], {}


@_creates("AWS::Events::EventBus", "Name")
def _event_bus(r: Resource) -> Created:
    arn = r.call("events", "create_event_bus", Name=r.name)["EventBusArn"]
    return r.name, {"Arn": arn, "Name": r.name}


@_creates("AWS::Events::Rule", "Name")
def _rule(r: Resource) -> Created:
    bus = {"EventBusName": r.properties.get("EventBusName", "default")}
    targets = r.take("Targets", [])
    # The local cloud delivers to no other targets, and supports no other input.
    for target in targets:
        service = target["Arn"].split(":")[2]
        r.dropped += [f"{r.type}.Targets.Arn ({service})"] if service not in ("sqs", "logs", "states") else []
        r.dropped += [f"{r.type}.Targets.{k}" for k in ("Input", "InputPath") if k in target]
        if service == "states" and "InputTransformer" in target:
            r.dropped.append(f"{r.type}.Targets.InputTransformer (states)")
    arn = r.call("events", "put_rule", Name=r.name)["RuleArn"]
    r.call("events", "put_targets", Rule=r.name, Targets=targets, **bus)
    return r.name, {"Arn": arn}


@_creates("AWS::Scheduler::ScheduleGroup", "Name")
def _schedule_group(r: Resource) -> Created:
    arn = r.call("scheduler", "create_schedule_group", Name=r.name)["ScheduleGroupArn"]
    return r.name, {"Arn": arn}


@_creates("AWS::Scheduler::Schedule", "Name")
def _schedule(r: Resource) -> Created:
    return r.name, {"Arn": r.call("scheduler", "create_schedule", Name=r.name)["ScheduleArn"]}


# --- Code ------------------------------------------------------------------------------------------------


@_creates("AWS::Lambda::LayerVersion", "LayerName")
def _layer(r: Resource) -> Created:
    arn = r.call("lambda", "publish_layer_version", LayerName=r.name)["LayerVersionArn"]
    return arn, {"LayerVersionArn": arn}


@_creates("AWS::Lambda::Function", "FunctionName")
def _function(r: Resource) -> Created:
    reserved = r.take("ReservedConcurrentExecutions")
    made = r.call("lambda", "create_function", FunctionName=r.name)
    if reserved is not None:
        r.call(
            "lambda",
            "put_function_concurrency",
            FunctionName=r.name,
            ReservedConcurrentExecutions=reserved,
        )
    return r.name, {"Arn": made["FunctionArn"]}


@_creates("AWS::Lambda::EventSourceMapping")
def _event_source_mapping(r: Resource) -> Created:
    if "FilterCriteria" in r.properties:
        r.dropped.append(f"{r.type}.FilterCriteria")
    uuid = r.call("lambda", "create_event_source_mapping")["UUID"]
    return uuid, {"Id": uuid}


@_creates("AWS::Lambda::EventInvokeConfig")
def _event_invoke_config(r: Resource) -> Created:
    r.take("Qualifier")  # there is only $LATEST
    r.call("lambda", "put_function_event_invoke_config")
    return r.name, {}


@_creates("AWS::Lambda::Permission")
def _permission(r: Resource) -> Created:
    r.call("lambda", "add_permission", StatementId=r.name)
    return r.name, {}


@_creates("AWS::StepFunctions::StateMachine", "StateMachineName")
def _state_machine(r: Resource) -> Created:
    text = r.take("DefinitionString")
    if location := r.take("DefinitionS3Location"):
        body = Resource.client("s3").get_object(Bucket=location["Bucket"], Key=location["Key"])["Body"]
        text = body.read().decode()
    for name, value in r.take("DefinitionSubstitutions", {}).items():
        text = text.replace(f"${{{name}}}", str(value))
    made = r.call(
        "stepfunctions",
        "create_state_machine",
        name=r.name,
        type=r.take("StateMachineType", "STANDARD"),
        definition=json.dumps(yaml.load(text, Loader=yaml.CSafeLoader)),
    )
    return made["stateMachineArn"], {"Arn": made["stateMachineArn"], "Name": r.name}


# --- Who may, and who is told ----------------------------------------------------------------------------


@_creates("AWS::IAM::Role", "RoleName")
def _role(r: Resource) -> Created:
    policies, managed = r.take("Policies", []), r.take("ManagedPolicyArns", [])
    made = r.call("iam", "create_role", RoleName=r.name)["Role"]
    for policy in policies:
        # AWS assumes version 2008 if a document has none; moto refuses it.
        document = {"Version": "2012-10-17"} | policy["PolicyDocument"]
        given = policy | {"PolicyDocument": document}
        r.call("iam", "put_role_policy", RoleName=r.name, **given)
    for arn in managed:
        r.call("iam", "attach_role_policy", RoleName=r.name, PolicyArn=arn)
    return r.name, {"Arn": made["Arn"], "RoleId": made["RoleId"]}


@_creates("AWS::IAM::ManagedPolicy", "ManagedPolicyName")
def _managed_policy(r: Resource) -> Created:
    made = r.call("iam", "create_policy", PolicyName=r.name)["Policy"]
    return made["Arn"], {"PolicyArn": made["Arn"]}


@_creates("AWS::Logs::LogGroup", "LogGroupName")
def _log_group(r: Resource) -> Created:
    r.call("logs", "create_log_group", logGroupName=r.name)
    if "RetentionInDays" in r.properties:
        r.call("logs", "put_retention_policy", logGroupName=r.name)
    groups = Resource.client("logs").describe_log_groups(logGroupNamePrefix=r.name)["logGroups"]
    return r.name, {"Arn": next(g["arn"] for g in groups if g["logGroupName"] == r.name)}


@_creates("AWS::Logs::QueryDefinition", "Name")
def _query_definition(r: Resource) -> Created:
    for name in r.properties:
        r.take(name)
    r.dropped.append(r.type)  # moto lacks this API
    return r.name, {"QueryDefinitionId": r.name}


@_creates("AWS::CloudWatch::Alarm", "AlarmName")
def _alarm(r: Resource) -> Created:
    r.call("cloudwatch", "put_metric_alarm", AlarmName=r.name)
    found = Resource.client("cloudwatch").describe_alarms(AlarmNames=[r.name])["MetricAlarms"]
    return r.name, {"Arn": found[0]["AlarmArn"]}


@_creates("AWS::CloudWatch::Dashboard", "DashboardName")
def _dashboard(r: Resource) -> Created:
    r.call("cloudwatch", "put_dashboard", DashboardName=r.name)
    return r.name, {}


# --- What an update changes ------------------------------------------------------------------------------


def _updates(cfn_type: str) -> Callable[[Callable[[Resource], object]], None]:
    def register(update: Callable[[Resource], object]) -> None:
        _UPDATES[cfn_type] = update

    return register


@_updates("AWS::Lambda::Function")
def _update_function(r: Resource) -> None:
    """Does nothing: the cloud reads code and variables from the properties after a deployment."""


@_updates("AWS::CloudWatch::Alarm")
def _update_alarm(r: Resource) -> None:
    r.take("AlarmName")
    r.call("cloudwatch", "put_metric_alarm", AlarmName=r.physical_resource_id)


@_updates("AWS::CloudWatch::Dashboard")
def _update_dashboard(r: Resource) -> None:
    r.take("DashboardName")
    r.call("cloudwatch", "put_dashboard", DashboardName=r.physical_resource_id)


NAME_PROPERTIES = {t.cloudformation_type(): t.cloudformation_name_type() for t in _types}
"""The property with a resource's physical name, by type; empty where AWS gives the name."""

SUPPORTED = frozenset(NAME_PROPERTIES)
