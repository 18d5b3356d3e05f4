"""A log stream that never holds up the caller: a thread writes what waits in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Event, Thread
from typing import BinaryIO, Final

BATCH_LINES: Final = 1_000
MAX_BYTES: Final = 16 * 1024 * 1024


class LineWriter:
    """Write lines from a thread of its own; what a stalled or broken stream can't take is dropped and counted.

    One write for all lines of ``batch_s`` costs less than one a line, and a full pipe stops nobody. What was
    accepted in the last ``batch_s`` before a SIGKILL is lost.

    Args:
        stream: Best unbuffered (``open(1, "wb", buffering=0, closefd=False)``): a thread that is stuck in
            ``sys.stdout.buffer`` holds a lock for which the interpreter aborts at exit.
        max_lines: Lines that may wait; `max_bytes` of them, with those that are being written.
        batch_s: Longest wait of a line while the stream keeps up, seconds.
        batch_bytes: Largest write of several lines: of those up to ``PIPE_BUF`` a pipe mixes none with others'.
        dropped: Told how many lines were lost; must be thread-safe and must not raise.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        dropped: Callable[[int], None],
        max_lines: int = 20_000,
        max_bytes: int = MAX_BYTES,
        batch_s: float = 0.02,
        batch_bytes: int | None = None,
    ) -> None:
        self._stream = stream
        self._dropped = dropped
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._taken_bytes = 0
        self._done_bytes = 0
        self._batch_s = batch_s
        self._batch_bytes = batch_bytes
        self._lines: deque[bytes] = deque()
        self._wake = Event()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> int:
        """Take one whole line. Never raises, never waits."""
        size = len(line)
        # Each figure has one writer, but for threads that log at once: what they may lose of it is a line or two.
        taken = self._taken_bytes + size
        full = len(self._lines) >= self._max_lines or taken - self._done_bytes > self._max_bytes
        if full or self._closing.is_set():
            self._dropped(1)
            return size
        self._taken_bytes = taken
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()
        return size

    def flush(self) -> None:
        """Do nothing: the thread writes when it is time to, `close` writes the rest."""

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits, for at most ``timeout_s`` seconds. The stream stays open: it belongs to the caller."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(self._batch_s)
            # Cleared before the lines are taken: a line added meanwhile sets it again.
            self._wake.clear()
            self._drain()
        self._drain()  # what came before the thread had begun

    def _drain(self) -> None:
        while self._lines:
            batch = self._take()
            data = b"".join(batch)
            try:
                self._put(data)
            except (OSError, ValueError):  # a broken pipe, a full disk; a closed file is a ValueError
                self._dropped(len(batch))
            self._done_bytes += len(data)

    def _take(self) -> list[bytes]:
        if self._batch_bytes is None:
            return [self._lines.popleft() for _ in range(min(len(self._lines), BATCH_LINES))]
        batch = [self._lines.popleft()]
        room = self._batch_bytes - len(batch[0])
        while self._lines and len(self._lines[0]) <= room:
            batch.append(self._lines.popleft())
            room -= len(batch[-1])
        return batch

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self._stream.write(rest)
            if not written:
                raise BlockingIOError("the stream takes nothing")
            rest = rest[written:]
        self._stream.flush()
