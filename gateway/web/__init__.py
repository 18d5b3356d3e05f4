"""The tenant API (data plane): pure ASGI over the services, Starlette for the lifespan only."""
