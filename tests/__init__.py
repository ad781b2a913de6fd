"""The tests, and what they share with the tools: the reference platform and the local cloud."""

import sys
from types import TracebackType


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while a command is still being loaded is no bug, so it has no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _in_one_line

from functools import cache  # noqa: E402 - what takes time comes after the hook

import botocore.session  # noqa: E402

# Every session would read AWS's descriptions of its services again: tests make hundreds, moto some.
botocore.session.create_loader = cache(botocore.session.create_loader)
