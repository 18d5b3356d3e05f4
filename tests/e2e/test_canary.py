"""Canaries through a real process: no byte that it writes, serves or sends on holds a secret, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import httpx
import pytest
from support.fleet import Fleet, Member, fleet_on
from support.gateway import TENANT, eventually
from support.ports import UNLIMITED
from support.raw_upstream import RawUpstream
from support.receiver import host_of, receiving, takes
from support.traces import receiving_traces
from support.vendor import KEY, KLING

from gateway.catalogue import load_catalogue
from gateway.core.tenant import TenantPolicy
from gateway.sandbox import Fault
from gateway.sandbox.faults import RouteKind

PROMPT = "canary-prompt-5b2f"
MISUSED = "canary-misused-key-9c1d"
BALANCE = "777.123456"
TIME_SCALE = 600.0
WITHIN_S = 60.0
WAYS: dict[RouteKind, tuple[str, object]] = {
    "submit": (f"/v2/{KLING}", {"prompt": PROMPT}),
    "sync": ("/v1/faceswap-v2", {"prompt": PROMPT}),
    "upload": ("/upload-asset", {"data_urls": [f"data:text/plain,{PROMPT}"]}),
}
STRIKES = ",".join(
    f"{point}:1:raise"
    for point in (
        "submit.before_admission",
        "submit.sent",
        "submit.answered",
        "submit.recorded",
        "track.polled",
        "track.fetched",
        "end.before",
        "end.recorded",
    )
)

HTML = f"<html>{KEY} {PROMPT}</html>"
ECHO = {"error": f"bad prompt {PROMPT} for {KEY}"}
ANSWERED = [
    *(Fault(action="respond", status=status, body=ECHO, times=1) for status in (400, 401, 403, 404, 406, 422)),
    *(Fault(action="respond", status=status, body=ECHO, times=1) for status in (500, 502, 504)),
    Fault(action="respond", status=302, headers={"location": f"http://127.0.0.1:9/?{KEY}"}, times=1),
    Fault(action="respond", status=200, body=HTML, headers={"content-type": "text/html"}, times=1),
    Fault(action="respond", status=405, body=HTML, headers={"content-type": "text/html"}, times=1),
    Fault(action="respond", status=200, body={"request_id": f"{KEY}/../{PROMPT}", "status": PROMPT}, times=1),
    Fault(action="respond", status=200, body=f'{{"{KEY}": "{PROMPT}"', times=1),
    Fault(action="echo_key", status=400, times=1),
    Fault(action="headers", headers={"x-secret": KEY, "set-cookie": f"k={KEY}", "x-cost": f"{KEY}"}, times=1),
    Fault(action="truncate", times=1),
    Fault(action="drop", times=1),
    Fault(action="hang", times=1),
    Fault(action="body", form="gzip", size_bytes=2**20, times=1),
]
LIMITED = Fault(action="respond", status=429, body=ECHO, times=1)
MODELS = [model.slug for model in load_catalogue().models()]
FAILS = Fault(action="outcome", outcome="FAILED", message=f"refused {PROMPT} of {KEY}", on=("submit",), times=1)
AT_POLLS = [
    fault.model_copy(update={"on": (way,), "model": model})
    for way, first in (("status", 0), ("result", 7))
    for fault, model in zip([*ANSWERED, LIMITED][first:], MODELS, strict=False)
]
"""Each with a model of its own: a call takes all faults that fit it, and shows the first."""


@asynccontextmanager
async def canaries(redis_url: str, directory: Path, receiver: RawUpstream) -> AsyncIterator[Fleet]:
    """Run a fleet whose every secret is known, with faults of its own, and a webhook for the tenant."""
    async with fleet_on(redis_url, directory, time_scale=TIME_SCALE, balance=Decimal(BALANCE)) as fleet:
        policy = TenantPolicy(
            TENANT, submit=UNLIMITED, read=UNLIMITED, concurrent_jobs=1000, webhook_hosts=(host_of(receiver),)
        )
        await fleet.store.tenants.put(policy)
        fleet.env |= {
            "GATEWAY_ENV": "test",
            "GATEWAY_FAULT": STRIKES,
            "GATEWAY_UPSTREAM_READ_TIMEOUT_SECONDS": "1",
            "GATEWAY_UPSTREAM_SYNC_TIMEOUT_SECONDS": "1",
            "GATEWAY_WEBHOOK_ALLOW_PRIVATE": "true",
            "GATEWAY_LOG_LEVEL": "debug",
        }
        yield fleet


class Caller:
    """Makes calls and keeps what was answered, every byte of it."""

    def __init__(self, fleet: Fleet, member: Member, receiver: RawUpstream) -> None:
        self._fleet = fleet
        self._url = member.url
        self._hook = f"{receiver.url}/hook"
        self.told = ""
        self.statuses: set[int] = set()

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response | None:
        """Make one call; None where the connection broke."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            answer = await self._fleet.http.request(method, f"{self._url}{path}", json=body, headers=named)
        except httpx.TransportError:
            return None
        self.statuses.add(answer.status_code)
        self.told += f"{answer.status_code} {answer.headers.raw} {answer.text}"
        return answer

    async def start(self) -> None:
        """Start a job in every way at once."""
        await asyncio.gather(*(self.one(way) for way in WAYS))

    async def one(self, way: RouteKind) -> bool:
        """Start a job in one way, with a webhook, or upload an asset; tell whether it was taken."""
        path, body = WAYS[way]
        return await self._taken(path, body, x_webhook_url=self._hook)

    async def started(self, model: str) -> bool:
        """Start a job of a model; tell whether it was taken."""
        return await self._taken(f"/v2/{model}", {"prompt": PROMPT})

    async def _taken(self, path: str, body: object, **headers: str) -> bool:
        answer = await self.call("POST", path, body, **headers)
        return answer is not None and answer.is_success

    async def mistakes(self) -> None:
        """Make the mistakes that callers make."""
        for wrong in ({"prompt": [PROMPT]}, [PROMPT], {"image_url": f"file:///{PROMPT}"}, {PROMPT: PROMPT}):
            await self.call("POST", f"/v2/{KLING}", wrong)
        for key in (MISUSED, KEY, f"sgw_{TENANT}_k1_{MISUSED}"):
            await self.call("POST", f"/v2/{key}", {"prompt": PROMPT}, x_api_key=key)
            await self.call("GET", f"/v2/requests/{key}?x-api-key={key}", x_api_key=key)
            await self.call("GET", f"/{key}", authorization=f"Bearer {key}", traceparent=key, x_gateway_labels=key)

    async def reads(self) -> None:
        """Read everything that can be read."""
        listed = await self.call("GET", "/v2/requests?limit=100")
        assert listed is not None
        ids = [job["request_id"] for job in listed.json()["requests"]]
        for job_id in ids:
            await self.call("GET", f"/v2/requests/{job_id}")
            await self.call("GET", f"/v2/requests/{job_id}/status")
        await self.call("GET", "/v1/get-user-credits")
        await self.call("GET", "/v1/models")


