"""The fenced blocks of a page as one shell script, so that a page is run as a reader would paste it.

``sh`` and ``python`` blocks are run in order, in one shell. A ``yaml`` or ``python`` block that begins with
``# name.ext`` is written to that file first. ``<!-- not run: reason -->`` right above a block leaves it out;
``<!-- runs until stopped -->`` starts it, waits until the gateway says that it has started, and stops it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"# (?P<name>[\w.-]+\.(?:yaml|py))\n")
_UNTIL_STOPPED = """(exec {command}
) > started.log 2>&1 & job=$!
until grep -q gateway.started started.log; do kill -0 $job || {{ cat started.log; exit 1; }}; sleep 0.1; done
kill -TERM $job; wait $job
"""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    note: str

    def script(self) -> str:
        """Return what runs it; empty where nothing does."""
        if self.note.startswith("not run:"):
            return ""
        file = _FILE.match(self.text)
        if file and self.language in {"yaml", "python"}:
            return f"cat > {file['name']} <<'END_OF_FILE'\n{self.text}END_OF_FILE\n"
        if self.language == "python":
            return f"python - <<'END_OF_PYTHON'\n{self.text}END_OF_PYTHON\n"
        if self.language != "sh":
            return ""
        return _UNTIL_STOPPED.format(command=self.text.strip()) if self.note == "runs until stopped" else self.text


def blocks(page: str) -> list[Block]:
    """Find the fenced blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    return [Block(m["language"], m["text"], m["note"] or "") for m in _BLOCK.finditer(text)]


def script(page: str, stand_ins: dict[str, str]) -> str:
    """Return the page as a script.

    Args:
        page: Path within the repository.
        stand_ins: What to put for the addresses and keys that the page shows.
    """
    whole = "set -euo pipefail\n" + "".join(block.script() for block in blocks(page))
    for shown, real in stand_ins.items():
        whole = whole.replace(shown, real)
    return whole
