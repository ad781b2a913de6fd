"""The record of a demo. Times are seconds since the first upload, except in the facts."""

from dataclasses import dataclass

from arcanna_metrics_cli.report.facts import Facts


@dataclass(frozen=True)
class Upload:
    """An upload. `model_id` is None if no route matches its key."""

    at: float
    key: str
    model_id: str | None
    correction: bool = False


@dataclass(frozen=True)
class Poll:
    """A status check and its result."""

    at: float
    detail: str


@dataclass(frozen=True)
class Run:
    """One recompute, from claim to release.

    `asked_at`, `started_at` and `finished_at` are the platform's: None if that did not happen. `verdict`
    is None where the run failed.
    """

    run_id: str
    claimed_at: float
    asked_at: float | None
    started_at: float | None
    finished_at: float | None
    polls: tuple[Poll, ...]
    released_at: float
    outcome: str
    verdict: str | None
    why: str


@dataclass(frozen=True)
class Model:
    """A model, by the name of its job and its own id, with its runs in order."""

    job: str
    model_id: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Outage:
    """A time in which Arcanna did not answer, and the attempts that failed."""

    began: float
    ended: float
    attempts: tuple[Poll, ...]


@dataclass(frozen=True)
class Record:
    """A whole demo: its events, and the state of its stack at the end."""

    facts: Facts
    models: tuple[Model, ...]
    uploads: tuple[Upload, ...]
    outage: Outage | None
    summary: dict[str, str]
    promises: dict[str, bool]

    def uploads_of(self, model_id: str | None) -> list[Upload]:
        """The model's uploads in order. None gives the uploads without a model."""
        return sorted((u for u in self.uploads if u.model_id == model_id), key=lambda upload: upload.at)
