"""What the local cloud builds is built once, however many test runs share it."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.local_cloud.packaging import merged, package

STACK = Path(__file__).parent / "local_cloud_stack" / "template.yaml"
RUNS = 8


def _built(cache: Path, _: int) -> tuple[frozenset[str], Path]:
    made = package(STACK, {"Greeting": "hi"}, "eu-west-1", cache)
    return frozenset(made.files), merged(list(made.folders.values()), cache)


def test_runs_that_begin_together_share_what_the_first_has_built(tmp_path: Path) -> None:
    with ThreadPoolExecutor(RUNS) as pool:
        assert len(set(pool.map(partial(_built, tmp_path / "artifacts"), range(RUNS)))) == 1
