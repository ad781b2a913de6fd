"""Access to a stack on this machine, such as that of `make local`, without a proxy or a profile."""

import os
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def reach_loopback_directly() -> None:
    """Ignores the shell's proxies and AWS profile for an endpoint on this machine.

    Both stay in force for all other stacks.
    """
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if excepted.strip() != "*":
        excepted = ",".join(filter(None, (excepted, *LOOPBACK, "[::1]")))  # urllib leaves the brackets
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = excepted  # where both are there, the small one counts
    if _is_here(os.environ.get("AWS_ENDPOINT_URL", "")) and os.environ.get("AWS_ACCESS_KEY_ID"):
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
            os.environ.pop(name, None)


def _is_here(url: str) -> bool:
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False
