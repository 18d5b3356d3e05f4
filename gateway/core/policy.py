"""The policy of a whole gateway: what ``gateway.yaml`` says under ``policy``, as one value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import Final, Literal

from gateway.core.credits import MAX_NANO, NANO

UnpricedModels = Literal["hold", "refuse"]
UnknownJobs = Literal["charge", "release"]
MediaUrls = Literal["public_https", "any"]

_DAY_S = 86_400
LEDGER_MIN_S = 32 * _DAY_S
KEY_LIFE_S: Final = 72 * 3600
"""Seconds for which an idempotency key stands for its job, and a job that was refused at once is kept for it."""
_DURABILITY = re.compile(r"none|waitaof|wait:[1-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What applies to every tenant.

    Attributes:
        unpriced_models: A model without a price is held at `default_hold`, or refused.
        default_hold: Nanocredits.
        unknown_jobs: What becomes of a job whose outcome is unknown when the vendor's history can't be read.
        unknown_after_s: Seconds without a trace in a readable history after which an unknown job is released.
        result_ttl_s: Seconds that a result is kept; `job_ttl_s` those that the job stays listed; one that
            was refused at once stays for `KEY_LIFE_S`.
        ledger_ttl_s: Seconds that ledger entries are kept; older ones are folded into an opening balance.
        media_urls: Which URLs may stand in a model's parameters.
        alerts: Percentages of a budget at which its alert fires, rising.
        reconcile_at: Time of day (UTC) of the daily reconciliation; None: only by command.
        upstream_rpm: Requests a minute to the vendor over all tenants; None: no limit of ours.
        upstream_poll_rps: Polls a second over all jobs, above which all intervals stretch; None: no limit.
        durability: How surely a hold must be kept before its job is sent: ``none`` (Redis has answered), ``waitaof``
            (the primary's append-only file is synced) or ``wait:N`` (N replicas, 1 to 9, have it).
    """

    unpriced_models: UnpricedModels = "hold"
    default_hold: int = NANO
    unknown_jobs: UnknownJobs = "charge"
    unknown_after_s: int = 900
    result_ttl_s: int = 7 * _DAY_S
    job_ttl_s: int = 90 * _DAY_S
    ledger_ttl_s: int = 90 * _DAY_S
    media_urls: MediaUrls = "public_https"
    alerts: tuple[int, ...] = (50, 80, 100)
    reconcile_at: time | None = None
    upstream_rpm: int | None = None
    upstream_poll_rps: float | None = None
    durability: str = "none"

    def __post_init__(self) -> None:
        if not 0 < self.default_hold <= MAX_NANO:
            raise ValueError("default_hold must be above 0 and at most 9,000,000")
        if not 0 < self.unknown_after_s <= _DAY_S:
            raise ValueError("unknown_after must be above 0 and at most 1d")
        if not 0 < self.result_ttl_s <= self.job_ttl_s:
            raise ValueError("result_ttl must be above 0 and at most job_ttl: a result needs its job")
        if self.ledger_ttl_s < LEDGER_MIN_S:
            raise ValueError("ledger_ttl must be at least 32d: the vendor's history is compared 31 days back")
        if any(not 1 <= percent <= 100 for percent in self.alerts) or sorted(set(self.alerts)) != list(self.alerts):  # noqa: PLR2004 percent
            raise ValueError("alerts are percentages from 1 to 100, rising")
        if self.upstream_rpm is not None and self.upstream_rpm < 1:
            raise ValueError("upstream_rpm must be at least 1")
        if self.upstream_poll_rps is not None and not 0 < self.upstream_poll_rps < float("inf"):
            raise ValueError("upstream_poll_rps must be above 0")
        if not _DURABILITY.fullmatch(self.durability):
            raise ValueError("durability must be none, waitaof or wait:N, N from 1 to 9")
