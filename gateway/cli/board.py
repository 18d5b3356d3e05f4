"""What several workers show, as one: their metrics merged, and whether they are ready."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from threading import Lock
from typing import Final

import orjson
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gateway.telemetry.merge import Exposition, merge, render

HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 2.0
_NONE: Final = "no worker has started"


class Board:
    """Asks the workers when it is asked. Thread-safe.

    Args:
        workers: How many there should be.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = Lock()
        self._ports: dict[int, int] = {}
        self._shown: dict[int, Exposition] = {}
        self._past = Exposition("")
        self._deaths = 0
        self._ever: set[int] = set()
        self._draining = False

    @property
    def has_started(self) -> bool:
        """Tell whether any worker ever has."""
        return bool(self._ever)

    @property
    def all_started(self) -> bool:
        """Tell whether every worker has, once at least."""
        return len(self._ever) == self._workers

    def started(self, number: int, ops_port: int) -> None:
        """Take note of where a worker's own metrics are."""
        with self._lock:
            self._ever.add(number)
            self._ports[number] = ops_port

    def ended(self, number: int) -> None:
        """Keep what a worker had counted."""
        with self._lock:
            self._ports.pop(number, None)
            shown = self._shown.pop(number, None)
            if shown is not None:
                self._past = merge([self._past, shown.counted()])
            self._deaths += not self._draining

    def drain(self) -> None:
        """Be unready from now on."""
        self._draining = True

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why requests should not come: whatever any worker says that lives."""
        found = {"draining": "the process is shutting down"} if self._draining else {}
        ports = dict(self._ports)
        if not ports:
            return found | {"workers": _NONE}
        for number, body in self._ask("/readyz").items():
            said = {"answer": "it does not answer"} if body is None else orjson.loads(body)["reasons"]
            found |= {f"worker {number}: {check}": reason for check, reason in said.items()}
        return found

    def look(self) -> None:
        """Read every worker's metrics."""
        for number, body in self._ask("/metrics").items():
            if body is not None:
                shown = Exposition(body.decode())
                with self._lock:
                    if number in self._ports:
                        self._shown[number] = shown

    def render(self) -> bytes:
        """Return the metrics of all workers as one exposition, in Prometheus's text format 0.0.4."""
        self.look()
        with self._lock:
            shown, alive, deaths = [self._past, *self._shown.values()], len(self._ports), self._deaths
        return render(
            merge(shown),
            GaugeMetricFamily("gateway_workers", "Worker processes that are running.", alive),
            CounterMetricFamily("gateway_worker_deaths_total", "Workers that ended unasked and were replaced.", deaths),
        )

    def _ask(self, path: str) -> dict[int, bytes | None]:
        """Ask every worker at once; None where one does not answer."""
        ports = dict(self._ports)
        if not ports:
            return {}
        with ThreadPoolExecutor(len(ports)) as pool:
            return dict(zip(ports, pool.map(lambda port: _get(port, path), ports.values()), strict=True))


def _get(port: int, path: str) -> bytes | None:
    connection = HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except (OSError, HTTPException):
            return None
