"""Arguments of `make deploy` are read unchanged, or refused with what to type instead."""

import json
import os
import pty
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)
from hypothesis import given as any_of
from hypothesis import strategies as st

from tests.support.deployment import template
from tests.tools.deploy.account import LOOPBACK_CLOUD, Account, check_cloud
from tests.tools.deploy.given import (
    LARGEST_KEY,
    SHORTHANDS,
    Given,
    Wrong,
    _as_sam_reads,
    as_override,
    asked_key,
    check_together,
    key_in,
    read,
)

KEY = "k3y/with+printable=characters"


def given(**words: str) -> Given:
    """Reads these arguments. The others are empty or have their defaults."""
    empty = dict.fromkeys(("URL", "EMAIL", "BUCKET", "KEY_FILE", "ARGS"), "")
    return read({**empty, "STACK": "arcanna-metrics", **words}, template())


def refused(**words: str) -> str:
    """The error for these arguments."""
    with pytest.raises(Wrong) as caught:
        given(**words)
    return str(caught.value)


# --- Parameters ------------------------------------------------------------------------------------------


def test_each_argument_sets_its_parameter() -> None:
    read_ = given(
        URL="https://soc.example.com:9666/arcanna", EMAIL="soc@example.com", BUCKET="training", STACK="a1-b"
    )
    assert read_ == Given(
        "a1-b",
        {
            "ArcannaBaseUrl": "https://soc.example.com:9666/arcanna",
            "NotificationEmail": "soc@example.com",
            "TrainingDataBucketName": "training",
        },
        None,
    )
    assert set(SHORTHANDS.values()) <= template()["Parameters"].keys()


def test_empty_arguments_override_nothing() -> None:
    assert given() == Given("arcanna-metrics", {}, None)


def test_any_parameter_can_be_set_in_args_with_shell_quoting() -> None:
    args = "LogRetentionDays=30 NoProxy='arcanna.internal, .example.com' ObjectKeyPrefix="
    assert given(ARGS=args).overrides == {
        "LogRetentionDays": "30",
        "NoProxy": "arcanna.internal, .example.com",
        "ObjectKeyPrefix": "",
    }


@pytest.mark.parametrize(
    ("url", "why", "instead"),
    [
        ("arcanna.example.com", "does not begin with https://", "https://arcanna.example.com"),
        ("arcanna.example.com:9666", "does not begin with https://", "https://arcanna.example.com:9666"),
        ("http://arcanna.example.com/x", "plain http", "https://arcanna.example.com/x"),
        ("https://arcanna.example.com/x?a=b", "query", "https://arcanna.example.com/x"),
        ("https://arcanna.example.com#top", "fragment", "https://arcanna.example.com"),
        ("https://soc:hunter2@arcanna.example.com", "credentials", "https://arcanna.example.com"),
        ("soc:hunter2@arcanna.example.com", "credentials", "https://arcanna.example.com"),
        ("ftp://arcanna.example.com", "must be an https URL", "https://arcanna.example.com"),
        ("https://", "must be", "https://arcanna.example.com"),
        ("https://[::1", "URL is not an address: it must be an https URL", "https://arcanna.example.com"),
        (
            "https://arcanna example com",
            "https://arcanna example com must be an https URL",
            "https://arcanna.example.com",
        ),
        ("$(touch canary)", "does not begin", "https://arcanna.example.com"),
        ("https://arcanna.example.com/api/v2", "appends itself", "https://arcanna.example.com"),
        ("https://soc.example.com:9666/x/api/v2/", "appends itself", "https://soc.example.com:9666/x"),
        ("https://soc.example.com/api/v2/metrics/model", "appends itself", "https://soc.example.com"),
        ("http://arcanna.example.com/api/v2", "plain http", "https://arcanna.example.com"),
    ],
)
def test_wrong_url_is_refused_with_the_right_one(url: str, why: str, instead: str) -> None:
    said = refused(URL=url)
    assert why in said
    assert said.endswith(f"Type URL={instead}")
    assert "hunter2" not in said
    assert given(URL=instead).overrides == {"ArcannaBaseUrl": instead}


