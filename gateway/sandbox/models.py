"""The models that the sandbox knows: the vendor's listed averages, and the few parameters that are documented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import UnionType
from typing import Literal

Kind = Literal["video", "image", "audio", "text", "workflow"]
Access = Literal["open", "forbidden", "retired"]
Rule = type | UnionType | tuple[str, ...]

_URLS: Mapping[str, Rule] = {"image_url": str, "video_url": str, "prompt": str}
_MOTION: Mapping[str, Rule] = {
    **_URLS,
    "character_orientation": ("video", "image"),
    "keep_original_sound": bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Describe one model as the vendor lists it.

    Attributes:
        slug: Name in the URL; ``workflows/<id>`` for a workflow.
        kind: What it returns.
        cost: Average cost, credits.
        latency_s: Shortest and longest time to completion as listed, seconds.
        required: Parameters without which a submit is refused (400).
        rules: Type or allowed values of a parameter; breaking one is accepted and FAILs soon after.
        access: Whether the account may use it.
        provider: Shape in which a text model answers; None for plain text.
    """

    slug: str
    kind: Kind
    cost: Decimal
    latency_s: tuple[float, float]
    required: tuple[str, ...] = ()
    rules: Mapping[str, Rule] = field(default_factory=lambda: _URLS)
    access: Access = "open"
    provider: Literal["openai", "anthropic", "gemini"] | None = None


def find_missing(model: Model, params: Mapping[str, object]) -> str | None:
    """Name the first required parameter that is absent."""
    return next((name for name in model.required if name not in params), None)


def find_malformed(model: Model, params: Mapping[str, object]) -> str | None:
    """Describe the first parameter of a wrong type or value."""
    for name, rule in model.rules.items():
        if name not in params:
            continue
        value = params[name]
        if isinstance(rule, tuple):
            if value not in rule:
                return f"Invalid value for '{name}': expected one of {', '.join(rule)}"
        elif not isinstance(value, rule):
            return f"Invalid type for '{name}': expected {rule.__name__ if isinstance(rule, type) else rule}"
    return None


def _listed(slug: str, kind: Kind, cost: str, low_s: float, high_s: float | None = None) -> Model:
    spread = 0.15
    latency_s = (low_s, high_s) if high_s else (low_s * (1 - spread), low_s * (1 + spread))
    return Model(slug=slug, kind=kind, cost=Decimal(cost), latency_s=latency_s)


def _motion(slug: str, cost: str, low_s: float, high_s: float) -> Model:
    return Model(
        slug=slug,
        kind="video",
        cost=Decimal(cost),
        latency_s=(low_s, high_s),
        required=("prompt",),
        rules=_MOTION,
    )


def _chat(slug: str, provider: Literal["openai", "anthropic", "gemini"]) -> Model:
    return Model(
        slug=slug,
        kind="text",
        cost=Decimal("0.0120"),
        latency_s=(2, 5),
        rules={"prompt": str, "messages": list},
        provider=provider,
    )


_MODELS = (
    _motion("kling-2.6-standard-motion-control", "0.9415", 425, 608),
    _motion("kling-2.6-pro-motion-control", "1.7247", 532, 595),
    _listed("kling-2.6", "video", "1.1078", 122),
    _listed("kling-2.5-turbo", "video", "0.5664", 135),
    _listed("kling-2.1", "video", "0.9007", 136),
    _listed("kling-3-standard-image2video", "video", "1.2415", 151),
    _listed("kling-3-pro-image2video", "video", "1.9406", 291),
    _listed("kling-o1-image-to-video", "video", "0.9086", 143),
    _listed("veo-3.1-fast", "video", "0.8591", 99),
    _listed("hailuo-2.3-fast", "video", "0.3867", 114),
    _listed("wan2.1-i2v-720p", "video", "1.4477", 149),
    _listed("pixverse-mimic", "video", "2.0300", 243),
    _listed("p-video-animate", "video", "0.4093", 90),
    _listed("flux-2-pro", "image", "0.0725", 26),
    _listed("flux-kontext-pro", "image", "0.0500", 22),
    _listed("faceswap-v2", "image", "0.0043", 3),
    _listed("chatterbox-tts", "audio", "0.0199", 18),
    _chat("gpt-5.5", "openai"),
    _chat("claude-4.5-sonnet", "anthropic"),
    _chat("gemini-3-pro", "gemini"),
    Model(
        slug="mock-inference",
        kind="text",
        cost=Decimal("0.0010"),
        latency_s=(1, 1),
        rules={"prompt": str, "sleep": int | float},
    ),
    Model(slug="sandbox-forbidden", kind="image", cost=Decimal("0.05"), latency_s=(3, 3), access="forbidden"),
    Model(slug="sandbox-retired", kind="image", cost=Decimal("0.05"), latency_s=(3, 3), access="retired"),
    _listed("workflows/talking-avatar", "workflow", "0.6200", 80),
    _listed("workflows/product-photo", "workflow", "0.1800", 35),
)
MODELS: Mapping[str, Model] = {model.slug: model for model in _MODELS}
