"""Response headers that tell a tenant where its limits and its money stand."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from gateway.core.credits import MAX_CREDITS, MAX_NANO, format_credits
from gateway.core.job import JobView
from gateway.core.quota import Quota, RateState
from gateway.web.exchange import HeaderList


def rate_headers(rate: RateState, concurrent: int | None = None) -> HeaderList:
    """Write ``RateLimit-Policy`` and ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers-10)."""
    name, policy = rate.name, rate.policy
    return [
        (b"ratelimit-policy", _described(name, policy.limit, policy.period_s, concurrent)),
        (b"ratelimit", f'"{name}";r={rate.remaining};t={ceil(rate.reset_s)}'.encode("ascii")),
    ]


@lru_cache(maxsize=1024)
def _described(name: str, limit: int, period_s: int, concurrent: int | None) -> bytes:
    described = f'"{name}";q={limit};w={period_s}'
    if concurrent is not None:
        described += f', "jobs";q={concurrent};qu="concurrent-requests"'
    return described.encode("ascii")


def remaining_headers(remaining: int) -> HeaderList:
    """Write ``X-Credits-Remaining``; nothing for a tenant without a budget."""
    if remaining == MAX_NANO:
        return []
    return [(b"x-credits-remaining", format_credits(remaining).encode("ascii"))]


def quota_headers(quota: Quota) -> HeaderList:
    """Write all that an answer tells of a tenant's limits."""
    return rate_headers(quota.rate, quota.concurrent) + remaining_headers(quota.remaining)


def job_headers(job: JobView, *, held: bool) -> HeaderList:
    """Write the vendor's id, for support, and, while it stands, the hold."""
    written: HeaderList = []
    if job.upstream_id:
        written.append((b"x-upstream-request-id", job.upstream_id.encode("latin-1", "replace")))
    if held:
        written.append((b"x-credits-held", format_credits(job.hold).encode("ascii")))
    return written


def credits_number(nano: int) -> str:
    """Write an amount as a JSON number; "no budget" reads as the most that a budget can be."""
    return str(MAX_CREDITS) if nano == MAX_NANO else format_credits(nano)
