"""The Lambda Runtime API of one execution environment, from which the runtime client gets work.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import queue
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Invocation(NamedTuple):
    """The answer to a request for the next invocation. `deadline` is in epoch seconds."""

    request_id: str
    event: bytes
    trace_id: str
    function_arn: str
    deadline: float


class Outcome(NamedTuple):
    """The result of an invocation. If it has `failed`, the payload is the error."""

    payload: bytes
    failed: bool


class RuntimeApi(ThreadingHTTPServer):
    """Hands out `invocations` (None ends it) and collects `reports`: None when initialised, then outcomes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.invocations: queue.Queue[Invocation | None] = queue.Queue()
        self.reports: queue.Queue[Outcome | None] = queue.Queue()
        self.initialised = False
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # serve_forever() would poll all the time, in each of the many environments.
        while self._open:
            self.handle_request()

    def close(self) -> None:
        self._open = False
        self.invocations.put(None)
        socket.create_connection(("127.0.0.1", self.server_port)).close()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A killed process resets its connection.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RuntimeApi

    def do_GET(self) -> None:
        if not self.server.initialised:
            self.server.initialised = True
            self.server.reports.put(None)
        invocation = self.server.invocations.get()
        if invocation is None:
            self.close_connection = True
            return
        self._reply(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
                "Lambda-Runtime-Trace-Id": invocation.trace_id,
            },
        )

    def do_POST(self) -> None:
        payload = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self._reply(202, b"", {})
        self.server.reports.put(Outcome(payload, failed=self.path.endswith("/error")))

    def log_message(self, *_: object) -> None:
        pass

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
