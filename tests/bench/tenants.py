"""Tenants that no limit stops, with a key each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.ledger import Store

from bench.processes import command
from bench.standin import MODEL
from gateway.core.tenant import Credential, new_api_key

JOB_S: Final = 425.0

_YAML_HEAD: Final = f"""\
policy: {{{{durability: "{{durability}}"}}}}
models:
  {MODEL}: {{{{expected_latency: {JOB_S:.0f}s}}}}
tenants:
"""
_YAML_TENANT: Final = """\
  - id: {tenant}
    rate_limits:
      submit: {{limit: 1000000, period: 1s, burst: 1000000}}
      read: {{limit: 1000000, period: 1s, burst: 1000000}}
    concurrent_jobs: 1000000
    budgets: {{day: "9000000", month: "9000000"}}
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant and an API key of it."""

    credential: Credential
    key: str

    @property
    def tenant(self) -> str:
        """Whose key it is."""
        return self.credential.tenant


async def declare(store: Store, redis_url: str, directory: Path, tenants: int, durability: str) -> Sequence[Caller]:
    """Declare so many tenants, and give each a key.

    Args:
        store: Where.
        redis_url: Of the store.
        directory: For the file that declares them.
        tenants: How many.
        durability: ``policy.durability``.
    """
    declared = directory / "gateway.yaml"
    names = [f"tenant-{n:04d}" for n in range(tenants)]
    each = (_YAML_TENANT.format(tenant=tenant) for tenant in names)
    declared.write_text(_YAML_HEAD.format(durability=durability) + "".join(each))
    await asyncio.to_thread(command, "gateway", "apply", "-f", str(declared), env={"GATEWAY_REDIS_URL": redis_url})
    return await asyncio.gather(*(_caller(store, tenant) for tenant in names))


async def _caller(store: Store, tenant: str) -> Caller:
    credential, secret = new_api_key(tenant)
    if not await store.tenants.add_key(credential, "bench", ttl_s=None):
        raise RuntimeError(f"there is no tenant {tenant}")
    return Caller(credential, secret.reveal())
