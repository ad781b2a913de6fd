"""How much is deployed: the archives of the functions and layers, byte code included."""

import json

from tests.tools.benchmarks.artefacts import built


def measure() -> dict[str, float]:
    """MiB, zipped, by logical id and in all."""
    sizes = {name: artefact.archive.stat().st_size / 2**20 for name, artefact in built().items()}
    return {**sizes, "total": sum(sizes.values())}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
