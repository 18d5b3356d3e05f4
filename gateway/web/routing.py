"""Routes over the raw path: percent-escapes are never decoded, so nothing can be smuggled through them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.web.api import TenantApi
from gateway.web.exchange import Answer, Exchange
from gateway.web.problems import problem

Endpoint = Callable[[TenantApi, Exchange], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path template with at most one parameter, and its endpoint for each method."""

    template: str
    pattern: re.Pattern[bytes]
    endpoints: Mapping[str, Endpoint]

    @classmethod
    def get(cls, template: str, endpoint: Endpoint) -> Route:
        """Make a route that is read; HEAD is GET without the body, which the server leaves out."""
        return cls(template, _compile(template), {"GET": endpoint, "HEAD": endpoint})

    @classmethod
    def post(cls, template: str, endpoint: Endpoint) -> Route:
        """Make a route that is written to."""
        return cls(template, _compile(template), {"POST": endpoint})


def _compile(template: str) -> re.Pattern[bytes]:
    return re.compile(re.sub(r"\{\w+\}", "([^/]+)", template).encode("ascii"))


def dispatch(routes: Sequence[Route], api: TenantApi, exchange: Exchange) -> Awaitable[Answer]:
    """Answer a request by the first route that matches its path: 404 without one, 405 for another method."""
    path = exchange.scope["raw_path"]
    for route in routes:
        match = route.pattern.fullmatch(path)
        if match is None:
            continue
        exchange.route = route.template
        endpoint = route.endpoints.get(exchange.scope["method"])
        if endpoint is None:
            allow = ", ".join(route.endpoints).encode("ascii")
            return _answered(problem("method_not_allowed", headers=[(b"allow", allow)]))
        if match.lastindex:
            exchange.argument = match[1].decode("latin-1")
        return endpoint(api, exchange)
    return _answered(problem("not_found"))


async def _answered(answer: Answer) -> Answer:
    return answer
