"""The node role: its ports put together, and the order in which they start and stop.

Starting: the listening sockets first (a port in use is the likeliest mistake, and is found before anything runs),
then the admin port, the upstream port, the proxy port, so that nobody is let in before there is a way on.

Shutdown (SIGTERM): not ready any more; agents are told to go away, and dial another node while their old session
goes on; when they have arrived there (or `MOVE_SECONDS` are over), clients are sent the same way: the proxy port
stops listening, and answers say `Connection: close`. When nothing is under way any more, or the grace period is
over, the sessions are closed. A second signal ends it at once.
"""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import msgspec
import trio

from engine.admin.app import NodeStatus, SessionStatus, node_app
from engine.admin.live import Live
from engine.admin.metrics import NodeMetrics
from engine.admin.reading import Reading
from engine.admin.serve import serve_admin
from engine.auth.by_tenant import ByTenant
from engine.auth.key_set import Tokens, open_tokens
from engine.auth.verifier import Verifier, Verifies
from engine.cluster.directory import Membership
from engine.cluster.entry import Entry
from engine.cluster.messages import Session
from engine.cluster.store import Store
from engine.config import AuthConfig, ServerConfig
from engine.config.pages import open_pages
from engine.config.server import TenantConfig
from engine.config.tracing import TracingConfig
from engine.gateway.clocks import Timeouts
from engine.gateway.inbound import dawdles
from engine.gateway.retry import Budget, Retries
from engine.limits import Counts, Rates, Traffic, Visits
from engine.log import get_logger
from engine.loop.certificates import Certificates, Expiry, warn_of_expiry
from engine.loop.connection import Address, Connection
from engine.loop.leaving import NEVER, until_signal
from engine.loop.listen import Room, join_address, open_listeners, serve, split_address
from engine.loop.memory import Shares
from engine.loop.reactor import Reactor
from engine.loop.renewed import SOON_SECONDS, Renewed, watch
from engine.loop.run import open_reactor
from engine.loop.wait_group import WaitGroup
from engine.node.admission import logged
from engine.node.agent_port import AgentPort
from engine.node.client import Clients
from engine.node.client_port import ClientPort, secured
from engine.node.figures import Figures
from engine.node.kept import Kept
from engine.node.legs import Legs
from engine.node.membership import join_by_store
from engine.node.peers import Peers
from engine.node.sticky import Sticky
from engine.node.tcp_port import TCPPort
from engine.node.trust import Trust
from engine.node.visitors import Visitors
from engine.node.way import Way
from engine.routing.domains import Domains
from engine.routing.rebalance import Part, by_node, excess
from engine.routing.registry import SharedRegistry
from engine.routing.tenants import HostPattern, split
from engine.wire.peers import Port
from engine.wire.public_url import PublicURL

PATIENCE_SECONDS = 2.0  # see Clients
REBALANCE_SECONDS = 1.0
MOVE_SECONDS = 3.0  # for agents to arrive elsewhere, before clients are sent there

