"""Reading heads: where one ends, what a request or a response says, and what its fields decide."""

from __future__ import annotations

from typing import Final

from engine.errors import HTTPError
from engine.wire import piko
from engine.wire.http1 import claims
from engine.wire.http1.defect import request_defect, response_defect, shown, shown_line, shown_target
from engine.wire.http1.grammar import (
    MAX_FIELDS,
    MAX_HEAD,
    MAX_HOST,
    MAX_LEADING_LINES,
    MAX_LINE,
    PEER_FIELDS,
    PEER_HEAD,
    absolute_target,
    is_host,
    is_token,
    request_line,
    search_control,
    search_end,
    split_lines,
    status_line,
    whole_request,
    whole_response,
)
from engine.wire.http1.hop import NOTHING, connection, drop
from engine.wire.http1.known import MAX_KNOWN_HEAD, Known
from engine.wire.http1.lines import DECISIVE, Lines, marks_of
from engine.wire.http1.message import CHUNKED, UNTIL_CLOSE, Fields, Mark, Request, Response
from engine.wire.http1.write import encode_lines

StatusLine = tuple[int, int, bytes]
"""Version (11 or 10), status, reason."""

MAX_STATUS_LINES: Final = 64

# Names whose "_" spelling is refused even alone: they frame or route, or the node drops or writes the "-" spelling.
_GUARDED_PREFIXES = (piko.PREFIX, *b"content-length transfer-encoding proxy-".split())
_CODING: Final = (b"transfer-encoding",)

_known_requests: Known[Request] = Known()
_known_responses: Known[Response] = Known()
_request_lines: Final = Lines()
_response_lines: Final = Lines()
_known_status_lines: Final[dict[bytes, StatusLine]] = {}


def head_end(data: bytes | bytearray | memoryview, start: int = 0, limit: int = MAX_HEAD) -> int:
    """Return the index just behind the head that begins at `start`, or -1 if its end has not come yet.

    Raises HTTPError as soon as the beginning cannot become a head (no text, a bare LF, another protocol's
    first line, too long), so that nobody waits for the rest of it.

    `limit` is in bytes and includes empty lines in front; a larger one than PEER_HEAD counts as PEER_HEAD.
    """
    if limit > PEER_HEAD:
        limit = PEER_HEAD
    stop = start + limit
    match = search_end(data, start, stop)
    if match is not None and data[start] != 0x0D:
        return match.end()
    start = _behind_leading_lines(data, start)
    match = search_end(data, start, stop)
    if match is not None:
        return match.end()
    if len(data) >= stop:
        raise too_long(limit)
    _refuse_hopeless(bytes(data[start:]))
    return -1


def too_long(limit: int) -> HTTPError:
    """The error for a head that is longer than `limit` bytes."""
    return HTTPError(431, f"the head is longer than {limit} bytes")


def _behind_leading_lines(data: bytes | bytearray | memoryview, start: int) -> int:
    for _ in range(MAX_LEADING_LINES):
        if data[start : start + 2] != b"\r\n":
            return start
        start += 2
    if data[start : start + 1] == b"\r":
        raise HTTPError(400, f"more than {MAX_LEADING_LINES} empty lines before a message")
    return start


def _refuse_hopeless(head: bytes) -> None:
    if search_control(head, 0, 64):
        # 22: a TLS handshake record (RFC 8446, 5.1), the most common stranger on a port without TLS.
        told = "a TLS handshake came to a port without TLS" if head[0] == 0x16 else "this is no HTTP"
        raise HTTPError(400, told, f"byte 0x{head[0]:02x}")
    if head.count(b"\n") != head.count(b"\r\n"):
        raise HTTPError(400, "a line ends with a bare LF")
    line, end, _ = head.partition(b"\r\n")
    if len(line) > MAX_LINE:
        raise HTTPError(414, f"the first line is longer than {MAX_LINE} bytes")
    if end and b" HTTP/" not in line and not line.startswith(b"HTTP/"):
        raise HTTPError(400, "expected the first line of a message", shown_line(line))


def next_request(data: memoryview, start: int, limit: int = MAX_HEAD) -> tuple[Request, int] | None:
    """The request whose head begins at `start`, and where the head ends; None if it has not come whole.

    Its head has at most `limit` bytes: PEER_HEAD for one that a node passes on. Raises HTTPError with the status that
    answers it.
    """
    end = head_end(data, start, limit)
    return None if end < 0 else (parse_request(bytes(data[start:end]), limit), end)


def next_response(data: memoryview, start: int, method: bytes, limit: int = MAX_HEAD) -> tuple[Response, int] | None:
    """The response to a request with `method` whose head begins at `start`, as for requests."""
    end = head_end(data, start, limit)
    return None if end < 0 else (parse_response(bytes(data[start:end]), method, limit), end)


def parse_request(head: bytes, limit: int = MAX_HEAD) -> Request:
    """Read a request's head, as cut by `head_end`, of at most `limit` bytes (PEER_HEAD also allows PEER_FIELDS fields).

    The limit is not looked at again for a head that is known, which is short: to look one up takes 75 ns, and that
    would add 15. Raises HTTPError with the status that answers the request. Equal heads may give the same object,
    so what is returned must not be changed.
    """
    if len(head) > MAX_KNOWN_HEAD:
        return _parse_request(head, limit)
    request = _known_requests.get(head)
    if request is None:
        request = _parse_request(head, limit)
        request.repeats = _known_requests.learn(head, request)
    return request


