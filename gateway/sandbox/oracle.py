"""The oracle: a durable record of what was accepted, to hold a gateway's ledger against."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import orjson

from gateway.sandbox.jobs import Job


def describe(job: Job) -> dict[str, object]:
    """Return the fixed facts of an accepted job, JSON-ready; the cost is what it bills if it completes."""
    return {
        "request_id": job.request_id,
        "model": job.model.slug,
        "body": orjson.loads(job.body),
        "cost": format(job.cost, "f"),
        "billed": format(job.billed, "f"),
        "key": job.key,
        "submitted_at": job.submitted_at,
    }


class Oracle:
    """Append one JSON line per accepted job to a file."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def append(self, job: Job) -> None:
        """Write `job` and return once it is on the disk.

        Raises:
            OSError: It could not be written; the job must not be acknowledged.
        """
        os.write(self._fd, orjson.dumps(describe(job), option=orjson.OPT_APPEND_NEWLINE))
        await asyncio.to_thread(os.fsync, self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
