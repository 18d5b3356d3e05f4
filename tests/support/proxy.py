"""A TCP proxy between a client and a server, whose faults are set while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from enum import Enum, auto

CHUNK_BYTES = 65536


class Fault(Enum):
    """What the proxy does with what it reads."""

    NONE = auto()
    DROP_REPLY = auto()  # once: a request arrives, its reply is swallowed and both connections are cut; then NONE
    STALL = auto()  # requests stay where they are, for ever
    CUT = auto()  # both connections are cut before the request goes on; new ones too


class Proxy:
    """Pass bytes both ways, subject to `fault`, and count what arrives.

    Attributes:
        fault: Takes effect on the next chunk, also on connections that are open.
        port: Where it listens on loopback.
        requests: Chunks passed on to the server, in order.
    """

    def __init__(self, host: str, port: int) -> None:
        self.fault = Fault.NONE
        self.port = 0
        self.requests: list[bytes] = []
        self._target = (host, port)

    def lead_to(self, host: str, port: int) -> None:
        """Connect whoever comes from now on to another server."""
        self._target = (host, port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection of a client."""
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            with closing(server_writer):
                await self._both_ways((reader, writer), (server_reader, server_writer))
        except OSError:
            pass  # the server is down: the client sees its connection end
        finally:
            writer.close()

    async def _both_ways(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Pump until either side ends, then end both."""
        pumps = {
            asyncio.create_task(self._requests(client[0], server[1])),
            asyncio.create_task(self._replies(server[0], client[1])),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.fault is Fault.CUT:
                return
            if self.fault is Fault.STALL:
                await asyncio.Event().wait()
            self.requests.append(chunk)
            writer.write(chunk)
            await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.fault is Fault.DROP_REPLY:
                self.fault = Fault.NONE
                return
            writer.write(chunk)
            await writer.drain()


@asynccontextmanager
async def tcp_proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a server on a free port of loopback, with all its connections, until the block ends."""
    proxy = Proxy(host, port)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
