"""From process start to the first answered invocation, under awslambdaric, side by side.

`python -m tests.tools.benchmarks.startup`: each function as it is built, the same without byte code (which
is what `sam build` by itself makes of it), a quick-start function of the same libraries, and an empty
handler. As in Lambda nothing of it can be written, so that no byte code is left for the next start. The
runtime's own packages, boto3 among them, have byte code in every case. AWS and Arcanna speak TLS, because
reading CAs takes a good part of a start.

Variants take turns, so that what slows the machine slows all, and ratios are taken within a turn. CPU time
is there beside wall time because it hardly depends on what else the machine does. By CPU time, `by_memory`
says what a start takes and costs where a function has a share of a vCPU in proportion to its memory.
"""

import json
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import certifi

from arcanna_metrics.runs.check import first_check
from arcanna_metrics.targets import Target
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.certificates import Authority
from tests.support.installation import Installation, installation
from tests.support.local_cloud import ApiFault
from tests.support.local_cloud.cloud import PROJECT, REGION
from tests.support.local_cloud.execution_environment import ExecutionEnvironment, Function
from tests.support.local_cloud.log_streams import LogStreams
from tests.support.runs import a_new_run
from tests.support.tls_front import tls_front
from tests.tools.benchmarks.spread import Spread, spread

PYTHON = PROJECT / "build" / "bench" / "lambda-env" / "bin" / "python"
"""Python of the Lambda runtime's version, which is the only one to use the byte code."""
REFERENCES = Path(__file__).parent / "functions"
TURNS = 21
MEMORY = (256, 512, 1024, 1769)
"""Memory in MiB. With the last one, a function has a whole vCPU."""
GB_SECOND, INVOCATION = 13.3334e-6, 0.20e-6
"""Prices in US dollars, as in `cost`."""
WAITING = 0.02
"""Seconds of a start spent on answers of AWS and the platform. This is an assumption, the same for all."""
JOB = 1234

CHECK, TRIGGER = "check_status", "trigger_recompute"
PLAIN = "{}, without byte code"
QUICK_START, EMPTY = "quick start", "empty handler"


class Sample(NamedTuple):
    """The durations of one start in seconds."""

    wall: float
    cpu: float


def start(function: Function, event: Mapping[str, Any]) -> Sample:
    """Starts an execution environment, has it answer one event, and ends it."""
    used, began = _children_cpu(), time.perf_counter()
    environment = ExecutionEnvironment(function, PYTHON, {})
    try:
        outcome = environment.invoke(json.dumps(event).encode(), "Root=1-0-0")
        wall = time.perf_counter() - began
    finally:
        environment.close()
    if outcome.failed:
        raise RuntimeError(f"{function.name} failed: {outcome.payload.decode()}")
    return Sample(wall, _children_cpu() - used)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(turns: int = TURNS) -> dict[str, Any]:
    """By variant: seconds of wall and CPU time; by function: ratios to what it is held against."""
    job = Job(name="security-alerts", models=tuple(f"model-{n}.hdf5" for n in range(2 * turns + 3)))
    models = iter(job.models)
    with installation({JOB: job}, Behaviour(), "bench-startup") as here, TemporaryDirectory() as scratch:
        # The local workflow's CPU time is not part of the trigger's start.
        started = ApiFault(
            "stepfunctions", "StartExecution", "ExecutionAlreadyExists", 400, times=4 * turns + 4
        )
        here.cloud.inject(started)
        functions = _variants(here, next(models), Path(scratch))
        samples: dict[str, list[Sample]] = {name: [] for name in functions}
        with _over_tls(here, Path(scratch)) as variables:
            for turn in range(1 + turns):
                for name, function in functions.items():
                    event = _request(next(models)) if TRIGGER in name else _check(job.models[0])
                    environment = {**function.environment, **variables}
                    sample = start(replace(function, environment=environment), event)
                    if turn:  # the first start fills the page cache
                        samples[name].append(sample)
    return _report(samples)


