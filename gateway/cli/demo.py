"""``gateway demo``: one Kling job through the unmodified Segmind SDK, from submit to its cost, in a few seconds."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from threading import Event
from typing import Any, Final

import httpx
import typer
import uvloop

from gateway.cli.demo_view import DemoView
from gateway.cli.local import EXAMPLE, MODEL, local_gateway
from gateway.cli.output import EXIT_FAILED, EXIT_MISTAKE, failures, note
from gateway.config import Settings
from gateway.store.embedded import until_ended

app = typer.Typer()

TIME_SCALE: Final = 100.0
LIMIT_S: Final = 15.0
POLL_S: Final = 0.1
EXIT_INTERRUPTED: Final = 130
_NANO: Final = Decimal("1e-9")
_EXPECTED_CALLS: Final = frozenset({"submit", "status", "result"})


class Off(Exception):
    """Say what went otherwise than it should."""


@dataclass(frozen=True, slots=True)
class Run:
    """Drive one job with the SDK, from a thread of its own.

    Attributes:
        sdk: The ``segmind`` module.
        stop: Set when the demo is to end early.
    """

    sdk: Any
    url: str
    key: str
    view: DemoView
    stop: Event = field(default_factory=Event)

    def drive(self) -> None:
        """Submit, follow and fetch one job, showing each step.

        Raises:
            Off: Something was not as it should be.
        """
        before = self._credits()
        client = self.sdk.SegmindClient(api_key=self.key, base_url=f"{self.url}/v1")
        try:
            job = client.submit_async(MODEL, **EXAMPLE)
            self.view.submitted(job.request_id)
            self._follow(job)
            result = job.wait(timeout=LIMIT_S, interval=POLL_S)
        except (self.sdk.SegmindError, httpx.HTTPError) as exc:
            raise Off(f"the SDK raised {type(exc).__name__}: {exc}") from exc
        after = self._credits()
        cost = Decimal(str(result["metrics"]["cost"]))
        self.view.ended(output=result["output"], cost=cost, before=before, after=after)
        self._check(result, before - after - cost.quantize(_NANO, ROUND_HALF_UP))

    def _follow(self, job: Any) -> None:  # noqa: ANN401  the SDK is not there to be imported everywhere
        began = time.monotonic()
        state = job.submit_response["status"]
        self.view.state(state, 0.0)
        while state not in {"COMPLETED", "FAILED"}:
            passed = time.monotonic() - began
            if passed > LIMIT_S or self.stop.wait(POLL_S):
                raise Off(f"the job is still {state} after {passed:.0f} s")
            said = job.status()["status"]
            if said != state:
                self.view.state(said, time.monotonic() - began)
            state = said

    def _check(self, result: Mapping[str, Any], astray: Decimal) -> None:
        if result["status"] != "COMPLETED":
            raise Off(f"the job ended {result['status']}")
        if astray:
            raise Off(f"cost and budget differ by {astray} credits")
        output = httpx.get(result["output"], trust_env=False)
        if output.headers.get("content-type") != "video/mp4":
            raise Off(f"the output is {output.status_code} {output.headers.get('content-type')}, not a video")

    def _credits(self) -> Decimal:
        answer = httpx.get(f"{self.url}/v1/get-user-credits", headers={"x-api-key": self.key}, trust_env=False)
        if answer.is_error:
            raise Off(f"the budget can't be read: {answer.status_code} {answer.text}")
        left: Decimal = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)["credits"]
        return left


@app.command("demo")
def demo() -> None:
    """Run one Kling 2.6 Standard Motion Control job through the real Segmind SDK, on a gateway made for it.

    Shows each state, cost and budget, and the log lines of the upstream calls. Ends with 1 where anything is off.
    """
    sdk = _sdk()
    with failures():
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_demo(sdk, DemoView(sys.stdout)))
        except Off as exc:
            note(f"demo failed: {exc}")
            raise typer.Exit(EXIT_FAILED) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            note("ended early")
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _sdk() -> Any:  # noqa: ANN401  a module
    # The way is to this machine; the SDK would ask a proxy of the environment.
    os.environ["no_proxy"] = "*"
    try:
        return importlib.import_module("segmind")
    except ModuleNotFoundError:
        note("gateway demo drives the real Segmind SDK, which is not installed: pip install 'segmind-gateway[demo]'")
        raise typer.Exit(EXIT_MISTAKE) from None


async def _demo(sdk: Any, view: DemoView) -> None:  # noqa: ANN401  a module
    this = asyncio.current_task()
    if this is not None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job is born with SIGINT ignored
            asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    log = io.BytesIO()  # what the gateway logs, kept from among the demo's own words
    async with _own_place() as settings:
        async with local_gateway(settings, log, time_scale=TIME_SCALE) as local:
            view.begin(local.serving.url, local.sandbox_url, TIME_SCALE, sdk.__version__)
            await _drive(Run(sdk, local.serving.url, local.key.text.reveal(), view))
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        calls = [line for line in lines if line["event"] == "upstream.call"]
        view.calls(calls)
        _check_log(lines, calls)


@asynccontextmanager
async def _own_place() -> AsyncIterator[Settings]:
    """Give settings for free ports and a directory that is gone afterwards, once its store has ended."""
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as directory:
        try:
            yield Settings(data_dir=Path(directory), port=0, ops_port=0)
        finally:
            await until_ended(Path(directory))


async def _drive(run: Run) -> None:
    thread = asyncio.create_task(asyncio.to_thread(run.drive))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        run.stop.set()
        await asyncio.gather(thread, return_exceptions=True)
        raise


def _check_log(lines: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
    missing = _EXPECTED_CALLS - {call["operation"] for call in calls}
    if missing:
        raise Off(f"no log line of {', '.join(sorted(missing))}")
    errors = [line for line in lines if line["level"] == "error"]
    if errors:
        raise Off(f"the gateway logged {errors[0]['event']}: {errors[0].get('detail', '')}")
