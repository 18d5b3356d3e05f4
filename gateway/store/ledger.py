"""The ledger port on Redis: each method is one script in one round trip on the tenant's slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from gateway.core.job import TRANSITIONS, Job, JobState, VendorStatus
from gateway.core.movements import (
    Admission,
    Admitted,
    Denied,
    Finished,
    Release,
    Settlement,
    StoredResult,
)
from gateway.core.policy import KEY_LIFE_S, Policy
from gateway.core.quota import Quota, window_end
from gateway.core.targets import spellings
from gateway.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.bodies import pack
from gateway.store.epoch import EpochGuard
from gateway.store.records import (
    Reply,
    decode_finished,
    decode_job,
    decode_quota,
    decode_rate,
    decode_windows,
    encode_labels,
)
from gateway.store.scripts import BULK_FROM_BYTES, Script, Scripts

IDEMPOTENCY_TTL_MS = KEY_LIFE_S * 1000
VOIDED = "voided"
SLOT_RETRY_S = 5.0
"""When to ask again for a concurrency slot: jobs run for minutes, so nothing better is known."""
_NO_KEY = "-"
_TENANTS_OWN, _NOWHERE, _UNFIT = "", "-", "?"


def _from(state: JobState, only: JobState | None = None) -> str:
    """List the states that ``state`` may follow, as the scripts take them; with ``only``, at most that one."""
    return " ".join(before for before, after in TRANSITIONS.items() if state in after and only in {None, before})


def _large(result: StoredResult | None) -> bool:
    return result is not None and len(result.body) >= BULK_FROM_BYTES


async def _result_fields(result: StoredResult | None) -> list[bytes | str]:
    if result is None:
        return []
    body, how = await pack(result.body)
    fields: list[bytes | str] = ["body", body, "type", result.content_type]
    if how:
        fields += ["packed", how]
    if result.headers:
        fields += ["headers", orjson.dumps(dict(result.headers))]
    return fields


class RedisLedger:
    """`core.ports.Ledger`. Translates nothing itself: `Scripts` raises `StoreUnavailable`.

    Args:
        scripts: Runs the scripts.
        library: Scripts by name (`store.scripts.load_scripts`).
        policy: Gives the policy in force, for how long jobs and results are kept.
        epoch: Tells an unknown key from a dataset that is not the ledger.
    """

    def __init__(
        self, scripts: Scripts, library: Mapping[str, Script], policy: Callable[[], Policy], epoch: EpochGuard
    ) -> None:
        self._scripts = scripts
        self._epoch = epoch
        self._library = library
        self._policy = policy

    async def admit(self, admission: Admission) -> Admitted | Denied:
        """See `Ledger.admit`."""
        decision = await self._decide(admission, "admit")
        wanted = self._policy().durability
        if wanted != "none" and isinstance(decision, Admitted) and not decision.replayed:
            tenant = admission.credential.tenant
            await self._scripts.confirm(tenant, wanted, keys.job(tenant, admission.job_id))
        return decision

    async def quote(self, admission: Admission) -> Admitted | Denied:
        """See `Ledger.quote`."""
        return await self._decide(admission, "quote")

    async def _decide(self, a: Admission, mode: str) -> Admitted | Denied:
        t = a.credential.tenant
        reply = await self._run(
            "admit",
            [
                keys.tenant(t), keys.key(t, a.credential.key_id), keys.gcra(t, "submit"), keys.active(t),
                keys.budget(t), keys.job(t, a.job_id), keys.idempotency(t, a.idempotency_key or _NO_KEY),
                keys.ledger(t), keys.jobs(t), keys.sending(t), keys.usage(t), keys.alerts(t),
            ],
            [
                a.credential.digest, a.model, "" if a.estimate is None else a.estimate,
                "1" if a.idempotency_key is not None else "", a.fingerprint, a.job_id, a.owner, mode,
                IDEMPOTENCY_TTL_MS, _webhook(a), *_job_fields(a),
            ],
        )  # fmt: skip
        verdict = reply[0].decode()
        if len(reply) == 2:  # noqa: PLR2004 an unknown caller is told nothing
            return await self._epoch.denied(verdict, t)
        quota = decode_quota(decode_rate("submit", reply[2]), reply[3])
        if verdict == "admitted":
            hold, _, webhook = reply[4]
            return Admitted(_admitted_job(a, int(reply[1]), int(hold), webhook.decode() or None), quota)
        if verdict == "replayed":
            return await self._replay(t, reply[4][0].decode(), quota)
        return _denied(verdict, reply, quota)

    async def _replay(self, t: str, job_id: str, quota: Quota) -> Admitted | Denied:
        """Answer a request that was made before: with its job, or with 409 while that is being sent."""
        job = decode_job(t, await self._run("find", [keys.job(t, job_id)], []))
        if job is None or job.state is JobState.SENDING:
            return Denied("idempotency_in_progress", quota, retry_after_s=1.0, job_id=job_id)
        return Admitted(job, quota, replayed=True)

    async def void(self, admission: Admission) -> Finished:
        """See `Ledger.void`."""
        return await self.release(
            Release(
                tenant=admission.credential.tenant,
                job_id=admission.job_id,
                forget=admission.idempotency_key,
                state=JobState.REJECTED,
                reason="the store did not confirm the hold, so nothing was sent",
                code=VOIDED,
                actor="gateway",
            )
        )

    async def accept(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
        """See `Ledger.accept`."""
        return await self._accept(tenant, job_id, upstream_id, JobState.SENDING)

    async def adopt(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
        """See `Ledger.adopt`."""
        return await self._accept(tenant, job_id, upstream_id, JobState.UNKNOWN)

    async def _accept(self, tenant: str, job_id: str, upstream_id: str, before: JobState) -> Finished:
        names = [keys.job(tenant, job_id), keys.sending(tenant), keys.upstream(tenant, upstream_id)]
        return decode_finished(tenant, await self._run("accept", names, [job_id, upstream_id, before]))

    async def doubt(self, tenant: str, job_id: str, reason: str) -> Finished:
        """See `Ledger.doubt`."""
        names = [keys.job(tenant, job_id), keys.sending(tenant)]
        return decode_finished(tenant, await self._run("doubt", names, [job_id, reason]))

    async def progress(self, tenant: str, job_id: str, status: VendorStatus | None) -> Finished:
        """See `Ledger.progress`."""
        return decode_finished(tenant, await self._run("progress", [keys.job(tenant, job_id)], [status or ""]))

    async def note_overdue(self, tenant: str, job_id: str, level: int) -> bool:
        """See `Ledger.note_overdue`."""
        return bool(await self._run("overdue", [keys.job(tenant, job_id)], [level]))

    async def settle(self, settlement: Settlement) -> Finished:
        """See `Ledger.settle`."""
        s = settlement
        reply = await self._run(
            "settle",
            [*_ending_keys(s.tenant, s.job_id), keys.upstream(s.tenant, s.upstream_id or _NO_KEY)],
            [
                s.job_id, s.state, _from(s.state, s.only_from),
                "" if s.cost is None else s.cost, s.upstream_id or "", s.reason, s.actor,
                *self._ttls_ms(), *await _result_fields(s.result),
            ],
            bulk=_large(s.result),
        )  # fmt: skip
        return decode_finished(s.tenant, reply)

    async def release(self, release: Release) -> Finished:
        """See `Ledger.release`."""
        r = release
        reply = await self._run(
            "release",
            [*_ending_keys(r.tenant, r.job_id), keys.idempotency(r.tenant, r.forget or _NO_KEY)],
            [
                r.job_id, r.state, _from(r.state), r.code, r.reason, "1" if r.forget is not None else "", r.actor,
                IDEMPOTENCY_TTL_MS, *self._ttls_ms(), *await _result_fields(r.result),
            ],
            bulk=_large(r.result),
        )  # fmt: skip
        return decode_finished(r.tenant, reply)

    def _ttls_ms(self) -> tuple[int, int]:
        """Return how long a finished job and its result are kept: a job for as long as a replay may ask for it."""
        policy = self._policy()
        return max(policy.job_ttl_s * 1000, IDEMPOTENCY_TTL_MS), policy.result_ttl_s * 1000

    async def _run(self, name: str, names: list[str], args: list[bytes | str | int], *, bulk: bool = False) -> Reply:
        run = self._scripts.run_bulk if bulk else self._scripts.run
        reply: Reply = await run(self._library[name], names, args)
        return reply


def _ending_keys(t: str, job_id: str) -> list[str]:
    return [
        keys.job(t, job_id), keys.active(t), keys.sending(t), keys.budget(t), keys.ledger(t), keys.result(t, job_id),
        keys.owed(t), keys.usage(t), keys.tenant(t), keys.alerts(t),
    ]  # fmt: skip


def _webhook(a: Admission) -> str:
    """Say where the end of a job is to be announced, as the script takes it.

    A sync call's answer is its end: it is announced only where the request itself says so.
    """
    if a.webhook_url is None:
        return _TENANTS_OWN if a.kind == "async" else _NOWHERE
    return " ".join(spellings(a.webhook_url)) or _UNFIT


def _job_fields(a: Admission) -> list[str]:
    """List the record's fields that the caller decides; the script adds the rest."""
    optional = {
        "traceparent": a.traceparent,
        "webhook": a.webhook_url,
        "labels": encode_labels(a.labels),
    }
    fields = ["kind", a.kind, "key", a.credential.key_id, "upstream_key", a.upstream_key, "request_id", a.request_id]
    for name, value in optional.items():
        if value:
            fields += [name, value]
    return fields


