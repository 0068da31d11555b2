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
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final, NamedTuple

import msgspec
import trio
from msgspec.structs import replace

from engine import log as logs
from engine.admin.merge import families_of, families_of_process
from engine.cluster.channel import Channel
from engine.cluster.directory import Directory, Membership, Own
from engine.cluster.entry import Change, Entry
from engine.cluster.link import UNIX
from engine.cluster.messages import (
    BEAT_SECONDS,
    Accept,
    Answer,
    Ask,
    Beat,
    Begin,
    Changed,
    Count,
    Family,
    Farewell,
    Gone,
    Held,
    Leave,
    Leaves,
    Leaving,
    Look,
    Lose,
    Peers,
    Ready,
    Seen,
    Session,
    Share,
    Sockets,
    State,
    Stop,
    Taken,
    ToWorker,
)
from engine.cluster.store import Store
from engine.config import ServerConfig
from engine.errors import ConfigError, RemoteProtocolError
from engine.limits import Counts, Rates
from engine.log import get_logger
from engine.loop.leaving import NEVER, until_signal
from engine.loop.listen import BACKLOG, MANY, Room, serve
from engine.loop.reactor import Reactor
from engine.loop.renewed import watch
from engine.loop.run import open_reactor
from engine.node.membership import join_by_store
from engine.node.node import Node, open_node
from engine.wire.workers import Seat

BEGIN_SECONDS: Final = 10.0
FAREWELL_SECONDS: Final = 1.0

log = get_logger("server")


