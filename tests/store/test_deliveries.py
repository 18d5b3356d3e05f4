from __future__ import annotations

from collections.abc import Iterator, Mapping

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from redis import Redis
from support.ledger import Store, admission, dump, prelude_script
from support.webhooks import EndState, end_job

from gateway.core.job import JobState, new_job_id
from gateway.core.movements import Admitted, Denied, Release, Settlement
from gateway.core.queue import DueEntry
from gateway.core.targets import listed, spellings
from gateway.core.tenant import Credential
from gateway.core.webhook import Attempt, Decision, Noted, Owed, Taken
from gateway.store import keys

TENANT = "team"
HOOK = "https://hooks.example.com/team"
OWN = "https://own.example.com:8443/x"
ATTEMPT = Attempt(1, "rejected", 500, 20)
both = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)

names = st.lists(st.sampled_from(["a", "b-1", "example", "com", "*"]), min_size=1, max_size=4)
ports = st.sampled_from(["", ":443", ":80", ":8443"])
hosts = st.builds(lambda labels, port: ".".join(labels) + port, names, ports)
patterns = st.builds(lambda star, host: star + host.replace("*", "x"), st.sampled_from(["", "*."]), hosts)
urls = st.builds(
    lambda scheme, host: f"{scheme}://{host.replace('*', 'x')}/", st.sampled_from(["http", "https"]), hosts
)


@pytest.fixture(scope="session")
def server(valkey_url: str) -> Iterator[Redis]:
    """Connect to the server without a loop, for property tests."""
    with Redis.from_url(valkey_url) as client:
        yield client


@pytest.fixture
async def credential(store: Store) -> Credential:
    """Put a tenant with a webhook of its own on record."""
    return await store.caller(webhook_url=HOOK, webhook_hosts=("own.example.com:8443",))


async def take(store: Store, limit: int = 100, under_way: Mapping[str, int] | None = None) -> Taken:
    """Lease what is due."""
    return await store.deliveries.take(TENANT, limit=limit, each=limit, under_way=under_way or {}, lease_s=20)


async def owed(store: Store) -> list[str]:
    """List the jobs whose webhook is owed."""
    return [one.job_id for one in (await take(store)).owed]


def failed(before: int = 0, **changes: object) -> Noted:
    """Note a failed attempt that is to be followed by another one after a minute."""
    decision = changes.pop("decision", Decision("pending", 60))
    return Noted(before=before, attempts=before + 1, decision=decision, log=(ATTEMPT,), **changes)  # type: ignore[arg-type]  # fields of Noted


@settings(max_examples=300, deadline=None)
@given(allowed=st.lists(patterns, max_size=3), url=urls)
@example(allowed=["*.example.com"], url="https://example.com/")
@example(allowed=["*.com"], url="https://xcom/")
@example(allowed=["hooks.example.com:80"], url="http://hooks.example.com/")
def test_the_scripts_allow_the_hosts_that_the_policy_allows(server: Redis, allowed: list[str], url: str) -> None:
    """The allow-list means the same at admission and when it is sent."""
    script = prelude_script("return listed(ARGV[1], ARGV[2]) and 1 or 0")
    assert (server.eval(script.source, 0, " ".join(allowed), " ".join(spellings(url))) == 1) is listed(allowed, url)


@both
async def test_admission_records_where_the_end_is_announced(store: Store, credential: Credential) -> None:
    """A job is announced where its request says, else where the tenant says; a sync call only where it says so."""
    for asked, kind, url in (
        (OWN, "async", OWN), (None, "async", HOOK), (None, "sync", None), (OWN, "sync", OWN), (HOOK, "async", HOOK),
    ):  # fmt: skip
        request = admission(credential, webhook_url=asked, kind=kind)
        answer = await store.ledger.admit(request)
        assert isinstance(answer, Admitted)
        job = await store.jobs.find(TENANT, request.job_id)
        assert job == answer.job
        assert job.webhook_url == url


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/", "https://own.example.com/", "http://169.254.169.254/", "https://[::1]/", "nonsense"],
)
async def test_a_host_that_is_not_on_the_list_is_refused(store: Store, credential: Credential, url: str) -> None:
    """Nothing is held, sent or counted for a request whose webhook may not go where it says."""
    before = await dump(store.client)
    for decide in (store.ledger.quote, store.ledger.admit):
        answer = await decide(admission(credential, webhook_url=url, idempotency_key="k"))
        assert isinstance(answer, Denied)
        assert answer.code == "webhook_not_allowed"
    assert await dump(store.client) == before


