"""An outbound proxy on 127.0.0.1, such as companies use. It opens tunnels (CONNECT) or refuses them."""

import select
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.support.serving import over_tls


@dataclass
class Tunnel:
    """Target (host:port), request head, and the bytes that the client sent through the tunnel."""

    to: str
    head: str
    sent: bytearray = field(default_factory=bytearray)


class ConnectProxy:
    """Serves until the `with` block ends. `refusal` is the status that it answers instead of a tunnel.

    All names lead to this machine. With `certificate`, files of one and of its key, it is an https proxy.
    """

    def __init__(self, refusal: int | None = None, certificate: tuple[Path, Path] | None = None) -> None:
        self.tunnels: list[Tunnel] = []
        self._refusal = refusal
        self._certificate = certificate

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.tunnels, self._server.refusal = self.tunnels, self._refusal
        scheme = "http"
        if self._certificate:
            over_tls(self._server, self._certificate)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    tunnels: list[Tunnel]
    refusal: int | None

    def handle_error(self, *_: object) -> None:
        """Ignores clients that do not trust the proxy. They report that themselves."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def do_CONNECT(self) -> None:
        tunnel = Tunnel(self.path, f"{self.requestline}\n{self.headers}")
        self.server.tunnels.append(tunnel)
        if self.server.refusal:
            self.send_response(self.server.refusal)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        port = int(self.path.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as target:
            self.send_response(200, "Connection established")
            self.end_headers()
            with suppress(OSError):
                _relay(self.connection, target, tunnel.sent)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


def _relay(client: socket.socket, target: socket.socket, sent: bytearray) -> None:
    """Copies both ways until the target closes. In one thread, because two must not use one TLS socket."""
    sources = [client, target]
    while True:
        pending = isinstance(client, ssl.SSLSocket) and client.pending()
        readable = [client] if pending else select.select(sources, [], [], 30)[0]
        if not readable:
            return
        for source in readable:
            data = source.recv(65536)
            if source is target:
                if not data:
                    return
                client.sendall(data)
            elif data:
                sent += data
                target.sendall(data)
            else:
                target.shutdown(socket.SHUT_WR)
                sources.remove(client)
