"""The jobs of all tenants as operators look at them: no key, no limit, not for a hot path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.job import Job, JobState
from gateway.store import keys
from gateway.store.connect import RedisClient
from gateway.store.fanout import ask_tenants
from gateway.store.records import Reply, decode_job
from gateway.store.scripts import Script, Scripts


class RedisSurvey:
    """`service.resolve.Survey`. Raises `StoreUnavailable`."""

    def __init__(self, client: RedisClient, scripts: Scripts, library: Mapping[str, Script]) -> None:
        self._client = client
        self._scripts = scripts
        self._newest = library["newest"]
        self._find = library["find"]

    async def newest(self, *, limit: int, state: JobState | None = None, tenant: str | None = None) -> Sequence[Job]:
        """See `Survey.newest`."""

        async def of(t: str) -> Reply:
            reply: Reply = await self._scripts.run(self._newest, [keys.jobs(t), keys.job(t, "")], [limit, state or ""])
            return reply

        replies = await ask_tenants(self._client, of) if tenant is None else [(tenant, await of(tenant))]
        found = [decode_job(t, values) for t, reply in replies for values in reply]
        jobs = sorted(filter(None, found), key=lambda job: (job.created_ms, job.id), reverse=True)
        return jobs[:limit]

    async def find(self, job_id: str) -> Job | None:
        """See `Survey.find`."""

        async def of(t: str) -> Job | None:
            return decode_job(t, await self._scripts.run(self._find, [keys.job(t, job_id)], []))

        return next((job for _, job in await ask_tenants(self._client, of) if job is not None), None)
