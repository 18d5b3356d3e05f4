"""The rights that the documentation gives a Redis user are enough, and none is needed beyond them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from redis import Redis
from support.gateway import TENANT, gateway_on
from support.valkey import client_of, command

from gateway.core.policy import Policy
from gateway.store import keys
from gateway.store.connect import open_redis
from gateway.store.readiness import check_store
from gateway.store.sweeper import RedisSweeper

PAGE: Final = (Path(__file__).parents[2] / "docs" / "redis.md").read_text("utf-8")
SCRIPTS: Final = "".join(file.read_text("utf-8") for file in (files("gateway.store") / "lua").iterdir())
COMMANDS: Final = sorted(set(re.findall(r"redis\.p?call\('(\w+)'", SCRIPTS)))


@pytest.fixture
def server(redis_url: str) -> Iterator[Redis]:
    """Make the user of the page on the server; take it away afterwards."""
    words = re.findall(r"^ACL SETUSER .*$", PAGE, re.MULTILINE)[0].split()
    with client_of(urlsplit(redis_url).port or 0) as client:
        command(client, "ACL SETUSER", *words[2:])
        command(client, "ACL LOG", "RESET")
        yield client
        command(client, "ACL DELUSER", "gateway")


@pytest.mark.parametrize("word", COMMANDS)
def test_every_command_of_the_scripts_is_allowed(server: Redis, word: str) -> None:
    """What a script runs, its user may run: a new command in a script belongs on the page."""
    ((_, arity, *_),) = command(server, "COMMAND INFO", word)
    arguments = ["jobs" if word == "PUBLISH" else "{t}:x"] * (abs(arity) - 1)
    assert command(server, "ACL DRYRUN", "gateway", word, *arguments) == b"OK"


def test_every_key_is_allowed(server: Redis) -> None:
    """Each name of the key schema fits a pattern of the page, and a foreign name fits none."""
    names = re.findall(r"^``(.+?)`` ", keys.__doc__ or "", re.MULTILINE)
    assert len(names) > 20
    for name in names:
        assert command(server, "ACL DRYRUN", "gateway", "GET", name) == b"OK", name
    assert command(server, "ACL DRYRUN", "gateway", "GET", "elsewhere") != b"OK"


async def test_a_gateway_runs_with_these_rights(server: Redis, redis_url: str) -> None:
    """With the user of the page a job runs to its end, confirmed by WAITAOF, and the server has nothing to deny."""
    url = redis_url.replace("//", "//gateway:PASSWORD@")
    async with gateway_on(url, rules=Policy(durability="waitaof")) as gateway:
        answer = await gateway.post(idempotency_key="one", Prefer="wait=20")
        job_id = answer.json()["request_id"]
        await gateway.ended(job_id)
        for path in (f"/v2/requests/{job_id}", "/v2/requests?limit=5", "/v1/get-user-credits", "/v1/models"):
            assert (await gateway.http.get(path)).status_code == 200
        client = open_redis(url, connect_timeout_s=2, read_timeout_s=2, max_connections=4)
        assert await check_store(client, allow_volatile=False) == []
        assert (await RedisSweeper(client).positions()).keys() == {TENANT}
        await client.aclose()
        assert "background.failed" not in gateway.log.getvalue().decode()
    assert command(server, "ACL LOG") == []
