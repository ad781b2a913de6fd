"""The built functions and layers, as they are deployed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.building import ARTIFACTS
from tests.support.local_cloud.cloud import PROJECT, REGION
from tests.support.local_cloud.packaging import package


@dataclass(frozen=True)
class Artefact:
    """A function or layer: its folder, and its archive for the upload."""

    folder: Path
    archive: Path


def built() -> Mapping[str, Artefact]:
    """The functions and layers of the template, by logical id."""
    given = {"ArcannaBaseUrl": "https://arcanna.example"}
    made = package(PROJECT / "template.yaml", given, REGION, ARTIFACTS)
    return {key.rpartition("-")[0]: Artefact(made.folders[key], made.files[key]) for key in made.folders}
