import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.release import CHART, ROOT, Helm, Manifest, Rendered

PRODUCTION = CHART / "examples" / "production.yaml"
SECRET = re.compile(r"SG_[0-9a-fA-F]{16}|sgw_|rediss?://|password", re.IGNORECASE)


def _pods(release: Rendered) -> Iterator[Manifest]:
    yield from (item["spec"]["template"]["spec"] for item in release.of_kind("Deployment", "Job", "StatefulSet"))
    yield from (item["spec"] for item in release.of_kind("Pod"))


def _selectors(release: Rendered) -> dict[str, Any]:
    """Return what is immutable or selects pods, by object."""
    kinds = ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy")
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["spec"].get("selector", item["spec"].get("podSelector"))
        for item in release.of_kind(*kinds)
    }


def _env(container: Manifest) -> dict[str, Manifest]:
    return {variable["name"]: variable for variable in container["env"]}


def test_pods_meet_the_restricted_profile(example: Rendered) -> None:
    """Pods run as non-root, write to their volumes only, and have no capabilities, token or injected variables."""
    for pod in _pods(example):
        assert (
            pod["securityContext"].items()
            >= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}.items()
        )
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_secrets_come_by_reference_only(example: Rendered) -> None:
    """No Secret is rendered, no ConfigMap holds one, and both secrets reach the pods from those named."""
    assert example.of_kind("Secret") == []
    assert [item for item in example.of_kind("ConfigMap") if SECRET.search(yaml.safe_dump(item["data"]))] == []
    bundled = bool(example.of_kind("StatefulSet"))
    name, secret = ("VALKEY_PASSWORD", "gateway-valkey") if bundled else ("GATEWAY_REDIS_URL", "gateway-redis")
    for pod in _pods(example):
        assert _env(pod["containers"][0])[name]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": name}
    serve = example.one("Deployment")["spec"]["template"]["spec"]
    (mount,) = [item for item in serve["containers"][0]["volumeMounts"] if item["name"] == "upstream-key"]
    (volume,) = [item for item in serve["volumes"] if item["name"] == "upstream-key"]
    assert volume["secret"]["secretName"] == "segmind-api-key"
    assert (
        _env(serve["containers"][0])["SEGMIND_API_KEY_FILE"]["value"]
        == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    )


def test_probes_are_distinct(example: Rendered) -> None:
    """A dependency's outage takes a pod out of service but never restarts it: liveness and readiness differ."""
    container = example.one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "ops"},
        "livenessProbe": {"path": "/healthz", "port": "ops"},
        "readinessProbe": {"path": "/readyz", "port": "ops"},
    }


