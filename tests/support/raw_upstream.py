"""An upstream of bare sockets, for answers that no HTTP server would give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: its line, its headers by lower-case name, its body."""

    line: str
    headers: dict[str, str]
    body: bytes


Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class RawUpstream:
    """What came, and what is answered.

    Attributes:
        reply: Answers each request; the connection then waits for the next one, unless the reply closed it.
        connections: Accepted so far.
    """

    reply: Reply
    url: str = ""
    connections: int = 0
    requests: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                self.requests.append(await _request(reader))
                self.arrived.set()
                await self.reply(writer)
                await writer.drain()
        writer.close()

    async def stop(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)


async def _request(reader: asyncio.StreamReader) -> Received:
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (header.partition(":") for header in rest)}
    return Received(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@asynccontextmanager
async def raw_upstream(reply: Reply) -> AsyncIterator[RawUpstream]:
    """Listen on a free loopback port until the block ends."""
    upstream = RawUpstream(reply)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        await upstream.stop()


def sends(data: bytes, *, close: bool = False) -> Reply:
    """Answer with these bytes, then leave the connection open or close it."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return reply


def answers(
    status: int, body: bytes | Mapping[str, object], *headers: str, content_type: str = "application/json"
) -> Reply:
    """Answer as HTTP servers do."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Because", f"Content-Type: {content_type}", f"Content-Length: {len(payload)}", *headers]
    return sends("\r\n".join([*head, "", ""]).encode() + payload)


async def hangs(_: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def drops(writer: asyncio.StreamWriter) -> None:
    """Close the connection without an answer."""
    writer.close()


async def resets(writer: asyncio.StreamWriter) -> None:
    """Reset the connection without an answer."""
    writer.transport.abort()


async def floods(writer: asyncio.StreamWriter) -> None:
    """Answer with a body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        await writer.drain()