def _parse_request(head: bytes, limit: int) -> Request:
    if len(head) > limit:
        raise too_long(limit)
    if len(head) > MAX_LINE:
        _refuse_long_line(head)
    lines = head.split(b"\r\n")
    marks: list[Mark] | None = None
    first = request_line(lines[0])
    if first is not None:
        marks = _plain_marks(lines, _request_lines)
    if first is None or marks is None or first[2][0] != 0x2F or first[1] == b"CONNECT":  # 0x2f: origin-form, "/…"
        method, target, minor, lines = _rare_request(head)
        marks = marks_of(lines)
        head = encode_lines(lines)
    else:
        method, target, minor = first.groups()
    if len(lines) > MAX_FIELDS + 1:
        _check_count(len(lines) - 1, limit)
    version = 11 if minor == b"1" else 10
    found: dict[bytes, bytes] = {}
    for_node: list[Mark] = []
    for mark in marks:
        name = mark[0]
        if name in DECISIVE:
            found[name] = found[name] + b", " + mark[1] if name in found else mark[1]
        else:
            for_node.append(mark)

    host = found.get(b"host", b"")
    if host or b"host" in found:
        if is_host(host) is None or len(host) > MAX_HOST:
            raise HTTPError(400, "expected one host in Host")
    elif version == 11:
        raise HTTPError(400, "a request without Host")

    body, keep_alive, upgrade, expect_continue, intact = 0, version == 11, b"", False, True
    if len(found) > 1 or not host:  # more than Host
        coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
        if coding is not None or length is not None:
            body = _framed(version, coding, length)
        nominated = NOTHING
        if b"connection" in found:
            keep_alive, upgrade, nominated = connection(version, found)
        if b"expect" in found:
            expect_continue = _expects_continue(version, found[b"expect"]) and body != 0
            if version == 10:  # it goes on as HTTP/1.1, where it would not be ignored
                nominated = nominated | {b"expect"}
        # Trailers pass through here, so the wish for them may too (RFC 9110, 10.1.4), in the form all send.
        passes = (b"transfer-encoding", b"te" if found.get(b"te") == b"trailers" else b"")
        count = len(lines)
        drop(lines, marks, nominated, passes)
        intact = count == len(lines)
    if version == 10:
        intact = False
        lines[0] = b"%b %b HTTP/1.1" % (method, target)
    return Request(
        head, lines, intact, method, target, version, host, body, keep_alive, upgrade, expect_continue, for_node
    )


def _check_count(count: int, limit: int) -> None:
    most = PEER_FIELDS if limit > MAX_HEAD else MAX_FIELDS
    if count > most:
        raise HTTPError(431, f"{count} fields, more than {most}")


def _plain_marks(lines: list[bytes], known: Lines) -> list[Mark] | None:
    """Take the empty lines off the end of a head's lines, and give its marked fields; None if it is not plain."""
    if len(lines) < 3 or lines.pop() or lines.pop():
        return None
    return known.read(lines)


def parse_response(head: bytes, method: bytes, limit: int = MAX_HEAD) -> Response:
    """Read the head of a response to a request with `method`, of at most `limit` bytes, as for requests.

    Its body is framed by the rules of RFC 9112, 6.3. Raises HTTPError. Its status is not for the client, who gets 502.
    Equal heads may give the same object, so what is returned must not be changed.
    """
    if len(head) > MAX_KNOWN_HEAD or method == b"HEAD":
        return _parse_response(head, method, limit)
    response = _known_responses.get(head)
    if response is None:
        response = _parse_response(head, method, limit)
        response.repeats = _known_responses.learn(head, response)
    return response


def _parse_response(head: bytes, method: bytes, limit: int) -> Response:
    if len(head) > limit:
        raise too_long(limit)
    lines = head.split(b"\r\n")
    marks: list[Mark] | None = None
    first = _known_status_lines.get(lines[0]) or _read_status_line(lines[0])
    if first is not None:
        marks = _plain_marks(lines, _response_lines)
    if first is None or marks is None:
        first, lines = _rare_response(head)
        marks = marks_of(lines)
        head = encode_lines(lines)
    version, status, reason = first
    if len(lines) > MAX_FIELDS + 1:
        _check_count(len(lines) - 1, limit)
    found: dict[bytes, bytes] = {}
    for name, value, _ in marks:
        found[name] = found[name] + b", " + value if name in found else value

    # Defective framing is refused even where no body follows: the next message of who sends it is in doubt too.
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    body = UNTIL_CLOSE if coding is None and length is None else _framed(version, coding, length)
    keep_alive, upgrade, nominated = version == 11, b"", NOTHING
    if b"connection" in found:
        keep_alive, upgrade, nominated = connection(version, found)
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        body = 0
        if length is not None and (status < 200 or status == 204):  # RFC 9110, 8.6: MUST NOT be there
            nominated = nominated | {b"content-length"}
    elif body == UNTIL_CLOSE:
        keep_alive = False
    count = len(lines)
    drop(lines, marks, nominated, _CODING if body == CHUNKED else ())
    intact = count == len(lines) and version == 11 and body != UNTIL_CLOSE
    if version == 10:
        lines[0] = b"HTTP/1.1 %d %b" % (status, reason)
    return Response(head, lines, intact, version, status, reason, body, keep_alive, upgrade)


