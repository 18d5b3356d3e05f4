from __future__ import annotations

from datetime import time
from typing import Any

import orjson
import pytest
from redis.utils import str_if_bytes
from support.clients import scripts_on
from support.ledger import CLOCK_START_US, CREDIT, Store, set_clock

from gateway.catalogue import ModelOverride
from gateway.core.movements import AccountView
from gateway.core.policy import Policy
from gateway.core.tenant import Credential, RateLimit, TenantPolicy
from gateway.errors import Refused, StoreUnavailable
from gateway.service.plan import TenantRecord
from gateway.service.spec import DeclaredRules, GatewaySpec
from gateway.service.tenants import TenantAdmin
from gateway.store import keys
from gateway.store.connect import open_redis
from gateway.store.documents import rules_from_json, tenant_from_json, tenant_to_json
from gateway.store.scripts import load_scripts
from gateway.store.tenants import RedisTenants

FULL = TenantPolicy(
    id="team",
    name="Team",
    models=("kling-*", "flux-2-pro"),
    submit=RateLimit(7, 60, 3),
    read=RateLimit(100, 60, 50),
    concurrent_jobs=4,
    budgets={"day": 5 * CREDIT, "total": 50 * CREDIT},
    prices={"flux-2-pro": 42},
    require_idempotency_key=True,
    webhook_url="https://hooks.example.com/x",
    webhook_hosts=("*.example.com",),
)
RULES = DeclaredRules(
    Policy(
        default_hold=3,
        reconcile_at=time(4, 30),
        alerts=(10, 90),
        upstream_rpm=50,
        upstream_poll_rps=0.5,
        durability="wait:1",
    ),
    (ModelOverride("mine", kind="image", price_nano=1, expected_latency_s=2, schema={"required": ["prompt"]}),),
)

on_both = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)


async def door(store: Store, credential: Credential) -> str:
    """Return what a caller with this key is told: ``ok`` or a refusal code."""
    answer = await store.jobs.account(credential)
    return "ok" if isinstance(answer, AccountView) else answer.code


async def tenant_hash(store: Store, tenant: str = "team") -> dict[str, str]:
    """Read what the scripts decide by."""
    fields = await store.client.hgetall(keys.tenant(tenant))
    return {str_if_bytes(name): str_if_bytes(value) for name, value in fields.items()}


def spec(*tenants: TenantPolicy, rules: DeclaredRules | None = None) -> GatewaySpec:
    """Declare tenants, by default with no rules of one's own."""
    rules = rules or DeclaredRules()
    return GatewaySpec(rules.policy, rules.models, tenants)


@on_both
async def test_a_policy_is_read_back_as_it_was_written(store: Store) -> None:
    """Nothing of a tenant's policy, nor of the gateway's rules, is lost in the store."""
    await store.tenants.put(FULL)
    await store.tenants.put(TenantPolicy("a"))
    await store.tenants.put_rules(RULES)
    assert await store.tenants.tenants() == [TenantRecord(TenantPolicy("a")), TenantRecord(FULL)]
    assert await store.tenants.tenant("team") == TenantRecord(FULL)
    assert await store.tenants.tenant("nobody") is None
    assert await store.tenants.rules() == RULES


async def test_an_empty_store_has_neither_rules_nor_tenants(store: Store) -> None:
    """Before the first `apply` there is nothing, which is no error."""
    assert await store.tenants.rules() is None
    assert await store.tenants.tenants() == []


async def test_the_scripts_find_their_fields(store: Store) -> None:
    """The hash has exactly the fields that admission decides by."""
    await store.tenants.put(FULL)
    fields = await tenant_hash(store)
    assert tenant_from_json(fields.pop("doc")) == FULL
    assert fields == {
        "name": "Team",
        "models": "kling-* flux-2-pro",
        "webhook": "https://hooks.example.com/x",
        "webhook_hosts": "*.example.com hooks.example.com",
        "submit": "7:60:3:8571429",
        "read": "100:60:50:600000",
        "concurrent": "4",
        "alerts": "50 80 100",
        "require_key": "1",
        "limit:day": "5000000000",
        "limit:total": "50000000000",
        "price:flux-2-pro": "42",
    }


