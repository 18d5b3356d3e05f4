"""``gateway.yaml``: policy, models and tenants as an operator declares them, checked as a whole.

Every mistake is found in one reading and reported with its line and field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from pydantic import ValidationError

from gateway.catalogue import Catalogue, ModelOverride
from gateway.core.policy import Policy
from gateway.core.tenant import TenantPolicy
from gateway.errors import ConfigError
from gateway.service.document import Document, Path, Problem, read_document
from gateway.service.fields import GatewayFile


@dataclass(frozen=True, slots=True)
class DeclaredRules:
    """What a file declares for the gateway as a whole."""

    policy: Policy = field(default_factory=Policy)
    models: tuple[ModelOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """What a valid ``gateway.yaml`` declares; defaults are resolved into each tenant."""

    policy: Policy
    models: tuple[ModelOverride, ...]
    tenants: tuple[TenantPolicy, ...]

    @property
    def rules(self) -> DeclaredRules:
        """All but the tenants."""
        return DeclaredRules(self.policy, self.models)


def load_spec(text: str, catalogue: Catalogue, *, name: str = "gateway.yaml") -> GatewaySpec:
    """Read a ``gateway.yaml``.

    Args:
        text: Its content.
        catalogue: Models that may have prices besides those of the file.
        name: Stands before each mistake.

    Raises:
        ConfigError: Lists every mistake as ``name:line: field: what is wrong``.
    """
    document = read_document(text, name)
    problems = [*document.problems, *_duplicate_tenants(document), *_unknown_prices(document, catalogue)]
    try:
        file = GatewayFile.model_validate(document.data)
    except ValidationError as exc:
        raise ConfigError(document.render([*problems, *_field_problems(document, exc)])) from None
    if problems:
        raise ConfigError(document.render(problems))
    return GatewaySpec(
        policy=file.policy.resolve(),
        models=tuple(model.resolve(slug) for slug, model in sorted(file.models.items())),
        tenants=tuple(tenant.resolve(file.policy.defaults, file.policy.resolve().alerts) for tenant in file.tenants),
    )


def _field_problems(document: Document, exc: ValidationError) -> Iterator[Problem]:
    for error in exc.errors(include_url=False, include_context=False, include_input=False):
        path: Path = tuple(part for part in error["loc"] if part != "[key]")
        message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if error["type"] == "extra_forbidden":
            message = "unknown field"
        elif error["type"] == "missing":
            message = "is missing"
        yield document.problem(path, message)


def _duplicate_tenants(document: Document) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, tenant in _entries(document, "tenants"):
        tenant_id = tenant.get("id")
        if not isinstance(tenant_id, str):
            continue
        if tenant_id in first:
            yield document.problem(
                ("tenants", index, "id"), f"{tenant_id!r} is the id of tenants[{first[tenant_id]}] already"
            )
        first.setdefault(tenant_id, index)


def _unknown_prices(document: Document, catalogue: Catalogue) -> Iterator[Problem]:
    models = _section(document.data, "models")
    known = {model.slug for model in catalogue.models()} | models.keys()
    places: list[tuple[Path, Mapping[str, object]]] = [
        (("tenants", index), tenant) for index, tenant in _entries(document, "tenants")
    ]
    places.append((("policy", "defaults"), _section(_section(document.data, "policy"), "defaults")))
    for place, fields in places:
        for slug in _section(fields, "prices").keys() - known:
            near = get_close_matches(slug, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "declare it under models"
            yield document.problem((*place, "prices", slug), f"no such model in the catalogue; {hint}")


def _section(value: object, name: str) -> Mapping[str, object]:
    section = value.get(name) if isinstance(value, dict) else None
    return section if isinstance(section, dict) else {}


def _entries(document: Document, name: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    items = document.data.get(name) if isinstance(document.data, dict) else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield index, item
