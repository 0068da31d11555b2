"""Which sockets have something to read: asked once for all of them, not once for each.

Trio wakes a task for every socket that becomes readable, and arms the socket anew every time: about 15 us of
a request's 30. So sockets that are driven by pushes (see duplex.py) are registered once, in an epoll of our own,
and Trio watches that one: an epoll is itself readable when any of its sockets is. One task wakes, asks which they
are, and calls each one's handler, which reads what there is. Measured in perf/ (`trioduct-perf micro poller`).

Supervision stays where it was. A socket's handler runs on behalf of the task that awaits `Connection.run`; what
goes wrong in it is raised there.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import trio

MAX_EVENTS: Final = 64  # handled before other tasks get their turn

READABLE: Final = select.EPOLLIN
BROKEN: Final = select.EPOLLHUP | select.EPOLLERR

Handler = Callable[[int], None]


current: ContextVar[Poller] = ContextVar("poller")
"""The poller of the role that a task belongs to."""


def current_poller() -> Poller:
    """RuntimeError outside `open_pulse`."""
    try:
        return current.get()
    except LookupError:
        raise RuntimeError("connections run only inside open_pulse()") from None


class Poller:
    """Calls handlers of readable sockets; one per process, `run` by one task."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

    def add(self, sock: socket.socket, handler: Handler, events: int = READABLE) -> None:
        """From now on call `handler(events)`, again and again as long as they hold (level-triggered)."""
        fd = sock.fileno()
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def remove(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        handlers = self._handlers
        poll = self._epoll.poll
        while True:
            await trio.lowlevel.wait_readable(self._epoll)
            for fd, events in poll(0, MAX_EVENTS):
                handler = handlers.get(fd)
                if handler is not None:  # else it was removed by one before it
                    handler(events)

    def close(self) -> None:
        """When every connection has been removed."""
        self._epoll.close()
