"""A store whose time passes, and whose old things are trimmed as a process does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from support.ledger import Store, clocked, set_clock

from gateway.catalogue.loader import load_catalogue
from gateway.core.audit import Difference
from gateway.core.policy import Policy
from gateway.service.audit import Auditor
from gateway.service.rules import Rules
from gateway.service.trim import Trimmer
from gateway.store.adjustments import RedisAdjustments
from gateway.store.doubts import RedisDoubts
from gateway.store.index import RedisIndex
from gateway.store.ledgers import RedisLedgers
from gateway.store.scripts import load_scripts

_GROW_OLD: Final = """
for _, name in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', name)
  if left >= 0 then redis.call('PEXPIRE', name, left - ARGV[1]) end -- one whose time is up is deleted
end
"""


class Life:
    """A clocked store, from now on. `begin` it; times are those of the scripts, and of what expires."""

    def __init__(self, store: Store, now_s: int) -> None:
        self.store = store
        self._now_s = now_s
        self.library = clocked(load_scripts())
        self.ledgers = RedisLedgers(store.client, store.scripts, self.library)
        self.index = RedisIndex(store.scripts, self.library)
        doubts = RedisDoubts(store.client, store.scripts, self.library)
        self.adjustments = RedisAdjustments(store.scripts, self.library, doubts)

    @classmethod
    async def begin(cls, store: Store) -> Life:
        """Set the clock to the server's own time, by which ledger entries are named."""
        life = cls(store, (await store.client.time())[0] + 1)
        await life._set_clock()
        return life

    async def passes(self, seconds: int, *, trim: bool = True) -> None:
        """Let time pass, then trim."""
        self._now_s += seconds
        await self._set_clock()
        await self.store.client.eval(_GROW_OLD, 0, seconds * 1000)
        if trim:
            await self._trim()

    async def _trim(self) -> None:
        await Trimmer(self.ledgers, self.index, self.store.sweeper, Rules(Policy(), load_catalogue())).trim()

    async def audited(self) -> list[Difference]:
        """Replay the ledgers, as ``gateway ledger verify`` does now."""
        return list((await Auditor(self.ledgers, lambda: Policy().job_ttl_s).verify()).differences)

    async def sizes(self) -> dict[str, int]:
        """Count the elements of every key; a string is one."""
        client = self.store.client
        counts: Mapping[Any, Callable[[bytes], Any]] = {
            b"hash": client.hlen,
            b"zset": client.zcard,
            b"set": client.scard,
            b"stream": client.xlen,
            b"list": client.llen,
        }
        found: dict[str, int] = {}
        async for name in client.scan_iter(count=1000):
            count = counts.get(await client.type(name))
            found[name.decode()] = await count(name) if count else 1
        return found

    async def kinds(self, tenant: str) -> Counter[str]:
        """Count a tenant's keys by kind."""
        return Counter(name.split(":")[1] for name in await self.sizes() if name.startswith(f"{{{tenant}}}"))

    async def _set_clock(self) -> None:
        await set_clock(self.store.client, self._now_s * 1_000_000)
