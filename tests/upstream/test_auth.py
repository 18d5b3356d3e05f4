from __future__ import annotations

import os
from pathlib import Path

import pytest
from multidict import CIMultiDict

from gateway.core.tenant import Secret
from gateway.errors import ConfigError
from gateway.upstream.auth import KeyRing, parse_keys, sign

OLD, NEW = "SG_0000000000000001", "SG_0000000000000002"


def test_the_key_replaces_what_a_caller_might_have_sent() -> None:
    """There is one x-api-key on the request, and it is ours."""
    headers = CIMultiDict({"X-API-Key": "theirs"})
    sign(headers, Secret(OLD))
    assert headers.getall("x-api-key") == [OLD]


def test_named_keys() -> None:
    """A job's own key comes first, then the current one; an unknown name means the current one."""
    ring = KeyRing({"default": Secret(NEW + "\n"), "2025": Secret(OLD), "same": Secret(NEW)})
    assert ring.current == "default"
    assert ring.secret("default").reveal() == NEW
    assert ring.candidates("2025") == ("2025", "default")
    assert [ring.candidates(name) for name in ("", "default", "same", "gone")] == [("default",)] * 4
    assert [ring.name_for(name) for name in ("2025", "", "gone")] == ["2025", "default", "default"]


def rewrite(path: Path, text: str) -> None:
    """Replace a file as a secret's mount does: another inode."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new key takes effect at once, the one before is kept for its jobs, and both are redacted."""
    path = tmp_path / "key"
    path.write_text(OLD + "\n")
    ring = KeyRing({}, path=path)
    before = ring.current
    rewrite(path, NEW)
    after = ring.current
    assert before != after
    assert (ring.secret(before).reveal(), ring.secret(after).reveal()) == (OLD, NEW)
    assert ring.candidates(before) == (before, after)
    assert set(ring.secrets()) == {Secret(OLD), Secret(NEW)}
    assert KeyRing({}, path=path).current == after


def test_a_key_that_another_replaces_by_name_is_still_masked(tmp_path: Path) -> None:
    """An answer to a call that was sent with it may still come, and echo it."""
    path = tmp_path / "key"
    path.write_text(f"main={OLD}")
    ring = KeyRing({}, path=path)
    for _ in range(3):
        rewrite(path, f"main={NEW}")
        assert (ring.current, ring.secret("main").reveal()) == ("main", NEW)
    assert sorted(key.reveal() for key in ring.secrets()) == [OLD, NEW]


def test_a_change_in_place_of_the_same_size_is_seen(tmp_path: Path) -> None:
    """The modification time tells, where inode and size don't."""
    path = tmp_path / "key"
    path.write_text(OLD)
    ring = KeyRing({}, path=path)
    assert ring.secret(ring.current).reveal() == OLD
    path.write_text(NEW)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    assert ring.secret(ring.current).reveal() == NEW


@pytest.mark.parametrize("text", ["", "  \n", "two keys", "ключ"])
def test_a_file_without_a_key_changes_nothing(tmp_path: Path, text: str) -> None:
    """While the file is half-written, empty or gone, the last key stays."""
    path = tmp_path / "key"
    path.write_text(OLD)
    told: list[str] = []
    ring = KeyRing({}, path=path, tell=told.append)
    name = ring.current
    rewrite(path, text)
    assert ring.current == ring.current == name
    path.unlink()
    assert ring.secret(ring.current).reveal() == OLD
    assert len(told) == 1  # by a rotation that did not take nobody may be surprised when the old key is revoked
    assert str(path) in told[0]
    assert not text.strip() or text not in told[0]
    rewrite(path, NEW)
    assert ring.secret(ring.current).reveal() == NEW
    path.unlink()
    assert ring.current
    assert len(told) == 2


def test_many_rotations_stay_bounded(tmp_path: Path) -> None:
    """A process that lives through years of rotations remembers the last ones."""
    path = tmp_path / "key"
    path.write_text(OLD)
    ring = KeyRing({}, path=path)
    for number in range(100):
        rewrite(path, f"SG_{number:016x}")
        assert ring.secret(ring.current).reveal() == f"SG_{number:016x}"
    assert len(ring.secrets()) == 16


@pytest.mark.parametrize("value", ["", "a b", "SG_\r\nx: y", "é"])
def test_no_key_that_can_not_stand_in_a_header(value: str) -> None:
    """Settings that would fail at the first call fail at the start, without showing the value."""
    with pytest.raises(ConfigError) as caught:
        KeyRing({"default": Secret(value)})
    assert not value or value not in str(caught.value)


def test_no_key_at_all(tmp_path: Path) -> None:
    """Nothing given, a file that is missing, and a current one that is not among them are refused."""
    for keys, path in (({}, None), ({}, tmp_path / "missing"), ({"other": Secret(OLD)}, None)):
        with pytest.raises(ConfigError):
            KeyRing(keys, path=path)


def test_several_keys_in_one_setting() -> None:
    """Named or not, by lines or commas: the first is for new jobs; a key alone has the same name wherever it is set."""
    keys = parse_keys(f"new={NEW}, {OLD}\n")
    (name,) = parse_keys(OLD)
    assert {known: key.reveal() for known, key in keys.items()} == {"new": NEW, name: OLD}
    assert next(iter(keys)) == "new"
    assert OLD not in name


def test_a_former_key_in_the_file_is_known_after_a_restart(tmp_path: Path) -> None:
    """The new key on the first line, the one before below it: jobs that the old one sent are polled with it first."""
    path = tmp_path / "key"
    path.write_text(OLD)
    before = KeyRing({}, path=path).current
    rewrite(path, f"{NEW}\n{OLD}\n")
    ring = KeyRing({}, path=path)
    assert ring.secret(ring.current).reveal() == NEW
    assert ring.candidates(before) == (before, ring.current)
