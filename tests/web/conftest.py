"""The app over fakes, through httpx, and on a real server for what only raw sockets can show."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from web.fakes import Services, build, client_of

from gateway.web.protocol import StrictProtocol


@pytest.fixture
def services() -> Services:
    """Make services that admit everything."""
    return Services()


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to the app without a socket."""
    async with client_of(build(services)) as client:
        yield client


class Impatient(StrictProtocol):
    """The server's own protocol, with a short wait for a request's head."""

    head_deadline_s = 0.2


@pytest.fixture
async def port(services: Services) -> AsyncIterator[int]:
    """Serve the app on uvicorn with httptools, with small limits; the port is listening already."""
    app = build(services, max_body_bytes=1000, body_deadline_s=0.2, linger_s=5)
    config = uvicorn.Config(
        app,
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
