"""What the pool may not do: send a POST twice, use a stale connection, or lose a place to a cancelled call."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from support.raw_upstream import RawUpstream, answers, drops, hangs, raw_upstream
from support.upstream_client import CONTEXT, MODEL, Bench

from gateway.errors import UpstreamAmbiguous, UpstreamHeldBack
from gateway.upstream.transport import RENEWED, Limits, Timeouts

ACCEPTS = answers(200, {"request_id": "v-1", "status": "QUEUED"})


def pool(made: Bench) -> Any:  # noqa: ANN401 aiohttp's own
    """Return the connector, to look at what it holds."""
    session = made.client._transport._session
    assert session is not None
    return session.connector


@pytest.mark.parametrize("write", [True, False], ids=["POST", "GET"])
async def test_on_a_stale_connection_a_post_is_seen_once(made: Bench, vendor: RawUpstream, write: bool) -> None:
    """A server that closes a kept connection as the next request comes: aiohttp re-sends a GET, never a POST."""
    await made.client.submit(MODEL, b"first", {}, CONTEXT)
    vendor.reply = drops
    vendor.requests.clear()
    with pytest.raises(UpstreamAmbiguous):
        await (made.client.submit(MODEL, b"second", {}, CONTEXT) if write else made.client.status("v-1", CONTEXT))
    assert len(vendor.requests) == (1 if write else 2)
    assert vendor.connections == (1 if write else 2)


@pytest.mark.parametrize(("idle_s", "connections"), [(60.0, 1), (1e-9, 3)])
async def test_a_connection_that_sat_idle_is_not_used_again(
    opened: Callable[..., Bench], vendor: RawUpstream, idle_s: float, connections: int
) -> None:
    """Idle for longer than the limit, which is a few seconds by default, a connection is replaced."""
    made = opened(vendor.url, limits=Limits(idle_s=idle_s))
    for _ in range(3):
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert vendor.connections == connections
    assert Limits().idle_s <= 4


@dataclass(slots=True)
class Moving(AbstractResolver):
    """A resolver that knows one address, which may change."""

    port: int

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Answer by where the vendor is now."""
        assert port != self.port
        return [ResolveResult(hostname=host, host="127.0.0.1", port=self.port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Hold nothing."""


async def test_a_vendor_that_moved_is_found(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """One read in a hundred is its connection's last, no POST; we close it, and the next goes where the name points."""
    resolver, drawn = Moving(port_of(vendor)), iter([RENEWED, 1.0, RENEWED / 2, 1.0])
    made = opened("http://api.segmind.test", limits=Limits(name_s=0), resolver=resolver, draw=lambda: next(drawn))
    await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    async with raw_upstream(vendor.reply) as moved:
        resolver.port = port_of(moved)
        await made.client.status("v-1", CONTEXT)
        await made.client.status("v-1", CONTEXT)
        await made.client.status("v-1", CONTEXT)
        # A vendor that is asked to close need not say that it will: the next submit would go out on a dying connection.
        assert [request.headers["connection"] for request in vendor.requests] == ["keep-alive"] * 4
        assert vendor.connections == 1
        assert moved.requests == []
        await made.client.status("v-1", CONTEXT)
        assert (len(vendor.requests), len(moved.requests)) == (4, 1)


def port_of(upstream: RawUpstream) -> int:
    """Return where a server listens."""
    return int(upstream.url.rpartition(":")[2])


async def test_cancelled_calls_leave_the_pool_whole(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """After 1,200 calls cancelled at every stage, on 10 places, none is taken and every call goes through."""
    made = opened(vendor.url, limits=Limits(connections=10), timeouts=Timeouts(pool_s=30))
    turns = itertools.count()

    async def stalls(writer: asyncio.StreamWriter) -> None:
        turn = next(turns) % 3
        if turn == 0:
            await hangs(writer)
        elif turn == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
            await writer.drain()
            await hangs(writer)
        else:
            await ACCEPTS(writer)

    async def one(number: int) -> None:
        if number % 3:
            await made.client.submit(MODEL, b"{}", {}, CONTEXT)
        else:
            stream = await made.client.sync(MODEL, b"{}", {}, CONTEXT)
            try:
                assert [chunk async for chunk in stream.chunks()]
            finally:
                await stream.aclose()

    vendor.reply = stalls
    for start in range(0, 1200, 40):
        tasks = [asyncio.create_task(one(start + offset)) for offset in range(40)]
        for task in tasks:
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended)
    assert len(pool(made)._acquired) == 0
    assert {call.outcome for call in made.calls} == {"ok", "ambiguous"}
    assert {call.upstream_status for call in made.calls if call.error == "cancelled"} == {None, 200}
    vendor.reply = ACCEPTS
    assert await asyncio.gather(*(made.client.submit(MODEL, b"{}", {}, CONTEXT) for _ in range(50))) == ["v-1"] * 50
    assert len(pool(made)._acquired) == 0


async def test_a_cancelled_call_emits_its_event(made: Bench, vendor: RawUpstream) -> None:
    """The one who left does not take the record with him: it may have been accepted."""
    vendor.reply = hangs
    task = asyncio.create_task(made.client.submit(MODEL, b"{}", {}, CONTEXT))
    await vendor.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(call.outcome, call.error) for call in made.calls] == [("ambiguous", "cancelled")]
    assert len(pool(made)._acquired) == 0


async def test_a_post_asks_at_the_last_moment(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """Whether it may leave is asked once it has its connection, and not before; a read never asks."""
    made = opened(vendor.url, limits=Limits(connections=1))
    connections: list[int] = []
    free = asyncio.Event()

    def leaving() -> None:
        connections.append(vendor.connections)
        if not free.is_set():
            raise UpstreamHeldBack("overloaded", "too late", retry_after_s=1)

    context = replace(CONTEXT, leaving=leaving)

    async def holds(writer: asyncio.StreamWriter) -> None:
        await free.wait()
        await ACCEPTS(writer)

    vendor.reply = holds
    first = asyncio.create_task(made.client.submit(MODEL, b"{}", {}, CONTEXT))
    await vendor.arrived.wait()
    second = asyncio.create_task(made.client.submit(MODEL, b"{}", {}, context))
    await asyncio.sleep(0)
    assert (connections, second.done()) == ([], False), "it waits for a connection"
    free.set()
    assert [await first, await second] == ["v-1", "v-1"]
    assert connections == [1]

    free.clear()
    with pytest.raises(UpstreamHeldBack):
        await made.client.submit(MODEL, b"{}", {}, context)
    vendor.reply = answers(200, {"request_id": "v-1", "status": "QUEUED"})
    await made.client.status("v-1", context)
    assert (len(vendor.requests), made.pauses, made.client.wait_s("inference")) == (3, [], 0)
    assert connections == [1, 1]
