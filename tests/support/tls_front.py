"""A TLS server on 127.0.0.1 in front of one that speaks plain http. It keeps connections, as AWS does."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.serving import over_tls, serving

_OF_THE_CONNECTION = {"connection", "content-length", "transfer-encoding", "date", "server"}


@contextmanager
def tls_front(url: str, certificate: tuple[Path, Path]) -> Iterator[str]:
    """The https URL of a server that forwards GET and POST requests to `url`, on loopback.

    `certificate`: PEM files of the server's certificate for 127.0.0.1, and of its key.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.behind = urlsplit(url).netloc
    over_tls(server, certificate)
    with serving(server):
        yield f"https://127.0.0.1:{server.server_port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    behind: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behind = HTTPConnection(self.server.behind, timeout=30)
        try:
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            content = answer.read()
        finally:
            behind.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_THE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""
