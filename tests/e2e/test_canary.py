"""Canaries through a real process: no byte that it writes, serves or sends on holds a secret, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx
from support.fleet import Fleet, Member, fleet_on
from support.gateway import TENANT, eventually
from support.ports import UNLIMITED
from support.raw_upstream import RawUpstream
from support.receiver import host_of, receiving, takes
from support.vendor import KEY, KLING

from gateway.core.tenant import TenantPolicy
from gateway.sandbox import Fault

PROMPT = "canary-prompt-5b2f"
MISUSED = "canary-misused-key-9c1d"
BALANCE = "777.123456"
TIME_SCALE = 600.0
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
    *(Fault(action="respond", status=status, body=ECHO, times=1) for status in (400, 401, 403, 404, 406, 422, 429)),
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
AT_POLLS = [
    Fault(action="outcome", outcome="FAILED", message=f"refused {PROMPT} of {KEY}", on=("submit",), times=1),
    *(fault.model_copy(update={"on": ("status",)}) for fault in ANSWERED),
    *(fault.model_copy(update={"on": ("result",)}) for fault in ANSWERED[:12]),
    *(fault.model_copy(update={"on": ("history",)}) for fault in ANSWERED[:12]),
]


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
        body = {"prompt": PROMPT}
        await asyncio.gather(
            self.call("POST", f"/v2/{KLING}", body, x_webhook_url=self._hook),
            self.call("POST", "/v1/faceswap-v2", body),
            self.call("POST", "/workflows/v2/a-workflow", body),
            self.call("POST", "/upload-asset", {"data_urls": [f"data:text/plain,{PROMPT}"]}),
        )

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


async def test_no_secret_leaves_the_process(redis_url: str, tmp_path: Path) -> None:
    """Log, metrics, answers and webhooks of a process to which everything happens hold no key and no prompt."""
    async with receiving(takes) as receiver, canaries(redis_url, tmp_path, receiver) as fleet:
        member = await fleet.start()
        board, caller = fleet.vendor.sandbox.faults, Caller(fleet, member, receiver)
        for _ in range(6):  # the faults of the process itself
            await caller.start()
        for fault in ANSWERED:
            board.replace([fault.model_copy(update={"times": 4})])
            await caller.start()
        board.replace(AT_POLLS)
        for _ in range(8):
            await caller.start()
        await caller.mistakes()
        await eventually(lambda: _met(fleet, member, receiver))
        board.replace([])
        await caller.reads()
        metrics = (await fleet.http.get(f"{member.ops_url}/metrics")).text
        webhook_secret = (await fleet.store.deliveries.secret(TENANT)).reveal().removeprefix("whsec_")
        sent = b"".join(message.body + str(message.headers).encode() for message in receiver.requests).decode()
    log = member.log.read_text()
    assert len(caller.statuses) > 8
    secrets = {KEY, fleet.key.rpartition("_")[2], webhook_secret, "777.1", MISUSED}
    for where, text in {"log": log, "metrics": metrics, "answers": caller.told, "webhooks": sent}.items():
        assert [secret for secret in secrets if secret in text] == [], where
    assert PROMPT not in log + metrics
    assert [line for line in log.splitlines() if line and not line.startswith(("{", "watchdog:"))] == []


async def _met(fleet: Fleet, member: Member, receiver: RawUpstream) -> bool:
    """Tell whether the faults struck, and what follows them was seen: tracebacks, failed jobs, webhooks."""
    events = {line["event"] for line in member.lines()}
    failed = any(line.get("state") == "FAILED" for line in member.lines())
    wanted = {"http.internal_error", "tracker.failed", "job.unknown", "webhook.delivery", "upstream.auth_failed"}
    polls = [fault for fault in fleet.vendor.sandbox.faults.remaining() if fault.on == ("status",)]
    return wanted <= events and failed and not polls and bool(receiver.requests)
