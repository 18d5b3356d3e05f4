from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.raw_upstream import RawUpstream, answers, drops, hangs, raw_upstream
from typer.testing import CliRunner

from gateway.cli.closed_loop import Plan, Report, request_bytes, run
from gateway.cli.main import app


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    """Run a server that answers 200."""
    async with raw_upstream(answers(200, {"ok": True})) as server:
        yield server


def plan(server: RawUpstream, **options: Any) -> Plan:  # noqa: ANN401  # fields of Plan
    """Plan two connections with one request each, unless the options say otherwise."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    wanted = {"requests": [request_bytes(host, "/a")], "connections": 2, "count": 2}
    return Plan(**{"host": host, "port": int(port), **wanted, **options})


async def test_a_count_is_kept_exactly_over_few_connections(upstream: RawUpstream) -> None:
    """So many requests are sent as were asked for, in turn, on connections that stay open."""
    requests = [request_bytes("h", path) for path in ("/a", "/b")]
    report = await run(plan(upstream, requests=requests, connections=3, count=20))
    assert (report.requests, report.failed, dict(report.statuses)) == (20, 0, {200: 20})
    assert upstream.connections == 3
    assert sorted(received.line for received in upstream.requests) == (
        ["GET /a HTTP/1.1"] * 10 + ["GET /b HTTP/1.1"] * 10
    )


async def test_a_duration_ends_it_and_every_answer_counts(upstream: RawUpstream) -> None:
    """Without a count the time ends it; what was under way is still answered and counted."""
    report = await run(plan(upstream, count=None, duration_s=0.1, think_s=0.01))
    assert report.failed == 0
    assert 0 < report.requests == len(upstream.requests)


async def test_a_body_goes_as_a_post_with_its_length(upstream: RawUpstream) -> None:
    """A request is written as given: method, headers, body."""
    request = request_bytes("h", "/v2/m", method="POST", headers={"x-api-key": "k"}, body=b'{"a": 1}')
    await run(plan(upstream, requests=[request], count=1))
    received = upstream.requests[0]
    assert (received.line, received.body, received.headers["x-api-key"]) == ("POST /v2/m HTTP/1.1", b'{"a": 1}', "k")


@pytest.mark.parametrize(("reply", "requests"), [(drops, 4), (answers(503, {}, "Connection: close"), 4)])
async def test_a_connection_that_ends_is_opened_again(reply: Any, requests: int) -> None:  # noqa: ANN401  # a Reply
    """A server that closes after each answer, or instead of one, is asked again on a new connection."""
    async with raw_upstream(reply) as server:
        report = await run(plan(server, count=requests, connections=1))
        assert (server.connections, report.requests + report.failed) == (requests, requests)
        assert report.statuses == ({} if reply is drops else {503: requests})


async def test_an_answer_that_never_comes_is_given_up() -> None:
    """A silent server fails its requests after the timeout, and the run ends."""
    async with raw_upstream(hangs) as server:
        report = await run(plan(server, connections=2, count=2, timeout_s=0.1))
    assert (report.requests, report.failed) == (0, 2)


async def test_garbage_ends_the_connection_and_counts_as_failed() -> None:
    """What is no HTTP is a failure, never a figure."""

    async def garbage(writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        await writer.drain()

    async with raw_upstream(garbage) as server:
        report = await run(plan(server, connections=1, count=1))
    assert (report.requests, report.failed) == (0, 1)


def test_latencies_are_nearest_rank() -> None:
    """The figures are those of the answers themselves, not of a fit."""
    report = Report(0, 2.0, array("d", [n / 1000 for n in range(1, 101)]), {200: 100})
    assert report.figures()["latency_ms"] == {"mean": 50.5, "p50": 50.0, "p99": 99.0, "max": 100.0}
    assert report.figures()["requests_per_second"] == 50.0


@pytest.mark.parametrize("header", ["x\r\ny: z", "x: a\nb"])
def test_a_header_stays_on_its_line(header: str) -> None:
    """What would smuggle a second header in is refused."""
    with pytest.raises(ValueError, match="one line"):
        request_bytes("h", "/", headers={"a": header})


async def test_the_command_reports_as_json_and_as_a_line(upstream: RawUpstream) -> None:
    """Both forms tell requests, rate, latency and statuses; a body makes it a POST with the caller's key."""
    words = ["load", f"{upstream.url}/v2/m", "--count", "5", "--key", "k", "--body", "{}", "--header", "x-initiator: t"]
    as_json, as_line = [await asyncio.to_thread(CliRunner().invoke, app, [*words, *more]) for more in (["--json"], [])]
    figures = json.loads(as_json.stdout)
    assert (figures["requests"], figures["statuses"], figures["failed"]) == (5, {"200": 5}, 0)
    assert as_line.stdout.startswith("5 requests in ")
    assert as_line.stdout.endswith("; 5 x 200; 0 failed\n")
    assert {received.line for received in upstream.requests} == {"POST /v2/m HTTP/1.1"}
    assert upstream.requests[0].headers["x-initiator"] == "t"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["http://example.com/"], 2, "--allow-remote"),
        (["http://10.0.0.1:8080/"], 2, "--allow-remote"),
        (["ftp://127.0.0.1/"], 2, "must be a URL"),
        (["http://127.0.0.1:99999/"], 2, "not a URL"),
        (["http://127.0.0.1/", "--header", "nonsense"], 2, "NAME:VALUE"),
        (["http://127.0.0.1:9/", "--count", "1", "--duration", "0.1", "--timeout", "0.1"], 1, ""),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(words: list[str], code: int, said: str) -> None:
    """Another host needs a word of its own, nonsense is refused, and a run without an answer is no success."""
    done = CliRunner().invoke(app, ["load", *words])
    assert done.exit_code == code
    assert said in done.stderr
