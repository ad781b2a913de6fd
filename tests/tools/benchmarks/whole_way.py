"""Measures end to end: last upload of a burst to request, and the recompute's end to event.

`python -m tests.tools.benchmarks.whole_way`: this project on the local cloud, which is slower than AWS.
Beside it the usual sample architecture: one workflow for each upload, which requests a recompute at once and
then asks every POLL seconds. It runs without AWS in between, so that nothing else delays it.
"""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import httpx

from tests.support.arcanna.access import API_KEY, API_KEY_HEADER
from tests.support.arcanna.platform import Behaviour, Job
from tests.support.installation import PARAMETERS, Installation, installation
from tests.support.waiting import eventually

BURSTS, UPLOADS = 5, 5
"""Bursts, and uploads of each."""
JOB, DURATION, POLL = 1234, 4.0, 5.0
WINDOW = 1.0
"""Seconds of the batching window, as tests.support.installation sets it."""
CONFIGURED = float(PARAMETERS["VisibilityLagSeconds"]) + WINDOW
"""Seconds that an upload waits on purpose: until it is visible, and for others."""
ALERTS = "id,label,decision\n"


class Way(NamedTuple):
    """The waits of one burst in seconds, and the requests to the platform."""

    upload_to_request: float
    end_to_event: float
    posts: int
    requests: int


def measure() -> dict[str, Any]:
    """The medians of both ways."""
    models = tuple(f"{kind}-{n}.hdf5" for kind in ("ours", "sample") for n in range(BURSTS))
    behaviour = Behaviour(delay=0.1, duration=DURATION)
    with installation({JOB: Job("security-alerts", models)}, behaviour, "bench-way") as here:
        here.cloud.invoke("TriggerRecomputeFunction", {"preflight": True})  # the sweep keeps it warm
        ours = [_ours(here, model) for model in models[:BURSTS]]
        sample = [_sample(here, model) for model in models[BURSTS:]]
    return {
        "configured": CONFIGURED,
        "this project": _medians(ours),
        "one workflow per upload": _medians(sample),
    }


def _ours(here: Installation, model: str) -> Way:
    for n in range(UPLOADS):
        here.upload(f"training-data/{JOB}/{model}/{n}.csv", ALERTS)
        last = time.time()
    events = eventually("the event", lambda: list(_events(here, model)), 90.0)
    return _way(here, model, last, events[0])


def _events(here: Installation, model: str) -> Iterator[float]:
    for call in here.cloud.calls:
        if call.operation == "PutEvents" and model in json.dumps(call.parameters):
            yield call.time


def _sample(here: Installation, model: str) -> Way:
    with ThreadPoolExecutor(UPLOADS) as workflows:
        ends = [workflows.submit(_workflow, here.arcanna.url, model) for _ in range(UPLOADS)]
        last = time.time()
        return _way(here, model, last, max(end.result() for end in ends))


def _workflow(url: str, model: str) -> float:
    """When one workflow of the sample sees that the recompute has ended (epoch seconds)."""
    model_id = {"job_id": str(JOB), "model_id": model}
    path = f"{url}/api/v2/metrics/model"
    with httpx.Client(headers={API_KEY_HEADER: API_KEY}, params=model_id, timeout=30.0) as platform:
        platform.post(f"{path}/request_recompute_metrics").raise_for_status()
        while True:
            time.sleep(POLL)
            if not platform.get(path).raise_for_status().json()["is_recomputing_metrics"]:
                return time.time()


def _way(here: Installation, model: str, last: float, seen: float) -> Way:
    requests = [r for r in here.arcanna.requests if r.query.get("model_id") == model]
    posts = [r.at for r in requests if r.method == "POST"]
    ended = max(run.finished_at or 0.0 for run in here.arcanna.recomputes(model))
    return Way(posts[-1] - last, seen - ended, len(posts), len(requests))


def _medians(ways: Sequence[Way]) -> dict[str, float]:
    return {name: median(getattr(way, name) for way in ways) for name in Way._fields}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
