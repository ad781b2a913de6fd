"""The account and region of the deployment, with the credentials that boto3 finds."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ProfileNotFound

from arcanna_metrics_cli.deployed import session
from arcanna_metrics_cli.endpoint import LOOPBACK
from arcanna_metrics_cli.troubles import explained
from tests.tools.deploy.given import Wrong

CAN_BE_UPDATED = {
    *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"),
    *("IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"),
}

LOOPBACK_CLOUD = "DEPLOY_TO_LOOPBACK"
"""Set by tests, because they deploy to a cloud on this machine."""


@dataclass(frozen=True)
class Stack:
    """A stack as CloudFormation describes it. It has no outputs before it is created."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    described: Mapping[str, str] = field(default_factory=dict)  # outputs by name

    @property
    def is_new(self) -> bool:
        return not self.outputs


def check_cloud(endpoint: str) -> None:
    """Raises Wrong if the endpoint is on this machine, as in a shell that has read build/local.env."""
    if urlsplit(endpoint).hostname in LOOPBACK and not os.environ.get(LOOPBACK_CLOUD):
        raise Wrong(
            f"This shell's AWS is {endpoint}, a cloud on this machine (AWS_ENDPOINT_URL), as after"
            " . build/local.env. Type the same in a new shell"
        )


def _explained(error: Exception) -> str:
    """What is wrong, in the words of the command, and what to type. make lacks the command's options."""
    trouble = explained(error)
    said = str(trouble).rstrip(".")
    if isinstance(error, ProfileNotFound):
        return f"{said}. Type AWS_PROFILE=NAME make deploy ..., with a name of aws configure list-profiles"
    # Everybody may ask who they are, so AWS refuses only the credentials.
    if isinstance(error, ClientError) or trouble.todo == explained(NoCredentialsError()).todo:
        return (
            f"{said}. Type aws configure; or aws sso login --profile NAME, and then"
            " AWS_PROFILE=NAME make deploy ..."
        )
    why = str(error).rstrip(".")
    return (
        f"AWS cannot be called: {why}. Type aws sts get-caller-identity to try the network and the shell's"
        " AWS_ variables"
    )


class Account:
    """The calls to AWS before and after the deployment. Every method may raise Wrong."""

    def __init__(self, session: Any, number: str, region: str) -> None:
        self._session = session
        self.number = number
        self.region = region

    @classmethod
    def of_the_shell(cls) -> Self:
        """Raises Wrong if the shell names no region, or if AWS does not accept its credentials."""
        try:
            of_shell = session()
            if not of_shell.region_name:
                raise Wrong(
                    "Which region? Type AWS_DEFAULT_REGION=eu-central-1 make deploy ..., or aws configure"
                )
            check_cloud(of_shell.client("cloudformation").meta.endpoint_url)
            identity = of_shell.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: an endpoint without http://
            raise Wrong(_explained(error)) from error
        return cls(of_shell, identity["Account"], of_shell.region_name)

    def stack(self, name: str) -> Stack:
        """The stack of that name. Raises Wrong if it cannot be updated or belongs to another application."""
        try:
            (found,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return Stack(name)
            raise Wrong(f"The stack {name} cannot be read: {error}") from error
        status = found["StackStatus"]
        if status == "REVIEW_IN_PROGRESS":  # a change set was created but never executed
            return Stack(name)
        if status.endswith("_IN_PROGRESS"):
            raise Wrong(
                f"The stack {name} is being changed ({status}). Type the same again when that is over"
            )
        if status == "UPDATE_FAILED":  # after a deployment that was told not to roll back
            raise Wrong(
                f"The update of the stack {name} failed and was not rolled back. The stack's events say why."
                f" Type aws cloudformation rollback-stack --stack-name {name} --region {self.region},"
                " and then the same again"
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise Wrong(
                f"The update of the stack {name} failed, and so did its rollback. The stack's events say why."
                f" Type aws cloudformation continue-update-rollback --stack-name {name}"
                f" --region {self.region}, and then the same again"
            )
        if status not in CAN_BE_UPDATED:
            raise Wrong(
                f"The stack {name} is {status} and cannot be updated. Type"
                f" .venv/bin/sam delete --stack-name {name} --region {self.region}, and then the same again"
            )
        parameters = {p["ParameterKey"]: p["ParameterValue"] for p in found.get("Parameters", [])}
        if "ArcannaBaseUrl" not in parameters:
            raise Wrong(
                f"The stack {name} belongs to another application. Type another name: STACK=arcanna-metrics"
            )
        outputs = found.get("Outputs", [])
        return Stack(
            name,
            parameters,
            {o["OutputKey"]: o["OutputValue"] for o in outputs},
            {o["OutputKey"]: o.get("Description", "") for o in outputs},
        )

    def check_bucket(self, name: str) -> None:
        """Raises Wrong unless the bucket exists in the region, because its events stay in its region."""
        create = "leave BUCKET out, and the stack creates one"
        try:
            region = self._client("s3").head_bucket(Bucket=name)["BucketRegion"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
                why = f"There is no bucket {name}"
            else:
                why = f"The bucket {name} cannot be accessed, and may belong to another account: {error}"
            raise Wrong(f"{why}. Type BUCKET=... with one of aws s3 ls, or {create}") from error
        if region != self.region:
            raise Wrong(
                f"The bucket {name} is in {region}, and its events do not reach {self.region}. Type"
                f" AWS_DEFAULT_REGION={region} make deploy ..., or {create}"
            )

    def is_empty(self, secret_arn: str) -> bool:
        """Whether a secret has never had a value."""
        described = self._client("secretsmanager").describe_secret(SecretId=secret_arn)
        return "AWSCURRENT" not in [
            stage for stages in described.get("VersionIdsToStages", {}).values() for stage in stages
        ]

    def put_key(self, secret_arn: str, key: str) -> None:
        """Puts the key into the secret, as plain text. It may be in another region than the stack."""
        secrets = self._session.client("secretsmanager", region_name=secret_arn.split(":")[3])
        secrets.put_secret_value(SecretId=secret_arn, SecretString=key)

    def _client(self, service: str) -> Any:
        return self._session.client(service)
