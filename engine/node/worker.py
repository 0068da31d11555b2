"""A node as one of several workers: its listening sockets, its peers and its end come from a supervisor by a channel.

Starting: the supervisor says who this worker is (Begin) and who its peers are (Peers); the worker says that it is
ready, and is told at which of the sockets to accept (Accept): its own, and those of a worker that is not there for the
moment.

Ending: told to leave, by the supervisor or by SIGTERM, a worker leaves as a node does, and says at last what it has
counted. When the supervisor is gone it leaves as well. SIGHUP is the supervisor's: a terminal sends it to all.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final, NamedTuple

import trio

from engine import log as logs
from engine.admin.merge import families_of, families_of_process
from engine.cluster.channel import Channel
from engine.cluster.directory import Directory, Membership, Own
from engine.cluster.entry import Change, Entry
from engine.cluster.link import UNIX
from engine.cluster.messages import (
    Accept,
    Answer,
    Ask,
    Begin,
    Changed,
    Family,
    Farewell,
    Gone,
    Held,
    Leave,
    Leaves,
    Leaving,
    Lose,
    Peers,
    Ready,
    Session,
    Sockets,
    State,
    Stop,
    ToWorker,
)
from engine.config import ServerConfig
from engine.errors import ConfigError, RemoteProtocolError
from engine.log import get_logger
from engine.loop.certificates import watch
from engine.loop.leaving import until_signal
from engine.loop.listen import BACKLOG, MANY, Room, serve
from engine.loop.reactor import Reactor
from engine.loop.run import open_reactor
from engine.node.node import Node, open_node
from engine.wire.workers import Seat

BEGIN_SECONDS: Final = 10.0
FAREWELL_SECONDS: Final = 1.0
TO_OTHERS: Final = "piko_upstreams_remote_requests"

log = get_logger("server")


async def run_worker(
    config: ServerConfig,
    descriptor: int,
    *,
    alone: bool = False,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a worker whose end of the channel is `descriptor`, until it has left.

    Raises ConfigError for what a worker cannot do with its supervisor's sockets, or for certificates and keys that do
    not fit.

    `alone`: the process is this worker's.
    """
    if alone:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    channel: Channel[ToWorker] = Channel(
        socket.socket(fileno=descriptor), ToWorker, lambda: State(own.entry, node.agents.owners.held())
    )
    with ExitStack() as stack:
        stack.callback(channel.close)
        begin = known = None
        with trio.move_on_after(BEGIN_SECONDS), suppress(RemoteProtocolError):
            begin, known = await channel.next(), await channel.next()
        if not isinstance(begin, Begin) or not isinstance(known, Peers):
            raise ConfigError(f"the descriptor {descriptor} is no supervisor's channel, or the supervisor is gone")
        _check_ports(config, begin)
        if alone:
            logs.always(worker=begin.index + 1)
        config.cluster.node_id = begin.id
        own = Own(Entry(begin.id, secrets.token_hex(8), UNIX + begin.link))
        directory = Directory(begin.id)
        for entry in known.entries:
            directory.put(entry)
        links = stack.enter_context(_listen_for_peers(begin.link))
        async with open_reactor(alone=alone) as reactor, trio.open_nursery() as nursery:
            reactor.memory.limit //= begin.count  # what a node may hold is for all of them
            node = await open_node(config, reactor, nursery)
            stack.callback(node.agents_door.close)
            stack.callback(node.clients_door.close)
            node.join(Membership(directory, own, begin.secret), nursery)
            assert node.peers is not None
            node.agents.owners.put_elsewhere(known.held)
            worker = _Worker(node, channel, begin, directory, own, reactor, nursery)
            nursery.start_soon(watch, node.certificates)
            nursery.start_soon(serve, [links], node.peers.links.serve, nursery, Room(MANY))
            nursery.start_soon(channel.run)
            nursery.start_soon(worker.listen)
            node.not_ready = None
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                nursery.start_soon(worker.heed, signals)
                channel.send(Ready(own.entry))
                task_status.started()
                log.info("worker started", pid=os.getpid(), node_id=begin.id)
                await anext(worker.ends)
                log.info("shutting down", grace_seconds=config.grace_period)
                channel.send(Leaving())
                await until_signal(node.leave, config.grace_period, worker.ends)
            node.agents.close()
            with trio.move_on_after(FAREWELL_SECONDS):
                channel.send(Farewell(worker.metrics()))
                await channel.wait_sent()
            nursery.cancel_scope.cancel()
    log.info("worker stopped")


