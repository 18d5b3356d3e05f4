"""The sockets on which requests come."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.config import Settings
from gateway.errors import ConfigError
from gateway.telemetry.ops import OpsServer, Shows, Tells, start
from gateway.telemetry.pulse import LOOKS, Pulse, beating

BACKLOG: Final = 2048


def accepts(settings: Settings) -> bool:
    """Tell whether a process with these settings has a tenant API."""
    return settings.role != "tracker"


def listen(settings: Settings) -> tuple[socket.socket, str]:
    """Listen for tenants, and say by which URL. Raises `ConfigError`.

    Where nobody `accepts`, the port is taken all the same, and who connects is refused instead of left waiting.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise ConfigError(f"GATEWAY_PORT: can't listen on {host} port {port}: {exc.strerror}") from exc
    url = url_of(listener)
    if not accepts(settings):
        with contextlib.suppress(OSError):  # not everywhere may a listening socket be shut down; on Linux it may
            listener.shutdown(socket.SHUT_RDWR)
    return listener, url


@asynccontextmanager
async def ops_port(
    host: str, port: int, metrics: Shows, readiness: Tells, looks: int = LOOKS
) -> AsyncIterator[OpsServer]:
    """Serve the ops port while the block runs; it tells should this event loop hang (`Pulse`). Raises `ConfigError`."""
    pulse = Pulse(looks)
    try:
        ops = start(host, port, metrics=metrics, readiness=readiness, pulse=pulse)
    except OSError as exc:
        raise ConfigError(f"GATEWAY_OPS_PORT: can't listen on port {port}: {exc.strerror}") from exc
    with contextlib.closing(ops):
        async with beating(pulse.beat):
            yield ops


def url_of(listener: socket.socket) -> str:
    """Return the URL of what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
