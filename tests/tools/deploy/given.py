"""Reads and checks the arguments of `make deploy`, before any call to AWS.

Only the template says which values a parameter accepts. This module adds what to type instead.
"""

import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from getpass import GetPassWarning, getpass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from click import UsageError
from samcli.cli.types import CfnParameterOverridesType  # type: ignore[import-untyped]

from arcanna_metrics.platform.key import not_a_key, unwrapped
from tests.support.parameters import Refused, assert_rules, parameter_values

LARGEST_KEY = 4096
"""Largest size of a key file in bytes. A key has a few dozen."""

STACK_NAME = r"[A-Za-z][A-Za-z0-9\-]{0,127}"
"""A stack's name as CloudFormation documents it."""

SHORTHANDS = {"URL": "ArcannaBaseUrl", "EMAIL": "NotificationEmail", "BUCKET": "TrainingDataBucketName"}
"""The parameters that have an argument of their own."""


class Wrong(Exception):
    """An argument is wrong. The message names it and says what to type instead."""


@dataclass(frozen=True)
class Given:
    """The arguments. `overrides` has parameters' values by name. `key` is None without a file."""

    stack: str
    overrides: Mapping[str, str]
    key: str | None


def read(words: Mapping[str, str], template: Mapping[str, Any]) -> Given:
    """Reads the arguments of make. Empty ones count as absent. Raises Wrong."""
    if not re.fullmatch(STACK_NAME, words["STACK"]):
        example = re.sub(r"[^A-Za-z0-9]+", "-", words["STACK"]).strip("-")[:128]
        example = example if re.fullmatch(STACK_NAME, example) else "arcanna-metrics"
        raise Wrong(
            f"STACK={words['STACK']} is not a name for a stack: letters, digits and hyphens, beginning with a"
            f" letter. Type STACK={example}"
        )
    declared = template["Parameters"]
    overrides = {SHORTHANDS[word]: words[word] for word in SHORTHANDS if words[word]}
    for name, value in _arguments(words["ARGS"], declared):
        if name in overrides:
            raise Wrong(f"{name} is given twice. Give it once")
        overrides[name] = value
    for name, value in overrides.items():
        _check(name, value, declared)
        _check_notation(name, value, words["STACK"])
    key = key_in(Path(words["KEY_FILE"])) if words["KEY_FILE"] else None
    return Given(words["STACK"], overrides, key)


def check_together(
    template: Mapping[str, Any], previous: Mapping[str, str], overrides: Mapping[str, str]
) -> Mapping[str, str]:
    """The value of every parameter after the deployment. Raises Wrong if the combination is invalid."""
    declared = template["Parameters"]
    kept = {name: value for name, value in previous.items() if name in declared}
    try:
        values = parameter_values(declared, {**kept, **overrides})
        assert_rules(template.get("Rules", {}), values)
    except Refused as refused:
        example = f"{refused.name}=..." if refused.name else "Name=value Name=value"
        raise Wrong(f"{refused}. Type ARGS='{example}'") from refused
    return values


# --- Parameters ------------------------------------------------------------------------------------------


