"""What a data plane is made of, put together: adapters, services, and the work that runs beside the requests."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway.catalogue.loader import load_catalogue
from gateway.config import Settings
from gateway.core.faultpoints import FaultPoints
from gateway.core.ports import Gauges, Sink
from gateway.service.account import Account
from gateway.service.adopt import Adopter
from gateway.service.assets import AssetService
from gateway.service.budgets import BudgetWatch
from gateway.service.census import Census
from gateway.service.clock import StoreClock
from gateway.service.daily import DailyReconciliation
from gateway.service.finish import Finisher
from gateway.service.gate import Gate
from gateway.service.inflight import InFlight
from gateway.service.keyfailures import KeyFailures
from gateway.service.learn import Learner
from gateway.service.lifetime import Drain, Work
from gateway.service.missing import Missing
from gateway.service.notify import Notifier
from gateway.service.outbox import Outbox
from gateway.service.owing import OwingRepair
from gateway.service.pace import Pace
from gateway.service.poll import Poller
from gateway.service.reconcile import Reconciler
from gateway.service.refresh import RulesRefresher
from gateway.service.refused import RefusalCount
from gateway.service.room import Room
from gateway.service.rules import Rules
from gateway.service.sending import Sending
from gateway.service.shedding import Shedder
from gateway.service.submit import SubmitService
from gateway.service.sweep import Sweep
from gateway.service.sync import SyncService
from gateway.service.throttle import Throttle
from gateway.service.track import Tracker
from gateway.service.trim import Trimmer
from gateway.service.usage import UsageService
from gateway.service.wait import Waiting
from gateway.service.watchlist import Watchlist
from gateway.store import keys
from gateway.store.adjustments import RedisAdjustments
from gateway.store.alerts import RedisAlerts
from gateway.store.connect import RedisClient
from gateway.store.doubts import RedisDoubts
from gateway.store.due import RedisDue
from gateway.store.epoch import EpochGuard
from gateway.store.index import RedisIndex
from gateway.store.jobs import RedisJobs
from gateway.store.learned import RedisExperience
from gateway.store.ledger import RedisLedger
from gateway.store.ledgers import RedisLedgers
from gateway.store.pacing import RedisPacing
from gateway.store.scripts import Script, Scripts, load_scripts
from gateway.store.sweeper import RedisSweeper
from gateway.store.tenants import RedisTenants
from gateway.store.usage import RedisUsage
from gateway.store.waiters import RedisNotifications
from gateway.store.webhooks import RedisDeliveries
from gateway.telemetry.tracing import Tracing
from gateway.upstream.client import SegmindUpstream
from gateway.web.app import TenantApi
from gateway.webhooks.resolver import CheckedResolver
from gateway.webhooks.sender import HttpSender

CALLS_A_CONNECTION = 2
"""Submits, sync calls and uploads in hand for each connection to the vendor: as many again may wait for one."""
WAITER_LIMIT = 10_000
POLLS_A_CALL = 4
"""Polls under way for each call to the vendor at once: the others wait for the store."""
WEBHOOK_CLOSE_S = 5.0
"""For attempts under way at the end: what they don't finish, another process makes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a data plane is made of, whatever its role."""

    client: RedisClient
    scripts: Scripts
    library: Mapping[str, Script]
    upstream: SegmindUpstream
    rules: Rules
    sink: Sink
    gauges: Gauges
    jobs: RedisJobs
    due: RedisDue
    hooks: RedisDue
    notifications: RedisNotifications
    waiting: Waiting
    watchlist: Watchlist
    owing: Watchlist
    refresher: RulesRefresher
    learner: Learner
    finisher: Finisher
    sending: Sending
    doubts: RedisDoubts
    sweep: Sweep
    clock: StoreClock
    sweeper: RedisSweeper
    pace: Pace
    refusals: RefusalCount
    faults: FaultPoints
    room: Room
    shedder: Shedder
    failures: KeyFailures

    @classmethod
    def assemble(
        cls,
        scripts: Scripts,
        upstream: SegmindUpstream,
        settings: Settings,
        *,
        rules: Rules,
        sink: Sink,
        gauges: Gauges,
        faults: FaultPoints,
    ) -> Parts:
        """Put the adapters and services together; nothing is sent yet."""
        client, library, epoch, clock = scripts.client, load_scripts(), EpochGuard(scripts.client), StoreClock()
        ledger, jobs = RedisLedger(scripts, library, lambda: rules.policy, epoch), RedisJobs(scripts, library, epoch)
        due, hooks = RedisDue(scripts, library), RedisDue(scripts, library, keys.hooks, keys.HOOK_SHARDS)
        notifications, owing, outbox = RedisNotifications(client, sink), Watchlist(hooks), Outbox(sink)
        learner, sweeper = Learner(RedisExperience(client, scripts, library), rules), RedisSweeper(client)
        in_flight = InFlight(CALLS_A_CONNECTION * settings.upstream_connections, outbox.__len__)
        doubts, pace = RedisDoubts(client, scripts, library), Pace(RedisPacing(scripts, library), rules)
        gate = Gate(upstream, Account(upstream, sink), pace)
        return cls(
            client=client,
            scripts=scripts,
            library=library,
            upstream=upstream,
            rules=rules,
            sink=sink,
            gauges=gauges,
            jobs=jobs,
            due=due,
            hooks=hooks,
            notifications=notifications,
            waiting=Waiting(notifications, jobs, limit=WAITER_LIMIT),
            watchlist=Watchlist(due),
            owing=owing,
            refresher=RulesRefresher(RedisTenants(client, scripts, library), rules, load_catalogue(), sink),
            learner=learner,
            finisher=Finisher(ledger, jobs, learner, owing, sink, faults=faults),
            sending=Sending(ledger, upstream, gate, rules, outbox, in_flight, sink, doubts, uuid.uuid4().hex, faults),
            doubts=doubts,
            sweep=Sweep(sweeper=sweeper, ledger=ledger, due=due, sink=sink, clock=clock),
            clock=clock,
            sweeper=sweeper,
            pace=pace,
            refusals=RefusalCount(RedisUsage(client, scripts, library, epoch), sink, rules.knows),
            faults=faults,
            room=Room(settings.max_held_bytes),
            shedder=Shedder(scripts.look, lambda: in_flight.share, sink, late_s=settings.overload_late_ms / 1000),
            failures=KeyFailures(sink),
        )

    def work(self) -> list[Work]:
        """List what runs in every role."""
        return [
            self.shedder.run,
            self.sending.outbox.run,
            self.watchlist.run,
            self.owing.run,
            self.refresher.run,
            self.learner.run,
            self.notifications.run,
            self.pace.run,
            self.refusals.run,
            self.failures.run,
            Census(sweeper=self.sweeper, jobs=self.jobs, gauges=self.gauges).run,
        ]

    def tenant_api(self, settings: Settings) -> TenantApi:
        """Put together what the web layer needs."""
        return TenantApi(
            submit=SubmitService(self.sending, self.watchlist),
            sync=SyncService(self.sending, self.finisher, self.jobs, self.room),
            assets=AssetService(self.jobs, self.sending),
            usage=UsageService(RedisUsage(self.client, self.scripts, self.library, EpochGuard(self.client))),
            jobs=self.jobs,
            waiting=self.waiting,
            catalogue=self.rules,
            sink=self.refusals,
            failures=self.failures,
            log_params=settings.log_params,
            room=self.room,
            results=Room(settings.max_held_bytes),
            public_url=settings.public_url or "",
            max_body_bytes=settings.max_body_bytes,
            max_asset_bytes=settings.max_asset_bytes,
        )


