"""A whole data plane for tests: the tenant API on a free loopback port, on a real store, against the sandbox."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, TypeVar, get_args

import httpx
import segmind
from support.ledger import CREDIT, Store, open_store
from support.scrape import parsed, total
from support.vendor import KEY, KLING

from gateway.catalogue import ModelOverride, load_catalogue
from gateway.cli.serve import serving
from gateway.config import Settings
from gateway.core.breaker import BreakerState
from gateway.core.job import Job
from gateway.core.policy import Policy
from gateway.core.tenant import Secret, TenantPolicy
from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import Running, running
from gateway.service.spec import DeclaredRules
from gateway.service.tenants import TenantAdmin
from gateway.store.readiness import ensure_epoch
from gateway.telemetry.pulse import LOOKS

T = TypeVar("T")
TENANT: Final = "video-team"
BUDGET: Final = 100 * CREDIT
TIME_SCALE: Final = 600.0  # a Kling job has ended when the tracker first asks
RECORD_TTL_S: Final = 3600 * TIME_SCALE  # a slow machine does not make the vendor forget jobs
PROMPT: Final = {"prompt": "cat and dog are dancing."}
DEADLINE_S: Final = 30.0
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, its vendor and its store, with one tenant.

    Attributes:
        key: An API key of the tenant.
        http: A client with that key.
        log: What the gateway has logged so far.
    """

    url: str
    ops_url: str
    vendor: Running
    store: Store
    key: str
    http: httpx.AsyncClient
    log: io.BytesIO

    @property
    def admin(self) -> TenantAdmin:
        """What operators do to tenants."""
        return TenantAdmin(self.store.tenants)

    async def post(self, path: str = f"/v2/{KLING}", body: object = None, **headers: str) -> httpx.Response:
        """Start a job; header names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, json=PROMPT if body is None else body, headers=named)

    async def credits(self) -> Decimal:
        """Ask for the tenant's budget as the SDK's users do, exactly."""
        answer = await self.http.get("/v1/get-user-credits")
        return Decimal(json.loads(answer.text, parse_float=str, parse_int=str)["credits"])

    async def money(self) -> tuple[int, int]:
        """Read what the tenant has spent and what is held, nanocredits."""
        total = next(window for window in await self.store.jobs.windows(TENANT) if window.name == "total")
        return total.spent, total.held

    async def job(self, job_id: str) -> Job:
        """Read a job's record."""
        job = await self.store.jobs.find(TENANT, job_id)
        assert job is not None
        return job

    async def ended(self, job_id: str) -> Job:
        """Wait until a job has ended, asking the store alone."""

        async def has_ended() -> Job | None:
            job = await self.job(job_id)
            return job if job.state.terminal else None

        return await eventually(has_ended)

    def accepted(self) -> list[dict[str, Any]]:
        """Return the vendor's record of accepted jobs."""
        return list(self.vendor.sandbox.accepted)

    def end_all(self, error: str | None = None) -> None:
        """Let every job that still runs at the vendor end at this moment."""
        for job in self.vendor.sandbox.jobs:
            if job.ends_at > time.time():
                job.total_s, job.error = time.time() - job.submitted_at, error

    def billed_nano(self) -> int:
        """Return what the vendor bills for the jobs that it accepted, each rounded as we do, nanocredits."""
        return sum(nano(str(job["billed"])) for job in self.accepted())

    def upstream_posts(self) -> int:
        """Count the calls that reached the vendor and could have started something."""
        return sum(call.method == "POST" for call in self.vendor.sandbox.calls)

    def lines(self) -> list[dict[str, Any]]:
        """Return the log lines."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def metric(self, name: str, **labels: str) -> float:
        """Add up a metric over the series that have these labels."""
        return total(parsed((await self.http.get(f"{self.ops_url}/metrics")).text), name, **labels)

    async def alerts(self, event: str) -> float:
        """Count the alerts of a name."""
        return await self.metric("gateway_alerts_total", event=event)

    async def breaker(self, host: str) -> str:
        """Name the state that a breaker is in."""
        name = "gateway_upstream_breaker_state"
        [state] = [one for one in get_args(BreakerState) if await self.metric(name, host=host, state=one)]
        return str(state)

    @contextmanager
    def sdk(self) -> Iterator[segmind.SegmindClient]:
        """Open the vendor's client on this gateway."""
        client = segmind.SegmindClient(api_key=self.key, base_url=f"{self.url}/v1")
        with client._client:
            yield client


