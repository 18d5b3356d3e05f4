"""Two gateways behind a balancer, on one Valkey behind a proxy: each can fail while the rest goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from support.balancer import balancer
from support.ledger import open_store
from support.proxy import Fault, Proxy, tcp_proxy
from support.valkey import HOST, free_port, valkey_server

from bench.processes import Server, server
from bench.rounds import OK
from bench.scene import Shared, environment, ready, submits_of, tell
from bench.standin import VendorFault
from bench.tenants import declare
from gateway.cli.closed_loop import Plan, run

GATEWAYS: Final = 2
VENDOR_TIMEOUT_S: Final = 3
WELL_COUNT: Final = 40
WELL_TIMEOUT_S: Final = 120.0
CALM_S: Final = 0.2
RESULT = TypeVar("RESULT")


class Restartable(Generic[RESULT]):
    """A server that can be ended and started again while others run.

    Attributes:
        running: What it is known by; None while it does not run.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[RESULT]]) -> None:
        self.running: RESULT | None = None
        self._opened = opened
        self._stack = ExitStack()

    async def start(self) -> RESULT:
        """Start it, in a thread: the load goes on meanwhile."""
        self.running = await asyncio.to_thread(self._stack.enter_context, self._opened())
        return self.running

    async def stop(self) -> None:
        """End it as it would be ended in order."""
        self.running = None
        await asyncio.to_thread(self._stack.close)


@dataclass(frozen=True, slots=True)
class Pair:
    """What may fail, and where submits go.

    Attributes:
        port: Of the balancer, on loopback.
        submits: One of each tenant, as it goes over the wire.
    """

    port: int
    submits: Sequence[bytes]
    standin: Server
    proxy: Proxy
    valkey: Restartable[str]
    gateways: Sequence[Restartable[Server]]

    async def kill(self, number: int) -> None:
        """Kill a gateway, and start another in its place."""
        gateway = self.gateways[number % GATEWAYS]
        if gateway.running is not None:
            os.kill(gateway.running.pid, signal.SIGKILL)
        await gateway.stop()
        await ready(await gateway.start())

    async def vendor(self, fault: VendorFault, every: int = 1) -> None:
        """Have one call in so many meet something at the vendor."""
        await asyncio.to_thread(tell, self.standin, fault=fault, every=every)

    async def recover(self) -> None:
        """End every fault, and wait until submits are answered as they should be."""
        self.proxy.fault = Fault.NONE
        self.proxy.requests.clear()  # it keeps all that it passed on
        await self.vendor(VendorFault.NONE)
        if self.valkey.running is None:
            await self.valkey.start()
        for gateway in (one for one in self.gateways if one.running is None):
            await ready(await gateway.start())
        async with asyncio.timeout(WELL_TIMEOUT_S):
            while not await self._is_well():  # noqa: ASYNC110  another process has no event to wait for
                await asyncio.sleep(CALM_S)

    async def _is_well(self) -> bool:
        plan = Plan(host=HOST, port=self.port, requests=self.submits, connections=8, count=WELL_COUNT, timeout_s=5)
        report = await run(plan)
        return not report.failed and set(report.statuses) == {OK}


@asynccontextmanager
async def pair(shared: Shared, *, tenants: int) -> AsyncIterator[Pair]:
    """Run two gateways with tenants that no limit stops.

    Args:
        shared: The other servers.
        tenants: How many.
    """
    directory, port = shared.directory / "pair", free_port()
    async with AsyncExitStack() as stack:
        valkey = Restartable(lambda: valkey_server(directory / "valkey", port=port))
        stack.push_async_callback(valkey.stop)
        redis_url = await valkey.start()
        async with open_store(redis_url) as store:
            callers = await declare(store, redis_url, directory, tenants, "none")
        proxy = await stack.enter_async_context(tcp_proxy(HOST, port))
        env = environment(f"redis://{HOST}:{proxy.port}/0", shared.standin.url, "all")
        env["GATEWAY_UPSTREAM_READ_TIMEOUT_SECONDS"] = str(VENDOR_TIMEOUT_S)
        gateways = [_gateway(directory / f"gateway-{number}.log", env) for number in range(GATEWAYS)]
        for gateway in gateways:
            stack.push_async_callback(gateway.stop)
            await ready(await gateway.start())
        front = await stack.enter_async_context(balancer(lambda: [one.running for one in gateways if one.running]))
        yield Pair(front.port, submits_of(callers), shared.standin, proxy, valkey, gateways)


def _gateway(log: Path, env: dict[str, str]) -> Restartable[Server]:
    """Describe a gateway; each start of it has a log of its own, since the first line says where it listens."""
    starts = iter(range(10**6))
    return Restartable(lambda: server("gateway", "gateway", "serve", log=log.with_suffix(f".{next(starts)}"), env=env))
