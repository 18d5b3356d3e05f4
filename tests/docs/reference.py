"""The tables of docs/configuration.md, from the code: ``python -m docs.reference``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import time
from typing import Any

from docs.snippets import ROOT
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config import Settings, variables
from gateway.core.credits import format_credits
from gateway.core.durations import format_duration
from gateway.service import fields
from gateway.service.values import _credits, _duration_s

PAGE = ROOT / "docs" / "configuration.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "policy": fields.PolicyFields,
    "models.SLUG": fields.ModelFields,
    "tenants[], policy.defaults": fields.TenantFields,
    "tenants[].rate_limits.submit, .read": fields.RateLimitFields,
    "tenants[].webhooks": fields.WebhookFields,
}


def environment() -> Iterator[str]:
    """Write the table of the environment."""
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for variable in variables(Settings()):
        default = f"`{variable.default}`" if variable.default else ""
        yield f"| `{variable.name}` | {default} | {variable.meaning} |"


def file() -> Iterator[str]:
    """Write a table for each section of ``gateway.yaml``."""
    for name, section in SECTIONS.items():
        yield f"### {name}"
        yield "| field | default | meaning |"
        yield "|---|---|---|"
        for field, info in section.model_fields.items():
            if field != "defaults":
                yield f"| `{field}` | {_default(info)} | {info.description} |"
        yield ""


def written(page: str) -> str:
    """Return the page with its tables as the code has them."""
    for name, lines in (("environment", environment()), ("file", file())):
        head, _, rest = page.partition(f"<!-- {name} -->\n")
        page = (
            f"{head}<!-- {name} -->\n"
            + "\n".join(lines).rstrip()
            + f"\n<!-- /{name} -->"
            + rest.partition(f"<!-- /{name} -->")[2]
        )
    return page


def _default(info: FieldInfo) -> str:
    """Write a default as the file would; what can be left out without effect has none."""
    value: Any = info.default
    if info.is_required():
        return "required"
    if value is None or value in ((), {}, "") or isinstance(value, BaseModel):
        return ""
    kinds = [getattr(part, "func", None) for part in info.metadata]
    if _credits in kinds:
        return f'`"{format_credits(value)}"`'
    if _duration_s in kinds:
        return f"`{format_duration(value)}`"
    return f"`{value:%H:%M}`" if isinstance(value, time) else f"`{list(value) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
