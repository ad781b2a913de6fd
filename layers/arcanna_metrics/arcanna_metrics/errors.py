"""What can go wrong, named for what the caller does about it.

RecomputeError
├── RetryLater               temporary: the target stays due, or the check is repeated
│   ├── PlatformUnavailable  no answer, or a temporary one (time-out, connection, 429, 5xx)
│   ├── PlatformBusy         the platform is recomputing the model already
│   ├── ActiveModelChanged   the job's active model changed while a run was being started
│   ├── UndocumentedAnswer   an undocumented response, or a 2xx with an error in it
│   ├── Unauthorised         the API key was refused (401, 403), even after it was read again
│   ├── ApiKeyUnavailable    the secret may not be read, or does not hold an API key
│   │   └── ApiKeyMissing    nothing has been put into the secret yet
│   └── AwsUnavailable       an AWS call failed
├── Rejected                 the platform will never accept this (404, 422): no retry
├── BadInput                 an event that cannot be understood: no retry
│   └── NotSubscribed        an SNS topic whose subscription somebody must confirm
└── ConfigurationError       a setting is wrong, and somebody must correct it

The class names are part of the contract: they are the reasons in outcome events, dead letters, logs and
metrics.
"""

NO_WAY = "In a VPC, the functions need a route to it"
"""Added to the error if an AWS service cannot be reached."""
NOT_ALLOWED = "The policy of the role, the secret, its KMS key or the VPC endpoint does not allow it"
"""Added to the error if access to the secret is denied."""


_MOST_PROBLEMS = 20
"""Problems that the message of a ConfigurationError shows."""


class RecomputeError(Exception):
    """Any error of this application."""


class RetryLater(RecomputeError):
    """A temporary error.

    `retry_after`: seconds that the platform asks to wait, or None. `effect_unknown`: a recompute was
    requested, and the request may have taken effect.
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
    """The model is being recomputed already: by the platform, perhaps from older data, or by another run."""


class ActiveModelChanged(RetryLater):
    """The job's active model changed while a run was being started."""


class UndocumentedAnswer(RetryLater):
    """The platform's response is undocumented, or has the status 2xx and an error in its body."""


class Unauthorised(RetryLater):
    """The platform refused the API key."""


class ApiKeyUnavailable(RetryLater):
    """The secret may not be read, does not exist, or holds no usable API key."""


class ApiKeyMissing(ApiKeyUnavailable):
    """Nothing has been put into the secret yet. The stack is new, so there is no alarm."""


class AwsUnavailable(RetryLater):
    """An AWS call failed."""


class Rejected(RecomputeError):
    """The platform will never accept this request."""


class BadInput(RecomputeError):
    """An event that cannot be understood."""


class NotSubscribed(BadInput):
    """An SNS topic does not deliver here until somebody confirms its subscription."""


class ConfigurationError(RecomputeError):
    """A setting is wrong. Each of `problems` is a sentence with the place and what is allowed there."""

    def __init__(self, *problems: str) -> None:
        shown = problems[:_MOST_PROBLEMS]
        more = len(problems) - len(shown)
        super().__init__("; ".join([*shown, f"and {more} more"] if more else shown))
        self.problems = problems
