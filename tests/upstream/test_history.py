from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from support.raw_upstream import RawUpstream, answers
from support.upstream_client import Bench
from support.vendor import KEY, KLING

from gateway.core.adoption import History
from gateway.core.inputs import fingerprint, parse_object
from gateway.core.tenant import Secret
from gateway.core.vendor import CallContext
from gateway.errors import UpstreamAmbiguous, UpstreamInvalidResponse, UpstreamRefused
from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import running
from gateway.upstream.auth import KeyRing
from gateway.upstream.history import MAX_PAGES, Page, decode, read_history
from gateway.upstream.wire import Answer

NOW_MS: Final = 1_790_000_000_000
BODY: Final = {"prompt": "hé", "scale": 1.0, "seed": 7}
PRINT: Final = fingerprint(KLING, parse_object(json.dumps(BODY).encode()))


def row(name: str = "v-1", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 as varied as JSON
    """Make a row as the vendor documents it, one second old."""
    wanted = {
        "request_id": name, "model_name": KLING, "model_status": "COMPLETED", "credits_deduction": 0.5,
        "request_body": BODY, "created_at": (NOW_MS - 1000) / 1000,
    }  # fmt: skip
    return {**wanted, **changes}


def page(said: object) -> Page:
    """Decode an answer; `1e300` stands for a number that only JSON can write."""
    return decode(Answer(200, {}, json.dumps(said).replace("1e+300", "1e99999999999999999999").encode()))


def listed(*rows: dict[str, Any]) -> Page:
    """Decode a page of rows."""
    return page({"data": list(rows)})


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"data": [row()]}, "data"),
        ({"ok": True, "items": [row()], "more": [row("v-2")]}, "items"),
        ({"tags": ["a"], "models": [{"name": "m"}], "empty": [], "rows": [row()]}, "rows"),
        ({"result": {"page": 1, "requests": [row()]}}, "result.requests"),
    ],
)
def test_where_the_rows_are(said: object, field: str) -> None:
    """The rows are the first field that holds a list of objects with a request's id, whatever it is called."""
    found = page(said)
    assert (found.field, [one.request_id for one in found.rows]) == (field, ["v-1"])


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"data": []},
        {"message": "maintenance"},
        {"data": [row(), {"id": "no request"}]},
        {"data": [row("../../etc")]},
        {"data": [row(7)]},  # type: ignore[arg-type]  # what a vendor might send
        {"a": {"b": {"c": [row()]}}},
    ],
)
def test_an_answer_without_rows(said: object) -> None:
    """Where no list of requests is, there are no rows, rather than some that were guessed."""
    assert (page(said).field, page(said).rows) == ("", [])


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"text"', b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_an_answer_that_is_no_object(body: bytes) -> None:
    """What is not a JSON object is not a history."""
    with pytest.raises(UpstreamInvalidResponse):
        decode(Answer(200, {}, body))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (BODY, PRINT),
        (json.dumps(BODY), PRINT),
        ({"seed": 7, "scale": 1, "prompt": "h\u00e9"}, PRINT),
        (None, None),
        ("{", None),
        ("[]", None),
        ('{"a": 1, "a": 2}', None),
        (float("nan"), None),
    ],
)
def test_the_inputs(body: object, expected: str | None) -> None:
    """Inputs are an object or the text of one, in any order and spelling; else the row shows none."""
    (one,) = listed(row(request_body=body)).rows
    assert one.fingerprint == expected


def test_other_inputs() -> None:
    """Other inputs, and another model's, are another job's."""
    others = listed(row(request_body={**BODY, "seed": 8}), row(model_name="kling-2.6")).rows
    assert len({PRINT, *(one.fingerprint for one in others)}) == 3


