"""Builds and packs the folders that a SAM template deploys, as `sam build` and `sam package` do.

`python -m tests.support.building` builds those of template.yaml ahead. What is built goes into
build/artifacts, under names with a digest of the content, so that unchanged folders are not built again.
"""

import signal

if __name__ == "__main__":  # a shell lets commands that it starts with & ignore Ctrl-C
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from tests.support.this_machine import proxies
from tests.tools.install import call

PROJECT = Path(__file__).parents[2]
ARTIFACTS = PROJECT / "build" / "artifacts"
_LOCAL_PATHS = ("CodeUri", "ContentUri", "DefinitionUri")
_IGNORED = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")


def local_paths(template: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Logical id, name and value of each property that is a path beside the template."""
    for logical_id, resource in template["Resources"].items():
        for name, value in resource.get("Properties", {}).items():
            if name in _LOCAL_PATHS and isinstance(value, str):
                yield logical_id, name, value


def build(logical_id: str, source: Path, cache: Path) -> tuple[Path, Path]:
    """The folder to deploy for a folder of the project, and its archive, which is named for its content."""
    with alone_in(cache):
        folder = _built(logical_id, source, cache) if (source / "Makefile").exists() else source
        return folder, _zipped(folder, cache / f"{logical_id}-{digest_of(folder)}.zip")


@contextmanager
def alone_in(cache: Path) -> Iterator[None]:
    """Locks the folder against other processes, which share the build."""
    cache.mkdir(parents=True, exist_ok=True)
    with Path(cache, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest_of(folder: Path) -> str:
    """A short digest of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not set(_IGNORED) & set(path.parts):
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _built(logical_id: str, source: Path, cache: Path) -> Path:
    """Runs `make build-<LogicalId>` in a copy of the folder, as `sam build` does for BuildMethod makefile."""
    target = cache / f"{logical_id}-{digest_of(source)}"
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


def main() -> None:
    source = PROJECT / "template.yaml"
    for logical_id, _, value in local_paths(yaml_parse(source.read_text())):  # type: ignore[no-untyped-call]
        if (folder := source.parent / value).is_dir():
            build(logical_id, folder, ARTIFACTS)


if __name__ == "__main__":
    main()
