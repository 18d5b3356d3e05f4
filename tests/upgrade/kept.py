"""What a version has written to its store, kept for later ones to read: ``make upgrade-data`` adds this version's.

Keys are kept as ``DUMP`` gives them, with the time that they had left: absolute times would have run out by the next
release.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from support.gateway import Gateway, gateway_on
from support.valkey import valkey_server
from support.vendor import KLING

from gateway import __version__
from gateway.core.job import JobState
from gateway.core.policy import Policy
from gateway.sandbox import Fault
from gateway.store.connect import RedisClient

FOLDER: Final = Path(__file__).parent
BASE: Final = "http://gateway"
LABELS: Final = "project=trailer,shot=12"


@dataclass(frozen=True)
class Kept:
    """One version's data.

    Attributes:
        key: Of its tenant; a test's, good for nothing else.
        idempotency_key: With which `replayed` was submitted, with `prompt`.
        answers: What the version answered, by path, with its own address as `BASE`.
        unknown: A job of unknown outcome.
        store: Each key with its time left in ms (0: for ever) and its value, as base64.
    """

    key: str
    idempotency_key: str
    replayed: str
    answers: Mapping[str, tuple[int, str]]
    unknown: str
    store: Mapping[str, tuple[int, str]]


def read(path: Path) -> Kept:
    """Read a version's data."""
    return Kept(**json.loads(path.read_text("utf-8")))


async def restore(kept: Kept, client: RedisClient) -> None:
    """Write a version's data into an empty store."""
    for name, (left_ms, value) in kept.store.items():
        await client.restore(name, left_ms, b64decode(value))


async def dump(client: RedisClient) -> Mapping[str, tuple[int, str]]:
    """Read a whole store."""
    names = sorted([name async for name in client.scan_iter()])
    found = [(name, await client.pttl(name), await client.dump(name)) for name in names]
    return {name.decode(): (max(0, left_ms), b64encode(value).decode()) for name, left_ms, value in found if value}


async def live(gateway: Gateway, client: RedisClient) -> Kept:
    """Let a gateway see one of each: completed, failed, sync, unknown, replayable."""
    submitted = await gateway.post(idempotency_key="clip-42", x_gateway_labels=LABELS)
    done = (await gateway.ended(submitted.json()["request_id"])).id
    called = await gateway.post("/v1/faceswap-v2", {"prompt": "a face"})
    assert called.is_success
    fails = Fault(action="outcome", outcome="FAILED", message="the model broke", on=("submit",), times=1)
    gateway.vendor.sandbox.faults.add(fails)
    broken = (await gateway.post("/v2/flux-2-pro", {"prompt": "it breaks"})).json()["request_id"]
    assert (await gateway.ended(broken)).state is JobState.FAILED
    gateway.vendor.sandbox.faults.add(Fault(action="drop", on=("submit",), times=1))
    unknown = (await gateway.post("/v2/kling-2.6", {"prompt": "lost"})).json()["request_id"]
    paths = [f"/v2/requests/{done}", f"/v2/requests/{done}/status", f"/v2/requests/{broken}", f"/v2/requests/{unknown}"]
    answers = {path: await gateway.http.get(path) for path in [*paths, f"/v2/requests?model={KLING}"]}
    told = {path: (answer.status_code, answer.text.replace(gateway.url, BASE)) for path, answer in answers.items()}
    return Kept(gateway.key, "clip-42", done, told, unknown, await dump(client))


async def main() -> None:
    """Keep what this version writes."""
    with tempfile.TemporaryDirectory() as folder, valkey_server(Path(folder)) as url:
        async with gateway_on(url, rules=Policy(unknown_after_s=86_400)) as gateway:
            kept = await live(gateway, gateway.store.client)
    (FOLDER / f"{__version__}.json").write_text(json.dumps(asdict(kept), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
