"""Name look-up that hands out only addresses to which a webhook may go.

The connection is made to the very addresses that were checked here: a name that says another thing when it is asked
again (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.core.addresses import Address, is_private_host, is_public

THREADS: Final = 16
"""Own threads: a name server that does not answer must not delay the look-ups of anything else."""

Found = tuple[socket.AddressFamily, int, int, str, Sequence[Any]]
LookUp = Callable[[str, int], Sequence[Found]]


class ForbiddenAddress(Exception):
    """Report that a host is at an address to which no webhook may go."""


def look_up(host: str, port: int) -> Sequence[Found]:
    """Ask the system for the addresses of a host."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class CheckedResolver(AbstractResolver):
    """Resolves names for aiohttp, and refuses a host if any of its addresses is not allowed.

    Args:
        allow_private: Private and loopback addresses are allowed; link-local ones never are.
        look_up: Asks for a host's addresses; blocks.
    """

    def __init__(self, *, allow_private: bool, look_up: LookUp = look_up) -> None:
        self._allow_private = allow_private
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a host.

        Raises:
            ForbiddenAddress: One of its addresses is not allowed.
            OSError: It has none.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._look_up, host, port)
        for *_, address in found:
            self.check(ip_address(address[0]))
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
            if family in {socket.AF_UNSPEC, kind}
        ]

    def check(self, address: Address) -> None:
        """Raise `ForbiddenAddress` for an address to which no webhook may go."""
        if not is_public(address) and not (self._allow_private and is_private_host(address)):
            raise ForbiddenAddress(f"{address} is not a public address")

    async def close(self) -> None:
        """Give up look-ups that have not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)
