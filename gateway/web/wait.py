"""``Prefer: wait=N`` (RFC 7240 section 4.3): an answer that is held back until the job has ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from gateway.core.job import JobView
from gateway.web.api import TenantApi
from gateway.web.body import CallerGone
from gateway.web.exchange import Exchange, HeaderList
from gateway.web.streaming import left

T = TypeVar("T")
MAX_WAIT_S: Final = 300
_MAX_PREFER_BYTES: Final = 1024
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')


def preferred_wait_s(prefer: bytes) -> int | None:
    """Read a ``Prefer`` header: whole seconds, `MAX_WAIT_S` at most; None where it asks for no wait.

    What is malformed is as if it were not there, and of a preference given twice the first one counts (section 2).
    """
    words = _QUOTED.sub(b"", prefer) if len(prefer) <= _MAX_PREFER_BYTES else b'"'
    if b'"' in words:
        return None
    for preference in words.split(b","):
        name, _, value = preference.partition(b";")[0].partition(b"=")
        if name.strip().lower() == b"wait":
            seconds = value.strip()
            return min(int(seconds), MAX_WAIT_S) or None if seconds.isdigit() else None
    return None


async def hold(api: TenantApi, exchange: Exchange, job: JobView, headers: HeaderList) -> JobView:
    """Wait for the job's end for as long as the caller prefers, and add to the headers that this was done.

    Not done where too many wait already, nor while the process drains.

    Raises:
        CallerGone: The caller left.
    """
    seconds = preferred_wait_s(exchange.headers[b"prefer"])
    if seconds is None:
        return job
    if not job.state.terminal:
        if api.waiting.full:
            return job
        job = await _while_there(exchange, api.waiting.until_ended(job, seconds))
    headers.append((b"preference-applied", b"wait=%d" % seconds))
    return job


async def _while_there(exchange: Exchange, work: Coroutine[Any, Any, T]) -> T:
    """Do work for as long as the caller is there to be answered; a server tells by ``receive`` alone."""
    gone = asyncio.get_running_loop().create_task(left(exchange.receive))
    try:
        async with asyncio.timeout(None) as scope:
            gone.add_done_callback(lambda task: None if task.cancelled() else _end(scope))
            try:
                return await work
            finally:
                gone.cancel()
    except TimeoutError:
        raise CallerGone from None


def _end(scope: asyncio.Timeout) -> None:
    with suppress(RuntimeError):  # the work was done in the same turn of the loop
        scope.reschedule(asyncio.get_running_loop().time())
