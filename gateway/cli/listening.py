"""The sockets on which requests come."""

from __future__ import annotations

import socket
from typing import Final

from gateway.errors import ConfigError

BACKLOG: Final = 2048


def listen(host: str, port: int, variable: str) -> tuple[socket.socket, str]:
    """Listen, and say by which URL; ``variable`` names the port. Raises `ConfigError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise ConfigError(f"{variable}: can't listen on {host} port {port}: {exc.strerror}") from exc
    return listener, url_of(listener)


def url_of(listener: socket.socket) -> str:
    """Return the URL of what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
