"""Reading heads: where one ends, what a request or a response says, and what its fields decide."""

from __future__ import annotations

from engine.errors import HTTPError
from engine.wire import piko
from engine.wire.http1.defect import request_defect, response_defect, shown, shown_line
from engine.wire.http1.grammar import (
    MAX_FIELDS,
    MAX_HEAD,
    MAX_LEADING_LINES,
    MAX_LINE,
    absolute_target,
    is_host,
    is_token,
    plain_request,
    plain_response,
    search_control,
    search_end,
    split_lines,
    whole_request,
    whole_response,
)
from engine.wire.http1.hop import HOP_BY_HOP, connection
from engine.wire.http1.known import Known
from engine.wire.http1.message import CHUNKED, UNTIL_CLOSE, Fields, Request, Response

_NOTHING: frozenset[bytes] = frozenset()
_DECISIVE = HOP_BY_HOP | {b"host", b"content-length", b"expect"}

# Names whose "_" spelling is refused even alone: they frame or route, or the node itself adds the "-" spelling.
_GUARDED_PREFIXES = (piko.PREFIX, *b"x-forwarded- x-real-ip content-length transfer-encoding proxy-".split())

_known_requests: Known[Request] = Known()
_known_responses: Known[Response] = Known()


def head_end(data: bytes | bytearray | memoryview, start: int = 0, limit: int = MAX_HEAD) -> int:
    """Return the index just behind the head that begins at `start`, or -1 if its end has not come yet.

    Raises HTTPError as soon as the beginning cannot become a head (no text, a bare LF, another protocol's
    first line, too long), so that nobody waits for the rest of it.

    `limit` is in bytes and includes empty lines in front; a larger one than MAX_HEAD counts as MAX_HEAD.
    """
    if limit > MAX_HEAD:
        limit = MAX_HEAD
    stop = start + limit
    match = search_end(data, start, stop)
    if match is not None and data[start] != 0x0D:
        return match.end()
    start = _behind_leading_lines(data, start)
    match = search_end(data, start, stop)
    if match is not None:
        return match.end()
    if len(data) >= stop:
        raise _too_long(limit)
    _refuse_hopeless(bytes(data[start:]))
    return -1


def _too_long(limit: int) -> HTTPError:
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
        raise HTTPError(400, told, shown(head[:16]))
    if head.count(b"\n") != head.count(b"\r\n"):
        raise HTTPError(400, "a line ends with a bare LF")
    line, end, _ = head.partition(b"\r\n")
    if len(line) > MAX_LINE:
        raise HTTPError(414, f"the first line is longer than {MAX_LINE} bytes")
    if end and b" HTTP/" not in line and not line.startswith(b"HTTP/"):
        raise HTTPError(400, "expected the first line of a message", shown_line(line))


def parse_request(head: bytes, limit: int = MAX_HEAD) -> Request:
    """Read a request's head, as cut by `head_end`, of at most `limit` bytes.

    The limit is not looked at again for a head that is known, which has a KiB at most: to look one up takes 75 ns, and
    that would add 15. Raises HTTPError with the status that answers the request. Equal heads may give the same object,
    so what is returned must not be changed.
    """
    request = _known_requests.get(head)
    if request is None:
        request = _parse_request(head, limit)
        request.repeats = _known_requests.learn(head, request)
    return request


def _parse_request(head: bytes, limit: int) -> Request:
    if len(head) > limit:
        raise _too_long(limit)
    whole = b""
    match = plain_request(head)
    if match is not None:
        method, target, minor, lines = match.groups()
        fields: Fields = split_lines(lines)
        whole = head
    else:
        method, target, minor, fields = _rare_request(head)
    if len(fields) > MAX_FIELDS:
        raise HTTPError(431, f"{len(fields)} fields, more than {MAX_FIELDS}")
    if len(head) > MAX_LINE:
        _refuse_long_line(head)
    version = 11 if minor == b"1" else 10
    found = _decisive_fields(fields)

    host = found.get(b"host")
    if host is not None:
        if is_host(host) is None:
            raise HTTPError(400, "expected one host in Host")
    elif version == 11:
        raise HTTPError(400, "a request without Host")
    if target[0] != 0x2F or method == b"CONNECT":  # the other forms than "/…"
        target, host, fields = _other_target(method, target, host, fields)
        whole = b""

    body, keep_alive, upgrade, expect_continue, dropped = 0, version == 11, b"", False, _NOTHING
    if len(found) > 1 or host is None:  # more than Host
        if not HOP_BY_HOP.isdisjoint(found):
            dropped = HOP_BY_HOP
        coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
        if coding is not None or length is not None:
            body = _framed(version, coding, length)
        if b"connection" in found:
            keep_alive, upgrade, dropped = connection(version, found)
        if b"expect" in found:
            expect_continue = _expects_continue(version, found[b"expect"]) and body != 0
        # Trailers pass through here, so the wish for them may too (RFC 9110, 10.1.4), in the form all send.
        if found.get(b"te") == b"trailers":
            dropped = dropped - {b"te"}
    if dropped or version == 10:
        whole = b""
    host = host or b""
    return Request(method, target, version, fields, host, body, keep_alive, upgrade, expect_continue, dropped, whole)


