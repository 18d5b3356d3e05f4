"""What a scrape says, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Series:
    """Return every sample of an exposition."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def total(series: Series, name: str, **labels: str) -> float:
    """Sum a metric over the series that have these labels."""
    return sum(value for (found, has), value in series.items() if found == name and has >= labels.items())
