"""The fields of ``gateway.yaml``: what each may hold, and what it means where it is left out."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.catalogue import ModelOverride
from gateway.core.policy import MediaUrls, Policy, UnknownJobs, UnpricedModels
from gateway.core.tenant import WINDOWS, RateLimit, TenantPolicy, WindowName
from gateway.service.values import (
    DAY_S,
    Count,
    Credits,
    DurationS,
    HostPattern,
    JsonSchema,
    ModelPattern,
    Percent,
    Printable,
    Slug,
    TenantId,
    TimeOfDay,
    WebhookUrl,
)


def _or_empty(value: object) -> object:
    return {} if value is None else value


class _Section(BaseModel):
    """A mapping of the file: an unknown field is a mistake, a value never stands in a message."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


class RateLimitFields(_Section):
    """One rate limit; without ``burst`` the whole limit may come at once."""

    limit: Count = Field(description="Requests in a period.")
    period: DurationS = Field(60, ge=1, le=DAY_S, description="The period.")
    burst: Count | None = Field(None, description="Requests that may come at once; else the whole limit.")

    def resolve(self) -> RateLimit:
        """Return the value that admission decides by."""
        return RateLimit(limit=self.limit, period_s=self.period, burst=self.burst or self.limit)


class RateLimitsFields(_Section):
    """The two rate limits of a tenant."""

    submit: RateLimitFields | None = None
    read: RateLimitFields | None = None


class WebhookFields(_Section):
    """Where a tenant's webhooks may go; the default target's own host is allowed without saying so."""

    url: WebhookUrl | None = Field(None, description="Where the end of each job is announced.")
    allowed_hosts: tuple[HostPattern, ...] = Field(
        (), description="Hosts that `X-Webhook-Url` may name: `host`, `host:port`, `*.host`; else that of `url` alone."
    )


class TenantDefaults(_Section):
    """What a tenant may set and ``policy.defaults`` may set for all; None: left to the next one up."""

    models: Annotated[tuple[ModelPattern, ...], Field(min_length=1)] | None = Field(
        None, description="Models that may be called; `*` stands for any characters. Else all."
    )
    rate_limits: RateLimitsFields = Field(
        RateLimitsFields(),
        description="`submit` and `read`; else 600 a minute, burst 100, and 6000 a minute, burst 1000.",
    )
    concurrent_jobs: Count | None = Field(None, description="Jobs that may run at once; else 100.")
    budgets: dict[WindowName, Credits | None] = Field(
        {}, description="Credits for `day`, `week` (from Monday), `month` and `total`, UTC; null frees of a default."
    )
    prices: dict[Slug, Credits] = Field(
        {}, description="What a job of a model holds, instead of the catalogue's price."
    )
    require_idempotency_key: bool | None = Field(None, description="Refuse submits without `Idempotency-Key`.")
    alerts: tuple[Percent, ...] | None = Field(
        None, description="Percentages of each budget that are announced once; else `policy.alerts`."
    )
    webhooks: WebhookFields | None = Field(None, description="Where messages may go; else nowhere.")


class TenantFields(TenantDefaults):
    """One tenant."""

    id: TenantId = Field(description="`[a-z0-9][a-z0-9-]{0,38}`; stands in its keys.")
    name: Printable = Field("", max_length=128, description="For people.")

    def resolve(self, defaults: TenantDefaults, alerts: tuple[int, ...]) -> TenantPolicy:
        """Return the tenant's policy: its own fields, else the file's defaults, else ours (of alerts, the policy's).

        Budgets and prices are taken one by one, so that a default budget stays until the tenant sets that window
        to another amount, or to null to be free of it.
        """
        own = defaults.alerts if self.alerts is None else self.alerts
        webhooks = self.webhooks or defaults.webhooks or WebhookFields()
        budgets = {**defaults.budgets, **self.budgets}
        submit = self.rate_limits.submit or defaults.rate_limits.submit
        read = self.rate_limits.read or defaults.rate_limits.read
        concurrent = self.concurrent_jobs or defaults.concurrent_jobs
        require_key = (
            defaults.require_idempotency_key if self.require_idempotency_key is None else self.require_idempotency_key
        )
        optional: dict[str, Any] = {
            "submit": submit and submit.resolve(),
            "read": read and read.resolve(),
            "concurrent_jobs": concurrent,
        }
        return TenantPolicy(
            id=self.id,
            name=self.name,
            models=self.models or defaults.models or (),
            budgets={w: limit for w in WINDOWS if (limit := budgets.get(w)) is not None},
            prices={**defaults.prices, **self.prices},
            require_idempotency_key=bool(require_key),
            alerts=alerts if own is None else tuple(sorted(set(own))),
            webhook_url=webhooks.url,
            webhook_hosts=webhooks.allowed_hosts or _own_host(webhooks.url),
            **{name: value for name, value in optional.items() if value is not None},
        )


