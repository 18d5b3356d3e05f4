"""Jobs: submit, quote, status, result. Bodies in Segmind's own shape, written by hand on the hot path."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from time import monotonic

import orjson

from gateway.core.credits import format_credits
from gateway.core.job import JobView, is_job_id
from gateway.core.movements import Admitted, Denied, Reading, StoredResult
from gateway.core.tenant import Credential
from gateway.errors import StoreUnavailable
from gateway.service.outcomes import Rejected, Submitted, Uncertain
from gateway.service.room import Lease
from gateway.web import problems
from gateway.web.api import TenantApi
from gateway.web.auth import authenticate
from gateway.web.exchange import JSON, NO_STORE, Answer, Exchange, HeaderList, json_answer
from gateway.web.intake import base_of, job_request
from gateway.web.limits import credits_number, job_headers, quota_headers, rate_headers
from gateway.web.streaming import LARGE_BYTES, response_headers, sliced
from gateway.web.wait import hold

_NO_JOB = "00000000-0000-7000-8000-000000000000"
"""Never an id of ours. A malformed id is looked up as this one, so that it costs and answers like any other."""

_REPLAYED = (b"idempotent-replayed", b"true")


async def submit(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``POST /v2/{model}``."""
    return await _submit(api, exchange, exchange.argument)


