from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from redis import Redis
from support.ledger import Store, admission, dump, prelude_script
from support.webhooks import end_job

from gateway.core.movements import Denied
from gateway.core.targets import listed, spellings
from gateway.core.tenant import Credential
from gateway.core.webhook import Attempt, Decision, Noted
from gateway.store import keys

TENANT = "team"
HOOK = "https://hooks.example.com/team"
OWN = "https://own.example.com:8443/x"

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


@settings(max_examples=300)
@given(allowed=st.lists(patterns, max_size=3), url=urls)
@example(allowed=["*.example.com"], url="https://example.com/")
@example(allowed=["*.com"], url="https://xcom/")
@example(allowed=["hooks.example.com:80"], url="http://hooks.example.com/")
def test_the_scripts_allow_the_hosts_that_the_policy_allows(server: Redis, allowed: list[str], url: str) -> None:
    """The allow-list means the same at admission and when it is sent."""
    script = prelude_script("return listed(ARGV[1], ARGV[2]) and 1 or 0")
    assert (server.eval(script.source, 0, " ".join(allowed), " ".join(spellings(url))) == 1) is listed(allowed, url)


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


async def test_an_attempt_that_was_recorded_is_not_written_again(store: Store, credential: Credential) -> None:
    """A repeated write leaves every key as it is."""
    job_id = await end_job(store, credential)
    noted = Noted(before=0, attempts=1, decision=Decision("pending", 60), log=(Attempt(1, "rejected", 500, 20),))
    assert await store.deliveries.note(TENANT, job_id, noted)
    before = await dump(store.client)
    assert not await store.deliveries.note(TENANT, job_id, noted)
    assert await dump(store.client) == before


async def test_the_record_of_a_delivery_goes_with_its_job(store: Store, credential: Credential) -> None:
    """It grows old as the job's own record does."""
    job_id = await end_job(store, credential)
    await store.deliveries.note(TENANT, job_id, Noted(before=0, attempts=1, decision=Decision("failed"), log=()))
    left = [await store.client.pttl(key) for key in (keys.job(TENANT, job_id), keys.hook(TENANT, job_id))]
    assert 0 < left[1] <= left[0]
