"""A stand-in for Segmind that costs next to nothing: no state, one write an answer.

A job's id holds the time at which it ends, so that any number of jobs is in flight without a record of one.
``PUT /_standin?job_s=425&delay_ms=30-70`` sets how long jobs take and how late submits are answered,
``fault=503&every=20`` what every twentieth call meets instead of its answer; ``GET /_standin`` counts the calls.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qs, urlsplit

import httptools
import uvloop

HOST: Final = "127.0.0.1"
MODEL: Final = "kling-2.6-standard-motion-control"
COST: Final = "0.9415"
SLOW_S: Final = 2.0
BLOCKED_S: Final = 1.0
_OUTPUT: Final = "https://segmind-resources.s3.amazonaws.com/output/0b1c7d2e-motion.mp4"
_DIGITS: Final = 12
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


class VendorFault(StrEnum):
    """What a call may meet instead of its answer."""

    NONE = "none"
    ERROR = "500"  # in the JSON envelope: refused
    UNAVAILABLE = "503"  # by something in front of it: who knows
    LIMITED = "429"  # with `BLOCKED_S` until the limit resets
    HANG = "hang"  # no answer at all
    RESET = "reset"  # the connection breaks once the call is there
    SLOW = "slow"  # the answer, `SLOW_S` late


@dataclass(slots=True)
class State:
    """How the stand-in answers, and how often it has.

    Attributes:
        job_s: How long a job takes, seconds.
        delay_ms: Least and greatest delay of a submit's answer, milliseconds.
        fault: What one call in `every` meets.
    """

    job_s: float = 425.0
    delay_ms: tuple[float, float] = (0.0, 0.0)
    fault: VendorFault = VendorFault.NONE
    every: int = 1
    calls: int = 0
    submits: int = 0
    statuses: int = 0
    results: int = 0
    others: int = 0

    def delay_s(self) -> float:
        """Return the delay of this submit: evenly spread, and the same spread in each run (golden-ratio sequence)."""
        least, greatest = self.delay_ms
        return (least + (greatest - least) * (self.submits * _GOLDEN % 1.0)) / 1000

    def met(self) -> VendorFault:
        """Count a call, and return what it meets."""
        self.calls += 1
        return VendorFault.NONE if self.calls % self.every else self.fault


_SETTINGS: Final[dict[str, Callable[[str], object]]] = {"job_s": float, "fault": VendorFault, "every": int}


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
            return
        match self._state.met():
            case VendorFault.NONE:
                self._answer(method, path)
            case VendorFault.SLOW:
                asyncio.get_running_loop().call_later(SLOW_S, self._answer, method, path)
            case VendorFault.RESET if self._transport is not None:
                self._transport.abort()
            case (VendorFault.ERROR | VendorFault.UNAVAILABLE | VendorFault.LIMITED) as fault:
                self._write(_refused(HTTPStatus(int(fault))))

    def _answer(self, method: bytes, path: str) -> None:
        if method == b"POST":
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
            self._write(_refused(HTTPStatus.NOT_FOUND))

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def _submitted(state: State) -> bytes:
    request_id = vendor_id(time.time() + state.job_s, state.submits)
    base = f"https://api.segmind.com/v2/requests/{request_id}"
    return _response(
        HTTPStatus.OK,
        f'{{"request_id":"{request_id}","status":"QUEUED","poll_url":"{base}","status_url":"{base}/status",'
        f'"response_url":"{base}"}}'.encode(),
    )


def _asked(state: State, rest: str) -> bytes:
    request_id, _, tail = rest.partition("/")
    status = "COMPLETED" if has_ended(request_id, time.time()) else "PROCESSING"
    if tail:
        state.statuses += 1
        return _response(HTTPStatus.OK, f'{{"status":"{status}","request_id":"{request_id}","metrics":{{}}}}'.encode())
    state.results += 1
    return _response(
        HTTPStatus.OK,
        f'{{"status":"{status}","request_id":"{request_id}","output":"{_OUTPUT}","video":{{"url":"{_OUTPUT}",'
        f'"content_type":"video/mp4","file_name":"motion.mp4","file_size":7340032}},"seed":42,"metrics":{{'
        f'"cost":{COST},"remaining_credits":118.2841,"inference_time":421.7,"queue_time":2.1,"total_time":423.8}}}}'.encode(),
    )


def _refused(status: HTTPStatus) -> bytes:
    extra = b""
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        now = datetime.now(UTC)
        extra = f"date: {now:%a, %d %b %Y %H:%M:%S GMT}\r\n".encode()
        extra += f"x-rate-limit-reset-at-utc: {now + timedelta(seconds=BLOCKED_S):%Y-%m-%dT%H:%M:%SZ}\r\n".encode()
    return _response(status, f'{{"error":"{status.phrase}"}}'.encode(), extra)


def _told(state: State, method: bytes, path: str) -> bytes:
    if method == b"PUT":
        given = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        least, _, greatest = given.get("delay_ms", "").partition("-")
        if least:
            state.delay_ms = (float(least), float(greatest or least))
        for name, read in _SETTINGS.items():
            if name in given:
                setattr(state, name, read(given[name]))
    return _response(HTTPStatus.OK, json.dumps(asdict(state)).encode())


def _response(status: HTTPStatus, body: bytes, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        status.phrase.encode(),
        extra,
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
