from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.inputs import MAX_DEPTH, fingerprint, parse_object
from gateway.errors import InvalidRequest

NUMBERS = st.integers(-(10**38), 10**38) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=5)


def nested(depth: int, leaf: str, sibling: str = "0") -> bytes:
    """Write an object that is nested to a depth."""
    return ('{"a":' * depth + leaf + "}" * (depth - 1) + f', "b": {sibling}' + "}").encode()


@given(OBJECTS)
def test_any_object_is_read_as_json_reads_it(value: dict[str, Any]) -> None:
    """Objects within the limits come out as they went in."""
    assert parse_object(json.dumps(value).encode()) == value
    assert parse_object(json.dumps(value, ensure_ascii=False).encode()) == value


def test_a_character_may_be_written_as_a_surrogate_pair() -> None:
    """An escaped pair is one character."""
    assert parse_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_refusal(raw: bytes) -> None:
    """Nothing but an object comes back, and nothing but InvalidRequest is raised."""
    with contextlib.suppress(InvalidRequest):
        assert isinstance(parse_object(raw), dict)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b'"a"', b"1", b"{", b"{}x", b"{'a': 1}", b'{"a": 1,}', b'{"a": 01}', b'{"a": .5}',
        b"\xff\xfe{\x00}\x00", b'{"a": "\xff"}', b'\xef\xbb\xbf{"a": 1}', b'{"a": "\n"}',
        b'{"a": NaN}', b'{"a": Infinity}', b'{"a": [-Infinity]}', b'{"a": 1e400}', b'{"a": -1e400}',
        b'{"a": ' + b"9" * 5_000 + b"}", b'{"a": ' + b"[" * 100_000, b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": "\\ud800"}', b'{"\\udFFF": 1}', b'{"a": ["\\uD83D x"]}', b'{"\\ud800": 1, "\\ud800": 2}',
    ],
    ids=lambda raw: repr(raw[:16]),
)  # fmt: skip
def test_what_is_not_plain_json_is_refused(raw: bytes) -> None:
    """Whatever two parsers may read in two ways is no request."""
    with pytest.raises(InvalidRequest):
        parse_object(raw)


@pytest.mark.parametrize("raw", [b'{"seed": 1, "seed": 2}', b'{"a": [{"seed": 1, "b": 0, "seed": 1}]}'])
def test_a_key_twice_is_refused_by_name(raw: bytes) -> None:
    """Of two values for one key neither is taken, at any depth."""
    with pytest.raises(InvalidRequest) as refused:
        parse_object(raw)
    assert refused.value.field == "seed"


@pytest.mark.parametrize("leaf", ["1", "{}", "[]", '"{["'])
@pytest.mark.parametrize("sibling", ["0", "[[], [], {}]"])
def test_the_depth_is_counted_in_objects_and_lists(leaf: str, sibling: str) -> None:
    """The limit is on nesting alone: what stands inside or beside does not change it."""
    own = leaf in {"{}", "[]"}
    assert parse_object(nested(MAX_DEPTH - own, leaf, sibling))
    with pytest.raises(InvalidRequest, match="nested"):
        parse_object(nested(MAX_DEPTH - own + 1, leaf, sibling))


@given(OBJECTS)
def test_a_fingerprint_is_of_the_meaning(value: dict[str, Any]) -> None:
    """Order of keys, white space and escapes make no difference."""
    same = json.dumps(dict(reversed(value.items())), indent=2, ensure_ascii=False).encode()
    assert fingerprint("m", parse_object(same)) == fingerprint("m", parse_object(json.dumps(value).encode()))


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("100", "1e2"), ("0", "-0.0"), ("0.5", "5E-1")])
def test_one_number_has_one_fingerprint(one: str, other: str) -> None:
    """A number is the same however it is written: the vendor may store it in another spelling."""
    prints = {fingerprint("m", parse_object(f'{{"seed": [{number}]}}'.encode())) for number in (one, other)}
    assert len(prints) == 1


@given(OBJECTS, OBJECTS)
def test_different_inputs_have_different_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two jobs are told apart by their inputs, and by their model."""
    assert one == other or fingerprint("m", one) != fingerprint("m", other)
    assert fingerprint("m", one) != fingerprint("n", one)
