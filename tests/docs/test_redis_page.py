from __future__ import annotations

import re

from docs.snippets import ROOT

from gateway.store import keys


def test_every_key_has_its_bound_on_the_page() -> None:
    """The page on Redis says of every key of the schema, and of no other, what bounds it."""
    schema = re.findall(r"^``([^`]+)``", keys.__doc__ or "", re.MULTILINE)
    page = (ROOT / "docs" / "redis.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", page.partition("## What is kept")[2].partition("\n## ")[0], re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall("`([^`]+)`", row)) == sorted(schema)
