"""Stands in for `sam deploy`: creates the stack, and refuses a template that it cannot deploy completely."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudformation.models import cloudformation_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

from tests.support.local_cloud.packaging import Package
from tests.support.local_cloud.resources import SUPPORTED, Resource, created_by

# What has no effect here, by "Type" or "Type.Property", with the reason why a run is none the worse for it.
LEFT_OUT = {
    "AWS::Logs::QueryDefinition": "a saved query does nothing by itself; moto has no API for it",
}


class Incomplete(Exception):
    """A part of the template has no effect here, so that tests would prove nothing about it."""


def deploy(
    package: Package, name: str, parameters: Mapping[str, str], client: Callable[[str], Any]
) -> dict[str, Resource]:
    """Creates the stack and returns its resources by logical id. Raises Incomplete, ValueError."""
    values = parameter_values(package.template.get("Parameters", {}), parameters)
    assert_rules(package.template.get("Rules", {}), values)
    resources = package.template["Resources"]
    if unknown := sorted({r["Type"] for r in resources.values()} - SUPPORTED):
        raise Incomplete(f"no resources of these types can be made: {', '.join(unknown)}")
    # Not by the API, which would hide which resource failed, and why.
    cloudformation = cloudformation_backends[DEFAULT_ACCOUNT_ID][client("cloudformation").meta.region_name]
    with created_by(client):
        stack = cloudformation.create_stack(name, json.dumps(package.template), values)
    wanted = {
        logical_id
        for logical_id, resource in resources.items()
        if "Condition" not in resource or stack.resource_map.lazy_condition_map[resource["Condition"]]
    }
    made: dict[str, object] = {logical_id: stack.resource_map[logical_id] for logical_id in wanted}
    created = {logical_id: r for logical_id, r in made.items() if isinstance(r, Resource)}
    if missing := sorted(wanted - created.keys()):
        raise Incomplete(f"not created: {', '.join(missing)}")
    dropped = {path for resource in created.values() for path in resource.dropped}
    if refused := sorted(dropped - LEFT_OUT.keys()):
        raise Incomplete(f"without effect: {', '.join(refused)}")
    return created


def parameter_values(declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]) -> dict[str, str]:
    """The value of every parameter. Raises ValueError where CloudFormation would refuse one."""
    if unknown := given.keys() - declared.keys():
        raise ValueError(f"the template has no parameters {sorted(unknown)}")
    values = {}
    for name, parameter in declared.items():
        if name not in given and "Default" not in parameter:
            raise ValueError(f"the parameter {name} has no value")
        values[name] = str(given.get(name, parameter.get("Default")))
        if problem := _problem(parameter, values[name]):
            raise ValueError(f"the parameter {name} is {values[name]!r}: {problem}")
    return values


def _problem(parameter: Mapping[str, Any], value: str) -> str | None:
    if (allowed := parameter.get("AllowedValues")) and value not in map(str, allowed):
        return f"not one of {allowed}"
    members = value.split(",") if parameter["Type"] == "CommaDelimitedList" else [value]
    if (pattern := parameter.get("AllowedPattern")) and not all(re.fullmatch(pattern, m) for m in members):
        return str(parameter.get("ConstraintDescription", f"does not match {pattern}"))
    if not parameter.get("MinLength", 0) <= len(value) <= parameter.get("MaxLength", len(value)):
        return "too short or too long"
    if "MinValue" in parameter and float(value) < parameter["MinValue"]:
        return f"less than {parameter['MinValue']}"
    if "MaxValue" in parameter and float(value) > parameter["MaxValue"]:
        return f"more than {parameter['MaxValue']}"
    return None


def assert_rules(rules: Mapping[str, Mapping[str, Any]], values: Mapping[str, str]) -> None:
    """Raises ValueError where the parameters' values together break one of the template's Rules.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
    """
    for rule in rules.values():
        if "RuleCondition" in rule and not _holds(rule["RuleCondition"], values):
            continue
        for assertion in rule["Assertions"]:
            if not _holds(assertion["Assert"], values):
                raise ValueError(assertion["AssertDescription"])


def _holds(function: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    match function:
        case {"Fn::Not": [inner]}:
            return not _holds(inner, values)
        case {"Fn::Contains": [{"Ref": name}, text]}:
            return text in values[name].split(",")  # an empty list has one member, which is empty
    raise Incomplete(f"rules know no such function: {sorted(function)}")