def test_url_with_a_path_similar_to_the_apis_is_accepted() -> None:
    assert given(URL="https://soc.example.com/api").overrides["ArcannaBaseUrl"].endswith("/api")


@pytest.mark.parametrize(
    ("bucket", "instead"),
    [
        ("s3://training/data", "training"),
        ("arn:aws:s3:::training", "training"),
        ("Training_Data", "name-of-a-bucket"),
        ("ab", "name-of-a-bucket"),
    ],
)
def test_invalid_bucket_name_is_refused(bucket: str, instead: str) -> None:
    assert f"Type BUCKET={instead}, or leave it out" in refused(BUCKET=bucket)


@pytest.mark.parametrize("email", ["soc", "soc@", "a@b.c d@e.f", "soc@example"])
def test_invalid_email_address_is_refused(email: str) -> None:
    assert refused(EMAIL=email) == (
        f"The parameter NotificationEmail is {email!r}: it must be empty, or one e-mail address. Type"
        " EMAIL=soc@example.com"
    )


@pytest.mark.parametrize(
    ("stack", "instead"),
    [
        ("arcanna_metrics", "arcanna-metrics"),
        ("1st", "arcanna-metrics"),
        ("a b", "a-b"),
        ("", "arcanna-metrics"),
        ("x" * 129, "x" * 128),
    ],
)
def test_invalid_stack_name_is_refused(stack: str, instead: str) -> None:
    assert refused(STACK=stack).endswith(f"Type STACK={instead}")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ("LogRetentionDay=30", "There is no parameter LogRetentionDay. Type ARGS='LogRetentionDays=...'"),
        ("architecture=x86_64", "Type ARGS='Architecture=...'"),
        ("ProxyURL=http://p:1", "There is no parameter ProxyURL. Type ARGS='ProxyUrl=...'"),
        ("=x", "There is no parameter . Type ARGS='"),
        ("LogRetentionDays", "'LogRetentionDays' in ARGS has no value"),
        ("LogRetentionDays=30 days", "'days' in ARGS has no value"),
        ("NoProxy='a", "cannot be split"),
        ("LogRetentionDays=31", "not one of 1, 3, 5"),
        ("FreshnessObjectiveSeconds=soon", "not a number"),
        ("FreshnessObjectiveSeconds=1", "less than 60"),
        ("ProxyUrl=http://user:password@proxy:1", "without credentials"),
        ("ArcannaBaseUrl=http://soc.example.com", "Type URL=https://soc.example.com"),
    ],
)
def test_wrong_parameter_is_refused(args: str, why: str) -> None:
    assert why in refused(ARGS=args)


@pytest.mark.parametrize(
    "args", ["ProxyUrl=http://user:secret@proxy:1", "'CaBundle=-----BEGIN PRIVATE KEY-----secret'"]
)
def test_refused_value_that_may_be_secret_is_not_shown(args: str) -> None:
    assert "secret" not in refused(ARGS=args)


def test_value_that_sam_cannot_be_given_is_refused_before_anything_is_built() -> None:
    said = refused(ARGS="""ObjectKeyPrefix='a\\"b'""", STACK="metrics")
    assert "SAM CLI cannot be given this value of ObjectKeyPrefix" in said
    assert said.endswith(
        ".venv/bin/sam deploy --stack-name metrics --parameter-overrides file://parameters.yaml"
    )


def test_parameter_given_twice_is_refused() -> None:
    both = refused(URL="https://a.example.com", ARGS="ArcannaBaseUrl=https://b.example.com")
    assert "ArcannaBaseUrl is given twice" in both
    assert "LogRetentionDays is given twice" in refused(ARGS="LogRetentionDays=30 LogRetentionDays=60")


def test_deployed_values_count_for_parameters_that_depend_on_each_other() -> None:
    url = {"ArcannaBaseUrl": "https://a.example.com"}
    with pytest.raises(Wrong, match="SubnetIds needs SecurityGroupIds"):
        check_together(template(), url, {"SubnetIds": "subnet-0a1"})
    before = {**url, "SecurityGroupIds": "sg-01", "SubnetIds": "subnet-0b2", "OfAnOlderVersion": "x"}
    values = check_together(template(), before, {"SubnetIds": "subnet-0a1"})
    assert (values["SubnetIds"], values["SecurityGroupIds"]) == ("subnet-0a1", "sg-01")
    assert values.keys() == template()["Parameters"].keys()


