from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.series import everything

import gateway
from gateway.core.alerts import AlertName
from gateway.core.events import Alert, Event, HttpRequest
from gateway.telemetry.logs import MINOR_ALERTS

ROOT = Path(gateway.__file__).parent
PAGE = (ROOT.parent / "docs" / "telemetry.md").read_text("utf-8")
EVENTS = [kind for kind in get_args(Event) if kind is not Alert]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    _, _, after = PAGE.partition(f"{heading}\n")
    lines = after.partition("\n#")[0].splitlines()
    return [line.strip("|").split("|") for line in lines if line.startswith("| `")]


def names(cell: str) -> list[str]:
    """Return the names in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_field_of_every_event_is_explained(kind: type[Event]) -> None:
    """The table of an event names its fields, all of them, in the order of the line; `params` is opted into."""
    told = [names(row[0])[0] for row in rows(f"### `{kind.name}`")]
    opted = ["params"] if kind is HttpRequest else []
    assert told == [field.name for field in fields(kind)] + opted


def test_every_alert_is_explained() -> None:
    """The table of alerts names every one that there is, with the level of its line."""
    told = {names(row[0])[0]: row[1].strip() for row in rows("### Alerts")}
    assert told == {name: "warning" if name in MINOR_ALERTS else "error" for name in get_args(AlertName)}


def test_every_field_of_an_alert_is_explained() -> None:
    """The text before the table names the fields of an alert."""
    told = names(PAGE.partition("### Alerts\n")[2].partition("\n| event")[0])
    assert {field.name for field in fields(Alert)} - {"event"} <= set(told)


def test_every_line_of_the_process_is_explained() -> None:
    """What the command line logs by itself is in the table: name, level and fields."""
    told = {names(row[0])[0]: (row[1].strip(), names(row[2])) for row in rows("### The process")}
    assert told == dict(line for path in sorted(ROOT.rglob("*.py")) for line in _logged(path))


def test_every_metric_is_explained() -> None:
    """The table names every metric with its type and labels, and no other; the page knows each one's unit."""
    told = {names(row[0])[0]: (row[1].replace("*", "").strip(), set(names(row[2]))) for row in rows("## Metrics")}
    found = {}
    for family in text_string_to_metric_families(everything().render().decode()):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, labels)
    assert told == found


def _logged(path: Path) -> list[tuple[str, tuple[str, list[str]]]]:
    """Return what a module says through `logger.info` and the like."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    return [
        (str(call.args[0].value), (call.func.attr, [keyword.arg or "" for keyword in call.keywords]))
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "logger"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    ]