async def test_a_newer_policy_leaves_nothing_of_the_older_one(store: Store) -> None:
    """A budget or price that was taken out of the file no longer counts."""
    await store.tenants.put(FULL)
    await store.tenants.put(TenantPolicy("team"))
    assert not {"limit:day", "limit:total", "price:flux-2-pro"} & (await tenant_hash(store)).keys()
    assert (await tenant_hash(store))["models"] == ""


async def test_a_policy_of_thousands_of_prices_is_one_write(store: Store) -> None:
    """The number of fields is not bounded by what a script can pass in one call."""
    many = TenantPolicy("team", prices={f"model-{n}": n for n in range(10_000)})
    await store.tenants.put(many)
    assert await store.tenants.tenant("team") == TenantRecord(many)


@on_both
async def test_suspension_survives_apply_and_removal_does_not(store: Store) -> None:
    """A tenant suspended by hand stays so whatever the file says; one that is back in the file may call again."""
    caller = await store.caller()
    assert await store.tenants.suspend("team", suspended=True)
    await store.tenants.put(FULL)
    assert await door(store, caller) == "tenant_suspended"
    assert await store.tenants.suspend("team", suspended=False)
    assert await door(store, caller) == "ok"

    await store.tenants.remove("team")
    assert await door(store, caller) == "unauthenticated"
    assert await store.tenants.tenant("team") == TenantRecord(FULL, removed=True)
    await store.tenants.put(FULL)
    assert await door(store, caller) == "ok"
    assert not await store.tenants.suspend("nobody", suspended=True)


@on_both
async def test_a_key_opens_the_door_until_it_is_revoked(store: Store) -> None:
    """Only a digest of the secret is stored; revocation counts from the next call on, and twice is once."""
    await store.tenants.put(TenantPolicy("team"))
    admin = TenantAdmin(store.tenants)
    new = await admin.create_key("team", name="ci")
    caller = Credential.parse(new.text.reveal())
    assert caller is not None
    assert await door(store, caller) == "ok"
    stored = await store.client.hgetall(keys.key("team", new.key.id))
    assert new.text.reveal().rpartition("_")[2] not in map(str_if_bytes, stored.values())
    (listed,) = await admin.keys("team")
    assert (listed.id, listed.name, listed.state, listed.expires_ms) == (caller.key_id, "ci", "active", None)
    assert listed.used_ms is not None

    revoked = await admin.revoke_key("team", caller.key_id)
    assert revoked.state == "revoked"
    assert await door(store, caller) == "unauthenticated"
    assert (await admin.revoke_key("team", caller.key_id)).revoked_ms == revoked.revoked_ms


async def test_rotation_overlaps_by_the_stores_clock(clocked_store: Store) -> None:
    """Both keys work during the overlap, only the new one after it; name and life are handed on."""
    store, day_us = clocked_store, 86_400_000_000
    await store.tenants.put(TenantPolicy("team"))
    admin = TenantAdmin(store.tenants)
    first = await admin.create_key("team", name="ci", ttl_s=90 * 86_400)
    second = await admin.rotate_key("team")
    old, new = (Credential.parse(key.text.reveal()) for key in (first, second))
    assert old is not None
    assert new is not None
    assert second.key.name == "ci"
    assert second.key.expires_ms == first.key.expires_ms == CLOCK_START_US // 1000 + 90 * 86_400_000
    await set_clock(store.client, CLOCK_START_US + day_us - 1000)
    assert [await door(store, key) for key in (old, new)] == ["ok", "ok"]
    await set_clock(store.client, CLOCK_START_US + day_us)
    assert [await door(store, key) for key in (old, new)] == ["unauthenticated", "ok"]
    assert [key.state for key in await admin.keys("team") if key.id == old.key_id] == ["expired"]


async def test_an_overlap_never_prolongs_a_key(clocked_store: Store) -> None:
    """A key that expires within the overlap expires when it was to; no overlap ends it at once."""
    await clocked_store.tenants.put(TenantPolicy("team"))
    admin = TenantAdmin(clocked_store.tenants)
    first = await admin.create_key("team", ttl_s=60)
    second = await admin.rotate_key("team", first.key.id, overlap_s=3600)
    ends = {key.id: key.expires_ms for key in await admin.keys("team")}
    assert ends[first.key.id] == first.key.expires_ms
    await admin.rotate_key("team", second.key.id, overlap_s=0)
    assert {key.id: key.state for key in await admin.keys("team")}[second.key.id] == "expired"


