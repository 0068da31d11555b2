"""The dashboard and the alerts in deploy/: whatever they ask Prometheus for is what running nodes and agents export."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from engine.admin.metrics import AgentMetrics, NodeMetrics
from tests.programs import Node, Programs, free_port, get

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARD = DEPLOY / "grafana/trioduct.json"
RULES = DEPLOY / "prometheus/trioduct.rules.yaml"
PROMETHEUS = {"instance", "job"}  # labels that it gives to everything that it scrapes
SERIES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Asked(NamedTuple):
    """An expression, and the labels that are shown of what it finds."""

    where: str
    expression: str
    shown: set[str]


def dashboard() -> Iterator[Asked]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield Asked(panel["title"], target["expr"], set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"])))


def alerts() -> Iterator[Asked]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
            yield Asked(rule["alert"], rule["expr"], shown)


def metrics_in(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics of a PromQL expression, each with the labels that it is chosen by."""
    found = re.findall(r"\b((?:trioduct|piko|process)_\w+)\b(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*[=!]", matchers))) for name, matchers in found]


def labels_in(expression: str) -> set[str]:
    """The labels that a PromQL expression groups by."""
    return {
        name
        for group in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression)
        for name in re.findall(r"\w+", group)
    }


def labels_of(texts: Iterable[str]) -> dict[str, set[str]]:
    """The labels of each series that is exported. Of what has not happened yet there is a name only: there it is the
    declaration that tells the labels.
    """
    declared = {
        family.name: set(getattr(family, "_labelnames", ()))
        for metrics in (NodeMetrics(), AgentMetrics())
        for family in metrics.collect()
    }
    known: defaultdict[str, set[str]] = defaultdict(set)
    for text in texts:
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
            for end in SERIES[kind]:
                known[name + end] |= declared.get(name.removesuffix("_total"), set())
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                known[sample.name] |= set(sample.labels)
    return known


@pytest.mark.timeout(120)
async def test_every_metric_and_label_is_one_that_nodes_and_agents_export(programs: Programs, origin: int) -> None:
    tracing = "--tracing.url=http://127.0.0.1:1"
    options = ("--workers=2", tracing, "--cluster.store=redis://127.0.0.1:1", f"--cluster.secret={'s3cret' * 8}")
    node = Node(programs, options=options)
    server = await node.start()
    await server.wait_line('"node started"')
    at = free_port()
    await node.start_agent("web", origin, tracing, "--server.enabled", f"--server.bind-addr=127.0.0.1:{at}")
    await node.wait_registered("web", 2)
    for endpoint in ("web", "nobody"):
        stream = await trio.open_tcp_stream("127.0.0.1", node.proxy)
        async with stream:
            await stream.send_all(f"GET /mirror?answer=3 HTTP/1.0\r\nx-piko-endpoint: {endpoint}\r\n\r\n".encode())
            assert b"".join([part async for part in stream])
    known = labels_of([(await get(port, "/metrics"))[1] for port in (node.admin, at)])
    asked = [*dashboard(), *alerts()]
    assert len(asked) > 50
    for where, expression, shown in asked:
        metrics = metrics_in(expression)
        assert metrics or "up{" in expression, where
        for name, labels in metrics:
            assert name in known, f"{where}: nobody exports {name}"
            assert labels <= known[name] | PROMETHEUS, f"{where}: {name} has no label {labels - known[name]}"
        all_labels = set().union(PROMETHEUS, *(known[name] for name, _ in metrics))
        assert labels_in(expression) | shown <= all_labels, where
        if grouped := re.search(r"\bby\s*\(([^)]*)\)", expression):
            assert shown <= set(re.findall(r"\w+", grouped[1])), f"{where}: {shown} are not all grouped by"


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        (
            'sum by (a, le) (rate(trioduct_x_total{b=~"x", c!="y"}[5m])) > 1',
            [("trioduct_x_total", {"b", "c"})],
            {"a", "le"},
        ),
        ("piko_a / sum without (b) (piko_b)", [("piko_a", set()), ("piko_b", set())], {"b"}),
    ],
)
def test_an_expression_is_read_as_it_is_meant(
    expression: str, metrics: list[tuple[str, set[str]]], labels: set[str]
) -> None:
    assert metrics_in(expression) == metrics
    assert labels_in(expression) == labels


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def promtool() -> str:
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool")
    return found


@pytest.mark.parametrize(
    "words", [("check", "rules", RULES.name), ("test", "rules", "trioduct.rules.test.yaml")], ids=["check", "test"]
)
def test_promtool_takes_the_alerts(words: tuple[str, ...]) -> None:
    done = subprocess.run([promtool(), *words], cwd=RULES.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_what_the_dashboard_asks(tmp_path: Path) -> None:
    """Prometheus has no variables of Grafana's; they are replaced by what is chosen at first."""
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "5m", one.expression).replace("$", "")}
        for number, one in enumerate(dashboard())
    ]
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool(), "check", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
