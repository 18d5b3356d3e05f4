from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tenant import Secret
from gateway.upstream.redaction import StreamRedaction, redact_bytes

KEYS = (Secret("SG_00000000000000aa"), Secret("SG_S"))
PIECES = st.sampled_from([b"SG_00000000000000aa", b"SG_00000000000000a", b"SG_", b"S", b"SG_S", b"\xff\x00", b"{}"])


@given(st.lists(PIECES | st.binary(max_size=8)), st.lists(st.integers(1, 7)))
def test_keys_are_masked_wherever_the_chunks_are_cut(pieces: list[bytes], sizes: list[int]) -> None:
    """A body in chunks comes out as it would in one piece: no key of ours in it, every other byte in its place."""
    body, at, told = b"".join(pieces), 0, b""
    redaction = StreamRedaction(KEYS[:1])
    for size in [*sizes, len(body)]:
        told += redaction.feed(body[at : at + size])
        at = min(len(body), at + size)
        assert at - len(told) < len(KEYS[0].reveal())
    assert told + redaction.rest() == redact_bytes(body, KEYS[:1])


@given(st.binary(max_size=64).filter(lambda body: b"S" not in body))
def test_nothing_is_held_back_without_need(body: bytes) -> None:
    """A chunk in whose end no key can begin is passed on at once and whole."""
    assert StreamRedaction(KEYS).feed(body) == body


def test_a_body_that_ends_within_a_key_is_whole() -> None:
    """What looked like a key's beginning comes out at the end, and only once."""
    redaction = StreamRedaction(KEYS)
    assert redaction.feed(b"image SG_0000") == b"image "
    assert redaction.rest() == b"SG_0000"
    assert redaction.rest() == b""
