from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.ledger import admission
from support.ledger_pair import TENANT, LedgerPair
from support.memory import OPEN, UNSENT

from gateway.core.job import JobState, VendorStatus
from gateway.core.movements import (
    Admission,
    ChargedState,
    Finished,
    FreeState,
    Release,
    Settlement,
    StoredResult,
)
from gateway.core.ports import Ledger
from gateway.core.tenant import WINDOWS, RateLimit, TenantPolicy, WindowName

IDEMPOTENCY_KEYS = (None, None, "first", "second")
AMOUNTS = st.integers(0, 9)
NUMBERS = st.integers(0, 5)
BUDGETS = st.dictionaries(st.sampled_from(WINDOWS), st.integers(0, 16), max_size=3)
WORDS = st.sampled_from((None, "QUEUED", "PROCESSING", "COMPLETED", "FAILED"))
RESULTS = st.sampled_from((None, StoredResult(body=b"\x00{}", content_type="application/json")))
# Far more than an example uses, and its state lasts for days: Redis drops it by the real time, which is not the test's.
PLENTY = RateLimit(limit=1, period_s=86_400, burst=365)
POLICIES = st.builds(
    TenantPolicy,
    id=st.just(TENANT),
    models=st.just(("kling-*",)),
    submit=st.just(PLENTY),
    concurrent_jobs=st.integers(2, 8),
    budgets=BUDGETS,
    prices=st.just({"kling-priced": 3}),
    require_idempotency_key=st.sampled_from((False,) * 5 + (True,)),
)
REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(("kling-2.6",) * 8 + ("kling-priced", "kling-priced", "other")),
        "estimate": st.sampled_from((1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 0, None)),
        "idempotency_key": st.sampled_from(IDEMPOTENCY_KEYS),
        "fingerprint": st.sampled_from("aab"),
        "owner": st.sampled_from(("process-1", "process-2")),
        "labels": st.just({"team": "video"}),
    }
)


