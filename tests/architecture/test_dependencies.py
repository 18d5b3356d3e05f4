"""What the image is made of: pinned by hash, listed in the bill of materials, and free to ship."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
LOCKED = dict(re.findall(r"^([a-z0-9_.-]+)==([^ ;\\]+)", LOCK, re.MULTILINE))
FREE = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Redistribution and use")


def test_every_dependency_is_pinned_by_hash_and_names_no_index() -> None:
    """Each entry of both lock files has hashes, and none says where it was downloaded from."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text("utf-8")
        entries = re.split(r"\n(?=[a-z0-9])", text)[1:]
        assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
        assert "://" not in text


def test_the_bill_of_materials_lists_what_is_locked(tmp_path: Path) -> None:
    """CycloneDX's list, as `make sbom` writes it, has each package of the image with its version."""
    target = tmp_path / "sbom.json"
    command = [str(BIN / "cyclonedx-py"), "requirements", "-o", str(target), str(ROOT / "requirements.lock")]
    subprocess.run(command, check=True, capture_output=True)
    listed = {part["name"]: part["version"] for part in json.loads(target.read_text())["components"]}
    assert listed == LOCKED


def test_no_dependency_restricts_who_ships_it() -> None:
    """Each package of the image has a permissive or a file-level copyleft licence."""
    command = [str(BIN / "pip-licenses"), "--format", "json", "--packages", *LOCKED]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {item["Name"]: item["License"] for item in json.loads(done.stdout)}
    assert len(found) > len(LOCKED) / 2
    assert {name: licence for name, licence in found.items() if not FREE.search(licence)} == {}
