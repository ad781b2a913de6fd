"""Plays every cell of the fault table on one installation. Returns where each update ended up."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.runs.completion import evidence
from arcanna_metrics.times import from_iso
from tests.e2e.alone import BUILD, alone, own_installation
from tests.e2e.fault_table import CELLS, TRIES, Cell, dead, told
from tests.e2e.scene import (
    JOB,
    JOB_NAME,
    MODELS,
    Mailbox,
    Scene,
    dead_letters,
    settle,
    two_at_once,
)
from tests.support.arcanna.access import API_KEY, KeyInfo
from tests.support.arcanna.alerts import InMemoryAlerts
from tests.support.arcanna.platform import SHORT, Job, Recompute
from tests.support.arcanna.server import ArcannaServer
from tests.support.installation import Installation
from tests.support.local_cloud import ApiFault
from tests.support.waiting import eventually

PACE = {"slots": 1000, "start_grace_seconds": 7, "deadline_seconds": 60}
"""All cells are played at once. On a busy machine, a check of one may take longer than half a minute."""
VISIBILITY = "8"
"""Seconds until SQS delivers a killed invocation's messages again."""

OTHERS = "somebody else"
"""The endpoints, by the reference server's names."""

ROTATED = "key rotated @ whole run"
"""The scenarios after the cells, which affect all models."""


@dataclass(frozen=True)
class Observation:
    """The end of a cell's update, and every rule that was broken.

    `ends`: "recomputed" (completed, released, and asked for after the update), "told: <reason>" (outcome
    event and notification), "event only: ...", "notice only: ...", "dead letter: <reason>".
    """

    ends: tuple[str, ...]
    asks: int
    violations: tuple[str, ...]
    seconds: float
    """Seconds from the last update to the end of the last execution. 0 without an execution."""