log = get_logger("server")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a node listens: (host, port) of its three ports, and of those of `proxy.tcp`, in their order."""

    proxy: Address
    upstream: Address
    admin: Address
    tcp: tuple[Address, ...] = ()


async def run_node(
    config: ServerConfig,
    *,
    alone: bool = False,
    signals: AsyncIterator[int] = NEVER,
    membership: Membership | None = None,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until a signal has drained it, or until cancelled.

    Raises OSError for a port in use and ConfigError for certificates and keys that do not fit.

    `alone`: nothing else runs in this Trio run. Each of `signals` tells it to leave, the second at once. With a
    `membership` it has peers.
    """
    with ExitStack() as stack:
        proxy, upstream, admin = (
            [stack.enter_context(sock) for sock in open_listeners(address)]
            for address in (config.proxy.bind_addr, config.upstream.bind_addr, config.admin.bind_addr)
        )
        tcp_ports = config.tcp_keys()
        tcp = [[stack.enter_context(sock) for sock in open_listeners(address)] for address, _ in tcp_ports]
        links = open_listeners(config.cluster.bind_addr) if config.cluster.bind_addr else []
        for sock in links:
            stack.enter_context(sock)
        async with open_reactor(alone=alone) as reactor, trio.open_nursery() as nursery:
            node = await open_node(config, reactor, nursery)
            addresses = Addresses(
                address_of_sockets(proxy),
                address_of_sockets(upstream),
                address_of_sockets(admin),
                tuple(map(address_of_sockets, tcp)),
            )
            if config.cluster.store:
                membership, node.store = join_by_store(
                    config.cluster,
                    links_at=shown(address_of_sockets(links or proxy)),
                    proxy_at=config.proxy.advertise_addr or shown(addresses.proxy),
                    admin_at=config.admin.advertise_addr or shown(addresses.admin),
                )
            if membership is not None:
                node.join(membership, nursery)
            live = Live(
                node.id,
                node.read,
                nodes=lambda: [one.summary() for one in (node.status(addresses, sessions=False), *node.peers_status())],
                reason=lambda: node.not_ready,
                degraded=lambda: node.degraded,
            )
            app = node_app(
                node.metrics,
                live=live,
                not_ready=lambda: node.not_ready,
                local=partial(node.status, addresses),
                peers=node.peers_status,
                expiries=node.expiries,
                degraded=lambda: node.degraded,
                tls=lambda: config.admin.tls.client.client_context() if node.admin_tls.context else None,
                verifier=(await open_tokens_of(config.admin.auth, nursery)).verifier,
                hosts=[*config.admin.hosts, *names_of(config.admin.advertise_addr)],
            )
            if node.store is not None:
                await nursery.start(node.store.run)
            await nursery.start(partial(serve_admin, admin, app, tls=lambda: node.admin_tls.context))
            nursery.start_soon(live.run)
            nursery.start_soon(watch, node.certificates)
            nursery.start_soon(warn_of_expiry, node.certificates)
            nursery.start_soon(node.rebalance)
            nursery.start_soon(node.accept_links, links, nursery)
            nursery.start_soon(node.accept_agents, upstream, nursery)
            nursery.start_soon(node.accept_clients, proxy, tcp, nursery)
            node.not_ready = None
            log.info(
                "node started",
                node_id=node.id,
                proxy=shown(addresses.proxy),
                upstream=shown(addresses.upstream),
                admin=shown(addresses.admin),
            )
            for (_, key), address in zip(tcp_ports, addresses.tcp, strict=True):
                log.info("tcp port open", addr=shown(address), **logged(key))
            task_status.started(addresses)
            await anext(signals)
            log.info("shutting down", grace_seconds=config.grace_period)
            await until_signal(node.leave, config.grace_period, signals)
            node.agents.close()
            nursery.cancel_scope.cancel()
    log.info("node stopped")


async def open_node(config: ServerConfig, reactor: Reactor, nursery: trio.Nursery) -> Node:
    """A node that accepts nobody yet. Its sessions are tasks in `nursery`. Raises ConfigError."""
    own = {one.id for one in config.proxy.tenants}
    others = [one.id for one in config.upstream.tenants if one.id not in own]
    common = (await open_tokens_of(config.proxy.auth, nursery, tenants=others)).verifier
    of = await _open_tenants(config.proxy.tenants, nursery)
    verifiers = {id: tokens.verifier for id, tokens in of.items() if tokens.verifier is not None}
    clients = ByTenant(verifiers, common) if verifiers else common
    upstream_tokens = await open_tokens_of(config.upstream.auth, nursery)
    tenants = await _open_tenants(config.upstream.tenants, nursery)
    node = Node(config, reactor, clients, upstream_tokens, nursery, tenants=tenants)
    nursery.start_soon(node.visitors.run)
    nursery.start_soon(watch, [node.pages_read])
    if config.tracing.url:
        node.trace(config.tracing, nursery)
    return node


