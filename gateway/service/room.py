"""How many bytes of callers' bodies a process holds at once, so that its memory has a bound whatever they send."""

from __future__ import annotations

from typing import Final

from gateway.errors import Refused

MIB: Final = 1 << 20
RETRY_S: Final = 2


class Room:
    """A number of bytes, handed out to whoever comes first; what does not fit is refused, never waited for.

    Args:
        limit_bytes: Held at once, by all leases together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that are held now."""
        return self._held_bytes

    def refuse_unless(self, size: int) -> None:
        """Raise `Refused` (``overloaded``) where so many bytes more would not fit; takes none."""
        if self._held_bytes + size > self._limit_bytes:
            raise Refused(
                "overloaded", "the gateway holds as much as it can", limited_by="gateway", retry_after_s=RETRY_S
            )

    def take(self, size: int) -> bool:
        """Take bytes if they fit. Use a `Lease`, which gives back what it took."""
        if self._held_bytes + size > self._limit_bytes:
            return False
        self._held_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """Free bytes."""
        self._held_bytes -= size


class Lease:
    """The bytes that one caller's body takes up, growing as it is read."""

    __slots__ = ("_held_bytes", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held_bytes = 0

    def grow(self, size: int) -> bool:
        """Take more bytes; False, and none is taken, where they don't fit."""
        if not self._room.take(size):
            return False
        self._held_bytes += size
        return True

    def grow_or_refuse(self, size: int) -> None:
        """Take more bytes. Raises `Refused` (``overloaded``) where they don't fit."""
        self._room.refuse_unless(size)
        self.grow(size)

    def release(self) -> None:
        """Give everything back. May be called twice."""
        self._room.give_back(self._held_bytes)
        self._held_bytes = 0
