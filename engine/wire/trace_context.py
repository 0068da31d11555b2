"""The fields by which a trace goes from hop to hop (W3C Trace Context, https://www.w3.org/TR/trace-context/).

    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01

That is version, trace, span of who sends the request, and flags, all in hexadecimal; the last bit of the flags says
that the trace is sampled. `tracestate` belongs to it, has what vendors add, and goes on as it came.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SAMPLED: Final = 1

# Of a head in plain form (see http1.grammar). A later version may have more behind the flags (3.2.2.1).
_found: Final = re.compile(rb"\r\ntraceparent: ([^\r]*)", re.IGNORECASE).findall
_parts: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\r]*)?").fullmatch
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


class Parent(NamedTuple):
    """Who has sent a request: its trace and its span, in hexadecimal."""

    trace: bytes
    span: bytes
    flags: int

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parent_of(head: bytes) -> Parent | None:
    """What a request's head says of its trace; None if that is nothing, or not valid, and then a trace begins here."""
    values = _found(head)
    match = _parts(values[0].rstrip(b" \t")) if len(values) == 1 else None
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return Parent(trace, span, int(flags, 16))


def replaced(lines: list[bytes], trace: bytes, span: bytes, flags: int, *, begins: bool) -> list[bytes]:
    """A head's lines, which say that `span` sends them. Where the trace `begins`, a `tracestate` is of no known one."""
    names = (b"traceparent", b"tracestate") if begins else (b"traceparent",)
    kept = [line for line in lines if line.partition(b":")[0].lower() not in names]
    return [*kept, b"traceparent: 00-%b-%b-%02x" % (trace, span, flags)]
