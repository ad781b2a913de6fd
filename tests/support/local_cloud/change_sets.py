"""CloudFormation's change sets, for `sam deploy` with templates that SAM has packaged.

moto's own change sets know no transform, create no outputs, and update nothing. Here, a template is
translated, its parameters are validated, and the resource types of this cloud execute the change set. Unlike
CloudFormation, a failed execution leaves the resources that it has created, and reports a rollback.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import boto3
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Change, CloudFormationBackend
from moto.cloudformation.parsing import parse_resource
from moto.cloudformation.responses import CloudFormationResponse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from tests.support.local_cloud.deployment import checked
from tests.support.local_cloud.packaging import as_strings
from tests.support.local_cloud.resources import Resource, created_by
from tests.support.parameters import Refused, assert_rules, parameter_values

Deployed = Callable[[str, Mapping[str, Resource]], None]
"""Called after a stack was created or updated, with its name and its resources by logical id."""

_create_by_moto = CloudFormationBackend.create_change_set


@contextmanager
def change_sets(client: Callable[[str], Any], deployed: Deployed) -> Iterator[None]:
    """Meanwhile, CloudFormation's API deploys; resources are created with clients from this factory."""

    def execute(backend: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        _execute(backend, change_set_name, client, deployed)

    with (
        patch.object(CloudFormationBackend, "create_change_set", _create),
        patch.object(CloudFormationBackend, "execute_change_set", execute),
        patch.object(CloudFormationResponse, "_get_stack_from_s3_url", _uploaded(client)),
    ):
        yield


def _uploaded(client: Callable[[str], Any]) -> Callable[[object, str], str]:
    """moto expects the bucket at the start of an address without AWS's domain."""

    def read(_: object, url: str) -> str:
        bucket, _, key = urlsplit(url).path.lstrip("/").partition("/")
        body: bytes = client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return body.decode()

    return read


def _create(
    backend: CloudFormationBackend,
    stack_name: str,
    change_set_name: str,
    template: str,
    parameters: Mapping[str, Any],
    description: str,
    change_set_type: str,
    **further: Any,
) -> tuple[str, str]:
    source: dict[str, Any] = yaml_parse(template)  # type: ignore[no-untyped-call]
    # moto returns previous values of list parameters as lists.
    given = {name: ",".join(v) if isinstance(v, list) else str(v) for name, v in parameters.items()}
    try:
        values = parameter_values(source.get("Parameters", {}), given)
        assert_rules(source.get("Rules", {}), values)
    except Refused as refused:
        raise ValidationError(stack_name, message=str(refused)) from refused
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=backend.region_name))
    translated = as_strings(translator.translate(source, values))
    identifier, stack_id = _create_by_moto(
        backend,
        stack_name,
        change_set_name,
        json.dumps(translated),
        values,
        description,
        change_set_type,
        **further,
    )
    if change_set_type == "UPDATE":
        resources = backend.stacks[stack_id].resource_map
        backend.change_sets[identifier].changes = [
            Change(action, name, (translated["Resources"].get(name) or {"Type": "gone"})["Type"])
            for action, names in resources.build_resource_diff(translated, values).items()
            for name in names
        ]
    return identifier, stack_id


def _execute(
    backend: CloudFormationBackend,
    change_set_name: str,
    client: Callable[[str], Any],
    deployed: Deployed,
) -> None:
    change_set: Any = backend.describe_change_set(change_set_name)
    stack, kind = backend.stacks[change_set.stack_id], change_set.change_set_type
    stack._add_stack_event(f"{kind}_IN_PROGRESS", "User Initiated")  # noqa: SLF001 - as moto does
    stack.template, stack.parameters = change_set.template, change_set.parameters
    stack._parse_template()  # noqa: SLF001
    try:
        with created_by(client):
            _apply(stack.resource_map, stack.template_dict, change_set.parameters)
        stack.output_map = stack._create_output_map()  # noqa: SLF001
        deployed(stack.name, checked(stack))
    except Exception as error:  # noqa: BLE001 - the stack reports any error
        stack.status = "ROLLBACK_COMPLETE" if kind == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
        stack._add_stack_event(f"{kind}_FAILED", f"{type(error).__name__}: {error}")  # noqa: SLF001
    else:
        stack.status = f"{kind}_COMPLETE"
    change_set.execution_status = "EXECUTE_COMPLETE"
    stack._add_stack_event(stack.status)  # noqa: SLF001


def _apply(resources: Any, template: dict[str, Any], values: Mapping[str, str]) -> None:
    """Creates, updates and deletes resources until they are those of the template."""
    before = resources._resource_json_map  # noqa: SLF001 - moto's map of a stack has no other way in
    resources._template, resources._resource_json_map = template, template["Resources"]  # noqa: SLF001
    resources.input_parameters = values
    resources.load()
    made = resources._parsed_resources  # noqa: SLF001
    for name, definition in template["Resources"].items():
        existing = made.get(name)
        if not _is_wanted(resources, definition):
            made.pop(name, None)  # kept, as DeletionPolicy demands
        elif existing is None:
            _ = resources[name]
        else:
            _, resolved, _ = parse_resource(definition, resources)
            existing.update(resolved["Properties"])
    for name in before.keys() - template["Resources"].keys():
        made.pop(name, None)


def _is_wanted(resources: Any, definition: Mapping[str, Any]) -> bool:
    return "Condition" not in definition or resources.lazy_condition_map[definition["Condition"]]
