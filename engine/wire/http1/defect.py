"""What is wrong with a head or a trailer section that does not match the grammar, in words.

Nothing here is on the hot path: it runs once, for a message that is refused.
"""

from __future__ import annotations

import re

from engine.errors import RemoteProtocolError
from engine.wire.http1.grammar import MAX_LINE, REQUEST_LINE, STATUS_LINE, is_token, is_value


def request_defect(head: bytes) -> RemoteProtocolError:
    """The error for a request's head that does not match."""
    return _head_defect(head, REQUEST_LINE, "request line")


def response_defect(head: bytes) -> RemoteProtocolError:
    """The error for a response's head that does not match."""
    return _head_defect(head, STATUS_LINE, "status line")


def _head_defect(head: bytes, first_line: bytes, called: str) -> RemoteProtocolError:
    """The first defect in the order of reading."""
    lines = head.lstrip(b"\r\n").split(b"\r\n")
    line = lines[0]
    if len(line) > MAX_LINE:
        return RemoteProtocolError(f"the first line has {len(line)} bytes, more than {MAX_LINE}", status=414)
    if re.fullmatch(first_line, line + b"\r\n") is None:
        version = re.search(rb"(?:^| )HTTP/([0-9]+)\.([0-9]+)(?: |$)", line)
        if version is not None and version.groups() not in ((b"1", b"0"), (b"1", b"1")):
            return RemoteProtocolError(f"expected HTTP/1.1, got {shown(line)}", status=505)
        return RemoteProtocolError(f"expected a {called}, got {shown(line)}")
    return field_defect(lines[1:])


def field_defect(lines: list[bytes]) -> RemoteProtocolError:
    """The error for field lines (also of trailers) of which one does not match."""
    for line in lines:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            return RemoteProtocolError(f"a folded field line: {shown(line)}")
        if b"\n" in line or b"\r" in line:
            return RemoteProtocolError(f"a bare CR or LF in {shown(line)}")
        if not colon and line:
            return RemoteProtocolError(f"a field line without a colon: {shown(line)}")
        if line and is_token(name) is None:
            return RemoteProtocolError(f"expected a field name, got {shown(name)}")
        if is_value(value) is None:
            return RemoteProtocolError(f"a control character in the value of {shown(name)}: {shown(value)}")
    return RemoteProtocolError("the fields do not end with an empty line")


def shown(value: bytes) -> str:
    """A value for a message or a log line: escaped, and cut where it stops being informative."""
    return repr(value[:200])[1:] + ("…" if len(value) > 200 else "")
