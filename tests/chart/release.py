"""The chart as Helm renders it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"
TOOLS = ROOT / ".tools"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))


@dataclass(frozen=True)
class Rendered:
    """One release: its objects, as text and parsed."""

    text: str
    objects: tuple[Manifest, ...]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        """Return the objects of these kinds, in the order of rendering."""
        return [item for item in self.objects if item["kind"] in kinds]

    def one(self, kind: str, suffix: str = "") -> Manifest:
        """Return the only object of this kind whose name ends in `suffix`."""
        (found,) = [item for item in self.of_kind(kind) if item["metadata"]["name"].endswith(suffix)]
        return found


@dataclass(frozen=True)
class Helm:
    """The pinned Helm, away from any cluster and any user's settings."""

    home: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Helm and return what it printed; never raises for its exit status."""
        command = [str(tool("bin/helm")), *map(str, arguments)]
        return subprocess.run(
            command, env={"HOME": str(self.home)}, capture_output=True, text=True, timeout=60, check=False
        )

    def render(self, *arguments: str | Path, release: str = "gw", chart: Path = CHART) -> Rendered:
        """Render a release into the namespace "media"."""
        done = self.run("template", release, chart, "--namespace", "media", *arguments)
        assert done.returncode == 0, done.stderr
        return Rendered(done.stdout, tuple(item for item in yaml.safe_load_all(done.stdout) if item))


def tool(path: str) -> Path:
    """Return a tool that `make tools` installed."""
    found = TOOLS / path
    assert found.exists(), f"{found} is missing: run `make tools`"
    return found
