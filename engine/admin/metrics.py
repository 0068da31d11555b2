"""What is counted, under Piko's names (piko_…) and, for what Piko does not count, ours (trioduct_…).

Two costs are kept apart. *Counting* happens for every request and is a few additions to plain attributes: 1 us,
where the children of prometheus-client's own metrics would take 6. *Showing* happens every quarter of a minute:
a `NodeMetrics` or `AgentMetrics` is a collector that turns its numbers into prometheus-client's families, and that
library, imported then, writes the text. What a session or the registry knows anyway is not counted here but asked
for by then, through the callables that the role puts in.

Labels are a memory that strangers could fill. Methods that nobody knows are one label; statuses are what an
origin says and bounded in number; an endpoint is a label only if a session served it, up to `MAX_ENDPOINTS`, and
those beyond are one for each tenant.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from engine import log
from engine.routing import tenants

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector

    from engine.loop.certificates import Expiry

MAX_ENDPOINTS: Final = 1000
MAX_ANSWERS: Final = 500  # pairs of method and status
OTHER: Final = "other"
CARRIERS: Final = ("websocket", "stream", "poll")

METHODS: Final = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT"
    b" PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH".split()
)

# Bounds, as Go writes them: prometheus.DefBuckets, and ExponentialBuckets(256, 4, 8). Seconds are counted in finer
# steps, so that quantiles mean something, and shown in these.
SECONDS: Final = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10")
BYTES: Final = ("256", "1024", "4096", "16384", "65536", "262144", "1.048576e+06", "4.194304e+06")
STEPS: Final = ("1", "1.25", "1.5", "2", "2.5", "3", "4", "5", "6", "8")
SECONDS_BOUNDS: Final = (*(float(f"{step}e{power}") for power in range(-4, 1) for step in STEPS), 10.0)
_SHOWN: Final = tuple(SECONDS_BOUNDS.index(float(bound)) for bound in SECONDS)
BYTES_BOUNDS: Final = tuple(map(float, BYTES))


class Session(Protocol):
    """What a session knows about itself; totals since it began."""

    bytes_in: int
    bytes_out: int
    streams_opened: int
    resets: int
    window_stalls: int

    @property
    def carrier(self) -> Carrier: ...
    @property
    def suspended(self) -> bool: ...
    @property
    def resumptions(self) -> int: ...
    @property
    def round_trip(self) -> float:
        """Seconds; 0 while unknown."""

    @property
    def mux(self) -> Mux: ...


class Carrier(Protocol):
    @property
    def kind(self) -> str:
        """One of a few words."""


class Mux(Protocol):
    @property
    def streams(self) -> Sized: ...


class Registration(Protocol):
    """A session, and the endpoint that it is for, by its key."""

    @property
    def endpoint(self) -> str: ...
    @property
    def session(self) -> Session: ...


class Counted(Protocol):
    """Something of which there were so many."""

    @property
    def count(self) -> int: ...


class Flows(Protocol):
    """Of UDP."""

    @property
    def begun(self) -> int: ...
    def __len__(self) -> int: ...
    def counts(self) -> Mapping[str, int]:
        """What they have had together: datagrams and bytes, _in and _out, and dropped."""


class Datagrams(Protocol):
    """A UDP listener."""

    @property
    def endpoint(self) -> str: ...
    @property
    def refusals(self) -> int:
        """How often the kernel has said that the service takes no datagrams."""

    @property
    def flows(self) -> Flows: ...


class Spans(Protocol):
    """What is told of the spans of traces."""

    @property
    def exported(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]:
        """By reason."""


class RoleMetrics:
    """What node and agent both count.

    `sessions` gives the sessions that live, `tcp_connections` how many raw TCP connections are being relayed,
    `internal_errors` the defects that have ended a connection, by place, `ended` how many connections had to go, by
    reason, `expiries` until when which certificates are good, and `spans` what became of those, if there are any; the
    role sets them.
    """

    def __init__(self) -> None:
        self.sessions: Callable[[], Iterable[Registration]] = tuple
        self.tcp_connections: Callable[[], int] = int
        self.internal_errors: Mapping[str, int] = {}
        self.ended: Callable[[], Mapping[str, int]] = dict
        self.limited: Callable[[], Mapping[str, Mapping[str, int]]] = dict
        self.expiries: Callable[[], Iterable[Expiry]] = tuple
        self.spans: Spans | None = None
        self._ended: dict[str, _Totals] = {}  # of the sessions that do not live any more
        self._tcp: dict[str, _Traffic] = {}
        self.sessions_ended = 0
        self._reconnects: defaultdict[str, int] = defaultdict(int)
        self._connect: defaultdict[str, _Histogram] = defaultdict(_seconds)
        self._first_byte = _seconds()
        self.has_tenants = False  # endpoints are shown with theirs

    @property
    def _names(self) -> list[str]:
        """The labels that say which endpoint."""
        return ["endpoint", "tenant"] if self.has_tenants else ["endpoint"]

    def _labels(self, key: str) -> list[str]:
        return [*tenants.split(key)] if self.has_tenants else [key]

    def session_ended(self, session: Registration) -> None:
        """A session is not among `sessions` any more: keep its totals."""
        self.sessions_ended += 1
        _bounded(self._ended, session.endpoint, _Totals).add(session.session)

    def reconnected(self, reason: str) -> None:
        """A session was lost for `reason`, one of a few words, and another is wanted."""
        self._reconnects[reason] += 1

    def connected(self, to: str, seconds: float) -> None:
        """A connection was made to the "service" or the "node"."""
        self._connect[to].observe(seconds)

    def tcp_done(self, endpoint: str, bytes_in: int, bytes_out: int) -> None:
        """A raw TCP connection is over; `bytes_in` went towards the service."""
        traffic = _bounded(self._tcp, endpoint, _Traffic)
        traffic.count += 1
        traffic.bytes_in += bytes_in
        traffic.bytes_out += bytes_out

    def text(self) -> Callable[[], tuple[bytes, str]]:
        """Take the numbers as they are now, and return what writes them in Prometheus' text format.

        That may be called in another thread (with a thousand endpoints it takes its time), and gives the text
        and its media type.
        """
        from prometheus_client import (
            CONTENT_TYPE_PLAIN_0_0_4,
            CollectorRegistry,
            PlatformCollector,
            ProcessCollector,
            generate_latest,
        )

        families = list(self.collect())

        def write() -> tuple[bytes, str]:
            registry = CollectorRegistry()
            registry.register(cast("Collector", Collected(families)))
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

        return write

    def collect(self) -> Iterator[Metric]:
        """The families of metrics, as prometheus-client wants them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        totals = {endpoint: ended.copy() for endpoint, ended in self._ended.items()}
        streams_open = suspended = 0
        carriers = dict.fromkeys(CARRIERS, 0)
        round_trip: dict[str, float] = {}
        for session in self.sessions():
            _bounded(totals, session.endpoint, _Totals).add(session.session)
            streams_open += len(session.session.mux.streams)
            suspended += session.session.suspended
            carriers[session.session.carrier.kind] += 1
            endpoint = session.endpoint if session.endpoint in totals else _other(session.endpoint)
            round_trip[endpoint] = max(session.session.round_trip, round_trip.get(endpoint, 0.0))
        traffic = CounterMetricFamily(
            "trioduct_endpoint_bytes",
            "Bytes carried in the sessions of an endpoint; in: towards the service.",
            labels=[*self._names, "direction"],
        )
        for endpoint, total in totals.items():
            for direction, count in zip(("in", "out"), self._directions(total), strict=True):
                traffic.add_metric([*self._labels(endpoint), direction], count)
        yield traffic
        worst = GaugeMetricFamily(
            "trioduct_session_round_trip_seconds",
            "Round trip time of the slowest session of an endpoint.",
            labels=self._names,
        )
        for endpoint, seconds in round_trip.items():
            worst.add_metric(self._labels(endpoint), seconds)
        yield worst
        sessions = GaugeMetricFamily(
            "trioduct_sessions", "Sessions that live, by what they ride on, or did last.", labels=["carrier"]
        )
        for kind, number in carriers.items():
            sessions.add_metric([kind], number)
        yield sessions
        yield GaugeMetricFamily(
            "trioduct_sessions_suspended", "Sessions that have lost their carrier and wait for the next.", suspended
        )
        yield GaugeMetricFamily("trioduct_streams_open", "Streams open in all sessions.", streams_open)
        for name, meaning, attribute in (
            ("streams_opened", "Streams that were opened.", "streams_opened"),
            ("streams_reset", "Streams that were reset, by either end.", "resets"),
            ("resumptions", "Times that a session went on with another carrier.", "resumptions"),
            ("window_stalls", "Times that a stream had to wait for its window.", "window_stalls"),
        ):
            count = sum(getattr(total, attribute) for total in totals.values())
            yield CounterMetricFamily(f"trioduct_{name}", meaning, count)
        yield GaugeMetricFamily(
            "trioduct_tcp_connections_open", "Raw TCP connections being relayed.", self.tcp_connections()
        )
        connections = CounterMetricFamily(
            "trioduct_tcp_connections", "Raw TCP connections that are over.", labels=self._names
        )
        tcp_bytes = CounterMetricFamily(
            "trioduct_tcp_bytes",
            "Bytes of raw TCP connections that are over; in: towards the service.",
            labels=[*self._names, "direction"],
        )
        for endpoint, tcp in self._tcp.items():
            labels = self._labels(endpoint)
            connections.add_metric(labels, tcp.count)
            tcp_bytes.add_metric([*labels, "in"], tcp.bytes_in)
            tcp_bytes.add_metric([*labels, "out"], tcp.bytes_out)
        yield connections
        yield tcp_bytes
        yield CounterMetricFamily("trioduct_sessions_ended", "Sessions that have ended.", self.sessions_ended)
        reconnects = CounterMetricFamily(
            "trioduct_reconnects", "Sessions that were lost and are replaced.", labels=["reason"]
        )
        for reason, count in self._reconnects.items():
            reconnects.add_metric([reason], count)
        yield reconnects
        yield _histograms(
            "trioduct_connect_seconds",
            "Time to make a connection, handshakes included.",
            ["to"],
            {(to,): histogram for to, histogram in self._connect.items()},
        )
        yield _histograms(
            "trioduct_first_byte_seconds",
            "Time from a request to the first byte of its answer.",
            [],
            {(): self._first_byte},
        )
        errors = CounterMetricFamily(
            "trioduct_internal_errors", "Defects, each of which has ended one connection.", labels=["place"]
        )
        for place, count in self.internal_errors.items():
            errors.add_metric([place], count)
        yield errors
        ended = CounterMetricFamily(
            "trioduct_connections_ended",
            "Connections that had to go: their memory or their descriptor was needed, or their client does not wait.",
            labels=["reason"],
        )
        for reason, count in self.ended().items():
            ended.add_metric([reason], count)
        yield ended
        limited = CounterMetricFamily(
            "trioduct_limited",
            "Connections, requests and registrations that were refused, by port and limit.",
            labels=["port", "limit"],
        )
        for port, limits in self.limited().items():
            for limit, count in limits.items():
                limited.add_metric([port, limit], count)
        yield limited
        expiries = GaugeMetricFamily(
            "trioduct_certificate_expiry_timestamp_seconds",
            "When the first certificate of a file ends, or the next of its authorities, in Unix seconds.",
            labels=["port", "file"],
        )
        for expiry in self.expiries():
            expiries.add_metric([expiry.port, expiry.file], expiry.at)
        yield expiries
        if self.spans is not None:
            yield CounterMetricFamily(
                "trioduct_spans_exported", "Spans that the collector has taken.", self.spans.exported
            )
            dropped = CounterMetricFamily(
                "trioduct_spans_dropped",
                "Spans that were lost: the queue was full, the collector failed, or it rejected them.",
                labels=["reason"],
            )
            for reason, count in self.spans.dropped.items():
                dropped.add_metric([reason], count)
            yield dropped
        yield CounterMetricFamily(
            "trioduct_log_lines_dropped", "Log lines lost because nobody took them.", log.dropped()
        )

    def _directions(self, total: _Totals) -> tuple[int, int]:
        """The bytes towards the service, and back."""
        raise NotImplementedError


