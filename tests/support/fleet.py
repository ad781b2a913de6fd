"""Facts to test the report with: an invented fleet of models, and a hostile one."""

import random
from typing import Any

from arcanna_metrics.platform.model_metrics import OVERALL
from arcanna_metrics_cli.entries import PastRun
from arcanna_metrics_cli.executions import Told
from arcanna_metrics_cli.letters import Group
from arcanna_metrics_cli.report.facts import Facts, Model

NOW = 1_795_910_400.0
"""2026-11-29T00:00:00Z."""

EVIL = "</style></title><script>alert(1)</script><img src=x onload=\"a('2')\">&amp;{{ 7*7 }}\u202e\x00"
LONG = "security-alerts-of-all-subsidiaries-" * 6 + "W" * 40

DECISIONS = ("Drop", "Escalate", "Investigate")
JOBS = (
    "phishing-triage", "endpoint-malware", "identity-anomalies", "cloud-audit", "email-gateway",
    "lateral-movement", "dns-tunnels", "data-loss", "vpn-logins", "web-firewall", "insider-risk",
    "container-runtime",
)  # fmt: skip


def fleet(models: int = 200, runs: int = 10, seed: int = 7) -> Facts:
    """A stack with this many models and runs of each. Most are fresh, and each trouble occurs."""
    chance = random.Random(seed)
    return Facts(
        stack="arcanna-metrics",
        region="eu-west-1",
        at=NOW,
        models=tuple(_model(number, runs, chance) for number in range(models)),
        dead=4,
        letters=(
            Group("BadInput", 3, NOW - 7 * 3600, NOW - 2400, "job_id must be a string, not list"),
            Group("NotSubscribed", 1, NOW - 90000, NOW - 90000, "An SNS topic asks whether it may send"),
        ),
        queued=2,
        objective=7200.0,
    )


def _model(number: int, runs: int, chance: random.Random) -> Model:
    """Each fate occurs in turn. In every other dozen of jobs, all models are fresh."""
    fates = (*("fresh",) * 6, "worse", "failed", "waits", "runs", "stuck", "fresh")
    fate = fates[(number * 5 + 6) % len(fates)] if number % 24 < 12 else "fresh"
    past, figures = _past(number, runs, fate, chance)
    job, is_active = str(1200 + number), number % 7 == 0
    bucket = "s3://training-data-eu"
    escalate = figures[-1]["metrics_per_decision"]["Escalate"]["recall"]
    since = {"waits": NOW - 9000, "stuck": NOW - 2700, "runs": NOW - 500}.get(fate)
    told = Told(
        why=f"Escalate.recall {escalate + 0.081:.3g} -> {escalate:.3g}"
        if fate == "worse"
        else "Every figure that could be judged is within its limits",
        updates=chance.randrange(1, 40),
        first_at=past[-1].requested_at - 300,
        last_at=past[-1].requested_at - 70,
        objects=(f"{bucket}/training-data/{job}/alerts-{number:03}.csv",),
        before=figures[-2] if len(figures) > 1 else None,
        after=figures[-1],
    )
    if fate == "failed":
        detail = "Arcanna recomputed, but there are no new metrics"
        asked = NOW - 4000 - number
        past.append(PastRun(f"{job}-f", "upload", asked, 900.0, 7, "failed", "NoNewResult", detail, {}))
    whys = {
        "waits": "updates wait for the next run",
        "stuck": "the last attempt failed: PlatformBusy: Arcanna recomputes the model; will be retried",
        "runs": "a run is under way",
        "failed": "the last run failed: NoNewResult",
    }
    waiting = {
        "waits": ("3 updates wait, for 2 h", "starts when a slot is free"),
        "stuck": ("1 update waits, for 45 min", "next attempt in 40 s, after 6 that failed"),
    }.get(fate, ())
    return Model(
        job=job,
        job_name=JOBS[number % len(JOBS)] + (f"-{number // len(JOBS) + 1}" if number >= len(JOBS) else ""),
        model_id=None if is_active else f"generic-1-{job}-model-17{chance.randrange(10**8, 10**9)}.hdf5",
        active=f"generic-1-{job}-model-1751030400.hdf5" if is_active else None,
        fresh=fate in ("fresh", "worse"),
        since=since or past[-1].requested_at + 200,
        why=whys.get(fate, "up to date with every known upload"),
        running_since=NOW - 420 if fate == "runs" else None,
        waiting=waiting,
        waits_since=since,
        overdue_since=since,
        waiting_objects=(f"{bucket}/feedback/{job}/late.csv",) if waiting else (),
        attempts=6 if fate == "stuck" else 0,
        last_error="PlatformBusy: Arcanna recomputes the model" if fate == "stuck" else "",
        runs=tuple(past),
        told=told,
    )


