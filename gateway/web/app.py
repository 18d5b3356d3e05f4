"""The tenant API as an ASGI application: its routes, the most read ones first."""

from __future__ import annotations

from starlette.routing import Router
from starlette.types import StatefulLifespan, StatelessLifespan

from gateway.web import account, assets, contract, jobs, listing, sse, sync, usage
from gateway.web.api import TenantApi
from gateway.web.middleware import Edge
from gateway.web.routing import Route

__all__ = ["TenantApi", "create_app"]

ROUTES = (
    Route.get("/v2/requests/{id}/status", jobs.status),
    Route.get("/v2/requests/{id}", jobs.result),
    Route.get("/v1/requests/{id}", jobs.result),
    Route.get("/v2/requests/{id}/events", sse.events),
    Route.get("/v2/requests", listing.page),
    Route.get("/v2/usage", usage.usage),
    Route.post("/v2/{model}", jobs.submit),
    Route.get("/v1/get-user-credits", account.user_credits),
    Route.get("/v1/models", account.models),
    Route.post("/v1/{model}", sync.call),
    Route.post("/v2/{model}/quote", jobs.quote),
    Route.post("/workflows/v2/{slug}", jobs.submit_workflow),
    Route.post("/workflows/v2/{slug}/quote", jobs.quote_workflow),
    Route.get("/workflows/request/{id}", jobs.result),
    Route.post("/workflows/{slug}", jobs.submit_workflow),
    Route.post("/upload-asset", assets.upload),
    Route.get("/openapi.json", contract.document),
    Route.get("/docs", contract.page),
    Route.get("/docs/{part}", contract.part),
)


def create_app(api: TenantApi, *, lifespan: StatelessLifespan[None] | StatefulLifespan[None] | None = None) -> Edge:
    """Build the tenant API.

    Args:
        api: The services behind it and its settings.
        lifespan: Opens and closes what the services need; entered by the server, or a test.
    """
    return Edge(ROUTES, api, Router(lifespan=lifespan))