async def submit_workflow(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``POST /workflows/v2/{slug}`` and the SDK's older ``POST /workflows/{slug}``."""
    return await _submit(api, exchange, f"workflows/{exchange.argument}")


async def quote(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``POST /v2/{model}/quote``."""
    return await _quote(api, exchange, exchange.argument)


async def quote_workflow(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``POST /workflows/v2/{slug}/quote``."""
    return await _quote(api, exchange, f"workflows/{exchange.argument}")


def status(api: TenantApi, exchange: Exchange) -> Awaitable[Answer]:
    """Answer ``GET /v2/requests/{id}/status``: from the store, never from the vendor."""
    return _read(api, exchange, with_result=False)


def result(api: TenantApi, exchange: Exchange) -> Awaitable[Answer]:
    """Answer ``GET /v2/requests/{id}``, ``GET /v1/requests/{id}``: the result, or the status before there is one."""
    return _read(api, exchange, with_result=True)


def started(
    exchange: Exchange, credential: Credential, outcome: Submitted | Denied | Rejected | Uncertain, base: str
) -> Answer:
    """Answer for a request to start a job, however it ended."""
    if isinstance(outcome, Denied):
        if outcome.code != "unauthenticated":
            exchange.caller = credential
        return problems.denied(outcome, base)
    exchange.caller, exchange.job = credential, outcome.job
    if isinstance(outcome, Uncertain):
        return problems.uncertain(outcome, base)
    exchange.replayed = outcome.replayed
    if isinstance(outcome, Rejected):
        return problems.rejected(outcome, base)
    return _submitted(outcome, base)


async def _submit(api: TenantApi, exchange: Exchange, model: str) -> Answer:
    base = base_of(api, exchange)
    request = await job_request(api, exchange, model)
    exchange.begun, credential = request.job_id, request.credential
    outcome = await api.submit.submit(request)
    del request  # with its body: the caller may wait for minutes
    if b"prefer" in exchange.headers and isinstance(outcome, Submitted):
        return await _held(api, exchange, credential, outcome, base)
    return started(exchange, credential, outcome, base)


async def _held(api: TenantApi, exchange: Exchange, credential: Credential, outcome: Submitted, base: str) -> Answer:
    """Answer a submit whose caller would wait: as its result reads, if the job ends in time with one to show."""
    exchange.caller, exchange.job, exchange.replayed = credential, outcome.job, outcome.replayed
    exchange.let_go()
    applied: HeaderList = []
    exchange.job = job = await hold(api, exchange, outcome.job, applied)
    result: StoredResult | None = None
    if applied and job.status == "COMPLETED":
        with suppress(StoreUnavailable):
            result = await api.jobs.kept(job.tenant, job.id)
    if not applied or (result is None and job.status != "FAILED"):
        answer = started(exchange, credential, replace(outcome, job=job), base)
        answer.headers += applied
        return answer
    if outcome.replayed:
        applied.append(_REPLAYED)
    # The result is the vendor's: our own id, by which it is read again, stands in no byte of it.
    applied.append((b"content-location", f"{base}/v2/requests/{job.id}".encode("ascii")))
    if result is not None:
        hold_result(api, exchange, len(result.body))
    return _told(job, result, applied + quota_headers(outcome.quota), base, with_result=True)


def _submitted(outcome: Submitted, base: str) -> Answer:
    job = outcome.job
    headers = quota_headers(outcome.quota) + job_headers(job, held=not job.state.terminal)
    if outcome.replayed:
        headers.append(_REPLAYED)
    body = (
        f'{{"request_id":"{job.id}","status":"QUEUED","poll_url":"{base}/v1/requests/{job.id}",'
        f'"status_url":"{base}/v2/requests/{job.id}/status","response_url":"{base}/v2/requests/{job.id}"}}'
    )
    return json_answer(body.encode("ascii"), headers)


async def _quote(api: TenantApi, exchange: Exchange, model: str) -> Answer:
    base = base_of(api, exchange)
    request = await job_request(api, exchange, model)
    outcome = await api.submit.quote(request)
    if isinstance(outcome, Denied) and outcome.code in {"unauthenticated", "tenant_suspended"}:
        return started(exchange, request.credential, outcome, base)
    exchange.caller = request.credential
    headers = [] if outcome.quota is None else quota_headers(outcome.quota)
    members = _would_run(outcome) if isinstance(outcome, Admitted) else _would_not_run(outcome, base)
    return json_answer(orjson.dumps({"model": model} | members), headers)


def _would_run(outcome: Admitted) -> dict[str, object]:
    return {
        "admitted": True,
        "replayed": outcome.replayed,
        "hold": orjson.Fragment(format_credits(outcome.job.hold)),
        "remaining": orjson.Fragment(credits_number(outcome.quota.remaining)),
    }


def _would_not_run(outcome: Denied | Rejected, base: str) -> dict[str, object]:
    kind = problems.KINDS[outcome.code]
    detail, limited_by = kind.detail, kind.limited_by
    if isinstance(outcome, Rejected):
        detail, limited_by = outcome.detail, outcome.limited_by or limited_by
    members: dict[str, object] = {"admitted": False, "code": outcome.code, "detail": detail}
    if limited_by is not None:
        members["limited_by"] = limited_by
    if outcome.retry_after_s:
        members["retry_after"] = problems.whole_seconds(outcome.retry_after_s)
    return members | (problems.denial_members(outcome, base) if isinstance(outcome, Denied) else {})


async def found(
    api: TenantApi, exchange: Exchange, base: str, *, with_result: bool
) -> tuple[JobView, Reading] | Answer:
    """Read the job that the path names, for its owner; or answer why there is nothing to read."""
    credential = authenticate(exchange.headers)
    job_id = exchange.argument
    reading = await api.jobs.read(credential, job_id if is_job_id(job_id) else _NO_JOB, with_result=with_result)
    if isinstance(reading, Denied):
        if reading.code != "unauthenticated":
            exchange.caller = credential
        return problems.denied(reading, base)
    exchange.caller = credential
    job = reading.job
    if job is None:
        return problems.problem("not_found", headers=rate_headers(reading.quota))
    exchange.job, exchange.model = job, job.model
    return job, reading


async def _read(api: TenantApi, exchange: Exchange, *, with_result: bool) -> Answer:
    base = base_of(api, exchange)
    read = await found(api, exchange, base, with_result=with_result)
    if isinstance(read, Answer):
        return read
    job, reading = read
    headers, result, now_ms = rate_headers(reading.quota), reading.result, reading.now_ms
    if b"prefer" in exchange.headers:
        began = monotonic()
        exchange.job = job = await hold(api, exchange, job, headers)
        now_ms += int((monotonic() - began) * 1000)
        if with_result and result is None and job.status == "COMPLETED":
            result = await api.jobs.kept(job.tenant, job.id)
    if result is not None:
        hold_result(api, exchange, len(result.body))
    if job.confirmed_ms is not None:
        headers.append((b"age", b"%d" % max(0, (now_ms - job.confirmed_ms) // 1000)))
    return _told(job, result, headers, base, with_result=with_result)


def hold_result(api: TenantApi, exchange: Exchange, size: int) -> None:
    """Hold a large result until its caller has it. Raises `Refused` where too many are on their way."""
    if size >= LARGE_BYTES:
        exchange.lease = Lease(api.results)
        exchange.lease.grow_or_refuse(size)


def _told(job: JobView, result: StoredResult | None, headers: HeaderList, base: str, *, with_result: bool) -> Answer:
    """Answer how a job stands, or with its result."""
    word = job.status
    headers += job_headers(job, held=not job.state.terminal)
    if word == "COMPLETED" and with_result:
        return _result(result, headers)
    return json_answer(status_body(job, base), headers, status=422 if word == "FAILED" else 200)


def status_body(job: JobView, base: str) -> bytes:
    """Write how a job stands."""
    word = job.status
    if word == "COMPLETED":
        return _completed(job)
    return _failed(job) if word == "FAILED" else _running(job, word, base)


def _running(job: JobView, word: str, base: str) -> bytes:
    url = f"{base}/v2/requests/{job.id}"
    return (
        f'{{"status":"{word}","request_id":"{job.id}",'
        f'"status_url":"{url}/status","response_url":"{url}","metrics":{{}}}}'
    ).encode("ascii")


def _completed(job: JobView) -> bytes:
    # How long it took stands in the result, in the vendor's own figures: ours would differ from them.
    cost = "" if job.cost is None else f'"cost":{format_credits(job.cost)}'
    return f'{{"status":"COMPLETED","request_id":"{job.id}","metrics":{{{cost}}}}}'.encode("ascii")


def _failed(job: JobView) -> bytes:
    error, timing = orjson.dumps(problems.clean(job.reason or "")), _total_time(job).encode("ascii")
    return b'{"status":"FAILED","request_id":"%b","error":%b,"metrics":{%b}}' % (job.id.encode("ascii"), error, timing)


def _total_time(job: JobView) -> str:
    """Write the seconds that the job took as a member of its metrics; nothing while it runs."""
    return "" if job.finished_ms is None else f'"total_time":{(job.finished_ms - job.created_ms) / 1000:.3f}'


def _result(kept: StoredResult | None, headers: HeaderList) -> Answer:
    if kept is None:
        return problems.problem("result_expired", headers=headers)
    kind = (JSON,) if kept.content_type == "application/json" else response_headers({"content-type": kept.content_type})
    headers += (*kind, NO_STORE, (b"content-length", b"%d" % len(kept.body)))
    return Answer(200, headers, kept.body if len(kept.body) < LARGE_BYTES else sliced(kept.body))
