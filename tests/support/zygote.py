"""Real processes at a tenth of the price: one process imports the gateway once and forks each of them from there.

Starting Python and importing the gateway takes about a second of CPU; a fork takes a few milliseconds, and what comes
after it is the same: `gateway serve` reads its environment, opens its store and dies by a signal of its own. The
children die with the zygote, and the zygote with the test process.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import select
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.cli.serve import serve
from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import serve as serve_sandbox

PR_SET_PDEATHSIG: Final = 1
BUFFER_BYTES: Final = 65536
START_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process; ``ended`` is its exit status, negative for the signal that ended it."""

    pid: int
    log: Path
    ended: asyncio.Future[int]

    async def end(self) -> int:
        """Wait for its end; fail if it lives on."""
        async with asyncio.timeout(END_TIMEOUT_S):
            return await self.ended

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if not self.ended.done():
            os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        await self.end()

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged so far, in whole lines."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


@dataclass(slots=True)
class Zygote:
    """The process that forks."""

    process: Process
    _pids: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    _ended: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def gateway(self, env: Mapping[str, str], log: Path) -> Child:
        """Fork a process that runs ``gateway serve`` in this environment."""
        return await self._fork({"log": str(log), "gateway": dict(env)})

    async def sandbox(self, settings: Mapping[str, Any], log: Path) -> Child:
        """Fork a process that runs a sandbox; it writes where it listens to its log."""
        return await self._fork({"log": str(log), "sandbox": dict(settings)})

    async def _fork(self, wanted: Mapping[str, Any]) -> Child:
        assert self.process.stdin is not None
        log = Path(wanted["log"])
        log.touch()  # noqa: ASYNC240 a file of this test
        async with self._one, asyncio.timeout(START_TIMEOUT_S):
            self.process.stdin.write(json.dumps(wanted).encode() + b"\n")
            pid = await self._pids.get()
        return Child(pid, log, self._future(pid))

    async def listen(self) -> None:
        """Hear of forks and ends, until the zygote's own."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            if "ended" in said:
                self._future(said["pid"]).set_result(said["ended"])
            else:
                self._pids.put_nowait(said["pid"])

    def _future(self, pid: int) -> asyncio.Future[int]:
        return self._ended.setdefault(pid, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def zygote() -> AsyncIterator[Zygote]:
    """Run a zygote until the block ends, and its children no longer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "support.zygote"),
        stdin=PIPE,
        stdout=PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])},
        start_new_session=True,
    )
    ready = Zygote(process)
    listening = asyncio.create_task(ready.listen())
    try:
        yield ready
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listening


def _main() -> None:
    """Fork what each line of standard input asks for, until it ends; tell of each fork, and of each end."""
    gc.freeze()
    poll, children = select.poll(), dict[int, int]()
    poll.register(0, select.POLLIN)
    waiting = b""
    while True:
        for fd, _ in poll.poll():
            if fd != 0:
                poll.unregister(fd)
                pid = children.pop(fd)
                _tell(pid=pid, ended=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(fd)
                continue
            chunk = os.read(0, BUFFER_BYTES)
            if not chunk:
                return
            *whole, waiting = (waiting + chunk).split(b"\n")
            for line in whole:
                pid = _fork(json.loads(line))
                watch = os.pidfd_open(pid)
                children[watch] = pid
                poll.register(watch, select.POLLIN)
                _tell(pid=pid)


def _fork(wanted: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        output = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(fd, target)
        os.closerange(3, BUFFER_BYTES)
        _runs(wanted)()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 a child must never go on as its parent
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code)


def _runs(wanted: Mapping[str, Any]) -> Callable[[], None]:
    if "gateway" in wanted:
        os.environ.clear()
        os.environ.update(wanted["gateway"])
        return serve
    settings = dict(wanted["sandbox"])
    record = settings.pop("record_path", None)
    keys = tuple(settings.pop("api_keys"))
    return lambda: serve_sandbox(
        SandboxSettings(api_keys=keys, record_path=record and Path(record), **settings), announce=_announce
    )


def _announce(url: str) -> None:
    _tell(url=url)


def _tell(**said: object) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    _main()
