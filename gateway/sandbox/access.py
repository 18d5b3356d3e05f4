"""Who may do what: the vendor's checks before anything is accepted, in one place."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.sandbox.answers import Refusal, timestamp, unauthorized
from gateway.sandbox.endpoint import Exchange
from gateway.sandbox.models import MODELS, Model, find_missing
from gateway.sandbox.state import Sandbox


def authenticate(sandbox: Sandbox, exchange: Exchange) -> None:
    """Check the key.

    Raises:
        Refusal: 401: no key, a bearer token, or an unknown key.
    """
    if not exchange.key:
        bearer = "authorization" in exchange.request.headers
        raise unauthorized("missing_api_key", "Use the x-api-key header" if bearer else "No API key was provided")
    if exchange.key not in sandbox.settings.api_keys:
        raise unauthorized("invalid_api_key", "The API key is invalid")


def read_json(exchange: Exchange) -> Mapping[str, object]:
    """Parse the body of a POST.

    Raises:
        Refusal: 406 for another content type, 400 for anything but a JSON object.
    """
    content_type = exchange.request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Refusal(406, "Content-Type must be application/json")
    try:
        params = orjson.loads(exchange.body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "Request body is not valid JSON") from None
    if not isinstance(params, dict):
        raise Refusal(400, "Request body must be a JSON object")
    return params


def admit(sandbox: Sandbox, exchange: Exchange) -> tuple[Model, Mapping[str, object]]:
    """Decide whether a billable POST is accepted; return its model and parameters.

    Raises:
        Refusal: 400, 401, 403, 404, 406, 410 or 429; nothing was accepted.
    """
    authenticate(sandbox, exchange)
    now = sandbox.clock()
    reset_at = sandbox.account.take_slot(now, sandbox.knobs.rate_limit_rpm)
    if reset_at is not None:
        raise Refusal(429, "Rate limit exceeded", headers={"x-rate-limit-reset-at-utc": timestamp(reset_at)})
    params = read_json(exchange)
    model = _find_model(exchange.slug)
    missing = find_missing(model, params)
    if missing:
        raise Refusal(400, f"Missing required field: {missing}")
    if sandbox.account.remaining(now) < model.cost:
        raise Refusal(406, "Insufficient credits. Please add credits to your account")
    if sandbox.knobs.team_limit_reached:
        raise Refusal(406, "Team spend limit reached")
    return model, params


def _find_model(slug: str) -> Model:
    model = MODELS.get(slug)
    if model is None:
        raise Refusal(404, f"Model {slug} not found")
    match model.access:
        case "forbidden":
            raise Refusal(403, "You do not have access to this model")
        case "retired":
            raise Refusal(410, f"Model {slug} has been retired")
        case "open":
            return model
