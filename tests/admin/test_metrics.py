"""Metrics: Piko's names, numbers that are right, labels that strangers cannot multiply."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.admin.metrics import MAX_ANSWERS, MAX_ENDPOINTS, AgentMetrics, NodeMetrics, RoleMetrics
from engine.routing.tenants import key


@dataclass
class Streams:
    streams: list[int] = field(default_factory=list)


@dataclass
class Carrier:
    kind: str = "websocket"


@dataclass
class Link:
    round_trip: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    streams_opened: int = 0
    resets: int = 0
    window_stalls: int = 0
    mux: Streams = field(default_factory=Streams)
    carrier: Carrier = field(default_factory=Carrier)
    suspended: bool = False
    resumptions: int = 0


@dataclass
class Session:
    endpoint: str
    session: Link


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(metrics: RoleMetrics) -> Samples:
    text, media_type = metrics.text()()
    assert media_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def types_of(metrics: RoleMetrics) -> dict[str, str]:
    lines = metrics.text()()[0].decode().splitlines()
    return dict(line.split()[2:4] for line in lines if line.startswith("# TYPE"))


def test_a_node_has_pikos_metrics_by_name_and_type() -> None:
    expected = {
        "piko_proxy_requests_in_flight": "gauge",
        "piko_proxy_requests_total": "counter",
        "piko_proxy_request_latency_seconds": "histogram",
        "piko_proxy_request_size_bytes": "histogram",
        "piko_proxy_response_size_bytes": "histogram",
        "piko_upstreams_connected_upstreams": "gauge",
        "piko_upstreams_registered_endpoints": "gauge",
        "piko_upstreams_upstream_requests_total": "counter",
        "piko_upstreams_remote_requests_total": "counter",
        "piko_cluster_nodes": "gauge",
        "process_cpu_seconds_total": "counter",
    }
    assert expected.items() <= types_of(NodeMetrics()).items()


def test_an_agent_has_pikos_metrics_by_name_and_type() -> None:
    expected = {
        "piko_agent_requests_in_flight": "gauge",
        "piko_agent_requests_total": "counter",
        "piko_agent_request_latency_seconds": "histogram",
        "piko_agent_request_size_bytes": "histogram",
        "piko_agent_response_size_bytes": "histogram",
    }
    assert expected.items() <= types_of(AgentMetrics()).items()


def test_buckets_are_spelled_as_go_spells_them() -> None:
    metrics = NodeMetrics()
    metrics.request_done(b"GET", 200, 0.1, 1, 1, "")
    lines = metrics.text()()[0].decode().splitlines()

    def bounds(name: str) -> str:
        found = [line.split('le="')[1].split('"')[0] for line in lines if line.startswith(f"{name}_bucket")]
        return " ".join(found)

    seconds = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf"
    size = "256 1024 4096 16384 65536 262144 1.048576e+06 4.194304e+06 +Inf"
    assert bounds("piko_proxy_request_latency_seconds") == seconds
    assert bounds("piko_proxy_request_size_bytes") == bounds("piko_proxy_response_size_bytes") == size


def test_a_nodes_requests_are_counted() -> None:
    metrics = NodeMetrics()
    for _ in range(4):
        metrics.request_started()
    metrics.request_done(b"GET", 200, 0.1, 0, 256, "e", 0.05)
    metrics.request_done(b"GET", 200, 20.0, 257, 10**9, "e", 0.05)
    metrics.request_done(b"POST", 502, 0.2, 1, 2, "", None)
    samples = samples_of(metrics)
    get = {"method": "GET", "status": "200"}
    latency = "piko_proxy_request_latency_seconds"
    assert value(samples, "piko_proxy_requests_in_flight") == 1
    assert value(samples, "piko_proxy_requests_total", **get) == 2
    assert value(samples, "piko_proxy_requests_total", method="POST", status="502") == 1
    assert value(samples, f"{latency}_bucket", le="0.05", **get) == 0
    assert value(samples, f"{latency}_bucket", le="0.1", **get) == 1
    assert value(samples, f"{latency}_bucket", le="10", **get) == 1
    assert value(samples, f"{latency}_bucket", le="+Inf", **get) == 2
    assert value(samples, f"{latency}_count", **get) == 2
    assert value(samples, f"{latency}_sum", **get) == pytest.approx(20.1)
    assert value(samples, "piko_proxy_request_size_bytes_bucket", le="256") == 2
    assert value(samples, "piko_proxy_request_size_bytes_sum") == 258
    assert value(samples, "piko_proxy_response_size_bytes_bucket", le="256") == 2
    assert value(samples, "piko_proxy_response_size_bytes_bucket", le="+Inf") == 3
    assert value(samples, "piko_upstreams_upstream_requests_total") == 2
    assert value(samples, "trioduct_endpoint_requests_total", endpoint="e") == 2
    assert value(samples, "trioduct_endpoint_errors_total", endpoint="e") == 0
    assert value(samples, "trioduct_first_byte_seconds_count") == 2


def test_latencies_are_counted_in_finer_steps_than_shown() -> None:
    metrics = NodeMetrics()
    for seconds in (0.0004, 0.0011, 0.0049, 0.0051, 11.0):
        metrics.request_done(b"GET", 503, seconds, 0, 0, "e")
    latencies, statuses = metrics.answers()
    assert [count for count in latencies if count] == [1] * 5
    assert statuses == {503: 5}
    assert metrics.served() == {"e": (5, 5)}
    samples = samples_of(metrics)
    for bound, below in (("0.005", 3), ("0.01", 4), ("10", 4), ("+Inf", 5)):
        labels = {"le": bound, "method": "GET", "status": "503"}
        assert value(samples, "piko_proxy_request_latency_seconds_bucket", **labels) == below
    assert value(samples, "trioduct_endpoint_errors_total", endpoint="e") == 5


def test_an_agents_requests_are_counted_by_endpoint() -> None:
    metrics = AgentMetrics()
    for endpoint in ("e", "f", "f"):
        metrics.request_started(endpoint)
    metrics.request_done(b"GET", 200, 0.1, 5, 7, "e", 0.1)
    metrics.request_done(b"GET", 404, 0.1, 5, 7, "f")
    samples = samples_of(metrics)
    assert value(samples, "piko_agent_requests_in_flight", endpoint="e") == 0
    assert value(samples, "piko_agent_requests_in_flight", endpoint="f") == 1
    assert value(samples, "piko_agent_requests_total", endpoint="e", method="GET", status="200") == 1
    latency = "piko_agent_request_latency_seconds_count"
    assert value(samples, latency, endpoint="f", method="GET", status="404") == 1
    assert value(samples, "piko_agent_request_size_bytes_sum", endpoint="e") == 5
    assert value(samples, "piko_agent_response_size_bytes_sum", endpoint="f") == 7


def test_gauges_are_asked_for_when_they_are_shown() -> None:
    metrics = NodeMetrics()
    endpoints = {"e": 2}
    metrics.endpoints = lambda: endpoints
    metrics.tcp_connections = lambda: 5
    endpoints["f"] = 1
    samples = samples_of(metrics)
    assert value(samples, "piko_upstreams_connected_upstreams") == 3
    assert value(samples, "piko_upstreams_registered_endpoints") == 2
    assert value(samples, "trioduct_tcp_connections_open") == 5


@pytest.mark.parametrize("role", [NodeMetrics, AgentMetrics])
def test_what_sessions_carried_is_not_lost_with_them(role: type[RoleMetrics]) -> None:
    metrics = role()
    old = Session("e", Link(0.2, 1, 20, 3, 4, 5, Streams([1, 3])))
    new = Session("e", Link(0.1, 100, 2000, 300, 400, 500, Streams([1])))
    living = [old, new]
    metrics.sessions = lambda: living
    assert value(samples_of(metrics), "trioduct_session_round_trip_seconds", endpoint="e") == 0.2
    assert value(samples_of(metrics), "trioduct_streams_open") == 3
    for ended in (False, True):
        if ended:
            living.remove(old)
            metrics.session_ended(old)
        samples = samples_of(metrics)
        from_node, from_agent = (2020, 101) if role is NodeMetrics else (101, 2020)
        assert value(samples, "trioduct_endpoint_bytes_total", endpoint="e", direction="in") == from_node
        assert value(samples, "trioduct_endpoint_bytes_total", endpoint="e", direction="out") == from_agent
        assert value(samples, "trioduct_streams_opened_total") == 303
        assert value(samples, "trioduct_streams_reset_total") == 404
        assert value(samples, "trioduct_window_stalls_total") == 505
    assert value(samples, "trioduct_streams_open") == 1
    assert value(samples, "trioduct_session_round_trip_seconds", endpoint="e") == 0.1


def test_connections_and_reconnects_are_counted() -> None:
    metrics = AgentMetrics()
    metrics.tcp_done("db", 10, 20)
    metrics.tcp_done("db", 1, 2)
    metrics.reconnected("timeout")
    metrics.connected("service", 0.003)
    metrics.connected("node", 3)
    samples = samples_of(metrics)
    assert value(samples, "trioduct_tcp_connections_total", endpoint="db") == 2
    assert value(samples, "trioduct_tcp_bytes_total", endpoint="db", direction="in") == 11
    assert value(samples, "trioduct_tcp_bytes_total", endpoint="db", direction="out") == 22
    assert value(samples, "trioduct_reconnects_total", reason="timeout") == 1
    assert value(samples, "trioduct_connect_seconds_bucket", to="service", le="0.005") == 1
    assert value(samples, "trioduct_connect_seconds_sum", to="node") == 3


def test_requests_sent_to_other_nodes_are_counted() -> None:
    metrics = NodeMetrics()
    metrics.forwarded("n2")
    metrics.forwarded("n2")
    assert value(samples_of(metrics), "piko_upstreams_remote_requests_total", node_id="n2") == 2


def test_made_up_methods_are_one_label() -> None:
    metrics = NodeMetrics()
    for number in range(100):
        metrics.request_done(b"M%d" % number, 400, 0.1, 0, 0, "")
    metrics.request_done(b"GET\xff", 400, 0.1, 0, 0, "")
    assert value(samples_of(metrics), "piko_proxy_requests_total", method="other", status="400") == 101
    assert len(metrics._answers) == 1


def test_made_up_statuses_are_bounded() -> None:
    metrics = NodeMetrics()
    for status in range(100, 1000):
        metrics.request_done(b"GET", status, 0.1, 0, 0, "")
    samples = samples_of(metrics)
    missing = 900 - MAX_ANSWERS
    assert value(samples, "piko_proxy_requests_total", method="other", status="other") == missing
    assert len(metrics._answers) == MAX_ANSWERS + 1


@pytest.mark.parametrize("role", [NodeMetrics, AgentMetrics])
def test_ten_thousand_endpoints_are_a_thousand_labels_and_the_others(role: type[NodeMetrics | AgentMetrics]) -> None:
    metrics = role()
    for number in range(10_000):
        endpoint = f"e{number}"
        metrics.request_done(b"GET", 200, 0.1, 0, 0, endpoint)
        metrics.tcp_done(endpoint, 1, 1)
        metrics.session_ended(Session(endpoint, Link(bytes_in=1)))
    metrics.sessions = lambda: [Session(f"f{number}", Link(0.5)) for number in range(3)]
    samples = samples_of(metrics)
    for name in ("trioduct_tcp_connections_total", "trioduct_session_round_trip_seconds"):
        endpoints = {labels for sample, labels in samples if sample == name}
        assert len(endpoints) <= MAX_ENDPOINTS + 1
        assert value(samples, name, endpoint="other")
    total = sum(count for (name, _), count in samples.items() if name == "trioduct_tcp_connections_total")
    assert total == 10_000


def test_a_tenant_that_fills_the_labels_does_not_hide_in_anothers() -> None:
    metrics = NodeMetrics()
    metrics.has_tenants = True
    for number in range(2 * MAX_ENDPOINTS):
        metrics.request_done(b"GET", 200, 0.1, 0, 0, key(f"e{number}", "acme"))
    for _ in range(3):
        metrics.request_done(b"GET", 200, 0.1, 0, 0, key("shop", "beta"))
        metrics.tcp_done(key("db", "beta"), 1, 2)
    samples = samples_of(metrics)
    name = "trioduct_endpoint_requests_total"
    assert value(samples, name, endpoint="other", tenant="acme") == MAX_ENDPOINTS
    assert value(samples, name, endpoint="other", tenant="beta") == 3
    assert value(samples, "trioduct_tcp_bytes_total", endpoint="db", tenant="beta", direction="out") == 6
    assert len([labels for sample, labels in samples if sample == name]) == MAX_ENDPOINTS + 2


def test_a_label_cannot_break_the_text() -> None:
    metrics = AgentMetrics()
    endpoint = 'e"} 1\nforged{a="\\'
    metrics.request_done(b"GET", 200, 0.1, 0, 0, endpoint)
    samples = samples_of(metrics)
    assert value(samples, "piko_agent_requests_total", endpoint=endpoint, method="GET", status="200") == 1
    assert not any(name == "forged" for name, _ in samples)


def test_the_text_can_be_written_in_a_thread_while_counting_goes_on() -> None:
    metrics = NodeMetrics()
    metrics.request_done(b"GET", 200, 0.1, 0, 0, "e")
    write = metrics.text()
    metrics.request_done(b"GET", 200, 0.1, 0, 0, "e")
    metrics.request_done(b"PUT", 200, 0.1, 0, 0, "f")
    written: list[bytes] = []
    thread = threading.Thread(target=lambda: written.append(write()[0]))
    thread.start()
    thread.join()
    assert b'piko_proxy_requests_total{method="GET",status="200"} 1.0' in written[0]
    assert b"PUT" not in written[0]


def test_sessions_are_counted_by_what_they_ride_on() -> None:
    metrics = AgentMetrics()
    links = [Link(), Link(carrier=Carrier("poll"), suspended=True), Link(carrier=Carrier("poll"))]
    metrics.sessions = lambda: [Session("e", link) for link in links]
    samples = samples_of(metrics)
    numbers = {kind: value(samples, "trioduct_sessions", carrier=kind) for kind in ("websocket", "stream", "poll")}
    assert numbers == {"websocket": 1, "stream": 0, "poll": 2}
    assert value(samples, "trioduct_sessions_suspended") == 1


def test_resumptions_are_counted_for_sessions_that_live_and_for_those_that_ended() -> None:
    metrics = NodeMetrics()
    metrics.session_ended(Session("e", Link(resumptions=3)))
    metrics.sessions = lambda: [Session("e", Link(resumptions=4))]
    assert value(samples_of(metrics), "trioduct_resumptions_total") == 7


def test_carriers_that_there_was_no_room_for_are_counted() -> None:
    metrics = NodeMetrics()
    metrics.carriers_refused = lambda: 5
    assert value(samples_of(metrics), "trioduct_carriers_refused_total") == 5


def test_sessions_that_were_not_kept_are_counted() -> None:
    metrics = NodeMetrics()
    metrics.suspensions_refused = lambda: 3
    assert value(samples_of(metrics), "trioduct_suspensions_refused_total") == 3
