"""What the tenant API needs of the inside: the services it calls, as small protocols, and its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from gateway.core.movements import Admitted, Denied
from gateway.core.ports import Jobs, Sink
from gateway.core.tenant import Credential
from gateway.service.keyfailures import KeyFailures
from gateway.service.outcomes import JobRequest, Rejected, Submitted, SyncAnswer, Uncertain, Uploaded
from gateway.service.room import MIB, Room
from gateway.service.usage import UsageQuery, UsageReport
from gateway.service.wait import Waiting
from gateway.web.urls import PUBLIC_URL


class SubmitService(Protocol):
    """Starts jobs. Raises `InvalidRequest`, `Refused` and `StoreError`; then nothing is held."""

    async def submit(self, request: JobRequest) -> Submitted | Denied | Rejected | Uncertain:
        """Admit the job, send it and record the vendor's answer."""

    async def quote(self, request: JobRequest) -> Admitted | Denied | Rejected:
        """Decide as `submit` would; write and send nothing."""


class SyncService(Protocol):
    """Makes blocking calls; raises as `SubmitService`."""

    async def call(self, request: JobRequest) -> SyncAnswer | Submitted | Denied | Rejected | Uncertain:
        """Admit, call and hand over the answer while it streams; `Submitted` for a replay whose body is not kept."""


class AssetService(Protocol):
    """Passes assets on. Raises `UpstreamAmbiguous` and `StoreError`."""

    async def upload(
        self, credential: Credential, body: bytes, headers: Mapping[str, str], request_id: str
    ) -> Uploaded | Denied | Rejected:
        """Count the upload against the submit limit and pass it on."""


class UsageService(Protocol):
    """Reports usage. Raises `StoreError`."""

    def today(self) -> date:
        """Return the day that it is, UTC."""

    async def own(self, credential: Credential, query: UsageQuery) -> UsageReport | Denied:
        """Report to a tenant's own caller; counts as one read."""


class Model(Protocol):
    """A model of the catalogue; its average price in nanocredits, its latency in seconds."""

    @property
    def slug(self) -> str: ...  # noqa: D102 a field
    @property
    def kind(self) -> str: ...  # noqa: D102 a field
    @property
    def price_nano(self) -> int | None: ...  # noqa: D102 a field
    @property
    def expected_latency_s(self) -> float: ...  # noqa: D102 a field
    @property
    def schema(self) -> Mapping[str, Any] | None: ...  # noqa: D102 a field


class Catalogue(Protocol):
    """The models that are known."""

    def models(self) -> Iterable[Model]:
        """List them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantApi:
    """Everything that the tenant API is made of.

    Attributes:
        failures: Counts the requests without a valid key.
        log_params: The parameters of jobs are logged, prompts included.
        room: Where requests' bodies must fit.
        results: Where large results on their way to callers must fit: slow readers hold up no submit.
        public_url: ``GATEWAY_PUBLIC_URL``; empty: our URLs are derived from each request.
        body_deadline_s: Within this time a request's body must have arrived.
        beat_s: A stream of events that has nothing to say says so this often, lest a proxy take it for dead.
        stalled_s: A caller who takes nothing of a body that streams for so long is cut off.
        linger_s: How long an unread body is still drained after the answer, so that the caller gets to read it.
    """

    submit: SubmitService
    sync: SyncService
    assets: AssetService
    usage: UsageService
    jobs: Jobs
    waiting: Waiting
    catalogue: Catalogue
    sink: Sink
    failures: KeyFailures
    log_params: bool = False
    room: Room = field(default_factory=lambda: Room(256 * MIB))
    results: Room = field(default_factory=lambda: Room(256 * MIB))
    public_url: str = ""
    max_body_bytes: int = MIB
    max_asset_bytes: int = 32 * MIB
    body_deadline_s: float = 30.0
    beat_s: float = 15.0
    linger_s: float = 1.0
    stalled_s: float = 60.0

    def __post_init__(self) -> None:
        if self.public_url and PUBLIC_URL.fullmatch(self.public_url) is None:
            raise ValueError("the public URL must be http(s)://host[:port][/path]")
