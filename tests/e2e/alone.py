"""Runs a test's own installation in its own process, because a process can have only one local cloud."""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from tests.support.arcanna.server import ArcannaServer
from tests.support.installation import PARAMETERS, Installation, hurried, installed
from tests.support.local_cloud import LocalCloud
from tests.support.local_cloud.cloud import PROJECT

T = TypeVar("T")
BUILD = PROJECT / "build"


def alone(work: Callable[[], T]) -> T:
    """Runs `work`, a function of a module, in its own process. Returns its result."""
    # moto's interpreter logs every Choice as an error.
    quieten = partial(logging.disable, logging.CRITICAL)
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=quieten) as pool:
        return pool.submit(work).result()


@contextmanager
def own_installation(
    name: str,
    arcanna: ArcannaServer,
    parameters: Mapping[str, str] = MappingProxyType({}),
    *,
    pace: Mapping[str, int] | None = None,
    tries: int = 4,
    built: Path | None = None,
    beside: LocalCloud | None = None,
    minute: float | None = 1.0,
) -> Iterator[Installation]:
    """Deploys the project's template for a platform, as a stack called `name` with its files in build/`name`.

    `pace` is added to that of the settings, and `tries` is how often the workflow tries a step. `built` is a
    template that is already built and is deployed unchanged. With `beside`, the stack becomes a second one in
    that cloud. `minute` is how many seconds a minute of a schedule takes. With None, only the test itself
    sends sweeps.
    """
    directory, template = BUILD / name, built or PROJECT / "template.yaml"
    given = {**PARAMETERS, "ArcannaBaseUrl": arcanna.url, **parameters}
    constants = hurried(pace, tries)
    with LocalCloud(
        given, directory, template, name=name, beside=beside, minute=minute, constants=constants
    ) as cloud:
        yield installed(cloud, arcanna)
