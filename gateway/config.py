"""Settings of a process, read once from its environment by the command line and handed down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.sources.utils import parse_env_vars

from gateway.core.faultpoints import parse_faults
from gateway.core.tenant import Secret
from gateway.errors import ConfigError

PREFIX = "GATEWAY_"
MASK = "********"
IDLE = ("GATEWAY_ADMIN_PORT", "GATEWAY_ADMIN_TOKEN")
"""Names that are fixed, checked, and read by nothing yet: there is no control plane."""

_REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
_TOKEN_MIN_CHARACTERS = 16
_MIB = 1024 * 1024
PARSED_WEIGHT = 8
"""Bytes of memory that a byte of JSON takes up, text and objects together; of empty lists alone it would be 25."""


def _origin(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL like https://host or http://host:port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(c.isspace() for c in value):
        raise ValueError("must be a URL like https://host or http://host:port")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must name a host only, without a path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" if port is None else f"{parts.scheme}://{host}:{port}"


def _port(value: object) -> object:
    if isinstance(value, str) and value.startswith("tcp://"):
        raise ValueError(
            f"{value} comes from a Kubernetes service called 'gateway': set enableServiceLinks: false for the pod"
        )
    return value


def _secret(value: object) -> object:
    return Secret(value.strip()) if isinstance(value, str) else value


def _token(value: Secret) -> Secret:
    if len(value.reveal()) < _TOKEN_MIN_CHARACTERS:
        raise ValueError(f"must have at least {_TOKEN_MIN_CHARACTERS} characters")
    return _header_text(value)


def _header_text(value: Secret) -> Secret:
    text = value.reveal()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return value


def _redis_url(value: Secret) -> Secret:
    if value.reveal().partition("://")[0] not in _REDIS_SCHEMES:
        raise ValueError(f"must be a URL with one of the schemes {', '.join(_REDIS_SCHEMES)}")
    return value


def _faults(value: str) -> str:
    parse_faults(value)
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Origin = Annotated[str, AfterValidator(_origin)]
Port = Annotated[int, BeforeValidator(_port), Field(ge=0, le=65535)]
SecretText = Annotated[Secret, BeforeValidator(_secret)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=1, le=500)]
LogLevel = Literal["debug", "info", "warning", "error"]
Role = Literal["all", "api", "tracker"]


class Settings(BaseSettings):
    """Everything that a process takes from its environment, checked; a variable is a field's name with ``GATEWAY_``.

    Made by `from_env`; the constructor takes fields by name and reads no environment.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        arbitrary_types_allowed=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a mistyped secret is a secret
    )

    redis_url: Annotated[SecretText, AfterValidator(_redis_url)] | None = Field(
        None, description="Redis that holds the ledger; without it, an embedded store in GATEWAY_DATA_DIR"
    )
    data_dir: Path = Field(Path("data"), description="Directory of the embedded store")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 in the container image")
    port: Port = Field(8080, description="Port of the tenant API")
    ops_port: Port = Field(9090, description="Port of /metrics, /healthz and /readyz")
    admin_port: Port = Field(8090, description="Port of the admin API and the dashboard; no effect yet")
    admin_token: Annotated[SecretText, AfterValidator(_token)] | None = Field(
        None, description="Token of the admin API; no effect yet"
    )
    public_url: Origin | None = Field(None, description="Address in the URLs given to tenants; else from the request")
    upstream_url: Origin = Field("https://api.segmind.com", description="Segmind's inference API")
    storage_url: Origin = Field("https://workflows-api.segmind.com", description="Segmind's asset upload")
    history_url: Origin = Field("https://api.spotprod.segmind.com", description="Segmind's request history")
    segmind_api_key: Annotated[SecretText, AfterValidator(_header_text)] | None = Field(
        None,
        validation_alias="SEGMIND_API_KEY",
        description="The company's Segmind API key; of several, comma-separated, the first",
    )
    segmind_api_key_file: Path | None = Field(
        None,
        validation_alias="SEGMIND_API_KEY_FILE",
        description="File with the key, or several, one a line; read again when it changes",
    )
    role: Role = Field("all", description="all, api (no tracker) or tracker (no tenant API)")
    workers: int = Field(1, ge=1, le=64, description="Processes of the data plane")
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = Field("info", description="Lowest level that is logged")
    log_params: bool = Field(
        default=False, description="Log the parameters of jobs, prompts included, up to 8 KiB each"
    )
    env: str = Field("production", pattern=r"^[a-z0-9-]{1,32}$", description="`test` allows GATEWAY_FAULT")
    fault: Annotated[str, AfterValidator(_faults)] | None = Field(
        None, description="Fault injection for tests: point:n:kill|sleep|raise, comma-separated"
    )
    drain_seconds: float = Field(30, ge=0, le=3600, allow_inf_nan=False, description="To finish work after SIGTERM")
    allow_volatile_redis: bool = Field(
        default=False, description="Accept a Redis that may evict or lose data: for trials only"
    )
    redis_connect_timeout_ms: Milliseconds = Field(200, description="To connect to Redis")
    redis_timeout_ms: Milliseconds = Field(250, description="To wait for a reply of Redis")
    redis_connections: int = Field(64, ge=4, le=10_000, description="Connections to Redis at most, a process")
    max_body_bytes: int = Field(_MIB, ge=1024, le=64 * _MIB, description="Largest request body")
    max_held_bytes: int = Field(
        256 * _MIB,
        ge=64 * _MIB,
        description="Memory for request bodies and copies of sync answers, and as much for results, a process",
    )
    overload_late_ms: int = Field(
        20, ge=1, le=60_000, description="How late the process may stay before it refuses submits, then reads"
    )
    max_connections: int = Field(10_000, ge=16, le=1_000_000, description="Connections of tenants at most, a process")
    max_asset_bytes: int = Field(32 * _MIB, ge=1024, le=256 * _MIB, description="Largest body of /upload-asset")
    upstream_connect_timeout_seconds: Seconds = Field(5, description="To connect to Segmind")
    upstream_read_timeout_seconds: Seconds = Field(60, description="To wait for Segmind's answer")
    upstream_sync_timeout_seconds: Seconds = Field(600, description="The same for sync (v1) calls")
    upstream_pool_timeout_seconds: Seconds = Field(5, description="To wait for a free connection to Segmind")
    upstream_connections: int = Field(256, ge=1, le=10_000, description="Connections to Segmind at most, a process")

    webhook_allow_private: bool = Field(
        default=False, description="Webhooks may go to private and loopback addresses too; link-local ones never"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the process's own environment alone: what is read is what `from_env` is given."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read settings from an environment; an empty variable counts as absent.

        Raises:
            ConfigError: Lists every mistake, each with its variable; never quotes a secret.
        """
        given = _Environ(cls, environ)()
        try:
            settings, problems, wrong = cls(**given), [], set()
        except ValidationError as exc:
            wrong = {str(error["loc"][0]) for error in exc.errors()}
            problems = [_problem(error["loc"][0], error["msg"]) for error in exc.errors()]
            settings = cls(**{name: value for name, value in given.items() if name not in wrong})
        problems += [text for names, text in _conflicts(settings) if wrong.isdisjoint(names)]
        if problems:
            raise ConfigError(problems)
        return settings


class _Environ(EnvSettingsSource):
    """pydantic's reading of an environment, of a mapping instead of the process's own."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self._environ, self.case_sensitive, self.env_ignore_empty)


def _problem(name: object, message: str) -> str:
    return f"{_variable(str(name))}: {message.removeprefix('Value error, ').removeprefix('Input ')}"


def _variable(field_or_alias: str) -> str:
    return field_or_alias if field_or_alias.isupper() else f"{PREFIX}{field_or_alias.upper()}"


def _conflicts(settings: Settings) -> Iterable[tuple[set[str], str]]:
    """Yield the mistakes that lie between settings, each with the fields concerned."""
    if settings.segmind_api_key and settings.segmind_api_key_file:
        yield {"SEGMIND_API_KEY", "SEGMIND_API_KEY_FILE"}, "SEGMIND_API_KEY: give it or SEGMIND_API_KEY_FILE, not both"
    if settings.fault is not None and settings.env != "test":
        yield {"fault", "env"}, "GATEWAY_FAULT: refused unless GATEWAY_ENV=test"
    least = max(PARSED_WEIGHT * settings.max_body_bytes, settings.max_asset_bytes)
    if settings.max_held_bytes < least:
        fields = {"max_held_bytes", "max_body_bytes", "max_asset_bytes"}
        yield fields, f"GATEWAY_MAX_HELD_BYTES: at least {least}, or the largest body would never be taken"
    ports = {"port": settings.port, "ops_port": settings.ops_port, "admin_port": settings.admin_port}
    taken: dict[int, str] = {}
    for name, number in ports.items():
        if number and number in taken:
            yield {name, taken[number]}, f"{_variable(name)}: {number} is {_variable(taken[number])} already"
        taken.setdefault(number, name)


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable, for display; secrets are masked.

    Attributes:
        value: In force now; None: not set.
    """

    name: str
    default: str | None
    value: str | None
    meaning: str


def variables(settings: Settings) -> tuple[Variable, ...]:
    """List every variable with what is in force."""
    return tuple(
        Variable(
            name=_variable(str(field.validation_alias or name)),
            default=_shown(field.default),
            value=_shown(getattr(settings, name)),
            meaning=field.description or "",
        )
        for name, field in Settings.model_fields.items()
    )


def unknown_variables(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return each ``GATEWAY_*`` variable of an environment that means nothing, with the nearest that does, if any."""
    known = [_variable(str(field.validation_alias or name)) for name, field in Settings.model_fields.items()]
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(get_close_matches(name, known, n=1)), "") for name in unknown}


def idle_variables(environ: Mapping[str, str]) -> list[str]:
    """List the variables of an environment that have no effect in this version, though they have a meaning."""
    return [name for name in IDLE if environ.get(name)]


def _shown(value: Any) -> str | None:  # noqa: ANN401 settings are of many types
    if value is None or isinstance(value, Secret):
        return MASK if value else None
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
