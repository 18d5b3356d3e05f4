"""UNKNOWN jobs on Redis: which there are, whose a vendor's id is, and the claim on it that holds for all tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from gateway.core.adoption import Doubt, Traces, Twin, claim_stands, owner_name
from gateway.core.job import Job
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors
from gateway.store.fanout import ask_tenants, text
from gateway.store.records import Reply, decode_job
from gateway.store.scripts import Script, Scripts

CLAIM_S: Final = 32 * 86_400
"""The vendor's history can be asked for 31 days."""
_IDS_A_TRIP: Final = 500


class RedisDoubts:
    """`core.ports.Doubts`. Raises `StoreUnavailable`."""

    def __init__(self, client: RedisClient, scripts: Scripts, library: Mapping[str, Script]) -> None:
        self._client = client
        self._scripts = scripts
        self._unknown = library["unknown"]
        self._traces = library["traces"]
        self._look = library["look"]
        self._reclaim = library["reclaim"]
        self._find = library["find"]

    async def unknown(self) -> tuple[Sequence[Doubt], int]:
        """See `Doubts.unknown`."""
        replies = await ask_tenants(
            self._client, lambda t: self._scripts.run(self._unknown, [keys.sending(t), keys.job(t, "")], [])
        )
        found = [doubt for tenant, reply in replies for doubt in _doubts(tenant, reply)]
        return found, min((int(reply[0]) for _, reply in replies), default=0)

    async def traces(self, upstream_ids: Collection[str], fingerprints: Collection[str]) -> Traces:
        """See `Doubts.traces`."""
        owners: dict[str, str] = {}
        prints: dict[str, str] = {}
        used: set[str] = set()
        without: list[Twin] = []
        wanted = sorted(fingerprints)
        for ids in _groups(sorted(upstream_ids)):
            replies = await ask_tenants(self._client, partial(self._trace, ids=ids, fingerprints=wanted))
            for tenant, (jobs, inputs, lacking, sent_with) in replies:
                owners |= {named: f"{tenant}/{job.decode()}" for named, job in zip(ids, jobs, strict=True) if job}
                prints |= {named: text(digest) for named, digest in zip(ids, inputs, strict=True) if digest}
                without += _twins(lacking)
                used.update(text(key) for key in sent_with if key)
            owners |= await self._claims([named for named in ids if named not in owners])
        return Traces(owners, without, prints, frozenset(used))

    async def claim(self, upstream_id: str, job: Job) -> bool:
        """See `Doubts.claim`."""
        name, wanted = keys.claim(upstream_id), owner_name(job)
        with store_errors():
            if await self._client.set(name, wanted, nx=True, ex=CLAIM_S):
                return True
            owner = text(await self._client.get(name) or wanted)
        if owner != wanted and await self._stands(upstream_id, owner):
            return False
        return bool(await self._scripts.run(self._reclaim, [name], [owner, wanted, CLAIM_S]))

    async def note(self, job: Job, *, readable: bool) -> int | None:
        """See `Doubts.note`."""
        reply = await self._scripts.run(self._look, [keys.job(job.tenant, job.id)], ["1" if readable else ""])
        return int(reply) if reply else None

    async def _claims(self, upstream_ids: Sequence[str]) -> dict[str, str]:
        """Say which jobs have claimed some ids, each claim that still counts."""
        with store_errors():
            claims = await asyncio.gather(*(self._client.get(keys.claim(named)) for named in upstream_ids))
        owners = {named: text(owner) for named, owner in zip(upstream_ids, claims, strict=True) if owner}
        stand = await asyncio.gather(*(self._stands(named, owner) for named, owner in owners.items()))
        return {named: owner for (named, owner), stands in zip(owners.items(), stand, strict=True) if stands}

    async def _stands(self, upstream_id: str, owner: str) -> bool:
        tenant, _, job_id = owner.partition("/")
        claimant = decode_job(tenant, await self._scripts.run(self._find, [keys.job(tenant, job_id)], []))
        return claim_stands(claimant, upstream_id)

    async def _trace(self, t: str, ids: Sequence[str], fingerprints: Sequence[str]) -> Reply:
        names = [keys.sending(t), keys.job(t, ""), *(keys.upstream(t, named) for named in ids)]
        reply: Reply = await self._scripts.run(self._traces, names, fingerprints)
        return reply


def _doubts(tenant: str, reply: Reply) -> Iterator[Doubt]:
    """Read {now ms, then record, readable, looked of each job}."""
    for values, readable, looked in zip(reply[1::3], reply[2::3], reply[3::3], strict=True):
        job = decode_job(tenant, values)
        if job is not None:
            yield Doubt(job, int(readable) if readable else None, int(looked) if looked else None)


def _twins(reply: Reply) -> Iterator[Twin]:
    """Read {job, fingerprint, created ms, ...}."""
    for job, fingerprint, created_ms in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
        yield Twin(job.decode(), fingerprint.decode(), int(created_ms))


def _groups(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut ids into groups that a script can take; one group at least, for the inputs that are asked about."""
    for at in range(0, max(1, len(ids)), _IDS_A_TRIP):
        yield ids[at : at + _IDS_A_TRIP]
