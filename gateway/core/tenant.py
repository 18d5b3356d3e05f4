"""Tenants, their API keys and their policy, as values that can't be constructed wrong."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Literal

from gateway.core.credits import MAX_NANO
from gateway.core.record import record
from gateway.core.targets import listed, spellings

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")
KEY_ID = re.compile(r"[a-z0-9]{8,16}")
_KEY = re.compile(rf"sgw_({TENANT_ID.pattern})_({KEY_ID.pattern})_([0-9a-f]{{64}})", re.ASCII)
MODEL = re.compile(r"(?:workflows/)?[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,63}", re.ASCII)
"""A model slug, or ``workflows/`` and a workflow's slug: what may stand in an upstream URL."""
_MODEL_PATTERN = re.compile(r"(?:workflows/)?[A-Za-z0-9._*-]{1,64}", re.ASCII)

WindowName = Literal["day", "week", "month", "total"]
WINDOWS: tuple[WindowName, ...] = ("day", "week", "month", "total")
MICROSECONDS = 1_000_000
_DAY_S = 86_400
_YEAR_US = 366 * _DAY_S * MICROSECONDS  # keeps every time that a script computes below 2**53


class Secret:
    """Text that never shows itself: ``str``, ``repr`` and formatting print a mask; `reveal` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)


@record()
class Credential:
    """What a caller's API key says of it: ``sgw_<tenant>_<key id>_<secret>``.

    The tenant in the key names the Redis slot, so that no look-up and no cache stand in front of revocation.

    Attributes:
        digest: SHA-256 of the secret, hexadecimal; the secret itself is not kept.
    """

    tenant: str
    key_id: str
    digest: str

    @classmethod
    def parse(cls, api_key: str) -> Credential | None:
        """Read an API key; None for whatever is not one."""
        match = _KEY.fullmatch(api_key)
        if match is None:
            return None
        return cls(match[1], match[2], digest_of(match[3]))


def digest_of(secret: str) -> str:
    """Return what is stored of a key's secret: its SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def new_api_key(tenant: str) -> tuple[Credential, Secret]:
    """Make a key with a 256-bit secret; the second value is shown once and never stored."""
    key_id, secret = secrets.token_hex(4), secrets.token_hex(32)
    return Credential(tenant, key_id, digest_of(secret)), Secret(f"sgw_{tenant}_{key_id}_{secret}")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A GCRA limit: ``limit`` requests a ``period_s``, of which ``burst`` may come at once."""

    limit: int
    period_s: int
    burst: int

    def __post_init__(self) -> None:
        if not (1 <= self.limit <= MICROSECONDS and 1 <= self.period_s <= _DAY_S and 1 <= self.burst <= MICROSECONDS):
            raise ValueError("a rate limit needs 1 <= limit, burst <= 1,000,000 and 1 s <= period <= 1 day")
        if self.burst * self.interval_us > _YEAR_US:
            raise ValueError("a full burst would take more than a year to come back")

    @property
    def interval_us(self) -> int:
        """Microseconds between two requests at the sustained rate, rounded up."""
        return -(-self.period_s * MICROSECONDS // self.limit)


SUBMIT_DEFAULT = RateLimit(limit=600, period_s=60, burst=100)
READ_DEFAULT = RateLimit(limit=6000, period_s=60, burst=1000)


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """Everything that admission decides by, for one tenant; resolved from ``gateway.yaml`` and its defaults.

    Attributes:
        models: Allowed models; ``*`` matches any characters. Empty: all.
        budgets: Limit in nanocredits per window; a window that is absent is unlimited.
        prices: Estimate in nanocredits that replaces the catalogue's for a model.
        alerts: Percentages of each budget that are announced, rising.
        webhook_url: Where the end of a job is announced unless its request names another place; None: nowhere.
        webhook_hosts: Hosts that a request may name: ``host``, ``host:port``, ``*.host``; the own one of
            ``webhook_url`` is among them without saying so.
    """

    id: str
    name: str = ""
    models: tuple[str, ...] = ()
    submit: RateLimit = SUBMIT_DEFAULT
    read: RateLimit = READ_DEFAULT
    concurrent_jobs: int = 100
    budgets: dict[WindowName, int] = field(default_factory=dict)
    prices: dict[str, int] = field(default_factory=dict)
    require_idempotency_key: bool = False
    webhook_url: str | None = None
    webhook_hosts: tuple[str, ...] = ()
    alerts: tuple[int, ...] = (50, 80, 100)

    def __post_init__(self) -> None:
        if not TENANT_ID.fullmatch(self.id):
            raise ValueError("a tenant id is [a-z0-9][a-z0-9-]{0,38}")
        if not 1 <= self.concurrent_jobs <= MICROSECONDS:
            raise ValueError("concurrent_jobs must be from 1 to 1,000,000")
        if any(not 0 <= amount <= MAX_NANO for amount in (*self.budgets.values(), *self.prices.values())):
            raise ValueError("an amount of credits is out of range")
        if any(not _MODEL_PATTERN.fullmatch(pattern) for pattern in self.models):
            raise ValueError("a model pattern has letters, digits, '.', '_', '-' and '*'")

    @property
    def webhook_patterns(self) -> tuple[str, ...]:
        """Every host that webhooks may go to."""
        own = spellings(self.webhook_url)[:1] if self.webhook_url else ()
        return tuple(dict.fromkeys((*self.webhook_hosts, *own)))

    def allows_webhook(self, url: str) -> bool:
        """Tell whether the end of a job may be announced to ``url``; the same rule as the admission script's."""
        return listed(self.webhook_patterns, url)

    def allows(self, model: str) -> bool:
        """Tell whether the tenant may call ``model``; the same rule as the admission script's."""
        return not self.models or any(_fits(pattern, model) for pattern in self.models)


def _fits(pattern: str, model: str) -> bool:
    """Tell whether a pattern covers a model, ``*`` for any characters; linear, as the admission script's."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == model
    *middle, last = rest
    at, end = len(first), len(model) - len(last)
    if at > end or not (model.startswith(first) and model.endswith(last)):
        return False
    for part in middle:
        found = model.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
