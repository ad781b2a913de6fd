"""The exit statuses, and the exception that ends a command with one of them."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses, by which a pipeline decides. An interrupt is 130, a bug 70."""

    GOOD = 0
    WRONG = 1
    """The model regressed, or `doctor`, `route` or `settings` found something wrong."""
    USAGE = 2
    NOT_JUDGED = 3
    FAILED = 4
    TIMED_OUT = 5
    NOT_STARTED = 6
    NO_ACCESS = 7


MEANINGS = {
    Exit.GOOD: "success; of recompute --wait: metrics are fresh and no worse",
    Exit.WRONG: "the model regressed, or something is wrong",
    Exit.USAGE: "the command line is wrong, or the job or model is unknown",
    Exit.NOT_JUDGED: "metrics are fresh, but could not be compared",
    Exit.FAILED: "the recompute failed",
    Exit.TIMED_OUT: "the recompute did not end in time",
    Exit.NOT_STARTED: "no run started in time, the target is busy, or Arcanna does not answer",
    Exit.NO_ACCESS: "no access to AWS, the stack or its ledger, or Arcanna refuses the key",
}
"""The meanings in --help."""


class Trouble(Exception):
    """Ends a command. The message says what is wrong, `todo` what to type."""

    def __init__(self, status: Exit, message: str, todo: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.todo = todo
