"""``GET /openapi.json`` and ``GET /docs``: the contract of the tenant API, and a page to read and try it.

The source is ``openapi.yaml``; the error responses are filled in from the one error table. The page is Swagger UI
5.35.0, shipped with the gateway: it asks no other host, and no key is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

import orjson
import yaml

from gateway import __version__
from gateway.web.api import TenantApi
from gateway.web.exchange import JSON, Answer, Exchange, HeaderList
from gateway.web.problems import KINDS, Kind, problem

_PARTS: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
        "swagger-ui.css": b"text/css; charset=utf-8",
        "start.js": b"text/javascript; charset=utf-8",
    }
)
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def document(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``GET /openapi.json``."""
    del api, exchange
    return _static(contract(), JSON[1])


async def page(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``GET /docs``."""
    del api, exchange
    answer = _static(_file("docs.html"), b"text/html; charset=utf-8")
    answer.headers.append((b"content-security-policy", _POLICY))
    return answer


async def part(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer for a part of the page."""
    del api
    kind = _PARTS.get(exchange.argument)
    return problem("not_found") if kind is None else _static(_file(exchange.argument), kind)


def _static(body: bytes, kind: bytes) -> Answer:
    headers: HeaderList = [
        (b"content-type", kind),
        (b"cache-control", b"public, max-age=3600"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", b"%d" % len(body)),
    ]
    return Answer(200, headers, body)


@cache
def _file(name: str) -> bytes:
    return (files("gateway.web") / "static" / name).read_bytes()


@cache
def contract() -> bytes:
    """Return the OpenAPI document, as JSON."""
    source: dict[str, Any] = yaml.safe_load((files("gateway.web") / "openapi.yaml").read_text("utf-8"))
    source["info"]["version"] = __version__
    components = source["components"]
    components["schemas"]["Code"] = {"type": "string", "enum": list(KINDS)}
    problems = {f"Problem{status}": _response(status) for status in sorted({kind.status for kind in KINDS.values()})}
    components["responses"]["Unprocessable"]["content"] |= problems.pop("Problem422")["content"]
    components["responses"] |= problems
    return orjson.dumps(source)


def _response(status: int) -> dict[str, Any]:
    """Describe the answers of one status: its codes, and the headers that always come with it."""
    kinds = {code: kind for code, kind in KINDS.items() if kind.status == status}
    described = "\n".join(f"- `{code}`: {kind.detail}" for code, kind in kinds.items())
    codes = {"properties": {"code": {"enum": list(kinds)}}}
    return {
        "description": f"{HTTPStatus(status).phrase}\n\n{described}",
        "headers": dict(_headers(status, kinds)),
        "content": {"application/problem+json": {"schema": {"allOf": [_ref("schemas/Problem"), codes]}}},
    }


def _headers(status: int, kinds: Mapping[str, Kind]) -> list[tuple[str, object]]:
    headers: list[tuple[str, object]] = [("X-Request-Id", _ref("headers/requestId"))]
    if any(kind.retry_s is not None for kind in kinds.values()):
        headers.append(("Retry-After", _ref("headers/retryAfter")))
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", _ref("headers/allow")))
    return headers


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{name}"}
