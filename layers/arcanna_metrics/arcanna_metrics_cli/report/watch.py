"""Serves the report on loopback, and keeps it up to date while it is open."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTP_PORT
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics_cli.exits import Trouble

LOOPBACK = "127.0.0.1"

TROUBLE = (Trouble, AwsUnavailable, BotoCoreError, ClientError)
"""Errors that may be temporary: the page shows them and asks again."""

SILENCE = 30
"""Seconds after which an idle connection is closed."""


class Watch(ThreadingHTTPServer):
    """Serves one page at `url` between `start` and `stop`, on this machine only.

    `make` makes the page. It is called only for requests, and at most once in `refresh` seconds. `port` 0 is
    a free port. Raises OSError if the port is taken.
    """

    daemon_threads = True

    def __init__(self, make: Callable[[], str], refresh: float, port: int = 0) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self._make = make
        self._refresh = refresh
        self._lock = threading.Lock()
        self._page = b""
        self._made_at = float("-inf")
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="watch", daemon=True)
        self.url = f"http://{LOOPBACK}:{self.server_port}/"
        # Against DNS rebinding: with a host name of their own, other sites could read this page.
        self.hosts = {f"{host}:{self.server_port}" for host in (LOOPBACK, "localhost")}
        if self.server_port == HTTP_PORT:  # browsers leave it out
            self.hosts |= {LOOPBACK, "localhost"}

    def start(self) -> None:
        """Serves from a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends what `start` began."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def page(self) -> bytes:
        """The page, at most `refresh` seconds old. Raises TROUBLE."""
        with self._lock:
            if time.monotonic() - self._made_at >= self._refresh:
                self._page = self._make().encode()
                self._made_at = time.monotonic()
            return self._page

    def handle_error(self, *_: Any) -> None:
        """Says nothing: browsers close connections at any time."""


class _Handler(BaseHTTPRequestHandler):
    server: Watch
    server_version = "arcanna-metrics"
    sys_version = ""
    timeout = SILENCE

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, f"Open {self.server.url}")
        elif self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, f"Only {self.server.url} is here")
        else:
            self._answer_page()

    def _answer_page(self) -> None:
        try:
            page = self.server.page()
        except TROUBLE as error:
            self._answer(HTTPStatus.BAD_GATEWAY, str(error))
            return
        self._answer(HTTPStatus.OK, page, "text/html")

    def _answer(self, status: HTTPStatus, body: bytes | str, kind: str = "text/plain") -> None:
        sent = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(sent)))
        # A policy in the page cannot forbid framing. Other answers than the page may load nothing.
        policy = "frame-ancestors 'none'" + ("" if kind == "text/html" else "; default-src 'none'")
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        """Says nothing about requests."""
