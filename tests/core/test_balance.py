from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.balance import replace_balance


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"metrics":{"cost":1,"remaining_credits":12.5}}', b'{"metrics":{"cost":1,"remaining_credits":7}}'),
        (b'{ "metrics" :\n{"remaining_credits" : 1e3 , "x":1}}', b'{ "metrics" :\n{"remaining_credits" : 7 , "x":1}}'),
        (b'{"metrics":{"remaining_credits":null}}', b'{"metrics":{"remaining_credits":7}}'),
        (b'{"metrics":{"remaining_credits":"12\\"}"}}', b'{"metrics":{"remaining_credits":7}}'),
        (b'{"metrics":{"remaining_credits":{"a":[1]}},"b":2}', b'{"metrics":{"remaining_credits":7},"b":2}'),
        (b'{"metrics":{"remaining\\u005fcredits":1}}', b'{"metrics":{"remaining\\u005fcredits":7}}'),
        (b'{"\\u006detrics":{"remaining_credits":1}}', b'{"\\u006detrics":{"remaining_credits":7}}'),
        (b'{"output":[{"metrics":{"remaining_credits":1}}]}', b'{"output":[{"metrics":{"remaining_credits":7}}]}'),
        (
            b'{"metrics":{"remaining_credits":1,"remaining_credits":2}}',
            b'{"metrics":{"remaining_credits":7,"remaining_credits":7}}',
        ),
        (b'{"metrics":{"q":{"z":1},"remaining_credits":1}}', b'{"metrics":{"q":{"z":1},"remaining_credits":7}}'),
        (
            '{"p":"é\\n","metrics":{"remaining_credits":1}}'.encode(),
            '{"p":"é\\n","metrics":{"remaining_credits":7}}'.encode(),
        ),
    ],
)
def test_the_balance_is_replaced_wherever_it_stands(body: bytes, expected: bytes) -> None:
    """The value changes, and no byte around it."""
    assert replace_balance(body, "7") == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff\xfe not JSON, remaining",
        b'{"remaining_credits":5}',
        b'{"output":"{\\"metrics\\":{\\"remaining_credits\\":5}}"}',
        b'{"output":{"remaining_credits":5},"metrics":{"cost":1}}',
        b'[{"metrics":5},{"remaining_credits":5}]',
        b'{"metrics":[{"remaining_credits":5}]}',
        b'{"metrics":{"inner":{"remaining_credits":5}}}',
        b'{"metrics":{"x":"remaining_credits"}}',
    ],
)
def test_what_only_looks_like_it_stays(body: bytes) -> None:
    """Text, other objects' fields and broken documents are passed on as they came."""
    assert replace_balance(body, "7") == body


KEYS = st.sampled_from(["metrics", "remaining_credits", "a", 'q"uote', "{", "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def replaced(value: Any, owner: str = "") -> Any:  # noqa: ANN401 JSON
    """Do the same to the parsed document."""
    if isinstance(value, list):
        return [replaced(item) for item in value]
    if not isinstance(value, dict):
        return value
    hit = owner == "metrics"
    return {key: 7 if hit and key == "remaining_credits" else replaced(item, key) for key, item in value.items()}


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_any_document(value: object, ascii_only: bool, indent: int | None) -> None:
    """In any document and spelling, exactly the balances change."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert json.loads(replace_balance(body, "7")) == replaced(value)
