"""Validates the values of a template's parameters as CloudFormation does."""

import re
from collections.abc import Mapping
from typing import Any


class Refused(ValueError):
    """CloudFormation would refuse a value. `name` is the parameter, or None for a combination."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


def parameter_values(declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]) -> dict[str, str]:
    """The value of every parameter. Raises Refused."""
    if unknown := given.keys() - declared.keys():
        raise Refused(f"the template has no parameters {sorted(unknown)}")
    values = {}
    for name, parameter in declared.items():
        if name not in given and "Default" not in parameter:
            raise Refused(f"the parameter {name} has no value", name)
        values[name] = str(given.get(name, parameter.get("Default")))
        if problem := _problem(parameter, values[name]):
            raise Refused(f"the parameter {name} is {values[name]!r}: {problem}", name)
    return values


def _problem(parameter: Mapping[str, Any], value: str) -> str | None:
    if (allowed := parameter.get("AllowedValues")) and value not in map(str, allowed):
        return f"not one of {', '.join(map(str, allowed))}"
    members = value.split(",") if parameter["Type"] == "CommaDelimitedList" else [value]
    if (pattern := parameter.get("AllowedPattern")) and not all(re.fullmatch(pattern, m) for m in members):
        return f"it {parameter.get('ConstraintDescription', f'does not match {pattern}')}"
    if not parameter.get("MinLength", 0) <= len(value) <= parameter.get("MaxLength", len(value)):
        return "too short or too long"
    if parameter["Type"] == "Number" and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return "not a number"
    if "MinValue" in parameter and float(value) < parameter["MinValue"]:
        return f"less than {parameter['MinValue']}"
    if "MaxValue" in parameter and float(value) > parameter["MaxValue"]:
        return f"more than {parameter['MaxValue']}"
    return None


def assert_rules(rules: Mapping[str, Mapping[str, Any]], values: Mapping[str, str]) -> None:
    """Raises Refused if the combination of values breaks one of the template's Rules.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
    """
    for rule in rules.values():
        if "RuleCondition" in rule and not _holds(rule["RuleCondition"], values):
            continue
        for assertion in rule["Assertions"]:
            if not _holds(assertion["Assert"], values):
                raise Refused(assertion["AssertDescription"])


def _holds(function: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    match function:
        case {"Fn::Not": [inner]}:
            return not _holds(inner, values)
        case {"Fn::Contains": [{"Ref": name}, text]}:
            return text in values[name].split(",")  # an empty list has one empty member
    raise NotImplementedError(f"rules know no such function: {sorted(function)}")