class Door:
    """Where somebody may come in, at any number of sockets, until it is closed once and for all."""

    def __init__(self) -> None:
        self.held: list[socket.socket] = []  # listening sockets at which nobody accepts; closed with it
        self._scopes: set[trio.CancelScope] = set()
        self._inside = WaitGroup()
        self._closed = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """What runs within, which accepts, is cancelled when the door is closed."""
        with trio.CancelScope() as scope, self._inside:
            self._scopes.add(scope)
            if self._closed:
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def let_go(self) -> None:
        """Close what is held: as long as anybody holds a socket, its queue takes clients."""
        for sock in self.held:
            sock.close()

    async def close(self) -> None:
        """Let go, and return when nobody accepts any more, and who was let in last has begun to be served."""
        self._closed = True
        self.let_go()
        for scope in self._scopes:
            scope.cancel()
        await self._inside.wait()


class Node:
    """The public ports and what they share. `clients` verifies the tokens of clients, if those need one."""

    def __init__(
        self,
        config: ServerConfig,
        reactor: Reactor,
        clients: Verifies | None,
        upstream_tokens: Tokens,
        sessions: trio.Nursery,
        *,
        tenants: Mapping[str, Tokens],
    ) -> None:
        http = config.proxy.http
        self.id = config.cluster.choose_node_id()
        self.registry: SharedRegistry[Way] = SharedRegistry(partial(reactor.count, "registry"))
        self.peers: Peers | None = None
        self.store: Store | None = None
        self.metrics = NodeMetrics()
        self.not_ready: str | None = "starting"
        self.certificates = certificates_of(config)
        tls, upstream_tls, self.admin_tls, self._link_tls = self.certificates
        self.metrics.expiries = self.expiries
        pattern = HostPattern(config.proxy.tenant_hosts)
        hosts = pattern if tenants else None
        domains = Domains(config.domain_keys())
        limits = config.proxy.limits
        traffic = Traffic(
            (limits.requests, limits.principal_requests, limits.tenant_requests),
            (limits.bytes, limits.principal_bytes, limits.tenant_bytes),
        )
        shares = Shares(reactor.memory, limits.principal_memory, limits.tenant_memory)
        self.visitors = Visitors(config.proxy.endpoints)
        pages, self.pages_read = open_pages("proxy", config.proxy.error_pages)
        retry = config.proxy.retry
        budget = Budget(retry.budget, self.metrics.requests, reactor) if retry.budget < 1 else None
        retries = Retries(retry.attempts, retry.causes, retry.methods, budget)
        self.metrics.retried = retries.counts
        trust = Trust(config.proxy.trusted_proxies, config.proxy.trusted_headers)
        self._legs = Legs(
            self.registry,
            reactor,
            self.metrics,
            verifier=clients,
            hosts=hosts,
            trust=trust,
            visitors=self.visitors,
            kept=Kept(config.proxy.resume),
            traffic=traffic or None,
            shares=shares,
            sessions=sessions,
        )
        self._clients = Clients(
            self.registry,
            reactor,
            self.metrics,
            Timeouts(
                head=http.read_header_timeout or http.read_timeout or math.inf,
                idle=http.idle_timeout or http.read_timeout or math.inf,
                pause=http.read_timeout or math.inf,
                answer=config.proxy.timeout or math.inf,
                stall=http.write_timeout or math.inf,
            ),
            retries=retries,
            pages=pages,
            max_head=http.head_limit,
            verifier=clients,
            hosts=hosts,
            domains=domains,
            sticky=Sticky(dict(config.proxy.sticky)) if config.proxy.sticky else None,
            trust=trust,
            proxy_protocol=config.proxy.proxy_protocol,
            allowed_origins=frozenset(config.proxy.allowed_origins),
            access_log=config.proxy.access_log.open("proxy.access"),
            # What ends TLS in front of a node can be told by nobody but the operator.
            secure=tls.context is not None or config.proxy.public_url.startswith("https:"),
            patient_until=reactor.now + PATIENCE_SECONDS,
            visits=Visits(limits.connections, limits.connection_rate),
            traffic=traffic or None,
            shares=shares if clients is not None or hosts is not None else None,  # others have no names
            legs=self._legs,
            visitors=self.visitors,
        )
        if clients is not None:
            clients.on_revoked = self._clients.end_revoked
        self.clients = ClientPort(self._clients, tls, http2=config.proxy.http2)
        self.metrics.http2_ended = self._clients.http2_ended
        self.exclusive = config.upstream.sharing == "exclusive"
        self.agents = AgentPort(
            self.registry,
            reactor,
            self.metrics,
            tokens=upstream_tokens,
            by_tenant=tenants,
            tls=upstream_tls,
            public_url=config.proxy.public_url,
            domains=domains,
            public_urls=_public_urls(config.proxy.public_url, pattern, tenants),
            limits=config.upstream.limits,
            exclusive=self.exclusive,
            resume_seconds=config.upstream.resume,
            sessions=sessions,
        )
        self.metrics.sessions = lambda: self.agents.registrations
        self.metrics.endpoints = self.registry.endpoints
        self.metrics.has_tenants = bool(tenants)
        self.figures = Figures(self.agents.registrations, self.metrics)
        self.metrics.carriers_refused = lambda: self.agents.carriers_refused + self._clients.host.crowd.refused
        self.metrics.suspensions_refused = lambda: self.agents.kept.crowd.refused + self._legs.kept.crowd.refused
        self.metrics.visitors_refused = lambda: self.visitors.refused
        self.metrics.tcp_connections = lambda: self._clients.tcp_connections
        self._config = config
        log_of = config.proxy.access_log
        access_level = None if log_of.disable else log_of.level
        self._tcp_ports = [TCPPort(key, self._clients, access_level) for _, key in config.tcp_keys()]
        self._room = Room(dawdles=dawdles)
        self.metrics.internal_errors = reactor.internal_errors
        self.metrics.ended = lambda: {
            "memory": reactor.memory.ended,
            "room": self._room.made,
            "aborts": self._clients.aborts.banned,
        }
        self.agents_door = Door()
        self.clients_door = Door()
        self.metrics.limited = lambda: {
            "proxy": {
                **self._clients.visits.refused,
                **traffic.refused,
                **shares.ended,
                "retries": retries.over_budget,
            },
            "upstream": self.agents.refused,
        }

    def trace(self, config: TracingConfig, nursery: trio.Nursery) -> None:
        """Trace requests of clients that are to come, and export the spans in `nursery`."""
        now = self._clients.reactor.now
        tracer, exporter = config.open(now, service="trioduct-node", instance=self.id, node=self.id)
        self._clients.tracer = tracer
        self.metrics.spans = exporter
        nursery.start_soon(exporter.run)

    @property
    def limits(self) -> dict[str, Rates | Counts]:
        """Those that hold for all workers together, by port and name."""
        clients = self._clients
        ports: dict[str, dict[str, Rates | Counts]] = {"proxy": clients.limits, "upstream": self.agents.limits}
        return {f"{port}.{name}": limit for port, limits in ports.items() for name, limit in limits.items()}

    @property
    def degraded(self) -> str:
        """What is not as it should be, though it serves."""
        return self.store.degraded if self.store is not None else ""

    async def read(self) -> tuple[Reading, str]:
        """See Live."""
        return await self.figures.read(), ""

    def status(self, addresses: Addresses, *, sessions: bool = True) -> NodeStatus:
        """This node as others may see it, with its `sessions` or without."""
        return NodeStatus(
            id=self.id,
            proxy_addr=self._config.proxy.advertise_addr or shown(addresses.proxy),
            admin_addr=self._config.admin.advertise_addr or shown(addresses.admin),
            endpoints=self.registry.endpoints(),
            sessions=sessions_of(one.told() for one in self.agents.registrations) if sessions else (),
        )

    def join(self, membership: Membership, nursery: trio.Nursery) -> None:
        """Serve what peers want, and send them what they serve."""
        directory, own, secret = membership
        # Other nodes are configured alike.
        spoken = self._config.cluster.tls if self._config.cluster.bind_addr else self._config.proxy.tls
        files = spoken.client
        tls = None
        if spoken.pairs:
            tls = Certificates(
                "links", files.files, files.client_context, chains=[files.cert], authorities=[files.root_cas]
            )
            self.certificates.append(tls)
        self.peers = Peers(
            directory,
            own.entry,
            secret,
            self.registry,
            self._clients.reactor,
            nursery,
            tls=tls,
            server_name=files.server_name,
            counted=self.metrics.forwarded,
            not_let_in=self.visitors.not_let_in,
        )
        self.peers.ports = {Port.PROXY: self.clients.take, Port.UPSTREAM: self.agents.take}
        self.metrics.peers = lambda: len({one.node for one in directory.peers} - {own.now.node})
        self.metrics.store = lambda: self.store
        self._clients.peers = self.agents.peers = self.peers
        self._legs.kept.tag = self.agents.kept.tag = self.peers.tag
        own.is_guarded = self.agents.guarded.__contains__
        self.registry.observe(own.changed)

    async def serve_link(self, connection: Connection) -> None:
        """A connection to that port."""
        assert self.peers is not None
        if await secured(connection, self._link_tls, log):
            await self.peers.links.serve(connection)

    def expiries(self) -> list[Expiry]:
        """Until when its certificates are good."""
        return [expiry for one in self.certificates for expiry in one.expiries()]

    def peers_status(self) -> list[NodeStatus]:
        """The other nodes, as the directory knows them."""
        return nodes_of(self.peers.directory.peers) if self.peers is not None else []

    async def rebalance(self) -> None:
        """Send agents to other nodes as long as there are too many here."""
        config = self._config.upstream.rebalance
        if self.peers is None or not config.threshold:
            return
        owed = 0.0  # of what the node has to shed, the share of this worker
        while True:
            await trio.sleep(REBALANCE_SECONDS)
            mine, here = self.peers.own, sum(not one.shed for one in self.agents.registrations)
            peers = [Part(one.node, one.workers, one.sessions) for one in self.peers.directory.peers]
            own, others = by_node(Part(mine.node, mine.workers, here), peers)
            count = excess(
                own, others, threshold=config.threshold, shed_rate=config.shed_rate, min_conns=config.min_conns
            )
            owed = owed + count * here / own if count else 0.0
            if owed >= 1 and self.not_ready is None and (asked := self.agents.shed(int(owed))):
                owed -= asked
                log.info("agents are asked to dial other nodes", count=asked, others=others)

    async def accept_agents(self, sockets: Sequence[socket.socket], nursery: trio.Nursery) -> None:
        with self.agents_door.open():
            await serve(sockets, self.agents.serve, nursery, self._room)

    async def accept_links(self, sockets: Sequence[socket.socket], nursery: trio.Nursery) -> None:
        """At the port that is for other nodes alone, if there is one."""
        with self.clients_door.open():
            await serve(sockets, self.serve_link, nursery, Room())

    async def accept_clients(
        self, sockets: Sequence[socket.socket], tcp: Sequence[Sequence[socket.socket]], nursery: trio.Nursery
    ) -> None:
        """`tcp`: the sockets of each of the TCP ports."""
        with self.clients_door.open():
            async with trio.open_nursery() as accepting:
                accepting.start_soon(serve, sockets, self.clients.serve, nursery, self._room)
                for port, listeners in zip(self._tcp_ports, tcp, strict=True):
                    accepting.start_soon(serve, listeners, port.serve, nursery, self._room)

    async def leave(self) -> None:
        """Send agents, then clients, elsewhere, and return when nothing is under way."""
        self.not_ready = "leaving"
        await self.agents_door.close()
        self.clients_door.let_go()
        with trio.move_on_after(MOVE_SECONDS):
            await self.agents.leave()
        if self.store is not None:
            await self.store.leave()
        await self.clients_door.close()
        self.clients.leave(carriers=False)
        if self.peers is not None:
            await self.peers.leave()
        await self._legs.wait_quiet()
        self.clients.leave(carriers=True)
        await self.clients.wait_quiet()
        for port in self._tcp_ports:
            await port.wait_quiet()


