"""Policies as JSON documents in Redis.

Two versions of the gateway may run side by side: fields that this one does not know are left out of account.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import time
from typing import Any

from gateway.catalogue import ModelOverride
from gateway.core.policy import Policy
from gateway.core.tenant import RateLimit, TenantPolicy
from gateway.service.spec import DeclaredRules


def tenant_to_json(policy: TenantPolicy) -> str:
    """Write a tenant's policy."""
    return _canonical(asdict(policy))


def tenant_from_json(document: str | bytes) -> TenantPolicy:
    """Read what `tenant_to_json` wrote."""
    known = _known(TenantPolicy, json.loads(document))
    rates: dict[str, Any] = {name: RateLimit(**_known(RateLimit, known[name])) for name in ("submit", "read")}
    listed = known.keys() & {"models", "webhook_hosts", "alerts"}
    lists: dict[str, Any] = {name: tuple(known[name]) for name in listed}
    return TenantPolicy(**{**known, **rates, **lists})


def rules_to_json(rules: DeclaredRules) -> str:
    """Write policy and models, with a digest that changes when they do."""
    policy = asdict(rules.policy)
    reconcile_at = rules.policy.reconcile_at
    policy["reconcile_at"] = reconcile_at and reconcile_at.isoformat("minutes")
    # Not asdict: it would copy the mapping of a schema, which need not be a dict.
    models = [{f.name: getattr(model, f.name) for f in fields(model)} for model in rules.models]
    content = {"policy": policy, "models": models}
    return _canonical({**content, "digest": hashlib.sha256(_canonical(content).encode()).hexdigest()})


def rules_from_json(document: str | bytes) -> DeclaredRules:
    """Read what `rules_to_json` wrote."""
    content = json.loads(document)
    policy = _known(Policy, content["policy"])
    reconcile_at = policy.get("reconcile_at")
    policy |= {"alerts": tuple(policy["alerts"]), "reconcile_at": reconcile_at and time.fromisoformat(reconcile_at)}
    models = tuple(ModelOverride(**_known(ModelOverride, model)) for model in content["models"])
    return DeclaredRules(Policy(**policy), models)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _known(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(kind)}
    return {name: value for name, value in document.items() if name in names}
