"""Records every API request, and applies faults to answers and connections."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers, QueryParams
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.arcanna.access import API_KEY_HEADER, valid_key
from tests.support.arcanna.faults import Endpoint, Fault, FaultPlan
from tests.support.arcanna.oddities import odd
from tests.support.arcanna.platform import Platform

TransportOf = Callable[[tuple[str, int]], asyncio.Transport | None]
ENDPOINTS: Mapping[str, Endpoint] = {
    "/api/v2/metrics/model/request_recompute_metrics": "recompute",
    "/api/v2/metrics/model": "metrics",
    "/api/v2/metrics/job": "job",
    "/api/v2/metrics/job_and_latest_model": "job_and_latest_model",
    "/api/v2/resources": "resources",
    "/api/v2/token/scopes": "scopes",
    "/api/v2/health/": "health",
}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class ReceivedRequest:
    """A request as it arrived. `at` is in epoch seconds.

    `status` is the answer's. It is None before the answer, and stays None if the connection was dropped.
    Requests with the same `peer_port` came through the same connection.
    """

    at: float
    endpoint: Endpoint
    method: str
    path: str
    query: Mapping[str, str]
    key_is_valid: bool
    peer_port: int
    status: int | None = None
    fault: Fault | None = None

    @property
    def model_id(self) -> str | None:
        return self.query.get("model_id")


class FrontDoor:
    """ASGI application in front of `app`."""

    def __init__(self, app: ASGIApp, prefix: str, platform: Platform, transport_of: TransportOf) -> None:
        self.requests: list[ReceivedRequest] = []
        self.faults = FaultPlan()
        self._app = app
        self._endpoints = {prefix + path: endpoint for path, endpoint in ENDPOINTS.items()}
        self._platform = platform
        self._transport_of = transport_of
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Ends all delays by faults at once."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope.get("path", ""))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = self._record(endpoint, scope)

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            await send(message)

        request.fault = self.faults.take(endpoint, request.model_id)
        if request.fault is not None:
            await self._strike(request, request.fault, scope, receive, send_recorded)
        elif self._platform.is_odd(request.model_id):
            answer = await self._real_answer(request, scope, receive)
            await answer(scope, receive, send_recorded)
        else:
            await self._app(scope, receive, send_recorded)

    def _record(self, endpoint: Endpoint, scope: Scope) -> ReceivedRequest:
        key = Headers(scope=scope).get(API_KEY_HEADER)
        request = ReceivedRequest(
            at=time.time(),
            endpoint=endpoint,
            method=scope["method"],
            path=scope["path"],
            query=dict(QueryParams(scope["query_string"])),
            key_is_valid=valid_key(self._platform.api_keys, key) is not None,
            peer_port=scope["client"][1],
        )
        self.requests.append(request)
        return request

    async def _strike(
        self, request: ReceivedRequest, fault: Fault, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = await self._real_answer(request, scope, receive) if fault.after_effect else None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), fault.slow)
        if fault.drop in ("reset", "close"):
            await self._cut(scope, receive, reset=fault.drop == "reset")
            return
        if fault.replaces_answer:
            answer = _replacement(fault)
        elif answer is None:
            answer = await self._real_answer(request, scope, receive)
        if fault.fields or fault.without:
            answer = _edited(answer, fault)
        if fault.drop != "truncate":
            await answer(scope, receive, send)
            return

        async def send_half(message: Message) -> None:
            if message["type"] == "http.response.body":
                half = message["body"][: len(message["body"]) // 2]
                message = {**message, "body": half, "more_body": True}
            await send(message)

        await answer(scope, receive, send_half)
        await self._cut(scope, receive, reset=False)

    async def _real_answer(self, request: ReceivedRequest, scope: Scope, receive: Receive) -> Response:
        answer = Response()
        answer.body = b""

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status_code = message["status"]
                answer.raw_headers = list(message["headers"])
            else:
                answer.body += message.get("body", b"")

        await self._app(scope, receive, collect)
        return odd(answer, request.endpoint) if self._platform.is_odd(request.model_id) else answer

    async def _cut(self, scope: Scope, receive: Receive, *, reset: bool) -> None:
        transport = self._transport_of(scope["client"])
        if transport is None:  # the client has closed the connection first
            return
        if reset:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


def _replacement(fault: Fault) -> Response:
    status = HTTPStatus(fault.status or 200)
    if isinstance(fault.body, str):
        return HTMLResponse(fault.body, status, fault.headers)
    body = fault.body
    if body is None:
        body = {"error": status.phrase, "details": status.description}
    return JSONResponse(body, status, fault.headers)


def _edited(answer: Response, fault: Fault) -> Response:
    fields = {**json.loads(bytes(answer.body)), **fault.fields}
    kept = {name: value for name, value in fields.items() if name not in fault.without}
    return Response(json.dumps(kept), answer.status_code, media_type="application/json")