# --- As SAM reads it -------------------------------------------------------------------------------------


@any_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_value_reaches_the_template_unchanged_or_is_refused(value: str) -> None:
    try:
        word = as_override("Name", value)
    except ValueError:
        assert re.search(r"[\\\"'\n]", value) or value != value.strip()
    else:
        assert _as_sam_reads(word) == {"Name": value}


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("https://a.example.com", "Name=https://a.example.com"),
        ("", 'Name=""'),
        ("a, b", 'Name="a, b"'),
        (json.dumps({"a": ["b c"]}), 'Name="{\\"a\\": [\\"b c\\"]}"'),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n", 'Name="-----BEGIN CERTIFICATE-----\nMIIB\n"'),
    ],
)
def test_value_is_quoted_only_where_sam_needs_it(value: str, word: str) -> None:
    assert as_override("Name", value) == word


# --- The key ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [KEY, f"{KEY}\n", f"{KEY}\r\n", f"  {KEY} \n", f"\ufeff{KEY}", f'"{KEY}"']
)
def test_key_is_read_without_the_characters_that_editors_add(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key.txt"
    file.write_bytes(content.encode())
    assert given(KEY_FILE=str(file)).key == KEY


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (f"{KEY}\n{KEY}\n".encode(), "it has a line break"),
        (f"{KEY}\r{KEY}".encode(), "it has a line break"),
        (f"key: {KEY}".encode(), "U+0020"),
        (f"{KEY}é".encode(), "no HTTP header can hold"),
        (f"{KEY}é".encode("latin-1"), "not text in UTF-8"),
        (f'{{"key":"{KEY}"}}'.encode(), "JSON document"),
        (b"k" * (LARGEST_KEY + 1), "larger than a key"),
    ],
)
def test_file_without_a_valid_key_is_refused_and_not_quoted(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "key.txt"
    file.write_bytes(content)
    said = refused(KEY_FILE=str(file))
    assert why in said
    assert "Type KEY_FILE=key.txt" in said
    assert KEY not in said


def test_file_below_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.txt").write_text(KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given(KEY_FILE="~/key.txt").key == KEY


@pytest.mark.parametrize("where", ["missing.txt", ".", "with\0null"])
def test_unreadable_file_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match="KEY_FILE"):
        key_in(tmp_path / where)