async def test_a_replay_is_answered_whatever_the_list_says_now(store: Store, credential: Credential) -> None:
    """The job of the first request is on record, so its repetition gets it."""
    first = admission(credential, webhook_url=OWN, idempotency_key="k")
    await store.ledger.admit(first)
    await store.ledger.accept(TENANT, first.job_id, "vendor-1")
    again = await store.caller()
    replay = await store.ledger.admit(admission(again, webhook_url=OWN, idempotency_key="k"))
    assert isinstance(replay, Admitted)
    assert replay.job.id == first.job_id


@both
@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED])
async def test_the_end_of_a_job_and_what_is_owed_are_one_write(
    store: Store, credential: Credential, state: EndState
) -> None:
    """The script that ends the job owes its webhook, once; a job without a webhook owes nothing."""
    job_id = await end_job(store, credential, state=state)
    charge = Settlement(tenant=TENANT, job_id=job_id, state=JobState.COMPLETED, cost=1)
    assert not (await store.ledger.settle(charge)).changed
    await end_job(store, await store.caller("other"), state=state)
    assert await owed(store) == [job_id]
    assert [tenant async for tenants in store.sweeper.owing() for tenant in tenants] == [TENANT]


@pytest.mark.parametrize(("doubted", "owes"), [(False, False), (True, True)])
async def test_who_was_refused_at_once_is_not_told_again(
    store: Store, credential: Credential, doubted: bool, owes: bool
) -> None:
    """A refusal was the answer to the submit; a job that was in doubt before it was rejected is announced."""
    request = admission(credential)
    await store.ledger.admit(request)
    if doubted:
        await store.ledger.doubt(TENANT, request.job_id, "reset")
    await store.ledger.release(Release(tenant=TENANT, job_id=request.job_id, state=JobState.REJECTED, reason="refused"))
    assert await owed(store) == ([request.job_id] if owes else [])


async def test_a_lease_keeps_others_away(store: Store, credential: Credential) -> None:
    """What is leased is due again when the lease ends, which is what the queue is told."""
    job_id = await end_job(store, credential)
    assert (await take(store)).owed == (Owed(job_id, "hooks.example.com"),)
    again = await take(store)
    assert again.owed == ()
    assert again.next_in_s is not None
    assert 0 < again.next_in_s <= 20


async def test_receivers_have_their_own_bounds(store: Store, credential: Credential) -> None:
    """Those under way count; a receiver that has enough is passed over, however many stand in front of others."""
    for _ in range(300):
        await end_job(store, credential)
    last = await end_job(store, credential, webhook_url=OWN)
    taken = await store.deliveries.take(TENANT, limit=8, each=4, under_way={"hooks.example.com": 3}, lease_s=20)
    assert [one.receiver for one in taken.owed] == ["hooks.example.com", "own.example.com:8443"]
    assert taken.owed[-1].job_id == last
    assert taken.next_in_s == 0


async def test_a_held_receiver_is_put_off_as_a_whole(store: Store, credential: Credential) -> None:
    """After a failure its other deliveries move behind the hold, however many; a success ends the hold."""
    jobs = [await end_job(store, credential) for _ in range(300)]
    ahead = (await take(store, limit=2)).owed
    held = failed(decision=Decision("pending", 60, hold_s=30))
    await store.deliveries.note(TENANT, ahead[0].job_id, held)
    behind = await end_job(store, credential, webhook_url=OWN)
    assert await owed(store) == [behind]
    assert len(jobs) == 300
    done = Noted(before=0, attempts=1, decision=Decision("delivered"), log=())
    await store.deliveries.note(TENANT, ahead[1].job_id, done)
    fresh = await end_job(store, credential)
    assert await owed(store) == [fresh]


