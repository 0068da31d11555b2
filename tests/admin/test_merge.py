"""Metrics of several processes as if they were one's."""

from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from engine.admin.merge import GREATEST, LEAST, Family, Joined, counted, families_of, families_of_process, join
from engine.admin.metrics import NodeMetrics


def node(*, requests: int, seconds: float = 0.02, endpoint: str = "web") -> list[Family]:
    metrics = NodeMetrics()
    for _ in range(requests):
        metrics.request_started()
        metrics.request_done(b"GET", 200, seconds, 10, 1000, endpoint)
    metrics.request_started()  # one is under way
    return families_of(metrics)


def shown(families: list[Family]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, _ = Joined(lambda: families).text()()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counters_gauges_and_each_bucket_of_a_histogram_add_up() -> None:
    got = shown(join([node(requests=3, seconds=0.02), node(requests=4, seconds=2)]))
    labels = (("method", "GET"), ("status", "200"))
    assert got["piko_proxy_requests_total", labels] == 7
    assert got["piko_proxy_requests_in_flight", ()] == 2
    name = "piko_proxy_request_latency_seconds"
    for bound, count in (("0.01", 0), ("0.025", 3), ("1", 3), ("2.5", 7), ("+Inf", 7)):
        assert got[f"{name}_bucket", (("le", bound), *labels)] == count
    assert got[f"{name}_count", labels] == 7
    assert abs(got[f"{name}_sum", labels] - (3 * 0.02 + 4 * 2)) < 1e-9


def test_it_is_the_same_text_as_one_process_would_write() -> None:
    metrics = NodeMetrics()
    metrics.request_done(b"GET", 200, 0.02, 10, 1000, "web")
    alone, _ = metrics.text()()
    joined, _ = Joined(lambda: join([families_of(metrics)])).text()()
    ours = [line for line in alone.decode().splitlines() if " process_" not in line and not line.startswith("process_")]
    assert joined.decode().splitlines() == [line for line in ours if "python_info" not in line]


def test_labels_that_only_one_has_are_kept() -> None:
    got = shown(join([node(requests=1, endpoint="one"), node(requests=2, endpoint="two")]))
    assert got["trioduct_endpoint_requests_total", (("endpoint", "one"),)] == 1
    assert got["trioduct_endpoint_requests_total", (("endpoint", "two"),)] == 2


def test_what_no_sum_can_tell_is_the_greatest_or_the_least() -> None:
    def of(value: float) -> list[Family]:
        slowest = ("trioduct_session_round_trip_seconds", {"endpoint": "web"}, value)
        return [
            ("trioduct_session_round_trip_seconds", "gauge", "A.", [slowest]),
            ("process_start_time_seconds", "gauge", "B.", [("process_start_time_seconds", {}, value)]),
        ]

    got = shown(join([of(2), of(1), of(3)]))
    assert got["trioduct_session_round_trip_seconds", (("endpoint", "web"),)] == 3
    assert got["process_start_time_seconds", ()] == 1


class Figures:
    """Of a store."""

    degraded = ""
    unbelieved = 0
    age_seconds = 1.0

    def __init__(self) -> None:
        self.events = self.gaps = 0
        self.rejected = Counter(["a reason"])


def test_of_each_gauge_it_is_known_whether_a_sum_means_anything() -> None:
    metrics = NodeMetrics()
    metrics.store = Figures
    gauges = {name for name, kind, _, _ in [*families_of(metrics), *families_of_process()] if kind == "gauge"}
    assert gauges - GREATEST - LEAST == {
        "piko_proxy_requests_in_flight",
        "piko_upstreams_connected_upstreams",
        "piko_upstreams_registered_endpoints",  # for which the supervisor has its own number
        "trioduct_cluster_endpoints_unbelieved",
        "trioduct_sessions",
        "trioduct_sessions_suspended",
        "trioduct_streams_open",
        "trioduct_tcp_connections_open",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }


def test_counters_outlive_their_process_and_gauges_do_not() -> None:
    past = counted(node(requests=5))
    got = shown(join([past, node(requests=1)]))
    assert got["piko_proxy_requests_total", (("method", "GET"), ("status", "200"))] == 6
    assert got["piko_proxy_requests_in_flight", ()] == 1


def test_a_process_tells_of_itself() -> None:
    names = {name for name, _, _, _ in families_of_process()}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"} <= names
