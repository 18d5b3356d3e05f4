from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from support.ledger import CLOCK_START_US, CREDIT, Store, admission, counters, dump, window_id
from support.ports import UNLIMITED

from gateway.core.credits import MAX_NANO
from gateway.core.movements import Admission, Admitted, Denied
from gateway.core.quota import window_end
from gateway.core.tenant import WINDOWS, Credential, RateLimit, TenantPolicy, WindowName, digest_of
from gateway.errors import StoreNotReady
from gateway.store import keys

TENANT: Final = "team"
ELSEWHERE: Final = "https://elsewhere.example.com/hook"
ONE_AN_HOUR: Final = RateLimit(limit=1, period_s=3600, burst=1)
STRICT: Final = TenantPolicy(
    TENANT,
    models=("kling-*",),
    submit=ONE_AN_HOUR,
    read=UNLIMITED,
    concurrent_jobs=1,
    budgets={"day": CREDIT},
    require_idempotency_key=True,
)


async def denied(store: Store, request: Admission) -> Denied:
    """Have a request refused, by admission and by a quote alike."""
    quoted, answer = await store.ledger.quote(request), await store.ledger.admit(request)
    assert isinstance(answer, Denied)
    assert isinstance(quoted, Denied)
    assert quoted.code == answer.code
    return answer


async def admitted(store: Store, request: Admission) -> Admitted:
    """Have a request admitted."""
    answer = await store.ledger.admit(request)
    assert isinstance(answer, Admitted)
    return answer


@pytest.fixture
async def used_up(store: Store) -> tuple[Store, Admission]:
    """Make a tenant whose one job uses up its rate, its slot and its budget; return that job's request."""
    await store.tenants.put(STRICT)
    request = admission(await store.key(), idempotency_key="first")
    await admitted(store, request)
    return store, request


async def test_refusals_come_in_a_fixed_order(used_up: tuple[Store, Admission]) -> None:
    """With every reason to refuse at once the first one is named; take each away and the next one is."""
    store, first = used_up
    await store.tenants.suspend(TENANT, suspended=True)
    request = admission(
        replace(first.credential, digest=digest_of("wrong")), model="flux-2-pro", estimate=None, webhook_url=ELSEWHERE
    )
    seen: list[str] = []

    async def note(*policy: TenantPolicy, **changes: Any) -> None:  # noqa: ANN401  # fields of Admission
        nonlocal request
        for one in policy:
            await store.tenants.put(one)
        request = replace(request, **changes)
        seen.append((await denied(store, request)).code)

    await note()
    await note(credential=first.credential)
    await store.tenants.suspend(TENANT, suspended=False)
    await note()
    await note(model="kling-2.6")
    await note(idempotency_key="first", fingerprint="0" * 64)
    await note(idempotency_key="second")
    await note(webhook_url=None)
    await note(replace(STRICT, submit=UNLIMITED))
    await note(replace(STRICT, submit=UNLIMITED, concurrent_jobs=2))
    await note(estimate=CREDIT)
    assert seen == [
        "unauthenticated",
        "tenant_suspended",
        "model_not_allowed",
        "idempotency_key_required",
        "idempotency_mismatch",
        "webhook_not_allowed",
        "rate_limited",
        "concurrency_limited",
        "model_not_allowed",
        "budget_exhausted",
    ]


REFUSALS: Final[Sequence[tuple[str, TenantPolicy, dict[str, Any]]]] = [
    ("model_not_allowed", STRICT, {"model": "flux-2-pro"}),
    ("model_not_allowed", replace(STRICT, submit=UNLIMITED, concurrent_jobs=9), {"estimate": None}),
    ("idempotency_key_required", STRICT, {"idempotency_key": None}),
    ("idempotency_mismatch", STRICT, {"idempotency_key": "first", "fingerprint": "0" * 64}),
    ("idempotency_in_progress", STRICT, {"idempotency_key": "first"}),
    ("webhook_not_allowed", STRICT, {"webhook_url": ELSEWHERE}),
    ("rate_limited", STRICT, {}),
    ("concurrency_limited", replace(STRICT, submit=UNLIMITED), {}),
    ("budget_exhausted", replace(STRICT, submit=UNLIMITED, concurrent_jobs=9), {}),
]


@pytest.mark.parametrize(("code", "policy", "changes"), REFUSALS)
async def test_a_refused_call_consumes_nothing(
    used_up: tuple[Store, Admission], code: str, policy: TenantPolicy, changes: dict[str, Any]
) -> None:
    """Whatever the reason, every key in the store is after a refusal what it was before."""
    store, first = used_up
    await store.tenants.put(policy)
    before = await dump(store.client)
    request = replace(first, **{"job_id": admission(first.credential).job_id, "idempotency_key": "new", **changes})
    assert (await denied(store, request)).code == code
    assert await dump(store.client) == before


@pytest.mark.parametrize("why", ["no tenant", "no key", "wrong secret", "revoked", "expired", "suspended", "removed"])
async def test_a_caller_who_may_not_act_changes_nothing_and_is_told_nothing(store: Store, why: str) -> None:
    """Unknown, wrong, expired and revoked keys and absent tenants are one refusal; none shows where limits stand."""
    credential = await unfit(store, why)
    before = await dump(store.client)
    code = "tenant_suspended" if why == "suspended" else "unauthenticated"
    job_id = admission(credential).job_id
    answers = [
        await denied(store, admission(credential)),
        await store.jobs.read(credential, job_id, with_result=True),
        await store.jobs.account(credential),
        await store.jobs.upload_account(credential),
        await store.jobs.refusal(credential),
    ]
    assert answers == [Denied(code)] * 5
    assert await dump(store.client) == before


