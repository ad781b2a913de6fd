"""Stands in for `sam build` and `sam package`: builds and packs local folders, translates the template."""

import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

from tests.support.this_machine import proxies
from tests.tools.install import call

BUCKET = "local-cloud-artifacts"
logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it warns about metrics that nobody requested

_LOCAL_PATHS = ("CodeUri", "ContentUri", "DefinitionUri")
_IGNORED = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")


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
    for logical_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        for name in _LOCAL_PATHS:
            if not isinstance(properties.get(name), str):
                continue
            path = source.parent / properties[name]
            if path.is_dir():
                with _alone_in(cache):
                    folder = _built(logical_id, path, cache) if (path / "Makefile").exists() else path
                    key = f"{logical_id}-{_digest(folder)}.zip"
                    folders[key], files[key] = folder, _zipped(folder, cache / key)
            else:
                key = f"{logical_id}{path.suffix}"
                files[key] = path
            properties[name] = f"s3://{BUCKET}/{key}"
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


@contextmanager
def _alone_in(cache: Path) -> Iterator[None]:
    """Locks the folder against other test runs, which share the build."""
    cache.mkdir(parents=True, exist_ok=True)
    with Path(cache, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def as_strings(template: dict[str, Any]) -> dict[str, Any]:
    """Makes values strings, as CloudFormation does. moto would compare the number 0 with "0"."""
    for parameter in template.get("Parameters", {}).values():
        if parameter["Type"] == "Number":
            parameter["Type"] = "String"
    return template | {"Conditions": json.loads(json.dumps(template.get("Conditions", {})), parse_int=str)}


def _built(logical_id: str, source: Path, cache: Path) -> Path:
    """Runs `make build-<LogicalId>` in a copy of the folder, as `sam build` does for BuildMethod makefile."""
    target = cache / f"{logical_id}-{_digest(source)}"
    if target.exists():
        return target
    with TemporaryDirectory(dir=cache) as scratch:
        work, artifacts = Path(scratch, "source"), Path(scratch, "artifacts")
        shutil.copytree(source, work, ignore=shutil.ignore_patterns(*_IGNORED))
        artifacts.mkdir()
        call(  # an interrupt ends it silently
            *("make", "--silent", f"build-{logical_id}", f"ARTIFACTS_DIR={artifacts}"),
            cwd=work,
            env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTHON"))} | proxies(),
        )
        artifacts.rename(target)
    return target


def _zipped(folder: Path, archive: Path) -> Path:
    if not archive.exists():
        with TemporaryDirectory(dir=archive.parent) as scratch:
            made = shutil.make_archive(str(Path(scratch, "archive")), "zip", folder)
            Path(made).rename(archive)
    return archive


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not set(_IGNORED) & set(path.parts):
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def unpacked(key: str, archive: bytes, cache: Path) -> Path:
    """The folder with the content of an archive that was uploaded under that key."""
    target = cache / key.replace("/", "-")
    with _alone_in(cache):
        if not target.exists():
            with TemporaryDirectory(dir=cache) as scratch:
                content = Path(scratch, "content")
                with ZipFile(io.BytesIO(archive)) as opened:
                    opened.extractall(content)
                content.rename(target)
    return target


def merged(layers: list[Path], cache: Path) -> Path:
    """The /opt folder of a function: the content of its layers. Later layers overlay earlier ones."""
    names = "\0".join(layer.name + _digest(layer) for layer in layers)
    target = cache / f"opt-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
    with _alone_in(cache):
        if not target.exists():
            with TemporaryDirectory(dir=cache) as scratch:
                content = Path(scratch, "content")
                content.mkdir()
                for layer in layers:
                    shutil.copytree(layer, content, dirs_exist_ok=True)
                content.rename(target)
    return target