@pytest.mark.timeout(300)
async def test_no_secret_leaves_the_process(redis_url: str, tmp_path: Path) -> None:
    """Log, metrics, traces, answers and webhooks of a process to which everything happens hold no key, nor a prompt."""
    async with (
        receiving(takes) as receiver,
        receiving_traces() as traces,
        canaries(redis_url, tmp_path, receiver) as fleet,
    ):
        fleet.env |= traces.env()
        member = await fleet.start()
        board, caller = fleet.vendor.sandbox.faults, Caller(fleet, member, receiver)
        for _ in range(6):  # the faults of the process itself
            await caller.start()
        board.replace([FAILS])
        await eventually(lambda: caller.one("submit"), WITHIN_S)
        board.replace(AT_POLLS)
        await asyncio.gather(*(eventually(partial(caller.started, model), WITHIN_S) for model in MODELS))
        await caller.mistakes()
        await eventually(lambda: _met(fleet, member, receiver), WITHIN_S)
        await eventually(lambda: caller.one("submit"), WITHIN_S)  # the limit that a poll has met is over
        for fault in [*ANSWERED, LIMITED]:  # the limit last: no job is sent for a while after it
            for way in WAYS:
                board.replace([fault.model_copy(update={"on": (way,)})])
                await caller.one(way)
                board.replace([])
                await caller.one("submit")  # lest a breaker opens, and nothing goes out any more
        assert any(line.get("upstream_status") == LIMITED.status for line in member.lines())
        await caller.reads()
        metrics = (await fleet.http.get(f"{member.ops_url}/metrics")).text
        webhook_secret = (await fleet.store.deliveries.secret(TENANT)).reveal().removeprefix("whsec_")
        await traces.first("GET /v1/models")
        spans = b"".join(span.SerializeToString() for span in traces.spans).decode("latin-1")
        sent = b"".join(message.body + str(message.headers).encode() for message in receiver.requests).decode()
    log = member.log.read_text()
    assert len(caller.statuses) > 8
    assert '"job.unknown"' in log
    secrets = {KEY, fleet.key.rpartition("_")[2], webhook_secret, "777.1", MISUSED}
    texts = {"log": log, "metrics": metrics, "traces": spans, "answers": caller.told, "webhooks": sent}
    for where, text in texts.items():
        assert [secret for secret in secrets if secret in text] == [], where
    assert PROMPT not in log + metrics + spans
    assert [line for line in log.splitlines() if line and not line.startswith(("{", "watchdog:"))] == []


async def _met(fleet: Fleet, member: Member, receiver: RawUpstream) -> bool:
    """Tell whether the faults struck, and what follows them was seen: tracebacks, failed jobs, webhooks."""
    events = {line["event"] for line in member.lines()}
    failed = any(line.get("state") == "FAILED" for line in member.lines())
    wanted = {"http.internal_error", "tracker.failed", "webhook.delivery"}
    left = fleet.vendor.sandbox.faults.remaining()
    return wanted <= events and failed and not left and bool(receiver.requests)
