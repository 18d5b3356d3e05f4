from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.upstream_client import KEY, TRACE

from gateway.core.tenant import Secret
from gateway.core.vendor import VendorState
from gateway.errors import InvalidRequest, UpstreamInvalidResponse
from gateway.upstream import wire
from gateway.upstream.redaction import redact, redact_bytes

SECRETS = (Secret(KEY),)
JOB = "5f0f4b3e-6b0e-4c6e-9d3e-0a3f2f9e8b11"

EVIL = [
    "..",
    ".",
    "%2e%2e",
    "a%2Fb",
    "a%252fb",
    "a\x00",
    "a\r\nb",
    "http://evil/",
    "a?b",
    "a#b",
    "a@b",
    "a/b",
    "a" * 65,
]
EVIL += ["", "workflows/", "workflows/../v1", "workflows/a/b", "ünï", "a..b", "a b", "a\n"]


@pytest.mark.parametrize("model", EVIL)
@pytest.mark.parametrize("path", [wire.submit_path, wire.sync_path])
def test_a_slug_that_is_none_makes_no_url(path: Callable[[str], str], model: str) -> None:
    """Nothing that could leave its segment of the path gets into a URL."""
    with pytest.raises(InvalidRequest):
        path(model)


def test_paths() -> None:
    """Models, workflows and jobs stand where the vendor has them; a workflow has no sync form."""
    assert wire.submit_path("kling-2.6") == "/v2/kling-2.6"
    assert wire.submit_path("workflows/my-flow") == "/workflows/v2/my-flow"
    assert wire.sync_path("flux-2-pro") == "/v1/flux-2-pro"
    assert wire.job_path(JOB) == f"/v2/requests/{JOB}"
    with pytest.raises(InvalidRequest):
        wire.sync_path("workflows/my-flow")


@pytest.mark.parametrize("upstream_id", ["", "..", "a/b", "a?b", "a b", "x" * 129, "é"])
def test_a_vendor_id_unfit_for_a_url(upstream_id: str) -> None:
    """The vendor can't steer our next request by its id."""
    with pytest.raises(UpstreamInvalidResponse):
        wire.job_path(upstream_id)


def test_request_headers_are_an_allow_list() -> None:
    """The five go up, the rest never; a value that can't stand in a header is left out."""
    given_headers = {
        "content-type": "application/json; charset=utf-8",
        "accept": "*/*",
        "user-agent": "smuggled\r\nx-api-key: mine",
        "x-initiator": "Jürgen",
        "cookie": "a=b",
        "host": "evil",
        "x-api-key": "mine",
        "authorization": "Bearer mine",
        "x-forwarded-for": "1.2.3.4",
        "content-length": "1",
    }
    assert wire.request_headers(given_headers, "00-trace") == {
        "content-type": "application/json; charset=utf-8",
        "accept": "*/*",
        "traceparent": "00-trace",
    }
    assert wire.request_headers({}, None) == {"content-type": "application/json"}


def test_response_headers_are_an_allow_list() -> None:
    """Balances, cookies and the server's name stay here, and so does a key that is echoed."""
    headers = {
        "content-type": f"image/jpeg; {KEY}",
        "x-cost": "0.1",
        "x-remaining-credits": "99",
        "set-cookie": "a=b",
        "server": "nginx",
    }
    assert wire.response_headers(headers, SECRETS) == {"content-type": "image/jpeg; ***", "x-cost": "0.1"}


def test_the_trace_id_is_read_from_what_goes_upstream() -> None:
    """The caller's own header counts before the context's; nonsense is no trace."""
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    assert wire.trace_id({}, parent) == TRACE
    assert wire.trace_id({"traceparent": parent}, None) == TRACE
    assert wire.trace_id({"traceparent": "nonsense"}, parent) == ""