@pytest.mark.parametrize(
    ("fields", "expected_ms"),
    [
        ({"created_at": 1_790_000_000}, NOW_MS),
        ({"created_at": 1_790_000_000.25}, NOW_MS + 250),
        ({"created_at": NOW_MS}, NOW_MS),
        ({"model_created": "2026-09-21T14:13:20Z"}, NOW_MS),
        ({"model_created": "2026-09-21T16:13:20.250+02:00"}, NOW_MS + 250),
        ({"model_created": "2026-09-21 14:13:20.250000"}, NOW_MS + 250),
        ({"timestamp": "Mon, 21 Sep 2026 14:13:20 GMT"}, NOW_MS),
        ({"created_at": NOW_MS, "updated_at": NOW_MS - 5000, "queued_at": NOW_MS + 3}, NOW_MS),
        ({"finished_at": NOW_MS + 9, "started_at": NOW_MS}, NOW_MS),
        ({"seed": 1_790_000_000, "latency_ms": 425_000}, None),
        ({"created_at": "yesterday", "time": True, "date": "2026", "updated_at": None}, None),
        ({"created_at": 0}, None),
        ({"created_at": 1e300}, None),
        ({"created_at": [NOW_MS]}, None),
    ],
)
def test_when_a_request_was_made(fields: dict[str, Any], expected_ms: int | None) -> None:
    """The time is taken from a field that is named for it, in any usual form; what is none is not taken for one."""
    said = row()
    del said["created_at"]
    (one,) = listed({**said, **fields}).rows
    assert one.created_ms == expected_ms


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("COMPLETED", 500_000_000)),
        ({"model_status": "failed", "credits_deduction": 0}, ("FAILED", 0)),
        ({"model_status": None, "credits_deduction": -1}, ("", None)),
        ({"credits_deduction": "0.00000000049"}, ("COMPLETED", 0)),
        ({"credits_deduction": float("nan")}, ("COMPLETED", None)),
        ({"credits_deduction": 1e300}, ("COMPLETED", None)),
        ({"model_name": 7}, ("COMPLETED", 500_000_000)),
    ],
)
def test_status_and_cost(fields: dict[str, Any], expected: tuple[str, int | None]) -> None:
    """Cost is read to the nanocredit; where it makes no sense, it is not reported."""
    (one,) = listed(row(**fields)).rows
    assert (one.status, one.cost) == expected


@pytest.mark.parametrize("name", [7, None, "cut \ud83d", "m\x1b[2J"])
def test_a_models_name_that_is_none(name: object) -> None:
    """A name that could not be stored, or would move a terminal's cursor, is no name."""
    assert [one.model for one in listed(row(model_name=name)).rows] == [""]


async def read(pages: Sequence[Page], *, probe: Page | None = None) -> tuple[History, list[dict[str, str]]]:
    """Read a history of some pages; return it with the queries that were made. What lies beyond is an empty page."""
    asked: list[dict[str, str]] = []

    async def ask(query: str) -> Page:
        said = {name: values[0] for name, values in parse_qs(urlsplit(query).query).items()}
        asked.append(said)
        wide = said["from_date"] < "2026-09-01"
        at = int(said["page"]) - 1
        return (probe or page({"data": []})) if wide else pages[at] if at < len(pages) else page({"data": []})

    return await read_history(ask, KLING, since_ms=NOW_MS - 60_000, now_ms=NOW_MS), asked


async def test_page_by_page() -> None:
    """Pages are read to the empty one; a request that stands in several rows counts once, other models not at all."""
    found, asked = await read(
        [listed(row("v-1"), row("v-1")), listed(row("v-1"), row("v-2"), row("v-3", model_name=f"{KLING}-pro"))]
    )
    assert ([one.request_id for one in found.rows], found.complete) == (["v-1", "v-2"], True)
    assert [said["page"] for said in asked] == ["1", "2", "3"]
    assert asked[0] == {
        "page": "1", "per_page": "100", "from_date": "2026-09-20", "to_date": "2026-09-22", "model_name": KLING,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first_s", "second_s", "pages"),
    [(-1, -90, 2), (-90, -1, 3), (-1, -30, 3), (-1, None, 3)],
)
async def test_reading_stops_where_older_rows_begin(first_s: int, second_s: int | None, pages: int) -> None:
    """Where rows come newest first, nothing is read beyond those that are wanted; in any other order, all is."""
    times = [None if at_s is None else NOW_MS + at_s * 1000 for at_s in (first_s, second_s)]
    found, asked = await read([listed(row(f"v-{at_ms}", created_at=at_ms)) for at_ms in times])
    assert (len(found.rows), found.complete, len(asked)) == (2, True, pages)


@pytest.mark.parametrize(("zone", "pages"), [("", 3), ("Z", 1), ("+00:00", 1)])
async def test_times_of_an_unknown_zone_end_no_reading_early(zone: str, pages: int) -> None:
    """A time that does not tell its zone may be half a day younger than it reads: what comes after it is still read."""
    made = (f"2026-09-21T06:1{minute}:00{zone}" for minute in (3, 2, 1))
    first, second, third = (row(f"v-{number}", created_at=at) for number, at in enumerate(made))
    _, asked = await read([listed(first, second), listed(third)])
    assert len(asked) == pages


