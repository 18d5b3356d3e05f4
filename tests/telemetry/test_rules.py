from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.prometheus import ROOT, RULES, promtool
from support.series import everything

GROUPS = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
CASES = yaml.safe_load((Path(__file__).parent / "alert_cases.yaml").read_text("utf-8"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
PAGE = (ROOT / "docs" / "telemetry.md").read_text("utf-8")


def case(alert: str, series: dict[str, str], *, fires: bool) -> dict[str, Any]:
    """Write one case as promtool reads it; annotations are taken out, since it would compare their text."""
    labels = ALERTS[alert]["labels"] | CASES[alert].get("labels", {})
    return {
        "name": f"{alert} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": CASES[alert]["at"],
                "alertname": alert,
                "exp_alerts": [{"exp_labels": labels}] if fires else [],
            }
        ],
    }


def test_rules_are_valid() -> None:
    """Prometheus's own checker accepts the file, its templates included."""
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fires", [True, False], ids=["fires", "quiet"])
def test_alerts_fire_when_they_should(tmp_path: Path, *, fires: bool) -> None:
    """Each alert fires, once and with its labels, on series that are wrong, and not on such as are in order."""
    bare = [{"name": group["name"], "rules": [_bare(rule) for rule in group["rules"]]} for group in GROUPS]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": bare}), "utf-8")
    tests = [case(name, told["fires" if fires else "quiet"], fires=fires) for name, told in CASES.items()]
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite), "utf-8")
    done = promtool("test", "rules", tmp_path / "suite.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_both_cases() -> None:
    """No alert ships that was not seen to fire and to be quiet."""
    assert CASES.keys() == ALERTS.keys()
    assert all({"at", "fires", "quiet"} <= told.keys() for told in CASES.values())


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_to_do(name: str) -> None:
    """It has a severity that the runbook explains, and a section there with who is hurt and steps to take."""
    rule = ALERTS[name]
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    section = RUNBOOK.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert section.startswith(f"*{rule['labels']['severity']}.*")
    assert f"**{rule['labels']['severity']}**" in RUNBOOK
    assert re.search(r"^1\. ", section, re.MULTILINE) or "As [" in section


def test_the_runbook_has_no_other_sections() -> None:
    """A section whose alert is gone goes too, and links within the page lead somewhere."""
    sections = re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE)
    assert sections == list(ALERTS)
    assert set(re.findall(r"\]\(#([a-z]+)\)", RUNBOOK)) <= {section.lower() for section in sections}


def test_rules_use_metrics_that_exist() -> None:
    """Every metric and alert event that a rule names is one of the gateway's."""
    text = RULES.read_text("utf-8")
    known = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE))
    used = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bgateway_[a-z_]+\b", text)}
    assert used <= known
    events = set(
        re.findall(r"\b(?:adoption|background|http|job|outbox|rules|sweep|tracker|upstream|webhook)\.[a-z_]+", text)
    )
    assert events
    assert events <= set(re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE))


def test_metrics_are_written_as_prometheus_wants_them() -> None:
    """`promtool check metrics` finds nothing to say about names, units, help texts and types."""
    done = promtool("check", "metrics", stdin=everything().render().decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _bare(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name != "annotations"}
