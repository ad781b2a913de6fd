"""The target of a recompute, a job and one of its models, and the updates of its training data."""

from typing import NamedTuple
from unicodedata import category

from arcanna_metrics.errors import BadInput

ID_LENGTH = 256
"""Characters that a job's or model's id or name may have."""

_CONTROL = ("Cc", "Zl", "Zp", "Cs")
"""Unicode categories of control characters, line and paragraph separators and lone surrogates. Any other
character may be part of a name, printable or not: blanks of other scripts, joiners, private use."""

WHOLE = 1_000_000
"""The share, in millionths, that reaches a threshold."""


class Target(NamedTuple):
    """A job, by id or name, and one of its models. None means the job's active model."""

    job_id: str
    model_id: str | None

    @classmethod
    def of(cls, job_id: object, model_id: object, where: str = "") -> "Target":
        """The target for ids from outside. A job's id is a whole number, so "0012" and 12 are the same job.

        Raises BadInput. `where` is the path of the ids for the message, such as "detail.".
        """
        job = identifier(f"{where}job_id", job_id)
        model = None if model_id is None else identifier(f"{where}model_id", model_id)
        return cls(canonical(job), model)

    def __str__(self) -> str:
        return f"job {self.job_id!r}, {f'model {self.model_id!r}' if self.model_id else 'active model'}"


class Model(NamedTuple):
    """A target whose model is known."""

    job_id: str
    model_id: str


class Example(NamedTuple):
    """An object, as people see it."""

    bucket: str
    key: str
    version_id: str | None


class Update(NamedTuple):
    """The training data of a target changed, or a schedule asks for metrics that are not too old."""

    target: Target
    happened_at: float  # epoch seconds, never later than its message was sent
    cause: str  # upload, schedule, manual, an event's detail-type, or what a request says
    example: Example | None = None
    share: int = WHOLE  # of its route's threshold, in millionths, rounded up
    max_wait: float = 0.0  # seconds that a share of a threshold may wait for others
    older_than: float | None = None  # only for a wish: metrics must not be older than this, in seconds
    by_hand: bool = False  # the data is visible already, so the run does not wait for the visibility lag


def identifier(name: str, value: object) -> str:
    """A job or model id in its string form, as the API accepts it.

    Integers are ids too (Arcanna's API documentation: "integer or string"). So is 1234.0, which is the same
    number in JSON. Raises BadInput.
    """
    if value is None:
        raise BadInput(f"{name} is missing")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        value = str(value)
    if not isinstance(value, str):
        raise BadInput(f"{name} must be a string or a 64-bit integer, not {type(value).__name__}")
    if not value.strip():
        raise BadInput(f"{name} is empty")
    if len(value) > ID_LENGTH:
        raise BadInput(f"{name} has {len(value)} characters, more than {ID_LENGTH}")
    if found := [f"U+{ord(one):04X}" for one in dict.fromkeys(value) if category(one) in _CONTROL]:
        raise BadInput(f"{name} has control characters ({', '.join(found[:5])}): {value!r}")
    return value


def canonical(job: str) -> str:
    """The job without the leading zeros that its id may have been written with."""
    return (job.lstrip("0") or "0") if is_id(job) else job


def is_id(job_id: str) -> bool:
    """Whether it is a job's id rather than its name: ids are whole numbers."""
    return job_id.isascii() and job_id.isdigit()
