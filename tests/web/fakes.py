"""In-memory services and ports for the web layer: each answers what the test put in, and keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import httpx
from support.notifications import FakeNotifications

from gateway.core.credits import NANO
from gateway.core.events import Alert, Event, HttpRequest
from gateway.core.job import Job, JobState
from gateway.core.listing import JobPage, JobQuery
from gateway.core.movements import (
    AccountView,
    Admitted,
    Denied,
    Reading,
    StoredResult,
)
from gateway.core.quota import Quota, RateState, Window
from gateway.core.tenant import Credential, RateLimit, TenantPolicy
from gateway.core.usage import Usage
from gateway.service.keyfailures import KeyFailures
from gateway.service.outcomes import JobRequest, Rejected, Submitted, SyncAnswer, Uncertain, Uploaded
from gateway.service.usage import UsageQuery, UsageReport
from gateway.service.wait import Waiting
from gateway.web.app import TenantApi, create_app
from gateway.web.middleware import Edge

SECRET = "5" * 64
KEY = f"sgw_video-team_abcd1234_{SECRET}"
JOB_ID = "01900000-0000-7000-8000-00000000abcd"
VENDOR_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
RATE = RateLimit(limit=60, period_s=60, burst=10)
QUOTA = Quota(RateState("submit", RATE, 12, 29.2), concurrent=5, active=1, remaining=49 * NANO)
READ = RateState("read", RATE, 11, 0.4)
JOB = Job(
    id=JOB_ID,
    tenant="video-team",
    key_id="abcd1234",
    model="kling-2.6",
    kind="async",
    state=JobState.ACCEPTED,
    hold=941_500_000,
    created_ms=1_000,
    upstream_id=VENDOR_ID,
    confirmed_ms=5_000,
)
COMPLETED = replace(
    JOB, state=JobState.COMPLETED, vendor_status="COMPLETED", finished_ms=426_250, cost=941_512_346, has_result=True
)


@dataclass
class Services:
    """Every service at once; a value that is an exception is raised.

    Attributes:
        jobs: By id.
        seen: What the services were asked, in order.
        asked: Whose keys were checked for nothing else.
        noted: Set once an event was emitted.
    """

    outcome: Submitted | Denied | Rejected | Uncertain | Exception = field(
        default_factory=lambda: Submitted(JOB, QUOTA)
    )
    quoted: Admitted | Denied | Rejected = field(default_factory=lambda: Admitted(JOB, QUOTA))
    answer: SyncAnswer | Submitted | Denied | Rejected | Uncertain | None = None
    uploaded: Uploaded | Denied | Rejected | Exception | None = None
    listed: JobPage = field(default_factory=lambda: JobPage((), READ))
    jobs: dict[str, Job] = field(default_factory=lambda: {JOB_ID: JOB})
    used: UsageReport | Denied | None = None
    denial: Denied | Exception | None = None
    result: StoredResult | None = None
    policy: TenantPolicy = field(default_factory=lambda: TenantPolicy(id="video-team"))
    quota: Quota = QUOTA
    seen: list[Any] = field(default_factory=list)
    asked: list[Credential] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    noted: asyncio.Event = field(default_factory=asyncio.Event)
    notifications: FakeNotifications = field(default_factory=FakeNotifications)
    waiter_limit: int = 3

    def __post_init__(self) -> None:
        self.waiting = Waiting(self.notifications, self, limit=self.waiter_limit, clock=self.notifications.clock)

    def change(self, job: Job) -> None:
        """Let a job change, and word of it spread."""
        self.jobs[job.id] = job
        self.notifications.announce(job.tenant, job.id)

    def sink(self, event: Event) -> None:
        """See `Sink`."""
        self.events.append(event)
        self.noted.set()

    def _give(self, value: Any) -> Any:  # noqa: ANN401 whatever the test put in
        if isinstance(value, Exception):
            raise value
        return value

    async def submit(self, request: JobRequest) -> Any:  # noqa: ANN401 whatever the test put in
        """See `SubmitService`."""
        self.seen.append(request)
        return self._give(self.outcome)

    async def quote(self, request: JobRequest) -> Admitted | Denied | Rejected:
        """See `SubmitService`."""
        self.seen.append(request)
        return self.quoted

    async def call(self, request: JobRequest) -> SyncAnswer | Submitted | Denied | Rejected | Uncertain:
        """See `SyncService`."""
        self.seen.append(request)
        assert self.answer is not None
        return self.answer

    def today(self) -> date:
        """See `UsageService`."""
        return date(2026, 2, 20)

    async def own(self, credential: Credential, query: UsageQuery) -> UsageReport | Denied:
        """See `UsageService`."""
        self.asked.append(credential)
        self.seen.append(query)
        return self.used or UsageReport(query, {}, Usage(), {}, READ)

    async def upload(
        self, credential: Credential, body: bytes, headers: Mapping[str, str], request_id: str
    ) -> Uploaded | Denied | Rejected:
        """See `AssetService`."""
        self.seen.append((credential, body, headers, request_id))
        outcome: Uploaded | Denied | Rejected = self._give(self.uploaded)
        return outcome

    async def refusal(self, credential: Credential) -> Denied | None:
        """See `Jobs`."""
        self.asked.append(credential)
        refusal: Denied | None = self._give(self.denial)
        return refusal

    async def read(self, credential: Credential, job_id: str, *, with_result: bool) -> Reading | Denied:
        """See `Jobs`."""
        self.seen.append((credential, job_id, with_result))
        if self.denial is not None:
            denial: Denied = self._give(self.denial)
            return denial
        return Reading(self.jobs.get(job_id), READ, now_ms=12_900, result=self.result if with_result else None)

    async def account(self, credential: Credential) -> AccountView | Denied:
        """See `Jobs`."""
        self.seen.append(credential)
        if self.denial is not None:
            denial: Denied = self._give(self.denial)
            return denial
        return AccountView(self.policy, self.quota, (), 0)

    async def upload_account(self, credential: Credential) -> AccountView | Denied:
        """See `Jobs`."""
        return await self.account(credential)

    async def page(self, credential: Credential, query: JobQuery) -> JobPage | Denied:
        """See `Jobs`."""
        self.seen.append((credential, query))
        if self.denial is not None:
            denial: Denied = self._give(self.denial)
            return denial
        return self.listed

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """See `Jobs`."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.tenant == tenant else None

    async def kept(self, tenant: str, job_id: str) -> StoredResult | None:
        """See `Jobs`."""
        return None if await self.find(tenant, job_id) is None else self.result

    async def windows(self, tenant: str) -> tuple[Window, ...]:
        """See `Jobs`."""
        raise NotImplementedError

    @property
    def requests(self) -> list[HttpRequest]:
        """The events about requests."""
        return [event for event in self.events if isinstance(event, HttpRequest)]

    @property
    def alerts(self) -> list[Alert]:
        """The alerts."""
        return [event for event in self.events if isinstance(event, Alert)]


@dataclass(frozen=True)
class FakeModel:
    """A model of the catalogue."""

    slug: str
    kind: str = "video"
    price_nano: int | None = NANO
    expected_latency_s: float = 30.0
    schema: Mapping[str, Any] | None = None


class FakeCatalogue:
    """A catalogue of three models."""

    def models(self) -> Iterable[FakeModel]:
        """List them."""
        return (
            FakeModel("kling-2.6", schema={"type": "object", "required": ["prompt"]}),
            FakeModel("flux-2-pro", "image", 72_500_000, 26.0),
            FakeModel("my-own", price_nano=None),
        )


def build(services: Services, **settings: Any) -> Edge:  # noqa: ANN401 settings of TenantApi
    """Build the app over fakes."""
    api = TenantApi(
        submit=services,
        sync=services,
        assets=services,
        usage=services,
        jobs=services,
        waiting=services.waiting,
        catalogue=FakeCatalogue(),
        sink=services.sink,
        failures=KeyFailures(services.sink, now_s=lambda: 0.0),
        **settings,
    )
    return create_app(api)


def client_of(app: Edge) -> httpx.AsyncClient:
    """Make a client with a tenant's key."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://gw.test:8080", headers={"x-api-key": KEY}
    )
