"""The supervisor of a node's workers: opens the ports, starts a process for each worker, and answers for all of them.

It forwards nothing. It holds the listening sockets, one of each port for each worker (SO_REUSEPORT), so that what waits
in the queue of a worker that has died is not lost: another accepts there until the next one is ready. A worker is the
same command again, by exec, so a reload brings new code and a new configuration: worker by worker, the new one is ready
on the sockets of the old one before that leaves. One that does not say for a while that its loop turns is killed, and
another started in its place.

What a worker serves it tells by its channel, and the supervisor tells all others: to each other, workers are peers
(engine.cluster), whose links are sockets in a folder of the supervisor's that is open to its user alone.

SIGTERM and SIGINT have all workers leave; a second one ends them at once. SIGHUP reloads. If the supervisor is killed,
its workers leave.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from engine.admin.app import NodeStatus, node_app
from engine.admin.live import Live
from engine.admin.merge import Family, Joined, counted, families_of, families_of_process, join
from engine.admin.reading import Reading, WorkerRow
from engine.admin.reading import join as join_readings
from engine.admin.serve import serve_admin
from engine.cluster.directory import Directory
from engine.cluster.messages import (
    BEAT_SECONDS,
    Begin,
    Changed,
    Count,
    Counts,
    Gone,
    Held,
    Leaves,
    Lose,
    Message,
    Peers,
    Ready,
    Sockets,
    State,
    Taken,
    ToSupervisor,
)
from engine.config import ServerConfig
from engine.errors import ConfigError
from engine.log import get_logger
from engine.loop.backoff import SETTLED_SECONDS, Backoff
from engine.loop.certificates import warn_of_expiry
from engine.loop.connection import Address
from engine.loop.leaving import until_signal
from engine.loop.listen import has_inherited, open_listeners, open_shared_listeners
from engine.loop.memory import process_limit, shares
from engine.loop.renewed import watch
from engine.loop.run import open_reactor
from engine.node.admission import logged
from engine.node.node import (
    Addresses,
    address_of_sockets,
    certificates_of,
    endpoints_of,
    names_of,
    nodes_of,
    open_tokens_of,
    sessions_of,
    shown,
)
from engine.routing.owners import Answer as Owned
from engine.routing.owners import Owners
from engine.supervisor.process import VARIABLE, Phase, Worker

CHECK_SECONDS: Final = 30.0
START_SECONDS: Final = 60.0  # for a new worker to be ready, in a reload
MOVE_SECONDS: Final = 5.0  # for an old one to be gone before the next is replaced
KILL_SECONDS: Final = 5.0  # behind the grace period, which workers keep themselves
SECRET_BYTES: Final = 32
ENDPOINTS: Final = "piko_upstreams_registered_endpoints"
LONGEST_PATH: Final = 100  # of a UNIX socket (sun_path has 108)

log = get_logger("server")


async def run_supervisor(config: ServerConfig) -> int:
    """Run a node of several workers until it has left; the exit code.

    Raises OSError for a port in use and ConfigError for what does not fit.
    """
    if has_inherited():
        raise ConfigError(
            f"workers: {config.worker_count()}: sockets that systemd has passed (LISTEN_FDS) serve one process; "
            "expected workers: 1, or no socket unit"
        )
    count = config.worker_count()
    with ExitStack() as stack:

        def open_port(address: str) -> list[list[socket.socket]]:
            return [[stack.enter_context(sock) for sock in each] for each in open_shared_listeners(address, count)]

        proxy, upstream = open_port(config.proxy.bind_addr), open_port(config.upstream.bind_addr)
        tcp = [open_port(address) for address, _ in config.proxy.tcp_ports()]
        links = open_port(config.cluster.bind_addr) if config.cluster.bind_addr else [[]] * count
        admin = [stack.enter_context(sock) for sock in open_listeners(config.admin.bind_addr)]
        folder = stack.enter_context(_folder())
        addresses = Addresses(address_of_sockets(proxy[0]), address_of_sockets(upstream[0]), address_of_sockets(admin))
        links_at = address_of_sockets(links[0] or proxy[0])
        sockets = [
            Sockets(
                _descriptors(proxy[index]),
                _descriptors(upstream[index]),
                [_descriptors(one[index]) for one in tcp],
                _descriptors(links[index]),
            )
            for index in range(count)
        ]
        held = [sock for port in (proxy, upstream, links, *tcp) for each in port for sock in each]
        async with open_reactor(), trio.open_nursery() as nursery:
            supervisor = Supervisor(config, _command(), addresses, links_at, sockets, held, folder, nursery)
            certificates = certificates_of(config)
            _, _, tls, _ = certificates
            live = Live(
                supervisor.id,
                supervisor.read,
                nodes=lambda: [
                    one.summary() for one in (supervisor.status(sessions=False), *supervisor.peers_status())
                ],
                reason=lambda: supervisor.not_ready,
                degraded=lambda: supervisor.degraded,
            )
            app = node_app(
                Joined(supervisor.metrics),
                live=live,
                not_ready=lambda: supervisor.not_ready,
                degraded=lambda: supervisor.degraded,
                local=supervisor.status,
                peers=supervisor.peers_status,
                expiries=lambda: [expiry for one in certificates for expiry in one.expiries()],
                tls=lambda: config.admin.tls.client.client_context() if tls.context else None,
                refresh=supervisor.refresh,
                reload=supervisor.reload if config.admin.asks else supervisor.refuse_reload,
                verifier=(await open_tokens_of(config.admin.auth, nursery)).verifier,
                hosts=[*config.admin.hosts, *names_of(config.admin.advertise_addr)],
            )
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                nursery.start_soon(supervisor.heed, signals)
                nursery.start_soon(supervisor.start)
                nursery.start_soon(supervisor.watch)
                await nursery.start(partial(serve_admin, admin, app, tls=lambda: tls.context))
                nursery.start_soon(live.run)
                nursery.start_soon(watch, certificates)
                nursery.start_soon(warn_of_expiry, certificates)
                await supervisor.run()
            nursery.cancel_scope.cancel()
    log.info("node stopped")
    return supervisor.code


class Supervisor:
    """Keeps one worker in each of the slots, for which the sockets in `held` are here. Other nodes dial `links_at`."""

    def __init__(
        self,
        config: ServerConfig,
        command: Sequence[str],
        addresses: Addresses,
        links_at: Address,
        sockets: list[Sockets],
        held: list[socket.socket],
        folder: Path,
        nursery: trio.Nursery,
    ) -> None:
        self.id = config.cluster.choose_node_id()
        self.code = 0
        self.restarts = 0
        self.hung = 0
        self._config = config
        self._command = command
        self._addresses = addresses
        self._links_at = links_at
        self._sockets = sockets
        self._held = held
        self._folder = folder
        self._nursery = nursery
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._directory = Directory(self.id)
        self._owners = Owners(exclusive=config.upstream.sharing == "exclusive")
        self._counts: dict[str, Counts] = {}  # of what is limited, by worker
        self._memory = process_limit()  # of all of them
        self._numbers = itertools.count(1)
        self._workers: set[Worker] = set()  # all that have not ended
        self._slots: list[_Slot] = [_Slot(index) for index in range(len(sockets))]
        self._past: list[Family] = []  # what workers that have ended had counted
        self._send, self._ends = trio.open_memory_channel[int](2)
        self._begun = False  # one worker was ready: the configuration is good
        self._leaving = False
        self._reloading = False

    # -- its life

    async def start(self) -> None:
        """Start all workers. What is wrong with the configuration is found by the first, and then it is over."""
        first = self._begin(self._slots[0])
        await first.settled.wait()
        if first.phase is Phase.ENDED:
            self.code = first.code if first.code > 0 else 1  # it has said why
            self._insist()
            return
        self._begun = True
        for slot in self._slots[1:]:
            self._begin(slot)
        for slot in self._slots[1:]:
            if slot.worker is not None:
                await slot.worker.settled.wait()
        log.info(
            "node started",
            node_id=self.id,
            workers=len(self._slots),
            pid=os.getpid(),
            proxy=shown(self._addresses.proxy),
            upstream=shown(self._addresses.upstream),
            admin=shown(self._addresses.admin),
        )

    async def heed(self, signals: AsyncIterator[int]) -> None:
        terminal = _has_terminal()
        async for sign in signals:
            if sign == signal.SIGHUP and _has_terminal() == terminal:
                self._nursery.start_soon(self.reload)
            else:  # if the terminal is gone, nobody has meant a reload
                self._insist()

    def _insist(self) -> None:
        try:
            self._send.send_nowait(signal.SIGTERM)
        except trio.WouldBlock:
            pass  # it has been told often enough

    async def watch(self) -> None:
        """Have others do what a worker does not, end one that hangs, and give each as much memory as it needs."""
        while True:
            await trio.sleep(BEAT_SECONDS)
            for worker in self._workers:
                if worker.miss():
                    worker.missed = 0  # it is on its way out
                    self.hung += 1
                    log.error("a worker hangs and is killed", of=worker.index + 1, pid=worker.pid)
                    worker.kill()
            self._settle()
            workers = tuple(self._workers)
            for worker, size in zip(workers, shares(self._memory, [one.waiting for one in workers]), strict=True):
                worker.share(size)

    async def run(self) -> None:
        """Return when it was told to end, and all workers have."""
        await anext(self._ends)
        self._leaving = True
        log.info("shutting down", grace_seconds=self._config.grace_period)
        for worker in self._workers:
            if worker.phase is Phase.STARTING:
                worker.stop()
            worker.leave()
        for sock in self._held:
            sock.close()  # workers close theirs when it is time
        if not await until_signal(self._wait_ended, self._config.grace_period + KILL_SECONDS, self._ends):
            for worker in self._workers:
                worker.stop()
            with trio.move_on_after(KILL_SECONDS):
                await self._wait_ended()

    async def _wait_ended(self) -> None:
        for worker in tuple(self._workers):
            await worker.ended.wait()

    # -- its workers

    def _begin(self, slot: _Slot) -> Worker:
        """Start a worker, and have it in the slot."""
        slot.worker = worker = self._start(slot.index)
        return worker

    def _start(self, index: int) -> Worker:
        number = next(self._numbers)
        begin = Begin(
            index,
            len(self._slots),
            f"{self.id}.{number}",
            self.id,
            self._secret,
            str(self._folder / str(number)),
            self._sockets,
            self._config.listens(),
            shown(self._links_at),
            shown(self._addresses.proxy),
            shown(self._addresses.admin),
        )
        worker = Worker(begin, self, self._peers)
        self._workers.add(worker)
        self._nursery.start_soon(worker.run, self._command)
        return worker

    def changed(self, worker: Worker) -> None:
        """See process.Watcher."""
        slot = self._slots[worker.index]
        lost = slot.worker is worker and worker.phase in (Phase.LEAVING, Phase.ENDED)
        if worker.phase is Phase.LEAVING:
            self._owners.leaves(worker.id)
            self._tell(Leaves(worker.id), but=worker)
        if worker.phase is Phase.ENDED:
            self._workers.discard(worker)
            self._past = join([self._past, counted(worker.metrics)])
            self._directory.remove(worker.id)
            self._owners.forget(worker.id)
            self._counts.pop(worker.id, None)
            self._tell(Gone(worker.id))
            log.log(
                "error" if worker.code else "info",
                "worker ended",
                of=worker.index + 1,
                pid=worker.pid,
                code=worker.code,
            )
        if lost and self._begun and not self._leaving:
            self._nursery.start_soon(self._replace, slot, worker)
        self._settle()

    async def _replace(self, slot: _Slot, lost: Worker) -> None:
        """A worker has ended, or leaves, without having been told to."""
        if slot.lost is lost:
            return  # it has left, and now it has ended
        slot.lost = lost
        if trio.current_time() - lost.since >= SETTLED_SECONDS:
            slot.backoff.settled()
        delay = slot.backoff.next()
        log.warning("starting a worker again", of=slot.index + 1, in_seconds=round(delay, 2))
        await trio.sleep(delay)
        if slot.worker is lost and not self._leaving:  # no reload has come between
            self.restarts += 1
            self._begin(slot)

    def _settle(self) -> None:
        """See to it that somebody accepts at each of the sockets."""
        if self._leaving:
            return
        ready = [slot for slot in self._slots if slot.answers]
        orphans = [slot for slot in self._slots if not slot.answers]
        takes = {slot.index: [slot.index] for slot in ready}
        for orphan in orphans:
            if not takes:
                return
            adopter = orphan.adopter if orphan.adopter in takes else min(takes, key=lambda index: len(takes[index]))
            orphan.adopter = adopter
            takes[adopter].append(orphan.index)
        for slot in ready:
            slot.adopter = -1
            if slot.worker is not None:
                slot.worker.accept(takes[slot.index])

    # -- what they serve

    def heard(self, worker: Worker, message: ToSupervisor) -> None:
        """See process.Watcher."""
        match message:
            case Ready(entry) if entry.id == worker.id:
                self._directory.put(entry)
                self._tell(self._peers(), but=worker)
            case State(entry, held, counts) if entry.id == worker.id:
                self._counts[worker.id] = counts
                self._directory.put(entry)
                self._owners.forget(worker.id)
                for endpoint, principal in held.items():
                    self._hold(worker, endpoint, principal)
                self._tell(self._peers(), but=worker)
            case Held(id, endpoint, principal, True) if id == worker.id:
                if self._hold(worker, endpoint, principal):
                    self._tell(message, but=worker)
            case Held(id, endpoint) if id == worker.id:
                self._owners.free_elsewhere(id, endpoint)
                self._tell(message, but=worker)
            case Changed(change) if change.id == worker.id:
                self._directory.change(change)
                self._tell(message, but=worker)
            case Count(id, limit, party, count) if id == worker.id:
                parties = self._counts.setdefault(id, {}).setdefault(limit, {})
                if count:
                    parties[party] = count
                else:
                    parties.pop(party, None)
                self._tell(message, but=worker)
            case Taken():
                self._tell(message, but=worker)
            case _:
                log.error("a worker speaks for another", of=worker.index + 1)

    def _hold(self, worker: Worker, endpoint: str, principal: str) -> bool:
        """What a worker holds, if nobody was first to hold it for another."""
        if self._owners.ask(endpoint, principal) is not Owned.YES:
            log.warning("two have registered an endpoint at once, the second loses it", **logged(endpoint))
            worker.send(Lose(endpoint))
            return False
        self._owners.hold_elsewhere(worker.id, endpoint, principal)
        return True

    def _peers(self) -> Peers:
        return Peers(self._directory.peers, self._owners.held_elsewhere(), self._counts)

    def _tell(self, message: Message, *, but: Worker | None = None) -> None:
        for worker in self._workers:
            if worker is not but:
                worker.tell(message)

    # -- a reload

    async def reload(self) -> str:
        """Replace all workers, one by one; empty, or why it was refused or has not come to its end."""
        if self._reloading or self._leaving:
            return "a reload is under way" if self._reloading else "the node is shutting down"
        self._reloading = True
        try:
            problem = await self._check() or await self._replace_all()
        finally:
            self._reloading = False
        if problem:
            log.error("not reloaded, what was there goes on", error=problem)
        else:
            log.info("reloaded")
        return problem

    async def refuse_reload(self) -> str:
        """For an admin port that does not know who asks."""
        return (
            "the admin port asks nobody for a token, so nobody can reload by it: send SIGHUP to process "
            f"{os.getpid()}, or set admin.auth or admin.tls.client_cas"
        )

    async def _check(self) -> str:
        """What is wrong with the configuration as it is now."""
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        said = "no answer"
        with trio.move_on_after(CHECK_SECONDS):
            try:
                done = await trio.run_process(
                    [*self._command, "--config.check"],
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    env=environment,
                )
            except OSError as error:
                return f"cannot start {self._command[0]}: {error.strerror}"
            if done.returncode == 0:
                return ""
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            said = lines[-1].removeprefix("trioduct: ") if lines else f"exit code {done.returncode}"
        return said

    async def _replace_all(self) -> str:
        for slot in self._slots:
            new = self._start(slot.index)
            with trio.move_on_after(START_SECONDS):
                await new.settled.wait()
            if self._leaving:
                new.stop()
                return "the node is shutting down"
            if new.phase is not Phase.READY:
                new.kill()
                why = f"it ended with code {new.code}" if new.phase is Phase.ENDED else "no answer"
                done = "; those before it are new, it and the others as before" if slot.index else ""
                return f"the new worker {slot.index + 1} did not get ready: {why}, what it said is in the log{done}"
            old, slot.worker = slot.worker, new
            self._settle()
            if old is not None:
                old.leave()
                with trio.move_on_after(MOVE_SECONDS):
                    await old.ended.wait()
        return ""

    # -- what the admin port tells

    @property
    def not_ready(self) -> str | None:
        if self._leaving:
            return "leaving"
        return None if any(slot.ready for slot in self._slots) else "starting"

    @property
    def degraded(self) -> str:
        """What is not as it should be, though it serves."""
        missing = [str(slot.index + 1) for slot in self._slots if not slot.answers]
        told = [f"of {len(self._slots)} workers, not ready: {', '.join(missing)}"] if missing else []
        return "; ".join([*told, *sorted({one.degraded for one in self._workers if one.answers and one.degraded})])

    async def refresh(self, nodes: bool = False) -> str:
        """Ask all workers how they are, and one for what it knows of other `nodes`. What will be missing; empty if all
        have answered.
        """
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                if worker.phase in (Phase.READY, Phase.LEAVING):
                    nursery.start_soon(partial(worker.ask, nodes=nodes and worker is self._informed))
        return self._missing

    async def read(self) -> tuple[Reading, str]:
        """See Live. Workers that do not answer are as they were read last."""
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                if worker.phase in (Phase.READY, Phase.LEAVING):
                    nursery.start_soon(partial(worker.look, nodes=worker is self._informed))
        workers = sorted(self._workers, key=lambda one: one.index)
        reading = join_readings(worker.reading for worker in workers)
        rows = {row.id: row for row in reading.workers}
        reading.workers = [rows.get(one.id) or WorkerRow(one.id, one.pid, "") for one in workers]
        for row, worker in zip(reading.workers, workers, strict=True):
            row.phase = worker.phase.value
        return reading, self._missing

    @property
    def _missing(self) -> str:
        late = sorted(worker.index + 1 for worker in self._late)
        return f"not answered: worker {', '.join(map(str, late))}; their figures are of earlier" if late else ""

    @property
    def _late(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.late]

    @property
    def _informed(self) -> Worker | None:
        """The worker that is asked what it knows of other nodes: any, for all read the same store."""
        return next((slot.worker for slot in self._slots if slot.ready), None)

    def peers_status(self) -> list[NodeStatus]:
        """The other nodes, as a worker knows them."""
        return nodes_of(self._informed.nodes) if self._informed is not None else []

    def status(self, *, sessions: bool = True) -> NodeStatus:
        """This node as others may see it, with its `sessions` or without."""
        return NodeStatus(
            id=self.id,
            proxy_addr=self._config.proxy.advertise_addr or shown(self._addresses.proxy),
            admin_addr=self._config.admin.advertise_addr or shown(self._addresses.admin),
            endpoints=endpoints_of(self._directory.peers),
            workers={one.id: one.sessions for one in self._directory.peers},
            sessions=sessions_of(one for worker in self._workers for one in worker.sessions) if sessions else (),
        )

    def metrics(self) -> list[Family]:
        """Those of all workers, there or gone, and of this process."""
        from prometheus_client import CollectorRegistry, PlatformCollector

        phases = dict.fromkeys((Phase.STARTING, Phase.READY, Phase.LEAVING), 0)
        for worker in self._workers:
            phases[worker.phase] += 1
        workers: list[tuple[str, dict[str, str], float]] = [
            ("trioduct_workers", {"phase": phase.value}, count) for phase, count in phases.items()
        ]
        ours: list[Family] = [
            ("trioduct_workers", "gauge", "Worker processes.", workers),
            (
                "trioduct_worker_restarts",
                "counter",
                "Workers that were started again because one had ended, or left, without having been told to.",
                [("trioduct_worker_restarts_total", {}, self.restarts)],
            ),
            (
                "trioduct_workers_late",
                "gauge",
                "Workers that have not answered, so that their figures here are those of an earlier time.",
                [("trioduct_workers_late", {}, len(self._late))],
            ),
            (
                "trioduct_workers_hung",
                "counter",
                "Workers that were killed because their loop did not turn any more.",
                [("trioduct_workers_hung_total", {}, self.hung)],
            ),
        ]
        platform = families_of(PlatformCollector(registry=CollectorRegistry()))
        told = [worker.metrics for worker in sorted(self._workers, key=lambda one: one.index)]
        joined = join([*told, self._past, ours, families_of_process(), platform])
        different = len(self.status().endpoints)  # an endpoint may be registered with each worker
        return [
            (name, kind, meaning, [(name, {}, different)] if name == ENDPOINTS else samples)
            for name, kind, meaning, samples in joined
        ]


class _Slot:
    """Where one worker belongs."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: Worker | None = None
        self.lost: Worker | None = None  # the last one that was replaced because it was gone
        self.adopter = -1  # the index of who accepts there while no worker is ready
        self.backoff = Backoff()

    @property
    def ready(self) -> bool:
        return self.worker is not None and self.worker.phase is Phase.READY

    @property
    def answers(self) -> bool:
        return self.worker is not None and self.worker.answers


class _folder:
    """A folder for this user alone, as a context. Raises ConfigError where there can be none."""

    def __enter__(self) -> Path:
        try:
            self._path = tempfile.mkdtemp(prefix="trioduct-")
            if len(self._path) > LONGEST_PATH:
                os.rmdir(self._path)
                self._path = tempfile.mkdtemp(prefix="trioduct-", dir="/tmp")
        except OSError as error:
            problem = f"there is no folder for the sockets between them: {error.strerror}"
            raise ConfigError(f"workers: {problem}; set TMPDIR to one that this user may write to") from None
        return Path(self._path)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def _command() -> list[str]:
    """What has started this process."""
    return [sys.executable, *sys.orig_argv[1:]]


def _descriptors(sockets: Sequence[socket.socket]) -> list[int]:
    return [sock.fileno() for sock in sockets]


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
