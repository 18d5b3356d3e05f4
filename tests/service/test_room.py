"""Bytes that are held for callers."""

from __future__ import annotations

import pytest

from gateway.errors import Refused
from gateway.service.room import Lease, Room


def test_no_more_is_held_than_fits() -> None:
    """A lease grows while there is room; what does not fit takes nothing; all of it comes back, once."""
    room = Room(100)
    first, second = Lease(room), Lease(room)
    assert (first.grow(60), second.grow(30), second.grow(11), room.held_bytes) == (True, True, False, 90)
    first.release()
    first.release()
    assert (room.held_bytes, second.grow(70), room.held_bytes) == (30, True, 100)


def test_what_does_not_fit_is_refused_as_overload() -> None:
    """The refusal says when to come again, and what was taken before stays taken until its end."""
    room = Room(10)
    lease = Lease(room)
    lease.grow_or_refuse(10)
    for refuse in (lease.grow_or_refuse, room.refuse_unless):
        with pytest.raises(Refused) as refused:
            refuse(1)
        assert (refused.value.code, refused.value.limited_by, refused.value.retry_after_s) == (
            "overloaded",
            "gateway",
            2,
        )
    assert room.held_bytes == 10
