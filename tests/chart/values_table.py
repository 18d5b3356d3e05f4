"""The table of values in the chart's README, from values.yaml and its comments: ``python -m chart.values_table``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from chart.release import CHART

BEGIN, END = "<!-- values -->", "<!-- /values -->"


@dataclass(frozen=True)
class Value:
    """One setting: its dotted name, its default as YAML, and the comment above it."""

    name: str
    default: str
    meaning: str


def described_values() -> list[Value]:
    """Read every setting of values.yaml, in its order; a group of settings is not one."""
    text = (CHART / "values.yaml").read_text()
    schema = json.loads((CHART / "values.schema.json").read_text())
    lines = text.splitlines()
    return [
        Value(name, _default(value), _comment(lines, line))
        for name, line, value in _settings(yaml.compose(text), yaml.safe_load(text), schema, "")
    ]


def with_table(readme: str) -> str:
    """Return the README with the table put between its marks."""
    rows = [f"| `{v.name}` | `{v.default}` | {v.meaning.replace('|', chr(92) + '|')} |" for v in described_values()]
    table = "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])
    head, _, rest = readme.partition(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def _settings(
    node: yaml.Node | None, values: dict[str, Any], schema: dict[str, Any], prefix: str
) -> Iterator[tuple[str, int, object]]:
    """Yield name, line and default of the keys whose values are settings and not groups of settings."""
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        below, default = schema["properties"][key.value], values[key.value]
        if default and isinstance(value, yaml.MappingNode) and "properties" in below:
            yield from _settings(value, default, below, f"{prefix}{key.value}.")
        else:
            yield prefix + key.value, key.start_mark.line, default


def _default(value: object) -> str:
    return json.dumps(value)


def _comment(lines: list[str], line: int) -> str:
    """Return the comment right above a line."""
    above: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        above.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(above)


if __name__ == "__main__":
    readme = CHART / "README.md"
    readme.write_text(with_table(readme.read_text()))