@contextmanager
def _over_tls(here: Installation, folder: Path) -> Iterator[Mapping[str, str]]:
    """The variables by which functions reach the installation over TLS, until the block ends.

    Its CA is private. So each client gets a file of all public CAs and this one, and this project's client of
    Arcanna only this one, as it always has the public ones.
    """
    authority, bundle = Authority(), folder / "ca.pem"
    bundle.write_text(Path(certifi.where()).read_text() + authority.pem)
    certificate = authority.issue(folder, "127.0.0.1")
    with tls_front(here.cloud.url, certificate) as aws, tls_front(here.arcanna.url, certificate) as arcanna:
        yield {
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": aws,
            "AWS_CA_BUNDLE": str(bundle),
            "ARCANNA_BASE_URL": arcanna,
            "ARCANNA_CA_BUNDLE": authority.pem,
            "SSL_CERT_FILE": str(bundle),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def _variants(here: Installation, model: str, scratch: Path) -> dict[str, Function]:
    deployed = {}
    for name, logical_id, event in (
        (TRIGGER, "TriggerRecomputeFunction", _request(model)),
        (CHECK, "CheckStatusFunction", _check(model)),
    ):
        here.cloud.invoke(logical_id, event)
        deployed[name] = replace(
            here.cloud.sandboxes(logical_id)[0].function, logs=LogStreams(scratch / "logs" / name)
        )
    plain_layers = _without_byte_code(deployed[CHECK].layers, scratch / "opt")
    nothing = scratch / "nothing"
    return {
        **deployed,
        **{
            PLAIN.format(name): replace(
                function,
                task_root=_without_byte_code(function.task_root, scratch / name),
                layers=plain_layers,
            )
            for name, function in deployed.items()
        },
        QUICK_START: replace(
            deployed[CHECK],
            task_root=_without_byte_code(REFERENCES / "quick_start", scratch / "quick_start"),
            layers=plain_layers,
        ),
        EMPTY: replace(
            deployed[CHECK],
            task_root=_without_byte_code(REFERENCES / "empty", scratch / "empty"),
            layers=nothing,
        ),
    }


def _without_byte_code(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__")))


def _request(model: str) -> dict[str, Any]:
    return {"job_id": JOB, "model_id": model}


def _check(model: str) -> dict[str, Any]:
    run = a_new_run(Target(str(JOB), model), model, run_id="benchmark", requested_at=time.time())
    return {"execution": "arn:execution", "run": run, "check": first_check(run), "number": 0}


def _report(samples: Mapping[str, list[Sample]]) -> dict[str, Any]:
    def ratio(name: str, to: str, kind: str) -> Spread:
        pairs = zip(samples[name], samples[to], strict=True)
        return spread([getattr(ours, kind) / getattr(other, kind) for ours, other in pairs])

    return {
        "seconds": {
            name: {kind: spread([getattr(s, kind) for s in taken]) for kind in Sample._fields}
            for name, taken in samples.items()
        },
        "ratios": {
            f"{name} / {to}": {kind: ratio(name, to, kind) for kind in Sample._fields}
            for name in (CHECK, TRIGGER)
            for to in (PLAIN.format(name), QUICK_START, EMPTY)
        },
        "by_memory": {
            str(memory): {
                name: at_memory(spread([s.cpu for s in samples[name]])["median"], memory)
                for name in (CHECK, TRIGGER)
            }
            for memory in MEMORY
        },
        "at_512_mebibytes": {
            name: at_memory(spread([s.cpu for s in taken])["median"], 512) for name, taken in samples.items()
        },
    }


def at_memory(cpu: float, memory: int) -> dict[str, float]:
    """Seconds and US dollars of a million starts that take so many CPU seconds, by memory in MiB."""
    wall = cpu * max(1.0, MEMORY[-1] / memory) + WAITING
    return {"wall": wall, "usd_per_million": 1e6 * (INVOCATION + GB_SECOND * wall * memory / 1024)}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
