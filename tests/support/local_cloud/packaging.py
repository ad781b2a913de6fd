"""Stands in for `sam build` and `sam package`: has the folders built and packed, translates the template."""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any
from zipfile import ZipFile

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from tests.support.building import alone_in, build, digest_of, local_paths

BUCKET = "local-cloud-artifacts"
logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it warns about metrics that nobody requested


@dataclass(frozen=True)
class Package:
    """A translated template, and the artifacts that it refers to.

    `files`: path of the file to upload by key; `folders`: the unpacked content by the same key.
    """

    template: dict[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)


def package(
    source: Path,
    parameters: Mapping[str, str],
    region: str,
    cache: Path,
    constants: Mapping[str, object] = MappingProxyType({}),
) -> Package:
    """Builds and translates a SAM template. Unchanged code is not built again.

    `constants` replaces values of its resources, by their paths. Raises KeyError where the template has none.
    """
    template: dict[str, Any] = yaml_parse(source.read_text())  # type: ignore[no-untyped-call]
    for path, value in constants.items():
        _replace(template["Resources"], path, value)
    files, folders = {}, {}
    for logical_id, name, value in [*local_paths(template)]:
        local = source.parent / value
        if local.is_dir():
            folder, archive = build(logical_id, local, cache)
            folders[archive.name], files[archive.name], key = folder, archive, archive.name
        else:
            key = f"{logical_id}{local.suffix}"
            files[key] = local
        template["Resources"][logical_id]["Properties"][name] = f"s3://{BUCKET}/{key}"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=region))
    translated = translator.translate(template, dict(parameters))
    return Package(as_strings(translated), files, folders)


def _replace(resources: dict[str, Any], path: str, value: object) -> None:
    logical_id, *names, last = path.split(".")
    inner = resources[logical_id]["Properties"]
    for name in names:
        inner = inner[name]
    if last not in inner:
        raise KeyError(path)
    inner[last] = value


def upload(packaged: Package, s3: Any) -> None:
    """Uploads the artifacts to the artifact bucket, which the first stack creates."""
    if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        region = {"LocationConstraint": s3.meta.region_name}
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=region)
    for key, path in packaged.files.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


def as_strings(template: dict[str, Any]) -> dict[str, Any]:
    """Makes values strings, as CloudFormation does. moto would compare the number 0 with "0"."""
    for parameter in template.get("Parameters", {}).values():
        if parameter["Type"] == "Number":
            parameter["Type"] = "String"
    return template | {"Conditions": json.loads(json.dumps(template.get("Conditions", {})), parse_int=str)}


def unpacked(key: str, archive: bytes, cache: Path) -> Path:
    """The folder with the content of an archive that was uploaded under that key."""
    target = cache / key.replace("/", "-")
    with alone_in(cache):
        if not target.exists():
            with TemporaryDirectory(dir=cache) as scratch:
                content = Path(scratch, "content")
                with ZipFile(io.BytesIO(archive)) as opened:
                    opened.extractall(content)
                content.rename(target)
    return target


def merged(layers: list[Path], cache: Path) -> Path:
    """The /opt folder of a function: the content of its layers. Later layers overlay earlier ones."""
    names = "\0".join(layer.name + digest_of(layer) for layer in layers)
    target = cache / f"opt-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
    with alone_in(cache):
        if not target.exists():
            with TemporaryDirectory(dir=cache) as scratch:
                content = Path(scratch, "content")
                content.mkdir()
                for layer in layers:
                    shutil.copytree(layer, content, dirs_exist_ok=True)
                content.rename(target)
    return target
