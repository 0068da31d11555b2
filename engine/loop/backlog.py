"""What waits for one way out and may be lost: datagrams of many flows, of which the oldest go when there are too many.

Who sends too much loses its own: flows have turns, one datagram each, and each has bounds of its own. All together have
a bound as well; beyond that the flow loses one whose turn is next, which has waited for longest.

What is kept is charged to an account of its own (see memory): where the process has no more room, all of it is dropped,
and nobody is ended.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, Generic, Protocol, TypeVar

from engine.loop.duplex import Bytes
from engine.loop.memory import MIB, Account, Memory

FLOW_BYTES: Final = MIB // 2
ALL_BYTES: Final = 8 * MIB
OVERHEAD: Final = 64  # of each datagram: what Python needs to keep it


class Flow(Protocol):
    dropped: int  # how many of its datagrams were lost here


F = TypeVar("F", bound=Flow)


class _Queue:
    """Of one flow."""

    __slots__ = ("datagrams", "weight")

    def __init__(self) -> None:
        self.datagrams: deque[bytes] = deque()
        self.weight = 0


class Backlog(Generic[F]):
    """Datagrams that wait, at most `most` of each flow. `dropped` counts those that waited in vain."""

    def __init__(self, memory: Memory, most: int) -> None:
        self.dropped = 0
        self._most = most
        self._turns: OrderedDict[F, _Queue] = OrderedDict()
        self._account = Account(memory, self)

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, flow: F, data: Bytes) -> None:
        """Keep a copy of `data` until its turn, or until there are too many behind it."""
        queue = self._turns.get(flow)
        if queue is None:
            queue = self._turns[flow] = _Queue()
        weight = len(data) + OVERHEAD
        queue.datagrams.append(bytes(data))
        queue.weight += weight
        self._account.charge(weight)
        while len(queue.datagrams) > self._most or queue.weight > FLOW_BYTES:
            self._drop(flow, queue)
        while self._account.used > ALL_BYTES:
            self._drop(*next(iter(self._turns.items())))

    def take(self) -> tuple[F, bytes]:
        """The datagram whose turn it is. KeyError if there is none."""
        flow, queue = self._turns.popitem(last=False)
        data = self._first(queue)
        if queue.datagrams:
            self._turns[flow] = queue
        return flow, data

    def put_back(self, flow: F, data: bytes) -> None:
        """What was taken, and could not leave: it is the flow's first again, and the flow the next."""
        queue = self._turns.setdefault(flow, _Queue())
        self._turns.move_to_end(flow, last=False)
        weight = len(data) + OVERHEAD
        queue.datagrams.appendleft(data)
        queue.weight += weight
        self._account.charge(weight)

    def forget(self, flow: F) -> None:
        """The flow is over: what waits of it is dropped."""
        queue = self._turns.get(flow)
        while queue is not None and queue.datagrams:
            self._drop(flow, queue)

    def clear(self) -> None:
        """Drop all."""
        for flow in tuple(self._turns):
            self.forget(flow)

    def overdrawn(self) -> None:
        self.clear()

    def close(self) -> None:
        self.clear()
        self._account.end()

    def _drop(self, flow: F, queue: _Queue) -> None:
        self._first(queue)
        flow.dropped += 1
        self.dropped += 1
        if not queue.datagrams:
            del self._turns[flow]

    def _first(self, queue: _Queue) -> bytes:
        data = queue.datagrams.popleft()
        weight = len(data) + OVERHEAD
        queue.weight -= weight
        self._account.release(weight)
        return data
