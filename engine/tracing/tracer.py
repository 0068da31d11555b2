"""Which requests are traced, and the spans that wait for the exporter. Nothing here waits.

The parent decides (its sampled flag), and where there is none, chance. Strangers may set that flag on all they ask, so
there is a most per second, too. Who is over it is passed on as it came, and not even looked at: a node that has much to
do is over it most of the time.
"""

from __future__ import annotations

from collections import deque
from random import getrandbits, random
from typing import Final, NamedTuple

from engine.limits import Bucket
from engine.tracing.span import Span
from engine.wire.trace_context import SAMPLED, parent_of

QUEUE: Final = 8192  # spans, of a KiB or two


class Trace(NamedTuple):
    """A trace that is sampled. `parent` is the span that a request comes from, empty if the trace begins here."""

    id: bytes
    parent: bytes
    flags: int


class Tracer:
    """`sample` is the share of traces without a parent that are sampled, `rate` the most traces per second; 0: any
    number. `node` is the id of the node, if this is one. `lost` counts spans for which the queue had no room.
    """

    def __init__(self, sample: float, rate: int, now: float, *, node: str = "") -> None:
        self.node = node
        self.queue: deque[Span] = deque()
        self.lost = 0
        self._sample = sample
        self._rate = rate
        self._bucket = Bucket(rate, now)
        self._empty_until = now

    def sample(self, head: bytes, now: float) -> Trace | None:
        """The trace of a request with this head, if it is sampled."""
        if self._rate and (now < self._empty_until or not self._has_room(now)):
            return None
        parent = parent_of(head)
        if parent is None:
            if random() >= self._sample:
                return None
            trace = Trace(b"%032x" % (getrandbits(128) or 1), b"", SAMPLED)
        elif parent.sampled:
            trace = Trace(parent.trace, parent.span, parent.flags)
        else:
            return None
        if self._rate:
            self._bucket.charge(1)
        return trace

    def put(self, span: Span) -> None:
        """A span is over."""
        if len(self.queue) >= QUEUE:
            self.lost += 1
        else:
            self.queue.append(span)

    def _has_room(self, now: float) -> bool:
        wait = self._bucket.wait(self._rate, now)
        self._empty_until = now + wait
        return not wait


def new_span_id() -> bytes:
    return b"%016x" % (getrandbits(64) or 1)
