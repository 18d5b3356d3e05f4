"""The processes of a benchmark, and what the kernel says that they cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from support.valkey import ends_with_us

START_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.02
LAST_WORDS_BYTES: Final = 2000
TESTS: Final = Path(__file__).resolve().parent.parent
STARTED: Final = frozenset({"started", "gateway.started"})
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_KB: Final = 1024


@dataclass(frozen=True, slots=True)
class Server:
    """A server in a process of its own.

    Attributes:
        log: What it writes.
        ops_url: Of the gateway's metrics and health; empty for the others.
    """

    name: str
    url: str
    pid: int
    log: Path
    ops_url: str = ""

    @property
    def host(self) -> str:
        """Where it listens."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.url).port or 0

    def cpu_s(self) -> float:
        """Read user and system time so far of all its threads, and its workers' (proc(5), ``/proc/pid/stat``)."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def last_words(self) -> str:
        """Quote the end of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            return file.read().decode(errors="replace")

    def resident_bytes(self) -> int:
        """Read its resident memory, and its workers'."""
        return sum(_resident_bytes(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        """List its process, and a gateway's workers; what a store forks to rewrite its file comes and goes."""
        if not self.ops_url:
            return [self.pid]
        children = "".join(file.read_text() for file in Path(f"/proc/{self.pid}/task").glob("*/children"))
        return [self.pid, *map(int, children.split())]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * _KB for line in lines if line.startswith("VmRSS")), 0)


@contextmanager
def server(name: str, module: str, *words: str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run ``python -m module words`` until the block ends; it says where it listens in a line of its log."""
    path = {"PATH": os.defpath, "PYTHONPATH": str(TESTS), **(env or {})}
    command = ["/usr/bin/env", "-i", *(f"{key}={value}" for key, value in path.items())]
    with ends_with_us([*command, sys.executable, "-m", module, *words], log) as process:
        told = _started(log, process)
        ops = f"http://127.0.0.1:{told['ops_port']}" if "ops_port" in told else ""
        yield Server(name, told["url"], told["pid"], log, ops)
        _end(told["pid"], process)


def _end(pid: int, process: subprocess.Popen[bytes]) -> None:
    """End a server that was not killed; one that does not drain in time is, and that is a failure of its own."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    try:
        process.wait(timeout=END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        raise RuntimeError(f"{pid} did not end {END_TIMEOUT_S:.0f} s after SIGTERM") from None


def command(module: str, *words: str, env: Mapping[str, str]) -> None:
    """Run ``python -m module words`` to its end; fail with what it says."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        env={"PATH": os.defpath, **env},
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(words)}: {done.stderr}")


def _started(log: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_bytes().splitlines():
            told = _object(line)
            if told.get("event") in STARTED:
                return told
        time.sleep(POLL_S)
    raise RuntimeError(f"{log} does not say that it has started: {log.read_text()[-LAST_WORDS_BYTES:]}")


def _object(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
