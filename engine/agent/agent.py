"""The agent role: one uplink per listener, the services behind them, and the order in which it leaves.

Shutdown (SIGTERM): every session says go-away, the streams under way finish within the grace period, and only then
are the sessions closed; a node that heard the go-away sends new requests to whoever else serves the endpoint. A
second signal ends it at once.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from secrets import token_hex, token_urlsafe
from shlex import quote
from typing import NamedTuple

import trio

from engine.admin.metrics import AgentMetrics
from engine.agent.application import Application, open_applications
from engine.agent.health import Health, figures
from engine.agent.http import HttpUpstream
from engine.agent.onward import Rewriting
from engine.agent.service import Service
from engine.agent.tcp import TcpUpstream
from engine.agent.token import AgentToken
from engine.agent.traced import Spans
from engine.agent.udp import UdpUpstream
from engine.agent.uplink import HINT, Uplink
from engine.agent.visitors import SaidOfVisitors
from engine.carriers.carrier import Kind
from engine.carriers.remembered import Remembered
from engine.config import AgentConfig, ClientTLS, ListenerConfig
from engine.config.pages import open_pages
from engine.errors import Unreachable
from engine.log import INFO, get_logger, is_readable, show
from engine.loop.certificates import Certificates, warn_of_expiry
from engine.loop.connection import address_of
from engine.loop.dial import Server
from engine.loop.leaving import NEVER, until_signal
from engine.loop.listen import join_address, open_listeners
from engine.loop.reactor import Reactor
from engine.loop.renewed import watch
from engine.loop.run import open_reactor
from engine.session.session import Session
from engine.tracing.tracer import Tracer
from engine.wire import agents, piko

PARALLEL_DIALS = 32  # proxies count connections, and some take too many at once for an attack

FAREWELL_SECONDS = 1.0  # for the sessions' last words to leave

log = get_logger("client")

Upstream = HttpUpstream | TcpUpstream | UdpUpstream


async def run_agent(
    config: AgentConfig,
    *,
    alone: bool = False,
    signals: AsyncIterator[int] = NEVER,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve every listener until a signal has drained the agent, or until cancelled.

    Started when all are registered. Raises Refused when a node will not have one of them, and Unreachable when the
    first registration did not succeed within `connect.timeout`.

    `alone`: nothing else runs in this Trio run. Each of `signals` tells it to leave, the second at once.
    """
    connect = config.connect
    tls = _certificates("connect.tls", connect.tls, connect.client_context)
    server = Server(connect.url, tls, connect.tls.server_name or None, connect.router())
    metrics, token = AgentMetrics(), await AgentToken.open(connect)
    remembered = Remembered(connect.memory, connect.way()) if connect.memory else None
    async with (
        open_applications(config.listeners, config.grace_period) as applications,
        open_reactor(alone=alone) as reactor,
        trio.open_nursery() as nursery,
    ):
        if config.server.enabled:
            await _serve_metrics(config, metrics, nursery)
        dials = trio.CapacityLimiter(PARALLEL_DIALS)
        said = [SaidOfVisitors(one) if one.said_of_visitors() else None for one in config.listeners]
        kinds, on_connect = tuple(map(Kind, connect.carriers)), partial(metrics.connected, "node")
        tracer = _tracer(config, metrics, reactor, nursery) if config.tracing.url else None
        upstreams = [
            _upstream(listener, application, reactor, metrics, nursery, tracer)
            for listener, application in zip(config.listeners, applications, strict=True)
        ]
        if config.inspect.bind_addr:
            await _serve_inspector(config, upstreams, reactor, nursery)
        uplinks = [
            Uplink(
                listener.endpoint_id,
                server,
                upstream.on_stream,
                token=token,
                tenant=connect.tenant_id,
                resume_seconds=connect.resume,
                kinds=kinds,
                remembered=remembered,
                said_of_visitors=visitors,
                asks_for_clients=listener.proxy_version > 0,
                claims=listener.domains,
                agent=agents.new_name(),
                weight=listener.weight,
                dials=dials,
                on_connect=on_connect,
                on_reconnect=metrics.reconnected,
            )
            for listener, upstream, visitors in zip(config.listeners, upstreams, said, strict=True)
        ]
        healths = [
            Health(listener.health, upstream.service, listener.endpoint_id) if listener.health.check != "off" else None
            for listener, upstream in zip(config.listeners, upstreams, strict=True)
        ]
        metrics.health = partial(figures, [health for health in healths if health is not None])
        metrics.expiries = tls.expiries
        metrics.internal_errors = reactor.internal_errors
        metrics.ended = lambda: {"memory": reactor.memory.ended}
        metrics.sessions = lambda: [
            AgentSession(uplink.endpoint, session) for uplink in uplinks for session in uplink.sessions
        ]
        nursery.start_soon(warn_of_expiry, [tls])
        nursery.start_soon(token.keep, partial(_renew, uplinks))
        for uplink, visitors in zip(uplinks, said, strict=True):
            if visitors is not None:
                nursery.start_soon(visitors.keep, uplink.renew)
        nursery.start_soon(_start, applications, upstreams, uplinks, healths, config, nursery, task_status)
        await anext(signals)
        log.info("shutting down", grace_seconds=config.grace_period)
        for upstream in upstreams:
            if isinstance(upstream, UdpUpstream):
                upstream.close()  # nothing of it would end by itself
        left = await until_signal(partial(_leave, uplinks), config.grace_period, signals)
        for end in (*uplinks, *upstreams):
            end.close()
        for application in applications:
            if application is not None and not left:
                application.stop_seconds = 0
        if left:
            with trio.move_on_after(FAREWELL_SECONDS):
                for uplink in uplinks:
                    await uplink.wait_closed()
        nursery.cancel_scope.cancel()
    log.info("agent stopped")


