"""What must be true of a service in memory, judged by what the vendor took and by the ledger, not by the services."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from support.memory import OPEN, Movement
from support.memory_world import World

from gateway.core.events import Alert, JobEnded
from gateway.core.job import Job, JobState
from gateway.service.resolve import ACTOR

MISTAKES: Final = frozenset(
    {"tracker.failed", "sweep.failed", "adoption.failed", "outbox.dropped", "job.settle_failed", "background.failed"}
)
"""Alerts that tell of an exception which nobody has foreseen."""
MINUTE_S: Final = 60.0
RELEASED: Final = frozenset({JobState.REJECTED, JobState.FAILED})


@dataclass(slots=True)
class Account:
    """One tenant's ledger, replayed as far as it was read."""

    read: int = 0
    spent: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    holds: dict[str, int] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)
    ended_by: dict[str, str] = field(default_factory=dict)


@dataclass
class Oracle:
    """Checks after every step; jobs with equal inputs are one group, since nobody can tell whose a row is.

    Attributes:
        excused: Groups whose sums may differ from the vendor's bill, and why: by an operator's word, by a cost that was
            not told or a record that was lost, by a history that could not be read when policy had to decide.
    """

    world: World
    excused: dict[str, str] = field(default_factory=dict)
    _accounts: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    _ends: dict[str, Job] = field(default_factory=dict)
    _in_vain: set[str] = field(default_factory=set)

    def check(self) -> None:
        """Check what is true at any moment."""
        for tenant, books in self.world.store.memory.tenants.items():
            self._follow(tenant, self._accounts[tenant], books.ledger)
            assert {f"{w}:spent": n for w, n in self._accounts[tenant].spent.items() if n} | {
                f"{w}:held": n for w, n in self._accounts[tenant].held.items() if n
            } == books.counters()
        jobs = {job.id: job for job in self.world.jobs()}
        for job in jobs.values():
            self._check_job(job)
        self._in_vain |= {
            job_id
            for books in self.world.store.memory.tenants.values()
            for job_id, (readable_ms, _) in books.looks.items()
            if readable_ms is None
        }
        known = [job.upstream_id for job in jobs.values() if job.upstream_id is not None]
        assert len(known) == len(set(known)), "one vendor's job belongs to two of ours"
        self._check_vendor(jobs)
        self._check_groups(jobs)
        told = Counter(event.job_id for event in self.world.events if isinstance(event, JobEnded))
        assert not told or max(told.values()) == 1, "the end of a job was told twice"
        mistakes = [event for event in self.world.events if isinstance(event, Alert) and event.event in MISTAKES]
        assert not mistakes
        assert not self.world.surprises
        idle = {process.name for process in self.world.processes if process.border.alive and process.idle}
        for books in self.world.store.memory.tenants.values():
            assert idle.isdisjoint(books.owners.values()), "a job is being sent that nobody has in hand"

    def check_end(self) -> None:
        """Check what is true once nothing more will happen: every job has ended, and was charged what is billed."""
        jobs, now_s = self.world.jobs(), self.world.now_s()
        assert [job for job in jobs if not job.state.terminal] == []
        charged, billed = Counter[str](), Counter[str]()
        for job in jobs:
            charged[job.fingerprint] += job.cost or 0
        for made in self.world.vendor.jobs:
            billed[made.fingerprint] += made.bill(now_s)
        for group in charged.keys() | billed.keys():
            if group not in self.excused:
                assert charged[group] == billed[group], f"charged {charged[group]}, billed {billed[group]}"

    def _follow(self, tenant: str, account: Account, ledger: list[Movement]) -> None:
        """Read the new entries of a ledger."""
        for entry in ledger[account.read :]:
            charge = entry.amount if entry.kind in {"settle", "overrun"} else 0
            for window in entry.windows:
                account.spent[window] += charge
                account.held[window] += entry.hold if entry.kind == "hold" else -entry.hold
            assert (entry.spent, entry.held) == (account.spent["total"], account.held["total"])
            if entry.kind == "hold":
                assert entry.job_id not in account.holds, "a hold was opened twice"
                account.holds[entry.job_id] = entry.hold
                day = entry.windows[0]
                assert account.spent[day] + account.held[day] <= self.world.budget, f"{tenant} is over its budget"
            elif entry.kind == "overrun":
                account.charged[entry.job_id] += charge
            else:
                assert entry.job_id not in account.charged, "a hold ended twice"
                assert account.holds[entry.job_id] == entry.hold
                account.charged[entry.job_id] = charge
                account.ended_by[entry.job_id] = entry.actor
        account.read = len(ledger)

    def _check_job(self, job: Job) -> None:
        account = self._accounts[job.tenant]
        assert job.state.terminal is (job.id in account.charged), f"{job.state} does not fit the ledger"
        if not job.state.terminal:
            return
        assert (job.cost or 0) == account.charged[job.id]
        if job.id not in self._ends:
            self._ends[job.id] = job
            self._judge(job)
        assert self._ends[job.id] == job, "a job changed after its end"

    def _judge(self, job: Job) -> None:
        """Excuse a job's group where what it ended by is all that could be known; it has ended in this step."""
        made = next((made for made in self.world.vendor.jobs if made.id == job.upstream_id), None)
        policy, unread_s = self.world.policy, self.world.vendor.in_vain_s - job.created_ms / 1000
        by_policy = JobState.EXPIRED if policy.unknown_jobs == "charge" else JobState.REJECTED
        if self._accounts[job.tenant].ended_by[job.id] == ACTOR:
            self.excused[job.fingerprint] = "an operator decided"
        elif made is None and job.state is by_policy and unread_s >= policy.unknown_after_s:
            self.excused[job.fingerprint] = "policy had to decide"
            if job.state is JobState.EXPIRED:
                assert job.id in self._in_vain, "policy decided at the first look in vain"
        elif made is not None and job.state is JobState.EXPIRED and made.denied > 1:
            self.excused[job.fingerprint] = "the vendor denied it twice"
        elif made is not None and job.state is JobState.COMPLETED and made.plan.reported is None:
            self.excused[job.fingerprint] = "no cost was told"
        if job.estimated or job.state is JobState.EXPIRED:
            assert job.fingerprint in self.excused, f"{job.state} for no reason"

    def _check_vendor(self, jobs: dict[str, Job]) -> None:
        """At most one POST for a job of ours, at most one accepted for a request of a caller, and none is lost."""
        assert all(count == 1 for count in self.world.vendor.posts.values()), "a job was sent twice"
        took = Counter(made.job_id for made in self.world.vendor.jobs)
        assert took.keys() <= jobs.keys(), "the vendor runs a job that is not on record"
        posts = self.world.vendor.posts
        assert not any(posts[job_id] for job_id in self.world.refused), "what was sent could not be begun"
        self._check_pace(self.world.vendor.posted_s)
        for logical, ids in self.world.jobs_of.items():
            assert sum(took[job_id] for job_id in ids) <= 1, f"{logical} runs twice"

    def _check_pace(self, posted_s: list[float]) -> None:
        """No minute has more POSTs than the policy allows."""
        limit = self.world.policy.upstream_rpm
        if limit is not None and len(posted_s) > limit:
            minutes = zip(posted_s, posted_s[limit:], strict=False)
            assert all(later - begun >= MINUTE_S for begun, later in minutes), "the vendor was asked too often"

    def _check_groups(self, jobs: dict[str, Job]) -> None:
        """No job is released while the vendor runs it, has billed it, or may have."""
        now_s, running, standing = self.world.now_s(), Counter[str](), Counter[str]()
        for made in self.world.vendor.jobs:
            running[made.fingerprint] += made.word(now_s) != "FAILED"
        for job in jobs.values():
            standing[job.fingerprint] += job.state in OPEN or job.state not in RELEASED
        for group, count in running.items():
            assert group in self.excused or standing[group] >= count, "released without evidence"
