"""The company's keys, and the one place where one is put on a request."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from multidict import CIMultiDict

from gateway.core.tenant import Secret
from gateway.errors import ConfigError

DEFAULT = "default"
_KEY = re.compile(r"[\x21-\x7e]{1,512}", re.ASCII)
_NAMED = re.compile(r"([a-z0-9][a-z0-9-]{0,31})=(.+)", re.ASCII)
_SEPARATORS = re.compile(r"[,\r\n]+", re.ASCII)
_MAX_REMEMBERED = 16

_Stamp = tuple[int, int, int]


def sign(headers: CIMultiDict[str], key: Secret) -> None:
    """Put ``x-api-key`` on a request, replacing whatever stands there."""
    headers["x-api-key"] = key.reveal()


def parse_keys(text: str) -> dict[str, Secret]:
    """Read keys, one a line or separated by commas, each ``name=key`` or a key alone; the first is for new jobs.

    A key alone is named for its digest, so that every process knows the same key by the same name, wherever it is set.

    Raises:
        ConfigError: There is none, or one that can't stand in a header; it is not quoted.
    """
    found: dict[str, Secret] = {}
    for item in filter(None, (item.strip() for item in _SEPARATORS.split(text))):
        named = _NAMED.fullmatch(item)
        value = named[2] if named else item
        name = named[1] if named else f"key-{hashlib.sha256(value.encode()).hexdigest()[:8]}"
        found[name] = Secret(_checked(name, value))
    if not found:
        raise ConfigError("there is no upstream key")
    return found


def _forget(_detail: str) -> None:
    """Tell nobody."""


class KeyRing:
    """The company's keys by name: those that are given, and those in a file that is read again when it changes.

    A job that was sent with a key of before is still polled with it, where this process was given it or has seen it.

    Args:
        keys: Named keys, as settings give them.
        path: File that holds keys (`parse_keys`); its first is the current one. It is read again when its inode, size
            or modification time changes; while it is missing or holds no key, the last ones stay.
        current: Name of the key for new jobs, where there is no file.
        tell: Told why the file can't be used, once for as long as it can't.

    Raises:
        ConfigError: No usable key, or none of that name.
    """

    def __init__(
        self,
        keys: Mapping[str, Secret],
        *,
        path: Path | None = None,
        current: str = DEFAULT,
        tell: Callable[[str], None] = _forget,
    ) -> None:
        self._keys = {name: Secret(_checked(name, secret.reveal())) for name, secret in keys.items()}
        self._fixed = frozenset(self._keys)
        self._former: deque[Secret] = deque(maxlen=_MAX_REMEMBERED)
        self._path = path
        self._tell = tell
        self._told = False
        self._stamp: _Stamp | None = None
        self._current = current
        self._refresh()
        if path is not None and self._stamp is None:
            raise ConfigError(f"the upstream key file {path} can't be read or holds no key")
        if self._current not in self._keys:
            raise ConfigError(f"there is no upstream key named {self._current!r}")

    @property
    def current(self) -> str:
        """The name of the key for new jobs."""
        self._refresh()
        return self._current

    def candidates(self, name: str) -> tuple[str, ...]:
        """Return the names to try for a job sent with ``name``: that key if it is known, then the current one."""
        current = self.current
        known = name in self._keys and self._keys[name] != self._keys[current]
        return (name, current) if known else (current,)

    def is_current(self, name: str) -> bool:
        """Tell whether a key is the current one, by whatever name; empty: that is."""
        return not name or self._keys.get(name) == self._keys[self.current]

    def name_for(self, name: str) -> str:
        """Return the name to send with: ``name`` if there is such a key, else the current one's."""
        current = self.current
        return name if name in self._keys else current

    def secret(self, name: str) -> Secret:
        """Return the key of that name.

        Raises:
            KeyError: There is none.
        """
        return self._keys[name]

    def secrets(self) -> tuple[Secret, ...]:
        """Return every key that is known, for redaction: also those in whose place another came under their name."""
        return (*self._keys.values(), *self._former)

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if stamp == self._stamp:
                self._told = False
                return
            found = parse_keys(self._path.read_text("ascii"))
        except (OSError, ValueError, ConfigError) as exc:
            self._complain(exc)
            return
        self._stamp, self._told = stamp, False
        self._adopt(found)

    def _complain(self, exc: Exception) -> None:
        """Tell of it, unless that was done, or no key was ever read: then nothing starts."""
        if self._stamp is not None and not self._told:
            self._told = True
            self._tell(f"{self._path}: {_reason(exc)}; {self._current} stays in force")

    def _adopt(self, found: Mapping[str, Secret]) -> None:
        for name, key in found.items():
            former = self._keys.pop(name, key)
            if former != key:
                self._former.append(former)
        self._keys |= found
        self._current = next(iter(found))
        read = [known for known in self._keys if known not in self._fixed]
        for oldest in read[:-_MAX_REMEMBERED]:
            del self._keys[oldest]


def _reason(exc: Exception) -> str:
    """Say why a file holds no key that can be used, in words that quote nothing of it."""
    if isinstance(exc, OSError):
        return exc.strerror or type(exc).__name__
    return str(exc) if isinstance(exc, ConfigError) else "not ASCII"


def _checked(name: str, value: str) -> str:
    text = value.strip()
    if not _KEY.fullmatch(text):
        raise ConfigError(f"the upstream key {name!r} is empty or has characters that can't stand in a header")
    return text
