"""What can go wrong, named for what the caller does about it.

RecomputeError
├── RetryLater               passes by itself: the target stays due, or the workflow retries
│   ├── PlatformUnavailable  no answer, or a temporary one (time-out, connection, 429, 5xx)
│   ├── PlatformBusy         the platform is recomputing for somebody else
│   ├── ActiveModelChanged   another model became the job's active one while a run was being started
│   ├── UndocumentedAnswer   an answer that is not documented, or a 2xx with an error in it
│   ├── Unauthorised         the API key was refused (401, 403), also after it was read again
│   ├── ApiKeyUnavailable    the secret is unreadable or does not hold an API key
│   │   └── ApiKeyMissing    nothing has been put into the secret yet
│   └── AwsUnavailable       an AWS call failed
├── Rejected                 the platform will never accept this (404, 422): no retry
├── BadInput                 an event that cannot be used as it is: no retry
│   └── NotSubscribed        an SNS topic that somebody has to confirm before it delivers here
└── ConfigurationError       a setting is wrong: somebody has to correct it

The class names are part of the contract: they are the reasons in outcome events, dead letters, logs and
metrics.
"""

NO_WAY = "In a VPC, the functions need a route to it"
"""What errors say of an AWS service that cannot be reached."""
NOT_ALLOWED = "The policy of the role, the secret, its KMS key or the VPC endpoint does not allow it"
"""What errors say of a secret that may not be read."""


_MOST_PROBLEMS = 20
"""Problems that the message of a ConfigurationError shows."""


class RecomputeError(Exception):
    """Any error of this application."""


class RetryLater(RecomputeError):
    """Passes by itself.

    `retry_after`: seconds that the platform asks to wait, or None. `effect_unknown`: a recompute was
    requested, and it is not known whether the request took effect.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, *, effect_unknown: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.effect_unknown = effect_unknown


class PlatformUnavailable(RetryLater):
    """The platform gave no answer, or a temporary one."""


class PlatformBusy(RetryLater):
    """The platform is recomputing this model for somebody else, perhaps from older data."""


class ActiveModelChanged(RetryLater):
    """Another model became the job's active one while a run was being started."""


class UndocumentedAnswer(RetryLater):
    """The platform's answer is not documented, or has the status 2xx and an error in its body."""


class Unauthorised(RetryLater):
    """The platform refused the API key."""


class ApiKeyUnavailable(RetryLater):
    """The secret cannot be read, or holds no usable API key."""


class ApiKeyMissing(ApiKeyUnavailable):
    """Nothing has been put into the secret yet: the stack is new, and no alarm is due."""


class AwsUnavailable(RetryLater):
    """An AWS call failed."""


class Rejected(RecomputeError):
    """The platform will never accept this request."""


class BadInput(RecomputeError):
    """An event that cannot be used as it is."""


class NotSubscribed(BadInput):
    """An SNS topic does not deliver here: somebody has to confirm its subscription."""


class ConfigurationError(RecomputeError):
    """A setting is wrong. `problems` are one sentence each, with the place and what is allowed there."""

    def __init__(self, *problems: str) -> None:
        shown = problems[:_MOST_PROBLEMS]
        more = len(problems) - len(shown)
        super().__init__("; ".join([*shown, f"and {more} more"] if more else shown))
        self.problems = problems