class _Worker:
    """What goes on between the channel and the node."""

    def __init__(
        self,
        node: Node,
        channel: Channel[ToWorker],
        begin: Begin,
        directory: Directory,
        own: Own,
        reactor: Reactor,
        nursery: trio.Nursery,
    ) -> None:
        self._end, self.ends = trio.open_memory_channel[int](3)  # a signal each: leave, stop at once
        self._node = node
        self._channel = channel
        self._begin = begin
        self._directory = directory
        self._reactor = reactor
        self._nursery = nursery
        self._sockets = [_Listening.inherited(one) for one in begin.sockets]
        self._accepting: dict[int, trio.CancelScope] = {}
        self._leaving = False
        for one in self._sockets:
            node.agents_door.held += one.upstream
            node.clients_door.held += [*one.proxy, *(sock for port in one.tcp for sock in port)]
        # The others of this node are no nodes of a cluster.
        node.metrics.peers = lambda: sum(not self._is_sibling(one.id) for one in directory.peers)
        if not node.exclusive:  # then an agent has one session, wherever it is
            node.agents.seat = Seat(begin.index + 1, begin.count)
        own.tell.append(self._tell)
        node.agents.owners.changed = self._tell_held

    def _tell(self, change: Change) -> None:
        self._channel.tell(Changed(change))
        self._reactor.hand_over()

    def _tell_held(self, endpoint: str, principal: str, held: bool) -> None:
        self._channel.tell(Held(self._begin.id, endpoint, principal, held))
        self._reactor.hand_over()

    def _is_sibling(self, id: str) -> bool:
        return id.startswith(f"{self._begin.node_id}.")

    async def listen(self) -> None:
        """Do what the supervisor says; leave when it is gone."""
        with suppress(RemoteProtocolError):
            while (message := await self._channel.next()) is not None:
                self._heed(message)
        log.warning("the supervisor is gone: leaving")
        self._leave()

    def _heed(self, message: ToWorker) -> None:
        owners = self._node.agents.owners
        match message:
            case Accept(of):
                self._accept(of)
            case Peers(entries, held):
                there = {one.id for one in entries}
                for gone in [one.id for one in self._directory.peers if one.id not in there]:
                    self._directory.remove(gone)
                for entry in entries:
                    self._directory.put(entry)
                owners.put_elsewhere({id: all_ for id, all_ in held.items() if id != self._begin.id})
            case Held(id, endpoint, principal, True):
                owners.hold_elsewhere(id, endpoint, principal)
            case Held(id, endpoint):
                owners.free_elsewhere(id, endpoint)
            case Lose(endpoint):
                self._node.agents.lose(endpoint)
            case Leaves(id):
                owners.leaves(id)
            case Changed(change):
                self._directory.change(change)  # what does not follow is told as a whole
            case Gone(id):
                self._directory.remove(id)
                owners.forget(id)
            case Ask(number):
                self._channel.send(Answer(number, self._sessions(), self.metrics()))
            case Leave():
                self._leave()
            case Stop():
                self._leave()
                self._insist()
            case Begin():
                log.error("defect: the supervisor begins twice")

    async def heed(self, signals: AsyncIterator[int]) -> None:
        """SIGTERM and SIGINT, of which a second means at once. The first may come beside the supervisor's word, for a
        service manager sends it to all processes.
        """
        await anext(signals)
        self._leave()
        async for _ in signals:
            self._insist()

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._insist()

    def _insist(self) -> None:
        try:
            self._end.send_nowait(signal.SIGTERM)
        except trio.WouldBlock:
            pass  # it has been told often enough

    # -- its ports

    def _accept(self, of: list[int]) -> None:
        if self._leaving:
            return
        for index in self._accepting.keys() - set(of):
            log.info("the sockets of another worker are given back", of=index + 1)
            self._accepting.pop(index).cancel()
        for index in of:
            if index not in self._accepting and 0 <= index < len(self._sockets):
                if index != self._begin.index:
                    log.info("accepting at the sockets of another worker", of=index + 1)
                self._accepting[index] = scope = trio.CancelScope()
                self._nursery.start_soon(self._accept_at, self._sockets[index].copy(), scope)

    async def _accept_at(self, sockets: _Listening, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._node.accept_agents, sockets.upstream, self._nursery)
                accepting.start_soon(self._node.accept_clients, sockets.proxy, sockets.tcp, self._nursery)

    # -- what it is asked

    def _sessions(self) -> list[Session]:
        return [
            Session(
                one.endpoint,
                one.principal,
                one.client,
                self._reactor.now - one.since,
                one.session.carrier.kind,
                one.session.suspended,
            )
            for one in self._node.agents.registrations
        ]

    def metrics(self) -> list[Family]:
        """Its numbers. Requests that another worker has served are not another node's."""
        families = families_of(self._node.metrics)
        for name, _, _, samples in families:
            if name == TO_OTHERS:
                inside = [value for _, labels, value in samples if self._is_sibling(labels["node_id"])]
                samples[:] = [one for one in samples if not self._is_sibling(one[1]["node_id"])]
                if inside:
                    samples.append((f"{TO_OTHERS}_total", {"node_id": self._begin.node_id}, sum(inside)))
        return [*families, *families_of_process()]


class _Listening(NamedTuple):
    """The sockets of one worker."""

    proxy: list[socket.socket]
    upstream: list[socket.socket]
    tcp: list[list[socket.socket]]

    @classmethod
    def inherited(cls, of: Sockets) -> _Listening:
        open_ = partial(map, lambda descriptor: socket.socket(fileno=descriptor))
        return cls(list(open_(of.proxy)), list(open_(of.upstream)), [list(open_(port)) for port in of.tcp])

    def copy(self) -> _Listening:
        """To be closed by who accepts at them, while these stay."""
        return _Listening(
            [one.dup() for one in self.proxy],
            [one.dup() for one in self.upstream],
            [[one.dup() for one in port] for port in self.tcp],
        )


def _check_ports(config: ServerConfig, begin: Begin) -> None:
    """Raise ConfigError if the configuration, which may be newer than the sockets, has other ports."""
    then, now = begin.listens, config.listens()
    if then != now:
        (key, address), *_ = [one for one in (*now, *then) if one not in then or one not in now]
        raise ConfigError(f"{key}: {address!r}: the addresses to listen on change by a restart, not by a reload")
    if config.worker_count() != begin.count:
        raise ConfigError(
            f"workers: {config.worker_count()}: their number, {begin.count}, changes by a restart, not by a reload"
        )


@contextmanager
def _listen_for_peers(path: str) -> Iterator[socket.socket]:
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(path)
        stack.callback(_remove, path)
        sock.listen(BACKLOG)
        yield sock


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # with the folder, when the supervisor ended
