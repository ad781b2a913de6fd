"""The tests, and what they share with the tools: the reference platform and the local cloud."""

import sys
from types import TracebackType


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints one line for Ctrl-C while a command is loading. It is not a bug, so it needs no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _in_one_line

from functools import cache  # noqa: E402 - what takes time comes after the hook

import botocore.session  # noqa: E402

# Otherwise each botocore session reads AWS's service descriptions again. Tests make hundreds.
botocore.session.create_loader = cache(botocore.session.create_loader)
