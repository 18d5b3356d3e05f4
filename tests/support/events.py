"""Made-up events for tests of the sinks."""

from __future__ import annotations

from hypothesis import strategies as st

from gateway.core.events import Alert, Event, HttpRequest, JobEnded, ParamsRequest, UpstreamCall, WebhookDelivery

_HOSTILE = (
    "",
    "plain",
    "a\nb",
    "\x1b[31mred\x1b[0m",
    "{}{0}%s%(x)s",
    "\u2028\u0085\u009b2J",
    "\ud800",
    '"}\r\n{"event":"x"',
)

text = st.sampled_from(_HOSTILE) | st.text(st.characters(exclude_categories=()), max_size=20)
_tenants = st.sampled_from(["", "video-team", "ads"])
_models = st.sampled_from(["", "flux-2-pro", "kling-2.6"]) | text
_amounts = st.none() | st.integers(0, 9 * 10**15)
_ms = st.floats(0, 1e6)

upstream_calls = st.builds(
    UpstreamCall,
    operation=st.sampled_from(["submit", "status", "credits"]),
    outcome=st.sampled_from(["ok", "refused", "unsent", "ambiguous", "invalid"]),
    latency_ms=_ms,
    tenant=_tenants,
    model=_models,
    upstream_status=st.none() | st.integers(-1, 1000),
    cost=_amounts,
    error=text,
)
_request = {
    "method": text,
    "route": st.sampled_from(["/v2/{model}", "(none)"]),
    "status": st.sampled_from([200, 401, 406, 499, 503]),
    "latency_ms": _ms,
    "request_id": text,
    "tenant": _tenants,
    "model": _models,
    "code": st.sampled_from(["", "unauthenticated", "budget_exhausted"]),
    "limited_by": st.sampled_from(["", "tenant"]),
    "held": _amounts,
}
http_requests = st.builds(HttpRequest, **_request)
params_requests = st.builds(ParamsRequest, params=text, **_request)
jobs_ended = st.builds(
    JobEnded,
    tenant=_tenants,
    key_id=text,
    model=_models,
    job_id=text,
    state=st.sampled_from(["COMPLETED", "FAILED", "EXPIRED"]),
    held=st.integers(0, 10**12),
    cost=st.integers(0, 10**12),
    estimated=st.booleans(),
    overrun=st.integers(0, 10**12),
    duration_ms=st.integers(0, 10**7),
    code=st.sampled_from(["", "upstream_error"]),
)
webhook_deliveries = st.builds(
    WebhookDelivery,
    tenant=_tenants,
    job_id=text,
    type=st.sampled_from(["job.completed", "job.failed"]),
    receiver=text,
    attempt=st.integers(1, 9),
    outcome=st.sampled_from(["delivered", "gone", "rejected", "timeout", "unreachable", "refused", "error"]),
    latency_ms=_ms,
    status=st.none() | st.integers(-1, 1000),
    error=text,
)
alerts = st.builds(Alert, event=st.sampled_from(["job.unknown", "upstream.auth_failed"]), detail=text, model=_models)

mixed_runs: st.SearchStrategy[list[Event]] = st.lists(
    upstream_calls | http_requests | params_requests | jobs_ended | webhook_deliveries | alerts, max_size=40
)