class LedgerMachine(RuleBasedStateMachine):
    """Call both ledgers in any order; time is the test's own and may pass between any two calls."""

    url: str

    @initialize(
        start=st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)),  # noqa: DTZ001  # hypothesis wants naive bounds
        policy=POLICIES,
        requests=st.lists(REQUESTS, min_size=3, max_size=6),
    )
    def begin(self, start: datetime, policy: TenantPolicy, requests: list[dict[str, Any]]) -> None:
        """Write the tenant at some moment of the century, and let its first requests arrive."""
        self.requests: list[Admission] = []
        self.pair = LedgerPair(self.url, policy, start.replace(tzinfo=UTC))
        self.submit([{"estimate": 1, "idempotency_key": "first"}, *requests])

    def teardown(self) -> None:
        """Audit the ledger, and close the connection."""
        self.pair.audit()
        self.pair.close()

    def pick(self, number: int, *states: JobState) -> Admission:
        """Choose a request: first come those whose job is in one of the states."""
        jobs = {job_id for job_id, job in self.pair.books.jobs.items() if job.state in states}
        ordered = sorted(self.requests, key=lambda request: request.job_id not in jobs)
        return ordered[number % len(ordered)]

    @rule(span=st.timedeltas(timedelta(0), timedelta(days=40)))
    def time_passes(self, span: timedelta) -> None:
        """Let windows end."""
        self.pair.set_time(self.pair.now + span)

    @rule(budgets=BUDGETS)
    def budgets_change(self, budgets: dict[WindowName, int]) -> None:
        """Raise, lower, add or take away budgets, also to less than what is spent."""
        self.pair.apply(replace(self.pair.books.policy, budgets=budgets))

    @rule(request=REQUESTS)
    def a_caller_asks(self, request: dict[str, Any]) -> None:
        """Make a request that arrives later, if at all, and may be undone before."""
        self.requests.append(admission(self.pair.credential, **request))

    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=3))
    def submit(self, requests: list[dict[str, Any]]) -> None:
        """Make requests that arrive at once."""
        for request in requests:
            self.a_caller_asks(request)
            self.pair.admit(self.requests[-1])

    @rule(number=NUMBERS)
    def admit(self, number: int) -> None:
        """Let a request arrive for the first or a further time."""
        self.pair.admit(self.pick(number))

    @rule(number=NUMBERS)
    def quote(self, number: int) -> None:
        """Ask what a request would get."""
        self.pair.quote(self.pick(number))

    @rule(number=NUMBERS)
    def void(self, number: int) -> None:
        """Undo an admission, before or after it."""
        request = self.pick(number, *UNSENT)
        self.pair.write(lambda ledger: ledger.void(request))

    @rule(number=NUMBERS, vendor_id=st.sampled_from(("vendor-1", "vendor-2")))
    def accept(self, number: int, vendor_id: str) -> None:
        """Have the vendor accept."""
        job = self.pick(number, JobState.SENDING).job_id
        self.pair.write(lambda ledger: ledger.accept(TENANT, job, vendor_id))

    @rule(number=NUMBERS, vendor_id=st.sampled_from(("vendor-1", "vendor-2")))
    def adopt(self, number: int, vendor_id: str) -> None:
        """Find the job at the vendor."""
        job = self.pick(number, JobState.UNKNOWN).job_id
        self.pair.write(lambda ledger: ledger.adopt(TENANT, job, vendor_id))

    @rule(number=NUMBERS)
    def doubt(self, number: int) -> None:
        """Lose the vendor's answer."""
        job = self.pick(number, *UNSENT).job_id
        self.pair.write(lambda ledger: ledger.doubt(TENANT, job, "reset"))

    @rule(number=NUMBERS, words=st.lists(WORDS, min_size=1, max_size=4))
    def poll(self, number: int, words: list[VendorStatus | None]) -> None:
        """Hear of a job that the vendor has, in any order."""
        self.accept(number, "vendor-1")
        self.adopt(number, "vendor-1")
        job = self.pick(number, JobState.ACCEPTED).job_id
        for word in words:
            self.pair.write(partial(_progress, job, word))

    @rule(number=NUMBERS, level=st.integers(1, 2))
    def note_overdue(self, number: int, level: int) -> None:
        """Find that a job takes long."""
        self.pair.note_overdue(self.pick(number, JobState.ACCEPTED).job_id, level)

    @rule(
        number=NUMBERS,
        state=st.sampled_from((JobState.COMPLETED, JobState.COMPLETED, JobState.EXPIRED)),
        cost=st.one_of(st.none(), AMOUNTS),
        limits=st.fixed_dictionaries(
            {
                "upstream_id": st.sampled_from((None, "vendor-3")),
                "only_from": st.sampled_from((None, None, *JobState)),
            }
        ),
        result=RESULTS,
    )
    def settle(
        self, number: int, state: ChargedState, cost: int | None, limits: dict[str, Any], result: StoredResult | None
    ) -> None:
        """Charge what the vendor reports, be it nothing or more than the hold."""
        job = self.pick(number, *OPEN).job_id
        charge = Settlement(tenant=TENANT, job_id=job, state=state, cost=cost, result=result, **limits)
        self.pair.write(lambda ledger: ledger.settle(charge))

    @rule(
        number=NUMBERS,
        state=st.sampled_from((JobState.FAILED, JobState.REJECTED)),
        forget=st.sampled_from(IDEMPOTENCY_KEYS),
        result=RESULTS,
    )
    def release(self, number: int, state: FreeState, forget: str | None, result: StoredResult | None) -> None:
        """Give the hold back, with or without forgetting an idempotency key, the job's own or another's."""
        job = self.pick(number, *OPEN).job_id
        end = Release(tenant=TENANT, job_id=job, state=state, reason="refused", forget=forget, result=result)
        self.pair.write(lambda ledger: ledger.release(end))

    @invariant()
    def agrees_with_the_memory(self) -> None:
        """Compare all that is stored."""
        self.pair.compare()


async def _progress(job: str, word: VendorStatus | None, ledger: Ledger) -> Finished:
    return await ledger.progress(TENANT, job, word)


@pytest.mark.timeout(600)  # a failure takes minutes to shrink
def test_the_scripts_agree_with_the_ledger_in_memory(valkey_url: str) -> None:
    """Whatever is called in whatever order, money, slots and states are those of the model after each call."""

    class OnThisServer(LedgerMachine):
        url = valkey_url

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=80,
            stateful_step_count=40,
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