def certificates_of(config: ServerConfig) -> list[Certificates]:
    """Those of its ports: proxy, upstream, admin, and the one for other nodes."""
    return [
        Certificates(
            f"{port}.tls",
            files.files,
            partial(files.server_context, http2=http2),
            chains=files.chains,
            authorities=[files.client_cas],
        )
        for port, files, http2 in (
            ("proxy", config.proxy.tls, config.proxy.http2),
            ("upstream", config.upstream.tls, False),
            ("admin", config.admin.tls, False),
            ("cluster", config.cluster.tls, False),
        )
    ]


async def _open_tenants(tenants: Sequence[TenantConfig], nursery: trio.Nursery) -> dict[str, Tokens]:
    """What checks the tokens of each tenant's agents, or clients."""
    opened: dict[str, Tokens] = {}

    async def open_one(tenant: TenantConfig) -> None:
        opened[tenant.id] = await open_tokens_of(tenant.auth, nursery, tenant=tenant.id)

    async with trio.open_nursery() as opening:  # one that is slow to fetch its key set does not hold up the others
        for tenant in tenants:
            opening.start_soon(open_one, tenant)
    return opened


async def open_tokens_of(
    auth: AuthConfig, nursery: trio.Nursery, *, tenants: Collection[str] = (), tenant: str = ""
) -> Tokens:
    """What checks the tokens of a port. A key set that has to be fetched is kept fresh in `nursery`. For the tenants,
    see Verifier.
    """
    if not auth.enabled:
        return Tokens()
    keys = auth.keys()
    verifier = Verifier(
        hmac_secret_key=keys["hmac_secret_key"],
        rsa_public_key=keys["rsa_public_key"],
        ecdsa_public_key=keys["ecdsa_public_key"],
        audience=auth.audience,
        issuer=auth.issuer,
        disable_disconnect_on_expiry=auth.disable_disconnect_on_expiry,
        tenants=tenants,
        tenant=tenant,
    )
    if auth.files:
        renewed = Renewed("keys", auth.files, lambda: verifier.replace_configured(**auth.keys()))
        nursery.start_soon(watch, [renewed])
    if auth.revoked_file:
        verifier.replace_revoked(auth.revoked())
        revoked = Renewed("revoked_file", [auth.revoked_file], lambda: verifier.replace_revoked(auth.revoked()))
        nursery.start_soon(watch, [revoked], SOON_SECONDS)
    jwks = auth.jwks
    return await open_tokens(verifier, jwks.endpoint, nursery, cache_ttl=jwks.cache_ttl, fetch_seconds=jwks.timeout)


