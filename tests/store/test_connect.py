from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError
from support.clients import opened, scripts_on
from support.proxy import Fault, Proxy, tcp_proxy
from support.valkey import HOST, free_port, valkey_sentinel, valkey_server

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store.connect import RedisClient, open_redis, store_errors
from gateway.store.scripts import Script, Scripts, load_scripts

COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
# Keeps the server busy for a while (by its own clock: TIME stands still in a script), then counts.
SLOW_COUNT = Script(
    "slow_count",
    """
    local start = os.clock()
    while os.clock() < start + 1.5 do end
    return redis.call('INCR', KEYS[1])
    """,
)


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    """Put a proxy in front of the store."""
    async with tcp_proxy(HOST, urlsplit(redis_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
def sentinel_url(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """Run a sentinel that knows the store as ``main``."""
    with valkey_sentinel(tmp_path, urlsplit(redis_url).port or 0, "main") as url:
        yield url


@pytest.fixture(params=["redis_url", "cluster_url", "sentinel_url"])
def any_url(request: pytest.FixtureRequest) -> str:
    """Name a store of each kind."""
    return str(request.getfixturevalue(request.param))


async def test_one_script_runs_on_every_kind_of_store(any_url: str) -> None:
    """The same script and keys work on one server, on a cluster and through a sentinel; replies stay bytes."""
    async with opened(any_url) as client:
        scripts = scripts_on(client)
        await client.delete("{team}:n")
        assert await scripts.run(COUNT, ["{team}:n"], [2]) == 2
        assert await scripts.run(COUNT, [b"{team}:n"], [b"3"]) == 5
        assert await client.get("{team}:n") == b"5"


async def test_a_timed_out_command_is_not_run_again(any_url: str) -> None:
    """A command whose reply does not come in time is reported, and has run once."""
    async with opened(any_url) as patient, opened(any_url, read_timeout_s=1) as client:
        await patient.delete("{team}:slow", "{team}:n")
        scripts = Scripts(client, deadline_s=1)
        await scripts.run(COUNT, ["{team}:n"], [1])  # it is connected
        with pytest.raises(StoreUnavailable):
            await scripts.run(SLOW_COUNT, ["{team}:slow"], [])
        assert await patient.get("{team}:slow") == b"1"


async def test_a_store_that_is_down_is_reported_at_once() -> None:
    """A refused connection is StoreUnavailable without a wait for retries; so are a cluster and a sentinel."""
    port = free_port()
    for form in ("redis://{}", "redis+cluster://{}", "redis+sentinel://{}/main"):
        async with opened(form.format(f"{HOST}:{port}")) as client, asyncio.timeout(20):
            with pytest.raises(StoreUnavailable):
                await Scripts(client, deadline_s=60).run(COUNT, ["n"], [1])


async def test_a_store_that_hangs_is_reported_by_the_deadline(proxy: Proxy) -> None:
    """A call ends by its deadline, whatever the timeouts of its parts, and the client works when the store does."""
    async with opened(f"redis://{HOST}:{proxy.port}", read_timeout_s=60, max_connections=1) as client:
        proxy.fault = Fault.STALL
        with pytest.raises(StoreUnavailable, match=r"no (answer|reply) in time"):
            await Scripts(client, deadline_s=0.1).run(COUNT, ["n"], [1])
        proxy.fault = Fault.NONE
        assert await scripts_on(client).run(COUNT, ["n"], [1]) == 1


async def test_the_client_recovers_when_the_server_is_back(tmp_path: Path) -> None:
    """After a restart of the server the first call finds it, with no call in between to notice."""
    with valkey_server(tmp_path) as url:
        async with opened(url) as client:
            assert await scripts_on(client).run(COUNT, ["n"], [1]) == 1
    async with opened(url) as client:
        with valkey_server(tmp_path, port=urlsplit(url).port):
            assert await scripts_on(client).run(COUNT, ["n"], [1]) == 2


async def test_flushed_scripts_are_loaded_again(any_url: str) -> None:
    """SCRIPT FLUSH, or a server restarted without its scripts, costs a round trip and loses no call."""
    async with opened(any_url) as client:
        await client.delete("{team}:n")
        await scripts_on(client).run(COUNT, ["{team}:n"], [1])
        await client.script_flush()
        assert await scripts_on(client).run(COUNT, ["{team}:n"], [1]) == 2


async def test_callers_queue_in_order(redis_url: str) -> None:
    """With more callers than connections each gets its turn: nobody is overtaken by one that comes back."""
    turns: list[str] = []

    async def call(client: RedisClient, name: str) -> None:
        for _ in range(5):
            await client.ping()
            turns.append(name)

    async with opened(redis_url, max_connections=1) as client:
        await asyncio.gather(*(call(client, name) for name in "abc"))
    assert "".join(turns) == "abc" * 5


async def test_a_full_pool_is_reported_after_a_bounded_wait(any_url: str) -> None:
    """A call that gets no connection in time is StoreUnavailable, and leaves the pool intact."""
    async with opened(any_url, max_connections=1, pool_wait_s=0.05) as client:
        await client.delete("{team}:n")
        running = asyncio.create_task(client.execute_command("EVAL", SLOW_COUNT.source, 1, "{team}:n"))
        await asyncio.sleep(0)  # it has the only connection now
        with pytest.raises(StoreUnavailable, match="no connection became free"), store_errors():
            await client.incr("{team}:n")
        assert await running == 1
        assert await client.incr("{team}:n") == 2


async def test_cancelled_calls_leave_no_connection_behind(redis_url: str) -> None:
    """However calls are cancelled, every connection comes back and none holds a stranger's reply."""
    async with opened(redis_url, max_connections=2) as client:

        async def count() -> None:
            await client.incr("n")

        for steps in range(30):
            calls = [asyncio.create_task(count()) for _ in range(6)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert await asyncio.gather(*(client.echo(str(n)) for n in range(4))) == [b"0", b"1", b"2", b"3"]


async def test_an_error_of_a_script_is_not_an_outage(redis: RedisClient) -> None:
    """An error reply that a script makes comes through as itself, since it is a mistake of ours."""
    with pytest.raises(ResponseError, match="bad argument"):
        await scripts_on(redis).run(Script("bad", "return redis.error_reply('ERR bad argument')"), [], [])


@pytest.mark.parametrize(
    "refusal",
    [
        "MISCONF disk full",
        "BUSY running a script",
        "UNKILLABLE a script has written",
        "NOREPLICAS",
        "OOM memory",
        "READONLY replica",
        "MASTERDOWN link with MASTER is down",
        "LOADING the dataset",
        "CLUSTERDOWN no owner",
        "TRYAGAIN slot moves",
        "NOPERM no rights",
        "NOAUTH required",
        "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
    ],
)
async def test_a_server_that_refuses_is_an_outage(redis_url: str, refusal: str) -> None:
    """A server that can't now (disk, memory, role, rights) is StoreUnavailable: by line, by pool, and in a pipeline."""
    refuse = Script("refuse", "return redis.error_reply(ARGV[1])")
    async with opened(redis_url) as client:
        with pytest.raises(StoreUnavailable):
            await scripts_on(client).run(refuse, [], [refusal])
        with pytest.raises(StoreUnavailable), store_errors():
            await client.eval(refuse.source, 0, refusal)
        pipeline = client.pipeline(transaction=False)
        pipeline.ping()
        pipeline.eval(refuse.source, 0, refusal)
        with pytest.raises(StoreUnavailable), store_errors():
            await pipeline.execute()
        assert await client.ping() is True


@pytest.mark.parametrize("mistake", ["BUSYGROUP exists", "WRONGTYPE of key", "EXECABORT"])
async def test_a_mistake_is_not_an_outage(redis: RedisClient, mistake: str) -> None:
    """What only looks like a state of the server stays what it is."""
    with pytest.raises(ResponseError):
        await scripts_on(redis).run(Script("err", "return redis.error_reply(ARGV[1])"), [], [mistake])


async def test_a_connection_leaves_a_server_that_is_no_primary(redis_url: str) -> None:
    """After READONLY or MASTERDOWN the next command goes out on a new connection: a failover may be behind it."""
    async with opened(redis_url, max_connections=1) as client:
        for refusal in ("READONLY replica", "MASTERDOWN no link"):
            before = await client.client_id()
            with pytest.raises(StoreUnavailable), store_errors():
                await client.eval("return redis.error_reply(ARGV[1])", 0, refusal)
            assert await client.client_id() != before


async def test_a_user_without_rights_is_an_outage(redis_url: str) -> None:
    """A user whose password or rights were changed while we run is StoreUnavailable: 503, until it is put right."""
    async with opened(redis_url) as client, opened(redis_url.replace("//", "//weak:pw@")) as weak:
        await client.acl_setuser("weak", enabled=True, passwords=["+pw"], commands=["+ping"])
        try:
            with pytest.raises(StoreUnavailable, match=r"NOPERM|NoPermission"):
                await scripts_on(weak).run(COUNT, ["n"], [1])
        finally:
            await client.acl_deluser("weak")
        with pytest.raises(StoreUnavailable, match="Authentication"):
            await scripts_on(weak).run(COUNT, ["n"], [1])


def test_scripts_are_read_with_their_prelude(tmp_path: Path) -> None:
    """Each file but those with an underscore is a script, run after the prelude's text."""
    (tmp_path / "_prelude.lua").write_text("local one = 1\n")
    (tmp_path / "take.lua").write_text("return one\n")
    (tmp_path / "notes.txt").touch()
    assert load_scripts(tmp_path) == {"take": Script("take", "local one = 1\nreturn one\n")}


def test_the_gateways_own_scripts_are_found() -> None:
    """The scripts are part of the installed package."""
    assert load_scripts()


@pytest.mark.parametrize(
    "url",
    [
        "http://:s3cret@host",
        "redis://:s3cret@host:notaport",
        "redis://:s3cret@host/notadatabase",
        "redis://:s3/cret@host",
        "redis://:s3cret@host?retry_on_timeout=yes",
        "redis://:s3cret@host?ssl_ca_certs=/ca.pem",
        "unix://:s3cret@host/path",
        "redis+cluster://:s3cret@",
        "redis+cluster://:s3cret@host/1",
        "redis+sentinel://:s3cret@host",
        "redis+sentinel://:s3cret@host/main/x",
        "s3cret",
    ],
)
def test_a_bad_url_is_refused_without_being_quoted(url: str) -> None:
    """A URL that we do not understand is a configuration error that says what is right and repeats no password."""
    with pytest.raises(ConfigError, match="GATEWAY_REDIS_URL must be") as refused:
        open_redis(url, connect_timeout_s=1, read_timeout_s=1, max_connections=1)
    assert "cret" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("tls", ["", "s"])
def test_credentials_and_tls_reach_every_kind_of_connection(tls: str) -> None:
    """User, password, TLS and timeouts of the URL are used for the servers, the sentinels' own only for them."""
    query = "?ssl_check_hostname=no" if tls else "?"
    addresses = (f"://u:p%40@h:1/2{query}", f"+cluster://u:p%40@h:1,[::1]:2{query}")
    sentinels = f"+sentinel://u:p%40@h:1,g/main/2{query}&sentinel_password=q"
    one, cluster, watched = (
        open_redis(f"redis{tls}{rest}", connect_timeout_s=0.2, read_timeout_s=0.4, max_connections=3)
        for rest in (*addresses, sentinels)
    )
    assert not isinstance(one, RedisCluster)
    assert isinstance(cluster, RedisCluster)
    assert not isinstance(watched, RedisCluster)
    pools = (one.connection_pool, cluster, watched.connection_pool)
    for options in (pool.connection_kwargs for pool in pools):
        assert (options["username"], options["password"]) == ("u", "p@")
        assert (options["socket_connect_timeout"], options["socket_timeout"]) == (0.2, 0.4)
        assert ("ssl_check_hostname" in options) == bool(tls)
    assert [(node.host, node.port) for node in cluster.startup_nodes] == [("h", 1), ("::1", 2)]
    (first, second) = watched.connection_pool.sentinel_manager.sentinels  # type: ignore[attr-defined]  # FairSentinelPool
    for sentinel, address in ((first, ("h", 1)), (second, ("g", 26379))):
        options = sentinel.connection_pool.connection_kwargs
        assert (options["host"], options["port"]) == address
        assert (options["username"], options["password"]) == (None, "q")
        assert options["retry"].get_retries() == 0
