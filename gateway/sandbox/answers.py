"""The vendor's JSON bodies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import orjson
from starlette.responses import Response

from gateway.sandbox import media
from gateway.sandbox.jobs import Job, Status

Body = dict[str, object]


class Refusal(Exception):
    """Answer with an error; nothing was accepted."""

    def __init__(
        self, status: int, error: str, *, extra: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.response = answer(status, {"error": error} | (extra or {}), headers)


def answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def unauthorized(code: str, description: str) -> Refusal:
    """Build the longer envelope of authentication errors."""
    return Refusal(401, code, extra={"error_description": description, "status_code": 401})


def not_found(request_id: str) -> Refusal:
    """Build the answer for an unknown or expired request."""
    return Refusal(404, f"Request {request_id} not found")


def credits_json(amount: Decimal) -> orjson.Fragment:
    """Render credits as a JSON number with all their decimals."""
    return orjson.Fragment(format(amount, "f"))


def timestamp(epoch_s: float) -> str:
    """Render a time as the vendor's headers and rows do, UTC."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def urls(job: Job, origin: str) -> Body:
    """Return the absolute URLs of a job on `origin` (``http://host:port``)."""
    return {
        "poll_url": f"{origin}/v1/requests/{job.request_id}",
        "status_url": f"{origin}/v2/requests/{job.request_id}/status",
        "response_url": f"{origin}/v2/requests/{job.request_id}",
    }


def submitted(job: Job, origin: str) -> Body:
    """Return the answer to a submit."""
    return {"request_id": job.request_id, "status": Status.QUEUED, **urls(job, origin)}


def pending(job: Job, status: Status, origin: str) -> Body:
    """Return the answer to any poll of a job that still runs."""
    links = urls(job, origin)
    return {
        "status": status,
        "request_id": job.request_id,
        "status_url": links["status_url"],
        "response_url": links["response_url"],
        "metrics": {},
    }


def failed(job: Job) -> Body:
    """Return the answer to any poll of a FAILED job: timings, no cost."""
    return {"status": Status.FAILED, "error": job.error, "metrics": _timings(job)}


def completed(job: Job, balance: Decimal) -> Body:
    """Return the status answer of a COMPLETED job: no output in it."""
    return {"status": Status.COMPLETED, "request_id": job.request_id, "metrics": _metrics(job, balance)}


def result(job: Job, balance: Decimal, origin: str) -> Body:
    """Return the full result of a COMPLETED job."""
    return {
        "status": Status.COMPLETED,
        "request_id": job.request_id,
        **_output(job, origin),
        "seed": job.seed,
        "metrics": _metrics(job, balance),
    }


def file_urls(job: Job, origin: str) -> list[str]:
    """Return the URLs of a job's output files; text models have none."""
    if job.model.kind == "text":
        return []
    suffix = media.SUFFIXES[job.model.kind]
    return [f"{origin}/files/{job.request_id}-{index}{suffix}" for index in range(job.outputs)]


def _output(job: Job, origin: str) -> Body:
    if job.model.kind == "text":
        text = media.reply(job)
        return {"output": text} if job.model.slug != "mock-inference" else {"output": text, "partial": False}
    named = file_urls(job, origin)
    content_type, content = media.FILES[job.model.kind]
    files: list[Body] = [
        {
            "url": url,
            "content_type": content_type,
            "file_name": url.rpartition("/")[2],
            "file_size": len(content),
        }
        for url in named
    ]
    match job.model.kind:
        case "image":
            return {"output": named[0], "images": files}
        case "workflow":
            return {"output": orjson.dumps([{"keyname": "output", "value": {"data": named[0]}}]).decode()}
        case kind:
            return {"output": named[0], kind: files[0]}


def _timings(job: Job) -> Body:
    return {
        "inference_time": round(job.total_s - job.queue_s, 6),
        "queue_time": round(job.queue_s, 6),
        "total_time": round(job.total_s, 6),
    }


def _metrics(job: Job, balance: Decimal) -> Body:
    cost: Body = {"cost": credits_json(job.cost)}
    if job.reported_cost is not None:
        cost = {"cost": orjson.Fragment(job.reported_cost)} if job.reported_cost else {}
    return {**cost, "remaining_credits": credits_json(balance), **_timings(job)}
