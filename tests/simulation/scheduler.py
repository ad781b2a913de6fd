"""A discrete-event scheduler with a simulated clock, on which blocking code runs as processes.

Each process is a greenlet: it runs until it pauses, and nothing interrupts it. The order is that of the event
queue alone: the same events give the same history.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random

from greenlet import getcurrent, greenlet

MOST_STEPS = 100_000


class Killed(BaseException):
    """Ends a process at once. No error handler may catch it."""


class NeverQuiet(BaseException):
    """The history never ends. No error handler may catch it."""


class Process:
    """Code of the simulated world that can pause: an invocation of a function, or an execution.

    It is killed at `deadline`; `skew` is how far its clock is off; `execution` is the execution that it is,
    or that has called it, if any.
    """

    def __init__(
        self, name: str, random: Random, skew: float, deadline: float = math.inf, execution: str = ""
    ) -> None:
        self.name = name
        self.random = random
        self.skew = skew
        self.deadline = deadline
        self.execution = execution
        self.killed = False
        self.ended = False
        self.calls = 0
        self.only_looks = False  # an invocation with sweeps only
        self.claimed = ""  # the run of its last claim
        self.releases = "", ""  # the run to release, and its outcome
        self.caller: Process | None = None  # the process that waits for its end
        self.greenlet: greenlet | None = None
        self.wakes = 0


class Scheduler:
    """Runs actions and processes in the order of simulated time. Times are in seconds."""

    def __init__(self, start: float) -> None:
        self.now = start
        self.steps = 0
        self.running: Process | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._world = getcurrent()
        self._processes: list[Process] = []

    @property
    def process(self) -> Process:
        """The current process."""
        if self.running is None:
            raise RuntimeError("no process runs")
        return self.running

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Runs `action`, which must not pause, at a time."""
        self._count += 1
        heapq.heappush(self._events, (max(time, self.now), self._count, action))

    def spawn(self, process: Process, body: Callable[[], None]) -> None:
        """Starts a process now."""

        def main() -> None:
            try:
                if not process.killed:
                    body()
            except Killed:
                pass
            finally:
                self._processes.remove(process)
                process.ended = True
                if process.caller and not process.caller.ended:
                    self._wake(process.caller, self.now)

        process.greenlet = greenlet(main, self._world)  # which receives its errors
        self._processes.append(process)
        self._wake(process, self.now)

    def pause(self, seconds: float) -> None:
        """Pauses for that many seconds. Raises Killed if the process is killed meanwhile."""
        process, wake = self.process, self.now + seconds
        doomed = wake >= process.deadline
        wake = min(wake, process.deadline)
        self._step()
        if self._events and self._events[0][0] <= wake:
            self._wake(process, wake)
            self._world.switch()
        else:
            self.now = wake  # no other process acts before
        if doomed or process.killed:
            raise Killed

    def call(self, process: Process, body: Callable[[], None]) -> None:
        """Runs another process and waits for its end. It continues when the waiting one is killed."""
        caller = self.process
        process.caller = caller
        self.spawn(process, body)
        self._step()
        self._world.switch()
        if caller.killed:
            raise Killed

    def kill(self, process: Process) -> None:
        """Kills a process."""
        process.killed = True
        if not process.ended:
            self._wake(process, self.now)

    @contextmanager
    def acting_for(self, process: Process) -> Iterator[None]:
        """Attributes the current events to this process, which no longer waits for them."""
        before, self.running = self.running, process
        claimed = process.claimed
        yield
        process.claimed = claimed
        self.running = before

    def run(self) -> None:
        """Runs until no event is left. Raises NeverQuiet, or the error of a process."""
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            self._step()
            action()

    def close(self) -> None:
        """Ends the processes that are left when a history is broken off."""
        for process in list(self._processes):
            process.killed = True
            process.deadline = -math.inf
            with suppress(Exception):  # its error no longer matters
                self._resume(process, process.wakes)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise NeverQuiet(f"there was no end after {MOST_STEPS} steps")

    def _wake(self, process: Process, time: float) -> None:
        """Continues the process at that time. Only the last call counts."""
        process.wakes += 1
        wakes = process.wakes
        self.at(time, lambda: self._resume(process, wakes))

    def _resume(self, process: Process, wakes: int) -> None:
        if process.greenlet is None:
            raise RuntimeError(f"{process.name} was not spawned")
        if process.ended or wakes != process.wakes:
            return
        self.running = process
        try:
            process.greenlet.switch()
        finally:
            self.running = None
