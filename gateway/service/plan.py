"""What ``gateway apply`` would change: the difference between a file and the store, as a value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.catalogue import ModelOverride
from gateway.core.credits import format_credits
from gateway.core.durations import format_duration
from gateway.core.policy import Policy
from gateway.core.tenant import RateLimit, TenantPolicy
from gateway.service.spec import DeclaredRules, GatewaySpec

Action = Literal["add", "change", "remove", "restore"]
Kind = Literal["policy", "model", "tenant"]
Shown = dict[str, str]


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant on record; ``suspended`` by an operator's command, ``removed`` as no longer in the file."""

    policy: TenantPolicy
    suspended: bool = False
    removed: bool = False


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, as a human reads it; None: not there."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changes, with its fields."""

    action: Action
    kind: Kind
    name: str
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be shown, and what is to be written: None and empty where nothing changes."""

    changes: tuple[Change, ...]
    rules: DeclaredRules | None
    put: tuple[TenantPolicy, ...]
    remove: tuple[str, ...]


def make_plan(spec: GatewaySpec, rules: DeclaredRules | None, tenants: Sequence[TenantRecord]) -> Plan:
    """Compare a file with what is on record."""
    stored = {record.policy.id: record for record in tenants}
    declared = {policy.id for policy in spec.tenants}
    put = tuple(p for p in spec.tenants if p.id not in stored or _differs(stored[p.id], p))
    remove = tuple(sorted(i for i, record in stored.items() if i not in declared and not record.removed))
    changes = [
        *_policy_changes(rules, spec.policy),
        *_model_changes(rules, spec.models),
        *(_tenant_change(stored.get(policy.id), policy) for policy in put),
        *(Change("remove", "tenant", tenant) for tenant in remove),
    ]
    return Plan(tuple(changes), None if spec.rules == rules else spec.rules, put, remove)


def show_tenant(policy: TenantPolicy) -> Shown:
    """Write a tenant's policy field by field, in the words of ``gateway.yaml``."""
    shown = {
        "name": policy.name,
        "models": " ".join(policy.models) or "*",
        "rate_limits.submit": _rate(policy.submit),
        "rate_limits.read": _rate(policy.read),
        "concurrent_jobs": str(policy.concurrent_jobs),
        **{f"budgets.{window}": format_credits(limit) for window, limit in policy.budgets.items()},
        **{f"prices.{model}": format_credits(price) for model, price in sorted(policy.prices.items())},
        "alerts": " ".join(map(str, policy.alerts)),
        "require_idempotency_key": str(policy.require_idempotency_key).lower(),
        "webhooks.url": policy.webhook_url or "",
        "webhooks.allowed_hosts": " ".join(policy.webhook_hosts),
    }
    return {name: value for name, value in shown.items() if value}


def show_policy(policy: Policy) -> Shown:
    """Write the gateway's policy field by field, in the words of ``gateway.yaml``."""
    shown = {
        "unpriced_models": policy.unpriced_models,
        "default_hold": format_credits(policy.default_hold),
        "unknown_jobs": policy.unknown_jobs,
        "unknown_after": format_duration(policy.unknown_after_s),
        "result_ttl": format_duration(policy.result_ttl_s),
        "job_ttl": format_duration(policy.job_ttl_s),
        "ledger_ttl": format_duration(policy.ledger_ttl_s),
        "media_urls": policy.media_urls,
        "alerts": " ".join(map(str, policy.alerts)),
        "reconcile_at": f"{policy.reconcile_at:%H:%M}" if policy.reconcile_at else "",
        "upstream_rpm": str(policy.upstream_rpm or ""),
        "upstream_poll_rps": f"{policy.upstream_poll_rps:g}" if policy.upstream_poll_rps else "",
        "durability": policy.durability,
    }
    return {name: value for name, value in shown.items() if value}


def show_model(model: ModelOverride) -> Shown:
    """Write what is declared of a model field by field."""
    shown = {
        "kind": model.kind or "",
        "price": "" if model.price_nano is None else format_credits(model.price_nano),
        "expected_latency": ""
        if model.expected_latency_s is None
        else format_duration(round(model.expected_latency_s)),
        "parameters": "" if model.schema is None else json.dumps(model.schema, sort_keys=True),
    }
    return {name: value for name, value in shown.items() if value}


def _rate(limit: RateLimit) -> str:
    return f"{limit.limit} / {format_duration(limit.period_s)}, burst {limit.burst}"


def _differs(record: TenantRecord, policy: TenantPolicy) -> bool:
    return record.removed or record.policy != policy


def _tenant_change(record: TenantRecord | None, policy: TenantPolicy) -> Change:
    action: Action = "add" if record is None else "restore" if record.removed else "change"
    before = show_tenant(record.policy) if record else {}
    return Change(action, "tenant", policy.id, tuple(_fields(before, show_tenant(policy))))


def _policy_changes(rules: DeclaredRules | None, policy: Policy) -> Iterator[Change]:
    before = show_policy(rules.policy) if rules else {}
    fields = tuple(_fields(before, show_policy(policy)))
    if fields:
        yield Change("change" if rules else "add", "policy", "policy", fields)


def _model_changes(rules: DeclaredRules | None, models: Sequence[ModelOverride]) -> Iterator[Change]:
    before = {model.slug: show_model(model) for model in (rules.models if rules else ())}
    after = {model.slug: show_model(model) for model in models}
    for slug, shown in after.items():
        fields = tuple(_fields(before.get(slug, {}), shown))
        if slug not in before or fields:
            yield Change("change" if slug in before else "add", "model", slug, fields)
    yield from (Change("remove", "model", slug) for slug in before if slug not in after)


def _fields(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[FieldChange]:
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield FieldChange(name, before.get(name), after.get(name))