def answer(status: int, body: bytes | object) -> wire.Answer:
    """Make an answer."""
    return wire.Answer(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


COMPLETED = b'{"status":"COMPLETED","output":"u","metrics":{"cost":%s,"remaining_credits":3}}'
FAILED = b'{"status": "FAILED", "error": "content blocked", "metrics": {"total_time": 1}}'


@pytest.mark.parametrize(
    ("figure", "cost"),
    [
        (b"0.9415", 941_500_000),
        (b"0.94150000005", 941_500_000),
        (b"0.94150000055", 941_500_001),
        (b"1", 1_000_000_000),
        (b"0", 0),
        (b'"0.5"', 500_000_000),
        (b"-1", None),
        (b"NaN", None),
        (b"Infinity", None),
        (b"1e400", None),
        (b"1e99999999999999999999", None),
        (b"9" * 5000, None),
        (b"null", None),
        (b"true", None),
        (b"{}", None),
    ],
)
def test_costs(figure: bytes, cost: int | None) -> None:
    """Costs are exact, rounded half up; an absurd one is none, and the job is COMPLETED all the same."""
    body = COMPLETED % figure
    said = wire.state(answer(200, body), SECRETS, full=True)
    assert said == VendorState("COMPLETED", cost=cost, body=body, remaining=said.remaining)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"status":"QUEUED","metrics":{}}', VendorState("QUEUED")),
        (200, b'{"status":"PROCESSING","metrics":{"cost":1}}', VendorState("PROCESSING")),
        (200, b'{"status":"COMPLETED"}', VendorState("COMPLETED")),
        (200, b'{"status":"COMPLETED","metrics":7}', VendorState("COMPLETED")),
        (422, FAILED, VendorState("FAILED", error="content blocked", body=FAILED)),
        (200, FAILED, VendorState("FAILED", error="content blocked", body=FAILED)),
        (422, b'{"status":"FAILED"}', VendorState("FAILED", body=b'{"status":"FAILED"}')),
        (404, b'{"error":"Request x not found"}', VendorState(None)),
    ],
)
def test_states(status: int, body: bytes, expected: VendorState) -> None:
    """The vendor's word as it stands; only a COMPLETED job costs."""
    assert wire.state(answer(status, body), SECRETS, full=False) == expected


BOTTOMLESS = b'{"status":' + b"[" * 100_000


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, body) for body in (b"", b"[]", b"null", b"{}", b"\xff{}", b'{"status":["QUEUED"]}', b"<html>", BOTTOMLESS)]
    + [(404, b"{}"), (404, b'{"status":"COMPLETED"}'), (404, b"<html>"), (422, b"<html>")],
)
def test_a_body_that_is_not_understood(status: int, body: bytes) -> None:
    """It says nothing of the job: neither that it ended nor that it is gone."""
    with pytest.raises(UpstreamInvalidResponse):
        wire.state(answer(status, body), SECRETS, full=False)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "no credits"}, "no credits"),
        ({"error": "unauthorized", "error_description": "bad key", "status_code": 401}, "unauthorized: bad key"),
        ({"error": f"key {KEY} is wrong, so is SG_ffffffffffffffff"}, "key *** is wrong, so is ***"),
        ({"error": "<!doctype html><p>oops"}, "Not Acceptable"),
        ({"error": {"message": "nested"}}, "Not Acceptable"),
        (b"<html>", "Not Acceptable"),
        ({"error": "x" * 5000}, "x" * 1000),
        ({"error": "cut in the middle of \ud83d"}, "cut in the middle of ?"),
    ],
)
def test_messages(body: object, text: str) -> None:
    """The vendor's own words, bounded and redacted; HTML never."""
    assert wire.message(answer(406, body), SECRETS) == text


def test_a_key_in_json_escapes_is_redacted() -> None:
    """An echo that spells the key otherwise doesn't get past."""
    escaped = b'{"error": "key SG\\u005f' + KEY[3:].encode() + b'"}'
    assert wire.message(answer(401, escaped), SECRETS) == "key ***"


def test_redaction_of_a_body_keeps_its_length() -> None:
    """What is passed on stays as long as its content-length says."""
    body = f'{{"echo": "{KEY}"}}'.encode()
    assert redact_bytes(body, SECRETS) == b'{"echo": "' + b"*" * len(KEY) + b'"}'
    assert redact_bytes(b"{}", SECRETS) == b"{}"


@given(st.text(), st.text())
def test_no_text_keeps_the_key(before: str, after: str) -> None:
    """Wherever it stands."""
    assert KEY not in redact(before + KEY + after, SECRETS)


def test_the_accounts_balance() -> None:
    """Credits and free credits, rounded half up; a figure that makes no sense is none."""
    read = wire.balance(answer(200, b'{"credits": 1, "free-credits": 0.0184921035}'))
    assert read == wire.Balance(1_000_000_000, 18_492_104)
    assert wire.balance(answer(200, {"credits": -1})) == wire.Balance(None, None)
