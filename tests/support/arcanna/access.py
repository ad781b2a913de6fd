"""API keys: who may call what."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

API_KEY_HEADER = "X-Arcanna-Api-Key"
API_KEY = "reference-server-key"
RECOMPUTE_SCOPE = "execute:recompute_model_metrics"
READ_SCOPE = "read:job_metrics"
RESOURCES_SCOPE = "read:resources"
"""Lets a key look up the names of jobs. The default key lacks it, because recomputes do not need it."""


@dataclass(frozen=True)
class KeyInfo:
    """What a key may do, and until when.

    A scope may be narrowed by further parts (`read:job_metrics:job:1234`); the first two decide.
    `expires_at` is in seconds since the epoch, None means never.
    """

    scopes: frozenset[str] = frozenset({RECOMPUTE_SCOPE, READ_SCOPE})
    expires_at: float | None = None

    def has_expired(self) -> bool:
        return self.expires_at is not None and time.time() >= self.expires_at

    def allows(self, scope: str) -> bool:
        return any(":".join(own.split(":")[:2]) == scope for own in self.scopes)


def valid_key(keys: Mapping[str, KeyInfo], key: str | None) -> KeyInfo | None:
    """The key's rights. None if the key is missing, unknown or expired."""
    info = keys.get(key or "")
    return None if info is None or info.has_expired() else info
