"""``gateway load``: the load generator of the benchmarks."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, urlsplit

import typer
import uvloop

from gateway.cli.closed_loop import Plan, Report, request_bytes, run
from gateway.cli.open_loop import OpenPlan, run_open
from gateway.cli.output import EXIT_FAILED, failures, result, result_json
from gateway.errors import ConfigError

app = typer.Typer()

DURATION_S: Final = 10.0
MAX_DURATION_S: Final = 3600.0
MAX_COUNT: Final = 10_000_000
MAX_CONNECTIONS: Final = 4096
MAX_RATE: Final = 100_000.0
_PORTS: Final = {"http": 80, "https": 443}


@app.command("load")
def load(
    url: Annotated[str, typer.Argument(metavar="URL", help="What to ask for, e.g. http://127.0.0.1:8080/v1/models")],
    *,
    key: Annotated[str | None, typer.Option(help="API key of a tenant.")] = None,
    body: Annotated[str | None, typer.Option(help="JSON to POST; without it, a GET. Jobs are paid for.")] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME:VALUE", help="A header; repeatable.")] = None,
    connections: Annotated[int, typer.Option("--connections", "-c", min=1, max=MAX_CONNECTIONS)] = 32,
    duration: Annotated[
        float | None, typer.Option("--duration", "-d", min=0.01, max=MAX_DURATION_S, help="Seconds; default 10.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, max=MAX_COUNT, help="Requests in all.")] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, max=MAX_RATE, help="Requests a second, come what may; --connections then bounds them."),
    ] = None,
    think: Annotated[float, typer.Option(min=0, max=60_000, help="Pause after each answer, milliseconds.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds that an answer may take.")] = 30,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Load a host other than this one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Ask one thing over and over, each connection as soon as it has its answer, and report rate and latency.

    With --rate requests come that often, whether or not the earlier ones were answered: an overload stays one.

    Ends with 1 where nothing was answered.
    """
    with failures():
        target = _target(url, allow_remote=allow_remote)
        request = _request(target, key, body, header or [])
        if rate is not None and (count is not None or think):
            raise ConfigError("--rate goes with --duration alone: neither --count nor --think")
        aim: dict[str, Any] = {
            "host": target.hostname or "",
            "port": target.port or _PORTS[target.scheme],
            "requests": [request],
            "connections": connections if count is None else min(connections, count),
            "timeout_s": timeout,
            "tls": target.scheme == "https",
        }
        duration = DURATION_S if duration is None and count is None else duration
    report = _report(aim, rate=rate, duration_s=duration, count=count, think_s=think / 1000)
    if as_json:
        result_json(report.figures())
    else:
        result(line(report))
    if not report.requests:
        raise typer.Exit(EXIT_FAILED)


def _report(
    aim: dict[str, Any], *, rate: float | None, duration_s: float | None, count: int | None, think_s: float
) -> Report:
    if rate is not None:
        return uvloop.run(run_open(OpenPlan(**aim, rate=rate, duration_s=duration_s or DURATION_S)))
    return uvloop.run(run(Plan(**aim, duration_s=duration_s, count=count, think_s=think_s)))


def line(report: Report) -> str:
    """Say in one line what came of a plan."""
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(report.statuses.items())) or "no answers"
    return (
        f"{report.requests} requests in {report.seconds:.1f} s: {report.per_second:.0f} requests/s, "
        f"mean {report.mean_ms:.2f} ms, p50 {report.quantile_ms(0.5):.2f} ms, p99 {report.quantile_ms(0.99):.2f} ms; "
        f"{statuses}; {report.failed} failed"
    )


def _target(url: str, *, allow_remote: bool) -> SplitResult:
    try:
        target = urlsplit(url)
        host, _ = target.hostname, target.port
    except ValueError:
        raise ConfigError(f"{url}: not a URL") from None
    if target.scheme not in _PORTS or not host or "@" in target.netloc:
        raise ConfigError(f"{url}: must be a URL like http://127.0.0.1:8080/v1/models, without a user name")
    if not allow_remote and not _is_loopback(host):
        raise ConfigError(f"{host} is not this machine; --allow-remote loads it all the same")
    return target


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _request(target: SplitResult, key: str | None, body: str | None, given: list[str]) -> bytes:
    headers = {"user-agent": "gateway-load"}
    if key is not None:
        headers["x-api-key"] = key
    if body is not None:
        headers["content-type"] = "application/json"
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"--header {text!r}: must be NAME:VALUE")
        headers[name.strip().lower()] = value.strip()
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    method = "GET" if body is None else "POST"
    try:
        return request_bytes(target.netloc, path, method=method, headers=headers, body=(body or "").encode())
    except ValueError as exc:
        raise ConfigError(str(exc)) from None
