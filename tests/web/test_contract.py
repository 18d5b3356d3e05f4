"""The OpenAPI document against the application that it describes."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from gateway.web.app import ROUTES
from gateway.web.contract import contract
from gateway.web.problems import KINDS

DOCUMENT: dict[str, Any] = json.loads(contract())
OPERATIONS = [
    (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]
PARTS_OF_THE_PAGE = ("GET", "/docs/{part}")


def test_each_route_is_documented_and_nothing_else_is() -> None:
    """The document has exactly the routes and methods of the application (HEAD goes without saying)."""
    routes = {(method, route.template) for route in ROUTES for method in route.endpoints if method != "HEAD"}
    assert {(method, path) for method, path, _ in OPERATIONS} == routes - {PARTS_OF_THE_PAGE}


def test_each_error_of_the_table_is_documented() -> None:
    """Each code of the error table is among the codes of a response that some operation can give."""
    codes: set[str] = set()
    for name in re.findall(r'"#/components/responses/(\w+)"', json.dumps(DOCUMENT["paths"])):
        content = DOCUMENT["components"]["responses"][name]["content"]
        if "application/problem+json" in content:
            codes |= set(content["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]["enum"])
    assert codes == set(KINDS)


def test_each_reference_leads_somewhere_and_each_part_is_used() -> None:
    """No reference dangles, and no component is left that nothing refers to."""
    refs = set(re.findall(r'"#/components/(\w+/\w+)"', json.dumps(DOCUMENT)))
    parts = {f"{kind}/{name}" for kind, items in DOCUMENT["components"].items() for name in items}
    assert refs == {part for part in parts if not part.startswith("securitySchemes/")}


@pytest.mark.parametrize("operation", [operation for _, _, operation in OPERATIONS], ids=lambda op: op["operationId"])
def test_each_operation_says_what_it_is(operation: dict[str, Any]) -> None:
    """Each operation has an id of its own, a summary and, where it takes a key, the answer to a wrong one."""
    assert [op["operationId"] for _, _, op in OPERATIONS].count(operation["operationId"]) == 1
    assert operation["summary"]
    assert ("401" in operation["responses"]) == (operation.get("security") != [])


async def test_the_contract_is_served_without_a_key(client: httpx.AsyncClient) -> None:
    """``GET /openapi.json`` needs no key and is OpenAPI 3.1 of this very version."""
    answer = await client.get("/openapi.json", headers={"x-api-key": ""})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["openapi"].startswith("3.1")
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer.json()["info"]["version"])


async def test_the_page_asks_no_other_host(client: httpx.AsyncClient) -> None:
    """``GET /docs`` and every file that it names come from the gateway, and its policy lets nothing else in."""
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "//" not in re.sub(r"<!doctype.*?>", "", page.text)
    named = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert [(await client.get(f"/{name}")).status_code for name in named] == [200] * 3
    assert (await client.get("/docs/..%2fopenapi.yaml")).status_code == 404