class AgentSession(NamedTuple):
    """A session as the metrics see it."""

    endpoint: str
    session: Session


async def _start(
    applications: list[Application | None],
    upstreams: list[Upstream],
    uplinks: list[Uplink],
    healths: list[Health | None],
    config: AgentConfig,
    nursery: trio.Nursery,
    task_status: trio.TaskStatus[None],
) -> None:
    """Start the applications, and offer nothing before they serve, or are well where that is asked."""
    for application, upstream in zip(applications, upstreams, strict=True):
        if application is not None:
            await nursery.start(application.run, upstream.close)
    async with trio.open_nursery() as checking:
        for health, uplink in zip(healths, uplinks, strict=True):
            if health is not None:
                checking.start_soon(nursery.start, health.run, uplink.offer)
    await _connect_all(uplinks, config, nursery, task_status)


async def _connect_all(
    uplinks: list[Uplink], config: AgentConfig, nursery: trio.Nursery, task_status: trio.TaskStatus[None]
) -> None:
    """Start every uplink, and say so when all are registered."""
    within_seconds = config.connect.timeout
    with trio.move_on_after(within_seconds) as first_time:
        async with trio.open_nursery() as starting:
            for uplink in uplinks:
                starting.start_soon(nursery.start, uplink.run, name=f"first registration {uplink.endpoint}")
    if first_time.cancelled_caught:
        errors = [uplink.error for uplink in uplinks if uplink.error is not None]
        why = errors[0] if errors else "no answer"
        raise Unreachable(f"not connected within {within_seconds:g} s: {why}; {HINT}")
    if log.threshold <= INFO and (ways := _ways_in(uplinks, config.listeners)):
        show("", "Clients reach", *(f"  {way}" for way in ways), "")
    task_status.started()


def _ways_in(uplinks: list[Uplink], listeners: list[ListenerConfig]) -> list[str]:
    """For each endpoint how clients reach it, as far as the node has told: a URL, or a command."""
    ways: dict[str, str] = {}
    for uplink, listener in zip(uplinks, listeners, strict=True):
        if uplink.reach is None:
            continue
        url = uplink.reach.url
        if not listener.speaks_http:
            way = f"trioduct forward {listener.protocol} PORT {quote(uplink.endpoint)} --connect.url {quote(url)}"
        elif uplink.reach.by_field:
            way = f"curl -H {quote(f'{piko.ENDPOINT.decode()}: {uplink.endpoint}')} {quote(url)}"
        else:
            way = url
        ways[uplink.endpoint] = way
    width = max(map(len, ways), default=0)
    return [f"{endpoint:{width}}  {way}" for endpoint, way in ways.items()]


def _renew(uplinks: list[Uplink]) -> None:
    for uplink in uplinks:
        uplink.renew()


async def _leave(uplinks: list[Uplink]) -> None:
    async with trio.open_nursery() as nursery:
        for uplink in uplinks:
            nursery.start_soon(uplink.leave)


