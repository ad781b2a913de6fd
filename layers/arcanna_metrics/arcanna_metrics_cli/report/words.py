"""Times, scores and results as the report words them."""

from datetime import UTC, datetime

from arcanna_metrics_cli.entries import PastRun

RESULTS = {
    "improved": "Improved",
    "unchanged": "Unchanged",
    "regressed": "Got worse",
    "not_judged": "Not judged",
    "failed": "Failed",
}


def clock(at: float | None, *, full: bool = False) -> str:
    """A time in UTC, such as `28 Nov, 23:45:12`; in full with year and zone."""
    if at is None:
        return ""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC" if full else f"{moment.day} {moment:%b, %H:%M:%S}"


def result_of(run: PastRun) -> str:
    """A key of RESULTS: how the run ended."""
    return run.result if run.outcome == "completed" and run.result in RESULTS else _other(run)


def _other(run: PastRun) -> str:
    return "not_judged" if run.outcome == "completed" else "failed"


def ended_at(run: PastRun, now: float) -> float:
    """When the run ended; when it was requested, where nobody could see its end."""
    return min(now, run.requested_at + (run.seconds or 0.0))


def score(value: float | None) -> str:
    """A score with the digits that matter: it is a share, or a percentage, or something else by mistake."""
    if value is None:
        return "none"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def change(before: float | None, after: float | None) -> str:
    """The difference of two scores as they are shown; empty where one is missing."""
    if before is None or after is None:
        return ""
    difference = round(after, 3) - round(before, 3)
    if abs(difference) < 0.0005:
        return "±0"
    return f"{difference:+.3f}".replace("-", "\N{MINUS SIGN}")


def span(seconds: float) -> str:
    """A span of time in its largest unit, rounded down: `5 h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"
