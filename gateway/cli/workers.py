"""Several processes of one data plane behind one port: started, watched, replaced and ended by this one.

Each worker is a new interpreter (``gateway worker``, not a fork) that accepts from the listening socket which it
inherits: a connection that none has accepted yet is lost with none of them. A socket pair ties it to the supervisor: on
it the worker says where its metrics are and, every second, that its event loop turns: one that hangs is killed, since
all that it had in hand is safe on record. By the link's end it learns that the supervisor is gone, and drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import BinaryIO, Final

import orjson
from structlog.typing import FilteringBoundLogger

from gateway import __version__
from gateway.cli.board import Board
from gateway.cli.listening import listen, ops_port
from gateway.config import Settings
from gateway.store.embedded import embedded_store
from gateway.telemetry.logs import configure_logs
from gateway.telemetry.pulse import LOOKS, Pulse
from gateway.telemetry.writer import LineWriter

FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
MOST_DOUBLINGS: Final = 16
NOT_BEGUN: Final = 71
"""For an exit code, where there was no process (EX_OSERR of sysexits.h)."""
STEADY_S: Final = 10.0
"""A worker that ran for so long is replaced at once."""
LOOK_S: Final = 1.0
END_GRACE_S: Final = 10.0
"""Longer than the drain time: a worker that has not ended by then is killed."""


class Supervisor:
    """Keeps a number of workers running.

    Args:
        settings: What they are started with, by the environment; of them, how many and how long they may drain.
        listener: What they accept from.
        board: Told who lives.
        logger: Told who was replaced.
        looks: See `Pulse`.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        board: Board,
        logger: FilteringBoundLogger,
        looks: int = LOOKS,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._board = board
        self._logger = logger
        self._looks = looks
        self._stop = asyncio.Event()
        self._failed = 0
        self._told = False

    async def run(self, started: Callable[[], None]) -> int:
        """Run until `stop`, then end the workers; return the exit code.

        Args:
            started: Called once every worker has.
        """
        keepers = [asyncio.create_task(self._keep(number, started)) for number in range(self._settings.workers)]
        look = asyncio.create_task(self._look())
        codes = await asyncio.gather(*keepers)
        look.cancel()
        return self._failed or max(codes)

    def stop(self) -> None:
        """Let the workers drain and end."""
        self._board.drain()
        self._listener.close()  # theirs are open until they have drained; what comes after that is refused
        self._stop.set()

    async def _keep(self, number: int, started: Callable[[], None]) -> int:
        """Run one worker, and another when it dies; return the last one's exit code."""
        pauses, loop, logger = 0, asyncio.get_running_loop(), self._logger
        while True:
            began = loop.time()
            try:
                code = await self._run(number, started)
            except OSError as exc:  # no process, descriptor or memory to be had now: the other workers go on
                logger.error("worker.not_begun", worker=number, error=str(exc))  # noqa: TRY400 no traceback helps
                code = NOT_BEGUN
            if self._stop.is_set():
                return code
            if not self._board.has_started:  # a mistake in the settings or the store, which another start won't mend
                self._failed = code or 1
                self.stop()
                return code
            pauses = 0 if loop.time() - began > STEADY_S else pauses + 1
            rest_s = pause_s(pauses)
            logger.error("worker.died", worker=number, code=code, again_in_s=rest_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), rest_s)
            if self._stop.is_set():
                return 0

    async def _run(self, number: int, started: Callable[[], None]) -> int:
        """Run one worker to its end; return its exit code, negative for a signal."""
        pulse, logger = Pulse(self._looks), self._logger
        async with _worker(self._listener) as (process, link):
            told = asyncio.create_task(self._hear(number, link, pulse, started))
            ended, stopping = asyncio.create_task(process.wait()), asyncio.create_task(self._stop.wait())
            hangs = asyncio.create_task(pulse.silence())
            await asyncio.wait({ended, stopping, hangs}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            hangs.cancel()
            if self._stop.is_set() and not ended.done():
                process.terminate()
                await asyncio.wait({ended}, timeout=self._settings.drain_seconds + END_GRACE_S)
            elif not ended.done():
                logger.error("worker.hung", worker=number, pid=process.pid)
            told.cancel()
        self._board.ended(number)
        return await ended

    async def _hear(self, number: int, link: asyncio.StreamReader, pulse: Pulse, started: Callable[[], None]) -> None:
        """Take a worker's lines: empty ones are its pulse."""
        async for line in link:
            pulse.beat()
            if line.strip():
                self._board.started(number, orjson.loads(line)["ops_port"])
            if self._board.all_started and not self._told:
                self._told = True
                started()

    async def _look(self) -> None:
        """Read the workers' figures now and then: of one that is killed, those of the last second are lost."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self._board.look)


def pause_s(deaths: int) -> float:
    """Return the seconds after which a worker that died so often in a row is begun again."""
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(deaths, MOST_DOUBLINGS))


@asynccontextmanager
async def _worker(listener: socket.socket) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """Run a worker; killed with the block, at the latest."""
    ours, theirs = socket.socketpair()
    with ExitStack() as stack, theirs:
        stack.callback(ours.close)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "worker"),
            *("--listener", str(listener.fileno()), "--link", str(theirs.fileno())),
            pass_fds=[listener.fileno(), theirs.fileno()],
        )
        stack.pop_all()
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield process, reader
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        writer.close()


async def supervise(settings: Settings, stdout: BinaryIO) -> int:
    """Run ``GATEWAY_WORKERS`` workers until SIGTERM or SIGINT; return the exit code.

    Raises:
        ConfigError: A port is taken.
        StoreUnavailable: The embedded store did not start.
    """
    async with AsyncExitStack() as stack:
        if settings.redis_url is None:
            await stack.enter_async_context(embedded_store(settings.data_dir))
        lines = LineWriter(stdout, dropped=lambda _: None)
        stack.callback(lines.close)
        logger = configure_logs(lines, settings.log_level, terminal=stdout.isatty())
        listener, url = listen(settings)
        stack.callback(listener.close)
        board = Board(settings.workers)
        ops = await stack.enter_async_context(ops_port(settings.host, settings.ops_port, board, board))
        supervisor = Supervisor(settings, listener, board, logger)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)

        def started() -> None:
            logger.info("gateway.started", url=url, ops_port=ops.port, pid=os.getpid(), version=__version__)

        return await supervisor.run(started)
