from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config import MASK, Settings, unknown_variables, variables
from gateway.errors import ConfigError

SECRET = "hunter2-hunter2-hunter2"


def test_defaults_need_no_environment() -> None:
    """An empty environment gives the documented defaults, and an empty variable counts as absent."""
    settings = Settings.from_env({"GATEWAY_PORT": "", "SEGMIND_API_KEY": ""})
    assert (settings.port, settings.ops_port, settings.admin_port) == (8080, 9090, 8090)
    assert settings.upstream_url == "https://api.segmind.com"
    assert settings.max_body_bytes == 1024 * 1024
    assert settings.max_asset_bytes == 32 * 1024 * 1024
    assert settings.redis_url is None
    assert settings.segmind_api_key is None
    assert settings.redis_connect_timeout_ms + settings.redis_timeout_ms < 500


def test_variables_override_defaults() -> None:
    """Values are read by their variable's name; a trailing newline of a mounted secret is no part of it."""
    settings = Settings.from_env(
        {"GATEWAY_PORT": "0", "GATEWAY_LOG_LEVEL": "INFO", "SEGMIND_API_KEY": "SG_0123\n", "GATEWAY_LOG_PARAMS": "true"}
    )
    assert settings.port == 0
    assert settings.log_level == "info"
    assert settings.log_params
    assert settings.segmind_api_key is not None
    assert settings.segmind_api_key.reveal() == "SG_0123"


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is given counts, for the constructor as well."""
    monkeypatch.setenv("GATEWAY_PORT", "1")
    monkeypatch.setenv("SEGMIND_API_KEY", SECRET)
    assert Settings.from_env({}).port == 8080
    assert Settings().segmind_api_key is None


def test_settings_are_frozen() -> None:
    """Nobody changes a setting after the start."""
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]  # the promise under test


def test_every_mistake_is_reported_at_once_and_no_secret_with_it() -> None:
    """Each problem names its variable; the values of secrets appear nowhere."""
    wrong = {
        "GATEWAY_PORT": "x",
        "GATEWAY_OPS_PORT": "7",
        "GATEWAY_ADMIN_PORT": "7",
        "GATEWAY_ADMIN_TOKEN": "hunter2",
        "GATEWAY_REDIS_URL": f"http://user:{SECRET}@redis",
        "GATEWAY_UPSTREAM_URL": f"https://user:{SECRET}@host",
        "GATEWAY_ROLE": "both",
        "SEGMIND_API_KEY": f"{SECRET} {SECRET}",
        "GATEWAY_DRAIN_SECONDS": "nan",
        "GATEWAY_REDIS_TIMEOUT_MS": "501",
        "GATEWAY_FAULT": "submit.sent:1:kill",
    }
    with pytest.raises(ConfigError) as caught:
        Settings.from_env(wrong)
    named = {problem.partition(":")[0] for problem in caught.value.problems}
    assert named == wrong.keys() - {"GATEWAY_OPS_PORT"}
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__context__)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.segmind.com/", "https://api.segmind.com"),
        ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("ftp://host", None),
        ("https://", None),
        ("https://host/v1", None),
        ("https://host?x=1", None),
        ("https://host:99999", None),
        ("https://a b", None),
        ("api.segmind.com", None),
    ],
)
def test_upstream_urls_are_origins(url: str, origin: str | None) -> None:
    """A URL setting is scheme, host and port; anything more is refused instead of ignored."""
    environ = {"GATEWAY_UPSTREAM_URL": url}
    if origin is None:
        with pytest.raises(ConfigError, match="GATEWAY_UPSTREAM_URL"):
            Settings.from_env(environ)
    else:
        assert Settings.from_env(environ).upstream_url == origin


def test_kubernetes_service_links_are_recognised() -> None:
    """A service called "gateway" injects GATEWAY_PORT=tcp://...: the message says what to do."""
    with pytest.raises(ConfigError, match="enableServiceLinks: false"):
        Settings.from_env({"GATEWAY_PORT": "tcp://10.0.0.1:8080"})


def test_two_sources_of_the_key_are_a_mistake() -> None:
    """A key and a key file together leave open which one is meant."""
    with pytest.raises(ConfigError, match="not both"):
        Settings.from_env({"SEGMIND_API_KEY": "SG_0123", "SEGMIND_API_KEY_FILE": "/run/key"})


def test_fault_injection_is_for_tests() -> None:
    """The fault hook exists only where the environment says that it is a test."""
    wanted = {"GATEWAY_FAULT": "submit.sent:1:kill,drain:2:raise"}
    assert Settings.from_env(wanted | {"GATEWAY_ENV": "test"}).fault == wanted["GATEWAY_FAULT"]
    with pytest.raises(ConfigError, match="refused unless GATEWAY_ENV=test"):
        Settings.from_env(wanted)
    with pytest.raises(ConfigError, match=r"unknown point 'submit'; known are .*submit\.sent.*drain"):
        Settings.from_env({"GATEWAY_FAULT": "submit:1:kill", "GATEWAY_ENV": "test"})


def test_listing_masks_secrets_and_explains_each_variable() -> None:
    """Every variable is listed with a meaning; of a secret only that it is set."""
    environ = {"GATEWAY_REDIS_URL": f"redis://:{SECRET}@r", "GATEWAY_ADMIN_TOKEN": SECRET, "SEGMIND_API_KEY": SECRET}
    listed = variables(Settings.from_env(environ))
    shown = {variable.name: variable.value for variable in listed}
    assert {shown[name] for name in environ} == {MASK}
    assert "hunter2" not in repr(listed)
    assert all(variable.meaning for variable in listed)


def test_misspelt_variables_are_found() -> None:
    """A variable with our prefix that means nothing is listed with the nearest that does; others are not ours."""
    environ = dict.fromkeys(("GATEWAY_PROT", "GATEWAY_PORT", "GATEWAY_QQQQQQQQQQQQQQQQQQ", "HOME"), "1")
    assert unknown_variables(environ) == {
        "GATEWAY_QQQQQQQQQQQQQQQQQQ": "",
        "GATEWAY_PROT": "GATEWAY_PORT",
    }
