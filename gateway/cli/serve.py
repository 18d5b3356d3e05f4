"""``gateway serve``: the data plane, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import select
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Final

import orjson
import typer
import uvicorn
import uvloop
from structlog.typing import FilteringBoundLogger

from gateway import __version__
from gateway.app import DataPlane, data_plane, shipped_rules
from gateway.cli.config import note_pointless
from gateway.cli.listening import BACKLOG, accepts, listen, ops_port, url_of
from gateway.cli.output import EXIT_FAILED, failures
from gateway.cli.store import SANDBOX_MARK
from gateway.cli.tracing import tracing_from
from gateway.cli.workers import supervise
from gateway.config import Settings
from gateway.errors import ConfigError
from gateway.telemetry.logs import LogSink, configure_logs
from gateway.telemetry.metrics import Metrics, MetricsSink
from gateway.telemetry.pulse import LOOKS, beating
from gateway.telemetry.readiness import Readiness
from gateway.telemetry.sinks import fan_out
from gateway.telemetry.tracing import UNTRACED, Tracing
from gateway.telemetry.writer import LineWriter
from gateway.web.protocol import StrictProtocol

STDOUT = 1
LOOPBACK: Final = "127.0.0.1"
KEEP_ALIVE_S = 75
NOTICE_S = 1.0
"""After SIGTERM connections are still taken for so long, where there are any: each ends with its next answer, and a
balancer sees in time that the process is not ready. A connection that is closed idle can cross with a request."""
NOTICE_POLL_S = 0.02
GC_THRESHOLDS = (50_000, 50, 50)
"""Fewer collections: after start nearly all garbage of a request is freed by reference counts (measured: -26 us)."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Reach a data plane that runs in this process.

    Attributes:
        url: Of the tenant API; `ops_url` of metrics and health.
    """

    url: str
    ops_url: str
    readiness: Readiness
    ops_port: int


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which ends the process by the signal itself: ours exits 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve`."""
        yield


@asynccontextmanager
async def serving(
    settings: Settings,
    stream: BinaryIO,
    given: socket.socket | None = None,
    *,
    tracing: Tracing = UNTRACED,
    looks: int = LOOKS,
) -> AsyncIterator[Serving]:
    """Run the data plane in this event loop while the block runs; then drain it.

    Args:
        settings: Ports of 0 are free ones.
        stream: Takes the log lines; best unbuffered.
        given: Listens already, for several workers; the ops port is then one for their supervisor alone.
        tracing: From `gateway.cli.tracing.tracing_from`; closed with the block.
        looks: See `Pulse`.

    Raises:
        ConfigError: A port is taken, or the settings can't work.
        StoreError: The store can't be used.
    """
    async with AsyncExitStack() as stack:
        metrics, rules = Metrics(version=__version__), shipped_rules()
        batch_bytes = None if given is None else select.PIPE_BUF  # what the kernel does not mix with others' lines
        lines = LineWriter(stream, dropped=metrics.count_dropped_lines, batch_bytes=batch_bytes)
        stack.callback(lines.close)
        stack.callback(tracing.close)
        logger = configure_logs(lines, settings.log_level, terminal=stream.isatty())
        sinks = LogSink(logger, None if stream.isatty() else lines), MetricsSink(metrics, known_model=rules.knows)
        sink = tracing.told(fan_out(*sinks, failed=metrics.count_sink_failure))

        listener, url = listen(settings) if given is None else (given, url_of(given))
        readiness = Readiness(store="not checked yet")
        metrics.follow(readiness)
        host = settings.host if given is None else LOOPBACK
        ops = await stack.enter_async_context(ops_port(host, settings.ops_port, metrics, readiness, looks))
        opening = data_plane(settings, rules, sink, metrics, readiness=readiness, tracing=tracing)
        plane = await stack.enter_async_context(opening)
        server = None
        if accepts(settings):
            server = await stack.enter_async_context(_accepting(plane, listener, settings.drain_seconds))
        _announce(logger, url, ops.port, alone=given is None)
        try:
            yield Serving(url, f"http://{settings.host}:{ops.port}", readiness, ops.port)
        finally:
            readiness.block("draining", "the process is shutting down")
            plane.drain()
            logger.info("gateway.draining")
            if server is not None:
                await _noticed(server, listener, min(NOTICE_S, settings.drain_seconds / 2))


