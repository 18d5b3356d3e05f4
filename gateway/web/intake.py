"""From a request to what a service takes: everything about it is checked before any service is called."""

from __future__ import annotations

from gateway.config import PARSED_WEIGHT
from gateway.core.events import MAX_PARAMS_BYTES
from gateway.core.inputs import parse_object
from gateway.core.tenant import MODEL
from gateway.errors import InvalidRequest
from gateway.service.outcomes import JobRequest
from gateway.web import headers as read
from gateway.web.api import TenantApi
from gateway.web.auth import authenticate
from gateway.web.body import read_body, require_json
from gateway.web.exchange import Exchange
from gateway.web.urls import own_base

_TRACE_ID = slice(3, 35)


def base_of(api: TenantApi, exchange: Exchange) -> str:
    """Return what our URLs begin with; checked before anything is spent. Raises `InvalidRequest`."""
    return own_base(api.public_url, exchange.scope["scheme"], exchange.headers.get(b"host"))


def trace_of(exchange: Exchange) -> str | None:
    """Return the caller's trace context, if it is valid, and keep its id for the event."""
    trace = read.traceparent(exchange.headers)
    if trace is not None:
        exchange.trace_id = trace[_TRACE_ID]
    return trace


async def job_request(api: TenantApi, exchange: Exchange, model: str) -> JobRequest:
    """Read a request to start a job of ``model``.

    Raises:
        InvalidRequest: Anything about it is malformed (also its subclasses for size and media type).
        Refused: No key (``unauthenticated``), or a body that does not arrive (``request_timeout``).
        CallerGone: The caller left before the body was whole.
    """
    credential = authenticate(exchange.headers)
    if MODEL.fullmatch(model) is None:
        raise InvalidRequest("the model has characters that no model's name has, or too many of them")
    exchange.model = model
    if exchange.scope["query_string"]:
        raise InvalidRequest("this route takes no query: parameters go into the body")
    headers = exchange.headers
    require_json(headers)
    idempotency_key = read.idempotency_key(headers)
    labels, webhook_url, trace = read.labels(headers), read.webhook_url(headers), trace_of(exchange)
    body = await read_body(
        exchange, api.room, max_bytes=api.max_body_bytes, deadline_s=api.body_deadline_s, weight=PARSED_WEIGHT
    )
    if api.log_params:
        exchange.params = body[:MAX_PARAMS_BYTES]
    return JobRequest(
        credential=credential,
        model=model,
        body=body,
        params=parse_object(body),
        headers={"content-type": "application/json"} | read.upstream_headers(headers, trace),
        request_id=exchange.request_id,
        idempotency_key=idempotency_key,
        traceparent=trace,
        webhook_url=webhook_url,
        labels=labels,
    )
