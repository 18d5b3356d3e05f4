"""A model as the catalogue knows it, and what ``gateway.yaml`` may say about one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

DEFAULT_EXPECTED_LATENCY_S = 60.0
ANY_OBJECT: Final[Mapping[str, Any]] = MappingProxyType({"type": "object"})


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model.

    Attributes:
        kind: What it makes, in the vendor's words (``image to video``); for display.
        price_nano: Average cost of a job, nanocredits; None where none is known.
        expected_latency_s: Average seconds from submission to the end.
        schema: JSON Schema (2020-12) of its parameters.
    """

    slug: str
    kind: str = ""
    price_nano: int | None = None
    expected_latency_s: float = DEFAULT_EXPECTED_LATENCY_S
    schema: Mapping[str, Any] = field(default_factory=lambda: ANY_OBJECT)


@dataclass(frozen=True, slots=True)
class ModelOverride:
    """What an operator says of a model; None leaves what the catalogue has, or the default of a new model."""

    slug: str
    kind: str | None = None
    price_nano: int | None = None
    expected_latency_s: float | None = None
    schema: Mapping[str, Any] | None = None

    def over(self, model: ModelInfo | None) -> ModelInfo:
        """Return ``model`` with these words put over it."""
        said = {name: getattr(self, name) for name in ("kind", "price_nano", "expected_latency_s", "schema")}
        given = {name: value for name, value in said.items() if value is not None}
        return replace(model or ModelInfo(self.slug), **given)
