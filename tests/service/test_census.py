from __future__ import annotations

from support.tracking import TENANT, Figures, Rig

from gateway.service.census import Census


async def test_the_census_feeds_the_gauges(rig: Rig) -> None:
    """Running jobs are counted by state over all tenants, and every tenant's budgets are read."""
    figures = Figures()
    jobs = [await rig.start(hold=5) for _ in range(3)]
    await rig.store.caller("other", budgets={"day": 10})
    for job, state in zip(jobs, ("SENDING", "UNKNOWN"), strict=False):
        await rig.store.client.hset(f"{{{TENANT}}}:sending", job.id, "process" if state == "SENDING" else "?")
    await Census(sweeper=rig.store.sweeper, jobs=rig.store.jobs, gauges=figures).count()
    assert figures.jobs == {"SENDING": 1, "ACCEPTED": 1, "UNKNOWN": 1}
    assert [(w.name, w.held) for w in figures.budgets[TENANT]] == [(n, 15) for n in ("day", "week", "month", "total")]
    assert [(w.name, w.limit) for w in figures.budgets["other"]] == [("day", 10)]
    await rig.store.client.delete(f"{{{TENANT}}}:sending")
