from __future__ import annotations

import hashlib
import re
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.credits import MAX_NANO
from gateway.core.tenant import (
    KEY_ID,
    MODEL,
    TENANT_ID,
    Credential,
    RateLimit,
    Secret,
    TenantPolicy,
    new_api_key,
)

SECRET = "0123456789abcdef" * 4
TENANTS = st.from_regex(TENANT_ID, fullmatch=True)
KEYS = st.from_regex(KEY_ID, fullmatch=True)


@given(TENANTS)
def test_a_new_key_reads_back_as_itself(tenant: str) -> None:
    """What `key create` prints is the credential that was stored, of which the secret is no part."""
    credential, secret = new_api_key(tenant)
    assert Credential.parse(secret.reveal()) == credential
    assert credential.tenant == tenant
    assert secret.reveal().rpartition("_")[2] not in repr(credential)


def test_new_keys_differ() -> None:
    """No two keys share a secret or, in practice, an id."""
    made = [new_api_key("team") for _ in range(200)]
    assert len({credential.digest for credential, _ in made}) == 200


@given(tenant=TENANTS, key_id=KEYS)
def test_a_key_has_one_reading(tenant: str, key_id: str) -> None:
    """Tenant, key id and secret are told apart without doubt; only the secret's digest is kept."""
    credential = Credential.parse(f"sgw_{tenant}_{key_id}_{SECRET}")
    assert credential == Credential(tenant, key_id, hashlib.sha256(SECRET.encode()).hexdigest())


@pytest.mark.parametrize(
    "text",
    [
        "", "sgw", "SG_0123456789abcdef", f"sgw_team_abcdefgh_{SECRET}\n", f" sgw_team_abcdefgh_{SECRET}",
        f"sgw_team_abcdefgh_{SECRET[:-1]}", f"sgw_team_abcdefgh_{SECRET}0", f"sgw_team_abcdefgh_{SECRET.upper()}",
        f"sgw_Team_abcdefgh_{SECRET}", f"sgw_-team_abcdefgh_{SECRET}", f"sgw__abcdefgh_{SECRET}",
        f"sgw_{'t' * 40}_abcdefgh_{SECRET}", f"sgw_team_short_{SECRET}", f"sgw_team_{'k' * 17}_{SECRET}",
        f"sgw_te{{am}}_abcdefgh_{SECRET}", f"sgw_t\u00e9am_abcdefgh_{SECRET}", f"sgw_team_abcdefgh_{'٣' * 64}",
        f"sgw_team_abcdefgh_{SECRET[:-1]}\x00", "sgw_" * 2_500, "\U0001f600" * 100,
    ],
)  # fmt: skip
def test_whatever_is_not_a_key_is_none(text: str) -> None:
    """Malformed, long and non-ASCII keys are not keys; none of them raises."""
    assert Credential.parse(text) is None


def test_a_secret_never_shows_itself() -> None:
    """Printing, formatting and nesting a secret give a mask; comparing works, with a secret alone."""
    secret = Secret("hunter2")
    shown = f"{secret} {secret!r} {[secret]} {secret!s}"
    assert "hunter2" not in shown
    assert secret == Secret("hunter2") != Secret("other")
    assert secret != "hunter2"
    assert len({secret, Secret("hunter2")}) == 1


@given(limit=st.integers(1, 1_000_000), period_s=st.integers(1, 86_400))
def test_an_interval_never_admits_more_than_the_limit(limit: int, period_s: int) -> None:
    """Intervals are whole microseconds, the least that keep to the limit."""
    interval = RateLimit(limit, period_s, burst=1).interval_us
    assert interval * limit >= period_s * 1_000_000 > (interval - 1) * limit


@pytest.mark.parametrize(
    "values", [(0, 60, 1), (1, 0, 1), (1, 60, 0), (-1, 60, 1), (1_000_001, 60, 1), (1, 86_401, 1), (1, 1, 1_000_001)]
)
def test_a_limit_out_of_range_can_not_be_made(values: tuple[int, int, int]) -> None:
    """Limits that the scripts could not count are refused."""
    with pytest.raises(ValueError, match="rate limit"):
        RateLimit(*values)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""}, {"id": "Team"}, {"id": "a" * 40}, {"id": "-a"}, {"id": "a\n"}, {"id": "a}b"},
        {"concurrent_jobs": 0}, {"concurrent_jobs": 1_000_001},
        {"budgets": {"day": -1}}, {"budgets": {"day": MAX_NANO + 1}}, {"prices": {"m": -1}},
        {"prices": {"m": MAX_NANO + 1}}, {"models": ("a b",)}, {"models": ("",)}, {"models": ("a%",)},
        {"models": ("a\n",)}, {"models": ("../x",)},
    ],
    ids=repr,
)  # fmt: skip
def test_a_policy_out_of_range_can_not_be_made(fields: dict[str, Any]) -> None:
    """A tenant that admission could not decide by can't be constructed."""
    with pytest.raises(ValueError, match=r"tenant id|concurrent_jobs|credits|pattern"):
        TenantPolicy(**{"id": "team", **fields})


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        ((), "anything", True),
        (("kling-2.6-*",), "kling-2.6-pro", True),
        (("kling-2.6-*",), "kling-2.6", False),
        (("kling-2.6",), "kling-2x6", False),
        (("flux-2-pro",), "flux-2-pro-max", False),
        (("*-pro",), "flux-2-pro", True),
        (("a*b*c",), "a1b2c", True),
        (("flux", "kling"), "kling", True),
        (("workflows/*",), "workflows/mine", True),
        (("mine",), "workflows/mine", False),
    ],
)
def test_an_allow_list_matches_whole_names(patterns: tuple[str, ...], model: str, *, allowed: bool) -> None:
    """A pattern is the whole name; its stars match any characters and its dots only dots."""
    assert TenantPolicy("team", models=patterns).allows(model) is allowed


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("kling-2.6-standard-motion-control", True), ("workflows/mine", True), ("a" * 64, True),
        ("", False), (".", False), ("..", False), ("a..b", False), ("a/b", False), ("a%2fb", False), ("a?b", False),
        ("a#b", False), ("a@b", False), ("a b", False), ("a\n", False), ("a" * 65, False), ("http://evil", False),
        ("\u00e9", False), ("workflows/", False), ("workflows/..", False),
    ],
)  # fmt: skip
def test_a_model_name_is_safe_in_a_url(name: str, *, fine: bool) -> None:
    """Nothing that could lead a URL elsewhere is a model."""
    assert bool(re.fullmatch(MODEL, name)) is fine
