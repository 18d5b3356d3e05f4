"""A sync call's answer while it streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp

from gateway.errors import UpstreamAmbiguous
from gateway.upstream.call import Record
from gateway.upstream.failures import at_edge
from gateway.upstream.redaction import StreamRedaction
from gateway.upstream.transport import CHUNK_BYTES, give_back


class VendorStream:
    """The adapter of `gateway.core.ports.SyncStream`; its call's event is emitted when it ends.

    Attributes:
        status: HTTP status, 2xx.
        headers: Those that may come back.
        cost: Nanocredits, from ``x-cost``; None where missing or absurd.
        upstream_id: The vendor's id, from ``x-request-id``; None where missing.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        record: Record,
        *,
        headers: Mapping[str, str],
        redaction: StreamRedaction,
        max_bytes: int,
        deadline: float,
    ) -> None:
        self.status = response.status
        self.headers = headers
        self.cost = record.cost
        self.upstream_id = record.upstream_id or None
        self._response = response
        self._record = record
        self._redaction = redaction
        self._left_bytes = max_bytes
        self._deadline = deadline

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, our keys in it masked.

        Raises:
            UpstreamAmbiguous: It breaks off, is larger than allowed, or takes longer than a sync call may.
        """
        source = aiter(self._response.content.iter_chunked(CHUNK_BYTES))
        try:
            while chunk := await at_edge(self._next(source), status=self.status):
                if fit := self._redaction.feed(chunk):
                    yield fit
            if fit := self._redaction.rest():
                yield fit
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._record.end(exc)
            raise
        else:
            self._record.end()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Give the connection back; closed before its end, it is cut."""
        self._record.end(note="closed early")
        await give_back(self._response)

    async def _next(self, source: AsyncIterator[bytes]) -> bytes:
        async with asyncio.timeout_at(self._deadline):
            chunk = await anext(source, b"")
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise UpstreamAmbiguous("the answer is larger than allowed", status=self.status)
        return chunk