def _read_status_line(line: bytes) -> StatusLine | None:
    match = status_line(line)
    if match is None:
        return None
    minor, code, reason = match.groups()
    read = (11 if minor == b"1" else 10, int(code), reason)
    if len(_known_status_lines) < MAX_STATUS_LINES:
        _known_status_lines[line] = read
    return read


def _framed(version: int, coding: bytes | None, length: bytes | None) -> int:
    """The body of a message that has Transfer-Encoding or Content-Length. Whatever leaves a doubt is refused."""
    if coding is not None:
        if version == 10:  # RFC 9112, 6.1: the framing is faulty
            raise HTTPError(400, "Transfer-Encoding in an HTTP/1.0 message")
        if length is not None:
            raise HTTPError(400, "both Transfer-Encoding and Content-Length")
        if coding.lower() != b"chunked":
            unknown = is_token(coding) is not None  # 501 if it is one coding that we lack (RFC 9112, 6.1)
            raise HTTPError(501 if unknown else 400, "expected chunked in Transfer-Encoding")
        return CHUNKED
    assert length is not None
    if not length.isdigit() or len(length) > 18:  # below 2^63, whatever the digits
        raise HTTPError(400, "expected a number in Content-Length")
    return int(length)


def _expects_continue(version: int, expect: bytes) -> bool:
    if version == 10:  # RFC 9110, 10.1.1: MUST ignore
        return False
    if expect.lower() != b"100-continue":
        raise HTTPError(417, "expected 100-continue in Expect")
    return True


def _rare_request(head: bytes) -> tuple[bytes, bytes, bytes, list[bytes]]:
    """Method, target, the minor digit of the version, and the lines of a request in plain form.

    Absolute-form becomes origin-form, and its host becomes the Host field (RFC 9112, 3.2.2-3.2.4).
    """
    match = whole_request(head)
    if match is None:
        raise request_defect(head)
    method, target, minor, lines = match.groups()
    fields = [(name, value.rstrip(b" \t")) for name, value in split_lines(lines)]
    _refuse_twins(fields)
    if method == b"CONNECT":
        raise HTTPError(501, "CONNECT is not supported")
    if target[0] != 0x2F and not (target == b"*" and method == b"OPTIONS"):
        authority, target = _absolute(method, target)
        hosts = [value for name, value in fields if name.lower() == b"host"]
        if len(hosts) > 1 or (hosts and is_host(hosts[0]) is None):
            raise HTTPError(400, "expected one host in Host")
        if hosts or minor == b"0":  # else it stays without, and is refused for that
            fields = [(b"Host", authority), *[field for field in fields if field[0].lower() != b"host"]]
    return method, target, minor, [b"%b %b HTTP/1.%b" % (method, target, minor), *map(b": ".join, fields)]


def _absolute(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Host and path of a target in absolute-form."""
    match = absolute_target(target)
    if match is None:
        raise HTTPError(400, "expected a target that begins with /", shown_target(target))
    authority, path = match.groups()
    if is_host(authority) is None:
        raise HTTPError(400, "expected a host in the target", shown_target(target))
    if not path.startswith(b"/"):
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    return authority, path


def _rare_response(head: bytes) -> tuple[StatusLine, list[bytes]]:
    """The status line, read, and the lines of a response in plain form."""
    match = whole_response(head)
    if match is None:
        raise response_defect(head)
    minor, code, reason, lines = match.groups()
    fields = [b"%b: %b" % (name, value.rstrip(b" \t")) for name, value in split_lines(lines)]
    status = (11 if minor == b"1" else 10, int(code), reason or b"")
    return status, [b"HTTP/1.%b %b %b" % (minor, code, reason or b""), *fields]


def _refuse_twins(fields: Fields) -> None:
    """Refuse names with "_" that a service may take for other names.

    CGI and WSGI make one variable of X-A and X_A, so the one that our rules know would be overwritten by the other.
    """
    seen: dict[bytes, bytes] = {}
    for name, _ in fields:
        low = name.lower()
        dashed = low.replace(b"_", b"-")
        if seen.setdefault(dashed, low) != low or (dashed != low and _is_guarded(dashed)):
            raise HTTPError(400, "a field name that can be taken for another", f"{shown(name)} for {shown(dashed)}")


def _refuse_long_line(head: bytes) -> None:
    length = len(head.lstrip(b"\r\n").partition(b"\r\n")[0])
    if length > MAX_LINE:
        raise HTTPError(414, f"the first line has {length} bytes, more than {MAX_LINE}")


def _is_guarded(name: bytes) -> bool:
    return name.startswith(_GUARDED_PREFIXES) or claims.is_claim(name)
