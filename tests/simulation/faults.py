"""The faults of a history. The seed decides them, and each can be left out by its name."""

from collections.abc import Mapping, Sequence, Set
from random import Random

CALL_FAULTS = (
    "fails before its effect",
    "fails after its effect",
    "fails, takes effect later",
    "is slow",
    "is repeated",
    "crashes before its effect",
    "crashes after its effect",
)
"""Faults of a call to the outside. boto3 repeats an AWS call whose answer was lost."""

OTHER_FAULTS = (
    "is seen to in part",
    "is delivered twice",
    "is delayed",
    "fails at the platform",
    "never starts",
    "takes longer than the deadline",
    "flag and timestamp change apart",
    "is aborted",
    "its end is not reported",
    "its end is reported late",
    "is lost",
    "shows late",
    "is away",
    "starts late",
)
"""Faults of batches, messages, recomputes, executions, sweeps, writes as the index shows them, the
platform, and functions that the workflow calls."""


class Faults:
    """The faults of one history.

    Only a few kinds occur in one history, and some of them often. Many kinds at once would hide each other's
    effects. `rates`, by kind, replaces this choice. With `keep`, only the faults with these names happen.
    """

    def __init__(
        self, seed: int, until: float, rates: Mapping[str, float], keep: Set[str] | None = None
    ) -> None:
        random = Random(f"{seed}/faults")
        kinds = (*CALL_FAULTS, *OTHER_FAULTS)
        self._rates = dict.fromkeys(kinds, 0.0)
        for kind in random.sample(kinds, random.choice([0, 1, 3, 6])):
            self._rates[kind] = random.choice([0.02, 0.1, 0.25])
        if rates:
            self._rates = {**dict.fromkeys(kinds, 0.0), **rates}
        self._until = until
        self._keep = keep
        self.injected: list[str] = []

    @property
    def calm(self) -> bool:
        """Whether nothing has gone wrong."""
        return not self.injected

    def strikes(
        self, kind: str, what: str, now: float, draw: float, weight: float = 1.0, *, once: bool = False
    ) -> bool:
        """Whether this fault strikes that; `draw` is uniform in [0, 1). With `once`, it is noted once."""
        return self._choose([kind], what, now, draw / weight, once=once) is not None

    def of_call(self, what: str, now: float, draw: float, *, aws: bool) -> str | None:
        """The fault that strikes a call, if any."""
        kinds = [kind for kind in CALL_FAULTS if aws or kind != "is repeated"]
        return self._choose(kinds, what, now, draw)

    def _choose(
        self, kinds: Sequence[str], what: str, now: float, draw: float, *, once: bool = False
    ) -> str | None:
        if now >= self._until:
            return None
        for kind in kinds:
            if draw < self._rates[kind]:
                name = f"{what} {kind}"
                if self._keep is not None and name not in self._keep:
                    return None
                if not once or name not in self.injected:
                    self.injected.append(name)
                return kind
            draw -= self._rates[kind]
        return None
