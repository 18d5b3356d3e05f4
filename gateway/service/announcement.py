"""What a webhook says of a job that has ended: ids, cost and addresses, never the result itself."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from gateway.core.credits import format_credits
from gateway.core.job import Job
from gateway.core.webhook import event_type


def announce(job: Job, public_url: str) -> bytes:
    """Write the body of a job's webhook: the same bytes at each attempt, so that receivers may compare them.

    Args:
        job: It has ended.
        public_url: What our URLs begin with; empty where no setting tells it, and then the body has none.
    """
    data: dict[str, object] = {
        "request_id": job.id,
        "status": job.status,
        "model": job.model,
        "cost": orjson.Fragment(format_credits(job.cost or 0)),
        "labels": dict(job.labels),
    }
    if job.reason is not None:
        data["error"] = job.reason
    if public_url:
        address = f"{public_url}/v2/requests/{job.id}"
        data |= {"status_url": f"{address}/status", "response_url": address}
    return orjson.dumps({"type": event_type(job), "timestamp": _iso(job.finished_ms or job.created_ms), "data": data})


def _iso(unix_ms: int) -> str:
    moment = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return f"{moment.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"
