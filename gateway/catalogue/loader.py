"""The catalogue: an immutable table of models, with the check of a request's parameters against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, NoReturn

import jsonschema_rs
import yaml

from gateway.catalogue.media import check_media, media_names
from gateway.catalogue.models import ANY_OBJECT, ModelInfo, ModelOverride
from gateway.core.credits import parse_credits
from gateway.core.durations import parse_duration_s
from gateway.core.policy import MediaUrls
from gateway.errors import InvalidRequest

_MASK = "the value"  # stands for the caller's own value in the validator's messages
_DETAIL_MAX = 200
_FIELD_MAX = 64


class Catalogue:
    """Models by slug; never changed after it was made.

    Args:
        models: Those that are known; a later one replaces an earlier one of the same slug.
        media_urls: Which URLs may stand in parameters, those of unknown models included.

    Raises:
        ValueError: A model's schema is no JSON Schema.
    """

    __slots__ = ("_checks", "_media_urls", "_models")

    def __init__(self, models: Iterable[ModelInfo], *, media_urls: MediaUrls = "public_https") -> None:
        self._models = MappingProxyType({model.slug: model for model in models})
        self._checks = {slug: _Check(model.schema) for slug, model in self._models.items()}
        self._media_urls = media_urls

    def find(self, model: str) -> ModelInfo | None:
        """Return a model, None where it is not known."""
        return self._models.get(model)

    def models(self) -> Iterable[ModelInfo]:
        """Return all models, in the order of the catalogue."""
        return self._models.values()

    def check(self, model: str, params: Mapping[str, Any]) -> None:
        """Check the parameters of a request; those of an unknown model for their URLs only.

        Raises:
            InvalidRequest: Names the field that is wrong; never quotes a value.
        """
        check = self._checks.get(model)
        if check is not None:
            check.parameters(params)
        if self._media_urls == "public_https":
            check_media(params, check.media if check else frozenset())

    def with_overrides(self, overrides: Iterable[ModelOverride], *, media_urls: MediaUrls | None = None) -> Catalogue:
        """Return a catalogue with an operator's models put over this one's.

        Raises:
            ValueError: A schema is no JSON Schema.
        """
        models = dict(self._models)
        for override in overrides:
            models[override.slug] = override.over(models.get(override.slug))
        return Catalogue(models.values(), media_urls=media_urls or self._media_urls)


class _Check:
    """The compiled schema of one model."""

    __slots__ = ("_validator", "media")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = compile_schema(schema)
        self.media = media_names(schema)

    def parameters(self, params: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest` for the first mistake."""
        instance = params if isinstance(params, dict) else dict(params)
        error = next(self._validator.iter_errors(instance), None)
        if error is not None:
            raise _refusal(error)


def compile_schema(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """Compile a JSON Schema (2020-12 unless it says otherwise); a reference to another document is an error.

    Raises:
        ValueError: Not a JSON Schema.
    """
    try:
        return jsonschema_rs.validator_for(dict(schema), mask=_MASK, retriever=_no_retrieval)
    except jsonschema_rs.ValidationError as exc:
        raise ValueError(f"not a JSON Schema: {_path(exc.instance_path)}: {exc.message}") from None
    except jsonschema_rs.ReferencingError as exc:
        raise ValueError(f"not a JSON Schema: {exc}") from None


def _no_retrieval(uri: str) -> NoReturn:
    raise ValueError(f"a schema can't refer to {uri}")


def _refusal(error: jsonschema_rs.ValidationError) -> InvalidRequest:
    """Name what is to blame: for a missing or forbidden property, that property."""
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        field = _path([*error.instance_path, kind.property])
        return InvalidRequest(f"{field} is required", field=field)
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        field = _path([*error.instance_path, kind.unexpected[0]])
        return InvalidRequest(f"{field} is not a parameter of this model", field=field)
    field = _path(error.instance_path)
    return InvalidRequest(f"{field}: {error.message}"[:_DETAIL_MAX].removeprefix(": "), field=field or None)


def _path(parts: Iterable[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:_FIELD_MAX]}" for part in parts)
    return text.removeprefix(".")


def load_catalogue() -> Catalogue:
    """Read the models that ship with the gateway."""
    document = yaml.safe_load(files(__package__).joinpath("models.yaml").read_text(encoding="utf-8"))
    return Catalogue(_model(slug, entry) for slug, entry in document["models"].items())


def _model(slug: str, entry: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        slug=slug,
        kind=entry["kind"],
        price_nano=parse_credits(entry["price"]) if "price" in entry else None,
        expected_latency_s=parse_duration_s(entry["expected_latency"]),
        schema=entry.get("parameters", ANY_OBJECT),
    )
