"""The app on a real server, for what only sockets can show."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from web.fakes import Services, build

from gateway.web.protocol import StrictProtocol


class Impatient(StrictProtocol):
    """The server's own protocol, with a short wait for a request's head."""

    head_deadline_s = 0.2


@asynccontextmanager
async def served(services: Services, **options: Any) -> AsyncIterator[int]:  # noqa: ANN401
    """Serve the app on uvicorn with httptools; the port is listening already.

    Args:
        services: What it is over.
        options: Fields of `TenantApi`.
    """
    config = uvicorn.Config(
        build(services, **options),
        http=Impatient,
        ws="none",
        log_config=None,
        log_level="critical",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving
