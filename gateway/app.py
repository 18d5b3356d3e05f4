"""The composition root: settings -> adapters -> services -> the data plane's ASGI application.

`data_plane` opens everything in the order in which it is needed and closes it in the opposite one: the listener is
already gone then, so work in hand is finished, kept writes are delivered, and only then do connections close.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from gateway.catalogue.loader import load_catalogue
from gateway.config import Settings
from gateway.core.faultpoints import FaultPoint, FaultPoints, parse_faults
from gateway.core.policy import Policy
from gateway.core.ports import Gauges, Sink
from gateway.errors import StoreUnavailable
from gateway.parts import Parts, accounting, delivering, tracking
from gateway.service.lifetime import Drain, finish, running
from gateway.service.rules import Rules
from gateway.service.storewatch import StoreWatch
from gateway.store.opening import open_store, refuse_unfit
from gateway.store.scripts import TIMED_EVERY, Scripts
from gateway.store.watched import RedisWatched
from gateway.telemetry.readiness import Readiness
from gateway.telemetry.tracing import Tracing
from gateway.upstream.opening import open_upstream
from gateway.web.app import create_app
from gateway.web.gate import Gate


@dataclass(frozen=True, slots=True)
class DataPlane:
    """A data plane that is open.

    Attributes:
        app: The tenant API.
        gate: What its connections meet first.
        drain: Sends off those who wait for a job, with what is known; called when no more requests should come.
    """

    app: ASGIApp
    gate: Gate
    drain: Callable[[], None]


def shipped_rules() -> Rules:
    """Return the rules before any ``gateway apply``: the shipped catalogue and the default policy."""
    return Rules(Policy(), load_catalogue())


@asynccontextmanager
async def data_plane(
    settings: Settings, rules: Rules, sink: Sink, gauges: Gauges, *, readiness: Readiness, tracing: Tracing
) -> AsyncIterator[DataPlane]:
    """Open everything that a data-plane process needs, and run its background work until the block ends.

    Args:
        settings: What it is started with.
        rules: From `shipped_rules`; kept up to date with ``gateway apply``.
        sink: Takes every event.
        gauges: Takes the figures that no event tells.
        readiness: Told whether the store can be relied on.
        tracing: Put around requests, polls, and calls to the vendor and to Redis.

    Yields:
        The tenant API, and how to drain it.

    Raises:
        ConfigError: The settings can't work.
        StoreNotReady: Redis may evict or forget (`GATEWAY_ALLOW_VOLATILE_REDIS` accepts that, for trials).
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_store(settings))
        await refuse_unfit(client, settings)
        faults = parse_faults(settings.fault) if settings.fault is not None else FaultPoints()
        upstream = open_upstream(
            settings, sink, faults, learn_balance=gauges.set_upstream_credits, middlewares=tracing.sent()
        )
        stack.push_async_callback(upstream.aclose)
        scripts = Scripts(client, watch=tracing.watched(gauges), every=1 if tracing.every_call else TIMED_EVERY)
        parts = Parts.assemble(scripts, upstream, settings, rules=rules, sink=sink, gauges=gauges, faults=faults)
        with contextlib.suppress(StoreUnavailable):
            await parts.refresher.refresh()
            await parts.learner.refresh()

        sending, watchlists = parts.sending, (parts.watchlist, parts.owing)
        stack.push_async_callback(parts.refusals.flush)
        # To the very end: without a heartbeat, what is still being sent would be taken for a dead process's.
        await stack.enter_async_context(running([lambda: parts.sweep.beat(sending.owner)], sink))
        drain = Drain(settings.drain_seconds)
        stack.push_async_callback(lambda: finish(sending.in_flight, sending.outbox, watchlists, drain.left_s(), sink))
        work = parts.work()
        if settings.role != "api":
            work += [*tracking(parts, settings, stack, drain, tracing), *delivering(parts, settings, stack, drain)]
            work += accounting(parts)
        watched = RedisWatched(client, parts.sweeper, allow_volatile=settings.allow_volatile_redis)
        work.append(StoreWatch(watched, lambda why: readiness.say("store", why), sink).run)
        await stack.enter_async_context(running(work, sink))
        app = create_app(parts.tenant_api(settings))
        gate = Gate(parts.shedder, app.refuse, app.request_ids, settings.max_connections)
        yield DataPlane(tracing.served(app), gate, lambda: _begin_drain(drain, parts, faults))


def _begin_drain(drain: Drain, parts: Parts, faults: FaultPoints) -> None:
    faults.reach(FaultPoint.DRAINING)
    drain.begin()
    parts.shedder.drain()
    parts.waiting.drain()
