"""The connection pool: aiohttp's session, with what it would decide by itself spelt out."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from gateway import __version__

HEADERS: Final = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": f"segmind-gateway/{__version__}",
}
"""What every request says, unless the tenant says otherwise; nothing compressed is asked for."""
CHUNK_BYTES: Final = 2**14
RENEWED: Final = 0.01
"""So many of the reads are their connection's last. One that is never idle would else go for hours to an address that
the vendor's name no longer has: it ends after about 100 reads, 5 minutes. The vendor is not asked to close it (RFC 9112
section 9.6): an answer that does not confirm that would leave a dying connection to the next submit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an exchange may take.

    Attributes:
        connections: Open to all hosts together, idle ones included.
        idle_s: A connection that sat idle for longer is not used again: on a stale one a submit becomes UNKNOWN.
        name_s: A name is looked up again for a new connection when its addresses are older.
        result_bytes: Largest result body; ``answer_bytes`` any other; ``stream_bytes`` a sync call's.
    """

    connections: int = 512
    idle_s: float = 3.0
    name_s: int = 10
    result_bytes: int = 8 * 2**20
    answer_bytes: int = 2**20
    stream_bytes: int = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long an exchange may take, in seconds.

    Attributes:
        connect_s: TCP and TLS, for each address.
        pool_s: Wait for a free connection, name look-up and connecting together.
        read_s: Silence of the vendor; ``sync_read_s`` in a sync call, which is silent while the model runs.
        total_s: The whole exchange; ``upload_total_s`` and ``sync_total_s`` of those kinds.
    """

    connect_s: float = 5.0
    pool_s: float = 10.0
    read_s: float = 30.0
    sync_read_s: float = 300.0
    total_s: float = 60.0
    upload_total_s: float = 180.0
    sync_total_s: float = 900.0


class _Request(aiohttp.ClientRequest):
    """A request that is told of its connection before a byte is written.

    Between that and the first byte there is one turn of the event loop.
    """

    connected: Callable[[Connection], None] | None = None

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request."""
        if self.connected is not None:
            self.connected(conn)
        return await super().send(conn)


def _telling(connected: Callable[[Connection], None]) -> aiohttp.ClientMiddlewareType:
    """Return what has a request tell of its connection; an exception keeps it from leaving."""

    async def put(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        cast("_Request", request).connected = connected
        return await handler(request)

    return put


def _use_last(connection: Connection) -> None:
    """Have a connection closed by us once its answer is read."""
    if connection.protocol is not None:
        connection.protocol.force_close()


class Transport:
    """Sends requests over a pool of connections. Follows no redirect, keeps no cookie, reads no environment.

    aiohttp sends a request again whose connection turned out to be dead, unless it is a POST.

    Args:
        limits: Of them, the pool's.
        verify: TLS context; the usual authorities where None.
        resolver: Looks names up; the system's where None.
        middlewares: Put around each request (tracing).
        draw: Returns a number from 0 to 1, evenly spread.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        verify: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        middlewares: Sequence[aiohttp.ClientMiddlewareType] = (),
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._context = verify or ssl.create_default_context(cafile=certifi.where())
        self._resolver = resolver
        self._middlewares = tuple(middlewares)
        self._draw = draw
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes],
        timeouts: Timeouts,
        read_s: float,
        leaving: Callable[[], None] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request; return as soon as the head of its answer is there.

        Args:
            method: GET or POST.
            url: Percent-encoded; goes out as it is.
            headers: Besides `HEADERS`, or in their place.
            body: Whole or, with a ``content-length`` among the headers, in parts.
            timeouts: Of them, those of connecting.
            read_s: Longest silence, in seconds.
            leaving: Called when the connection is there and no byte has left; what it raises ends the request.

        Raises:
            aiohttp.ClientError: As `gateway.upstream.failures` reads it.
        """
        if self._session is None:
            self._session = self._open()
        middlewares = self._middlewares
        if leaving is not None:
            middlewares = (*middlewares, _telling(lambda _: leaving()))
        elif method == "GET" and self._draw() < RENEWED:
            middlewares = (*middlewares, _telling(_use_last))
        return await self._session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body or None,
            allow_redirects=False,
            timeout=_patience(timeouts.connect_s, timeouts.pool_s, read_s),
            middlewares=middlewares,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """Open the session, in the running loop."""
        limits = self._limits
        connector = aiohttp.TCPConnector(
            limit=limits.connections,
            keepalive_timeout=limits.idle_s,
            ttl_dns_cache=limits.name_s,
            ssl=self._context,
            resolver=self._resolver,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=HEADERS,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_Request,
            trust_env=False,
        )


def encoded(origin: str) -> str:
    """Write an origin, which may have a path, as `Transport.send` takes it, with no slash at its end."""
    return str(URL(origin)).rstrip("/")


def headers_of(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return an answer's headers by their lower-case names; what comes twice is joined (RFC 9110 section 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def give_back(response: aiohttp.ClientResponse) -> None:
    """Give a connection back to the pool; it is cut where the answer was not read to its end."""
    with suppress(Exception):  # what was read stands, whatever closing makes of the connection
        response.release()
        await response.wait_for_close()


@lru_cache(maxsize=64)
def _patience(connect_s: float, pool_s: float, read_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(sock_connect=connect_s, connect=pool_s, sock_read=read_s)
