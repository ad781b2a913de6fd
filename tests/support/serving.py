"""Servers for tests. Each runs in its own thread."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import TCPServer
from threading import Thread
from typing import TypeVar

S = TypeVar("S", bound=TCPServer)


@contextmanager
def serving(server: S) -> Iterator[S]:
    """Runs the server until the block ends, then closes it."""
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def over_tls(server: TCPServer, certificate: tuple[Path, Path]) -> None:
    """Makes the server speak TLS. `certificate`: PEM files of its certificate and of the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


def url_of(server: TCPServer) -> str:
    """The server's URL on loopback, without a path."""
    return f"http://127.0.0.1:{server.server_address[1]}"
