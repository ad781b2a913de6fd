"""The template and the workflow as data, for tests that hold the code against them."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parent.parent


@cache
def template() -> dict[str, Any]:
    """template.yaml, with its intrinsic functions in their long form."""
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())  # type: ignore[no-untyped-call]
    return parsed


@cache
def workflow() -> dict[str, Any]:
    """The state machine, before its substitutions."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "functions/recompute_workflow.asl.yaml").read_text())
    return parsed


def resource(name: str) -> dict[str, Any]:
    """The properties of a resource."""
    properties: dict[str, Any] = template()["Resources"][name]["Properties"]
    return properties


def environment_of(function: str) -> set[str]:
    """The names of the variables that the template sets for a function."""
    everywhere = template()["Globals"]["Function"]["Environment"]["Variables"]
    own = resource(function).get("Environment", {}).get("Variables", {})
    return {*everywhere, *own}


def actions_of(name: str) -> set[str]:
    """The actions that a function or state machine may do, but for what it does by AWS's own hand."""
    policies = resource(f"{name}Role")["Policies"]
    statements = [s for policy in policies for s in policy["PolicyDocument"]["Statement"]]
    listed = [s["Action"] if isinstance(s["Action"], list) else [s["Action"]] for s in statements]
    own = {action for actions in listed for action in actions}
    return {action for action in own if not action.startswith(("logs:", "xray:", "kms:"))}


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
