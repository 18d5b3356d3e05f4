"""The connection pool: httpx's interface on aiohttp's pool, with what they would decide by themselves spelt out."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from httpx_aiohttp import AiohttpTransport

from gateway import __version__

HEADERS: Final = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": f"segmind-gateway/{__version__}",
}
"""What every request says, unless the tenant says otherwise; nothing compressed is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an exchange may take.

    Attributes:
        connections: Open to all hosts together, idle ones included.
        idle_s: A connection that sat idle for longer is not used again: on a stale one a submit becomes UNKNOWN.
        result_bytes: Largest result body; ``answer_bytes`` any other; ``stream_bytes`` a sync call's.
    """

    connections: int = 512
    idle_s: float = 3.0
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


def open_transport(
    *, limits: Limits, verify: ssl.SSLContext | bool = True, resolver: AbstractResolver | None = None
) -> httpx.AsyncBaseTransport:
    """Make the transport; its session opens at the first request, in the running loop.

    Args:
        limits: Of them, the pool's.
        verify: TLS context, or whether to verify against the usual authorities.
        resolver: Looks names up; the system's where None.
    """
    context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify=verify, trust_env=False)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=limits.connections, keepalive_timeout=limits.idle_s, ssl=context, resolver=resolver
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    return AiohttpTransport(verify=context, trust_env=False, client=session)
