"""``gateway dev``: a whole gateway on this machine, against the sandbox, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Annotated, BinaryIO, Final

import typer
import uvloop

from gateway.cli.local import EXAMPLE, MODEL, TENANT, LocalGateway, free_or_any, local_gateway
from gateway.cli.output import failures, note
from gateway.cli.serve import STDOUT, until_signalled
from gateway.config import Settings
from gateway.core.credits import format_credits

app = typer.Typer()

TIME_SCALE: Final = 60.0
_NOT_OURS: Final = (
    "GATEWAY_REDIS_URL",
    "GATEWAY_UPSTREAM_URL",
    "SEGMIND_API_KEY",
    "SEGMIND_API_KEY_FILE",
    "GATEWAY_WORKERS",
)

_GUIDE: Final = """\

Segmind Gateway, a trial on this machine: nothing is billed, a Kling job takes about {job_s:.0f} s. Ctrl-C ends it.

  tenant API  {url}
  metrics     {ops_url}/metrics  (and /healthz, /readyz)
  sandbox     {sandbox_url}  the fake Segmind, {scale:g} x real time (knobs: {sandbox_url}/_sandbox/knobs)
  data        {data_dir}  goes on here next time
  tenant      {tenant}, {budget} credits a month
  API key     {key}

Submit a job, then ask for its status and its result:

  KEY={key}
  JOB=$(curl -sS {url}/v2/{model} -H "x-api-key: $KEY" -H 'content-type: application/json' \\
    -d '{example}' | sed 's/.*"request_id":"\\([^"]*\\)".*/\\1/')
  curl -sS {url}/v2/requests/$JOB/status -H "x-api-key: $KEY"; echo
  curl -sS {url}/v2/requests/$JOB -H "x-api-key: $KEY"; echo
  curl -sS {url}/v1/get-user-credits -H "x-api-key: $KEY"; echo

The same with the unmodified Segmind SDK (pip install segmind):

  from segmind import SegmindClient
  client = SegmindClient(api_key="{key}", base_url="{url}/v1")
  result = client.submit_async("{model}", prompt="cat and dog are dancing.").wait(timeout=900, interval=2.0)
  print(result["status"], result["output"])
"""
_SLOWEST_S: Final = 608.0


@app.command("dev")
def dev(
    time_scale: Annotated[
        float, typer.Option(min=1, max=1000, help="How many times faster than the vendor jobs run.")
    ] = TIME_SCALE,
) -> None:
    """Run a whole gateway for trials: embedded store, fake Segmind, tenant API, and a tenant with a key.

    Its data stays in GATEWAY_DATA_DIR. GATEWAY_PORT and GATEWAY_OPS_PORT give way to free ports where they are taken.
    """
    with failures():
        ours = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        for name in _NOT_OURS:
            if os.environ.get(name):
                note(f"{name} is left out of account: `gateway dev` is one process on its own store and upstream")
        settings = _on_free_ports(Settings.from_env(ours))
        stdout = open(STDOUT, "wb", buffering=0, closefd=False)  # noqa: SIM115  it stays the process's own
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.suppress(KeyboardInterrupt):
            runner.run(_dev(settings, stdout, time_scale))


def _on_free_ports(settings: Settings) -> Settings:
    found = {name: free_or_any(settings.host, getattr(settings, name)) for name in ("port", "ops_port")}
    for name, port in found.items():
        if port != getattr(settings, name):
            note(f"port {getattr(settings, name)} (GATEWAY_{name.upper()}) is taken: a free one is used instead")
    return settings.model_copy(update=found)


async def _dev(settings: Settings, stdout: BinaryIO, time_scale: float) -> None:
    async with local_gateway(settings, stdout, time_scale=time_scale) as local:
        print(_guide(local, settings, time_scale), flush=True)
        await until_signalled()


def _guide(local: LocalGateway, settings: Settings, time_scale: float) -> str:
    return _GUIDE.format(
        job_s=_SLOWEST_S / time_scale,
        url=local.serving.url,
        ops_url=local.serving.ops_url,
        sandbox_url=local.sandbox_url,
        scale=time_scale,
        data_dir=settings.data_dir.resolve(),
        tenant=TENANT.id,
        budget=format_credits(TENANT.budgets["month"]),
        key=local.key.text.reveal(),
        model=MODEL,
        example=json.dumps(EXAMPLE),
    )
