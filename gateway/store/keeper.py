"""Run the embedded server for as long as any process uses its data directory.

A script of its own, started by `gateway.store.embedded` with the standard library alone (no site packages, empty
environment), so that it outlives whichever process happened to start it::

    python -I -S keeper.py USERS_LOCK SOCKET SERVER_LOCK_FD COMMAND...

It forks at once. The foreground process ends with 0 as soon as the server answers and with 1 when the server refuses
to start; the one in the background stays, is nobody's child, and stops the server when the users' lock is free. A
server that has served once is started again for as long as it takes: a full disk ends it, and all others until it has
room again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time

POLL_S = 0.1
START_POLL_S = 0.01
RESTART_PAUSE_S = 0.2
REFUSED_PAUSE_S = 1.0
STOP_TIMEOUT_S = 10.0
PING_TIMEOUT_S = 1.0


def answers(socket_path: str) -> bool:
    """Tell whether a server on this unix socket serves commands (one that still loads its data does not)."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(PING_TIMEOUT_S)
        connection.connect(socket_path)
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def try_lock(file: int, operation: int) -> bool:
    """Take a lock on an open file without waiting; False where another process holds it against us."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(users_path: str, socket_path: str, server_lock: str, *command: str) -> int:
    """Fork; keep the server in the background, report its start in the foreground as exit status."""
    started, report = os.pipe()
    if os.fork():
        os.close(report)
        return 0 if os.read(started, 1) else 1
    os.close(started)
    # The server must outlast a SIGTERM or Ctrl-C sent to the whole group, until its users have drained.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    users = os.open(users_path, os.O_RDWR)
    served = _serve(users, socket_path, int(server_lock), command, report)
    pause_s = RESTART_PAUSE_S
    while served and not try_lock(users, fcntl.LOCK_EX):
        time.sleep(pause_s)
        again = _serve(users, socket_path, int(server_lock), command, report)
        pause_s = RESTART_PAUSE_S if again else REFUSED_PAUSE_S
    return 0


def _serve(users: int, socket_path: str, server_lock: int, command: tuple[str, ...], report: int) -> bool:
    """Run the server until it or its last user has gone, whose lock is ours then; True if it has served."""
    # The server holds the lock too: if the keeper is killed, no second server can start on the same data.
    server = subprocess.Popen(command, pass_fds=[server_lock])  # noqa: S603  # the command is our parent's
    served = False
    try:
        while server.poll() is None:
            # Not waiting for the lock, since a waiting writer may hold back new readers on some systems. Once it is
            # ours it stays ours: a process that comes now waits for our end, then starts a server of its own.
            if try_lock(users, fcntl.LOCK_EX):
                return served
            if not served and answers(socket_path):
                served = True
                with contextlib.suppress(BrokenPipeError):  # whoever started us may have given up
                    os.write(report, b"1")
            time.sleep(POLL_S if served else START_POLL_S)
        return served
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and wait for it, by force where it does not listen."""
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