def parse_response(head: bytes, method: bytes, limit: int = MAX_HEAD) -> Response:
    """Read the head of a response to a request with `method`, of at most `limit` bytes, as for requests.

    Its body is framed by the rules of RFC 9112, 6.3. Raises HTTPError. Its status is not for the client, who gets 502.
    Equal heads may give the same object, so what is returned must not be changed.
    """
    if method == b"HEAD":
        return _parse_response(head, method, limit)
    response = _known_responses.get(head)
    if response is None:
        response = _parse_response(head, method, limit)
        response.repeats = _known_responses.learn(head, response)
    return response


def _parse_response(head: bytes, method: bytes, limit: int) -> Response:
    if len(head) > limit:
        raise _too_long(limit)
    whole = b""
    match = plain_response(head)
    if match is not None:
        minor, code, reason, lines = match.groups()
        fields: Fields = split_lines(lines)
        whole = head
    else:
        match = whole_response(head)
        if match is None:
            raise response_defect(head)
        minor, code, reason, lines = match.groups()
        fields = [(name, value.rstrip(b" \t")) for name, value in split_lines(lines)]
    if len(fields) > MAX_FIELDS:
        raise HTTPError(431, f"{len(fields)} fields, more than {MAX_FIELDS}")
    version = 11 if minor == b"1" else 10
    status = int(code)
    found = _decisive_fields(fields)

    # Defective framing is refused even where no body follows: the next message of who sends it is in doubt too.
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    body = UNTIL_CLOSE if coding is None and length is None else _framed(version, coding, length)
    keep_alive, upgrade = version == 11, b""
    dropped = _NOTHING if HOP_BY_HOP.isdisjoint(found) else HOP_BY_HOP
    if b"connection" in found:
        keep_alive, upgrade, dropped = connection(version, found)
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        body = 0
        if length is not None and (status < 200 or status == 204):  # RFC 9110, 8.6: MUST NOT be there
            dropped = dropped | {b"content-length"}
    elif body == UNTIL_CLOSE:
        keep_alive = False
    if dropped or version == 10 or body < 0 or reason is None:
        whole = b""
    return Response(version, status, reason or b"", fields, body, keep_alive, upgrade, dropped, whole)


def _decisive_fields(fields: Fields) -> dict[bytes, bytes]:
    """The fields that decide something, by their names in lower case.

    A field that comes twice becomes a list (RFC 9110, 5.3). Host, Content-Length and Transfer-Encoding must not be
    lists, so two of them, even equal ones, are refused by whatever reads the value.
    """
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        name = name.lower()
        if name in _DECISIVE:
            found[name] = found[name] + b", " + value if name in found else value
    return found


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


def _other_target(
    method: bytes, target: bytes, host: bytes | None, fields: Fields
) -> tuple[bytes, bytes | None, Fields]:
    """Read a target that is no path (RFC 9112, 3.2.2-3.2.4).

    Absolute-form becomes origin-form, and its host becomes the Host field.
    """
    if method == b"CONNECT":
        raise HTTPError(501, "CONNECT is not served here")
    if target == b"*" and method == b"OPTIONS":
        return target, host, fields
    match = absolute_target(target)
    if match is None:
        raise HTTPError(400, "expected a target that begins with /", shown_line(target))
    authority, path = match.groups()
    if is_host(authority) is None:
        raise HTTPError(400, "expected a host in the target", shown_line(target))
    if not path.startswith(b"/"):
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    others = [field for field in fields if field[0].lower() != b"host"]
    return path, authority, [(b"Host", authority), *others]


def _rare_request(head: bytes) -> tuple[bytes, bytes, bytes, Fields]:
    match = whole_request(head)
    if match is None:
        raise request_defect(head)
    method, target, minor, lines = match.groups()
    fields = [(name, value.rstrip(b" \t")) for name, value in split_lines(lines)]
    _refuse_twins(fields)
    return method, target, minor, fields


def _refuse_twins(fields: Fields) -> None:
    """Refuse names with "_" that a service may take for other names.

    CGI and WSGI make one variable of X-A and X_A, so the one that our rules know would be overwritten by the other.
    """
    seen: dict[bytes, bytes] = {}
    for name, _ in fields:
        low = name.lower()
        dashed = low.replace(b"_", b"-")
        if seen.setdefault(dashed, low) != low or (dashed != low and dashed.startswith(_GUARDED_PREFIXES)):
            raise HTTPError(400, "a field name that can be taken for another", f"{shown(name)} for {shown(dashed)}")


def _refuse_long_line(head: bytes) -> None:
    length = len(head.lstrip(b"\r\n").partition(b"\r\n")[0])
    if length > MAX_LINE:
        raise HTTPError(414, f"the first line has {length} bytes, more than {MAX_LINE}")
