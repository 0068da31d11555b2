"""A worker process as its supervisor sees it: started, told, asked, and gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Protocol

import msgspec
import trio

from engine.admin.reading import Reading
from engine.cluster.channel import Channel
from engine.cluster.entry import Entry
from engine.cluster.messages import (
    Accept,
    Answer,
    Ask,
    Beat,
    Begin,
    Family,
    Farewell,
    Leave,
    Leaving,
    Look,
    Message,
    Peers,
    Ready,
    Seen,
    Session,
    Share,
    Stop,
    ToSupervisor,
)
from engine.errors import UNREADABLE, RemoteProtocolError
from engine.log import get_logger

VARIABLE: Final = "TRIODUCT_WORKER"  # the descriptor of its end of the channel
ANSWER_SECONDS: Final = 2.0
LAST_WORDS_SECONDS: Final = 1.0
# How many beats in a row have not been heard. They are counted by a supervisor that runs: if it was stopped itself, as
# with all of its container, nobody is suspected.
SILENT_BEATS: Final = 3  # others accept in its place
HUNG_BEATS: Final = 10  # it is killed
START_BEATS: Final = 60  # as long as it has not begun
FOR_US: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

log = get_logger("server")


class Phase(Enum):
    """Of a worker's life."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    ENDED = "ended"


class Watcher(Protocol):
    """Is told what becomes of a worker."""

    def heard(self, worker: Worker, message: ToSupervisor) -> None:
        """It has said something of what it serves."""

    def changed(self, worker: Worker) -> None:
        """It is in another phase."""


