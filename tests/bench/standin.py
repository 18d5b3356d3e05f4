"""A stand-in for Segmind that costs next to nothing: no state, one write an answer.

A job's id holds the time at which it ends, so that any number of jobs is in flight without a record of one.
``PUT /_standin?job_s=425&delay_ms=30-70`` sets how long jobs take and how late submits are answered;
``GET /_standin`` counts the calls.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final, cast
from urllib.parse import parse_qs, urlsplit

import httptools
import uvloop

HOST: Final = "127.0.0.1"
MODEL: Final = "kling-2.6-standard-motion-control"
COST: Final = "0.9415"
_OUTPUT: Final = "https://segmind-resources.s3.amazonaws.com/output/0b1c7d2e-motion.mp4"
_DIGITS: Final = 12
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


@dataclass(slots=True)
class State:
    """How the stand-in answers, and how often it has.

    Attributes:
        job_s: How long a job takes, seconds.
        delay_ms: Least and greatest delay of a submit's answer, milliseconds.
    """

    job_s: float = 425.0
    delay_ms: tuple[float, float] = (0.0, 0.0)
    submits: int = 0
    statuses: int = 0
    results: int = 0
    others: int = 0

    def delay_s(self) -> float:
        """Return the delay of this submit: evenly spread, and the same spread in each run (golden-ratio sequence)."""
        least, greatest = self.delay_ms
        return (least + (greatest - least) * (self.submits * _GOLDEN % 1.0)) / 1000


def vendor_id(ends_at_s: float, number: int) -> str:
    """Make the id of a job that ends at a time, Unix seconds; as long as the vendor's own."""
    return f"{int(ends_at_s * 1000):0{_DIGITS}x}-{number:023x}"


def has_ended(request_id: str, now_s: float) -> bool:
    """Tell from its id whether a job has ended."""
    return int(request_id[:_DIGITS], 16) <= now_s * 1000


class Vendor(asyncio.Protocol):
    """Answers one connection; httptools calls the ``on_`` methods."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""

    def on_url(self, url: bytes) -> None:
        """Take the target, which may come in parts."""
        self._url += url

    def on_message_complete(self) -> None:
        """Answer."""
        method, path = self._parser.get_method(), self._url.decode("ascii")
        if path.startswith("/_standin"):
            self._write(_told(self._state, method, path))
        elif method == b"POST":
            self._state.submits += 1
            answer, delay_s = _submitted(self._state), self._state.delay_s()
            if delay_s:
                asyncio.get_running_loop().call_later(delay_s, self._write, answer)
            else:
                self._write(answer)
        elif path.startswith("/v2/requests/"):
            self._write(_asked(self._state, path.removeprefix("/v2/requests/")))
        else:
            self._state.others += 1
            self._write(_response(404, b'{"error":"no such route"}'))

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def _submitted(state: State) -> bytes:
    request_id = vendor_id(time.time() + state.job_s, state.submits)
    base = f"https://api.segmind.com/v2/requests/{request_id}"
    return _response(
        200,
        f'{{"request_id":"{request_id}","status":"QUEUED","poll_url":"{base}","status_url":"{base}/status",'
        f'"response_url":"{base}"}}'.encode(),
    )


def _asked(state: State, rest: str) -> bytes:
    request_id, _, tail = rest.partition("/")
    status = "COMPLETED" if has_ended(request_id, time.time()) else "PROCESSING"
    if tail:
        state.statuses += 1
        return _response(200, f'{{"status":"{status}","request_id":"{request_id}","metrics":{{}}}}'.encode())
    state.results += 1
    return _response(
        200,
        f'{{"status":"{status}","request_id":"{request_id}","output":"{_OUTPUT}","video":{{"url":"{_OUTPUT}",'
        f'"content_type":"video/mp4","file_name":"motion.mp4","file_size":7340032}},"seed":42,"metrics":{{'
        f'"cost":{COST},"remaining_credits":118.2841,"inference_time":421.7,"queue_time":2.1,"total_time":423.8}}}}'.encode(),
    )


def _told(state: State, method: bytes, path: str) -> bytes:
    if method == b"PUT":
        query = parse_qs(urlsplit(path).query)
        if "job_s" in query:
            state.job_s = float(query["job_s"][0])
        if "delay_ms" in query:
            least, _, greatest = query["delay_ms"][0].partition("-")
            state.delay_ms = (float(least), float(greatest or least))
    return _response(200, json.dumps(asdict(state)).encode())


def _response(status: int, body: bytes) -> bytes:
    reason = b"OK" if status == 200 else b"Not Found"  # the only two that it knows
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        reason,
        len(body),
        body,
    )


async def serve() -> None:
    """Serve on a free port of loopback until the process is ended; the first line says where."""
    state = State()
    listener = socket.create_server((HOST, 0), backlog=1024)
    server = await asyncio.get_running_loop().create_server(lambda: Vendor(state), sock=listener)
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    sys.stdout.write(json.dumps({"event": "started", "url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
