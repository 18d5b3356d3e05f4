"""Refusals on their way into the usage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.events import HttpRequest
from gateway.service.refused import RefusalCount
from gateway.service.usage import Refused


@dataclass
class Usage:
    """Keeps what is counted."""

    counted: dict[str, Mapping[Refused, int]] = field(default_factory=dict)

    async def count_refused(self, tenant: str, refused: Mapping[Refused, int]) -> None:
        """See `RefusalStore.count_refused`."""
        self.counted[tenant] = refused


def refusal(model: str) -> HttpRequest:
    """Refuse a submit for a model."""
    return HttpRequest(
        method="POST", route="/v2/{model}", status=429, latency_ms=1, request_id="r", tenant="team", key_id="k",
        model=model, code="rate_limited",
    )  # fmt: skip


async def test_models_that_a_caller_makes_up_are_counted_as_one() -> None:
    """However many names a caller thinks of, its tenant's usage keeps its rows for models that there are."""
    usage = Usage()
    count = RefusalCount(usage, lambda _: None, {"flux-2-pro"}.__contains__)
    for model in ("flux-2-pro", *(f"made-up-{n}" for n in range(20_000))):
        count(refusal(model))
    await count.flush()
    assert usage.counted == {
        "team": {Refused("k", "flux-2-pro", "rate_limited"): 1, Refused("k", "other", "rate_limited"): 20_000}
    }
