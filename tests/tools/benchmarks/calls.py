"""Counts the calls of one recompute to the platform, the ledger and the workflow, where they are served."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.support.arcanna.platform import Behaviour, Job
from tests.support.installation import Installation, installation
from tests.support.waiting import eventually

JOB = 1234
SLOTS = '"slots"'
"""Identifies the item of the slots in calls."""

TAKING_A_SLOT = 1
"""Writes of one run to the item of the slots."""

DURATIONS = {"short.hdf5": 1.0, "long.hdf5": 9.0}
"""Durations of recomputes in seconds. They differ enough for different numbers of polls."""


class Calls(NamedTuple):
    """The calls of one recompute to the platform, the ledger and the workflow.

    The writes are the revisions of the target's entry: one that lost a race has written nothing, and the
    slots are shared with other targets.
    """

    polls: int
    platform: int
    connections: int
    writes: int
    reads: int
    transitions: int


def calls_of(here: Installation, model: str) -> Calls:
    """The calls of the model's only run, which has ended."""
    (run,) = eventually("the run's end", lambda: _ended(here, model))
    calls = [
        call
        for call in here.cloud.calls
        if call.role != "operator" and (model in (text := json.dumps(call.parameters)) or SLOTS in text)
    ]
    by_operation = Counter(call.operation for call in calls)
    put = [call.parameters["Item"] for call in calls if call.operation == "PutItem"]
    requests = [request for request in here.arcanna.requests if request.model_id == model]
    return Calls(
        polls=json.loads(run["output"])["check"]["polls"],
        platform=len(requests),
        connections=len({request.peer_port for request in requests}),
        writes=len({item["rev"]["N"] for item in put if item["model_id"]["S"] == model}),
        reads=by_operation["GetItem"] + by_operation["BatchGetItem"],
        transitions=sum(
            event["type"].endswith("StateEntered") for event in here.cloud.history(run["executionArn"])
        ),
    )


def _ended(here: Installation, model: str) -> list[dict[str, Any]]:
    runs = [e for e in here.cloud.executions() if json.loads(e["input"])["run"]["model_id"] == model]
    return [] if any(run["status"] == "RUNNING" for run in runs) else runs


def measure() -> Mapping[str, Any]:
    """The calls of two runs, and from them the calls of each poll and of the rest."""
    jobs = {JOB: Job(name="security-alerts", models=tuple(DURATIONS))}
    with installation(jobs, Behaviour(), "bench-calls") as here:
        taken = []
        for model, duration in DURATIONS.items():
            here.arcanna.set_behaviour(Behaviour(delay=0.2, duration=duration), model)
            here.cloud.invoke("TriggerRecomputeFunction", {"job_id": JOB, "model_id": model})
            taken.append(calls_of(here, model))
    short, long = taken
    per_poll = (long.transitions - short.transitions) / (long.polls - short.polls)
    return {
        "runs": [calls._asdict() for calls in taken],
        "transitions_per_poll": per_poll,
        "other_transitions": short.transitions - per_poll * short.polls,
        "ledger_writes": max(calls.writes for calls in taken) + TAKING_A_SLOT,
        "ledger_reads": max(calls.reads for calls in taken),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
