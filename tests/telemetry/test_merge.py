"""Several processes' metrics as one."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.series import everything

from gateway.telemetry.merge import Exposition, merge, render


def values(text: str) -> dict[str, float]:
    """Return samples by name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_two_of_the_same_count_twice() -> None:
    """Every counter and histogram is the sum; types, help and labels stay; gauges go by their rule."""
    text = everything().render().decode()
    one, both = values(text), values(render(merge([Exposition(text), Exposition(text)])).decode())
    assert one.keys() == both.keys()
    counted = {name for name in one if "_total[" in name or "_bucket[" in name or "_count[" in name}
    assert len(counted) > 50
    for name in counted:
        assert both[name] == 2 * one[name]
    assert both["gateway_jobs[('state', 'ACCEPTED')]"] == 1


@pytest.mark.parametrize(
    ("name", "shown", "merged"),
    [
        ("process_resident_memory_bytes", (1.0, 2.0), 3.0),
        ("gateway_ready", (1.0, 0.0), 0.0),
        ("gateway_tracker_due_jobs", (1.0, 2.0), 2.0),
        ("gateway_upstream_remaining_credits", (float("nan"), 2.0), 2.0),
        ("gateway_upstream_remaining_credits", (5.0, 2.0), 2.0),
    ],
)
def test_gauges_go_by_their_rule(name: str, shown: tuple[float, ...], merged: float) -> None:
    """What each has a part of is summed, what all read is the greatest, what is worst or last known the least."""
    texts = [Exposition(f"# TYPE {name} gauge\n{name} {value}\n") for value in shown]
    assert values(render(merge(texts)).decode()) == {f"{name}[]": merged}


def test_what_was_counted_outlives_its_process() -> None:
    """Of a process that has ended its counters stay, its gauges go."""
    text = everything().render().decode()
    past = values(render(Exposition(text).counted()).decode())
    assert not any(name.startswith("gateway_jobs[") for name in past)
    assert {name: value for name, value in values(text).items() if name in past} == past
