"""All of the store in memory, put together."""

from __future__ import annotations

from dataclasses import dataclass

from support.memory import Memory, MemoryTenants
from support.memory_ledger import MemoryLedger
from support.memory_pacing import MemoryPacing
from support.memory_queues import MemoryDue, MemoryExperience, MemorySweeper
from support.memory_reads import MemoryDoubts, MemoryJobs, MemorySurvey
from support.memory_webhooks import MemoryDeliveries
from support.ports import Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStore(Ports):
    """The ports of a store in memory."""

    memory: Memory

    async def pass_time(self, seconds: float) -> None:
        """See `Ports.pass_time`."""
        self.memory.pass_time(seconds)


def memory_store() -> MemoryStore:
    """Make a store that holds nothing."""
    memory = Memory()
    return MemoryStore(
        tenants=MemoryTenants(memory),
        ledger=MemoryLedger(memory),
        jobs=MemoryJobs(memory),
        due=MemoryDue(memory),
        sweeper=MemorySweeper(memory),
        doubts=MemoryDoubts(memory),
        experience=MemoryExperience(memory),
        survey=MemorySurvey(memory),
        pacing=MemoryPacing(memory),
        deliveries=MemoryDeliveries(memory),
        hooks=MemoryDue(memory),
        memory=memory,
    )
