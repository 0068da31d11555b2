"""A local UDP port: the flows of its clients, and the tunnel that carries all of them to an endpoint.

The first datagram opens the tunnel; with the last flow it ends. While there is none, datagrams wait, as while it is
slow. A tunnel that is lost takes no flow with it: the next one goes on with them.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import trio

from engine.carriers.carrier import Carrier
from engine.carriers.ladder import Answer
from engine.config import UdpConfig
from engine.errors import Refused, Unreachable
from engine.forward.way import Done, Way
from engine.log import get_logger
from engine.loop.backlog import Backlog
from engine.loop.backoff import Backoff
from engine.loop.connection import address_of
from engine.loop.duplex import Duplex
from engine.loop.listen import join_address
from engine.loop.reactor import Reactor
from engine.loop.udp import Name, UdpSocket
from engine.tunnel import datagrams
from engine.tunnel.datagrams import Flows, Tunnel
from engine.wire.datagrams import MAX_FLOW, DatagramError

log = get_logger("forwarder")


class _Flow(datagrams.Flow):
    """A client's, by its address at one of our sockets."""

    __slots__ = ("name", "sock")

    def __init__(self, id: int, now: float, sock: UdpSocket[Any], name: Name) -> None:
        super().__init__(id, now)
        self.sock = sock
        self.name: Name | None = name


class _State(Enum):
    REST = auto()  # there is no tunnel, and none is wanted
    WANTED = auto()
    DIALLING = auto()
    OPEN = auto()  # there is one; it may still wait for the other end's first line


class UdpPort:
    """The port that `sockets` are bound to."""

    def __init__(self, way: Way, config: UdpConfig, sockets: Sequence[socket.socket], reactor: Reactor) -> None:
        self._way = way
        self._reactor = reactor
        self._flows = Flows(reactor, config.max_flows, config.idle, self._end)
        self._by_name: dict[Name, _Flow] = {}
        self._by_id: dict[int, _Flow] = {}
        self._last_id = 0
        self._backlog: Backlog[_Flow] = Backlog(reactor.memory, config.max_queue)
        self._sockets: list[UdpSocket[_Flow]] = [UdpSocket(one, self, reactor, config.max_queue) for one in sockets]
        self._tunnel: Tunnel[_Flow] | None = None
        self._state = _State.REST
        self._changed = trio.Event()
        self._backoff = Backoff()
        self._failed = False  # the last tunnel, or attempt, before anybody greeted us

    # -- the local side

    def datagram(self, sock: UdpSocket[Any], data: memoryview, name: Name) -> None:
        """A client's, for the service."""
        flow = self._by_name.get(name)
        if flow is None:
            flow = self._begin(sock, name)
        self._flows.passed_in(flow, len(data))
        if self._tunnel is not None:
            self._tunnel.send(flow, data)
        else:
            self._backlog.add(flow, data)
            if self._state is _State.REST:
                self._move(_State.WANTED)

    def refused(self, sock: UdpSocket[Any], error: OSError) -> None:
        """The kernel says so of an answer: its client is not reached, which ends nothing."""
        log.debug("cannot send to a client", endpoint_id=self._way.endpoint, error=str(error))

    def break_off(self, error: Exception) -> None:
        """A datagram could not be handled; the port goes on."""

    def _begin(self, sock: UdpSocket[Any], name: Name) -> _Flow:
        self._last_id = self._last_id % MAX_FLOW + 1
        while self._last_id in self._by_id:
            self._last_id = self._last_id % MAX_FLOW + 1
        flow = _Flow(self._last_id, self._reactor.now, sock, name)
        self._flows.enter(flow)
        self._by_name[name] = self._by_id[flow.id] = flow
        return flow

    def _end(self, flow: _Flow, why: str) -> None:
        assert flow.name is not None
        del self._by_name[flow.name], self._by_id[flow.id]
        self._backlog.forget(flow)
        flow.sock.backlog.forget(flow)
        self._flows.leave(flow)
        if self._tunnel is not None:
            self._tunnel.say_over(flow)
        log.log(
            "info" if flow.dropped else "debug",
            "flow ended",
            endpoint_id=self._way.endpoint,
            client=join_address(*address_of(flow.name)),
            reason=why,
            **flow.shown(self._reactor.now),
        )
        if not self._flows:
            self._close_tunnel()

    # -- the tunnel's side

    def arrived(self, id: int, data: memoryview | None) -> None:
        """A datagram of the service's."""
        flow = self._by_id.get(id)
        if flow is None or data is None:  # its client has been idle meanwhile
            return
        self._flows.passed_out(flow, len(data))
        flow.sock.send(flow, data)

    def greeted(self) -> None:
        self._failed = False
        self._backoff.settled()
        if not self._flows:
            self._close_tunnel()

    def over(self, error: Exception | None) -> None:
        was_greeted = not self._failed
        self._forget_tunnel()
        if isinstance(error, DatagramError):
            self._fail(f"no UDP endpoint (`agent udp`), or not of this version: {error}")
        elif error is not None and not was_greeted:
            self._fail(str(error))
        elif error is not None:
            log.warning("tunnel lost", endpoint_id=self._way.endpoint, error=str(error))
        if self._backlog:
            self._move(_State.WANTED)

    def _fail(self, error: str) -> None:
        """What waits would come too late."""
        self._backlog.clear()
        log.error("cannot reach the endpoint", endpoint_id=self._way.endpoint, error=error)

    def _close_tunnel(self) -> None:
        if self._tunnel is not None:
            self._tunnel.close()
            self._forget_tunnel()

    def _forget_tunnel(self) -> None:
        self._tunnel = None
        self._move(_State.REST)

    def _move(self, state: _State) -> None:
        self._state = state
        self._changed.set()
        self._changed = trio.Event()
        self._reactor.hand_over()

    async def run(self, tunnels: trio.Nursery) -> None:
        """Serve until cancelled. Tunnels are tasks in `tunnels`: the last one closes behind the port."""
        try:
            while True:
                while self._state is not _State.WANTED:
                    await self._changed.wait()
                if self._failed:
                    await trio.sleep(self._backoff.next())
                self._failed = True  # until somebody greets us
                self._move(_State.DIALLING)
                try:
                    carrier, answer = await self._way.open()
                except (Refused, Unreachable) as error:
                    self._fail(str(error))
                    self._move(_State.REST)
                else:
                    tunnels.start_soon(self._reactor.supervise, "udp tunnel", self._carry, carrier, answer)
        finally:
            self._close()

    async def _carry(self, carrier: Carrier, answer: Answer) -> None:
        """A tunnel, from its first line until all of it has left."""
        if self._state is not _State.DIALLING:  # the port has been closed
            carrier.abort()
            return
        tunnel: Tunnel[_Flow] | None = None
        done: Done | None = None

        def join(duplex: Duplex, when_done: Done) -> None:
            nonlocal tunnel, done
            done = when_done
            tunnel = self._tunnel = Tunnel(duplex, self, self._reactor, self._backlog, begins=True)
            self._move(_State.OPEN)

        async def run() -> None:
            while self._tunnel is tunnel:
                await self._changed.wait()
            if done is not None:
                done(None)

        await self._way.carry(carrier, answer, join, run)

    def _close(self) -> None:
        self._close_tunnel()
        for sock in self._sockets:
            sock.close()
        self._flows.close()
        self._backlog.close()
