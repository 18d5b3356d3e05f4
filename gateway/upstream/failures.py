"""What a failed exchange proves: the one place where exceptions of aiohttp are translated.

Its connector raises `aiohttp.ClientConnectorError` (name look-up, TCP, TLS) and `aiohttp.ConnectionTimeoutError` (the
same, and the wait for a pool slot) before a byte of the request is written, and nothing else raises them.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import aiohttp

from gateway.errors import UpstreamAmbiguous, UpstreamError, UpstreamUnsent

T = TypeVar("T")

_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


async def at_edge(work: Awaitable[T], *, status: int | None = None) -> T:
    """Await a step of an exchange and let only our own exceptions out.

    They are raised without a cause: what aiohttp raises holds the request, and with it the key.

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
    strerror = getattr(exc, "strerror", None)
    detail = f"{type(exc).__name__}: {strerror}" if isinstance(strerror, str) else type(exc).__name__
    if isinstance(exc, _UNSENT):
        return UpstreamUnsent(detail)
    return UpstreamAmbiguous(detail, status=status, timed_out=isinstance(exc, TimeoutError))
