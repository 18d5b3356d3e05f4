"""Builds the client of Segmind that the settings describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import aiohttp

from gateway.config import Settings
from gateway.core.events import Alert
from gateway.core.faultpoints import NO_FAULTS, FaultPoints
from gateway.core.ports import Sink
from gateway.errors import ConfigError
from gateway.upstream.auth import DEFAULT, KeyRing, parse_keys
from gateway.upstream.client import SegmindUpstream, forget
from gateway.upstream.transport import Limits, Timeouts, Transport


def open_upstream(
    settings: Settings,
    sink: Sink,
    faults: FaultPoints = NO_FAULTS,
    *,
    learn_balance: Callable[[int], None] = forget,
    middlewares: Sequence[aiohttp.ClientMiddlewareType] = (),
) -> SegmindUpstream:
    """Build the client of Segmind; nothing is sent before the first call.

    Args:
        settings: What the process was started with.
        sink: Takes the events.
        faults: Where tests strike.
        learn_balance: Told what is left on the company's account, nanocredits.
        middlewares: Put around each request.

    Raises:
        ConfigError: There is no usable API key.
    """
    if settings.segmind_api_key is None and settings.segmind_api_key_file is None:
        raise ConfigError("SEGMIND_API_KEY: set it, or SEGMIND_API_KEY_FILE")
    given = {} if settings.segmind_api_key is None else parse_keys(settings.segmind_api_key.reveal())
    limits = Limits(connections=settings.upstream_connections)
    read_s, sync_s = settings.upstream_read_timeout_seconds, settings.upstream_sync_timeout_seconds
    return SegmindUpstream(
        base_url=settings.upstream_url,
        storage_url=settings.storage_url,
        history_url=settings.history_url,
        keys=KeyRing(
            given,
            path=settings.segmind_api_key_file,
            current=next(iter(given), DEFAULT),
            tell=lambda detail: sink(Alert(event="upstream.key_unreadable", detail=detail)),
        ),
        sink=sink,
        faults=faults,
        learn_balance=learn_balance,
        transport=Transport(limits=limits, middlewares=middlewares),
        limits=limits,
        timeouts=Timeouts(
            connect_s=settings.upstream_connect_timeout_seconds,
            pool_s=settings.upstream_pool_timeout_seconds + settings.upstream_connect_timeout_seconds,
            read_s=read_s,
            total_s=2 * read_s,
            sync_read_s=sync_s,
            sync_total_s=2 * sync_s,
        ),
    )
