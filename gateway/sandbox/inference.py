"""The vendor's inference routes: async (v2), sync (v1) and workflows."""

from __future__ import annotations

import orjson
from starlette.responses import HTMLResponse, Response

from gateway.sandbox import answers, media
from gateway.sandbox.access import admit
from gateway.sandbox.endpoint import Exchange
from gateway.sandbox.jobs import Job, Status, earlier, state_at
from gateway.sandbox.state import Sandbox

_SYNC_MAX_S = 900.0


async def submit(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Accept a job and name its URLs: ``POST /v2/{slug}``, ``POST /workflows/v2/{slug}``."""
    return answers.answer(200, answers.submitted(await _accept(sandbox, exchange), exchange.origin))


async def submit_workflow(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Accept a workflow by its id, the older way: ``POST /workflows/{id}``."""
    job = await _accept(sandbox, exchange)
    poll_url = f"{exchange.origin}/workflows/request/{job.request_id}"
    return answers.answer(200, {"request_id": job.request_id, "status": Status.QUEUED, "poll_url": poll_url})


async def status(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Answer ``GET /v2/requests/{id}/status``."""
    job, state = _observe(sandbox, exchange)
    match state:
        case Status.FAILED:
            return answers.answer(422, answers.failed(job))
        case Status.COMPLETED:
            return answers.answer(200, answers.completed(job, sandbox.account.remaining(sandbox.clock())))
        case _:
            return answers.answer(200, answers.pending(job, state, exchange.origin))


async def result(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Answer ``GET /v2/requests/{id}``: FAILED is a 422."""
    return _result(sandbox, exchange, failed_status=422)


async def poll(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Answer the older ``GET /v1/requests/{id}`` and ``GET /workflows/request/{id}``: FAILED is a 200.

    The SDK's ``pixelflows`` returns a FAILED body and would raise on a 422.
    """
    return _result(sandbox, exchange, failed_status=200)


async def sync(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Run a job while the caller waits and answer its raw output: ``POST /v1/{slug}``.

    A job that FAILs is a 500 here, one that takes longer than 15 minutes a 504 although it goes on.
    """
    job = await _accept(sandbox, exchange)
    limit_s = _SYNC_MAX_S / sandbox.settings.time_scale
    await sandbox.pause(min(job.total_s, limit_s))
    if job.total_s > limit_s or sandbox.closing.is_set():
        return HTMLResponse("<!doctype html><title>504</title><h1>Gateway Timeout</h1>", 504)
    if job.error is not None:
        return answers.answer(500, {"error": job.error})
    balance = sandbox.account.remaining(max(sandbox.clock(), job.ends_at))
    headers = {
        "x-remaining-credits": format(balance, "f"),
        "x-request-id": job.request_id,
        "x-generation-time": f"{job.total_s:.4f}",
        "x-seed-value": str(job.seed),
        "x-rate-limit-reset-at-utc": answers.timestamp(sandbox.clock() + 60),
    }
    cost = format(job.cost, "f") if job.reported_cost is None else job.reported_cost
    if cost:
        headers["x-cost"] = cost
    if job.model.kind == "text":
        text = media.reply(job)
        body = text.encode() if job.model.provider else orjson.dumps({"output": text})
        return Response(body, 200, headers, media_type="application/json")
    media_type, content = media.FILES[job.model.kind]
    return Response(content, 200, headers, media_type=media_type)


async def _accept(sandbox: Sandbox, exchange: Exchange) -> Job:
    model, params = admit(sandbox, exchange)
    return await sandbox.accept(model, params, body=exchange.body, key=exchange.key, faults=exchange.faults)


def _observe(sandbox: Sandbox, exchange: Exchange) -> tuple[Job, Status]:
    job = exchange.job
    actions = {fault.action for fault in exchange.faults}
    if job is None or "not_found" in actions:
        raise answers.not_found(exchange.request_id)
    state = state_at(job, sandbox.clock())
    return job, earlier(state) if "regress" in actions else state


def _result(sandbox: Sandbox, exchange: Exchange, *, failed_status: int) -> Response:
    job, state = _observe(sandbox, exchange)
    match state:
        case Status.FAILED:
            return answers.answer(failed_status, answers.failed(job))
        case Status.COMPLETED:
            balance = sandbox.account.remaining(sandbox.clock())
            return answers.answer(200, answers.result(job, balance, exchange.origin))
        case _:
            return answers.answer(200, answers.pending(job, state, exchange.origin))
