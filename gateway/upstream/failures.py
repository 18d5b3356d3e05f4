"""What a failed exchange proves: the one place where exceptions of the HTTP stack are translated.

``httpx-aiohttp`` 0.2 maps a server that took the whole request and dropped the connection to the same class as a
refused connection, so the httpx class says nothing. The exception of aiohttp beneath it does: its connector raises
`aiohttp.ClientConnectorError` (name look-up, TCP, TLS) and `aiohttp.ConnectionTimeoutError` (the same, and the wait for
a pool slot) before a byte of the request is written, and nothing else raises them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TypeVar

import aiohttp

from gateway.errors import UpstreamAmbiguous, UpstreamError, UpstreamUnsent

T = TypeVar("T")

_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_MAX_CHAIN = 8


async def at_edge(work: Awaitable[T], *, status: int | None = None) -> T:
    """Await a step of an exchange and let only our own exceptions out.

    They are raised without a cause: what aiohttp and httpx raise holds the request, and with it the key.

    Args:
        work: The step.
        status: HTTP status of the answer, once its head has come.

    Raises:
        UpstreamUnsent: Provably nothing left this process.
        UpstreamAmbiguous: Anything else.
        UpstreamError: As raised within the step.
    """
    try:
        return await work
    except UpstreamError:
        raise
    except Exception as exc:  # noqa: BLE001 whatever it is, after the first byte it means that the outcome is unknown
        failure = translate(exc, status=status)
    raise failure


def translate(exc: Exception, *, status: int | None = None) -> UpstreamUnsent | UpstreamAmbiguous:
    """Tell what an exception of the HTTP stack proves; the text holds nothing that came over the wire."""
    origin = next((link for link in _chain(exc) if isinstance(link, aiohttp.ClientError)), exc)
    strerror = getattr(origin, "strerror", None)
    detail = f"{type(origin).__name__}: {strerror}" if isinstance(strerror, str) else type(origin).__name__
    if isinstance(origin, _UNSENT):
        return UpstreamUnsent(detail)
    return UpstreamAmbiguous(detail, status=status, timed_out=isinstance(origin, TimeoutError))


def _chain(exc: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = exc
    for _ in range(_MAX_CHAIN):
        if link is None:
            return
        yield link
        link = link.__cause__
