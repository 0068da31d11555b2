"""The loop that runs connection code: who is ready, for how long it may work, and what happens when it raises.

**Why a loop of our own.** Trio wakes a task for every socket that becomes readable, and arms the socket anew every
time: about 15 us of a request's 30. So sockets are registered once, in an epoll of the reactor's, and Trio watches
that one: an epoll is itself readable when any of its sockets is ready. One task wakes, asks which they are, and gives
each its turn.

**One guard.** Connection code is called in one place per kind of event: a socket is ready, a turn goes on, a turn of
the loop is over, a deadline has passed, a task hands something over (`call`). What raises there ends *that* connection
(`break_off`, visibly for its peer), is counted by place and logged once, and the role goes on.

**Turns are time.** A source may work for `TURN_SECONDS`; those that handle many small things ask `over()` after each of
them. Who is not done when its turn is over goes to the end of the queue of those who go on, and while it is there it is
not asked whether it is ready. Between two looks at who is ready, those who go on get one turn *together*. Who is ready
gets a turn at once. Only those whose last one took more than `SHORT_SECONDS` join the queue, if there is one, or if the
round has lasted for a turn already. So whoever asks for little waits for a few turns at most, however many others ask
for much; and those share what is left, in turn.

**Busy-polling.** Where a role has the process to itself, and a round of events woke nobody's task, the next events are
waited for right here for a moment, instead of by a turn of Trio's loop that would find nothing else to do: a lone
request is a quarter faster for it (p1 285 -> 209 us). Trio is away from its own work for `AWAY_SECONDS` at the most;
who gives a task something to do says so (`hand_over`), and then nothing is waited for.

**The end of a turn.** Sessions send what a round of events has put on them when it is over (`flush_soon`), so thirty
requests that came at once leave as one WebSocket message in one system call. In a round that takes longer, what is
there is sent every `SEND_SECONDS`. Tasks that put something are covered by Trio telling an instrument when it is about
to sleep.

**Batches.** In busy-polling, such a message holds few requests after a moment in which nothing was to do, and twice as
many with every round that follows at once: node and agent then work at the same time, instead of one after the other
on all that is under way (32 connections: +16 % requests/s for +9 % of CPU), and who is busy anyhow saves the system
calls.

**Deadlines.** A `trio.CancelScope` per request would cost more than its parsing. Whoever has a deadline keeps it as a
number, and is asked a few times a second. They guard against peers that stall; a quarter of a second does not matter.
"""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, ParamSpec, Protocol

import trio

from engine.log import get_logger
from engine.loop.memory import Memory, process_limit

LEAST_EVENTS: Final = 8  # of a batch, which are handled before what they gave to sessions is sent
MAX_EVENTS: Final = 64
TURN_SECONDS: Final = 0.0005
SHORT_SECONDS: Final = 0.0003  # a request's work, and more
SEND_SECONDS: Final = 0.002
BUSY_POLL_SECONDS: Final = 0.001  # the shortest wait that epoll knows
AWAY_SECONDS: Final = 0.002
CLOCK_SECONDS: Final = 0.25
REPEAT_SECONDS: Final = 60.0  # between two reports of one defect
MAX_CAUSES: Final = 256

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLHUP | select.EPOLLERR  # told whether asked for or not

log = get_logger("main")
P = ParamSpec("P")


class Breakable(Protocol):
    """What the guard can end."""

    def break_off(self, error: Exception) -> None:
        """A call of the reactor's has raised `error`: end, visibly for the peer."""


class Source(Breakable, Protocol):
    """A socket and its code. `queued` is the reactor's: it waits to go on."""

    queued: bool

    def ready(self, events: int) -> None:
        """Something can be read or sent."""

    def turn(self) -> None:
        """Go on with what the last turn had no time for."""


class Clocked(Breakable, Protocol):
    """Has a `deadline` (in `Reactor.now`'s seconds; infinity for none), and acts when it has passed."""

    deadline: float

    def expired(self) -> None: ...


class Flushed(Breakable, Protocol):
    def flush(self) -> None:
        """Send what was collected during this turn."""


current: ContextVar[Reactor] = ContextVar("reactor")


