from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from support.valkey import wait_until

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store import keeper
from gateway.store.embedded import SOCKET_PATH_MAX_BYTES, embedded_store

USER = """
import asyncio, sys
from pathlib import Path
from gateway.store.embedded import embedded_store

async def main():
    async with embedded_store(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@contextmanager
def user_process(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Run another process that uses the store until its standard input ends."""
    command = [sys.executable, "-c", USER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    """Wait for a user process to have the store."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def server_pid(url: str) -> int:
    """Ask the server for its process id."""
    with Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def is_gone(pid: int) -> bool:
    """Say whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    """What was written is there when the store is opened again, from another server process."""
    async with embedded_store(tmp_path) as url:
        with Redis.from_url(url) as client:
            client.set("spent", "42")
        first = server_pid(url)
    wait_until(lambda: is_gone(first), tmp_path / "valkey.log")
    async with embedded_store(tmp_path) as url:
        assert server_pid(url) != first
        with Redis.from_url(url) as client:
            assert client.get("spent") == b"42"


async def test_the_server_is_durable_and_private(tmp_path: Path) -> None:
    """The server fsyncs each write, never evicts, has no port, and its socket is for its owner alone."""
    async with embedded_store(tmp_path) as url:
        with Redis.from_url(url) as client:
            config = client.config_get("*")
        mode = (tmp_path / "valkey.sock").stat().st_mode
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"}
    assert config.items() >= wanted.items()
    assert stat.S_IMODE(mode) == 0o700


async def test_the_server_is_out_of_reach_of_ctrl_c(tmp_path: Path) -> None:
    """The server is in no session of ours, so that a terminal's Ctrl-C does not end it before we have drained."""
    async with embedded_store(tmp_path) as url:
        assert os.getsid(server_pid(url)) != os.getsid(0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_its_last_user(tmp_path: Path, number: signal.Signals) -> None:
    """When the only process that uses the store dies, however it dies, the server ends too."""
    with user_process(tmp_path) as owner:
        pid = server_pid(url_of(owner))
        owner.send_signal(number)
        owner.wait()
        wait_until(lambda: is_gone(pid), tmp_path / "valkey.log")


def test_the_server_stays_for_those_who_came_later(tmp_path: Path) -> None:
    """The process that started the server may end, even by SIGKILL, without taking it from the others."""
    with user_process(tmp_path) as first, user_process(tmp_path) as second:
        pid = server_pid(url_of(first))
        url = url_of(second)
        first.kill()
        first.wait()
        with user_process(tmp_path) as third:
            assert server_pid(url_of(third)) == server_pid(url) == pid


async def test_users_that_start_at_once_share_one_server(tmp_path: Path) -> None:
    """There is one server for a directory, however many start it at the same moment."""

    async def use(everyone_has_it: asyncio.Barrier) -> int:
        async with embedded_store(tmp_path) as url:
            pid = await asyncio.to_thread(server_pid, url)
            await everyone_has_it.wait()
            return pid

    everyone_has_it = asyncio.Barrier(6)
    assert len(set(await asyncio.gather(*(use(everyone_has_it) for _ in range(6))))) == 1


async def test_users_that_come_and_go_never_lose_data(tmp_path: Path) -> None:
    """Commands that open and close the store while others do the same all find it, and every write is kept."""

    async def use() -> None:
        for _ in range(5):
            async with embedded_store(tmp_path) as url:
                with Redis.from_url(url) as client:
                    await asyncio.to_thread(client.incr, "runs")

    await asyncio.gather(*(use() for _ in range(4)))
    async with embedded_store(tmp_path) as url:
        with Redis.from_url(url) as client:
            assert client.get("runs") == b"20"


async def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    """The server comes back by itself, on the same data and socket, when something kills it under its users."""
    async with embedded_store(tmp_path) as url:
        with Redis.from_url(url) as client:
            client.set("spent", "42")
            first = server_pid(url)
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: server_pid(url) != first, tmp_path / "valkey.log")
            assert client.get("spent") == b"42"


async def test_a_server_that_can_not_start_for_a_while_comes_back(tmp_path: Path) -> None:
    """What keeps the server from starting, as a full disk does, ends nothing for good: it is tried until it goes."""
    async with embedded_store(tmp_path) as url:
        manifest, log = tmp_path / "appendonlydir" / "appendonly.aof.manifest", tmp_path / "valkey.log"
        written = manifest.read_text()
        manifest.write_text("damaged\n")
        os.kill(server_pid(url), signal.SIGKILL)
        wait_until(lambda: log.read_text().count("Invalid AOF manifest") >= 2, log)
        manifest.write_text(written)
        wait_until(lambda: keeper.answers(str(tmp_path / "valkey.sock")), log)


async def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    """A data directory of any length can be used, by several users, and its socket is removed at the end."""
    deep = tmp_path / ("d" * SOCKET_PATH_MAX_BYTES)
    async with embedded_store(deep) as first, embedded_store(deep) as second:
        assert first == second
        assert str(deep) not in first
        socket = Path(first.removeprefix("unix://"))
    wait_until(lambda: not socket.exists(), deep / "valkey.log")


async def test_an_unusable_directory_is_a_configuration_error(tmp_path: Path) -> None:
    """A data directory that can't be made is reported by the setting's name and the path."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"GATEWAY_DATA_DIR: .*/file/data: Not a directory"):
        async with embedded_store(tmp_path / "file" / "data"):
            pass


async def test_damaged_data_refuses_to_start(tmp_path: Path) -> None:
    """A server that can't read its data is not run empty: the error quotes what the server said."""
    async with embedded_store(tmp_path) as url:
        with Redis.from_url(url) as client:
            client.set("spent", "42")
        pid = server_pid(url)
    wait_until(lambda: is_gone(pid), tmp_path / "valkey.log")
    (log,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"not a command\r\n" + log.read_bytes())
    with pytest.raises(StoreUnavailable, match="Bad file format reading the append only file"):
        async with embedded_store(tmp_path):
            pass