async def test_an_attempt_is_recorded_once(store: Store, credential: Credential) -> None:
    """Two processes that both made an attempt, or a repeated write, count it once."""
    job_id = await end_job(store, credential)
    await take(store)
    assert await store.deliveries.note(TENANT, job_id, failed())
    before = await dump(store.client)
    assert not await store.deliveries.note(TENANT, job_id, failed())
    assert await dump(store.client) == before
    delivery = await store.deliveries.delivery(TENANT, job_id)
    assert delivery is not None
    assert (delivery.state, delivery.attempts, delivery.log) == ("pending", 1, (ATTEMPT,))


@both
async def test_what_was_given_up_is_listed_and_can_be_owed_again(store: Store, credential: Credential) -> None:
    """A failed delivery leaves what is owed and joins what is listed; owed again it starts from its first attempt."""
    job_id = await end_job(store, credential)
    assert await store.deliveries.note(TENANT, job_id, failed(decision=Decision("failed")))
    assert await owed(store) == []
    assert await store.deliveries.unsettled(TENANT, limit=10) == [job_id]
    assert await store.deliveries.again(TENANT, job_id)
    assert await owed(store) == [job_id]
    delivery = await store.deliveries.delivery(TENANT, job_id)
    assert delivery is not None
    assert (delivery.state, delivery.attempts, delivery.log) == ("pending", 0, (ATTEMPT,))
    assert await store.deliveries.unsettled(TENANT, limit=10) == [job_id]


async def test_what_never_was_owed_can_not_be_owed_again(store: Store, credential: Credential) -> None:
    """A job that runs, has no webhook, or is not there, has no delivery."""
    running = admission(credential)
    await store.ledger.admit(running)
    without = await end_job(store, await store.caller())
    for job_id in (running.job_id, without, new_job_id()):
        assert not await store.deliveries.again(TENANT, job_id)
        assert await store.deliveries.delivery(TENANT, job_id) is None


async def test_the_record_of_a_delivery_goes_with_its_job(store: Store, credential: Credential) -> None:
    """It grows old as the job's own record does."""
    job_id = await end_job(store, credential)
    await store.deliveries.note(TENANT, job_id, failed())
    left = [await store.client.pttl(key) for key in (keys.job(TENANT, job_id), keys.hook(TENANT, job_id))]
    assert 0 < left[1] <= left[0]


@both
async def test_a_tenant_has_one_secret_until_it_is_rotated(store: Store, credential: Credential) -> None:
    """The first reader makes it; afterwards everyone reads the same, and a rotation keeps the old one beside it."""
    secret = await store.deliveries.secret(TENANT)
    assert await store.deliveries.secret(TENANT) == secret
    new = await store.deliveries.rotate(TENANT, overlap_s=60)
    assert new != secret
    assert await store.deliveries.secret(TENANT) == new
    job_id = await end_job(store, credential)
    found = await store.deliveries.read(TENANT, Owed(job_id, "hooks.example.com"))
    assert found is not None
    assert found.secrets == (new, secret)


async def test_a_secret_survives_apply(store: Store) -> None:
    """A new policy of the tenant leaves its secret and a disabled endpoint as they are."""
    await store.caller()
    secret = await store.deliveries.secret(TENANT)
    await store.caller()
    assert await store.deliveries.secret(TENANT) == secret


@both
async def test_a_tenant_is_put_ahead_only(store: Store) -> None:
    """The repair's word moves a tenant's entry to an earlier time, never to a later one."""
    entry = DueEntry(TENANT, "")
    await store.hooks.schedule([DueEntry(TENANT, "", 60)])
    await store.hooks.schedule([DueEntry(TENANT, "", 90)], only_sooner=True)
    assert not (await store.hooks.claim(limit=10, lease_s=20)).entries
    await store.hooks.schedule([entry], only_sooner=True)
    assert [one.tenant for one in (await store.hooks.claim(limit=10, lease_s=20)).entries] == [TENANT]
    await store.hooks.remove([entry])
    assert (await store.hooks.claim(limit=10, lease_s=20)).next_in_s is None
