"""A TCP balancer that does as those of a cluster do: by readiness, and on to the next where a connect fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from itertools import count
from typing import Protocol
from urllib.parse import urlsplit

import httpx

CHECK_S = 0.05
CHUNK_BYTES = 65536


class Member(Protocol):
    """A process, by where it listens."""

    @property
    def url(self) -> str:
        """Where requests go."""

    @property
    def ops_url(self) -> str:
        """Where to ask whether it is ready."""


class Balancer:
    """Passes each connection on to one of the members that were ready when last asked.

    Attributes:
        port: Where it listens on loopback.
    """

    def __init__(self, members: Callable[[], Sequence[Member]]) -> None:
        self.port = 0
        self._members = members
        self._ready: Sequence[Member] = ()
        self._turns = count()

    async def watch(self) -> None:
        """Ask every member again and again."""
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                self._ready = [member for member in self._members() if await _is_ready(http, member)]
                await asyncio.sleep(CHECK_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection of a client."""
        turn = next(self._turns)
        try:
            for offset in range(len(self._ready)):
                url = urlsplit(self._ready[(turn + offset) % len(self._ready)].url)
                with suppress(ConnectionError):
                    far_reader, far_writer = await asyncio.open_connection(url.hostname, url.port)
                    with closing(far_writer):
                        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
                    return
        finally:
            writer.close()


async def _is_ready(http: httpx.AsyncClient, member: Member) -> bool:
    try:
        return (await http.get(f"{member.ops_url}/readyz")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends; then end the other."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def balancer(members: Callable[[], Sequence[Member]]) -> AsyncIterator[Balancer]:
    """Run a balancer on a free port of loopback, with all its connections, until the block ends."""
    made = Balancer(members)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    watch = asyncio.create_task(made.watch())
    try:
        yield made
    finally:
        server.close()
        for task in (watch, *connections):
            task.cancel()
        await asyncio.gather(watch, *connections, return_exceptions=True)
