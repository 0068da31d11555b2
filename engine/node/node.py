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
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import trio

from engine.access_log import AccessLog, HeaderFilter
from engine.admin.app import NodeStatus, SessionStatus, node_app
from engine.admin.metrics import NodeMetrics
from engine.admin.serve import serve_admin
from engine.auth.key_set import Tokens, open_tokens
from engine.auth.verifier import Verifier
from engine.config import AccessLogConfig, AuthConfig, ServerConfig
from engine.gateway.clocks import Timeouts
from engine.limits import Traffic, Visits
from engine.log import get_logger
from engine.loop.certificates import SOON_SECONDS, Certificates, Renewed, watch
from engine.loop.connection import Address
from engine.loop.leaving import stop_signals, until_signal
from engine.loop.listen import Room, open_listeners, serve, split_address
from engine.loop.reactor import Reactor
from engine.loop.run import open_reactor
from engine.node.agent_port import AgentPort
from engine.node.client import Clients
from engine.node.client_port import ClientPort
from engine.node.kept import Kept
from engine.node.legs import Legs
from engine.node.registration import Registration
from engine.node.tcp_port import TCPPort
from engine.node.trust import Trust
from engine.routing.registry import LocalRegistry, Registry

PATIENCE_SECONDS = 2.0  # see Clients
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
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until SIGTERM or SIGINT has drained it, or until cancelled.

    Raises OSError for a port in use and ConfigError for certificates and keys that do not fit.

    `alone`: nothing else runs in this Trio run.
    """
    with ExitStack() as stack:
        proxy, upstream, admin = (
            [stack.enter_context(sock) for sock in open_listeners(address)]
            for address in (config.proxy.bind_addr, config.upstream.bind_addr, config.admin.bind_addr)
        )
        tcp_ports = config.proxy.tcp_ports()
        tcp = [[stack.enter_context(sock) for sock in open_listeners(address)] for address, _ in tcp_ports]
        async with open_reactor(alone=alone) as reactor, trio.open_nursery() as nursery:
            node = Node(
                config,
                reactor,
                await _open_tokens(config.proxy.auth, nursery),
                await _open_tokens(config.upstream.auth, nursery),
                nursery,
            )
            addresses = Addresses(_address(proxy), _address(upstream), _address(admin), tuple(map(_address, tcp)))
            app = node_app(
                node.metrics,
                not_ready=lambda: node.not_ready,
                local=partial(node.status, addresses),
                verifier=(await _open_tokens(config.admin.auth, nursery)).verifier,
                hosts=[*config.admin.hosts, *_named(config.admin.advertise_addr)],
            )
            await nursery.start(partial(serve_admin, admin, app, tls=lambda: node.admin_tls.context))
            nursery.start_soon(watch, node.certificates)
            nursery.start_soon(node.accept_agents, upstream, nursery)
            nursery.start_soon(node.accept_clients, proxy, tcp, nursery)
            node.not_ready = None
            log.info(
                "node started",
                node_id=node.id,
                proxy=_shown(addresses.proxy),
                upstream=_shown(addresses.upstream),
                admin=_shown(addresses.admin),
            )
            for (_, endpoint), address in zip(tcp_ports, addresses.tcp, strict=True):
                log.info("tcp port open", addr=_shown(address), endpoint_id=endpoint)
            with trio.open_signal_receiver(*stop_signals()) as signals:
                task_status.started(addresses)
                await anext(signals)
                log.info("shutting down", grace_seconds=config.grace_period)
                await until_signal(node.leave, config.grace_period, signals)
            node.agents.close()
            nursery.cancel_scope.cancel()
    log.info("node stopped")


class Node:
    """The public ports and what they share."""

    def __init__(
        self,
        config: ServerConfig,
        reactor: Reactor,
        proxy_tokens: Tokens,
        upstream_tokens: Tokens,
        sessions: trio.Nursery,
    ) -> None:
        http = config.proxy.http
        self.id = config.cluster.choose_node_id()
        self.registry: Registry[Registration] = LocalRegistry(partial(reactor.count, "registry"))
        self.metrics = NodeMetrics()
        self.not_ready: str | None = "starting"
        tls, upstream_tls, self.admin_tls = (
            Certificates(f"{port}.tls", (files.cert, files.key, files.client_cas), files.server_context)
            for port, files in (
                ("proxy", config.proxy.tls),
                ("upstream", config.upstream.tls),
                ("admin", config.admin.tls),
            )
        )
        self.certificates = (tls, upstream_tls, self.admin_tls)
        kept = Kept(config.proxy.resume)
        legs = Legs(self.registry, reactor, self.metrics, verifier=proxy_tokens.verifier, kept=kept, sessions=sessions)
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
            max_head=http.head_limit,
            verifier=proxy_tokens.verifier,
            trust=Trust(config.proxy.trusted_proxies),
            proxy_protocol=config.proxy.proxy_protocol,
            allowed_origins=frozenset(config.proxy.allowed_origins),
            access_log=_access_log(config.proxy.access_log),
            # What ends TLS in front of a node can be told by nobody but the operator.
            secure=tls.context is not None or config.proxy.public_url.startswith("https:"),
            patient_until=reactor.now + PATIENCE_SECONDS,
            visits=Visits(config.proxy.limits.connections, config.proxy.limits.connection_rate),
            traffic=Traffic(config.proxy.limits.requests, config.proxy.limits.bytes) or None,
            legs=legs,
        )
        if proxy_tokens.verifier is not None:
            proxy_tokens.verifier.on_revoked = self._clients.end_revoked
        self.clients = ClientPort(self._clients, tls)
        self.agents = AgentPort(
            self.registry,
            reactor,
            self.metrics,
            verifier=upstream_tokens.verifier,
            newer_keys=upstream_tokens.newer_keys,
            tls=upstream_tls,
            public_url=config.proxy.public_url,
            limits=config.upstream.limits,
            exclusive=config.upstream.sharing == "exclusive",
            resume_seconds=config.upstream.resume,
            sessions=sessions,
        )
        self.metrics.sessions = lambda: self.agents.registrations
        self.metrics.endpoints = self.registry.endpoints
        self.metrics.carriers_refused = lambda: self.agents.carriers_refused + self._clients.host.refused
        self.metrics.tcp_connections = lambda: self._clients.tcp_connections
        self._config = config
        log_of = config.proxy.access_log
        access_level = None if log_of.disable else log_of.level
        self._tcp_ports = [TCPPort(endpoint, self._clients, access_level) for _, endpoint in config.proxy.tcp_ports()]
        self._room = Room()
        self.metrics.internal_errors = reactor.internal_errors
        self.metrics.ended = lambda: {
            "memory": reactor.memory.ended,
            "room": self._room.made,
            "aborts": self._clients.aborts.banned,
        }
        traffic = self._clients.traffic
        self.metrics.limited = lambda: {
            "proxy": {**self._clients.visits.refused, **(traffic.refused if traffic is not None else {})},
            "upstream": self.agents.refused,
        }
        self._accepting_agents = trio.CancelScope()
        self._accepting_clients = trio.CancelScope()

    def status(self, addresses: Addresses) -> NodeStatus:
        """This node as others may see it."""
        return NodeStatus(
            id=self.id,
            proxy_addr=self._config.proxy.advertise_addr or _shown(addresses.proxy),
            admin_addr=self._config.admin.advertise_addr or _shown(addresses.admin),
            endpoints=self.registry.endpoints(),
            sessions=[
                SessionStatus(one.endpoint, one.principal, one.client, self._clients.reactor.now - one.since)
                for one in self.agents.registrations
            ],
        )

    async def accept_agents(self, sockets: Sequence[socket.socket], nursery: trio.Nursery) -> None:
        with self._accepting_agents:
            await serve(sockets, self.agents.serve, nursery, self._room)

    async def accept_clients(
        self, sockets: Sequence[socket.socket], tcp: Sequence[Sequence[socket.socket]], nursery: trio.Nursery
    ) -> None:
        """`tcp`: the sockets of each of the TCP ports."""
        with self._accepting_clients:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(serve, sockets, self.clients.serve, nursery, self._room)
                for port, listeners in zip(self._tcp_ports, tcp, strict=True):
                    accepting.start_soon(serve, listeners, port.serve, nursery, self._room)

    async def leave(self) -> None:
        """Send agents, then clients, elsewhere, and return when nothing is under way."""
        self.not_ready = "leaving"
        self._accepting_agents.cancel()
        with trio.move_on_after(MOVE_SECONDS):
            await self.agents.leave()
        self._accepting_clients.cancel()
        self.clients.leave()
        await self.clients.wait_quiet()
        for port in self._tcp_ports:
            await port.wait_quiet()


async def _open_tokens(auth: AuthConfig, nursery: trio.Nursery) -> Tokens:
    """What checks the tokens of a port. A key set that has to be fetched is kept fresh in `nursery`."""
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


def _access_log(config: AccessLogConfig) -> AccessLog | None:
    if config.disable:
        return None
    request, response = config.request_headers, config.response_headers
    return AccessLog(
        "proxy.access",
        level=config.level,
        request_headers=HeaderFilter(request.allow_list, request.block_list),
        response_headers=HeaderFilter(response.allow_list, response.block_list),
    )


def _address(sockets: Sequence[socket.socket]) -> Address:
    host, port, *_ = sockets[0].getsockname()
    return host, port


def _named(address: str) -> list[str]:
    return [split_address(address)[0]] if address else []


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
