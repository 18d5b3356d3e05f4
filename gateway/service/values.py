"""The kinds of values in ``gateway.yaml``: amounts, durations, slugs, hosts. Each says what it should have been."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.catalogue.loader import compile_schema
from gateway.core.credits import parse_credits
from gateway.core.durations import parse_duration_s
from gateway.core.targets import spellings
from gateway.core.tenant import MODEL, TenantPolicy
from gateway.service.document import as_json

_HOST_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]{1,5})?", re.ASCII)
_TIME_OF_DAY = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
DAY_S = 86_400


def _credits(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("should be an amount of credits")  # noqa: TRY004 pydantic reads ValueError
    return parse_credits(str(value))


def _duration_s(value: object) -> object:
    return parse_duration_s(value if isinstance(value, str) else "")


def _time_of_day(value: object) -> object:
    if not isinstance(value, str) or not _TIME_OF_DAY.fullmatch(value):
        raise ValueError("should be a time of day like 04:30 (UTC)")
    return time.fromisoformat(value)


def _tenant_id(value: str) -> str:
    return TenantPolicy(id=value).id


def _model_pattern(value: str) -> str:
    return TenantPolicy(id="any", models=(value,)).models[0]


def _slug(value: str) -> str:
    if not MODEL.fullmatch(value):
        raise ValueError("not a model's slug")
    return value


def _schema(value: object) -> object:
    schema = as_json(value)
    if isinstance(schema, dict):
        compile_schema(schema)
    return schema


def _webhook_url(value: str) -> str:
    if not spellings(value):
        raise ValueError("should be an http or https URL of a host name, without a user name or fragment")
    return value


def _host_pattern(value: str) -> str:
    if not _HOST_PATTERN.fullmatch(value):
        raise ValueError("should be a host like hooks.example.com or *.example.com")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("should have printable characters only")
    return value


Credits = Annotated[int, BeforeValidator(_credits)]
DurationS = Annotated[int, BeforeValidator(_duration_s)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Slug = Annotated[str, AfterValidator(_slug)]
Percent = Annotated[int, Field(ge=1, le=100)]
TenantId = Annotated[str, AfterValidator(_tenant_id)]
ModelPattern = Annotated[str, AfterValidator(_model_pattern)]
Printable = Annotated[str, AfterValidator(_printable)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]
JsonSchema = Annotated[dict[str, Any], BeforeValidator(_schema)]
