import subprocess
from pathlib import Path

import pytest
from chart.release import CHART, EXAMPLES, ROOT, Helm, Rendered, tool

OPERATOR = ("ServiceMonitor", "PrometheusRule")
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_helm_lint_strict(helm: Helm, values: Path) -> None:
    """Helm's own checks, warnings included, pass with each example."""
    done = helm.run("lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_manifests_match_every_supported_kubernetes(example: Rendered, tmp_path: Path) -> None:
    """Each object is valid and without unknown fields on Kubernetes 1.29 to 1.37 (the operator's have no schema)."""
    manifest = tmp_path / "manifests.yaml"
    manifest.write_text(example.text)
    versions = [argument for version in VERSIONS for argument in ("-k", version)]
    command = [str(tool("venv/bin/kubernetes-validate")), "--strict", *versions, str(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    passed = [line for line in done.stdout.splitlines() if "passed for resource" in line]
    foreign = example.of_kind(*OPERATOR)
    others = [line for line in done.stdout.splitlines() if line not in passed]
    others = [line for line in others if not any(f"kind {kind}" in line for kind in OPERATOR)]
    assert (done.returncode, others) == (0, [])
    assert len(passed) == len(VERSIONS) * (len(example.objects) - len(foreign))


def test_hadolint() -> None:
    """The Dockerfile follows the linter's rules."""
    done = subprocess.run(
        [tool("venv/bin/hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


ACCEPTED = {
    "CKV_K8S_8": "a pod that runs once has no probes; those of the others are held by test_objects",
    "CKV_K8S_9": "as CKV_K8S_8",
    "CKV_K8S_11": "no CPU limit on purpose: throttling would show as latency in every tenant's submits",
    "CKV_K8S_15": "IfNotPresent is the default for a fixed tag; image.pullPolicy changes it",
    "CKV_K8S_35": "the Redis URL is read from the environment; the upstream key is a file",
    "CKV2_K8S_6": "networkPolicy.enabled is the operator's choice: not every cluster enforces one",
    "CKV_K8S_43": "image.digest is the operator's to set",
}


def test_policy_scan(example: Rendered, tmp_path: Path) -> None:
    """Checkov's policies for Kubernetes pass, but for those set aside here with a reason."""
    manifest = tmp_path / "manifests.yaml"
    manifest.write_text(example.text)
    options = [
        "--framework=kubernetes",
        "--skip-download",
        "--quiet",
        "--compact",
        f"--skip-check={','.join(ACCEPTED)}",
    ]
    command = [str(tool("venv/bin/checkov")), *options, f"--file={manifest}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