def _announce(logger: FilteringBoundLogger, url: str, ops_port: int, *, alone: bool) -> None:
    if alone:
        logger.info("gateway.started", url=url, ops_port=ops_port, pid=os.getpid(), version=__version__)
    else:
        logger.info("worker.started", pid=os.getpid())


@asynccontextmanager
async def _accepting(plane: DataPlane, listener: socket.socket, drain_s: float) -> AsyncIterator[uvicorn.Server]:
    """Take requests while the block runs, then finish those in hand."""
    server = _Server(
        uvicorn.Config(
            plane.app,
            http=StrictProtocol.behind(plane.gate),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(drain_s - NOTICE_S)),
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield server
    finally:
        server.should_exit = True
        await task


async def _noticed(server: uvicorn.Server, listener: socket.socket, within_s: float) -> None:
    """Wait until no connection is open, for a while; then take those that the kernel has taken, and no others."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while server.server_state.connections:  # noqa: ASYNC110  uvicorn's own, which wakes nobody
                await asyncio.sleep(NOTICE_POLL_S)
    listener.listen(0)
    await asyncio.sleep(NOTICE_POLL_S)


async def until_signalled() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _settle_down() -> None:
    """Leave out of garbage collections what is there to stay, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _serve(settings: Settings, stdout: BinaryIO) -> int:
    async with serving(settings, stdout, tracing=tracing_from(os.environ)):
        _settle_down()
        await until_signalled()
    return 0


async def _work(settings: Settings, stdout: BinaryIO, listener: socket.socket, link: socket.socket) -> int:
    own = settings.model_copy(update={"ops_port": 0})
    reader, writer = await asyncio.open_connection(sock=link)
    tracing = tracing_from(os.environ)
    with contextlib.closing(writer):  # to the end of the drain: it must not look as if it hung
        async with beating(lambda: _beat(writer)), serving(own, stdout, listener, tracing=tracing) as served:
            _settle_down()
            writer.write(orjson.dumps({"ops_port": served.ops_port}) + b"\n")
            await _either(until_signalled(), reader.read())
    return 0


def _beat(link: asyncio.StreamWriter) -> None:
    """Say by an empty line that this loop turns; a supervisor that is stopped, or gone, has enough of them."""
    if not link.is_closing() and not link.transport.get_write_buffer_size():
        link.write(b"\n")


async def _either(*ends: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.create_task(end) for end in ends]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _refuse_sandbox(settings: Settings) -> None:
    """Refuse the ledger of `gateway dev`: asked about the sandbox's jobs, the vendor would know none of them."""
    if settings.redis_url is None and (settings.data_dir / SANDBOX_MARK).exists():
        raise ConfigError(
            f"GATEWAY_DATA_DIR: {settings.data_dir} is `gateway dev`'s, its jobs ran on a sandbox; name another one"
        )


def serve() -> None:
    """Run the data plane: tenant API (GATEWAY_PORT) and tracker; metrics and health on GATEWAY_OPS_PORT."""
    with failures():
        settings = Settings.from_env(os.environ)
        note_pointless(os.environ)
        _refuse_sandbox(settings)
        _run(supervise if settings.workers > 1 else _serve, settings)


def worker(listener: Annotated[int, typer.Option()], link: Annotated[int, typer.Option()]) -> None:
    """Run one of several workers; started by `gateway serve`, which hands it its sockets."""
    with failures(), socket.socket(fileno=listener) as shared, socket.socket(fileno=link) as tie:
        _run(lambda settings, stdout: _work(settings, stdout, shared, tie), Settings.from_env(os.environ))


def _run(work: Callable[[Settings, BinaryIO], Coroutine[Any, Any, int]], settings: Settings) -> None:
    stdout = open(STDOUT, "wb", buffering=0, closefd=False)  # noqa: SIM115 it stays the process's own
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual 1,024 are fewer than the connections we take
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.suppress(KeyboardInterrupt):
        if code := runner.run(work(settings, stdout)):
            raise typer.Exit(code if code > 0 else EXIT_FAILED)
