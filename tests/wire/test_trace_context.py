"""traceparent and tracestate: what is valid of W3C Trace Context, and how they are written anew."""

from __future__ import annotations

import pytest

from engine.wire import http1
from engine.wire.trace_context import Parent, parent_of, replaced

TRACE = b"0af7651916cd43dd8448eb211c80319c"
SPAN = b"b7ad6b7169203331"
FIELD = b"traceparent: 00-%b-%b-01" % (TRACE, SPAN)


def head(*lines: bytes) -> bytes:
    """As a node reads it: of any spelling, in plain form."""
    came = http1.encode_lines([b"GET / HTTP/1.1", b"Host: web.test", *lines])
    return http1.parse_request(came, http1.MAX_HEAD).head


@pytest.mark.parametrize(
    "line",
    [
        FIELD,
        FIELD.replace(b"traceparent", b"TraceParent"),
        FIELD.replace(b": ", b":\t  ") + b"  ",
        b"traceparent: 42-%b-%b-01-what-comes-later" % (TRACE, SPAN),
    ],
)
def test_a_parent_is_known_however_it_is_spelled(line: bytes) -> None:
    parent = parent_of(head(line))
    assert parent == Parent(TRACE, SPAN, 1)
    assert parent.sampled


@pytest.mark.parametrize(("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"ff", True)])
def test_the_last_bit_of_the_flags_is_sampled(flags: bytes, sampled: bool) -> None:
    parent = parent_of(head(b"traceparent: 00-%b-%b-%b" % (TRACE, SPAN, flags)))
    assert parent is not None
    assert parent.sampled is sampled
    assert parent.flags == int(flags, 16)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"x-traceparent: 00-%b-%b-01" % (TRACE, SPAN)],
        [FIELD, FIELD],
        [FIELD + b"-more"],
        [b"traceparent: ff-%b-%b-01" % (TRACE, SPAN)],
        [b"traceparent: 00-%b-%b-01" % (b"0" * 32, SPAN)],
        [b"traceparent: 00-%b-%b-01" % (TRACE, b"0" * 16)],
        [b"traceparent: 00-%b-%b-01" % (TRACE.upper(), SPAN)],
        [b"traceparent: 00-%b-%b-1" % (TRACE, SPAN)],
        [b"traceparent: 00-%b-%b" % (TRACE, SPAN)],
        [b"traceparent: "],
        [b"traceparent: 00-%b-%b-01, 00-%b-%b-01" % (TRACE, SPAN, TRACE, SPAN)],
    ],
)
def test_what_is_not_valid_is_nothing(lines: list[bytes]) -> None:
    assert parent_of(head(*lines)) is None


def test_a_parent_is_replaced_and_its_state_goes_on() -> None:
    lines = [b"GET / HTTP/1.1", b"TraceParent: 00-x", b"tracestate: a=1", b"Tracestate: b=2", b"Host: web.test"]
    assert replaced(lines, TRACE, SPAN, 3, begins=False) == [
        b"GET / HTTP/1.1",
        b"tracestate: a=1",
        b"Tracestate: b=2",
        b"Host: web.test",
        b"traceparent: 00-%b-%b-03" % (TRACE, SPAN),
    ]


def test_the_state_of_a_parent_that_is_not_valid_goes_with_it() -> None:
    lines = [b"GET / HTTP/1.1", b"traceparent: 00-x", b"tracestate: a=1"]
    assert replaced(lines, TRACE, SPAN, 1, begins=True) == [
        b"GET / HTTP/1.1",
        b"traceparent: 00-%b-%b-01" % (TRACE, SPAN),
    ]
