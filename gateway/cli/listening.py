"""The sockets on which requests come."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from gateway.errors import ConfigError

BACKLOG: Final = 2048


def listen(host: str, port: int, variable: str, *, accepts: bool = True) -> tuple[socket.socket, str]:
    """Listen, and say by which URL; ``variable`` names the port. Raises `ConfigError`.

    Where nobody ``accepts``, the port is taken all the same, and who connects is refused instead of left waiting.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise ConfigError(f"{variable}: can't listen on {host} port {port}: {exc.strerror}") from exc
    url = url_of(listener)
    if not accepts:
        with contextlib.suppress(OSError):  # not everywhere may a listening socket be shut down; on Linux it may
            listener.shutdown(socket.SHUT_RDWR)
    return listener, url


def url_of(listener: socket.socket) -> str:
    """Return the URL of what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
