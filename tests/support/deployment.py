"""The template and the workflow as data, for tests that compare the code with them."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "functions/recompute_workflow.asl.yaml"


@cache
def template() -> dict[str, Any]:
    """template.yaml, with its intrinsic functions in their long form."""
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())  # type: ignore[no-untyped-call]
    return parsed


@cache
def workflow(tries: int | None = None) -> dict[str, Any]:
    """The state machine as it is deployed. `tries` replaces how often a step is tried.

    As CloudFormation does, this replaces the substitutions in the text before it parses the YAML. ARNs
    are of eu-west-1 and an account of AWS's documentation, with logical ids for names.
    """
    texts = {name: _text(value) for name, value in substitutions().items()}
    if tries:
        (retry,) = json.loads(texts["Retry"])
        texts["Retry"] = json.dumps([retry | {"MaxAttempts": tries - 1}])
    text = re.sub(r"\$\{(\w+)\}", lambda found: texts[found[1]], WORKFLOW.read_text())
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def substitutions() -> dict[str, Any]:
    """The template's substitutions for the definition, by name."""
    given: dict[str, Any] = resource("RecomputeWorkflow")["DefinitionSubstitutions"]
    return given


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case {"Ref": "AWS::Partition"}:
            return "aws"
        case {"Ref": str(name)}:
            return f"arn:aws:sns:eu-west-1:123456789012:{name}"
        case {"Fn::GetAtt": [str(name), "Arn"]}:
            return f"arn:aws:lambda:eu-west-1:123456789012:function:{name}"
    raise NotImplementedError(value)


def resource(name: str) -> dict[str, Any]:
    """The properties of a resource."""
    properties: dict[str, Any] = template()["Resources"][name]["Properties"]
    return properties


def environment_of(function: str) -> set[str]:
    """The names of the variables that the template sets for a function."""
    everywhere = template()["Globals"]["Function"]["Environment"]["Variables"]
    own = resource(function).get("Environment", {}).get("Variables", {})
    return {*everywhere, *own}


def allowed(role: str) -> list[dict[str, Any]]:
    """The statements that grant a role permissions, including those of shared policies."""
    properties = resource(role)
    documents = [policy["PolicyDocument"] for policy in properties["Policies"]]
    documents += [resource(arn["Ref"])["PolicyDocument"] for arn in properties.get("ManagedPolicyArns", [])]
    statements = [statement for document in documents for statement in document["Statement"]]
    return [statement for statement in statements if statement["Effect"] == "Allow"]


BY_AWS_ITSELF = ("logs:", "xray:", "kms:", "ec2:")
"""Actions that AWS itself performs with a role: logs and traces, encryption, network interfaces."""


def actions_of(name: str) -> set[str]:
    """The actions that a function or state machine may perform, without those that AWS performs."""
    listed = [s["Action"] if isinstance(s["Action"], list) else [s["Action"]] for s in allowed(f"{name}Role")]
    own = {action for actions in listed for action in actions}
    return {action for action in own if not action.startswith(BY_AWS_ITSELF)}


def texts(value: object) -> Iterator[str]:
    """Every string in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