class StoreFigures(Protocol):
    """What is told of the store by which nodes know of each other."""

    events: int
    gaps: int
    rejected: Counter[str]

    @property
    def degraded(self) -> str: ...

    @property
    def unbelieved(self) -> int: ...

    @property
    def age_seconds(self) -> float: ...


class NodeMetrics(RoleMetrics):
    """A node's. `endpoints` gives the registered endpoints and their numbers of sessions, `carriers_refused` how many
    carriers were refused because too many were open, `suspensions_refused` how many sessions were not kept because
    too many had lost their carrier, `visitors_refused` how many clients might not use an endpoint, by reason,
    `http2_ended` how many connections and streams of HTTP/2 had to end, by reason, `retried` how many requests were
    sent once more, by cause, `peers` how many other nodes there are, `store` what they know of each other by; the role
    sets them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: Callable[[], Mapping[str, int]] = dict
        self.carriers_refused: Callable[[], int] = int
        self.peers: Callable[[], int] = int
        self.store: Callable[[], StoreFigures | None] = lambda: None
        self.suspensions_refused: Callable[[], int] = int
        self.visitors_refused: Callable[[], Mapping[str, int]] = dict
        self.http2_ended: Mapping[str, int] = {}
        self.retried: Mapping[str, int] = {}
        self._started = 0
        self._done = 0
        self._answers: _Answers = {}
        self._request_size = _Histogram(BYTES_BOUNDS)
        self._response_size = _Histogram(BYTES_BOUNDS)
        self._requests: dict[str, _Traffic] = {}
        self._remote: dict[str, int] = {}

    def request_started(self) -> None:
        """A request has come."""
        self._started += 1

    def request_left(self) -> None:
        """A request that has come here goes on at another node, which tells of it."""
        self._started -= 1

    def request_done(
        self,
        method: bytes,
        status: int,
        seconds: float,
        bytes_in: int,
        bytes_out: int,
        endpoint: str,
        first_byte_seconds: float | None = None,
    ) -> None:
        """A request is over, `seconds` after it came. `endpoint` is the one that a session was chosen for, or ""."""
        self._done += 1
        answers = self._answers.get((method, status))
        if answers is None:
            answers = _new_answers(self._answers, method, status)
        answers.counts[bisect_left(SECONDS_BOUNDS, seconds)] += 1
        answers.total += seconds
        size = self._request_size
        size.counts[bisect_left(BYTES_BOUNDS, bytes_in)] += 1
        size.total += bytes_in
        size = self._response_size
        size.counts[bisect_left(BYTES_BOUNDS, bytes_out)] += 1
        size.total += bytes_out
        if first_byte_seconds is not None:
            self._first_byte.observe(first_byte_seconds)
        if endpoint:
            requests = self._requests.get(endpoint)
            if requests is None:
                requests = _bounded(self._requests, endpoint, _Traffic)
            requests.count += 1
            if status >= 500:
                requests.errors += 1

    @property
    def requests(self) -> Mapping[str, Counted]:
        """Those that a session has served, by the keys of endpoints, as they grow."""
        return self._requests

    def forwarded(self, node_id: str) -> None:
        """A request was sent to another node."""
        self._remote[node_id] = self._remote.get(node_id, 0) + 1

    @property
    def in_flight(self) -> int:
        """Requests that have come and are not over."""
        return self._started - self._done

    def answers(self) -> tuple[list[int], dict[int, int]]:
        """How many requests took how long (between two of SECONDS_BOUNDS each, and beyond them), and how many had which
        status (0: one of those for which there was no room), since the start.
        """
        latencies = [0] * (len(SECONDS_BOUNDS) + 1)
        statuses: dict[int, int] = {}
        for (_, status), histogram in self._answers.items():
            statuses[status] = statuses.get(status, 0) + sum(histogram.counts)
            for index, count in enumerate(histogram.counts):
                latencies[index] += count
        return latencies, statuses

    def served(self) -> dict[str, tuple[int, int]]:
        """By the keys of endpoints: requests that a session has served, and how many of them had a status of 500 or
        above, since the start.
        """
        return {key: (served.count, served.errors) for key, served in self._requests.items()}

    @property
    def ended_resumptions(self) -> int:
        """How often sessions that do not live any more had gone on with another carrier."""
        return sum(total.resumptions for total in self._ended.values())

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily(
            "piko_proxy_requests_in_flight",
            "Number of requests currently handled by this server.",
            self._started - self._done,
        )
        yield from _answer_families("piko_proxy", [], {(): self._answers})
        yield _histograms("piko_proxy_request_size_bytes", "Request size", [], {(): self._request_size})
        yield _histograms("piko_proxy_response_size_bytes", "Response size", [], {(): self._response_size})
        endpoints = self.endpoints()
        yield GaugeMetricFamily(
            "piko_upstreams_connected_upstreams",
            "Number of upstreams connected to this node",
            sum(endpoints.values()),
        )
        yield GaugeMetricFamily(
            "piko_upstreams_registered_endpoints",
            "Number of endpoints registered to this node",
            len(endpoints),
        )
        yield CounterMetricFamily(
            "piko_upstreams_upstream_requests",
            "Number of requests sent to an upstream connected to the local node",
            sum(requests.count for requests in self._requests.values()),
        )
        remote = CounterMetricFamily(
            "piko_upstreams_remote_requests", "Number of requests sent to a remote node", labels=["node_id"]
        )
        for node_id, count in self._remote.items():
            remote.add_metric([node_id], count)
        yield remote
        nodes = GaugeMetricFamily("piko_cluster_nodes", "Number of nodes in the cluster state", labels=["status"])
        nodes.add_metric(["active"], 1 + self.peers())
        yield nodes
        yield from self._store_figures()
        yield CounterMetricFamily(
            "trioduct_carriers_refused", "Carriers refused because too many were open.", self.carriers_refused()
        )
        yield CounterMetricFamily(
            "trioduct_suspensions_refused",
            "Sessions that ended with their carrier, because too many were waiting for another.",
            self.suspensions_refused(),
        )
        visitors = CounterMetricFamily(
            "trioduct_visitors_refused",
            "Clients that were not let in: by address, without a right password, or with too many being checked.",
            labels=["reason"],
        )
        for reason, count in self.visitors_refused().items():
            visitors.add_metric([reason], count)
        yield visitors
        http2 = CounterMetricFamily(
            "trioduct_http2_ended", "Connections and streams of HTTP/2 that had to end, by reason.", labels=["reason"]
        )
        for reason, count in self.http2_ended.items():
            http2.add_metric([reason], count)
        yield http2
        retries = CounterMetricFamily(
            "trioduct_retries", "Requests that were sent once more, by what had failed.", labels=["cause"]
        )
        for cause, count in self.retried.items():
            retries.add_metric([cause], count)
        yield retries
        requests = CounterMetricFamily(
            "trioduct_endpoint_requests", "Requests that a session of an endpoint served.", labels=self._names
        )
        for endpoint, served in self._requests.items():
            requests.add_metric(self._labels(endpoint), served.count)
        yield requests
        errors = CounterMetricFamily(
            "trioduct_endpoint_errors",
            "Requests that a session of an endpoint served, with a status of 500 or above.",
            labels=self._names,
        )
        for endpoint, served in self._requests.items():
            errors.add_metric(self._labels(endpoint), served.errors)
        yield errors
        if self.has_tenants:
            of_tenants: defaultdict[str, int] = defaultdict(int)
            for key, count in endpoints.items():
                of_tenants[tenants.split(key)[1]] += count
            sessions = GaugeMetricFamily("trioduct_tenant_sessions", "Sessions of a tenant.", labels=["tenant"])
            for tenant, count in of_tenants.items():
                sessions.add_metric([tenant], count)
            yield sessions
        yield from super().collect()

    def _store_figures(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        store = self.store()
        if store is None:
            return
        yield GaugeMetricFamily(
            "trioduct_cluster_store_up", "1 if the cluster's store answers in time.", int(not store.degraded)
        )
        yield GaugeMetricFamily(
            "trioduct_cluster_state_age_seconds", "Since all that other nodes serve was read.", store.age_seconds
        )
        yield CounterMetricFamily("trioduct_cluster_events", "Messages of other nodes.", store.events)
        yield CounterMetricFamily("trioduct_cluster_gaps", "Changes that were missed, and read again.", store.gaps)
        yield GaugeMetricFamily(
            "trioduct_cluster_endpoints_unbelieved",
            "Endpoints of this node that are more than other nodes believe it to have.",
            store.unbelieved,
        )
        rejected = CounterMetricFamily(
            "trioduct_cluster_rejected", "What stood in the store and was not believed.", labels=["reason"]
        )
        for reason, count in store.rejected.items():
            rejected.add_metric([reason], count)
        yield rejected

    def _directions(self, total: _Totals) -> tuple[int, int]:
        return total.bytes_out, total.bytes_in  # what leaves here goes to the agent


class AgentMetrics(RoleMetrics):
    """An agent's; its endpoints are those of its configuration."""

    def __init__(self) -> None:
        super().__init__()
        self._endpoints: dict[str, _Endpoint] = {}
        self.udp: list[Datagrams] = []  # its UDP listeners
        # Of each service that is checked: endpoint, service, whether it is well, and how many checks had which result.
        self.health: Callable[[], Sequence[tuple[str, str, bool, Mapping[str, int]]]] = tuple

    def request_started(self, endpoint: str) -> None:
        """A request has come for `endpoint`."""
        self._of(endpoint).started += 1

    def request_done(
        self,
        method: bytes,
        status: int,
        seconds: float,
        bytes_in: int,
        bytes_out: int,
        endpoint: str,
        first_byte_seconds: float | None = None,
    ) -> None:
        """A request is over, `seconds` after it came."""
        counted = self._of(endpoint)
        counted.done += 1
        answers = counted.answers.get((method, status))
        if answers is None:
            answers = _new_answers(counted.answers, method, status)
        answers.observe(seconds)
        counted.request_size.observe(bytes_in)
        counted.response_size.observe(bytes_out)
        if first_byte_seconds is not None:
            self._first_byte.observe(first_byte_seconds)

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        in_flight = GaugeMetricFamily(
            "piko_agent_requests_in_flight",
            "Number of requests currently handled by this server.",
            labels=["endpoint"],
        )
        request_sizes: dict[tuple[str, ...], _Histogram] = {}
        response_sizes: dict[tuple[str, ...], _Histogram] = {}
        answers: dict[tuple[str, ...], _Answers] = {}
        for endpoint, counted in self._endpoints.items():
            in_flight.add_metric([endpoint], counted.started - counted.done)
            request_sizes[endpoint,] = counted.request_size
            response_sizes[endpoint,] = counted.response_size
            answers[endpoint,] = counted.answers
        yield in_flight
        yield from _answer_families("piko_agent", ["endpoint"], answers)
        yield _histograms("piko_agent_request_size_bytes", "Request size", ["endpoint"], request_sizes)
        yield _histograms("piko_agent_response_size_bytes", "Response size", ["endpoint"], response_sizes)
        names = ["endpoint", "service"]
        well = GaugeMetricFamily("trioduct_service_healthy", "1 if the service is well, 0 if it is not.", labels=names)
        checks = CounterMetricFamily("trioduct_service_checks", "Checks of a service.", labels=[*names, "result"])
        for endpoint, service, is_well, results in self.health():
            well.add_metric([endpoint, service], int(is_well))
            for result, count in results.items():
                checks.add_metric([endpoint, service, result], count)
        yield well
        yield checks
        yield from self._datagrams()
        yield from super().collect()

    def _datagrams(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        of, names = ["endpoint"], ["endpoint", "direction"]
        active = GaugeMetricFamily("trioduct_udp_flows_open", "Flows of UDP under way.", labels=of)
        begun = CounterMetricFamily("trioduct_udp_flows", "Flows of UDP that have begun.", labels=of)
        passed = CounterMetricFamily("trioduct_udp_datagrams", "Datagrams; in: to the service.", labels=names)
        sizes = CounterMetricFamily("trioduct_udp_bytes", "Bytes in datagrams; in: to the service.", labels=names)
        dropped = CounterMetricFamily(
            "trioduct_udp_dropped", "Datagrams that waited in vain for the tunnel or the socket.", labels=of
        )
        refused = CounterMetricFamily(
            "trioduct_udp_refused", "Answers of the kernel that the service takes no datagrams.", labels=of
        )
        for listener in self.udp:
            counts, label = listener.flows.counts(), [listener.endpoint]
            active.add_metric(label, len(listener.flows))
            begun.add_metric(label, listener.flows.begun)
            for direction in ("in", "out"):
                passed.add_metric([*label, direction], counts[f"datagrams_{direction}"])
                sizes.add_metric([*label, direction], counts[f"bytes_{direction}"])
            dropped.add_metric(label, counts["dropped"])
            refused.add_metric(label, listener.refusals)
        yield from (active, begun, passed, sizes, dropped, refused)

    def _of(self, endpoint: str) -> _Endpoint:
        counted = self._endpoints.get(endpoint)
        return _bounded(self._endpoints, endpoint, _Endpoint) if counted is None else counted

    def _directions(self, total: _Totals) -> tuple[int, int]:
        return total.bytes_in, total.bytes_out


# Counting ---------------------------------------------------------------------------------------------------


class _Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # per bucket, not yet added up
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1  # a value at the bound is below it ("le")
        self.total += value


def _seconds() -> _Histogram:
    return _Histogram(SECONDS_BOUNDS)


_Answers = dict[tuple[bytes, int], _Histogram]


def _new_answers(answers: _Answers, method: bytes, status: int) -> _Histogram:
    key = (method if method in METHODS else OTHER.encode(), status)
    if key not in answers and len(answers) >= MAX_ANSWERS:
        key = (OTHER.encode(), 0)
    return answers.setdefault(key, _seconds())


class _Traffic:
    """Of requests or connections."""

    __slots__ = ("bytes_in", "bytes_out", "count", "errors")

    def __init__(self) -> None:
        self.count = self.errors = self.bytes_in = self.bytes_out = 0


class _Totals:
    """Of sessions."""

    __slots__ = ("bytes_in", "bytes_out", "resets", "resumptions", "streams_opened", "window_stalls")

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.streams_opened = self.resets = self.window_stalls = self.resumptions = 0

    def add(self, other: Session | _Totals) -> None:
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.streams_opened += other.streams_opened
        self.resets += other.resets
        self.resumptions += other.resumptions
        self.window_stalls += other.window_stalls

    def copy(self) -> _Totals:
        made = _Totals()
        made.add(self)
        return made


class _Endpoint:
    """Of an agent."""

    __slots__ = ("answers", "done", "request_size", "response_size", "started")

    def __init__(self) -> None:
        self.started = self.done = 0
        self.answers: _Answers = {}
        self.request_size = _Histogram(BYTES_BOUNDS)
        self.response_size = _Histogram(BYTES_BOUNDS)


_Counted = TypeVar("_Counted")


def _bounded(by_endpoint: dict[str, _Counted], endpoint: str, make: Callable[[], _Counted]) -> _Counted:
    if endpoint not in by_endpoint:
        if len(by_endpoint) >= MAX_ENDPOINTS:
            endpoint = _other(endpoint)
        by_endpoint.setdefault(endpoint, make())
    return by_endpoint[endpoint]


def _other(key: str) -> str:
    """The key that stands for all endpoints of this one's tenant for which there was no room."""
    return tenants.key(OTHER, tenants.split(key)[1])


class Collected:
    """Numbers as they were, as a Collector of prometheus-client's (whose class is not imported before it is wanted)."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


# Showing ----------------------------------------------------------------------------------------------------


def _answer_families(
    prefix: str, names: Sequence[str], answers: Mapping[tuple[str, ...], _Answers]
) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    latencies: dict[tuple[str, ...], _Histogram] = {}
    for labels, counted in answers.items():
        for (method, status), histogram in counted.items():
            latencies[str(status or OTHER), method.decode(), *labels] = histogram
    names = ["status", "method", *names]
    total = CounterMetricFamily(f"{prefix}_requests", "Total requests.", labels=names)
    for labels, histogram in latencies.items():
        total.add_metric(labels, sum(histogram.counts))
    yield total
    yield _histograms(f"{prefix}_request_latency_seconds", "Request latency.", names, latencies)


def _histograms(
    name: str, meaning: str, names: Sequence[str], histograms: Mapping[tuple[str, ...], _Histogram]
) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, meaning, labels=names)
    for labels, histogram in histograms.items():
        below = list(accumulate(histogram.counts))
        if histogram.bounds is SECONDS_BOUNDS:
            buckets = [(bound, below[index]) for bound, index in zip(SECONDS, _SHOWN, strict=True)]
        else:
            buckets = list(zip(BYTES, below, strict=False))
        buckets.append(("+Inf", below[-1]))
        family.add_metric(labels, buckets, histogram.total)
    return family
