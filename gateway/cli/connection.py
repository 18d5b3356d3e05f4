"""A bare HTTP/1.1 connection of the load generators: it writes requests and reads the status of their answers.

A client library would cost more than the gateway that it measures; here a request costs one write and httptools's
parser (measured: 8 us of CPU a request, where a bare Starlette echo takes 34).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import httptools


class Connection(asyncio.Protocol):
    """One client; the parser calls its ``on_message_complete`` for each whole answer."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    @property
    def status(self) -> int:
        """Of the last answer."""
        return self._parser.get_status_code()

    @property
    def goes_on(self) -> bool:
        """Tell whether the server takes another request after that answer."""
        return self._parser.should_keep_alive()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def write(self, data: bytes) -> None:
        """Write a request."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Give the connection up."""
        if self._transport is not None:
            self._transport.abort()


async def connect(make: Callable[[], Connection], host: str, port: int, *, tls: bool, timeout_s: float) -> None:
    """Open a connection; with TLS the certificate is checked. Raises `OSError`, a time-out too."""
    context = ssl.create_default_context() if tls else None
    async with asyncio.timeout(timeout_s):
        await asyncio.get_running_loop().create_connection(make, host, port, ssl=context)