def tracking(parts: Parts, settings: Settings, stack: AsyncExitStack, drain: Drain, tracing: Tracing) -> list[Work]:
    """List what follows jobs to their end; what it must close goes onto the stack."""
    ledger, rules, sink = parts.sending.ledger, parts.rules, parts.sink
    calls = max(1, settings.upstream_connections // 2)
    throttle = Throttle(POLLS_A_CALL * calls)
    poller = Poller(
        ledger=ledger,
        jobs=parts.jobs,
        upstream=parts.upstream,
        finisher=parts.finisher,
        rules=rules,
        throttle=throttle,
        pace=parts.pace,
        missing=Missing(parts.upstream),
        calls=calls,
        gauges=parts.gauges,
        sink=sink,
        clock=parts.clock,
        faults=parts.faults,
        traced=tracing.poll,
    )
    tracker = Tracker(
        poller=poller,
        due=parts.due,
        watchlist=parts.watchlist,
        rules=rules,
        throttle=throttle,
        wait_s=lambda: max(parts.upstream.wait_s("inference"), parts.pace.wait_s("polls")),
        clock=parts.clock,
        gauges=parts.gauges,
        sink=sink,
    )
    stack.push_async_callback(lambda: tracker.close(drain.left_s()))
    adopter = Adopter(
        doubts=parts.doubts,
        history=parts.upstream,
        ledger=ledger,
        finisher=parts.finisher,
        due=parts.due,
        rules=rules,
        sweeper=parts.sweeper,
        sink=sink,
        faults=parts.faults,
    )
    return [tracker.run, parts.sweep.run, adopter.run]


def accounting(parts: Parts) -> list[Work]:
    """List what keeps the books: old entries folded, and the vendor's own list compared daily."""
    ledgers = RedisLedgers(parts.client, parts.scripts, parts.library)
    index = RedisIndex(parts.scripts, parts.library)
    adjustments = RedisAdjustments(parts.scripts, parts.library, parts.doubts)
    reconciler = Reconciler(parts.upstream, ledgers, parts.doubts, adjustments)
    daily = DailyReconciliation(
        reconciler=reconciler, sweeper=parts.sweeper, rules=parts.rules, sink=parts.sink, clock=parts.clock
    )
    return [Trimmer(ledgers, index, parts.sweeper, parts.rules).run, daily.run]


def delivering(parts: Parts, settings: Settings, stack: AsyncExitStack, drain: Drain) -> list[Work]:
    """List what delivers webhooks; what it must close goes onto the stack."""
    deliveries = RedisDeliveries(parts.client, parts.scripts, parts.library)
    sender = HttpSender(CheckedResolver(allow_private=settings.webhook_allow_private))
    stack.push_async_callback(sender.aclose)
    notifier = Notifier(
        deliveries=deliveries,
        sender=sender,
        due=parts.hooks,
        sink=parts.sink,
        public_url=settings.public_url or "",
    )
    stack.push_async_callback(lambda: notifier.close(min(WEBHOOK_CLOSE_S, drain.left_s())))
    repair = OwingRepair(sweeper=parts.sweeper, deliveries=deliveries, due=parts.hooks)
    watch = BudgetWatch(
        alerts=RedisAlerts(parts.client),
        tenants=RedisTenants(parts.client, parts.scripts, parts.library),
        endpoints=deliveries,
        sender=sender,
        sweeper=parts.sweeper,
        sink=parts.sink,
        clock=parts.clock,
    )
    return [notifier.run, repair.run, watch.run]
