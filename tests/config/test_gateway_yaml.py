from __future__ import annotations

from datetime import time

import pytest

from gateway.catalogue import ModelOverride, load_catalogue
from gateway.core.credits import NANO
from gateway.core.policy import Policy
from gateway.core.tenant import READ_DEFAULT, SUBMIT_DEFAULT, RateLimit, TenantPolicy
from gateway.errors import ConfigError
from gateway.service.spec import GatewaySpec, load_spec

EXAMPLE = """\
policy: {unpriced_models: hold, default_hold: "1.0", unknown_jobs: charge, result_ttl: 7d}
models:
  my-private-model: {price: "0.25", expected_latency: 30s}
tenants:
  - id: video-team                # [a-z0-9][a-z0-9-]{0,38}
    name: Video team
    models: ["kling-2.6-*", "flux-2-pro"]        # default: all
    rate_limits: {submit: {limit: 60, period: 60s, burst: 10}, read: {limit: 1200, period: 60s}}
    concurrent_jobs: 20
    budgets: {day: "50", month: "500"}
    require_idempotency_key: false
    webhooks: {url: "https://hooks.example.com/video", allowed_hosts: ["*.example.com"]}
"""


def load(text: str) -> GatewaySpec:
    """Read a file with the catalogue that ships."""
    return load_spec(text, load_catalogue())


def problems(text: str) -> list[str]:
    """Return the mistakes of a file that has some."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


def tenant(fields: str, policy: str = "{}") -> TenantPolicy:
    """Return what a file with one tenant makes of it."""
    (policy_of_tenant,) = load(f"policy: {policy}\ntenants: [{{id: t, {fields}}}]").tenants
    return policy_of_tenant


def test_the_documented_example_means_what_it_says() -> None:
    """The example of the documentation gives exactly these values."""
    spec = load(EXAMPLE)
    assert spec.policy == Policy()
    assert spec.models == (ModelOverride("my-private-model", price_nano=NANO // 4, expected_latency_s=30),)
    assert spec.tenants == (
        TenantPolicy(
            id="video-team",
            name="Video team",
            models=("kling-2.6-*", "flux-2-pro"),
            submit=RateLimit(60, 60, 10),
            read=RateLimit(1200, 60, 1200),
            concurrent_jobs=20,
            budgets={"day": 50 * NANO, "month": 500 * NANO},
            webhook_url="https://hooks.example.com/video",
            webhook_hosts=("*.example.com",),
        ),
    )


def test_every_policy_field_is_read() -> None:
    """Nothing under `policy` is accepted and then ignored."""
    text = (
        "{unpriced_models: refuse, default_hold: 2, unknown_jobs: release, unknown_after: 30m, result_ttl: 72h, "
        "job_ttl: 30d, media_urls: any, alerts: [90, 10], reconcile_at: 12:30, "
        "upstream_rpm: 50, upstream_poll_rps: 0.5, durability: 'wait:2'}"
    )
    assert load(f"policy: {text}\ntenants: []").policy == Policy(
        unpriced_models="refuse",
        default_hold=2 * NANO,
        unknown_jobs="release",
        unknown_after_s=1800,
        result_ttl_s=72 * 3600,
        job_ttl_s=30 * 86_400,
        media_urls="any",
        alerts=(10, 90),
        reconcile_at=time(12, 30),
        upstream_rpm=50,
        upstream_poll_rps=0.5,
        durability="wait:2",
    )


def test_a_tenant_without_fields_gets_the_documented_defaults() -> None:
    """600 submits and 6000 reads a minute, 100 jobs, no budget, all models."""
    assert tenant("") == TenantPolicy(id="t", submit=SUBMIT_DEFAULT, read=READ_DEFAULT, concurrent_jobs=100)


def test_policy_defaults_reach_each_tenant_and_yield_to_its_own_fields() -> None:
    """Budgets and prices are taken one by one; null lifts a default budget."""
    defaults = (
        "{defaults: {models: [flux-2-pro], concurrent_jobs: 5, require_idempotency_key: true, "
        "rate_limits: {submit: {limit: 1}}, budgets: {day: 1, month: 2, total: 3}, prices: {flux-2-pro: 0.5}}}"
    )
    resolved = tenant("budgets: {day: 9, total: null}, prices: {kling-2.1: 4}, concurrent_jobs: 6", defaults)
    assert resolved.budgets == {"day": 9 * NANO, "month": 2 * NANO}
    assert resolved.prices == {"flux-2-pro": NANO // 2, "kling-2.1": 4 * NANO}
    assert resolved.models == ("flux-2-pro",)
    assert resolved.concurrent_jobs == 6
    assert resolved.require_idempotency_key
    assert resolved.submit == RateLimit(1, 60, 1)
    assert not tenant("require_idempotency_key: false", defaults).require_idempotency_key


@pytest.mark.parametrize(
    ("written", "nano"),
    [("0.1", 100_000_000), ('"0.1"', 100_000_000), ("0.000000001", 1), ("9000000", 9_000_000 * NANO), ("0", 0)],
)
def test_amounts_are_exact_quoted_or_not(written: str, nano: int) -> None:
    """The characters of the file are what counts: no amount passes through a float."""
    assert tenant(f"budgets: {{day: {written}}}").budgets == {"day": nano}


@pytest.mark.parametrize(
    "written",
    ["0.1234567891", ".nan", "NaN", ".inf", "-1", "9000001", "1e400", "12:30", "true", "[1]", '""', "abc", "9" * 100],
)
def test_wrong_amounts_are_refused(written: str) -> None:
    """NaN, infinities, negatives, too many decimals and what is no number never become a budget."""
    (problem,) = problems(f"tenants:\n - id: t\n   budgets:\n     day: {written}")
    assert problem.startswith("gateway.yaml:4: tenants[0].budgets.day: ")


@pytest.mark.parametrize("written", ["60", "1.5h", "7 d", "-1s", "0s", "2d", "P1D", "9999999999s"])
def test_wrong_periods_are_refused(written: str) -> None:
    """A duration is a whole number with a unit; a rate's period is from a second to a day."""
    (problem,) = problems(f"tenants: [{{id: t, rate_limits: {{read: {{limit: 1, period: {written}}}}}}}]")
    assert "tenants[0].rate_limits.read.period: " in problem


