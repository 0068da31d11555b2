"""Field lines that come again: each is read once, and looked up from then on.

No two heads of a crowd of browsers are equal, but most of their lines are. A browser says what it accepts in the same
words each time, a service what it is; what differs is a path, a cookie, a trace, a date. So a head is split into
lines, those that are known to say nothing to us are passed over in C, and only the others are looked at: 5 of a
browser's 14.

What makes that safe:

* A line enters the table only after the grammar has let it pass, and only as it was then, to the last byte.
* What decides something is looked at every time. The table only says which name and which value such a line has.
* Only lines with names of `KEPT` are kept. They are those that are public and come again; a line with a credential, or
  with a name that somebody made up and that may be one, is never kept.
* A line is kept when it comes for the second time, and all lines together have at most `KEPT_BYTES`. When they have
  more, all are forgotten, and those that are used come back with the next two requests. Who floods a node with lines
  makes others' heads as slow as without a table, and no slower.
"""

from __future__ import annotations

from itertools import filterfalse
from typing import Final

from engine.wire import piko
from engine.wire.http1 import claims
from engine.wire.http1.grammar import is_plain_name, is_plain_value
from engine.wire.http1.hop import HOP_BY_HOP
from engine.wire.http1.known import Noted
from engine.wire.http1.message import Mark

KEPT_BYTES: Final = 256 * 1024  # of lines
KEPT_LINE: Final = 512  # bytes; a longer one is read anew each time
KEPT_NAMES: Final = 1024  # names are kept as they were spelled, and strangers choose them

DECISIVE: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect"}

KEPT: Final = frozenset(
    b"host connection keep-alive proxy-connection te transfer-encoding upgrade content-length expect"
    b" accept accept-charset accept-encoding accept-language user-agent dnt sec-gpc priority upgrade-insecure-requests"
    b" sec-ch-ua sec-ch-ua-arch sec-ch-ua-full-version-list sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform"
    b" sec-ch-ua-platform-version sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user"
    b" sec-websocket-version sec-websocket-extensions"
    b" cache-control pragma origin x-requested-with x-piko-endpoint"
    b" x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port via"
    b" content-type content-encoding content-language"
    b" server date vary expires last-modified accept-ranges allow alt-svc age"
    b" access-control-allow-origin access-control-allow-credentials access-control-allow-headers"
    b" access-control-allow-methods access-control-expose-headers access-control-max-age"
    b" access-control-request-headers access-control-request-method"
    b" strict-transport-security content-security-policy permissions-policy referrer-policy x-content-type-options"
    b" x-frame-options x-xss-protection cross-origin-opener-policy cross-origin-embedder-policy"
    b" cross-origin-resource-policy x-powered-by timing-allow-origin nel report-to".split()
)


class _Name:
    """What is known of a name, as it was spelled."""

    __slots__ = ("kept", "lower", "marked")

    def __init__(self, name: bytes) -> None:
        self.lower = lower = name.lower()
        self.marked = (
            lower in DECISIVE or lower == b"authorization" or lower.startswith(piko.PREFIX) or claims.is_claim(lower)
        )
        self.kept = lower in KEPT


class Lines:
    """The lines and names that are known, of requests or of responses."""

    def __init__(self) -> None:
        self.passing: dict[bytes, None] = {}  # lines that say nothing to us
        self.marked: dict[bytes, Mark] = {}
        self._size = 0  # bytes of both
        self._names: dict[bytes, _Name] = {}
        self._noted = Noted()  # lines that have come once

    def read(self, lines: list[bytes]) -> list[Mark] | None:
        """The marked fields of a head, in order; None if a field line is not *plain*.

        `lines` are a head's, without the empty ones behind. The first is a request or status line, and not looked at.
        """
        marks: list[Mark] = []
        unknown = filterfalse(self.passing.__contains__, lines)
        next(unknown)
        marked, names = self.marked, self._names
        for line in unknown:
            mark = marked.get(line)
            if mark is None:
                spelled, colon, value = line.partition(b": ")
                if is_plain_value(value) is None if value else not colon:
                    return None
                name = names.get(spelled)
                if name is None:
                    if is_plain_name(spelled) is None:
                        return None
                    name = self._learn_name(spelled)
                if name.marked:
                    mark = (name.lower, value, line)
                    marks.append(mark)
                if name.kept:
                    self._learn(line, mark)
            else:
                marks.append(mark)
        return marks

    def _learn_name(self, spelled: bytes) -> _Name:
        if len(self._names) >= KEPT_NAMES:
            self._names.clear()
        name = self._names[spelled] = _Name(spelled)
        return name

    def _learn(self, line: bytes, mark: Mark | None) -> None:
        """Keep `line` if it was here lately."""
        size = len(line)
        if size > KEPT_LINE:
            return
        if not self._noted.again(line):
            return
        if self._size + size > KEPT_BYTES:
            self.passing.clear()
            self.marked.clear()
            self._size = 0
        self._size += size
        if mark is None:
            self.passing[line] = None
        else:
            self.marked[line] = mark


def marks_of(lines: list[bytes]) -> list[Mark]:
    """The marked fields of a head that was written anew by us: nothing is checked, and nothing kept."""
    marks: list[Mark] = []
    for line in lines[1:]:
        spelled, _, value = line.partition(b": ")
        name = _Name(spelled)
        if name.marked:
            marks.append((name.lower, value, line))
    return marks