def test_key_is_not_asked_for_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(Wrong, match=r"no terminal to ask for it\. Type KEY_FILE=key\.txt"):
            asked_key()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes standard input a terminal on which the line is typed."""

    def type_(line: str) -> None:
        monkeypatch.setattr("tests.tools.deploy.given.getpass", lambda _: line)

    other, end = pty.openpty()
    with os.fdopen(other, "rb"), os.fdopen(end) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield type_


def test_typed_line_is_the_key(terminal: Callable[[str], None]) -> None:
    terminal(KEY)
    assert asked_key() == KEY


@pytest.mark.parametrize("typed", ["", "two words"])
def test_typed_line_that_is_not_a_key_is_refused(terminal: Callable[[str], None], typed: str) -> None:
    terminal(typed)
    with pytest.raises(Wrong, match="The key is not valid"):
        asked_key()


# --- The account -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8566", "http://localhost:4566", "https://[::1]:1"])
def test_endpoint_on_this_machine_is_refused_unless_it_is_intended(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOOPBACK_CLOUD, raising=False)
    with pytest.raises(Wrong, match="Type the same in a new shell"):
        check_cloud(endpoint)

    monkeypatch.setenv(LOOPBACK_CLOUD, "1")
    check_cloud(endpoint)


def test_shell_without_a_local_endpoint_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOOPBACK_CLOUD, raising=False)
    check_cloud("https://cloudformation.eu-central-1.amazonaws.com")


def test_invalid_endpoint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3, "Session", boto3.session.Session)  # shared ones have their clients already
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    with pytest.raises(Wrong, match="AWS cannot be called: Invalid endpoint: localhost:4566"):
        Account.of_the_shell()


class Refusing:
    """A session whose calls fail with an error."""

    region_name = "eu-central-1"
    meta = SimpleNamespace(endpoint_url="https://cloudformation.eu-central-1.amazonaws.com")

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, **_: str) -> "Refusing":
        return self

    def client(self, _: str) -> "Refusing":
        return self

    def get_caller_identity(self) -> None:
        raise self._error


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "No."}}, "GetCallerIdentity")


SIGN_IN = "aws configure; or aws sso login --profile NAME, and then AWS_PROFILE=NAME make deploy ..."
PROFILES = "AWS_PROFILE=NAME make deploy ..., with a name of aws configure list-profiles"
NETWORK = "aws sts get-caller-identity to try the network and the shell's AWS_ variables"


@pytest.mark.parametrize(
    ("error", "says", "instead"),
    [
        (refusal("ExpiredToken"), "The AWS credentials have expired", SIGN_IN),
        (refusal("InvalidClientTokenId"), "AWS refuses the credentials: An error occurred", SIGN_IN),
        (NoCredentialsError(), "There are no AWS credentials", SIGN_IN),
        (UnauthorizedSSOTokenError(), "The AWS credentials cannot be used: The SSO session", SIGN_IN),
        (ProfileNotFound(profile="soc"), "The config profile (soc) could not be found", PROFILES),
        (EndpointConnectionError(endpoint_url="https://sts"), "AWS cannot be called: Could not", NETWORK),
    ],
)
def test_unusable_credentials_are_refused_with_what_to_type(
    error: Exception, says: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boto3, "Session", Refusing(error))
    with pytest.raises(Wrong) as caught:
        Account.of_the_shell()
    said = str(caught.value)
    assert said.startswith(says)
    assert said.endswith(f". Type {instead}")
    assert ".." not in said.removesuffix(instead)


class CloudFormation:
    """Describes one stack."""

    def __init__(self, status: str, parameters: Mapping[str, str], **outputs: str) -> None:
        self._stack = {
            "StackStatus": status,
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
            "Outputs": [{"OutputKey": k, "OutputValue": v, "Description": k} for k, v in outputs.items()],
        }

    def client(self, _: str) -> "CloudFormation":
        return self

    def describe_stacks(self, **_: str) -> dict[str, Any]:
        return {"Stacks": [self._stack]}


OURS = {"ArcannaBaseUrl": "https://arcanna.example.com"}


def account(status: str, parameters: Mapping[str, str] = OURS, **outputs: str) -> Account:
    return Account(CloudFormation(status, parameters, **outputs), "123456789012", "eu-central-1")


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_stack_that_can_be_updated_is_described(status: str) -> None:
    stack = account(status, LedgerTable="ledger").stack("metrics")
    assert (stack.parameters, stack.outputs, stack.is_new) == (OURS, {"LedgerTable": "ledger"}, False)


def test_stack_with_only_a_change_set_counts_as_new() -> None:
    assert account("REVIEW_IN_PROGRESS", {}).stack("metrics").is_new


@pytest.mark.parametrize(
    ("status", "parameters", "instead"),
    [
        ("UPDATE_IN_PROGRESS", OURS, "Type the same again when that is over"),
        ("ROLLBACK_COMPLETE", OURS, "Type .venv/bin/sam delete --stack-name metrics --region eu-central-1"),
        ("DELETE_FAILED", OURS, "sam delete --stack-name metrics"),
        (
            "UPDATE_FAILED",
            OURS,
            "aws cloudformation rollback-stack --stack-name metrics --region eu-central-1",
        ),
        ("UPDATE_ROLLBACK_FAILED", OURS, "continue-update-rollback --stack-name metrics"),
        ("CREATE_COMPLETE", {"Other": "x"}, "Type another name: STACK=arcanna-metrics"),
    ],
)
def test_stack_that_cannot_be_updated_is_refused(
    status: str, parameters: Mapping[str, str], instead: str
) -> None:
    with pytest.raises(Wrong, match=re.escape(instead)):
        account(status, parameters).stack("metrics")