async def test_rotation_asks_which_key_where_there_are_several(store: Store) -> None:
    """The wrong key is never ended by a guess."""
    admin = TenantAdmin(store.tenants)
    callers = [await store.caller(), await store.key()]
    with pytest.raises(Refused, match="several active keys"):
        await admin.rotate_key("team")
    await admin.rotate_key("team", callers[0].key_id, overlap_s=0)
    assert await door(store, callers[1]) == "ok"


@pytest.mark.parametrize("tenant", ["nobody", "{other}", "", "a:b", "gone"])
async def test_nothing_is_written_for_a_tenant_that_is_not_there(store: Store, tenant: str) -> None:
    """An unknown, malformed or removed tenant gets no key, and leaves no trace in the store."""
    admin = TenantAdmin(store.tenants)
    await store.tenants.put(TenantPolicy("gone"))
    await store.tenants.remove("gone")
    before = await store.client.dbsize()
    with pytest.raises(Refused) as caught:
        await admin.create_key(tenant)
    assert caught.value.code == "not_found"
    for act in (admin.suspend, admin.resume, admin.keys, admin.rotate_key):
        if tenant != "gone":
            with pytest.raises(Refused):
                await act(tenant)
    assert await store.client.dbsize() == before


async def test_an_unknown_key_is_refused_and_not_made(store: Store) -> None:
    """Revoking what is not there is told, and records nothing."""
    await store.caller()
    before = await store.client.dbsize()
    for key_id in ("deadbeef", "x", "a}b"):
        with pytest.raises(Refused):
            await TenantAdmin(store.tenants).revoke_key("team", key_id)
    assert await store.client.dbsize() == before


@on_both
async def test_apply_makes_the_store_what_the_file_says(store: Store) -> None:
    """The plan tells every change; applied once, the same file changes nothing any more."""
    admin = TenantAdmin(store.tenants)
    first = spec(FULL, TenantPolicy("b"), rules=RULES)
    planned = await admin.plan(first)
    assert await store.tenants.tenants() == []
    assert await admin.apply(first) == planned
    assert [(change.action, change.name) for change in planned.changes] == [
        ("add", "policy"), ("add", "mine"), ("add", "team"), ("add", "b"),
    ]  # fmt: skip
    assert (await admin.apply(first)).changes == ()

    second = await admin.apply(spec(TenantPolicy("team", name="Team"), rules=DeclaredRules(RULES.policy)))
    assert [(change.action, change.name) for change in second.changes] == [
        ("remove", "mine"), ("change", "team"), ("remove", "b"),
    ]  # fmt: skip
    changed = {field.field: (field.before, field.after) for field in second.changes[1].fields}
    assert changed["budgets.day"] == ("5", None)
    assert changed["concurrent_jobs"] == ("4", "100")
    assert "name" not in changed
    assert [record.removed for record in await store.tenants.tenants()] == [True, False]

    third = await admin.apply(spec(TenantPolicy("team", name="Team"), TenantPolicy("b"), rules=RULES))
    assert [(change.action, change.name) for change in third.changes] == [("add", "mine"), ("restore", "b")]
    assert await store.tenants.tenants() == [
        TenantRecord(TenantPolicy("b")), TenantRecord(TenantPolicy("team", name="Team")),
    ]  # fmt: skip


def test_fields_of_a_newer_version_are_left_out_of_account() -> None:
    """Two versions run side by side: what this one does not know does not stop it."""
    document: dict[str, Any] = {"policy": {"new": 1, "alerts": [5]}, "models": [{"slug": "m", "new": 1}], "new": 1}
    assert rules_from_json(orjson.dumps(document)) == DeclaredRules(Policy(alerts=(5,)), (ModelOverride("m"),))
    newer = orjson.dumps({**orjson.loads(tenant_to_json(FULL)), "new": 1})
    assert tenant_from_json(newer) == FULL


async def test_a_store_that_does_not_answer_is_unavailable() -> None:
    """Every read and write reports it as `StoreUnavailable`, whatever redis-py calls it."""
    client = open_redis(
        "redis://127.0.0.1:1/0", connect_timeout_s=0.5, read_timeout_s=0.5, max_connections=1, pool_wait_s=0.5
    )
    tenants = RedisTenants(client, scripts_on(client), load_scripts())
    for work in (tenants.rules(), tenants.tenants(), tenants.put(FULL), tenants.keys("team"), tenants.remove("team")):
        with pytest.raises(StoreUnavailable):
            await work
    await client.aclose()