def _arguments(text: str, declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The parameters in ARGS, which is split as a shell would."""
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise Wrong(
            f"ARGS={text} cannot be split: {error}. Type ARGS='Name=value Name=\"value with blanks\"'"
        ) from error
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise Wrong(f"{part!r} in ARGS has no value. Type ARGS='Name=value Name=\"value with blanks\"'")
        if name not in declared:
            close = get_close_matches(name.lower(), [each.lower() for each in declared], 1, 0)
            nearest = next(each for each in declared if each.lower() in close)
            raise Wrong(f"There is no parameter {name}. Type ARGS='{nearest}=...'")
        yield name, value


def _check(name: str, value: str, declared: Mapping[str, Any]) -> None:
    word = next((word for word, stands_for in SHORTHANDS.items() if stands_for == name), None)
    try:
        parameter_values({name: declared[name]}, {name: value})
    except Refused as refused:
        if word == "URL":
            raise Wrong(_wrong_url(value, declared[name])) from refused
        if word == "BUCKET":
            raise Wrong(_wrong_bucket(value, declared[name])) from refused
        example = "EMAIL=soc@example.com" if word == "EMAIL" else f"ARGS='{name}=...'"
        said = str(refused)
        if "PRIVATE KEY" in value or re.search("://.*@", value):  # which logs of pipelines would keep
            said = said.replace(f" is {value!r}", "")
        raise Wrong(f"{said[:1].upper()}{said[1:]}. Type {example}") from refused
    if name == SHORTHANDS["URL"] and (address := _without_api(value)) != value:
        raise Wrong(
            f"URL={value} has the API's own path, which the application appends itself. Type URL={address}"
        )


def _without_api(url: str) -> str:
    """The address of Arcanna, without /api/v2 and anything after it."""
    return re.sub(r"/api/v\d+(/.*)?$", "", url)


def _wrong_url(url: str, parameter: Mapping[str, Any]) -> str:
    """The error for an address. It never quotes credentials in the address."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host, path = parts.netloc.rpartition("@")[2], _without_api(parts.path).rstrip("/")
    except ValueError:  # for example, brackets without an IPv6 address
        return f"URL is not an address: it {parameter['ConstraintDescription']}. Type URL=https://arcanna.example.com"
    instead = f"https://{host}{path}"
    example = instead if re.fullmatch(parameter["AllowedPattern"], instead) else "https://arcanna.example.com"
    if "@" in parts.netloc:
        why = "URL holds credentials, which would be shown in the console"
    elif parts.query or parts.fragment:
        why = f"URL={url} has a query or fragment"
    elif "://" not in url:
        why = f"URL={url} does not begin with https://"
    elif parts.scheme == "http":
        why = f"URL={url} is plain http, so anybody on the network could read the key"
    else:
        why = f"URL={url} {parameter['ConstraintDescription']}"
    return f"{why}. Type URL={example}"


def _wrong_bucket(bucket: str, parameter: Mapping[str, Any]) -> str:
    name = re.sub(r"^(s3://|arn:[a-z\-]+:s3:::)", "", bucket).partition("/")[0]
    example = name if re.fullmatch(parameter["AllowedPattern"], name) else "name-of-a-bucket"
    return (
        f"BUCKET={bucket} is not a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens."
        f" Type BUCKET={example}, or leave it out, and the stack creates a bucket"
    )


def as_override(name: str, value: str) -> str:
    """The parameter as a word for `--parameter-overrides`. Raises ValueError if it has no notation."""
    escaped = value.replace('"', '\\"')
    for text in (f"{name}={value}", f'{name}="{escaped}"', f"{name}='{value}'"):
        if _as_sam_reads(text) == {name: value}:
            return text
    raise ValueError(f"the SAM CLI has no notation for this value of {name}")


def _check_notation(name: str, value: str, stack: str) -> None:
    try:
        as_override(name, value)
    except ValueError as error:
        raise Wrong(
            f"The SAM CLI cannot be given this value of {name}. Write it into a file, as `{name}: ...` in"
            f" YAML, and type make build, and then .venv/bin/sam deploy --stack-name {stack}"
            " --parameter-overrides file://parameters.yaml"
        ) from error


def _as_sam_reads(text: str) -> Mapping[str, str] | None:
    try:
        read_by_sam: Mapping[str, str] = CfnParameterOverridesType().convert((text,), None, None)
    except UsageError:
        return None
    return read_by_sam


# --- The key ---------------------------------------------------------------------------------------------


def key_in(file: Path) -> str:
    """The key in a file, without what editors add to it. Raises Wrong, which never quotes the file."""
    again = "Type KEY_FILE=key.txt, a file that holds Arcanna's management API key and nothing else"
    try:
        with file.expanduser().open("rb") as opened:  # some shells do not expand ~ within an argument
            content = opened.read(LARGEST_KEY + 1)
    except OSError as error:
        raise Wrong(f"KEY_FILE={file} cannot be read: {error.strerror}. {again}") from error
    except (ValueError, RuntimeError) as error:  # a null byte, or an unknown home directory
        raise Wrong(f"KEY_FILE is not a path: {error}. {again}") from error
    if len(content) > LARGEST_KEY:
        raise Wrong(f"KEY_FILE={file} is larger than a key can be. {again}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Wrong(f"KEY_FILE={file} is not text in UTF-8. {again}") from None
    return _key(text, f"KEY_FILE={file}", again)


def asked_key() -> str:
    """Asks for the key on the terminal, without showing it. Raises Wrong, also without a terminal."""
    again = "Type KEY_FILE=key.txt"
    if not sys.stdin.isatty():
        raise Wrong(f"The key is missing, and there is no terminal to ask for it. {again}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", GetPassWarning)  # it would show the key
            text = getpass("Arcanna's management API key (it is not shown): ")
    except (GetPassWarning, EOFError):
        raise Wrong(f"The terminal cannot ask for the key without showing it. {again}") from None
    return _key(text, "The key", "Type it again, or KEY_FILE=key.txt")


def _key(text: str, where: str, again: str) -> str:
    key = unwrapped(text)
    wrong = not_a_key(key)
    if wrong and re.search(r"[\r\n]", key):
        wrong = "it has a line break"
    if wrong:
        raise Wrong(f"{where} is not valid: {wrong}. {again}")
    return key
