"""Traces of a real process, as a real OTLP receiver gets them; and a process that was not asked to trace."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import httpx
from support.fleet import Fleet, Member, fleet_on
from support.gateway import eventually
from support.traces import Traces, attributes, receiving_traces
from support.vendor import KEY, KLING

PROMPT = "canary-prompt-31fe"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
UNTRACED = """
import asyncio, io, os, sys
sys.modules["opentelemetry"] = None  # as where the extra is not installed: redis-py would take a look at it
from gateway.cli.serve import serving
from gateway.cli.tracing import tracing_from
from gateway.config import Settings

async def main():
    async with serving(Settings.from_env(os.environ), io.BytesIO(), tracing=tracing_from(os.environ)) as served:
        print(served.url)

asyncio.run(main())
found = [name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "google", "requests")]
print(sorted(found), "gateway.telemetry.otel" in sys.modules)
"""


async def submit(fleet: Fleet, member: Member, **headers: str) -> str:
    """Start a job that carries a canary; return its id."""
    answer = await fleet.http.post(f"{member.url}/v2/{KLING}", json={"prompt": PROMPT}, headers=headers)
    assert answer.status_code == httpx.codes.OK
    return str(answer.json()["request_id"])


async def test_a_job_is_one_trace(redis_url: str, tmp_path: Path) -> None:
    """The caller's trace goes on through request, Redis and vendor, and later through the polls, by what is stored."""
    async with receiving_traces() as traces, fleet_on(redis_url, tmp_path, time_scale=600) as fleet:
        fleet.env |= traces.env()
        member = await fleet.start()
        job_id = await submit(fleet, member, traceparent=f"00-{TRACE}-{CALLER}-01", tracestate="a=b")
        server = await traces.first("POST /v2/{model}")
        poll = await traces.first("job.poll")
        asked = await traces.first("segmind result")
        settled = await traces.first("redis settle")
        assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, CALLER)
        assert {span.trace_id for span in traces.spans} == {server.trace_id}
        for name in ("redis admit", "segmind submit", "redis accept", "job.poll"):
            assert traces.named(name)[0].parent_span_id == server.span_id, name
        assert {asked.parent_span_id, settled.parent_span_id} <= {span.span_id for span in traces.named("job.poll")}
        told = attributes(server)
        shown = {"http.response.status_code": 200, "gateway.job_id": job_id, "gateway.model": KLING}
        assert shown.items() <= told.items()
        assert attributes(poll)["gateway.job_id"] == job_id
        assert b"job.ended" in settled_by(traces)

        calls = {call.path: dict(call.headers)[b"traceparent"].decode() for call in fleet.vendor.sandbox.calls}
        sent = traces.named("segmind submit")[0]
        assert calls[f"/v2/{KLING}"] == f"00-{TRACE}-{sent.span_id.hex()}-01"
        lines = [line for line in member.lines() if line.get("job_id") == job_id and line["event"] != "job.ended"]
        assert {line["trace_id"] for line in lines} == {TRACE}
        everything = b"".join(span.SerializeToString() for span in traces.spans)
        assert not [word for word in (PROMPT, KEY, fleet.key.rpartition("_")[2]) if word.encode() in everything]


def settled_by(traces: Traces) -> bytes:
    """Return the names of all events of the polls."""
    return b" ".join(event.name.encode() for span in traces.named("job.poll") for event in span.events)


async def line_of(member: Member, route: str) -> dict[str, Any] | None:
    """Return the line of a request, once it is written."""
    return next((line for line in member.lines() if line.get("route") == route), None)


async def test_a_request_without_a_trace_begins_one(redis_url: str, tmp_path: Path) -> None:
    """Each request has a trace of its own, errors are marked as such, and its line names the trace."""
    async with receiving_traces() as traces, fleet_on(redis_url, tmp_path, time_scale=600) as fleet:
        fleet.env |= traces.env()
        member = await fleet.start()
        await fleet.http.get(f"{member.url}/v1/models")
        await fleet.http.get(f"{member.url}/nowhere")
        models = await traces.first("GET /v1/models")
        nowhere = await traces.first("GET (none)")
        assert models.parent_span_id == b""
        assert models.trace_id != nowhere.trace_id
        line = await eventually(lambda: line_of(member, "/v1/models"))
        assert line["trace_id"] == models.trace_id.hex()
        assert attributes(nowhere)["gateway.code"] == "not_found"


async def test_a_caller_who_does_not_sample_is_followed(redis_url: str, tmp_path: Path) -> None:
    """A trace that is not sampled gets no spans, is passed on as not sampled, and costs its polls no spans either."""
    async with receiving_traces() as traces, fleet_on(redis_url, tmp_path, time_scale=600) as fleet:
        fleet.env |= traces.env()
        member = await fleet.start()
        await submit(fleet, member, traceparent=f"00-{TRACE}-{CALLER}-00")
        await fleet.all_ended()
        await fleet.http.get(f"{member.url}/v1/models")
        await traces.first("GET /v1/models")
        assert {span.name for span in traces.spans} <= {"GET /v1/models", "redis account"}
        [call, *_] = fleet.vendor.sandbox.calls
        sent = dict(call.headers)[b"traceparent"].decode()
        assert (sent[3:35], sent[-2:]) == (TRACE, "00")


async def test_a_collector_that_is_away_is_told_of_and_harms_nobody(redis_url: str, tmp_path: Path) -> None:
    """Requests are served as ever; a warning of ours says that spans are lost, without the collector's address."""
    async with fleet_on(redis_url, tmp_path, time_scale=600) as fleet:
        fleet.env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hunter2@127.0.0.1:9",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }
        member = await fleet.start()
        await submit(fleet, member)

        async def told() -> bool:
            return any(line["event"] == "tracing.failed" for line in member.lines())

        await eventually(told)
        assert "hunter2" not in member.log.read_text()


async def test_nothing_is_imported_unless_asked_for(redis_url: str, tmp_path: Path) -> None:
    """Without the extra and without OTEL variables a process serves, and loads nothing of OpenTelemetry."""
    async with fleet_on(redis_url, tmp_path, time_scale=600) as fleet:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", UNTRACED, stdout=PIPE, env={**fleet.env, "PATH": ""}
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    url, modules = out.decode().splitlines()
    assert url.startswith("http://127.0.0.1:")
    assert modules == "['opentelemetry'] False"