class Worker:
    """The process that is the worker `begin` tells. `catch_up` makes the whole of what it is told of its peers."""

    def __init__(self, begin: Begin, watcher: Watcher, catch_up: Callable[[], Peers]) -> None:
        self.id = begin.id
        self.index = begin.index
        self.phase = Phase.STARTING
        self.settled = trio.Event()  # it is ready, or was not to be
        self.ended = trio.Event()
        self.code = 0  # its exit code, negative if a signal has ended it
        self.pid = 0
        self.since = trio.current_time()
        self.metrics: list[Family] = []  # these two as it has told them last
        self.sessions: list[Session] = []
        self.reading = Reading()
        self.degraded = ""  # as it has said last
        self.waiting = 0  # bytes for its peers, likewise
        self.missed = 0  # beats in a row
        self.late = False  # it has not answered in time
        self.nodes: list[Entry] = []  # what it has told of other nodes, when it was asked for them last
        self._begin = begin
        self._watcher = watcher
        self._catch_up = catch_up
        self._channel: Channel[ToSupervisor] | None = None
        self._process: trio.Process | None = None
        self._accepts: list[int] = []
        self._share = 0
        self._questions = 0
        self._asked: dict[int, trio.Event] = {}  # questions that wait for an answer
        self._heard_all = trio.Event()
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.phase.name}>"

    async def run(self, command: Sequence[str]) -> None:
        """Start it by `command`, hear what it says, and return when it has ended; cancelled, kill it."""
        ours, theirs = socket.socketpair()
        channel: Channel[ToSupervisor] = Channel(ours, ToSupervisor, self._catch_up)
        try:
            with theirs:
                self._process = process = await self._start(command, theirs.fileno())
            self.pid = process.pid
            self._channel = channel
            channel.send(self._begin)
            channel.send(self._catch_up())
            if self._stopped:
                self.stop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.run)
                nursery.start_soon(self._hear, channel)
                self.code = await process.wait()
                with trio.move_on_after(LAST_WORDS_SECONDS):
                    await self._heard_all.wait()
                nursery.cancel_scope.cancel()
        except OSError as error:
            log.error("cannot start a worker", of=self.index + 1, error=str(error))
            self.code = 1
        finally:
            self._channel = None
            channel.close()
            if self._process is not None and self._process.returncode is None:
                self.kill()
                with trio.CancelScope(shield=True):  # the kernel needs no persuasion
                    self.code = await self._process.wait()
            self._enter(Phase.ENDED)

    async def _start(self, command: Sequence[str], descriptor: int) -> trio.Process:
        inherited = [descriptor, *(one for sockets in self._begin.sockets for one in sockets.all())]
        environment = {name: value for name, value in os.environ.items() if name not in FOR_US}
        environment[VARIABLE] = str(descriptor)
        return await trio.lowlevel.open_process(
            list(command), stdin=subprocess.DEVNULL, pass_fds=inherited, env=environment
        )

    # -- what it is told

    def send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def tell(self, message: Message) -> None:
        """Of its peers, which `catch_up` tells as well."""
        if self._channel is not None:
            self._channel.tell(message)

    def accept(self, of: list[int]) -> None:
        """At the sockets of these workers."""
        if of != self._accepts:
            self._accepts = of
            self.send(Accept(of))

    def share(self, size: int) -> None:
        """Of the bytes that may wait in all workers."""
        if size != self._share:
            self._share = size
            self.send(Share(size))

    def leave(self) -> None:
        self.send(Leave())

    def stop(self) -> None:
        """End it at once, in good order."""
        self._stopped = True
        self.send(Stop())

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    def miss(self) -> bool:
        """Another beat is due; has it missed so many that it hangs?"""
        self.missed += 1
        return self.missed > (START_BEATS if self.phase is Phase.STARTING else HUNG_BEATS)

    @property
    def answers(self) -> bool:
        """It serves, and seems to go on doing so."""
        return self.phase is Phase.READY and self.missed <= SILENT_BEATS

    async def ask(self, *, nodes: bool = False) -> None:
        """Have `metrics`, `sessions` and, if so, `nodes` as they are now, if it answers in time."""
        await self._wait_answer(lambda number: Ask(number, nodes))

    async def look(self, *, nodes: bool = False) -> None:
        """Have `reading` and, if so, `nodes` as they are now, if it answers in time."""
        await self._wait_answer(lambda number: Look(number, nodes))

    async def _wait_answer(self, question: Callable[[int], Message]) -> None:
        self._questions += 1
        number = self._questions
        self._asked[number] = answered = trio.Event()
        self.send(question(number))
        with trio.move_on_after(ANSWER_SECONDS) as waiting:
            await answered.wait()
        del self._asked[number]
        if waiting.cancelled_caught:
            self.late = True
            log.warning("a worker does not answer", of=self.index + 1, pid=self.pid)

    # -- what it says

    async def _hear(self, channel: Channel[ToSupervisor]) -> None:
        try:
            while (message := await channel.next()) is not None:
                self._take(message)
        except RemoteProtocolError as error:
            log.error("a worker says what cannot be", of=self.index + 1, pid=self.pid, error=str(error))
            self.kill()
        self._heard_all.set()

    def _take(self, message: ToSupervisor) -> None:
        self.missed = 0
        match message:
            case Beat(degraded, waiting):
                self.degraded, self.waiting = degraded, waiting
            case Answer(number, sessions, metrics, nodes):
                self.late = False
                self.sessions, self.metrics = sessions, metrics
                self.nodes = self.nodes if nodes is None else nodes
                if number in self._asked:
                    self._asked[number].set()
            case Seen(number, reading, nodes):
                self.late = False
                self.reading = _reading(reading)
                self.nodes = self.nodes if nodes is None else nodes
                if number in self._asked:
                    self._asked[number].set()
            case Farewell(metrics):
                self.metrics = metrics
            case Leaving():
                self._enter(Phase.LEAVING)
            case Ready():
                self._watcher.heard(self, message)
                self._enter(Phase.READY)
            case _:
                self._watcher.heard(self, message)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.settled.set()
        if phase is Phase.ENDED:
            for answered in self._asked.values():
                answered.set()
            self.ended.set()
        self._watcher.changed(self)


def _reading(said: msgspec.Raw) -> Reading:
    """Raises RemoteProtocolError for what is none."""
    try:
        return msgspec.msgpack.decode(said, type=Reading)
    except UNREADABLE as error:
        raise RemoteProtocolError("not a reading", str(error)) from error