async def run_worker(
    config: ServerConfig,
    descriptor: int,
    *,
    alone: bool = False,
    signals: AsyncIterator[int] = NEVER,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a worker whose end of the channel is `descriptor`, until it has left.

    Raises ConfigError for what a worker cannot do with its supervisor's sockets, or for certificates and keys that do
    not fit.

    `alone`: the process is this worker's. Each of `signals` tells it to leave, the second at once.
    """
    channel: Channel[ToWorker] = Channel(socket.socket(fileno=descriptor), ToWorker, lambda: worker.state())
    with ExitStack() as stack:
        stack.callback(channel.close)
        begin = known = None
        with trio.move_on_after(BEGIN_SECONDS), suppress(RemoteProtocolError):
            begin, known = await channel.next(), await channel.next()
        if not isinstance(begin, Begin) or not isinstance(known, Peers):
            raise ConfigError(f"the descriptor {descriptor} is no supervisor's channel, or the supervisor is gone")
        _check_ports(config, begin)
        if alone:
            logs.say_worker(begin.index + 1)
        membership, store = _join(config, begin)
        for entry in known.entries:
            membership.directory.put(entry)
        links = stack.enter_context(_listen_for_peers(begin.link))
        async with open_reactor(alone=alone) as reactor, trio.open_nursery() as nursery:
            reactor.memory.limit //= begin.count  # until the supervisor has seen what each of them needs
            node = await open_node(config, reactor, nursery)
            stack.callback(node.agents_door.let_go)
            stack.callback(node.clients_door.let_go)
            node.store = store
            node.join(membership, nursery)
            assert node.peers is not None
            worker = _Worker(node, channel, begin, known, membership, reactor, nursery)
            nursery.start_soon(watch, node.certificates)
            nursery.start_soon(serve, [links], node.peers.links.serve, nursery, Room(MANY))
            nursery.start_soon(channel.run)
            nursery.start_soon(worker.listen)
            nursery.start_soon(worker.beat)
            nursery.start_soon(worker.heed, signals)
            if store is not None:
                await nursery.start(store.run)
            nursery.start_soon(node.rebalance)
            node.not_ready = None
            channel.send(Ready(worker.entry))
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
        known: Peers,
        membership: Membership,
        reactor: Reactor,
        nursery: trio.Nursery,
    ) -> None:
        self._end, self.ends = trio.open_memory_channel[int](3)  # a signal each: leave, stop at once
        self._node = node
        self._channel = channel
        self._begin = begin
        self._directory, self._own, _ = membership
        self._reactor = reactor
        self._nursery = nursery
        self._sockets = [_Listening.inherited(one) for one in begin.sockets]
        self._accepting: dict[int, trio.CancelScope] = {}
        self._leaving = False
        for one in self._sockets:
            node.agents_door.held += one.upstream
            node.clients_door.held += [*one.proxy, *one.links, *(sock for port in one.tcp for sock in port)]
        if not node.exclusive:  # then an agent has one session, wherever it is
            node.agents.seat = Seat(begin.index + 1, begin.count)
        self._own.tell.append(self._tell)
        node.agents.owners.changed = self._tell_held
        node.agents.owners.put_elsewhere(known.held)
        self._limits = node.limits
        for name, limit in self._limits.items():
            limit.share(begin.count, partial(self._tell_count if isinstance(limit, Counts) else self._tell_taken, name))
        self._put_counts(known.counts)

    def _tell(self, change: Change) -> None:
        self._channel.tell(Changed(change))
        self._reactor.hand_over()

    def _tell_held(self, endpoint: str, principal: str, held: bool) -> None:
        self._channel.tell(Held(self._begin.id, endpoint, principal, held))
        self._reactor.hand_over()

    def _tell_count(self, limit: str, party: str, count: int) -> None:
        self._channel.tell(Count(self._begin.id, limit, party, count))
        self._reactor.hand_over()

    def _tell_taken(self, limit: str, party: str, amount: float) -> None:
        self._channel.tell(Taken(limit, party, amount))
        self._reactor.hand_over()

    def _put_counts(self, counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        """What peers count, by their ids."""
        for name, limit in self._limits.items():
            if isinstance(limit, Counts):
                others = {id: by_limit.get(name, {}) for id, by_limit in counts.items() if id != self._begin.id}
                limit.put_elsewhere(others)

    @property
    def entry(self) -> Entry:
        """What this worker says of itself to the others of its node."""
        return replace(self._own.entry, addr=UNIX + self._begin.link)

    def state(self) -> State:
        """All that it has told the supervisor."""
        counts = {name: limit.told() for name, limit in self._limits.items() if isinstance(limit, Counts)}
        return State(self.entry, self._node.agents.owners.held(), counts)

    async def beat(self) -> None:
        """Tell the supervisor that the loop turns, and what has come of it."""
        while True:
            self._channel.send(Beat(self._node.degraded, self._reactor.memory.used))
            self._node.agents.settle()
            await trio.sleep(BEAT_SECONDS)

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
            case Peers(entries, held, counts):
                there = {one.id for one in entries}
                siblings = {one.id for one in self._directory.peers if one.addr.startswith(UNIX)}
                for gone in siblings - there:
                    self._directory.remove(gone)
                for entry in entries:
                    self._directory.put(entry)
                owners.put_elsewhere({id: all_ for id, all_ in held.items() if id != self._begin.id})
                self._put_counts(counts)
            case Count(id, name, party, count):
                if isinstance(limit := self._limits.get(name), Counts):
                    limit.hold_elsewhere(id, party, count)
            case Taken(name, party, amount):
                if isinstance(limit := self._limits.get(name), Rates):
                    limit.charge_elsewhere(party, self._reactor.now, amount)
            case Share(size):
                self._reactor.memory.resize(size)
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
                for limit in self._limits.values():
                    if isinstance(limit, Counts):
                        limit.forget(id)
            case Ask(number, nodes):
                self._channel.send(Answer(number, self._sessions(), self.metrics(), self._others() if nodes else None))
            case Look(number, nodes):
                self._nursery.start_soon(self._look, number, nodes)
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
                accepting.start_soon(self._node.accept_links, sockets.links, self._nursery)

    # -- what it is asked

    def _sessions(self) -> list[Session]:
        return [one.told() for one in self._node.agents.registrations]

    def _others(self) -> list[Entry]:
        """Those of other nodes, and of their workers."""
        return [one for one in self._directory.peers if not one.addr.startswith(UNIX)]

    async def _look(self, number: int, nodes: bool) -> None:
        reading = await self._node.figures.read(id=self._begin.id)
        told = msgspec.Raw(msgspec.msgpack.encode(reading))
        self._channel.send(Seen(number, told, self._others() if nodes else None))

    def metrics(self) -> list[Family]:
        return families_of(self._node.metrics) + families_of_process()


class _Listening(NamedTuple):
    """The sockets of one worker."""

    proxy: list[socket.socket]
    upstream: list[socket.socket]
    tcp: list[list[socket.socket]]
    links: list[socket.socket]

    @classmethod
    def inherited(cls, of: Sockets) -> _Listening:
        open_ = partial(map, lambda descriptor: socket.socket(fileno=descriptor))
        return cls(
            list(open_(of.proxy)),
            list(open_(of.upstream)),
            [list(open_(port)) for port in of.tcp],
            list(open_(of.links)),
        )

    def copy(self) -> _Listening:
        """To be closed by who accepts at them, while these stay."""
        return _Listening(
            list(map(_copy, self.proxy)),
            list(map(_copy, self.upstream)),
            [list(map(_copy, port)) for port in self.tcp],
            list(map(_copy, self.links)),
        )


def _copy(one: socket.socket) -> socket.socket:
    """Not `one.dup()`, which makes both block again, and those of other workers with them: they share O_NONBLOCK."""
    return socket.socket(fileno=os.dup(one.fileno()))


def _join(config: ServerConfig, begin: Begin) -> tuple[Membership, Store | None]:
    """What makes this worker a peer of the others of its node, and of other nodes by their store."""
    config.cluster.node_id = begin.id
    if config.cluster.store:
        return join_by_store(
            config.cluster,
            links_at=begin.links_at,
            proxy_at=config.proxy.advertise_addr or begin.proxy_at,
            admin_at=config.admin.advertise_addr or begin.admin_at,
            worker_of=begin.node_id,
            workers=begin.count,
        )
    entry = Entry(begin.id, secrets.token_hex(8), UNIX + begin.link, worker_of=begin.node_id, workers=begin.count)
    return Membership(Directory(begin.id), Own(entry), begin.secret), None


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
