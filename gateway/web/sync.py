"""Sync calls: ``POST /v1/{model}``, the vendor's bytes passed through as they come."""

from __future__ import annotations

from gateway.service.outcomes import SyncAnswer
from gateway.web.api import TenantApi
from gateway.web.exchange import NO_STORE, Answer, Exchange
from gateway.web.intake import base_of, job_request
from gateway.web.jobs import hold_result, started
from gateway.web.limits import job_headers, quota_headers
from gateway.web.streaming import response_headers


async def call(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``POST /v1/{model}``."""
    base = base_of(api, exchange)
    request = await job_request(api, exchange, exchange.argument)
    exchange.begun = request.job_id
    outcome = await api.sync.call(request)
    exchange.let_go()
    if not isinstance(outcome, SyncAnswer):
        return started(exchange, request.credential, outcome, base)
    exchange.caller, exchange.job, exchange.replayed = request.credential, outcome.job, outcome.replayed
    headers = [
        NO_STORE,
        *quota_headers(outcome.quota),
        *job_headers(outcome.job, held=not outcome.job.state.terminal),
        *response_headers(outcome.headers),
    ]
    length = outcome.headers.get("content-length", "")
    if outcome.replayed:
        hold_result(api, exchange, int(length))
    if length.isdigit():
        headers.append((b"content-length", length.encode("ascii")))
    if outcome.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    return Answer(outcome.status, headers, outcome.chunks)