def _admitted_job(a: Admission, now_ms: int, hold: int, webhook_url: str | None) -> Job:
    return Job(
        id=a.job_id,
        tenant=a.credential.tenant,
        key_id=a.credential.key_id,
        model=a.model,
        kind=a.kind,
        state=JobState.SENDING,
        hold=hold,
        created_ms=now_ms,
        fingerprint=a.fingerprint,
        upstream_key=a.upstream_key,
        request_id=a.request_id,
        traceparent=a.traceparent,
        webhook_url=webhook_url,
        labels=a.labels,
    )


def _denied(verdict: str, reply: Reply, quota: Quota) -> Denied:
    """Read a refusal with what its answer needs to be helpful."""
    if verdict == "budget_exhausted":
        required, at = int(reply[4][0]), int(reply[4][1]) - 1
        window = decode_windows(reply[3])[at]
        end = window_end(window.name, datetime.fromtimestamp(int(reply[1]) / 1000, UTC))
        resets_at_ms = None if end is None else int(end.timestamp() * 1000)
        return Denied(verdict, quota, window=window, required=required, resets_at_ms=resets_at_ms)
    if verdict == VOIDED:
        raise StoreUnavailable("this admission was undone before it arrived")
    if verdict.startswith("idempotency_") and reply[4]:
        return Denied(verdict, quota, job_id=reply[4][0].decode())
    retry_after_s = SLOT_RETRY_S if verdict == "concurrency_limited" else quota.rate.retry_after_s
    return Denied(verdict, quota, retry_after_s=retry_after_s)
