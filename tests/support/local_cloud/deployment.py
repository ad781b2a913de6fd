"""Stands in for `sam deploy`: creates the stack, and refuses templates that it cannot deploy completely."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudformation.models import cloudformation_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

from tests.support.local_cloud.packaging import Package
from tests.support.local_cloud.resources import SUPPORTED, Resource, created_by
from tests.support.parameters import assert_rules, parameter_values

# Parts without an effect here, by "Type" or "Type.Property", with the reason why runs do not need them.
LEFT_OUT = {
    "AWS::Logs::QueryDefinition": "a saved query does nothing by itself; moto has no API for it",
}


class Incomplete(Exception):
    """A part of the template has no effect here, so tests would prove nothing about it."""


def deploy(
    package: Package, name: str, parameters: Mapping[str, str], client: Callable[[str], Any]
) -> dict[str, Resource]:
    """Creates the stack and returns its resources by logical id. Raises Incomplete, ValueError."""
    values = parameter_values(package.template.get("Parameters", {}), parameters)
    assert_rules(package.template.get("Rules", {}), values)
    resources = package.template["Resources"]
    if unknown := sorted({r["Type"] for r in resources.values()} - SUPPORTED):
        raise Incomplete(f"no resources of these types can be made: {', '.join(unknown)}")
    # Not through the API, which would hide which resource failed, and why.
    cloudformation = cloudformation_backends[DEFAULT_ACCOUNT_ID][client("cloudformation").meta.region_name]
    with created_by(client):
        stack = cloudformation.create_stack(name, json.dumps(package.template), values)
    return checked(stack)


def checked(stack: Any) -> dict[str, Resource]:
    """The resources of moto's stack by logical id. Raises Incomplete if something was left out."""
    definitions = stack.template_dict["Resources"]
    wanted = {
        logical_id
        for logical_id, definition in definitions.items()
        if "Condition" not in definition or stack.resource_map.lazy_condition_map[definition["Condition"]]
    }
    made: dict[str, object] = {logical_id: stack.resource_map[logical_id] for logical_id in wanted}
    created = {logical_id: r for logical_id, r in made.items() if isinstance(r, Resource)}
    if missing := sorted(wanted - created.keys()):
        raise Incomplete(f"not created: {', '.join(missing)}")
    dropped = {path for resource in created.values() for path in resource.dropped}
    if refused := sorted(dropped - LEFT_OUT.keys()):
        raise Incomplete(f"without effect: {', '.join(refused)}")
    return created