def current_reactor() -> Reactor:
    """The reactor of the role that this task belongs to. RuntimeError outside `open_reactor`."""
    try:
        return current.get()
    except LookupError:
        raise RuntimeError("connections live only inside open_reactor()") from None


class Reactor:
    """One per role, made by `run.open_reactor`.

    `busy_polls` makes everything else in this Trio run wait now and then.
    """

    def __init__(self, *, busy_polls: bool = False) -> None:
        self.now = trio.current_time()  # as of the last tick of the clock
        self.memory = Memory(process_limit())
        self.internal_errors: Counter[str] = Counter()  # by place
        self.going_on = False  # the turn is one of those that go on, not of those who have just become ready
        self._turn_ends = math.inf
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, READABLE)
        self._sources: dict[int, Source] = {}
        self._again: deque[tuple[Source, int]] = deque()  # with the events that it has not been told of
        self._long: set[Source] = set()  # whose last turn was
        self._clocked: set[Clocked] = set()
        self._to_flush: list[Flushed] = []
        self._token = trio.lowlevel.current_trio_token()
        self._busy_polls = busy_polls
        self._working = False
        self._handed_over = False
        self._reported: dict[object, float] = {}

    # -- sockets

    def watch(self, sock: socket.socket, source: Source, events: int, before: int) -> None:
        """Give `source` a turn whenever any of `events` holds (level-triggered); `before` is what was asked for so
        far.
        """
        fd = sock.fileno()
        if not events:
            del self._sources[fd]
            self._long.discard(source)
            self._epoll.unregister(fd)
        elif before:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._sources[fd] = source

    # -- turns

    def over(self) -> bool:
        """Has the present turn been used up? Asked by those who have more to do, after each piece of work."""
        return time.perf_counter() >= self._turn_ends

    def again(self, source: Source) -> None:
        """Give `source` another turn, behind everybody else who goes on."""
        if not source.queued:
            self._queue(source, 0)
            if not self._working:
                os.eventfd_write(self._bell, 1)

    def _queue(self, source: Source, events: int) -> None:
        source.queued = True
        self._again.append((source, events))

    def hand_over(self) -> None:
        """A task has been given something to do: let Trio run it after this round."""
        self._handed_over = True

    def flush_soon(self, thing: Flushed) -> None:
        """Call `thing.flush()` when this turn of the loop is over. Say it once per turn."""
        self._to_flush.append(thing)

    # -- deadlines

    @staticmethod
    def precise_now() -> float:
        """Seconds on the same clock as `now`, as of this moment."""
        return trio.current_time()

    def clock(self, thing: Clocked) -> None:
        """Look at `thing.deadline` from now on."""
        self._clocked.add(thing)

    def unclock(self, thing: Clocked) -> None:
        self._clocked.discard(thing)

    # -- the guard

    def call(
        self, place: str, subject: Breakable, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call connection code from outside of its turn: what raises ends `subject`, not the caller."""
        try:
            function(*args, **kwargs)
        except Exception as error:
            self.failed(place, subject, error)

    async def supervise(
        self, place: str, function: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """The outermost edge of a task that belongs to one connection: what raises ends there."""
        try:
            await function(*args, **kwargs)
        except Exception as error:
            self.count(place, error, function)

    def failed(self, place: str, subject: Breakable, error: Exception) -> None:
        """Connection code has raised `error` at `place`: end `subject`."""
        self.count(place, error, subject)
        try:
            subject.break_off(error)
        except Exception as second:
            self.count("break_off", second, subject)

    def count(self, place: str, error: Exception, subject: object = None) -> None:
        """Count a defect that has shown itself as `error`, and log it unless the same was logged a moment ago."""
        self.internal_errors[place] += 1
        raised = error.__traceback__
        while raised is not None and raised.tb_next is not None:
            raised = raised.tb_next
        where = f"{raised.tb_frame.f_code.co_qualname}:{raised.tb_lineno}" if raised is not None else ""
        cause = (place, type(error), where)
        now = trio.current_time()
        if now - self._reported.get(cause, -math.inf) < REPEAT_SECONDS:
            return
        if len(self._reported) >= MAX_CAUSES:
            self._reported.clear()
        self._reported[cause] = now
        log.error("internal error", place=place, subject=repr(subject), error=repr(error), where=where)
        log.debug("internal error", place=place, exc_info=error)

    # -- the loop

    async def run(self) -> None:
        poll = self._epoll.poll
        batch = MAX_EVENTS
        while True:
            if self._again:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._epoll)
            back_at = time.perf_counter() + AWAY_SECONDS
            self._handed_over = False
            self._working = True
            try:
                events = poll(0, batch)
                while True:
                    self._ready(events)
                    if self._again:
                        self._go_on()
                    if self.memory.used > self.memory.limit or self.memory.crowded:
                        self.memory.reclaim()
                    self.flush()
                    if not self._busy_polls or self._handed_over or time.perf_counter() > back_at:
                        break
                    batch = min(2 * batch, MAX_EVENTS)
                    events = poll(0, batch)
                    if not events and not self._again:
                        batch = LEAST_EVENTS
                        events = poll(BUSY_POLL_SECONDS, batch)
                        if not events:
                            break
            finally:
                self._working = False

    def _ready(self, events: list[tuple[int, int]]) -> None:
        """Give those who have become ready a turn each, while there is time for those whose last one was long."""
        sources, long, again = self._sources, self._long, self._again
        began = time.perf_counter()
        long_until = began + TURN_SECONDS
        send_at = began + SEND_SECONDS
        for fd, what in events:
            source = sources.get(fd)
            if source is None:  # its socket was closed by one before it, or it is the bell
                if fd == self._bell:
                    os.eventfd_read(fd)
            elif source.queued:
                continue
            elif (again or began > long_until) and source in long:
                self._queue(source, what)
            else:
                self._turn_ends = began + TURN_SECONDS
                try:
                    source.ready(what)
                except Exception as error:
                    self.failed("ready", source, error)
                ended = time.perf_counter()
                if ended - began > SHORT_SECONDS and sources.get(fd) is source:
                    long.add(source)
                if ended > send_at:
                    self.flush()
                    ended = time.perf_counter()
                    send_at = ended + SEND_SECONDS
                began = ended

    def _go_on(self) -> None:
        """Give those who go on one turn together, beginning with who has waited longest."""
        again = self._again
        began = time.perf_counter()
        self._turn_ends = until = began + TURN_SECONDS
        self.going_on = True
        for _ in range(len(again)):
            source, what = again.popleft()
            source.queued = False
            try:
                if what:
                    source.ready(what)
                else:
                    source.turn()
            except Exception as error:
                self.failed("turn", source, error)
            ended = time.perf_counter()
            if what and ended - began <= SHORT_SECONDS:
                self._long.discard(source)
            if ended >= until:
                break
            began = ended
        self.going_on = False

    def flush(self) -> None:
        """This turn of the loop is over."""
        while self._to_flush:  # a session's frames may be what a carrier flushes then
            things, self._to_flush = self._to_flush, []
            for thing in things:
                try:
                    thing.flush()
                except Exception as error:
                    self.failed("flush", thing, error)

    def flush_before_sleep(self) -> None:
        """The same, when Trio is about to wait: what a task is given to do now would wait as long."""
        self._handed_over = False
        self.flush()
        if self._handed_over:
            os.eventfd_write(self._bell, 1)

    async def run_clock(self) -> None:
        while True:
            await trio.sleep(CLOCK_SECONDS)
            self.now = trio.current_time()
            await self._look_at_deadlines()

    async def _look_at_deadlines(self) -> None:
        """Apart from the loop, whose variables would keep the last that has expired until another does."""
        now = self.now
        self._turn_ends = time.perf_counter() + TURN_SECONDS
        for thing in [thing for thing in self._clocked if thing.deadline <= now]:
            if thing.deadline > now:  # it was moved by one before it
                continue
            thing.deadline = math.inf
            try:
                thing.expired()
            except Exception as error:
                self.failed("deadline", thing, error)
            if self.over():  # thousands that came together also end together
                await trio.lowlevel.checkpoint()
                self._turn_ends = time.perf_counter() + TURN_SECONDS

    def close(self) -> None:
        """When no socket is watched any more."""
        self._working = True  # nobody is to be woken
        self._epoll.close()
        os.close(self._bell)