def _own_host(url: str | None) -> tuple[str, ...]:
    return (urlsplit(url).netloc.lower(),) if url else ()


class PolicyFields(_Section):
    """What applies to every tenant, and the defaults of each."""

    unpriced_models: UnpricedModels = Field(
        Policy().unpriced_models, description="`hold`: a model without a price is held at `default_hold`; `refuse`."
    )
    default_hold: Credits = Field(Policy().default_hold, description="Credits.")
    unknown_jobs: UnknownJobs = Field(
        Policy().unknown_jobs,
        description="`charge` or `release` a job of unknown outcome where the vendor's history can't be read.",
    )
    unknown_after: DurationS = Field(
        Policy().unknown_after_s, description="A job that a readable history has not shown for so long never ran."
    )
    result_ttl: DurationS = Field(Policy().result_ttl_s, description="How long results are kept.")
    job_ttl: DurationS = Field(Policy().job_ttl_s, description="How long jobs stay listed; refused ones stay 72 h.")
    ledger_ttl: DurationS = Field(
        Policy().ledger_ttl_s,
        description="How long single ledger entries are kept; older ones become an opening balance.",
    )
    media_urls: MediaUrls = Field(
        Policy().media_urls, description="URLs in a job's parameters: `public_https` refuses private addresses; `any`."
    )
    alerts: tuple[Percent, ...] = Field(Policy().alerts, description="Percentages of a budget that are announced once.")
    reconcile_at: TimeOfDay | None = Field(
        None, description="Time of day (UTC) at which the ledger is compared with the vendor's history."
    )
    upstream_rpm: Count | None = Field(
        None, description="Jobs and uploads a minute to the vendor over all tenants, shared fairly; else no limit."
    )
    upstream_poll_rps: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Polls a second over all jobs; else no limit of ours.",
    )
    durability: str = Field(
        Policy().durability,
        description="Before a job is sent: `none`; `waitaof`, its hold is on disk; `wait:N`, on N replicas.",
    )
    defaults: Annotated[TenantDefaults, BeforeValidator(_or_empty)] = TenantDefaults()

    @model_validator(mode="after")
    def _makes_a_policy(self) -> PolicyFields:
        self.resolve()
        return self

    def resolve(self) -> Policy:
        """Return the policy."""
        return Policy(
            unpriced_models=self.unpriced_models,
            default_hold=self.default_hold,
            unknown_jobs=self.unknown_jobs,
            unknown_after_s=self.unknown_after,
            result_ttl_s=self.result_ttl,
            job_ttl_s=self.job_ttl,
            ledger_ttl_s=self.ledger_ttl,
            media_urls=self.media_urls,
            alerts=tuple(sorted(set(self.alerts))),
            reconcile_at=self.reconcile_at,
            upstream_rpm=self.upstream_rpm,
            upstream_poll_rps=self.upstream_poll_rps,
            durability=self.durability,
        )


class ModelFields(_Section):
    """A model of the operator's own, or what differs from the catalogue; ``parameters`` is a JSON Schema."""

    price: Credits | None = Field(None, description="Average cost of a job, credits.")
    expected_latency: DurationS | None = Field(None, ge=1, le=DAY_S, description="Average time from submit to result.")
    kind: Printable | None = Field(None, max_length=64, description="What it makes, for people.")
    parameters: JsonSchema | None = Field(None, description="JSON Schema (2020-12) that submits are checked by.")

    def resolve(self, slug: str) -> ModelOverride:
        """Return what is to be put over the catalogue."""
        return ModelOverride(
            slug=slug,
            kind=self.kind,
            price_nano=self.price,
            expected_latency_s=self.expected_latency,
            schema=self.parameters,
        )


class GatewayFile(_Section):
    """The whole file. ``tenants`` must be there, since a tenant that is not in it is removed."""

    policy: Annotated[PolicyFields, BeforeValidator(_or_empty)] = PolicyFields()
    models: Annotated[dict[Slug, ModelFields], BeforeValidator(_or_empty)] = {}
    tenants: list[TenantFields]
