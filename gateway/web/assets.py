"""Assets: ``POST /upload-asset``, passed on with the company's key."""

from __future__ import annotations

from gateway.core.movements import Denied
from gateway.service.outcomes import Rejected
from gateway.web import headers as read
from gateway.web import problems
from gateway.web.api import TenantApi
from gateway.web.auth import authenticate
from gateway.web.body import read_body, require_json
from gateway.web.exchange import NO_STORE, Answer, Exchange
from gateway.web.intake import trace_of
from gateway.web.limits import quota_headers
from gateway.web.streaming import response_headers


async def upload(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``POST /upload-asset``. The body is not parsed: it goes on byte for byte, and costs nothing."""
    credential = authenticate(exchange.headers)
    require_json(exchange.headers)
    passed_on = {"content-type": "application/json"} | read.upstream_headers(exchange.headers, trace_of(exchange))
    body = await read_body(exchange, api.room, max_bytes=api.max_asset_bytes, deadline_s=api.body_deadline_s)
    outcome = await api.assets.upload(credential, body, passed_on, exchange.request_id)
    if not isinstance(outcome, Denied) or outcome.code != "unauthenticated":
        exchange.caller = credential
    if isinstance(outcome, Denied):
        return problems.denied(outcome, "")
    if isinstance(outcome, Rejected):
        return problems.rejected(outcome, "")
    said = outcome.answer
    headers = [NO_STORE, *quota_headers(outcome.quota), *response_headers(said.headers)]
    headers.append((b"content-length", b"%d" % len(said.body)))
    return Answer(said.status, headers, said.body)
