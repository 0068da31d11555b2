"""A UDP listener: each stream is a forward's tunnel, and each flow in it has a socket of its own at the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import trio

from engine.admin.metrics import AgentMetrics
from engine.agent.service import Service
from engine.agent.tcp import Waiting
from engine.config import UdpConfig
from engine.log import get_logger
from engine.loop.backlog import Backlog
from engine.loop.listen import EXHAUSTED, join_address
from engine.loop.reactor import Reactor
from engine.loop.udp import Name, Place, UdpSocket, connect_udp, resolve_udp
from engine.session.stream import Stream
from engine.tunnel import datagrams
from engine.tunnel.datagrams import Flows, Tunnel
from engine.wire.datagrams import DatagramError

RESOLVED_SECONDS: Final = 60.0  # for which a service's addresses are believed in
REPEAT_SECONDS: Final = 60.0  # between two lines about a service that nobody listens for
WRONG: Final = b"this is an endpoint of UDP; expected `trioduct forward udp`\n"

log = get_logger("proxy.udp")
access_log = get_logger("proxy.udp.access")


class _Flow(datagrams.Flow):
    """One of a tunnel's, and its socket, which is connected to the service."""

    __slots__ = ("heard", "name", "place", "sock", "tunnel")

    def __init__(self, id: int, now: float, tunnel: _Tunnel) -> None:
        super().__init__(id, now)
        self.tunnel = tunnel
        self.name: Name | None = None  # it is the socket's
        self.place: Place | None = None
        self.sock: UdpSocket[_Flow] | None = None
        self.heard = False  # the service has answered


class UdpUpstream:
    """Joins streams to the service's datagrams. `access_level` is that of the lines which say that a flow has ended."""

    def __init__(
        self,
        service: Service,
        endpoint: str,
        reactor: Reactor,
        metrics: AgentMetrics,
        nursery: trio.Nursery,
        config: UdpConfig,
        access_level: str = "debug",
    ) -> None:
        self.endpoint = endpoint
        self.service = service
        self.max_queue = config.max_queue
        self.reactor = reactor
        self.flows: Flows[_Flow] = Flows(reactor, config.max_flows, config.idle, self.end)
        self.tunnels: set[_Tunnel] = set()
        self.refusals = 0
        self._nursery = nursery
        self._access_level = access_level
        self._places: Sequence[Place] = ()  # where the service may be, the first that is to be tried first
        self._resolved_at = 0.0
        self._refused_at = -REPEAT_SECONDS
        self._is_leaving = False
        metrics.udp.append(self)

    def close(self) -> None:
        """End the tunnels, and take no more: their flows go on by another agent, if there is one."""
        self._is_leaving = True
        for tunnel in tuple(self.tunnels):
            tunnel.close()

    def on_stream(self, stream: Stream) -> None:
        if self._is_leaving:
            stream.abort()
            return
        waiting = Waiting(stream)
        self._nursery.start_soon(self.reactor.supervise, "udp stream", self._serve, stream, waiting, name="udp stream")
        self.reactor.hand_over()

    async def _serve(self, stream: Stream, waiting: Waiting) -> None:
        if not self._places:
            await self._resolve()
        if not self._places:
            stream.abort()
        if waiting.is_lost or stream.gone:
            return
        tunnel = _Tunnel(self, stream)
        self.tunnels.add(tunnel)
        if waiting.has_ended:
            stream.receiver.ended()
        stream.resume()
        try:
            await tunnel.ended.wait()
        finally:
            tunnel.close()

    async def _resolve(self) -> None:
        """Look up where the service is; what was known stays if that fails."""
        self._resolved_at = self.reactor.now
        try:
            with trio.fail_after(self.service.timeout):
                self._places = await resolve_udp(self.service.host, self.service.port)
        except (OSError, trio.TooSlowError) as error:
            text = "timeout" if isinstance(error, trio.TooSlowError) else str(error)
            where = {"host": self.service.host, "port": self.service.port}
            log.warning("upstream unreachable", endpoint_id=self.endpoint, **where, error=text)

    def connect(self, flow: _Flow) -> None:
        """Give `flow` a socket, if there are descriptors: those who were idle for longest make room."""
        if self.reactor.now - self._resolved_at > RESOLVED_SECONDS:
            self._resolved_at = self.reactor.now  # by one task
            self._nursery.start_soon(self.reactor.supervise, "udp service", self._resolve)
            self.reactor.hand_over()
        place = self._places[0]
        while True:
            try:
                sock = connect_udp(place)
                break
            except OSError as error:
                if error.errno not in EXHAUSTED or not self.flows.make_room():
                    self._tell_refused(error)
                    return
        flow.place = place
        flow.sock = UdpSocket(sock, _Service(flow), self.reactor, self.max_queue)

    def refused(self, flow: _Flow, error: OSError) -> None:
        """Nobody listens at the service's address, or it is not reached. That ends no flow: it may be restarting."""
        self.refusals += 1
        if not flow.heard and flow.place == self._places[0] and len(self._places) > 1:
            self._places = [*self._places[1:], self._places[0]]
        self._tell_refused(error)
        if not flow.heard and flow.sock is not None and flow.place != self._places[0]:
            flow.sock.close()
            flow.sock = None  # the next datagram tries another address

    def _tell_refused(self, error: OSError) -> None:
        if self.reactor.now - self._refused_at >= REPEAT_SECONDS:
            self._refused_at = self.reactor.now
            address = join_address(self.service.host, self.service.port)
            log.warning("the service takes no datagrams", endpoint_id=self.endpoint, addr=address, error=str(error))

    def end(self, flow: _Flow, why: str) -> None:
        del flow.tunnel.flows[flow.id]
        flow.tunnel.backlog.forget(flow)
        if flow.sock is not None:
            flow.sock.close()
        self.flows.leave(flow)
        shown = flow.shown(self.reactor.now)
        access_log.log(self._access_level, "flow ended", endpoint_id=self.endpoint, reason=why, **shown)


