import json

import yaml
from chart.release import CHART, Helm, Rendered

RULES = yaml.safe_load((CHART / "rules" / "gateway.yaml").read_text())


def test_rules_are_rendered_as_they_are_tested(production: Rendered) -> None:
    """The PrometheusRule holds the groups of the file word for word, templates for Prometheus included."""
    rule = production.one("PrometheusRule")
    runbook = "https://wiki.example.com/segmind-gateway/runbook"
    shipped = yaml.safe_load(yaml.safe_dump(RULES).replace("docs/runbook.md", runbook))
    assert rule["spec"] == shipped
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_monitoring_is_opted_into(helm: Helm) -> None:
    """Without its switches the chart makes no object that needs the Prometheus operator."""
    release = helm.render("--values", CHART / "examples" / "minimal.yaml")
    assert release.of_kind("ServiceMonitor", "PrometheusRule") == []


def test_the_dashboard_is_rendered_as_it_is_tested(production: Rendered) -> None:
    """The ConfigMap holds the file word for word, what Grafana fills in included, under the sidecar's label."""
    source = production.one("ConfigMap", "-dashboard")
    shipped = json.loads((CHART / "dashboards" / "gateway.json").read_text())
    assert json.loads(source["data"]["segmind-gateway.json"]) == shipped
    assert source["metadata"]["labels"]["grafana_dashboard"] == "1"
