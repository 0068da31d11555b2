"""Which requests are traced, and how many spans wait."""

from __future__ import annotations

import re

import pytest

from engine.tracing.span import Kind, Span
from engine.tracing.tracer import QUEUE, Tracer, new_span_id

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"


def head(flags: bytes = b"") -> bytes:
    field = b"traceparent: 00-%b-%b-%b\r\n" % (TRACE, SPAN, flags) if flags else b""
    return b"GET / HTTP/1.1\r\nHost: web.test\r\n" + field + b"\r\n"


def test_the_parent_decides() -> None:
    never, always = Tracer(0, 0, 0), Tracer(1, 0, 0)
    for tracer in (never, always):
        assert tracer.sample(head(b"03"), 0) == (TRACE, SPAN, 3)
        assert tracer.sample(head(b"02"), 0) is None


def test_without_a_parent_it_is_chance() -> None:
    tracer = Tracer(0.25, 0, 0)
    begun = [trace for trace in (tracer.sample(head(), 0) for _ in range(4000)) if trace is not None]
    assert 800 < len(begun) < 1200  # six sigma
    assert all(trace.flags == 1 and not trace.parent for trace in begun)
    assert len({trace.id for trace in begun}) == len(begun)
    assert all(re.fullmatch(rb"[0-9a-f]{32}", trace.id) for trace in begun)
    assert Tracer(0, 0, 0).sample(head(), 0) is None


@pytest.mark.parametrize("flags", [b"", b"01"])
def test_there_is_a_most_per_second_whoever_wants_them(flags: bytes) -> None:
    tracer = Tracer(1, 2, 0)

    def traced(now: float) -> int:
        return sum(tracer.sample(head(flags), now) is not None for _ in range(100))

    assert traced(0) == 20  # of ten seconds at once
    assert traced(0) == 0
    assert traced(3) == 6


def test_what_is_not_sampled_takes_nothing_from_the_most() -> None:
    tracer = Tracer(0, 1, 0)
    assert [tracer.sample(head(flags), 0) for flags in (b"", b"00") * 50] == [None] * 100
    assert sum(tracer.sample(head(b"01"), 0) is not None for _ in range(100)) == 10


def test_the_queue_is_bounded_and_what_does_not_fit_is_counted() -> None:
    tracer = Tracer(1, 0, 0)
    for _ in range(QUEUE + 3):
        tracer.put(Span(Kind.SERVER, "GET", TRACE, new_span_id(), b"", 1, 0.0))
    assert (len(tracer.queue), tracer.lost) == (QUEUE, 3)
