import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chart.release import CHART, Helm
from chart.values_table import described_values, with_table

from gateway import __version__

MINIMAL = CHART / "examples" / "minimal.yaml"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"upstream": {"existingSecret": ""}}, "upstream.existingSecret is not set: name the Secret"),
        ({"redis": {"existingSecret": ""}}, "redis.existingSecret is not set: name the Secret"),
        (
            {"serve": {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}}},
            "minReplicas (3) is above maxReplicas (2)",
        ),
        ({"valkey": {"enabled": True}}, "choose the bundled server or your own Redis"),
        (
            {"redis": {"existingSecret": ""}, "valkey": {"enabled": True}},
            "valkey.existingSecret is not set: name the Secret",
        ),
        ({"ingress": {"enabled": True}}, "ingress.hosts is empty"),
        ({"config": {"policy": {"note": "SG_0123456789abcdef"}}}, "config holds an API key"),
        ({"config": {"policy": {"note": "sgw_video-team_k1_secret"}}}, "config holds an API key"),
        ({"extraEnv": [{"name": "GATEWAY_ADMIN_TOKEN", "value": "t"}]}, "GATEWAY_ADMIN_TOKEN to a literal"),
        (
            {"extraEnv": [{"name": "SEGMIND_API_KEY", "valueFrom": {}}]},
            "extraEnv sets SEGMIND_API_KEY, which the chart sets",
        ),
        (
            {"extraEnv": [{"name": "GATEWAY_REDIS_URL", "value": "redis://h"}]},
            "extraEnv sets GATEWAY_REDIS_URL, which the chart sets",
        ),
        ({"upstream": {"apiKey": "SG_0123456789abcdef"}}, "additional properties 'apiKey' not allowed"),
        ({"serve": {"replica": 3}}, "additional properties 'replica' not allowed"),
        ({"config": {"tenants": [{"id": "Video"}]}}, "'Video' does not match pattern"),
    ],
)
def test_contradictions_are_refused(helm: Helm, values: dict[str, Any], message: str) -> None:
    """Contradictory and misspelt values and literal keys stop the release, naming the value that is meant."""
    settings = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
    done = helm.run("template", "gw", CHART, "--values", MINIMAL, *settings)
    assert done.returncode != 0
    assert message in done.stderr


def test_chart_is_of_the_packages_version() -> None:
    """The chart deploys by default the image of the version that it ships with."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_schema_refuses_unknown_names_everywhere() -> None:
    """Every object of the schema that names properties admits no others."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    closed = [
        part.get("additionalProperties") is False for part in _parts(schema) if {"type", "properties"} <= part.keys()
    ]
    assert closed.count(False) == 1  # a tenant within `config`: the gateway itself checks its fields
    assert closed.count(True) > 20


def test_every_value_is_explained() -> None:
    """Each setting in values.yaml has a comment right above it."""
    values = described_values()
    assert len(values) > 60
    assert [value.name for value in values if not value.meaning] == []


def test_readme_lists_every_value() -> None:
    """The table in the chart's README is the one that `make docs` writes from values.yaml."""
    assert with_table((CHART / "README.md").read_text()) == (CHART / "README.md").read_text()


def _parts(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _parts(part)