def test_grace_period_covers_withdrawal_and_drain(example: Rendered) -> None:
    """Kubernetes kills a pod only after the preStop pause and the gateway's own drain could both end."""
    pod = example.one("Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = int(_env(container)["GATEWAY_DRAIN_SECONDS"]["value"])
    assert pod["terminationGracePeriodSeconds"] > pause_s + drain_s


def test_selectors_match_the_pods_and_nothing_else(production: Rendered) -> None:
    """Services, budget and spread select the serve pods; the apply Job's pod gets no tenant traffic."""
    template = production.one("Deployment")["spec"]["template"]
    labels, job = template["metadata"]["labels"], production.one("Job")["spec"]["template"]["metadata"]["labels"]
    spread = [item["labelSelector"] for item in template["spec"]["topologySpreadConstraints"]]
    selectors = [*_selectors(production).values(), *spread]
    assert len(selectors) == 8
    for selector in selectors:
        wanted = selector.get("matchLabels", selector)
        assert wanted.items() <= labels.items()
        assert not wanted.items() <= job.items() or "app.kubernetes.io/component" not in wanted


def test_selectors_survive_an_upgrade(helm: Helm, production: Rendered, tmp_path: Path) -> None:
    """A later chart, another image and other settings keep every selector, since Kubernetes refuses to change them."""
    package = helm.run("package", CHART, "--version", "9.8.7", "--app-version", "9.8.7", "--destination", tmp_path)
    assert package.returncode == 0, package.stderr
    changes = [
        "--set=image.tag=edge,logLevel=debug,serve.drainSeconds=90",
        "--set=serve.podLabels.app\\.kubernetes\\.io/component=other",
    ]
    later = helm.render("--values", PRODUCTION, *changes, chart=tmp_path / "segmind-gateway-9.8.7.tgz")
    assert later.text != production.text
    assert _selectors(later) == _selectors(production)


def test_tenants_and_operations_have_separate_doors(production: Rendered) -> None:
    """The Ingress leads to a Service with the tenant port only; metrics and health have a Service of their own."""
    tenants, ops = production.one("Service", "-serve"), production.one("Service", "-serve-ops")
    assert [port["targetPort"] for port in tenants["spec"]["ports"]] == ["http"]
    assert [port["targetPort"] for port in ops["spec"]["ports"]] == ["ops"]
    rules = production.one("Ingress")["spec"]["rules"]
    services = [path["backend"]["service"] for rule in rules for path in rule["http"]["paths"]]
    assert services == [{"name": tenants["metadata"]["name"], "port": {"name": "http"}}]
    selected = production.one("ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    assert [item for item in (tenants, ops) if selected <= item["metadata"]["labels"].items()] == [ops]


def test_network_policy_closes_the_rest(production: Rendered) -> None:
    """Only named peers reach either port, and cloud metadata and private addresses stay out of reach over HTTPS."""
    ingress = production.one("NetworkPolicy", "-serve")["spec"]["ingress"]
    assert [([port["port"] for port in rule["ports"]], bool(rule["from"])) for rule in ingress] == [
        (["http"], True),
        (["ops"], True),
    ]
    rules = production.one("NetworkPolicy", "-egress")["spec"]["egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in rules] == [[53, 53], [6379], [443]]
    assert {"169.254.0.0/16", "10.0.0.0/8"} <= set(rules[2]["to"][0]["ipBlock"]["except"])


def test_apply_runs_before_the_release_with_the_values_given(production: Rendered) -> None:
    """The Job applies exactly `config`, needs nothing that a first install lacks, and never sees the upstream key."""
    job, source = production.one("Job"), production.one("ConfigMap", "-apply")
    assert yaml.safe_load(source["data"]["gateway.yaml"]) == yaml.safe_load(PRODUCTION.read_text())["config"]
    notes = [item["metadata"]["annotations"] for item in (source, job)]
    assert [note["helm.sh/hook"] for note in notes] == ["pre-install,pre-upgrade"] * 2
    assert int(notes[0]["helm.sh/hook-weight"]) < int(notes[1]["helm.sh/hook-weight"])
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    assert pod["containers"][0]["args"] == ["apply", "-f", "/etc/gateway/gateway.yaml"]
    assert "SEGMIND_API_KEY" not in str(pod)


def test_config_change_runs_the_job_and_restarts_nothing(helm: Helm, production: Rendered) -> None:
    """New budgets change the Job's checksum; the serve pods, which read them from Redis, stay as they are."""
    later = helm.render("--values", PRODUCTION, "--set=config.policy.unknown_jobs=release")
    checksums = [
        item.one("Job")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for item in (production, later)
    ]
    assert checksums[0] != checksums[1]
    assert later.one("Deployment") == production.one("Deployment")


def test_autoscaler_owns_the_replicas(rendered: Callable[[str], Rendered], production: Rendered) -> None:
    """With autoscaling an upgrade does not reset the number of pods."""
    assert "replicas" not in production.one("Deployment")["spec"]
    assert rendered("minimal").one("Deployment")["spec"]["replicas"] == 2


def test_names_stay_within_kubernetes_limits(helm: Helm) -> None:
    """The longest release name that Helm allows still gives valid, distinct object names."""
    release = helm.render("--values", PRODUCTION, release="r" * 53)
    names = [(item["kind"], item["metadata"]["name"]) for item in release.objects]
    assert max(len(name) for _, name in names) <= 63
    assert len(set(names)) == len(names)


def test_extra_objects_and_settings_are_rendered(helm: Helm) -> None:
    """What the chart does not know can be added: templated objects, and variables of every container."""
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}, "data": {}}
    values = {"extraObjects": [extra], "extraEnv": [{"name": "GATEWAY_WORKERS", "value": "2"}]}
    settings = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
    release = helm.render("--values", PRODUCTION, *settings)
    assert release.one("ConfigMap", "-extra")["metadata"]["name"] == "gw-extra"
    assert [_env(pod["containers"][0])["GATEWAY_WORKERS"]["value"] for pod in _pods(release)] == ["2", "2", "2"]


@pytest.mark.parametrize(("values", "tenant"), [("minimal", "my-team"), ("production", "video-team")])
def test_notes_end_in_a_command_that_fits_the_release(
    helm: Helm, rendered: Callable[[str], Rendered], values: str, tenant: str
) -> None:
    """The notes' commands name objects and a tenant that exist, and the last line is the call to try."""
    chosen = CHART / "examples" / f"{values}.yaml"
    done = helm.run("install", "gw", CHART, "--namespace=media", "--dry-run=client", "--values", chosen)
    notes = done.stdout.partition("NOTES:")[2].strip()
    objects = {f"{item['kind'].lower()}/{item['metadata']['name']}" for item in rendered(values).objects}
    assert set(re.findall(r"(?:deployment|service)/[a-z0-9-]+", notes)) <= objects
    assert f"gateway key create {tenant})" in notes
    assert notes.splitlines()[-1].lstrip().startswith("curl ")


def test_image_and_chart_agree(example: Rendered) -> None:
    """User, ports and data folder of the image are those that the chart relies on, and its root needs no writing."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    pod = example.one("Deployment")["spec"]["template"]["spec"]
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]
    ports = " ".join(str(port["containerPort"]) for port in pod["containers"][0]["ports"])
    folder = next(mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "data")
    for line in (f"USER {user}:{group}", f"EXPOSE {ports}", f'VOLUME ["{folder}"]', 'ENTRYPOINT ["gateway"]'):
        assert line in dockerfile.splitlines()


def test_build_context_holds_what_the_image_copies() -> None:
    """Every path that the Dockerfile copies is let through by .dockerignore."""
    copies = re.findall(r"^COPY (?!--)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path for sources in copies for path in sources.split()} == allowed
