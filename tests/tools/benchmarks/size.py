"""Measures what is deployed: the archives of the functions and layers, including byte code."""

import json

from tests.tools.benchmarks.artefacts import built


def measure() -> dict[str, float]:
    """The size of each archive by logical id, and of all, in MiB."""
    sizes = {name: artefact.archive.stat().st_size / 2**20 for name, artefact in built().items()}
    return {**sizes, "total": sum(sizes.values())}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
