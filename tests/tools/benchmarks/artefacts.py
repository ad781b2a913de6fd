"""What is deployed, as it is built."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.local_cloud.cloud import PROJECT, REGION
from tests.support.local_cloud.packaging import package


@dataclass(frozen=True)
class Artefact:
    """A function or layer: its folder, and the archive of it that is uploaded."""

    folder: Path
    archive: Path


def built() -> Mapping[str, Artefact]:
    """The functions and layers of the template, by logical id."""
    cache = PROJECT / "build" / "local-cloud" / "artifacts"
    made = package(PROJECT / "template.yaml", {"ArcannaBaseUrl": "https://arcanna.example"}, REGION, cache)
    return {key.rpartition("-")[0]: Artefact(made.folders[key], made.files[key]) for key in made.folders}