async def test_too_many_rows() -> None:
    """A history without an end is not read to it, and says that it is not complete."""
    found, asked = await read([listed(row(f"v-{number}")) for number in range(MAX_PAGES + 1)])
    assert (found.complete, len(asked)) == (False, MAX_PAGES)


async def test_the_same_page_again() -> None:
    """A vendor that ignores the page asked for is not asked for ever, and what it shows is not complete."""
    found, asked = await read([listed(row())] * 5)
    assert (found.complete, len(asked)) == (False, 2)


async def test_nothing_of_late() -> None:
    """A period without rows is readable if the history shows the model at any other time, and only then."""
    found, asked = await read([], probe=listed(row("old")))
    assert (found, len(asked)) == (History([], complete=True), 2)
    assert (asked[1]["from_date"], asked[1]["to_date"]) == ("2026-08-23", "2026-09-22")
    for probe in (page({"data": []}), page({}), listed(row(model_name="other"))):
        with pytest.raises(UpstreamInvalidResponse):
            await read([], probe=probe)


@pytest.mark.parametrize("odd", [{"message": "maintenance"}, {"data": [row("v-2"), row("../")], "filters": []}])
async def test_a_first_page_that_is_none(odd: object) -> None:
    """What is no page shows no absence, whatever the history shows of other times."""
    with pytest.raises(UpstreamInvalidResponse):
        await read([page(odd)], probe=listed(row("old")))


async def test_a_request_with_several_outputs_costs_what_any_of_its_rows_says() -> None:
    """Of several rows the one with a cost counts, on whichever page it stands: nobody is charged too little."""
    bare = row(credits_deduction=None)
    found, _ = await read([listed(bare, row()), listed(bare, row("v-2"))])
    assert {one.request_id: one.cost for one in found.rows} == {"v-1": 500_000_000, "v-2": 500_000_000}


@pytest.mark.parametrize("second", [page({"message": "maintenance"}), page({"rows": [row("v-2")]}), page({"rows": []})])
async def test_a_page_that_is_none(second: Page) -> None:
    """Where a further page is no page, nothing is known of the rest: the history is not readable."""
    with pytest.raises(UpstreamInvalidResponse):
        await read([listed(row()), second])


async def test_of_the_sandbox(opened: Callable[..., Bench]) -> None:
    """What was sent is found by its inputs, with the time and cost of the vendor's books."""
    async with running(SandboxSettings(api_keys=(KEY,), time_scale=10_000)) as vendor:
        client = opened(vendor.url, keys=KeyRing({"default": Secret(KEY)}))
        upstream_id = await client.client.submit(KLING, json.dumps(BODY).encode(), {}, CallContext())
        now_ms = round(datetime.now(UTC).timestamp() * 1000)
        found = await client.client.history(KLING, since_ms=now_ms - 60_000, now_ms=now_ms, upstream_key="default")
        (one,) = found.rows
        assert (one.request_id, one.fingerprint, found.complete) == (upstream_id, PRINT, True)
        assert one.created_ms == int(vendor.sandbox.jobs[0].submitted_at * 1000)
        assert {call.operation for call in client.calls} == {"submit", "history"}


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answers(200, {"data": []}), UpstreamInvalidResponse),
        (answers(200, b"<html>", content_type="text/html"), UpstreamInvalidResponse),
        (answers(502, b"<html>", content_type="text/html"), UpstreamAmbiguous),
        (answers(403, {"error": "no"}), UpstreamRefused),
        (answers(429, {"error": "slow down"}), UpstreamRefused),
    ],
)
async def test_not_readable(made: Bench, vendor: RawUpstream, reply: Any, error: type[Exception]) -> None:  # noqa: ANN401 a Reply
    """Whatever is no history is an error, never an empty one."""
    vendor.reply = reply
    with pytest.raises(error):
        await made.client.history(KLING, since_ms=NOW_MS - 1, now_ms=NOW_MS, upstream_key="default")
    assert vendor.requests[0].line.startswith("GET /inference-request/request-history?page=1&")
    assert "x-api-key" in vendor.requests[0].headers
