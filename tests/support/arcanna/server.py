"""The reference server as a context manager."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self, TypeVar, cast

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.support.arcanna.access import API_KEY, KeyInfo
from tests.support.arcanna.alerts import AlertSource
from tests.support.arcanna.app import answer_error, answer_validation_error
from tests.support.arcanna.app import routes as api_routes
from tests.support.arcanna.control import routes as control_routes
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.front_door import FrontDoor, ReceivedRequest
from tests.support.arcanna.platform import Behaviour, Job, Platform, Recompute
from tests.support.arcanna.schemas import ApiError

T = TypeVar("T")
SECONDS_TO_START = 30.0


class ArcannaServer:
    """The Arcanna API on 127.0.0.1, served by a thread until the `with` block ends.

    `port` 0 takes a free one; `prefix` ("/arcanna") comes before every path; `certfile` and
    `keyfile` (PEM) switch to TLS; `clock` is the platform's own (seconds since the epoch), for
    its timestamps. All methods may be called from any thread, and take a job's id or its name.
    """

    def __init__(
        self,
        jobs: Mapping[int, Job],
        alerts: AlertSource,
        *,
        behaviour: Behaviour = Behaviour(),  # noqa: B008  # immutable
        api_keys: Mapping[str, KeyInfo] | None = None,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        prefix: str = "",
        certfile: Path | None = None,
        keyfile: Path | None = None,
    ) -> None:
        keys = {API_KEY: KeyInfo()} if api_keys is None else api_keys
        self._platform = Platform(jobs, alerts, behaviour, keys, clock)
        app = FastAPI(
            title="Arcanna API, reference server",
            lifespan=self._lifespan,
            openapi_url=f"{prefix}/openapi.json",
            docs_url=None,
            redoc_url=None,
            exception_handlers={
                ApiError: answer_error,
                RequestValidationError: answer_validation_error,
            },
        )
        app.include_router(api_routes, prefix=prefix)
        app.include_router(control_routes, prefix=prefix)
        self._door = FrontDoor(app, prefix, self._platform, self._transport_of)
        app.state.platform = self._platform
        app.state.faults = self._door.faults
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._door,
                http="h11",
                ws="none",
                lifespan="on",
                proxy_headers=False,  # a proxy header would hide the peer's port
                log_config=None,
                log_level="error",
                access_log=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=5,
                ssl_certfile=certfile,
                ssl_keyfile=keyfile,
            )
        )
        self._port = port
        self._prefix = prefix
        self._scheme = "https" if certfile else "http"
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self._uvicorn.config.load()
        listener = socket.create_server(("127.0.0.1", self._port), backlog=2048)
        # asyncio sets this only on sockets of its own. Without it, answers wait for delayed ACKs.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"{self._scheme}://127.0.0.1:{listener.getsockname()[1]}{self._prefix}"
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([listener],), name="arcanna", daemon=True
        )
        self._thread.start()
        if not self._started.wait(SECONDS_TO_START):
            raise TimeoutError(f"the reference server did not start in {SECONDS_TO_START} s")
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._door.close)
        self._uvicorn.should_exit = True
        self._thread.join()

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every API request so far, in order of arrival."""
        return list(self._door.requests)

    def recomputes(self, model_id: str | None = None) -> list[Recompute]:
        """All recomputes so far, of one model or of all, in the order they were queued, live."""
        history = list(self._platform.recomputes)
        return [run for run in history if model_id in (None, run.model_id)]

    def add_fault(self, fault: Fault) -> None:
        self._on_loop(lambda: self._door.faults.add(fault))

    def remove_fault(self, fault: Fault) -> None:
        """Removes the fault. The others stay active."""
        self._on_loop(lambda: self._door.faults.remove(fault))

    def clear_faults(self) -> None:
        self._on_loop(self._door.faults.clear)

    def set_behaviour(self, behaviour: Behaviour, model_id: str | None = None) -> None:
        """Sets the behaviour of a model, or of all without their own, including recomputes under way."""
        self._on_loop(lambda: self._platform.set_behaviour(behaviour, model_id))

    def set_api_keys(self, keys: Mapping[str, KeyInfo]) -> None:
        """Replaces all keys by these."""
        self._platform.api_keys = dict(keys)

    def set_active_model(self, job_id: int | str, model_id: str) -> None:
        """Makes the model the job's active one, as a training does. It may be new."""
        self._on_loop(lambda: self._platform.set_active_model(str(job_id), model_id))

    def remove_model(self, job_id: int | str, model_id: str) -> None:
        """Removes the model, so that it is answered with 404."""
        self._on_loop(lambda: self._platform.remove_model(str(job_id), model_id))

    def external_recompute(self, job_id: int | str, model_id: str) -> None:
        """Requests a recompute on behalf of somebody else."""
        self._on_loop(lambda: self._platform.request_recompute(str(job_id), model_id, by="somebody else"))

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        yield  # The end of the event loop cancels the remaining tasks and joins the threads.
        # uvicorn does not know connections during their TLS handshake, and leaves them open.
        for transport in list(getattr(self._loop, "_transports", {}).values()):
            transport.abort()
        await asyncio.sleep(0)

    def _on_loop(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _transport_of(self, peer: tuple[str, int]) -> asyncio.Transport | None:
        connections = cast(set[H11Protocol], self._uvicorn.server_state.connections)
        return next((c.transport for c in connections if c.client == tuple(peer)), None)
