"""Measures end to end: last upload of a burst to request, outcome and event, and a recompute's end to event.

`python -m tests.tools.benchmarks.whole_way`: this project on the local cloud, which is slower than AWS.
Beside it, on the same cloud and for the same platform, the usual sample architecture (sample/template.yaml):
one workflow for each upload, which requests a recompute at once, checks every POLL seconds, and publishes an
event at the end.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.support.arcanna.platform import Behaviour, Job
from tests.support.installation import PARAMETERS, Installation, installation, installed
from tests.support.local_cloud import LocalCloud
from tests.support.waiting import eventually

NAME = "bench-way"
SAMPLE = Path(__file__).parent / "sample" / "template.yaml"
BURSTS, UPLOADS = 5, 5
"""Bursts, and uploads of each."""
JOB, POLL = 1234, 5
DURATIONS = tuple(4.0 + 1.2 * burst for burst in range(BURSTS))
"""Seconds of a recompute, for each burst. So the ends spread over the time between two checks."""
DELAY = 0.1
"""Seconds from a request to the recompute's start."""
ALERTS = "id,label,decision\n"


class Configured(NamedTuple):
    """Seconds that uploads wait on purpose: each until it is visible, and the first one for others."""

    lag: float = 0.0
    window: float = 0.0


OURS = Configured(float(PARAMETERS["VisibilityLagSeconds"]), window=1.0)
"""As tests.support.installation deploys this project."""


class Way(NamedTuple):
    """The waits of one burst in seconds, and what the platform did for it.

    What is configured to wait is left out, and after the request also what one recompute takes. The outcome
    is known when the last check has been answered.
    """

    upload_to_request: float
    upload_to_outcome: float
    end_to_event: float
    upload_to_event: float
    posts: int
    recomputes: int
    requests: int


def measure() -> dict[str, Any]:
    """The medians of both ways."""
    models = tuple(f"{kind}-{n}.hdf5" for kind in ("ours", "sample") for n in range(BURSTS))
    with (
        installation({JOB: Job("security-alerts", models)}, Behaviour(delay=DELAY), NAME) as here,
        _sample(here) as other,
    ):
        here.cloud.invoke("TriggerRecomputeFunction", {"preflight": True})  # the sweep keeps it warm
        ours = [_burst(here, f"ours-{n}.hdf5", n, 1, OURS) for n in range(BURSTS)]
        sample = [_burst(other, f"sample-{n}.hdf5", n, UPLOADS, Configured()) for n in range(BURSTS)]
    return {"this project": _medians(ours), "one workflow per upload": _medians(sample)}


@contextmanager
def _sample(here: Installation) -> Iterator[Installation]:
    """Deploys the sample architecture beside this project, for the same platform."""
    given, wait = {"ArcannaBaseUrl": here.arcanna.url}, "Workflow.Definition.States.Wait.Seconds"
    with LocalCloud(
        given, Path("build") / NAME, SAMPLE, name="sample", beside=here.cloud, constants={wait: POLL}
    ) as cloud:
        yield installed(cloud, here.arcanna)


def _burst(stack: Installation, model: str, number: int, events: int, configured: Configured) -> Way:
    """Uploads burst `number`, and waits until the stack has published so many events."""
    behaviour = Behaviour(delay=DELAY, duration=DURATIONS[number])
    stack.arcanna.set_behaviour(behaviour, model)
    first = time.time()
    for n in range(UPLOADS):
        last = time.time()
        stack.upload(f"training-data/{JOB}/{model}/{n}.csv", ALERTS)
    due = max(first + configured.window, last) + configured.lag

    def published() -> list[float] | None:
        times = list(_published(stack, model))
        return times if len(times) >= events else None

    seen = max(eventually("the events", published, 90.0))
    requests = [r for r in stack.arcanna.requests if r.query.get("model_id") == model]
    posts = [r.at for r in requests if r.method == "POST"]
    checked = max(r.at for r in requests if r.method == "GET")
    recomputes = stack.arcanna.recomputes(model)
    ended = max(run.finished_at or 0.0 for run in recomputes)
    return Way(
        upload_to_request=posts[-1] - due,
        upload_to_outcome=checked - due - behaviour.delay - behaviour.duration,
        end_to_event=seen - ended,
        upload_to_event=seen - due - behaviour.delay - behaviour.duration,
        posts=len(posts),
        recomputes=len(recomputes),
        requests=len(requests),
    )


def _published(stack: Installation, model: str) -> Iterator[float]:
    for call in stack.cloud.calls:
        if call.operation == "PutEvents" and model in json.dumps(call.parameters):
            yield call.time


def _medians(ways: Sequence[Way]) -> dict[str, float]:
    return {name: median(getattr(way, name) for way in ways) for name in Way._fields}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
