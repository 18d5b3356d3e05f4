"""``gateway sandbox``: the fake Segmind alone."""

from __future__ import annotations

import contextlib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import failures
from gateway.errors import ConfigError
from gateway.sandbox.server import serve
from gateway.sandbox.settings import SandboxSettings

app = typer.Typer()

PORT = 8081
API_KEY = "SG_5a4db0c5e9000001"

_WELCOME = """\
Fake Segmind on {url}, {scale:g} x real time, seed {seed}. Nothing here is billed. Ctrl-C ends it.

The gateway against it:
  SEGMIND_API_KEY={key} GATEWAY_UPSTREAM_URL={url} GATEWAY_STORAGE_URL={url} GATEWAY_HISTORY_URL={url} gateway serve

Or by itself:
  curl -sS {url}/v2/kling-2.6-standard-motion-control -H 'x-api-key: {key}' \\
    -H 'content-type: application/json' -d '{{"prompt": "cat and dog are dancing."}}'

Knobs, while it runs: lose the answer to the next submit; back to normal; what was accepted, and what was called:
  curl -sS -X PATCH {url}/_sandbox/knobs \
    -d '{{"add_faults": [{{"action": "drop", "on": ["submit"], "after": true, "times": 1}}]}}'
  curl -sS -X POST {url}/_sandbox/reset
  curl -sS {url}/_sandbox/accepted
  curl -sS {url}/_sandbox/calls
Actions: delay drop hang respond echo_key truncate no_id headers body cost outcome regress not_found
Also: balance rate_limit_rpm failure_rate history_delay_s team_limit_reached"""


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter("not a number of credits") from None


@app.command("sandbox")
def sandbox(  # noqa: PLR0917  options of a command line have names
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = PORT,
    seed: Annotated[int, typer.Option(help="Fixes costs, latencies and outcomes.")] = 1,
    time_scale: Annotated[float, typer.Option(help="How many times faster than the vendor jobs run.")] = 60.0,
    api_key: Annotated[list[str] | None, typer.Option(help="A key it accepts (SG_ and 16 hex); repeatable.")] = None,
    balance: Annotated[
        Decimal, typer.Option(parser=_amount, metavar="CREDITS", help="Credits of the account at the start.")
    ] = "1000",  # type: ignore[assignment]  # typer parses the default as it would the option
    failure_rate: Annotated[float, typer.Option(help="Share of jobs that end FAILED, 0 to 1.")] = 0.0,
    rate_limit_rpm: Annotated[int | None, typer.Option(help="Submits a minute; default: no limit.")] = None,
    history_delay: Annotated[float, typer.Option(metavar="SECONDS", help="Until a job shows in the history.")] = 0.0,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append each accepted job to a file, synced, before it answers.")
    ] = None,
) -> None:
    """Run the fake Segmind alone: the real routes, states and errors, and faults on demand."""
    with failures():
        settings = _settings(
            api_keys=tuple(api_key or [API_KEY]),
            seed=seed,
            time_scale=time_scale,
            balance=balance,
            failure_rate=failure_rate,
            rate_limit_rpm=rate_limit_rpm,
            history_delay_s=history_delay,
            record_path=record,
        )
        try:
            with contextlib.suppress(KeyboardInterrupt):
                serve(settings, host, port, announce=lambda url: _welcome(url, settings))
        except OSError as exc:
            raise ConfigError(f"{exc.filename or f'{host} port {port}'}: {exc.strerror}") from exc


def _settings(**given: object) -> SandboxSettings:
    try:
        return SandboxSettings(**given)  # type: ignore[arg-type]  # the options' own types
    except ValueError as exc:
        raise ConfigError(str(exc)) from None


def _welcome(url: str, settings: SandboxSettings) -> None:
    text = _WELCOME.format(url=url, scale=settings.time_scale, seed=settings.seed, key=settings.api_keys[0])
    print(text, flush=True)  # a script that reads it waits for the URL
