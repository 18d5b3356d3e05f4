"""The one error table: each code of the API, each exception, each refusal -> one RFC 9457 answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from types import MappingProxyType
from typing import Final

import orjson

from gateway import errors
from gateway.core.credits import format_credits
from gateway.core.movements import Denied
from gateway.service.outcomes import Rejected, Uncertain
from gateway.web.exchange import NO_STORE, Answer, HeaderList
from gateway.web.limits import job_headers, quota_headers, rate_headers
from gateway.web.urls import status_url

TYPE_PREFIX: Final = "urn:segmind-gateway:problem:"
_PROBLEM_JSON = (b"content-type", b"application/problem+json")
_CHALLENGE = (b"www-authenticate", b"Bearer")
_REPLAYED = (b"idempotent-replayed", b"true")


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table.

    Attributes:
        detail: Said where an occurrence has no words of its own.
        retry_s: The answer carries ``Retry-After``: these seconds where nothing better is known.
    """

    status: int
    title: str
    detail: str
    limited_by: str | None = None
    retry_s: int | None = None


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "invalid_request": Kind(400, "Invalid request", "the request is malformed"),
        "idempotency_key_required": Kind(400, "Idempotency key required", "this tenant's submits need Idempotency-Key"),
        "unauthenticated": Kind(401, "Unauthenticated", "a valid API key is required"),
        "model_not_allowed": Kind(403, "Model not allowed", "this tenant may not call this model", "tenant"),
        "webhook_not_allowed": Kind(
            403, "Webhook not allowed", "this tenant's webhooks may not go to that host", "tenant"
        ),
        "tenant_suspended": Kind(403, "Tenant suspended", "this tenant is suspended", "tenant"),
        "upstream_forbidden": Kind(403, "Refused by the vendor", "the vendor refuses this call", "upstream"),
        "not_found": Kind(404, "Not found", "there is no such resource"),
        "model_not_found": Kind(404, "Model not found", "there is no such model"),
        "method_not_allowed": Kind(405, "Method not allowed", "this resource does not take this method"),
        "budget_exhausted": Kind(406, "Budget exhausted", "not enough credits in this tenant's budget", "tenant"),
        "request_timeout": Kind(408, "Request timeout", "the request did not arrive in time"),
        "idempotency_in_progress": Kind(
            409, "In progress", "a request with this idempotency key is in progress", retry_s=1
        ),
        "model_retired": Kind(410, "Model retired", "the vendor no longer offers this model"),
        "result_expired": Kind(410, "Result expired", "the result of this job is no longer kept"),
        "body_too_large": Kind(413, "Body too large", "the body is too large"),
        "unsupported_media_type": Kind(415, "Unsupported media type", "the body must be application/json"),
        "idempotency_mismatch": Kind(
            422, "Idempotency key reused", "this idempotency key was used with another request"
        ),
        "rate_limited": Kind(429, "Rate limited", "too many requests", "tenant", 1),
        "concurrency_limited": Kind(429, "Too many jobs", "too many jobs are running at once", "tenant", 5),
        "upstream_rate_limited": Kind(
            429, "Rate limited by the vendor", "the vendor's limit is reached", "upstream", 10
        ),
        "internal_error": Kind(500, "Internal error", "the gateway failed to answer; the request id finds out why"),
        "upstream_error": Kind(502, "Vendor error", "the vendor failed to answer"),
        "upstream_invalid_response": Kind(502, "Invalid vendor response", "the vendor's answer can't be used"),
        "store_unavailable": Kind(503, "Store unavailable", "the gateway's store can't be reached", "gateway", 2),
        "upstream_unavailable": Kind(503, "Vendor unavailable", "the vendor can't be reached now", "upstream", 10),
        "upstream_credits_exhausted": Kind(
            503, "Vendor credits exhausted", "the company's account has no credits left", "upstream", 60
        ),
        "upstream_auth": Kind(503, "Vendor key refused", "the vendor refuses the company's key", "upstream", 60),
        "overloaded": Kind(503, "Overloaded", "the gateway has too much to do", "gateway", 1),
        "draining": Kind(503, "Draining", "this gateway process is shutting down", "gateway", 1),
        "outcome_unknown": Kind(
            504, "Outcome unknown", "the vendor may have taken this job; follow status_url, do not send it again"
        ),
        "upstream_timeout": Kind(504, "Vendor timeout", "the vendor did not answer in time", "upstream"),
    }
)

