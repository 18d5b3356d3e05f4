"""`compose.yaml`, as far as it can be held to the code without a container engine."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from chart.release import ROOT

from gateway.catalogue import load_catalogue
from gateway.config import Settings
from gateway.service.spec import load_spec

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "segmind-gateway"]


def test_settings_make_a_gateway() -> None:
    """The environment of the gateway is one that it starts with, and its vendor is the sandbox."""
    settings = Settings.from_env(SERVICES["gateway"]["environment"])
    assert {settings.upstream_url, settings.storage_url, settings.history_url} == {"http://sandbox:8081"}
    assert settings.segmind_api_key is not None
    assert settings.segmind_api_key.reveal() in SERVICES["sandbox"]["command"]


def test_the_tenants_can_be_applied() -> None:
    """The `gateway.yaml` inside is valid, and is the one that `apply` reads."""
    assert [tenant.id for tenant in load_spec(COMPOSE["configs"]["gateway"]["content"], load_catalogue()).tenants]
    assert SERVICES["apply"]["configs"][0]["target"] == SERVICES["apply"]["command"][2]


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_pinned_local_and_complete(name: str) -> None:
    """Foreign images have a version, ports are open on this machine only, and what is mounted is there."""
    service = SERVICES[name]
    assert name in OURS or ":" in service["image"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for source in (volume.split(":")[0] for volume in service.get("volumes", ())):
        assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]
    assert {config["source"] for config in service.get("configs", ())} <= COMPOSE["configs"].keys()


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_write_nowhere_but_to_their_volumes(name: str) -> None:
    """The root file system is read-only and no capability is left, as in the chart."""
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]
