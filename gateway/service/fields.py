"""The fields of ``gateway.yaml``: what each may hold, and what it means where it is left out."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.catalogue import ModelOverride
from gateway.catalogue.loader import compile_schema
from gateway.core.credits import parse_credits
from gateway.core.durations import parse_duration_s
from gateway.core.policy import MediaUrls, Policy, UnknownJobs, UnpricedModels
from gateway.core.targets import spellings
from gateway.core.tenant import MODEL, WINDOWS, RateLimit, TenantPolicy, WindowName
from gateway.service.document import as_json

_HOST_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]{1,5})?", re.ASCII)
_TIME_OF_DAY = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_DAY_S = 86_400


def _credits(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("should be an amount of credits")  # noqa: TRY004 pydantic reads ValueError
    return parse_credits(str(value))


def _duration_s(value: object) -> object:
    return parse_duration_s(value if isinstance(value, str) else "")


def _time_of_day(value: object) -> object:
    if not isinstance(value, str) or not _TIME_OF_DAY.fullmatch(value):
        raise ValueError("should be a time of day like 04:30 (UTC)")
    return time.fromisoformat(value)


def _tenant_id(value: str) -> str:
    return TenantPolicy(id=value).id


def _model_pattern(value: str) -> str:
    return TenantPolicy(id="any", models=(value,)).models[0]


def _slug(value: str) -> str:
    if not MODEL.fullmatch(value):
        raise ValueError("not a model's slug")
    return value


def _schema(value: object) -> object:
    schema = as_json(value)
    if isinstance(schema, dict):
        compile_schema(schema)
    return schema


def _webhook_url(value: str) -> str:
    if not spellings(value):
        raise ValueError("should be an http or https URL of a host name, without a user name or fragment")
    return value


def _host_pattern(value: str) -> str:
    if not _HOST_PATTERN.fullmatch(value):
        raise ValueError("should be a host like hooks.example.com or *.example.com")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("should have printable characters only")
    return value


def _or_empty(value: object) -> object:
    return {} if value is None else value


Credits = Annotated[int, BeforeValidator(_credits)]
DurationS = Annotated[int, BeforeValidator(_duration_s)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Slug = Annotated[str, AfterValidator(_slug)]


class _Section(BaseModel):
    """A mapping of the file: an unknown field is a mistake, a value never stands in a message."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


class RateLimitFields(_Section):
    """One rate limit; without ``burst`` the whole limit may come at once."""

    limit: Count
    period: Annotated[DurationS, Field(ge=1, le=_DAY_S)] = 60
    burst: Count | None = None

    def resolve(self) -> RateLimit:
        """Return the value that admission decides by."""
        return RateLimit(limit=self.limit, period_s=self.period, burst=self.burst or self.limit)


class RateLimitsFields(_Section):
    """The two rate limits of a tenant."""

    submit: RateLimitFields | None = None
    read: RateLimitFields | None = None


class WebhookFields(_Section):
    """Where a tenant's webhooks may go; the default target's own host is allowed without saying so."""

    url: Annotated[str, AfterValidator(_webhook_url)] | None = None
    allowed_hosts: tuple[Annotated[str, AfterValidator(_host_pattern)], ...] = ()


class TenantDefaults(_Section):
    """What a tenant may set and ``policy.defaults`` may set for all; None: left to the next one up."""

    models: Annotated[tuple[Annotated[str, AfterValidator(_model_pattern)], ...], Field(min_length=1)] | None = None
    rate_limits: RateLimitsFields = RateLimitsFields()
    concurrent_jobs: Count | None = None
    budgets: dict[WindowName, Credits | None] = {}
    prices: dict[Slug, Credits] = {}
    require_idempotency_key: bool | None = None
    webhooks: WebhookFields | None = None


class TenantFields(TenantDefaults):
    """One tenant."""

    id: Annotated[str, AfterValidator(_tenant_id)]
    name: Annotated[str, Field(max_length=128), AfterValidator(_printable)] = ""

    def resolve(self, defaults: TenantDefaults) -> TenantPolicy:
        """Return the tenant's policy: its own fields, else the file's defaults, else ours.

        Budgets and prices are taken one by one, so that a default budget stays until the tenant sets that window
        to another amount, or to null to be free of it.
        """
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
            webhook_url=webhooks.url,
            webhook_hosts=webhooks.allowed_hosts or _own_host(webhooks.url),
            **{name: value for name, value in optional.items() if value is not None},
        )


def _own_host(url: str | None) -> tuple[str, ...]:
    return (urlsplit(url).netloc.lower(),) if url else ()


class PolicyFields(_Section):
    """What applies to every tenant, and the defaults of each."""

    unpriced_models: UnpricedModels = Policy().unpriced_models
    default_hold: Credits = Policy().default_hold
    unknown_jobs: UnknownJobs = Policy().unknown_jobs
    unknown_after: DurationS = Policy().unknown_after_s
    result_ttl: DurationS = Policy().result_ttl_s
    job_ttl: DurationS = Policy().job_ttl_s
    ledger_ttl: DurationS = Policy().ledger_ttl_s
    media_urls: MediaUrls = Policy().media_urls
    alerts: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Policy().alerts
    reconcile_at: Annotated[time, BeforeValidator(_time_of_day)] | None = None
    upstream_rpm: Count | None = None
    upstream_poll_rps: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    durability: str = Policy().durability
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

    price: Credits | None = None
    expected_latency: Annotated[DurationS, Field(ge=1, le=_DAY_S)] | None = None
    kind: Annotated[str, Field(max_length=64), AfterValidator(_printable)] | None = None
    parameters: Annotated[dict[str, Any], BeforeValidator(_schema)] | None = None

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
