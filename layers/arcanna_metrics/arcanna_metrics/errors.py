"""What can go wrong, named for what the caller does about it.

RecomputeError
├── RetryLater               passes by itself: the queue or the workflow tries again
│   ├── PlatformUnavailable  no answer, or a temporary one (time-out, connection, 429, 5xx)
│   ├── PlatformBusy         the platform is recomputing for somebody else
│   ├── UndocumentedAnswer   an answer that the API's documentation does not know
│   ├── Unauthorised         the API key was refused (401, 403), also after it was read again
│   ├── ApiKeyUnavailable    the secret is empty, unreadable or no API key
│   └── AwsUnavailable       an AWS call failed
├── Rejected                 the platform will never accept this (404, 422): no retry
├── BadInput                 an event that cannot be used as it is: no retry
└── ConfigurationError       a setting or the routes are wrong: somebody has to correct them

The class names are part of the contract: the workflow retries by them, and they are the reasons in outcome
events, dead letters, logs and metrics.
"""

NO_WAY = "In a VPC, the functions need a way there"
"""What errors say of an AWS service that cannot be reached."""


class RecomputeError(Exception):
    """Any error of this application."""


class RetryLater(RecomputeError):
    """Passes by itself; `retry_after` is the platform's own wish in seconds, if it had one."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PlatformUnavailable(RetryLater):
    """The platform gave no answer, or a temporary one."""


class PlatformBusy(RetryLater):
    """The platform is recomputing this model for somebody else, perhaps from older data."""


class UndocumentedAnswer(RetryLater):
    """The platform's answer is none that its documentation describes."""


class Unauthorised(RetryLater):
    """The platform refused the API key."""


class ApiKeyUnavailable(RetryLater):
    """The secret cannot be read, or holds no usable API key."""


class AwsUnavailable(RetryLater):
    """An AWS call failed."""


class Rejected(RecomputeError):
    """The platform will never accept this request."""


class BadInput(RecomputeError):
    """An event that cannot be used as it is."""


class ConfigurationError(RecomputeError):
    """A setting or the routes are wrong."""
