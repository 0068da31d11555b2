"""Metrics of several processes as if they were one's: families as plain data, and their sum.

Counters and the buckets of histograms add up. A gauge is a sum as well, unless a sum of it would mean nothing: then the
greatest or the least speaks for all. What processes that have ended had counted stays in the sum, for a counter that
goes down looks like a restart to Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol, cast

from engine.admin.metrics import Collected

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector

Family = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""Name, kind, help, and the samples: name, labels and value of each."""

GREATEST: Final = frozenset(
    (
        "trioduct_session_round_trip_seconds",
        "trioduct_cluster_state_age_seconds",
        "piko_cluster_nodes",
        "python_info",
    )
)
LEAST: Final = frozenset(
    ("trioduct_certificate_expiry_timestamp_seconds", "trioduct_cluster_store_up", "process_start_time_seconds")
)
COUNTED: Final = frozenset(("counter", "histogram"))


class Collects(Protocol):
    def collect(self) -> Iterable[Metric]: ...


def families_of(*collectors: Collects) -> list[Family]:
    """What the collectors have now, as data."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [(one.name, dict(one.labels), float(one.value)) for one in family.samples],
        )
        for collector in collectors
        for family in collector.collect()
    ]


def families_of_process() -> list[Family]:
    """Those of this process."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    return families_of(ProcessCollector(registry=CollectorRegistry()))


def join(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """One of each family, in the order in which they first come."""
    kinds: dict[str, tuple[str, str]] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for part in parts:
        for name, kind, meaning, samples in part:
            kinds.setdefault(name, (kind, meaning))
            known = sums.setdefault(name, {})
            for sample, labels, value in samples:
                key = sample, tuple(labels.items())
                if key in known:
                    known[key] = _add(name, known[key], value)
                else:
                    known[key] = value
    return [
        (name, kind, meaning, [(sample, dict(labels), value) for (sample, labels), value in sums[name].items()])
        for name, (kind, meaning) in kinds.items()
    ]


def _add(name: str, one: float, other: float) -> float:
    if name in GREATEST:
        return max(one, other)
    return min(one, other) if name in LEAST else one + other


def counted(families: Iterable[Family]) -> list[Family]:
    """Those that stay when their process has ended."""
    return [family for family in families if family[1] in COUNTED]


class Joined:
    """What /metrics shows of several processes: `families` gives the sum as it is now."""

    def __init__(self, families: Callable[[], list[Family]]) -> None:
        self._families = families

    def text(self) -> Callable[[], tuple[bytes, str]]:
        """As RoleMetrics.text."""
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
        from prometheus_client.core import Metric

        families = self._families()

        def write() -> tuple[bytes, str]:
            metrics = []
            for name, kind, meaning, samples in families:
                metric = Metric(name, meaning, kind)
                for sample, labels, value in samples:
                    metric.add_sample(sample, labels, value)
                metrics.append(metric)
            registry = CollectorRegistry()
            registry.register(cast("Collector", Collected(metrics)))
            return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

        return write
