"""The whole service, driven at random: callers, crashes, time, a store and a vendor that fail (``FAULTS_EXAMPLES``)."""

from __future__ import annotations

import os
from collections import Counter, deque
from contextlib import suppress
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.memory_oracle import Oracle
from support.memory_process import Strike, Work
from support.memory_vendor import Plan, Trouble
from support.memory_world import HOLD, ROUND, TENANTS, World

from gateway.core.job import Job
from gateway.core.policy import Policy, UnknownJobs
from gateway.errors import Refused

EXAMPLES = int(os.environ.get("FAULTS_EXAMPLES", "500"))
STEPS = 50
NUMBERS = st.integers(0, 7)
PROCESSES = st.integers(0, 1)
PROMPTS = st.sampled_from(("a", "a", "a", None))
KEYS = st.sampled_from((None, None, None, "k-1"))
COSTS = st.sampled_from((HOLD, HOLD, 7, 15))
SPANS_S = st.sampled_from((10, 2, 20, 45, 120, 400, 1200))
WORKS: st.SearchStrategy[Work] = st.sampled_from(ROUND)
STRIKES: st.SearchStrategy[Strike] = st.sampled_from(
    ("die before", "die after", "refuse", "lose the reply", "stall", "stall", "leave late")
)
TROUBLES: st.SearchStrategy[Trouble] = st.sampled_from(("lost", "limited", "missing", "stale", "garbage"))
TWINS = st.builds(
    Plan,
    answer=st.sampled_from(("ok", "lost")),
    takes=st.booleans(),
    parked=st.booleans(),
    runs_s=st.sampled_from((0.2, 20)),
    listed_s=st.sampled_from((0, 30)),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw what becomes of a POST; most are taken and answered."""
    cost = draw(COSTS)
    return Plan(
        answer=draw(st.sampled_from(("ok", "ok", "ok", "ok", "lost", "lost", "lost", "unsent", 400, 429))),
        takes=draw(st.booleans()),
        parked=draw(st.sampled_from((False, False, True))),
        late_s=draw(st.sampled_from((0, 0, 0, 30, 90))),
        runs_s=draw(st.sampled_from((0.2, 20, 300))),
        fails=draw(st.sampled_from((False, False, True))),
        cost=cost,
        reported=draw(st.sampled_from((cost, cost, cost, None))),
        listed_s=draw(st.sampled_from((0, 30, 200))),
        breaks=draw(st.booleans()),
    )


class ServiceMachine(RuleBasedStateMachine):
    """Two processes of the service; whatever comes in whatever order, money and jobs are right after each step.

    Attributes:
        tried: Counts examples, and steps after which everything was checked.
    """

    tried: ClassVar[Counter[str]]

    @initialize(
        unknown_jobs=st.sampled_from(("charge", "release")),
        budget=st.sampled_from((1000, 35)),
        slots=st.sampled_from((100, 4)),
        known=st.sampled_from((True, True, False)),
        upstream_rpm=st.sampled_from((None, None, None, 4)),
    )
    def begin(
        self, unknown_jobs: UnknownJobs, budget: int, slots: int, *, known: bool, upstream_rpm: int | None
    ) -> None:
        """Start two processes on an empty store, with a vendor whose history shows the model, or not yet."""
        self.world = World(Policy(unknown_jobs=unknown_jobs, upstream_rpm=upstream_rpm), budget, slots, known)
        self.oracle = Oracle(self.world)
        self.tried["examples"] += 1

    @rule(process=PROCESSES, tenant=st.sampled_from(TENANTS), prompt=PROMPTS, key=KEYS, plan=plans())
    def submit(self, *, process: int, tenant: str, prompt: str | None, key: str | None, plan: Plan) -> None:
        """Have a caller submit a job, with inputs that others use too or that are its own."""
        self.ask(process, tenant, f"async {key or prompt or len(self.world.asks)}", key, plan)

    @rule(process=PROCESSES, tenant=st.sampled_from(TENANTS), prompt=PROMPTS, key=KEYS, plan=plans())
    def call(self, *, process: int, tenant: str, prompt: str | None, key: str | None, plan: Plan) -> None:
        """Have a caller make a sync call.

        Never with the inputs of a submit: a row of the history does not tell which of the two it is.
        """
        self.ask(process, tenant, f"sync {key or prompt or len(self.world.asks)}", key and f"sync-{key}", plan)

    @rule(
        kind=st.sampled_from(("async", "sync")),
        twins=st.lists(st.tuples(st.sampled_from(TENANTS), TWINS), min_size=2, max_size=2),
        given_up=st.booleans(),
        calls=st.integers(3, 6),
        answers=st.integers(0, 2),
    )
    def twins_race(self, *, kind: str, twins: list[tuple[str, Plan]], given_up: bool, calls: int, answers: int) -> None:
        """Have two equal requests in flight, perhaps given up on, and answered while a look at the history pauses."""
        _, looker = self.world.processes
        prompt = f"{kind} twins {len(self.world.asks)}"
        for tenant, plan in twins:
            self.ask(0, tenant, prompt, None, plan)
        self.world.pass_time(20)
        if given_up:
            self.world.work(looker, "orphans")
        looker.border.arm(calls, "stall")
        self.world.work(looker, "adopt")
        for _ in range(answers):
            self.world.release(-1)
        self.world.resume(looker)

    def ask(self, process: int, tenant: str, prompt: str, key: str | None, plan: Plan) -> None:
        """Make a request whose POST, if there is one, becomes what was planned."""
        self.world.vendor.plans = deque([plan])
        self.world.ask(self.world.processes[process], tenant, prompt, key)

    @precondition(lambda self: any(ask.request.idempotency_key for ask in self.world.asks))
    @rule(process=PROCESSES, number=NUMBERS, plan=plans())
    def ask_again(self, process: int, number: int, plan: Plan) -> None:
        """Have a caller repeat a request by its idempotency key, answered or not."""
        keyed = [ask for ask in self.world.asks if ask.request.idempotency_key is not None]
        self.world.vendor.plans = deque([plan])
        self.world.send(self.world.processes[process], keyed[-1 - number % len(keyed)])

    @precondition(lambda self: self.world.vendor.parked)
    @rule(number=NUMBERS)
    def the_vendor_answers(self, number: int) -> None:
        """Let a call that waits have its answer."""
        self.world.release(number)

    @rule(seconds=SPANS_S)
    def time_passes(self, seconds: float) -> None:
        """Let time go by in which every process stands still."""
        self.world.pass_time(seconds)

    @rule(seconds=SPANS_S, process=PROCESSES)
    def life_goes_on(self, seconds: float, process: int) -> None:
        """Let time go by, after which one process does all its work."""
        self.world.pass_time(seconds)
        self.world.work(self.world.processes[process], *ROUND)

    @rule(process=PROCESSES, what=WORKS)
    def work(self, process: int, what: Work) -> None:
        """Have a process do one piece of its background work."""
        self.world.work(self.world.processes[process], what)

    @rule(process=PROCESSES)
    def crash(self, process: int) -> None:
        """Kill a process, whatever it has in hand; another starts in its place."""
        self.world.processes[process].border.alive = False
        self.world.bury()

    @rule(process=PROCESSES, calls=st.integers(1, 12), strike=STRIKES)
    def strike(self, process: int, calls: int, strike: Strike) -> None:
        """Have a process die, pause, or its store fail, at one of its next calls to store or vendor."""
        self.world.processes[process].border.arm(calls, strike)

    @rule(number=NUMBERS)
    def a_caller_goes(self, number: int) -> None:
        """Have a caller hang up before it has its answer."""
        self.world.leave(number)

    @rule(process=PROCESSES, away=st.sampled_from((True, False, False)))
    def the_store_goes_and_comes(self, process: int, *, away: bool) -> None:
        """Let the store be out of a process's reach from now on, or no longer."""
        self.world.processes[process].border.away = away

    @rule(process=PROCESSES)
    def the_pause_ends(self, process: int) -> None:
        """Let a process go on with what was paused."""
        self.world.resume(self.world.processes[process])

    @rule(trouble=TROUBLES)
    def a_poll_goes_wrong(self, trouble: Trouble) -> None:
        """Have the vendor answer the next poll badly."""
        self.world.vendor.troubles.append(trouble)

    @rule(what=st.sampled_from(("history down", "history up", "history up", "forget", "operator")), number=NUMBERS)
    def something_rare_happens(self, what: str, number: int) -> None:
        """Have the history fail or work again, a record be lost, or an operator end a job."""
        if what.startswith("history"):
            self.world.vendor.readable = what == "history up"
        elif what == "forget" and self.world.vendor.jobs:
            self.world.vendor.jobs[number % len(self.world.vendor.jobs)].forgotten = True
        elif what == "operator" and number < len(self.world.jobs()):
            self.operator_ends(self.world.jobs()[number], None if number % 2 else number)

    def operator_ends(self, job: Job, cost: int | None) -> None:
        """Have an operator end a job, if it may be ended."""
        admin = self.world.admin
        with suppress(Refused):
            if cost is None:
                self.world.do(admin.release(job.id, "so", running=True))
            else:
                self.world.do(admin.charge(job.id, cost, "so", running=True))

    @rule(process=PROCESSES, plan=TWINS)
    def a_first_look_is_late(self, process: int, plan: Plan) -> None:
        """Have nobody look a job up until its time is over, and the history down just then."""
        self.ask(process, "one", f"async {len(self.world.asks)}", None, plan)
        self.world.pass_time(Policy().unknown_after_s)
        self.world.vendor.readable = False
        self.world.work(self.world.processes[process], "adopt")
        self.world.vendor.readable = True

    @invariant()
    def all_is_well(self) -> None:
        """Check everything."""
        self.oracle.check()
        self.tried["steps"] += 1

    def teardown(self) -> None:
        """End the example, whatever became of it."""
        if not hasattr(self, "world"):
            return
        try:
            self.quiesce()
        finally:
            self.world.close()

    def quiesce(self) -> None:
        """Let time pass and everything work until nothing is left to do: then every job has ended, at its bill."""
        world = self.world
        world.vendor.readable = True
        world.vendor.troubles.clear()
        for process in world.processes:
            process.border.alive = False
        world.bury()
        for seconds in (1, 5, *(10,) * 12, *(60,) * 60):
            if all(job.state.terminal for job in world.jobs()):
                break
            self.world.pass_time(seconds)
            world.work(world.processes[0], *ROUND)
            self.oracle.check()
        self.world.pass_time(300)
        self.oracle.check()
        self.oracle.check_end()


@pytest.mark.timeout(600 + EXAMPLES)  # a failure takes minutes to shrink
def test_whatever_happens_no_job_is_lost_or_paid_twice() -> None:
    """After any step money, slots and states are right; once all is quiet every job has ended at the vendor's bill."""

    class Counted(ServiceMachine):
        tried: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    print(dict(Counted.tried))  # noqa: T201 shown by ``-s``
    assert Counted.tried["examples"] >= EXAMPLES
    assert Counted.tried["steps"] >= 0.8 * STEPS * EXAMPLES
