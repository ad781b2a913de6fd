"""The true events of a history, by true time. The checks and people read it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

START = 1_700_000_000.0
"""The start of every history in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a target or a model ("*": possibly of all)."""

    time: float
    what: str
    whom: str
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        details = ", ".join(f"{name} {value}" for name, value in self.details.items())
        return f"{self.time - START:9.3f}  {self.whom:16} {self.what:18} {details}"


class Journal:
    """The events of one history, in their order; `listen` hears of each."""

    def __init__(self, clock: Callable[[], float], listen: Callable[[Event], None]) -> None:
        self._clock = clock
        self._listen = listen
        self.events: list[Event] = []

    def note(self, what: str, whom: str, **details: object) -> None:
        """Adds an event that happens now."""
        event = Event(self._clock(), what, whom, details)
        self.events.append(event)
        self._listen(event)

    def of(self, *whats: str) -> list[Event]:
        """The events of these kinds."""
        return [event for event in self.events if event.what in whats]
