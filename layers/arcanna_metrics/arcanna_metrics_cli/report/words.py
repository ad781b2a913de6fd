"""Times, changes and results in the report's words."""

from datetime import UTC, datetime

from arcanna_metrics_cli.entries import PastRun

RESULTS = {
    "improved": "Improved",
    "unchanged": "Unchanged",
    "regressed": "Got worse",
    "not_judged": "Not judged",
    "failed": "Failed",
}


def clock(at: float, *, full: bool = False) -> str:
    """A time (epoch seconds) in UTC, such as `28 Nov, 23:45:12`. `full` adds the year and the zone."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC" if full else f"{moment.day} {moment:%b, %H:%M:%S}"


def result_of(run: PastRun) -> str:
    """The key in RESULTS for the end of a run."""
    if run.outcome != "completed":
        return "failed"
    return run.result if run.result in RESULTS else "not_judged"


def ended_at(run: PastRun, now: float) -> float:
    """When the run ended, or was requested if its end is not known. In epoch seconds, at most `now`."""
    return min(now, run.requested_at + (run.seconds or 0.0))


def change(before: float | None, after: float | None) -> str:
    """The difference of two scores as shown; empty if one is missing."""
    if before is None or after is None:
        return ""
    difference = round(after, 3) - round(before, 3)
    if abs(difference) < 0.0005:
        return "±0"
    return f"{difference:+.3f}".replace("-", "\N{MINUS SIGN}")


def span(seconds: float) -> str:
    """A span of time (seconds) in its largest unit, rounded down, such as `5 h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"