EXCEPTIONS: Final[Mapping[type[Exception], str]] = MappingProxyType(
    {
        Exception: "internal_error",
        errors.GatewayError: "internal_error",
        errors.ConfigError: "internal_error",
        errors.Refused: "internal_error",  # only where its own code is not in the table
        errors.InvalidRequest: "invalid_request",
        errors.BodyTooLarge: "body_too_large",
        errors.UnsupportedMediaType: "unsupported_media_type",
        errors.StoreError: "store_unavailable",
        errors.StoreUnavailable: "store_unavailable",
        errors.StoreNotReady: "store_unavailable",
        errors.UpstreamError: "upstream_error",
        errors.UpstreamUnsent: "upstream_unavailable",
        errors.UpstreamHeldBack: "upstream_unavailable",
        errors.UpstreamAmbiguous: "upstream_error",
        errors.UpstreamRefused: "upstream_error",
        errors.UpstreamInvalidResponse: "upstream_invalid_response",
    }
)
"""What is answered for an exception that reaches the edge; `from_exception` refines three of them."""

_REFUSED_BY_VENDOR: Final = MappingProxyType(
    {401: "upstream_auth", 403: "upstream_forbidden", 410: "model_retired", 429: "upstream_rate_limited"}
)


def problem(
    code: str,
    *,
    detail: str | None = None,
    limited_by: str | None = None,
    retry_after_s: float = 0.0,
    members: Mapping[str, object] | None = None,
    headers: HeaderList | None = None,
) -> Answer:
    """Build the answer for ``code``: the table's row, with the occurrence's own words and figures over it."""
    kind = KINDS[code]
    text = clean(detail or kind.detail)
    body: dict[str, object] = {
        "type": TYPE_PREFIX + code,
        "title": kind.title,
        "status": kind.status,
        "detail": text,
        "error": text,
        "code": code,
    }
    limit = limited_by or kind.limited_by
    if limit is not None:
        body["limited_by"] = limit
    written: HeaderList = [_PROBLEM_JSON, NO_STORE, *(headers or ())]
    if kind.retry_s is not None or retry_after_s > 0:
        retry = whole_seconds(retry_after_s or kind.retry_s or 1)
        body["retry_after"] = retry
        written.append((b"retry-after", b"%d" % retry))
    body.update(members or {})
    encoded = orjson.dumps(body, default=str)
    written.append((b"content-length", b"%d" % len(encoded)))
    return Answer(kind.status, written, encoded, code, limit or "")


def unauthenticated() -> Answer:
    """Answer 401: the same bytes for no key, a malformed, unknown, expired or revoked one."""
    return problem("unauthenticated", headers=[_CHALLENGE])


def guessing(wait_s: float) -> Answer:
    """Answer 429 in place of 401 to a source that keeps on failing to show a valid key."""
    said = "too many requests without a valid API key from this address"
    return problem("rate_limited", detail=said, limited_by="gateway", retry_after_s=wait_s)


def denied(outcome: Denied, base: str) -> Answer:
    """Answer for a request that admission or a read refused; an unknown caller is told nothing."""
    if outcome.code == "unauthenticated":
        return unauthenticated()
    return problem(
        outcome.code,
        retry_after_s=outcome.retry_after_s,
        members=denial_members(outcome, base),
        headers=denial_headers(outcome),
    )


def denial_headers(outcome: Denied) -> HeaderList:
    """Return what a refusal tells of the limits: all of them, or for a job's read only its own."""
    if outcome.quota is not None:
        return quota_headers(outcome.quota)
    return [] if outcome.rate is None else rate_headers(outcome.rate)