def test_all_mistakes_are_reported_at_once_with_line_and_field() -> None:
    """One reading finds everything, whatever else is wrong, in the order of the file."""
    text = """\
policy:
  alerts: [50, 101]
  bogus: 1
  defaults: {prices: {nonsense: 1}}
models:
  "bad slug": {}
  bad: {parameters: {type: objct}}
tenants:
  - id: a
    models: [ok-*, "not ok"]
    concurrent_jobs: 0
    budgets: {hour: 5}
    budgets: {day: 5}
    prices: {flux-2-proo: 0.1}
    webhooks: {url: "file:///x"}
  - id: a
  - id: Bad_Id
    name: "\\e[31m"
    models: []
  - name: nobody
    removed: !!python/name:os.system ""
"""
    found = problems(text)
    places = [problem.removeprefix("gateway.yaml:").split(": ")[:2] for problem in found]
    assert places == [
        ["2", "policy.alerts[1]"],
        ["3", "policy.bogus"],
        ["4", "policy.defaults.prices.nonsense"],
        ["6", "models.bad slug"],
        ["7", "models.bad.parameters"],
        ["10", "tenants[0].models[1]"],
        ["11", "tenants[0].concurrent_jobs"],
        ["12", "tenants[0].budgets.hour"],
        ["13", "tenants[0].budgets"],
        ["14", "tenants[0].prices.flux-2-proo"],
        ["15", "tenants[0].webhooks.url"],
        ["16", "tenants[1].id"],
        ["17", "tenants[2].id"],
        ["18", "tenants[2].name"],
        ["19", "tenants[2].models"],
        ["20", "tenants[3].id"],
        ["21", "tenants[3].removed"],
        ["21", "tenants[3].removed"],
    ]
    assert "did you mean 'flux-2-pro'?" in found[9]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "gateway.yaml:1: the file is empty"),
        ("a: [1", "gateway.yaml:1: not YAML"),
        ("tenants: []\n---\ntenants: []", "gateway.yaml:2: not YAML"),
        ("- 1", "gateway.yaml:1: should be a valid dictionary"),
        ("policy: {}", "gateway.yaml:1: tenants: is missing"),
        ("tenants:\n", "gateway.yaml:1: tenants: should be a valid list"),
        ("tenants: &a [*a]", "gateway.yaml:1: too large or nested too deep"),
        ("tenants: " + "[" * 5000, "gateway.yaml: not YAML"),
        ("tenants: [{id: t, <<: {name: x}}]", "no merge keys"),
        ("policy: {result_ttl: 91d}\ntenants: []", "gateway.yaml:1: policy: result_ttl must be"),
    ],
)
def test_broken_files_are_refused_with_one_clear_line(text: str, expected: str) -> None:
    """Not even a hostile file ends in a stack trace; a file without `tenants` removes nobody."""
    assert expected in problems(text)[0]


def test_a_webhook_allows_its_own_host() -> None:
    """A default target needs no allow-list entry besides itself."""
    assert tenant('webhooks: {url: "https://hooks.example.com:8443/x"}').webhook_hosts == ("hooks.example.com:8443",)


def test_a_model_of_the_operator_may_have_a_price_and_a_schema() -> None:
    """A declared model counts as known for prices, and the numbers of its schema stay numbers."""
    spec = load(
        "models: {mine: {kind: image, parameters: {properties: {n: {type: integer, maximum: 4}}}}}\n"
        "tenants: [{id: t, prices: {mine: 1}}]"
    )
    assert spec.models[0].schema == {"properties": {"n": {"type": "integer", "maximum": 4}}}
    assert spec.tenants[0].prices == {"mine": NANO}
