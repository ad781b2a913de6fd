"""What happened in a demo, as data. All times are in seconds since the first upload."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Upload:
    """An object that was put; `model_id` is None where no route knows its key."""

    at: float
    key: str
    model_id: str | None
    correction: bool = False


@dataclass(frozen=True)
class Poll:
    """A status check and what it found."""

    at: float
    detail: str


@dataclass(frozen=True)
class Run:
    """One recompute, from claim to release.

    `asked_at`, `started_at` and `finished_at` are the platform's: None for what it never came to. `verdict`
    is None where the run failed; `before` and `after` are the figures as the outcome event tells them.
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
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class Model:
    """A model, by the name of its job and its own id, with its runs in order."""

    job: str
    model_id: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Outage:
    """A time in which Arcanna did not answer, with the attempts that failed for it."""

    began: float
    ended: float
    attempts: tuple[Poll, ...]


@dataclass(frozen=True)
class Record:
    """A whole demo; `began_at` is the time of its first upload."""

    began_at: datetime
    models: tuple[Model, ...]
    uploads: tuple[Upload, ...]
    outage: Outage | None
    summary: dict[str, str]
    promises: dict[str, bool]

    def uploads_of(self, model_id: str | None) -> list[Upload]:
        """The model's uploads in order; those of no model for None."""
        return sorted((u for u in self.uploads if u.model_id == model_id), key=lambda upload: upload.at)
