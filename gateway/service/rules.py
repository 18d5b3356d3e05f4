"""The rules in force in one process: policy and catalogue, replaced together when ``gateway apply`` changes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gateway.catalogue.loader import Catalogue
from gateway.catalogue.models import DEFAULT_EXPECTED_LATENCY_S, ModelInfo
from gateway.core.learning import Observed, learned_latency_s, raised_price
from gateway.core.policy import Policy


class Rules:
    """What every decision of this process goes by. Tenants' own limits are not here: admission reads those in Redis.

    Args:
        policy: The policy in force.
        catalogue: The models in force.
    """

    def __init__(self, policy: Policy, catalogue: Catalogue) -> None:
        self._policy = policy
        self._catalogue = catalogue
        self._seen: Mapping[str, Observed] = {}

    @property
    def policy(self) -> Policy:
        """The policy in force now."""
        return self._policy

    @property
    def catalogue(self) -> Catalogue:
        """The models in force now."""
        return self._catalogue

    def models(self) -> Iterable[ModelInfo]:
        """List the models in force, with the prices and latencies that were learned."""
        return [
            replace(
                info,
                price_nano=None if info.price_nano is None else self.estimate(info.slug),
                expected_latency_s=self.expected_latency_s(info.slug),
            )
            for info in self._catalogue.models()
        ]

    def knows(self, model: str) -> bool:
        """Tell whether a model is in the catalogue: the others share one metric label."""
        return self._catalogue.find(model) is not None

    def replace(self, policy: Policy, catalogue: Catalogue) -> None:
        """Put new rules into force, from the next decision on."""
        self._policy, self._catalogue = policy, catalogue

    def learn(self, seen: Mapping[str, Observed]) -> None:
        """Go by what the last jobs of each model cost and took, from the next decision on."""
        self._seen = seen

    def estimate(self, model: str) -> int | None:
        """Return what to hold for a job, nanocredits; None where the policy refuses models without a price.

        The catalogue's price, or the policy's, raised to the 95th percentile of what the last jobs really cost.
        """
        info, seen = self._catalogue.find(model), self._seen.get(model)
        price = None if info is None else info.price_nano
        if price is None and self._policy.unpriced_models == "hold":
            price = self._policy.default_hold
        return price if price is None or seen is None else raised_price(price, seen)

    def expected_latency_s(self, model: str) -> float:
        """Return the seconds that a job of this model is expected to take, by the catalogue and the last jobs."""
        info, seen = self._catalogue.find(model), self._seen.get(model)
        expected_s = DEFAULT_EXPECTED_LATENCY_S if info is None else info.expected_latency_s
        return expected_s if seen is None else learned_latency_s(expected_s, seen)
