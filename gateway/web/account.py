"""What a tenant may know of itself: its budget in Segmind's shape, and the models that it may call."""

from __future__ import annotations

import orjson

from gateway.core.credits import format_credits
from gateway.core.movements import AccountView, Denied
from gateway.core.tenant import TenantPolicy
from gateway.web import problems
from gateway.web.api import Model, TenantApi
from gateway.web.auth import authenticate
from gateway.web.exchange import Answer, Exchange, json_answer
from gateway.web.limits import credits_number, quota_headers


async def user_credits(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``GET /v1/get-user-credits``: the tenant's least remaining, never the company's balance."""
    view = await _view(api, exchange)
    if isinstance(view, Answer):
        return view
    body = f'{{"credits":{credits_number(view.quota.remaining)},"free-credits":0}}'
    return json_answer(body.encode("ascii"), quota_headers(view.quota))


async def models(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``GET /v1/models``."""
    view = await _view(api, exchange)
    if isinstance(view, Answer):
        return view
    policy = view.policy
    listed = [_described(model, policy) for model in api.catalogue.models() if policy.allows(model.slug)]
    return json_answer(orjson.dumps({"models": listed}), quota_headers(view.quota))


async def _view(api: TenantApi, exchange: Exchange) -> AccountView | Answer:
    credential = authenticate(exchange.headers)
    view = await api.jobs.account(credential)
    if not isinstance(view, Denied) or view.code != "unauthenticated":
        exchange.caller = credential
    return problems.denied(view, "") if isinstance(view, Denied) else view


def _described(model: Model, policy: TenantPolicy) -> dict[str, object]:
    price = policy.prices.get(model.slug, model.price_nano)
    return {
        "model": model.slug,
        "kind": model.kind,
        "price": None if price is None else orjson.Fragment(format_credits(price)),
        "expected_latency_s": model.expected_latency_s,
        "parameters": None if model.schema is None else dict(model.schema),
    }