async def unfit(store: Store, why: str) -> Credential:
    """Make a caller who may not act."""
    credential = await store.caller(TENANT)
    match why:
        case "no tenant":
            return replace(credential, tenant="other")
        case "no key":
            return replace(credential, key_id="0" * 8)
        case "wrong secret":
            return replace(credential, digest=digest_of("wrong"))
        case "revoked":
            await store.tenants.revoke_key(TENANT, credential.key_id)
        case "expired":
            await store.tenants.expire_key(TENANT, credential.key_id, in_s=0)
        case "suspended":
            await store.tenants.suspend(TENANT, suspended=True)
        case "removed":
            await store.tenants.remove(TENANT)
    return credential


async def test_a_key_without_its_tenant_may_not_act(store: Store) -> None:
    """An absent policy is never an unlimited one; where the tenant should be there, its loss is ours: not a 401."""
    credential = await store.caller()
    await store.client.delete(keys.tenant(TENANT))
    with pytest.raises(StoreNotReady, match="its policy is gone"):
        await store.ledger.admit(admission(credential))
    await store.client.srem(keys.TENANTS, TENANT)
    assert await denied(store, admission(credential)) == Denied("unauthenticated")


async def test_running_jobs_go_on_when_their_key_is_revoked(store: Store) -> None:
    """Revoking refuses the next request; the job that the key started belongs to its tenant and is settled."""
    credential = await store.caller()
    request = admission(credential)
    await admitted(store, request)
    await store.tenants.revoke_key(TENANT, credential.key_id)
    assert (await denied(store, admission(credential))).code == "unauthenticated"
    assert (await store.ledger.accept(TENANT, request.job_id, "vendor-1")).changed


async def test_a_key_notes_when_it_was_used_at_most_once_a_minute(store: Store) -> None:
    """The time of last use is written, and not on each call."""
    credential = await store.caller()
    name = keys.key(TENANT, credential.key_id)
    await store.ledger.quote(admission(credential))
    (used,) = await store.client.hmget(name, "used")
    assert used is not None
    recent, old = int(used) - 30_000, int(used) - 90_000
    for stored, kept in ((recent, True), (old, False)):
        await store.client.hset(name, "used", str(stored))
        await store.ledger.quote(admission(credential))
        assert (int((await store.client.hmget(name, "used"))[0] or 0) == stored) is kept


async def test_a_tenants_price_replaces_the_estimate(store: Store) -> None:
    """The tenant's own price is held, be the catalogue's higher, lower or none."""
    credential = await store.caller(prices={"kling-2.6": 3})
    for estimate in (CREDIT, 1, None):
        assert (await admitted(store, admission(credential, estimate=estimate))).job.hold == 3
    assert (await admitted(store, admission(credential, model="kling-2.1"))).job.hold == CREDIT


@pytest.mark.parametrize("column", ["spent", "held"])
@pytest.mark.parametrize("window", WINDOWS)
async def test_the_largest_limit_is_exact_to_the_nanocredit(
    clocked_store: Store, window: WindowName, column: str
) -> None:
    """At 9,000,000 credits one nanocredit too many is refused and the last one is admitted, spent or held."""
    store, name = clocked_store, window_id(window, CLOCK_START_US // 1000)
    credential = await store.caller(budgets={window: MAX_NANO})
    await store.client.hset(keys.budget(TENANT), f"{name}:{column}", str(MAX_NANO - 2))
    refused = await denied(store, admission(credential, estimate=3))
    assert (refused.required, refused.window and refused.window.remaining) == (3, 2)
    for left in (1, 0):
        assert (await admitted(store, admission(credential, estimate=1))).quota.remaining == left
    assert (await denied(store, admission(credential, estimate=1))).code == "budget_exhausted"
    assert (await denied(store, admission(credential, estimate=0))).code == "budget_exhausted"


async def test_one_hold_may_take_the_largest_limit(store: Store) -> None:
    """A hold of the whole of the largest budget is admitted and stored digit for digit."""
    credential = await store.caller(budgets=dict.fromkeys(WINDOWS, MAX_NANO))
    assert (await denied(store, admission(credential, estimate=MAX_NANO + 1))).required == MAX_NANO + 1
    await admitted(store, admission(credential, estimate=MAX_NANO))
    assert set((await counters(store.client, TENANT)).values()) == {MAX_NANO}


@pytest.mark.parametrize("window", WINDOWS)
async def test_a_refusal_names_the_window_and_its_end(clocked_store: Store, window: WindowName) -> None:
    """`budget_exhausted` says which budget, what was required, and when the window ends by Redis's clock."""
    credential = await clocked_store.caller(budgets={**dict.fromkeys(WINDOWS, 2 * CREDIT), window: CREDIT})
    await admitted(clocked_store, admission(credential))
    refused = await denied(clocked_store, admission(credential, estimate=7))
    assert refused.window is not None
    assert (refused.window.name, refused.window.held, refused.required) == (window, CREDIT, 7)
    end = window_end(window, datetime.fromtimestamp(CLOCK_START_US / 1_000_000, UTC))
    assert refused.resets_at_ms == (end and int(end.timestamp() * 1000))
