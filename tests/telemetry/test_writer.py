from __future__ import annotations

import io
import os
import threading

import pytest

from gateway.core.events import Alert
from gateway.telemetry.logs import LogSink, configure_logs
from gateway.telemetry.writer import LineWriter

MIB = 1024 * 1024


class Lost:
    """Count lines lost, and wake who waits for the first."""

    def __init__(self) -> None:
        self.lines = 0
        self.some = threading.Event()

    def __call__(self, lines: int) -> None:
        """Take note of lost lines."""
        self.lines += lines
        self.some.set()


def test_lines_arrive_in_order_and_all_before_close_returns() -> None:
    """Many threads may write; each line arrives whole, those of one thread in order, the last before close returns."""
    stream, lost = io.BytesIO(), Lost()
    writer = LineWriter(stream, dropped=lost)

    def write(name: int) -> None:
        for number in range(500):
            writer.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(timeout_s=60)
    rows = [tuple(map(int, line.split())) for line in stream.getvalue().splitlines()]
    assert len(rows) == 2000
    assert all([row[1] for row in rows if row[0] == name] == list(range(500)) for name in range(4))
    assert lost.lines == 0


def test_a_broken_pipe_raises_nothing() -> None:
    """When the reader of the log is gone, logging goes on without an error and every lost line is counted."""
    reader, end = os.pipe()
    os.close(reader)
    lost = Lost()
    with open(end, "wb", buffering=0) as stream:  # noqa: PTH123 a file descriptor has no path
        writer = LineWriter(stream, dropped=lost)
        sink = LogSink(configure_logs(writer, "info", terminal=False))
        for _ in range(3):
            sink(Alert(event="job.unknown", detail="x"))
        writer.close(timeout_s=60)
    sink(Alert(event="job.unknown", detail="after close"))
    assert lost.lines == 4


def test_a_closed_stream_raises_nothing() -> None:
    """A stream that somebody closed loses lines, and that is all."""
    stream, lost = io.BytesIO(), Lost()
    writer = LineWriter(stream, dropped=lost)
    stream.close()
    writer.write(b"x\n")
    writer.close(timeout_s=60)
    assert lost.lines == 1


def test_a_stalled_reader_holds_up_nobody() -> None:
    """With the pipe full and nobody reading, lines beyond the bound are dropped at once, and close returns."""
    reader, end = os.pipe()
    lost = Lost()
    with open(end, "wb", buffering=0) as stream, open(reader, "rb") as read_end:  # noqa: PTH123 descriptors again
        writer = LineWriter(stream, dropped=lost, max_lines=10)
        line = b"x" * 65_535 + b"\n"
        while not lost.some.is_set():
            writer.write(line)
        writer.close(timeout_s=0)
        drain = threading.Thread(target=read_end.read)
        drain.start()
        writer.close(timeout_s=60)  # lets the thread end before its stream is closed
        stream.close()
        drain.join()


def test_few_long_lines_are_too_many_too() -> None:
    """What waits is bounded by its bytes as well, those being written included; once they are, there is room again."""
    reader, end = os.pipe()
    lost = Lost()
    with open(end, "wb", buffering=0) as stream, open(reader, "rb") as read_end:  # noqa: PTH123 descriptors again
        writer = LineWriter(stream, dropped=lost, max_bytes=3 * MIB)
        line = b"x" * (MIB - 1) + b"\n"
        for _ in range(5):
            writer.write(line)
        assert lost.lines == 2
        read_end.read(3 * MIB)
        while lost.lines:  # room is made just after the stream has taken the last byte
            lost.lines = 0
            writer.write(b"a line for which there is room\n")
        drain = threading.Thread(target=read_end.read)
        drain.start()
        writer.close(timeout_s=60)
        stream.close()
        drain.join()


def test_a_raw_stream_that_takes_a_part_gets_the_rest() -> None:
    """Short writes tear no line."""

    class Short(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(bytes(data)[:3])  # type: ignore[call-overload]  # BytesIO takes any buffer

    stream = Short()
    writer = LineWriter(stream, dropped=lambda _: pytest.fail("a line was dropped"))
    writer.write(b"one line\n")
    writer.close(timeout_s=60)
    assert stream.getvalue() == b"one line\n"