class _Service:
    """What comes back for a flow."""

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def datagram(self, sock: UdpSocket[Any], data: memoryview, name: Name) -> None:
        flow = self._flow
        flow.heard = True
        flow.tunnel.upstream.flows.passed_out(flow, len(data))
        flow.tunnel.send(flow, data)

    def refused(self, sock: UdpSocket[Any], error: OSError) -> None:
        self._flow.tunnel.upstream.refused(self._flow, error)

    def break_off(self, error: Exception) -> None:
        self._flow.tunnel.upstream.end(self._flow, "internal error")


class _Tunnel:
    """A forward's stream: its flows by their ids."""

    def __init__(self, upstream: UdpUpstream, stream: Stream) -> None:
        self.upstream = upstream
        self.ended = trio.Event()
        self.flows: dict[int, _Flow] = {}
        self.backlog: Backlog[_Flow] = Backlog(upstream.reactor.memory, upstream.max_queue)
        self._tunnel: Tunnel[_Flow] = Tunnel(stream, self, upstream.reactor, self.backlog, begins=False, farewell=WRONG)
        self.send = self._tunnel.send

    def arrived(self, id: int, data: memoryview | None) -> None:
        flow, upstream = self.flows.get(id), self.upstream
        if data is None:
            if flow is not None:
                upstream.end(flow, "ended by the forward")
            return
        if flow is None:
            flow = _Flow(id, upstream.reactor.now, self)
            upstream.flows.enter(flow)
            self.flows[id] = flow
        if flow.sock is None:
            upstream.connect(flow)
        upstream.flows.passed_in(flow, len(data))
        if flow.sock is not None:
            flow.sock.send(flow, data)
        else:
            flow.dropped += 1

    def greeted(self) -> None: ...

    def over(self, error: Exception | None) -> None:
        if isinstance(error, DatagramError):
            text = f"no `forward udp`, or not of this version: {error}"
            log.warning("cannot serve a client of UDP", endpoint_id=self.upstream.endpoint, error=text)
        self._end_flows("lost" if error is not None else "ended by the forward")

    def close(self) -> None:
        self._tunnel.close()
        self._end_flows("the agent is leaving")

    def _end_flows(self, why: str) -> None:
        self.upstream.tunnels.discard(self)
        self.ended.set()
        self.upstream.reactor.hand_over()
        for flow in tuple(self.flows.values()):
            self.upstream.end(flow, why)
        self.backlog.close()