def _upstream(
    listener: ListenerConfig,
    application: Application | None,
    reactor: Reactor,
    metrics: AgentMetrics,
    nursery: trio.Nursery,
    tracer: Tracer | None,
) -> Upstream:
    target = listener.target()
    http = listener.http_client
    speaks_http2 = listener.protocol == "h2"
    service = Service(
        host=target.host,
        port=target.port,
        unix="" if application is None else application.path,
        path=target.path,
        timeout=listener.timeout,
        tls=_certificates("listeners.tls", listener.tls, partial(listener.tls.client_context, http2=speaks_http2))
        if target.scheme == "https"
        else None,
        server_name=listener.tls.server_name or None,
        max_idle=http.max_idle_conns,
        idle_seconds=http.idle_conn_timeout,
        keep_alive_seconds=http.keep_alive_timeout,
        proxy_protocol=listener.proxy_version,
    )
    chosen = listener.access_log
    if not listener.speaks_http:
        level = "debug" if chosen.disable else chosen.level
        of = (service, listener.endpoint_id, reactor, metrics, nursery)
        return UdpUpstream(*of, listener.udp, level) if listener.protocol == "udp" else TcpUpstream(*of, level)
    access_log = chosen.open("proxy.http.access")
    rewriting = Rewriting.of(listener.rewrite)
    told = (service, listener.endpoint_id, reactor, metrics, nursery, access_log, rewriting)
    upstream: HttpUpstream
    if speaks_http2:
        from engine.agent.http2 import Http2Upstream  # h2: 40 ms to import, which few agents need

        upstream = Http2Upstream(*told)
    else:
        upstream = HttpUpstream(*told)
    if tracer is not None:
        upstream.spans = Spans(service, listener.endpoint_id, reactor, tracer, version="2" if speaks_http2 else "1.1")
    if listener.error_pages:
        upstream.pages, read = open_pages("listeners", listener.error_pages)
        nursery.start_soon(watch, [read])
    return upstream


def _tracer(config: AgentConfig, metrics: AgentMetrics, reactor: Reactor, nursery: trio.Nursery) -> Tracer:
    """What traces requests, and exports the spans in `nursery`."""
    tracer, exporter = config.tracing.open(reactor.now, service="trioduct-agent", instance=token_hex(8))
    metrics.spans = exporter
    nursery.start_soon(exporter.run)
    return tracer


def _certificates(name: str, files: ClientTLS, make: Callable[[], ssl.SSLContext | None]) -> Certificates:
    return Certificates(name, files.files, make, chains=[files.cert], authorities=[files.root_cas])


async def _serve_metrics(config: AgentConfig, metrics: AgentMetrics, nursery: trio.Nursery) -> None:
    from engine.admin.app import agent_app  # what serves a port takes 0.3 s to import, and few agents have one
    from engine.admin.serve import serve_admin

    sockets = open_listeners(config.server.bind_addr)
    await nursery.start(
        serve_admin, sockets, agent_app(metrics, not_ready=partial(_not_ready, metrics), hosts=config.server.hosts)
    )


def _not_ready(metrics: AgentMetrics) -> str | None:
    ill = [f"{endpoint} at {service}" for endpoint, service, is_well, _ in metrics.health() if not is_well]
    return f"unhealthy, so not offered: {', '.join(ill)}" if ill else None


async def _serve_inspector(
    config: AgentConfig, upstreams: list[Upstream], reactor: Reactor, nursery: trio.Nursery
) -> None:
    """Record what passes the HTTP listeners, and show it."""
    from engine.admin.serve import serve_admin
    from engine.inspector.app import inspector_app
    from engine.inspector.record import Source
    from engine.inspector.recorder import Recorder
    from engine.inspector.replay import Replays

    sockets = open_listeners(config.inspect.bind_addr)
    recorder = Recorder()
    for upstream in upstreams:
        if isinstance(upstream, HttpUpstream):
            source = Source(upstream.endpoint, str(upstream.service), upstream)
            recorder.sources.append(source)
            upstream.watch = partial(recorder.begin, source)
    token = config.inspect.token or token_urlsafe()
    await nursery.start(serve_admin, sockets, inspector_app(recorder, Replays(recorder, reactor), token))
    addr = join_address(*address_of(sockets[0].getsockname()))
    log.info("inspector is served", addr=addr)
    if is_readable():
        show("", "Inspect what passes", f"  http://{addr}/{token}/", "")
    elif not config.inspect.token:
        log.warning("nobody is shown the inspector's URL, for stderr is no terminal; set inspect.token", addr=addr)
