"""The Helm chart in deploy/: what it renders is what Kubernetes takes, and what a node takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.chart import Chart, Missing
from tests.programs import needs

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "deploy/helm/trioduct"
SECRET = "5ecret-5ecret-5ecret-5ecret-5ecret"
OWN_SECRET = {"store": "redis://redis:6379", "clusterSecret": SECRET, "upstreamKey": SECRET}
FULL: dict[str, Any] = {
    "secret": {**OWN_SECRET, "proxyKey": SECRET},
    "tls": {"proxy": "proxy-tls", "upstream": "upstream-tls"},
    "config": {"proxy": {"public_url": "https://*.example.com", "trusted_proxies": ["10.0.0.0/8"]}},
    "image": {"repository": "registry.example.com/trioduct", "tag": "1.2"},
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": 5,
    "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}, "upstreamPort": 443},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"adminFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    "podAnnotations": {"example.com/c": "d"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}
BARE: dict[str, Any] = {
    "secret": {"existing": "tunnel"},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
SETS = [{"secret": OWN_SECRET}, FULL, BARE]
NAMES = ["usual", "full", "bare"]


def render(values: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return by_name(Chart(FOLDER).render("tunnel", values))


def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): one for one in manifests}


@pytest.mark.parametrize("values", SETS, ids=NAMES)
@pytest.mark.parametrize("version", ["1.25", kubernetes_validate.latest_version()])
def test_what_it_renders_is_valid(values: dict[str, Any], version: str) -> None:
    for (kind, _), manifest in render(values).items():
        if kind != "ServiceMonitor":  # which is of the Prometheus operator
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("values", SETS, ids=NAMES)
@needs("helm")
def test_helm_renders_the_same(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    words = ["helm", "template", "tunnel", str(FOLDER), "--values", str(path), "--kube-version", "1.33.0"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    helms = by_name([one for one in yaml.safe_load_all(done.stdout) if one])
    ours = render(values)
    for manifest in (*helms.values(), *ours.values()):  # their YAML differs by its indentation, and so does its hash
        manifest.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {}).pop(
            "trioduct/config", ""
        )
        if text := manifest.get("data", {}).get("server.yaml"):
            manifest["data"]["server.yaml"] = yaml.safe_load(text)
    assert helms == ours
    done = subprocess.run(["helm", "lint", "--strict", "--values", path, FOLDER], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({}, "secret.store"),
        ({"secret": {"store": "redis://redis"}}, "secret.clusterSecret"),
        ({"secret": OWN_SECRET | {"upstreamKey": ""}}, "secret.upstreamKey"),
    ],
)
def test_secrets_have_no_default(values: dict[str, Any], asked: str) -> None:
    with pytest.raises(Missing, match=asked):
        render(values)


def test_values_are_checked() -> None:
    schema = json.loads((FOLDER / "values.schema.json").read_text())
    chart = Chart(FOLDER)
    jsonschema.validate(dict(chart.values), schema)
    for values in SETS:
        jsonschema.validate({**chart.values, **values}, {**schema, "required": []})
    assert set(schema["properties"]) - {"global"} == set(chart.values)
    for wrong in (
        {"secret": {"store": "http://redis"}},
        {"secret": {"clusterSecret": "short"}},
        {"replica": 3},
        {"replicas": 0},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**chart.values, **wrong}, schema)


@pytest.mark.parametrize("values", SETS, ids=NAMES)
def test_a_node_takes_what_a_pod_is_started_with(values: dict[str, Any], tmp_path: Path) -> None:
    manifests = render(values)
    pod = manifests["StatefulSet", "tunnel"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = tmp_path / "server.yaml"
    config.write_text(manifests["ConfigMap", "tunnel"]["data"]["server.yaml"])
    secret = manifests.get(("Secret", "tunnel"), {"stringData": {}})["stringData"]
    environment = {}
    for variable in container["env"]:
        of_secret = variable["valueFrom"].get("secretKeyRef")
        if of_secret is None:
            environment[variable["name"]] = "tunnel-0"
        elif of_secret["name"] == "tunnel" and not secret:  # one that exists
            environment[variable["name"]] = "redis://redis:6379" if of_secret["key"] == "store" else SECRET
        elif not (of_secret.get("optional") and of_secret["key"] not in secret):
            environment[variable["name"]] = secret[of_secret["key"]]
    # Certificates are where the volumes are; a node that checks them would miss them here.
    words = [one for one in container["args"] if ".tls." not in one]
    words = [one.replace("/etc/trioduct/server.yaml", str(config)) for one in words]
    done = subprocess.run(
        [sys.executable, "-m", "engine", *words, "--config.check"],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "node_id: tunnel-0" in done.stdout
    assert SECRET not in done.stdout


@pytest.mark.parametrize("values", SETS, ids=NAMES)
def test_names_in_it_lead_somewhere(values: dict[str, Any]) -> None:
    manifests = render(values)
    spec = manifests["StatefulSet", "tunnel"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    flags = re.findall(r"--(\w+)\.bind-addr=:(\d+)", "\n".join(container["args"]))
    assert {("links" if name == "cluster" else name): int(port) for name, port in flags} == ports
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [(one["path"], one["port"]) for one in probes] == [
        ("/health", "admin"),
        ("/ready", "admin"),
        ("/health", "admin"),
    ]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    for (kind, _), manifest in manifests.items():
        if kind == "Service":
            assert manifest["spec"]["selector"].items() <= labels.items()
            assert all(port["targetPort"] in ports for port in manifest["spec"]["ports"])
        if kind == "PodDisruptionBudget":
            assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert ("Service", spec["serviceName"]) in manifests
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    mounts = [one["mountPath"] for one in container["volumeMounts"]]
    files = [one.partition("=")[2] for one in container["args"] if "=/" in one]
    assert all(any(file.startswith(f"{mount}/") for mount in mounts) for file in files)
    if monitor := manifests.get(("ServiceMonitor", "tunnel")):
        nodes = manifests["Service", "tunnel-nodes"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= nodes["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in nodes["spec"]["ports"]}


def test_a_pod_has_the_time_that_a_node_takes_to_end() -> None:
    pod = render({"secret": OWN_SECRET, "graceSeconds": 45})["StatefulSet", "tunnel"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert "--grace-period=45s" in container["args"]
    assert pod["terminationGracePeriodSeconds"] >= pause + 45 + 10


def test_a_changed_configuration_replaces_the_pods() -> None:
    seen = {
        render({"secret": OWN_SECRET, "config": config})["StatefulSet", "tunnel"]["spec"]["template"]["metadata"][
            "annotations"
        ]["trioduct/config"]
        for config in ({}, {"log": {"level": "debug"}}, {"log": {"level": "info"}})
    }
    assert len(seen) == 3