@asynccontextmanager
async def gateway_on(
    redis_url: str,
    *,
    way: str | None = None,
    rules: Policy | None = None,
    looks: int = LOOKS,
    **options: Any,  # noqa: ANN401
) -> AsyncIterator[Gateway]:
    """Run a gateway on an empty store until the block ends.

    Args:
        redis_url: The store.
        way: How the gateway itself reaches it, such as through a proxy.
        rules: The gateway's policy.
        looks: See `Pulse`.
        options: Fields of `TenantPolicy`, of `Settings` and of `SandboxSettings`.
    """
    tenant: dict[str, Any] = {"budgets": {"total": BUDGET, "month": BUDGET}} | _taken(options, TenantPolicy)
    sandbox: dict[str, Any] = {"api_keys": (KEY,), "time_scale": TIME_SCALE, "record_ttl_s": RECORD_TTL_S} | _taken(
        options, SandboxSettings
    )
    log = io.BytesIO()
    async with running(SandboxSettings(**sandbox)) as vendor, open_store(redis_url) as store:
        await ensure_epoch(store.client)
        await store.tenants.put_rules(scaled(rules or Policy(), sandbox["time_scale"]))
        await store.tenants.put(TenantPolicy(TENANT, **tenant))
        key = (await TenantAdmin(store.tenants).create_key(TENANT)).text.reveal()
        async with serving(settings_for(way or redis_url, vendor.url, **options), log, looks=looks) as served:
            await eventually(lambda: _is(not served.readiness.reasons))
            async with httpx.AsyncClient(
                base_url=served.url, headers={"x-api-key": key}, trust_env=False, timeout=DEADLINE_S
            ) as http:
                yield Gateway(served.url, served.ops_url, vendor, store, key, http, log)


def settings_for(redis_url: str, vendor_url: str, **options: Any) -> Settings:  # noqa: ANN401
    """Make settings on free ports for a store and a vendor."""
    given = {
        "redis_url": Secret(redis_url),
        "port": 0,
        "ops_port": 0,
        "upstream_url": vendor_url,
        "storage_url": vendor_url,
        "history_url": vendor_url,
        "segmind_api_key": Secret(KEY),
        "drain_seconds": 10,
        # The store answers late on a machine that runs many tests at once.
        "redis_timeout_ms": 500,
        "redis_connect_timeout_ms": 500,
        # One event loop for client, gateway and vendor is late at any time.
        "overload_late_ms": 60_000,
    }
    return Settings(**{**given, **options})


def nano(credits_text: str) -> int:
    """Round a figure of the vendor as the gateway promises: half up at nine decimals."""
    return int(Decimal(credits_text).scaleb(9).to_integral_value(ROUND_HALF_UP))


def _taken(options: dict[str, Any], owner: type[TenantPolicy | SandboxSettings]) -> dict[str, Any]:
    """Take the fields of a dataclass out of the options."""
    return {field.name: options.pop(field.name) for field in fields(owner) if field.name in options}


def scaled(policy: Policy, time_scale: float) -> DeclaredRules:
    """Expect of each model what a sandbox that runs so fast does."""
    models = load_catalogue().models()
    return DeclaredRules(
        policy,
        tuple(ModelOverride(m.slug, expected_latency_s=max(1, m.expected_latency_s / time_scale)) for m in models),
    )


async def eventually(state: Callable[[], Awaitable[T | None]], within_s: float = DEADLINE_S) -> T:
    """Ask until there is an answer; fail after so many seconds."""
    async with asyncio.timeout(within_s):
        while not (found := await state()):  # noqa: ASYNC110  other processes have no event to wait for
            await asyncio.sleep(POLL_S)
        return found


async def _is(state: bool) -> bool:
    return state
