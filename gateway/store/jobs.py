"""Reads for tenants on Redis: key check, read limit and data in one script, one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

import orjson

from gateway.core.job import Job, JobState, VendorStatus, public_status
from gateway.core.listing import JobPage, JobQuery
from gateway.core.movements import (
    AccountView,
    Denied,
    Reading,
    StoredResult,
)
from gateway.core.quota import Window
from gateway.core.tenant import Credential
from gateway.store import keys
from gateway.store.bodies import unpack
from gateway.store.documents import tenant_from_json
from gateway.store.epoch import EpochGuard
from gateway.store.records import Reply, decode_job, decode_quota, decode_rate, decode_view, decode_windows
from gateway.store.scripts import BULK_FROM_BYTES, Script, Scripts

_LARGE = b"large"


class RedisJobs:
    """`core.ports.Jobs`. `Scripts` raises `StoreUnavailable`."""

    def __init__(self, scripts: Scripts, library: Mapping[str, Script], epoch: EpochGuard) -> None:
        self._scripts = scripts
        self._epoch = epoch
        self._library = library

    async def refusal(self, credential: Credential) -> Denied | None:
        """See `Jobs.refusal`."""
        t = credential.tenant
        names = [keys.tenant(t), keys.key(t, credential.key_id)]
        verdict: bytes = await self._scripts.run(self._library["door"], names, [credential.digest])
        return None if verdict == b"ok" else await self._epoch.denied(verdict.decode(), t)

    async def read(self, credential: Credential, job_id: str, *, with_result: bool) -> Reading | Denied:
        """See `Jobs.read`."""
        t = credential.tenant
        reply: Reply = await self._scripts.run(
            self._library["read"],
            [
                keys.tenant(t), keys.key(t, credential.key_id), keys.gcra(t, "read"), keys.job(t, job_id),
                keys.result(t, job_id),
            ],
            [credential.digest, BULK_FROM_BYTES if with_result else ""],
        )  # fmt: skip
        verdict = reply[0]
        if len(reply) == 2:  # noqa: PLR2004 an unknown caller is told nothing
            return await self._epoch.denied(verdict.decode(), t)
        rate = decode_rate("read", reply[2])
        if verdict != b"ok":
            return Denied(verdict.decode(), retry_after_s=rate.retry_after_s, rate=rate)
        result: StoredResult | None = None
        if with_result:
            result = await (self.kept(t, job_id) if reply[4] == [_LARGE] else _result(reply[4]))
        return Reading(decode_view(t, reply[3]), rate, int(reply[1]), result)

    async def page(self, credential: Credential, query: JobQuery) -> JobPage | Denied:
        """See `Jobs.page`."""
        t = credential.tenant
        reply: Reply = await self._scripts.run(
            self._library["page"],
            [keys.tenant(t), keys.key(t, credential.key_id), keys.gcra(t, "read"), keys.jobs(t), keys.job(t, "")],
            [credential.digest, query.limit, query.cursor, query.since_ms, query.model, _standings(query.statuses)],
        )
        rate = await self._epoch.entered(reply, t)
        if isinstance(rate, Denied):
            return rate
        jobs = filter(None, (decode_job(t, values) for values in reply[3]))
        return JobPage(tuple(jobs), rate, reply[4].decode() or None)

    async def account(self, credential: Credential) -> AccountView | Denied:
        """See `Jobs.account`."""
        return await self._view(credential, "read")

    async def upload_account(self, credential: Credential) -> AccountView | Denied:
        """See `Jobs.upload_account`."""
        return await self._view(credential, "submit")

    async def _view(self, credential: Credential, limit: str) -> AccountView | Denied:
        t = credential.tenant
        reply: Reply = await self._scripts.run(
            self._library["account"],
            [keys.tenant(t), keys.key(t, credential.key_id), keys.gcra(t, limit), keys.active(t), keys.budget(t)],
            [credential.digest, limit],
        )
        verdict = reply[0].decode()
        if len(reply) == 2:  # noqa: PLR2004 an unknown caller is told nothing
            return await self._epoch.denied(verdict, t)
        quota = decode_quota(decode_rate(limit, reply[2]), reply[3])
        if verdict != "ok":
            return Denied(verdict, quota, retry_after_s=quota.rate.retry_after_s)
        return AccountView(tenant_from_json(reply[4]), quota, decode_windows(reply[3]), int(reply[1]))

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """See `Jobs.find`."""
        reply: Reply = await self._scripts.run(self._library["find"], [keys.job(tenant, job_id)], [])
        return decode_job(tenant, reply)

    async def kept(self, tenant: str, job_id: str) -> StoredResult | None:
        """See `Jobs.kept`."""
        return await _result(await self._scripts.run_bulk(self._library["kept"], [keys.result(tenant, job_id)], []))

    async def windows(self, tenant: str) -> tuple[Window, ...]:
        """See `Jobs.windows`."""
        names = [keys.tenant(tenant), keys.active(tenant), keys.budget(tenant)]
        return decode_windows(await self._scripts.run(self._library["windows"], names, []))


def _standings(statuses: Iterable[VendorStatus]) -> str:
    """List every ``state/vendor's word`` that a tenant reads as one of these."""
    every = ((state, word) for state in JobState for word in get_args(VendorStatus))
    return " ".join(f"{state}/{word}" for state, word in every if public_status(state, word) in statuses)


async def _result(fields: Reply) -> StoredResult | None:
    body, content_type, how, *more = fields
    if body is None:
        return None
    kind = (content_type or b"application/json").decode()
    headers = orjson.loads(more[0]) if more and more[0] else {}
    return StoredResult(body=await unpack(body, how), content_type=kind, headers=headers)