def nodes_of(entries: Iterable[Entry]) -> list[NodeStatus]:
    """The nodes that say this of themselves: one for all workers of a node."""
    by_node: dict[str, list[Entry]] = {}
    for entry in entries:
        by_node.setdefault(entry.node, []).append(entry)
    return [
        NodeStatus(
            id,
            said[0].proxy_addr,
            said[0].admin_addr,
            endpoints_of(said),
            workers={one.id: one.sessions for one in said if one.worker_of},
        )
        for id, said in by_node.items()
    ]


def sessions_of(told: Iterable[Session]) -> list[SessionStatus]:
    """Sessions of this node, in the words of its admin port."""
    found = []
    for one in told:
        said = msgspec.structs.asdict(one)
        said["endpoint"], tenant = split(one.endpoint)
        found.append(SessionStatus(**said, tenant=tenant))
    return found


def endpoints_of(entries: Iterable[Entry]) -> dict[str, int]:
    """All that are served there, by how many sessions."""
    endpoints: dict[str, int] = {}
    for entry in entries:
        for endpoint, count in entry.endpoints.items():
            endpoints[endpoint] = endpoints.get(endpoint, 0) + abs(count)
    return endpoints


def _public_urls(public_url: str, hosts: HostPattern, tenants: Collection[str]) -> dict[str, str]:
    """The public URL for each tenant whose hosts are below one name, where clients name it by their Host."""
    urls = {}
    for tenant in tenants if public_url else ():
        if tenant != tenant.lower():
            continue  # browsers write hosts in lower case
        with suppress(ValueError):  # its id is no label, so no Host names it
            urls[tenant] = str(PublicURL.parse(public_url).at(hosts.wildcard(tenant)))
    return urls


def address_of_sockets(sockets: Sequence[socket.socket]) -> Address:
    host, port, *_ = sockets[0].getsockname()
    return host, port


def names_of(address: str) -> list[str]:
    return [split_address(address)[0]] if address else []


def shown(address: Address) -> str:
    return join_address(*address)
