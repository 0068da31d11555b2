"""What is wrong with a head or a trailer section that does not match the grammar, in words.

Nothing here is on the hot path: it runs once, for a message that is refused. Of field lines, names are quoted and never
values, which may be cookies or tokens.
"""

from __future__ import annotations

import re

from engine.errors import HTTPError
from engine.wire.http1.grammar import MAX_LINE, REQUEST_LINE, STATUS_LINE, TOKEN, is_token, is_value

MAX_SHOWN = 100  # bytes

_leading_token = re.compile(rb"(?:" + TOKEN + rb")?").match
_is_like_a_first_line = re.compile(rb"[A-Z]{1,20} [^\r\n]* HTTP/[^ ]*|HTTP/[^\r\n]*").fullmatch


def request_defect(head: bytes) -> HTTPError:
    """The error for a request's head that does not match."""
    return _head_defect(head, REQUEST_LINE, "request line")


def response_defect(head: bytes) -> HTTPError:
    """The error for a response's head that does not match."""
    return _head_defect(head, STATUS_LINE, "status line")


def _head_defect(head: bytes, first_line: bytes, called: str) -> HTTPError:
    """The first defect in the order of reading."""
    lines = head.lstrip(b"\r\n").split(b"\r\n")
    line = lines[0]
    if len(line) > MAX_LINE:
        return HTTPError(414, f"the first line has {len(line)} bytes, more than {MAX_LINE}")
    if re.fullmatch(first_line, line) is None:
        version = re.search(rb"(?:^| )(HTTP/([0-9]+)\.([0-9]+))(?: |$)", line)
        if version is not None and version.groups()[1:] not in ((b"1", b"0"), (b"1", b"1")):
            return HTTPError(505, "expected HTTP/1.1", shown(version[1][:16]))
        return HTTPError(400, f"expected a {called}", shown_line(line))
    return field_defect(lines[1:])


def field_defect(lines: list[bytes]) -> HTTPError:
    """The error for field lines (also of trailers) of which one does not match."""
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(b":")
        # What is no name in front of a colon may be a piece of a value.
        named = colon and is_token(name) is not None
        where = f"field line {number}, {shown(name)}" if named else f"field line {number}"
        if line[:1] in (b" ", b"\t"):
            return HTTPError(400, "a folded field line", where)
        if b"\n" in line or b"\r" in line:
            return HTTPError(400, "a bare CR or LF in a field line", where)
        if not colon and line:
            return HTTPError(400, "a field line without a colon", where)
        if line and is_token(name) is None:
            if not name:
                return HTTPError(400, "a field line without a name", where)
            token = _leading_token(line)
            at = 0 if token is None else token.end()
            return HTTPError(400, "expected a field name", f"{where}, byte 0x{line[at]:02x} at {at}")
        if is_value(value) is None:
            return HTTPError(400, "a control character in the value of a field", where)
    return HTTPError(400, "the fields do not end with an empty line")


def shown_line(line: bytes) -> str:
    """A first line for the log. What is not like one may be anything, a body that somebody took to be shorter, too; of
    that, only how it begins is shown.
    """
    if _is_like_a_first_line(line) is not None:
        return shown_target(line)
    begin = f" that begin with byte 0x{line[0]:02x}" if line else ""
    return f"{len(line)} bytes{begin}"


def shown_target(line: bytes) -> str:
    """A target, or a first line, for the log, without what may be a secret in it: a query or a fragment, or a name and
    password.
    """
    line = line.partition(b"?")[0].partition(b"#")[0]
    before, at, _ = line.rpartition(b"@")
    if not at:
        return shown(line)
    name = max(before.rfind(b" "), before.rfind(b"/")) + 1
    return shown(before[:name])


def shown(value: bytes) -> str:
    """Bytes for the log: escaped, and cut where they stop being informative."""
    return repr(value[:MAX_SHOWN])[1:] + ("…" if len(value) > MAX_SHOWN else "")