def expectations() -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Ends and asks of every cell and of what follows them, by name."""
    cells = {cell.name: (tuple(sorted(cell.ends)), cell.asks) for cell in CELLS}
    return {**cells, ROTATED: (("recomputed",), (1,))}


def observe() -> dict[str, Observation]:
    """The observation of every cell, by name, and of what follows the cells."""
    names = [*(cell.name for cell in CELLS), ROTATED]
    models = dict(zip(names, MODELS, strict=False))
    arcanna = ArcannaServer({JOB: Job(JOB_NAME, MODELS)}, InMemoryAlerts(), behaviour=SHORT)
    with arcanna, own_installation("faults", arcanna, pace=PACE, tries=TRIES) as here:
        here.cloud.client("sqs").set_queue_attributes(
            QueueUrl=here.cloud.outputs["UpdatesQueueUrl"], Attributes={"VisibilityTimeout": VISIBILITY}
        )
        events, notices = (
            Mailbox(here, "events").with_events(),
            Mailbox(here, "notices").with_notifications(),
        )
        scenes = {name: Scene(here, models[name]) for name in names}
        for scene in scenes.values():  # a baseline of null proves too little
            scene.recompute_by_somebody_else()
        eventually("theirs", lambda: all(r.state == "completed" for r in arcanna.recomputes()))
        missed = _play(here, [(cell, scenes[cell.name]) for cell in CELLS])
        _rotate_the_key(scenes[ROTATED])
        found = _observations(here, scenes, events, notices)
    return found | {
        name: replace(found[name], violations=(*found[name].violations, "the fault did not strike"))
        for name in missed
    }


def _play(here: Installation, cells: Sequence[tuple[Cell, Scene]]) -> list[str]:
    """Plays all cells until the installation is quiet. Returns the cells whose fault did not strike."""
    faults = {cell.name: _prepare(cell, scene) for cell, scene in cells}
    # People's actions must meet their run, so they come while the trigger is not busy.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda each: each[0].play(each[1]), [c for c in cells if _is_played(c[0])]))
    for cell, scene in cells:
        if not _is_played(cell):
            cell.play(scene)
    for cell, scene in cells:
        if cell.claim_expires:
            _abandon(scene, faults[cell.name])
    settle(here, 300)
    return [cell.name for cell, scene in cells if not _has_struck(cell, scene, faults[cell.name])]


def _is_played(cell: Cell) -> bool:
    return cell.play is not Scene.request


def _prepare(cell: Cell, scene: Scene) -> list[ApiFault]:
    if cell.behaviour:
        scene.behaves(cell.behaviour)
    if cell.platform:
        scene.meets(cell.platform)
    return [step.meets(how, scene) for step, how in cell.aws]


def _abandon(scene: Scene, faults: Sequence[ApiFault]) -> None:
    """Lets the claim expire when the faults have struck and no execution follows it."""
    eventually("all faults", lambda: all(len(fault.hits) == fault.times for fault in faults))
    # If two looks claim at once, the fault may have struck the later one.
    scene.until("the claim", lambda entry: entry.run_id or entry.fresh_as_of > 0)
    running = ("RUNNING",)
    eventually("its end", lambda: all(e["status"] not in running for e in scene.executions()))
    scene.let_claim_expire()


def _has_struck(cell: Cell, scene: Scene, faults: Sequence[ApiFault]) -> bool:
    met = [r for r in scene.here.arcanna.requests if r.model_id == scene.model and r.fault]
    return all(fault.hits for fault in faults) and bool(met or not cell.platform)


def _rotate_the_key(scene: Scene) -> None:
    """Changes the key at the platform first, and in the secret only after an update met the old one."""
    new, here = API_KEY + "-2", scene.here
    here.arcanna.set_api_keys({new: KeyInfo()})
    scene.request()
    eventually("the old key's refusal", lambda: scene.requests("metrics"))
    secret = here.cloud.outputs["ApiKeySecretArn"]
    here.cloud.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=new)
    settle(here)


# --- Observations ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """The executions, outcome events, notifications and dead letters of all models."""

    executions: Sequence[dict[str, Any]]  # each with its run, those that were superseded too
    events: Sequence[dict[str, Any]]
    notices: Sequence[str]
    letters: Sequence[tuple[str, str]]

    def of(self, model: str) -> "_Seen":
        return _Seen(
            [e for e in self.executions if e["run"]["model_id"] == model],
            [e for e in self.events if e["detail"]["model_id"] == model],
            [n for n in self.notices if model in n],
            [letter for letter in self.letters if model in letter[0]],
        )


def _observations(
    here: Installation, scenes: Mapping[str, Scene], events: Mailbox, notices: Mailbox
) -> dict[str, Observation]:
    everything = _Seen(
        [execution | json.loads(execution["input"]) for execution in here.cloud.executions()],
        events.everything(),
        [message["Message"] for message in notices.everything()],
        dead_letters(here),
    )
    return {name: _observation(scene, everything.of(scene.model)) for name, scene in scenes.items()}


def _observation(scene: Scene, seen: _Seen) -> Observation:
    recomputes, entry = scene.recomputes(), scene.entry()
    asks = [ask.at for recompute in recomputes for ask in recompute.asks if ask.by != OTHERS]
    ended = max((e["stopDate"].timestamp() for e in seen.executions), default=scene.updated_at)
    return Observation(
        tuple(sorted([*_recomputed(scene, entry, recomputes), *_failures(seen)])),
        len(asks),
        tuple(_violations(scene.here, entry, recomputes, seen)),
        round(ended - scene.updated_at, 1),
    )


def _recomputed(scene: Scene, entry: Entry, recomputes: Sequence[Recompute]) -> Iterator[str]:
    if scene.updated_at and entry.fresh_as_of > scene.updated_at:
        asked_later = (
            any(ask.at > scene.updated_at for ask in recompute.asks if ask.by != OTHERS)
            for recompute in recomputes
            if recompute.state == "completed"
        )
        yield "recomputed" if any(asked_later) else "taken for recomputed"


def _failures(seen: _Seen) -> Iterator[str]:
    """The distinct outcomes."""
    failed = [e["detail"] for e in seen.events if e["detail-type"] == "Recompute Failed"]
    events = Counter(reason for _, reason in {(d["run_id"], d["reason"]) for d in failed})
    notices = Counter(text.partition("Why: ")[2].partition("\n")[0] for text in set(seen.notices))
    yield from map(told, (events & notices).elements())
    yield from (f"event only: {reason}" for reason in (events - notices).elements())
    yield from (f"notice only: {reason}" for reason in (notices - events).elements())
    yield from (dead(reason) for _, reason in seen.letters)


def _violations(
    here: Installation, entry: Entry, recomputes: Sequence[Recompute], seen: _Seen
) -> Iterator[str]:
    if entry.run_id or entry.dirty:
        yield "the target is still held or waits"
    if two_at_once(here, seen.executions):
        yield "two runs at once"
    for detail in (e["detail"] for e in seen.events if e["detail-type"] == "Recompute Completed"):
        after, before = (detail[when]["last_recomputed_timestamp"] for when in ("after", "before"))
        begun = [r for r in recomputes if (r.started_at or 0.0) >= from_iso(detail["requested_at"])]
        if evidence(after, before, None) != "proof" or not any(r.state == "completed" for r in begun):
            yield f"run {detail['run_id']} was announced as completed and was not"


# --- The report -------------------------------------------------------------------------------------------


def write_report(observations: Mapping[str, Observation]) -> None:
    """build/faults.json, and build/faults.md with a row for each fault and a column for each stage."""
    (BUILD / "faults.json").write_text(
        json.dumps({name: asdict(observation) for name, observation in observations.items()}, indent=2)
    )
    rows: dict[str, list[str]] = {}
    for name, seen in observations.items():
        fault, _, stage = name.partition(" @ ")
        ending = ", ".join([*seen.ends, *seen.violations]) or "lost"
        rows.setdefault(fault, []).append(f"{stage}: {ending} ({seen.asks} asked, {seen.seconds:g} s)")
    lines = [f"| {fault} | {'<br>'.join(cells)} |" for fault, cells in rows.items()]
    heading = [
        f"{len(observations)} faults at their stages: where the update ended up, how often the platform was",
        "asked to recompute, and the seconds from the last update to the end of the last run.",
        "",
        "| fault | stage: outcome |",
        "| --- | --- |",
    ]
    (BUILD / "faults.md").write_text("\n".join([*heading, *lines, ""]))


if __name__ == "__main__":
    write_report(alone(observe))