def _past(
    number: int, runs: int, fate: str, chance: random.Random
) -> tuple[list[PastRun], list[dict[str, Any]]]:
    """Completed runs, oldest first, and the metrics after each."""
    past: list[PastRun] = []
    figures: list[dict[str, Any]] = []
    asked = NOW - chance.uniform(0.2, 30) * 3600 - runs * 9 * 3600
    quality = chance.uniform(0.78, 0.9)
    for step in range(runs):
        asked += chance.uniform(7, 9) * 3600
        drift = chance.choice([0.0, 0.001, 0.012, 0.03, -0.01])
        if fate == "worse" and step == runs - 1:
            drift = -chance.uniform(0.05, 0.09)
        quality = min(0.985, quality + drift)
        figures.append(metrics([chance.randrange(300, 900) for _ in DECISIONS], quality, chance))
        verdict = "improved" if drift > 0.02 else "regressed" if drift < -0.02 else "unchanged"
        past.append(
            PastRun(
                run_id=f"{1200 + number}-{step}",
                cause=chance.choice(["upload", "upload", "schedule", "manual"]),
                requested_at=asked,
                seconds=chance.uniform(60, 1500),
                polls=chance.randrange(2, 9),
                outcome="completed",
                result="not_judged" if step == 0 else verdict,
                why="",
                detail="",
                scores={name: figures[-1][name] for name in OVERALL},
            )
        )
    return past, figures


def metrics(
    counts: list[int], quality: float, chance: random.Random, decisions: tuple[str, ...] = DECISIONS
) -> dict[str, Any]:
    """The figures that the platform serves, computed from one matrix."""
    matrix = []
    for row, total in enumerate(counts):
        right = round(total * min(1.0, max(0.0, quality + chance.uniform(-0.05, 0.03))))
        wrong = [chance.random() for _ in counts]
        wrong[row] = 0.0
        cells = [round((total - right) * share / (sum(wrong) or 1)) for share in wrong]
        cells[row] = right
        matrix.append(cells)
    columns = [sum(row[n] for row in matrix) for n in range(len(matrix))]
    recall = [row[n] / (sum(row) or 1) for n, row in enumerate(matrix)]
    precision = [matrix[n][n] / (columns[n] or 1) for n in range(len(matrix))]
    f1 = [2 * r * p / ((r + p) or 1) for r, p in zip(recall, precision, strict=True)]

    def mean(values: list[float]) -> float:
        return sum(values) / (len(values) or 1)

    return {
        "overall_accuracy": sum(matrix[n][n] for n in range(len(matrix))) / (sum(map(sum, matrix)) or 1),
        "overall_f1_score": mean(f1),
        "overall_recall": mean(recall),
        "overall_precision": mean(precision),
        "confusion_matrix": matrix,
        "metrics_per_decision": {name: {"recall": r} for name, r in zip(decisions, recall, strict=True)},
    }


def hostile() -> Facts:
    """Names that are markup or too long, invalid figures, and every trouble at once."""
    crowd = (EVIL, LONG, "", "Drop", *(f"Decision {n}" for n in range(4)))
    wide = metrics([50] * len(crowd), 0.6, random.Random(1), crowd)
    completed = PastRun(
        run_id=EVIL,
        cause=EVIL,
        requested_at=NOW - 9e6,
        seconds=1e7,
        polls=10**9,
        outcome="completed",
        result="regressed",
        why=EVIL,
        detail=EVIL,
        scores={**dict.fromkeys(OVERALL), "overall_accuracy": 98.7},
    )
    unknown = completed._replace(result=EVIL, requested_at=NOW - 60, seconds=None, scores={})
    failed = PastRun(LONG, LONG, NOW - 50, None, None, EVIL, LONG, EVIL + LONG, {})
    unreadable = {**wide, "confusion_matrix": [[1, "x"], None]}
    told = Told(EVIL + LONG, 10**6, NOW - 99, NOW - 98, (EVIL, LONG), wide, unreadable)
    huge = {"confusion_matrix": [[1] * 40] * 40}
    mixed = {"confusion_matrix": "none", "metrics_per_decision": 3}
    busy = Model(
        job=EVIL,
        model_id=LONG,
        fresh=False,
        why=EVIL,
        since=NOW - 1e7,
        job_name=LONG,
        running_since=NOW - 30,
        waiting=(EVIL, LONG),
        waits_since=NOW - 1e7,
        overdue_since=NOW - 1e7,
        waiting_objects=(EVIL, LONG),
        attempts=10**6,
        runs=(completed, unknown, failed),
        told=told,
    )
    return Facts(
        stack=EVIL,
        region=LONG,
        at=NOW,
        models=(
            busy,
            Model(
                LONG,
                EVIL,
                fresh=True,
                why=LONG,
                runs=(completed,),
                told=Told(LONG, 1, NOW, NOW, (), huge, mixed),
            ),
            Model(
                EVIL,
                None,
                fresh=False,
                why=LONG,
                since=NOW + 500,
                active=LONG,
                running_since=NOW + 500,
                runs=(failed,),
                untold=EVIL,
            ),
            Model("", "", fresh=False, why=""),
        ),
        dead=10**6,
        letters=(Group(EVIL, 10**6, NOW - 1e8, NOW + 5, LONG + EVIL), Group("", 1, 0.0, 0.0, "")),
        queued=10**7,
        objective=60.0,
        notes=(EVIL, LONG),
    )
