from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.tenant import Secret
from gateway.core.webhook import RETRIES_S, new_secret
from gateway.webhooks.resolver import CheckedResolver
from gateway.webhooks.sender import HttpSender

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text("utf-8")
BODY = b'{"type":"job.completed","data":{"request_id":"r-1","cost":0.9415}}'
DEADLINE_S = 30.0


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    """Open a sender that may reach loopback."""
    opened = HttpSender(CheckedResolver(allow_private=True))
    yield opened
    await opened.aclose()


async def test_the_receiver_of_the_page_works_as_pasted(sender: HttpSender, tmp_path: Path) -> None:
    """It takes what is signed with its secret, prints a message once however often it comes, and refuses the rest."""
    match = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    program = tmp_path / "receiver.py"
    program.write_text(match[1], "utf-8")
    secret = new_secret()
    env = {"PATH": os.environ["PATH"], "PORT": "0", "WEBHOOK_SECRET": secret.reveal()}
    process = await asyncio.create_subprocess_exec(sys.executable, program, stdout=PIPE, stderr=DEVNULL, env=env)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            url = f"http://127.0.0.1:{(await process.stdout.readline()).split()[-1].decode()}/"
            assert await _status(sender, url, new_secret()) == 400
            assert [await _status(sender, url, secret) for _ in range(2)] == [204, 204]
            assert await _status(sender, url, secret, "msg_2") == 204
            printed = [await process.stdout.readline() for _ in range(2)]
    finally:
        process.kill()
        rest, _ = await process.communicate()
    assert printed == [b"job.completed r-1 0.9415\n"] * 2
    assert rest == b""


def test_the_page_names_the_pauses_that_are_kept() -> None:
    """The table's pauses are the schedule's."""
    match = re.search(r"tried again after (.*?) \(", PAGE)
    assert match is not None
    units = {"s": 1, "min": 60, "h": 3600}
    told = re.findall(r"(\d+) (s|min|h)", match[1])
    assert [int(number) * units[unit] for number, unit in told] == list(RETRIES_S)


async def _status(sender: HttpSender, url: str, secret: Secret, message_id: str = "msg_1") -> int | None:
    return (await sender.send(url, message_id, BODY, (secret,))).status