def denial_members(outcome: Denied, base: str) -> dict[str, object]:
    """Return what helps the caller of a refusal: money in credits as JSON numbers, the budget's end as RFC 3339."""
    members: dict[str, object] = {}
    if outcome.window is not None:
        members["window"] = outcome.window.name
        members["balance"] = _number(outcome.window.remaining or 0)
        members["held"] = _number(outcome.window.held)
    if outcome.required:
        members["required"] = _number(outcome.required)
    if outcome.resets_at_ms is not None:
        at = datetime.fromtimestamp(outcome.resets_at_ms / 1000, UTC)
        members["resets_at"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    if outcome.job_id:
        members |= _job_members(outcome.job_id, base)
    return members


def rejected(outcome: Rejected, base: str) -> Answer:
    """Answer for a job or an upload that the vendor did not take."""
    headers: HeaderList = [] if outcome.quota is None else quota_headers(outcome.quota)
    if outcome.job is not None:
        headers += job_headers(outcome.job, held=False)
    if outcome.replayed:
        headers.append(_REPLAYED)
    return problem(
        outcome.code if outcome.code in KINDS else "upstream_error",
        detail=outcome.detail,
        limited_by=outcome.limited_by,
        retry_after_s=outcome.retry_after_s or 0.0,
        members=None if outcome.job is None else _job_members(outcome.job.id, base),
        headers=headers,
    )


def uncertain(outcome: Uncertain, base: str) -> Answer:
    """Answer for a job that the vendor may have taken, 504 or 502: its hold stays, its id finds it."""
    headers = quota_headers(outcome.quota) + job_headers(outcome.job, held=True)
    return problem(outcome.code, members=_job_members(outcome.job.id, base), headers=headers)


def cut(job_id: str, base: str) -> Answer:
    """Answer for a request that the end of the process cut off: what may have started a job is found by its id."""
    return problem("outcome_unknown", members=_job_members(job_id, base)) if job_id else problem("draining")


def from_exception(exc: Exception) -> Answer:
    """Answer for an exception; of those that are not ours, and of the store's, no word reaches the caller."""
    code = next(EXCEPTIONS[cls] for cls in type(exc).__mro__ if cls in EXCEPTIONS)
    if isinstance(exc, errors.Refused) and exc.code in KINDS:
        if exc.code == "unauthenticated":
            return unauthenticated()
        return problem(
            exc.code,
            detail=exc.detail,
            limited_by=exc.limited_by,
            retry_after_s=exc.retry_after_s or 0,
            members=exc.extra,
        )
    if isinstance(exc, errors.InvalidRequest):
        return problem(code, detail=exc.detail, members=_field(exc))
    if isinstance(exc, errors.UpstreamAmbiguous) and (exc.timed_out or exc.unfit):
        return problem("upstream_timeout" if exc.timed_out else "upstream_invalid_response")
    if isinstance(exc, errors.UpstreamRefused):
        code = _REFUSED_BY_VENDOR.get(exc.status, code)
        return problem(code, detail=exc.detail, retry_after_s=exc.retry_after_s or 0)
    return problem(code)


def _field(exc: errors.InvalidRequest) -> dict[str, object]:
    return {} if exc.field is None else {"field": clean(exc.field)}


def _job_members(job_id: str, base: str) -> dict[str, object]:
    return {"request_id": job_id, "status_url": status_url(base, job_id)}


def _number(nano: int) -> orjson.Fragment:
    return orjson.Fragment(format_credits(nano))


def whole_seconds(seconds: float) -> int:
    """Return a ``Retry-After`` that is not too early: rounded up, at least 1."""
    return max(1, ceil(seconds))


def clean(text: str) -> str:
    """Replace lone surrogates, which JSON input can carry and JSON output can't."""
    return text.encode("utf-8", "replace").decode("utf-8")
