"""HTTP/1.1 messages by RFC 9112: heads to objects and back, where a body ends, what a hop may pass on.

Words: a *head* is everything through the empty line; its first line is the *request line* or *status line*,
the rest are *field lines*. A *body* is framed by a length, by chunks, or by the end of the connection.

Why regexes. This is the hot path, and a parser in Python is as fast as the share of it that runs in C. So the
grammar of the RFC is written down once as possessive patterns, which cannot backtrack: one `fullmatch` over
the head refuses whatever is not grammar, one `findall` then splits lines that are known to be good, and
Python code sees only the few fields that decide something. Strictness costs nothing that way: bare LF,
obs-fold, a space before the colon, control characters and nameless fields never match, and only a head that
failed is looked at line by line, to say what is wrong with it.

Two patterns exist. The *plain* one covers what clients send; the *whole* grammar also knows what is legal and
rare (underscores in names, white space behind values, empty lines in front), and costs the rare ones a second
try.

Doubt about framing is refused, never repaired (RFC 9112, 11.2), and what is refused carries the status for
the client; when it was an origin's response, the caller answers 502 instead.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable
from http import HTTPStatus
from typing import Generic, TypeVar

from engine.errors import RemoteProtocolError

__all__ = [
    "CHUNKED",
    "MAX_FIELDS",
    "MAX_HEAD",
    "MAX_LINE",
    "UNTIL_CLOSE",
    "ChunkedBody",
    "Fields",
    "Request",
    "Response",
    "encode_request",
    "encode_response",
    "end_to_end",
    "error_response",
    "head_end",
    "parse_request",
    "parse_response",
]

Fields = list[tuple[bytes, bytes]]
M = TypeVar("M")

CHUNKED = -1
UNTIL_CLOSE = -2

MAX_HEAD = 32 * 1024
MAX_FIELDS = 100
MAX_LINE = 8 * 1024
MAX_KNOWN_HEAD = 1024  # bytes; longer ones are read anew each time
KNOWN_HEADS = 512
NOTED_HEADS = 4096
MAX_LEADING_LINES = 4  # RFC 9112, 2.2: old clients send CRLF behind a body; "at least one" must be tolerated
MAX_CHUNK_LINE = 4 * 1024
MAX_EXTENSIONS = 64 * 1024
MAX_TRAILERS = 8 * 1024

# The grammar (RFC 9110, 5.6.2 and 5.5; RFC 9112, 3 and 5). A value's own pattern is all visible and obs-text
# octets, SP and HTAB: since a field line ends at the first CR, "no CR, LF, NUL or other control inside" needs
# no more.

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PLAIN_NAME = rb"[!#$%&'*+\-.^`|~0-9A-Za-z]++"  # without "_", which needs a closer look (_refuse_twins)
_VALUE = rb"[\t -~\x80-\xff]*+"
_PLAIN_LINES = rb"((?:" + _PLAIN_NAME + rb":" + _VALUE + rb"(?<![ \t])\r\n)*+)\r\n"
_WHOLE_LINES = rb"((?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*+)\r\n"
_REQUEST_LINE = rb"(" + _TOKEN + rb") ([!-~]++) HTTP/1\.([01])\r\n"
# The SP behind the status code is part of the grammar and missing often enough (RFC 9112, 4).
_STATUS_LINE = rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + _VALUE + rb"))?+\r\n"

_plain_request = re.compile(_REQUEST_LINE + _PLAIN_LINES).fullmatch
_whole_request = re.compile(rb"(?:\r\n){0,%d}+" % MAX_LEADING_LINES + _REQUEST_LINE + _WHOLE_LINES).fullmatch
_plain_response = re.compile(_STATUS_LINE + _PLAIN_LINES.replace(_PLAIN_NAME, _TOKEN)).fullmatch
_whole_response = re.compile(_STATUS_LINE + _WHOLE_LINES).fullmatch
_split_lines = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n").findall

_search_end = re.compile(rb"\r\n\r\n").search
_search_control = re.compile(rb"[^\t\r\n -~\x80-\xff]").search

# uri-host [":" port] (RFC 9110, 7.2), without the comma, which some take for two hosts.
_REGISTERED = rb"(?:[0-9A-Za-z\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})++"
_HOST = rb"(?:\[[0-9A-Fa-f:.]++\]|" + _REGISTERED + rb")(?::[0-9]{0,5}+)?+"
_is_host = re.compile(_HOST).fullmatch
_absolute_target = re.compile(rb"(?i:https?)://([^/?#]*+)((?:[/?][!-~]*+)?+)").fullmatch

# Lists (RFC 9110, 5.6.1.2): empty elements are legal and mean nothing.
_LIST = rb"[ \t]*+(?:%b[ \t]*+)?+(?:,[ \t]*+(?:%b[ \t]*+)?+)*+"
_PROTOCOL = _TOKEN + rb"(?:/" + _TOKEN + rb")?+"
_is_token_list = re.compile(_LIST % (_TOKEN, _TOKEN)).fullmatch
_is_protocol_list = re.compile(_LIST % (_PROTOCOL, _PROTOCOL)).fullmatch
_list_elements = re.compile(rb"[^ \t,]++").findall

# Fields that are about this connection only (RFC 9110, 7.6.1), and so are never passed on. Proxy-Authenticate
# and its kin are a proxy's talk with its client: this is a gateway, which has none, and a service must not
# see the secret.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection te transfer-encoding upgrade http2-settings"
    b" proxy-authenticate proxy-authorization proxy-authentication-info".split()
)
_NOTHING: frozenset[bytes] = frozenset()
_DECISIVE = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}

# What `Connection: x` cannot remove: routing, framing, credentials, and whatever the RFC defines for
# the other end. The removal of anybody's private field is what the option is for.
_END_TO_END = frozenset(
    b"host authorization cookie set-cookie www-authenticate authentication-info date expires age etag"
    b" vary location last-modified allow from referer user-agent server origin range pragma warning"
    b" expect max-forwards forwarded via trailer traceparent tracestate x-real-ip x-request-id"
    b" true-client-ip link refresh alt-svc strict-transport-security retry-after".split()
)
_END_TO_END_PREFIXES = tuple(b"x-piko- x-forwarded- content- cache- accept if- sec- access-control-".split())

# Names whose "_" spelling is refused even alone: they frame or route, or the node itself adds the "-".
_GUARDED_PREFIXES = tuple(b"x-piko- x-forwarded- x-real-ip content-length transfer-encoding proxy-".split())

# RFC 9110, 6.5.1: framing, routing, request modifiers, authentication, and how to read the content.
_NO_TRAILERS = _HOP_BY_HOP | frozenset(
    b"host content-length content-encoding content-type content-range trailer authorization cookie"
    b" set-cookie www-authenticate authentication-info expect max-forwards cache-control pragma range age"
    b" expires date location retry-after vary warning forwarded x-real-ip if-match if-none-match"
    b" if-modified-since if-unmodified-since if-range".split()
)
_NO_TRAILER_PREFIXES = (b"x-piko-", b"x-forwarded-", b"proxy-")


class Request:
    """A request's head. `target` is in origin-form (or `*`), whatever form it came in, and `host` is where it
    goes: absolute-form has overruled the Host field, in `fields` too (RFC 9112, 3.2.2).

    `body` is a length or CHUNKED. `upgrade` is the Upgrade field's value if the Connection field nominates
    it, else b"". `expect_continue` says that the client waits for 100 before it sends the body. `repeats`: equal heads
    give this very object, so what follows from it may be remembered by it. `whole`: the head as it came, where it may
    go on like that (nothing in it ends at this hop, no framing is to be added), else b"".
    """

    __slots__ = (
        "_dropped",
        "body",
        "expect_continue",
        "fields",
        "host",
        "keep_alive",
        "method",
        "repeats",
        "target",
        "upgrade",
        "version",
        "whole",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: int,
        fields: Fields,
        host: bytes,
        body: int,
        keep_alive: bool,
        upgrade: bytes,
        expect_continue: bool,
        dropped: frozenset[bytes],
        whole: bytes,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.host = host
        self.body = body
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.expect_continue = expect_continue
        self.repeats = False
        self.whole = whole
        self._dropped = dropped


class Response:
    """A response's head. `body` is a length, CHUNKED or UNTIL_CLOSE, and 0 where the status or the request's
    method says that there is none; `keep_alive` is False when the end of the connection ends the body. `repeats` and
    `whole` as in Request."""

    __slots__ = (
        "_dropped",
        "body",
        "fields",
        "keep_alive",
        "reason",
        "repeats",
        "status",
        "upgrade",
        "version",
        "whole",
    )

    def __init__(
        self,
        version: int,
        status: int,
        reason: bytes,
        fields: Fields,
        body: int,
        keep_alive: bool,
        upgrade: bytes,
        dropped: frozenset[bytes],
        whole: bytes,
    ) -> None:
        self.version = version
        self.status = status
        self.reason = reason
        self.fields = fields
        self.body = body
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.repeats = False
        self.whole = whole
        self._dropped = dropped


# Reading ----------------------------------------------------------------------------------------------------


def head_end(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Return the index just behind the head that begins at `start`, or -1 if its end is not there yet.

    Raises RemoteProtocolError as soon as the beginning cannot become a head (no text, a bare LF, another
    protocol's first line, too long), so that nobody waits for the rest of it.
    """
    limit = start + MAX_HEAD
    match = _search_end(data, start, limit)
    if match is not None and data[start] != 0x0D:
        return match.end()
    start = _behind_leading_lines(data, start)
    match = _search_end(data, start, limit)
    if match is not None:
        return match.end()
    if len(data) >= limit:
        raise RemoteProtocolError(f"the head is longer than {MAX_HEAD} bytes", status=431)
    _refuse_hopeless(bytes(data[start:]))
    return -1


def _behind_leading_lines(data: bytes | bytearray | memoryview, start: int) -> int:
    for _ in range(MAX_LEADING_LINES):
        if data[start : start + 2] != b"\r\n":
            return start
        start += 2
    if data[start : start + 1] == b"\r":
        raise RemoteProtocolError(f"more than {MAX_LEADING_LINES} empty lines before a message")
    return start


def _refuse_hopeless(head: bytes) -> None:
    if _search_control(head, 0, 64):
        # 22: a TLS handshake record (RFC 8446, 5.1), the most common stranger on a port without TLS.
        told = "a TLS handshake came to a port without TLS" if head[0] == 0x16 else "this is no HTTP"
        raise RemoteProtocolError(f"{told}: {_shown(head[:16])}")
    if head.count(b"\n") != head.count(b"\r\n"):
        raise RemoteProtocolError("a line ends with a bare LF")
    line, end, _ = head.partition(b"\r\n")
    if len(line) > MAX_LINE:
        raise RemoteProtocolError(f"the first line is longer than {MAX_LINE} bytes", status=414)
    if end and b" HTTP/" not in line and not line.startswith(b"HTTP/"):
        raise RemoteProtocolError(f"expected the first line of a message, got {_shown(line)}")


def parse_request(head: bytes) -> Request:
    """Read a request's head, as cut by `head_end`. Raises RemoteProtocolError with the status that answers
    it.

    Equal heads may give the same object: what is returned is not to be changed."""
    request = _known_requests.get(head)
    if request is None:
        request = _parse_request(head)
        request.repeats = _known_requests.learn(head, request)
    return request


def _parse_request(head: bytes) -> Request:
    whole = b""
    match = _plain_request(head)
    if match is not None:
        method, target, minor, lines = match.groups()
        fields: Fields = _split_lines(lines)
        whole = head
    else:
        method, target, minor, fields = _rare_request(head)
    if len(fields) > MAX_FIELDS:
        raise RemoteProtocolError(f"{len(fields)} fields, more than {MAX_FIELDS}", status=431)
    if len(head) > MAX_LINE:
        _refuse_long_line(head)
    version = 11 if minor == b"1" else 10
    found = _decisive_fields(fields)

    host = found.get(b"host")
    if host is not None:
        if _is_host(host) is None:
            raise RemoteProtocolError(f"expected one host in Host, got {_shown(host)}")
    elif version == 11:
        raise RemoteProtocolError("a request without Host")
    if target[0] != 0x2F or method == b"CONNECT":  # the other forms than "/…"
        target, host, fields = _other_target(method, target, host, fields)
        whole = b""

    body, keep_alive, upgrade, expect_continue, dropped = 0, version == 11, b"", False, _NOTHING
    if len(found) > 1 or host is None:  # more than Host
        if not _HOP_BY_HOP.isdisjoint(found):
            dropped = _HOP_BY_HOP
        coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
        if coding is not None or length is not None:
            body = _framed(version, coding, length)
        if b"connection" in found:
            keep_alive, upgrade, dropped = _connection(version, found)
        if b"expect" in found:
            expect_continue = _expects_continue(version, found[b"expect"]) and body != 0
        # Trailers pass through here, so the wish for them may too (RFC 9110, 10.1.4), in the form all send.
        if found.get(b"te") == b"trailers":
            dropped = dropped - {b"te"}
    if dropped or version == 10:
        whole = b""
    host = host or b""
    return Request(method, target, version, fields, host, body, keep_alive, upgrade, expect_continue, dropped, whole)


def parse_response(head: bytes, method: bytes) -> Response:
    """Read the head of a response to a request with `method`; what its body is follows RFC 9112, 6.3, in its
    order.

    Raises RemoteProtocolError: the status in it is not for the client, who gets 502. Equal heads may give the same
    object, as for requests.
    """
    if method == b"HEAD":
        return _parse_response(head, method)
    response = _known_responses.get(head)
    if response is None:
        response = _parse_response(head, method)
        response.repeats = _known_responses.learn(head, response)
    return response


def _parse_response(head: bytes, method: bytes) -> Response:
    whole = b""
    match = _plain_response(head)
    if match is not None:
        minor, code, reason, lines = match.groups()
        fields: Fields = _split_lines(lines)
        whole = head
    else:
        match = _whole_response(head)
        if match is None:
            raise _defect(head, _STATUS_LINE, "status line")
        minor, code, reason, lines = match.groups()
        fields = [(name, value.rstrip(b" \t")) for name, value in _split_lines(lines)]
    if len(fields) > MAX_FIELDS:
        raise RemoteProtocolError(f"{len(fields)} fields, more than {MAX_FIELDS}", status=431)
    version = 11 if minor == b"1" else 10
    status = int(code)
    found = _decisive_fields(fields)

    # Defective framing is refused even where no body follows: who sends it cannot be trusted with the next
    # message.
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    body = UNTIL_CLOSE if coding is None and length is None else _framed(version, coding, length)
    keep_alive, upgrade = version == 11, b""
    dropped = _NOTHING if _HOP_BY_HOP.isdisjoint(found) else _HOP_BY_HOP
    if b"connection" in found:
        keep_alive, upgrade, dropped = _connection(version, found)
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        body = 0
        if length is not None and (status < 200 or status == 204):  # RFC 9110, 8.6: MUST NOT be there
            dropped = dropped | {b"content-length"}
    elif body == UNTIL_CLOSE:
        keep_alive = False
    if dropped or version == 10 or body < 0 or reason is None:
        whole = b""
    return Response(version, status, reason or b"", fields, body, keep_alive, upgrade, dropped, whole)


class _Known(dict[bytes, M], Generic[M]):
    """What was read before, by its head.

    Clients and services say the same things again and again: on a kept-alive connection most heads are equal to the
    last byte, and looking one up costs a tenth of reading it. But where no two are equal, keeping them costs more than
    reading them: each would push out one that nobody asks for, and drag memory through the caches that had long left
    them (105 -> 87 us of CPU a request in both processes). So a head is kept when it comes for the second time; of
    the first time only its hash is noted, in a place that others' hashes take too.
    """

    def __init__(self) -> None:
        self._noted = array("q", bytes(8 * NOTED_HEADS))

    def learn(self, head: bytes, message: M) -> bool:
        """Keep `message` if its head was here lately; whether it was."""
        if len(head) > MAX_KNOWN_HEAD:
            return False
        noted = hash(head)
        place = noted % NOTED_HEADS
        if self._noted[place] != noted:
            self._noted[place] = noted
            return False
        if len(self) >= KNOWN_HEADS:
            del self[next(iter(self))]  # the oldest
        self[head] = message
        return True


_known_requests: _Known[Request] = _Known()
_known_responses: _Known[Response] = _Known()


def _decisive_fields(fields: Fields) -> dict[bytes, bytes]:
    """The fields that decide something, by lower-case name. Those sent twice become a list, as RFC 9110, 5.3,
    has it, and a list is what Host, Content-Length and Transfer-Encoding must not be: so two of them, even
    equal, are refused by what reads the value."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        name = name.lower()
        if name in _DECISIVE:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def _framed(version: int, coding: bytes | None, length: bytes | None) -> int:
    """The body of a message that has Transfer-Encoding or Content-Length, read as a suspicious mind reads
    them."""
    if coding is not None:
        if version == 10:  # RFC 9112, 6.1: the framing is faulty
            raise RemoteProtocolError("Transfer-Encoding in an HTTP/1.0 message")
        if length is not None:
            raise RemoteProtocolError("both Transfer-Encoding and Content-Length")
        if coding.lower() != b"chunked":
            unknown = re.fullmatch(_TOKEN, coding) is not None  # 501 if it is one coding that we lack (RFC 9112, 6.1)
            raise RemoteProtocolError(
                f"expected Transfer-Encoding chunked, got {_shown(coding)}", status=501 if unknown else 400
            )
        return CHUNKED
    assert length is not None
    if not length.isdigit() or len(length) > 18:  # below 2^63, whatever the digits
        raise RemoteProtocolError(f"expected a number in Content-Length, got {_shown(length)}")
    return int(length)


def _connection(version: int, found: dict[bytes, bytes]) -> tuple[bool, bytes, frozenset[bytes]]:
    """What the Connection field decides: keep-alive, the upgrade wanted, and which fields end at this hop."""
    option = found[b"connection"].lower()
    if option == b"keep-alive":
        return True, b"", _HOP_BY_HOP
    if option == b"close":
        return False, b"", _HOP_BY_HOP
    if _is_token_list(option) is None:
        raise RemoteProtocolError(f"expected names in Connection, got {_shown(option)}")
    options = frozenset(_list_elements(option))
    keep_alive = b"close" not in options and (version == 11 or b"keep-alive" in options)
    # RFC 9110, 7.8: HTTP/1.0 cannot upgrade, and h2c (RFC 9113, 3.1: obsolete) would lead past every rule
    # here.
    wanted = b""
    upgrade = found.get(b"upgrade")
    if upgrade is not None and version == 11 and b"upgrade" in options:
        if _is_protocol_list(upgrade) is None:
            raise RemoteProtocolError(f"expected protocols in Upgrade, got {_shown(upgrade)}")
        protocols = _list_elements(upgrade)
        wanted = b", ".join([p for p in protocols if not p.lower().startswith((b"h2c", b"http/"))])
    removable = [n for n in options if n not in _END_TO_END and not n.startswith(_END_TO_END_PREFIXES)]
    return keep_alive, wanted, _HOP_BY_HOP.union(removable)


def _expects_continue(version: int, expect: bytes) -> bool:
    if version == 10:  # RFC 9110, 10.1.1: MUST ignore
        return False
    if expect.lower() != b"100-continue":
        raise RemoteProtocolError(f"expected 100-continue in Expect, got {_shown(expect)}", status=417)
    return True


def _other_target(
    method: bytes, target: bytes, host: bytes | None, fields: Fields
) -> tuple[bytes, bytes | None, Fields]:
    """Targets that are no path (RFC 9112, 3.2.2-3.2.4): absolute-form becomes origin-form and its host the
    Host."""
    if method == b"CONNECT":
        raise RemoteProtocolError("CONNECT is not served here", status=501)
    if target == b"*" and method == b"OPTIONS":
        return target, host, fields
    match = _absolute_target(target)
    if match is None:
        raise RemoteProtocolError(f"expected a target that begins with /, got {_shown(target)}")
    authority, path = match.groups()
    if _is_host(authority) is None:
        raise RemoteProtocolError(f"expected a host in the target, got {_shown(target)}")
    if not path.startswith(b"/"):
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    others = [field for field in fields if field[0].lower() != b"host"]
    return path, authority, [(b"Host", authority), *others]


def _rare_request(head: bytes) -> tuple[bytes, bytes, bytes, Fields]:
    match = _whole_request(head)
    if match is None:
        raise _defect(head, _REQUEST_LINE, "request line")
    method, target, minor, lines = match.groups()
    fields = [(name, value.rstrip(b" \t")) for name, value in _split_lines(lines)]
    _refuse_twins(fields)
    return method, target, minor, fields


def _refuse_twins(fields: Fields) -> None:
    """Refuse names with "_" that a service may take for another's: CGI and WSGI make X-A and X_A one
    variable, so the one that passes our rules would be overwritten by the one that does not."""
    seen: dict[bytes, bytes] = {}
    for name, _ in fields:
        low = name.lower()
        dashed = low.replace(b"_", b"-")
        if seen.setdefault(dashed, low) != low or (dashed != low and dashed.startswith(_GUARDED_PREFIXES)):
            raise RemoteProtocolError(f"the field name {_shown(name)} can be taken for {_shown(dashed)}")


def _refuse_long_line(head: bytes) -> None:
    length = len(head.lstrip(b"\r\n").partition(b"\r\n")[0])
    if length > MAX_LINE:
        raise RemoteProtocolError(f"the first line has {length} bytes, more than {MAX_LINE}", status=414)


def _defect(head: bytes, first_line: bytes, called: str) -> RemoteProtocolError:
    """Say what is wrong with a head that is not grammar; the order is that of reading."""
    lines = head.lstrip(b"\r\n").split(b"\r\n")
    line = lines[0]
    if len(line) > MAX_LINE:
        return RemoteProtocolError(f"the first line has {len(line)} bytes, more than {MAX_LINE}", status=414)
    if re.fullmatch(first_line, line + b"\r\n") is None:
        version = re.search(rb"(?:^| )HTTP/([0-9]+)\.([0-9]+)(?: |$)", line)
        if version is not None and version.groups() not in ((b"1", b"0"), (b"1", b"1")):
            return RemoteProtocolError(f"expected HTTP/1.1, got {_shown(line)}", status=505)
        return RemoteProtocolError(f"expected a {called}, got {_shown(line)}")
    return _field_defect(lines[1:])


def _field_defect(lines: list[bytes]) -> RemoteProtocolError:
    for line in lines:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            return RemoteProtocolError(f"a folded field line: {_shown(line)}")
        if b"\n" in line or b"\r" in line:
            return RemoteProtocolError(f"a bare CR or LF in {_shown(line)}")
        if not colon and line:
            return RemoteProtocolError(f"a field line without a colon: {_shown(line)}")
        if line and re.fullmatch(_TOKEN, name) is None:
            return RemoteProtocolError(f"expected a field name, got {_shown(name)}")
        if re.fullmatch(_VALUE, value) is None:
            return RemoteProtocolError(f"a control character in the value of {_shown(name)}: {_shown(value)}")
    return RemoteProtocolError("the fields do not end with an empty line")


def _shown(value: bytes) -> str:
    """A value for a message or a log line: escaped, and cut where it stops being informative."""
    return repr(value[:200])[1:] + ("…" if len(value) > 200 else "")


# Chunked bodies ---------------------------------------------------------------------------------------------

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSIONS = rb"(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+" % (_TOKEN, _TOKEN, _QUOTED)
_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,16}+)(" + _EXTENSIONS + rb")\r\n").match
_may_become_chunk_line = re.compile(rb"[0-9A-Fa-f]{1,16}+(?:\r?+|[ \t;][^\r\n]*+\r?+)").fullmatch
_trailer_lines = re.compile(_WHOLE_LINES).fullmatch

_SIZE, _DATA, _CR, _LF, _TRAILERS, _DONE = range(6)


class ChunkedBody:
    """Follows a chunked body (RFC 9112, 7.1) through any number of reads and says what to send on.

    What passes is the input itself: views of it as long as possible, so that a read full of chunks leaves as
    one part, whether it holds one large chunk or many small ones. Only what was understood is passed: a line
    cut by the end of a read is kept (a few KiB at most) until its rest has come. The last chunk's `0` is held
    back together with the trailers, so that a body which breaks off can never look complete to the next
    reader.

    Extensions are checked, bounded and dropped: they are for this hop only (RFC 9112, 7.1.1), and what they
    have carried in practice is smuggled requests.

    The views returned are the caller's own memory: send or copy them before it is written again.
    """

    __slots__ = ("_decode", "_extensions", "_held", "_left", "_state", "done", "rest")

    def __init__(self, *, decode: bool = False) -> None:
        self._decode = decode
        self._state = _SIZE
        self._left = 0  # bytes of the current chunk that are still to come
        self._held = b""  # the beginning of a line or of the trailers
        self._extensions = 0
        self.done = False
        self.rest = memoryview(b"")

    def receive(self, data: memoryview) -> list[memoryview | bytes]:
        """Take the next bytes, return the parts to send on: chunks with their framing, or (`decode`) only
        their data.

        After the last of them `done` is true and `rest` holds what followed; nothing more may be given then.
        Raises RemoteProtocolError: the message is broken and whoever reads it must see it break off.
        """
        assert not self.done, "the body has ended"
        decode = self._decode
        parts: list[memoryview | bytes] = []
        end = len(data)
        pos = 0
        mark = 0  # up to here, everything is in parts or not meant to be passed on
        while pos < end:
            state = self._state
            if state == _DATA:
                begin = pos
                pos = min(end, pos + self._left)
                self._left -= pos - begin
                if decode:
                    parts.append(data[begin:pos])
                if self._left == 0:
                    self._state = _CR
            elif state == _CR:
                if data[pos] != 0x0D:
                    raise RemoteProtocolError(
                        f"expected CRLF behind a chunk, got {_shown(bytes(data[pos : pos + 16]))}"
                    )
                pos += 1
                self._state = _LF
            elif state == _LF:
                if data[pos] != 0x0A:
                    raise RemoteProtocolError(
                        f"expected CRLF behind a chunk, got {_shown(bytes(data[pos : pos + 16]))}"
                    )
                pos += 1
                self._state = _SIZE
            elif state == _SIZE:
                held = self._held
                source = held + data[pos : pos + MAX_CHUNK_LINE] if held else data
                match = _chunk_line(source, 0 if held else pos)
                if match is None:
                    self._hold_line(held + bytes(data[pos : pos + MAX_CHUNK_LINE]))
                    if not decode and mark < pos:
                        parts.append(data[mark:pos])
                    return parts
                begin, behind = pos, match.end() - len(held)
                digits, extensions = match.groups()
                if len(digits) + len(extensions) > MAX_CHUNK_LINE:
                    raise RemoteProtocolError(f"a chunk line longer than {MAX_CHUNK_LINE} bytes")
                self._extensions += len(extensions)
                if self._extensions > MAX_EXTENSIONS:
                    raise RemoteProtocolError(f"more than {MAX_EXTENSIONS} bytes of chunk extensions")
                self._held = b""
                self._left = int(digits, 16)
                pos = behind
                if self._left == 0:
                    self._state = _TRAILERS
                else:
                    self._state = _DATA
                if decode or (not held and not extensions and self._left):
                    continue  # the line passes as it came, inside the view that is still growing
                if mark < begin:
                    parts.append(data[mark:begin])
                mark = pos
                if self._left:
                    parts.append(digits + b"\r\n")
            else:
                block = self._held + bytes(data[pos : pos + MAX_TRAILERS + 4])
                length = 2 if block.startswith(b"\r\n") else block.find(b"\r\n\r\n") + 4
                if length == 3:
                    self._hold_trailers(block)
                    return parts
                if length > MAX_TRAILERS + 4:
                    raise RemoteProtocolError(f"more than {MAX_TRAILERS} bytes of trailers", status=431)
                trailers = _passable_trailers(block[:length])
                pos += length - len(self._held)
                self._held = b""
                self._state = _DONE
                self.done = True
                self.rest = data[pos:]
                if not decode:
                    parts.append(b"0\r\n" + trailers)
                return parts
        if not decode and mark < end:
            parts.append(data[mark:end])
        return parts

    def _hold_line(self, line: bytes) -> None:
        if _may_become_chunk_line(line) is None:
            raise RemoteProtocolError(f"expected a chunk size, got {_shown(line)}")
        if len(line) >= MAX_CHUNK_LINE:
            raise RemoteProtocolError(f"a chunk line longer than {MAX_CHUNK_LINE} bytes")
        self._held = line

    def _hold_trailers(self, block: bytes) -> None:
        if len(block) > MAX_TRAILERS:
            raise RemoteProtocolError(f"more than {MAX_TRAILERS} bytes of trailers", status=431)
        if block.count(b"\n") != block.count(b"\r\n"):
            raise RemoteProtocolError("a line ends with a bare LF")
        self._held = block


def _passable_trailers(block: bytes) -> bytes:
    """The trailer section that may go on, with its empty line."""
    if block == b"\r\n":
        return block
    match = _trailer_lines(block)
    if match is None:
        raise _field_defect(block.split(b"\r\n"))
    fields: Fields = _split_lines(match[1])
    if len(fields) > MAX_FIELDS:
        raise RemoteProtocolError(f"{len(fields)} trailers, more than {MAX_FIELDS}", status=431)
    kept = []
    for name, value in fields:
        low = name.lower().replace(b"_", b"-")
        if low not in _NO_TRAILERS and not low.startswith(_NO_TRAILER_PREFIXES):
            kept.append(b"%b: %b\r\n" % (name, value.rstrip(b" \t")))
    return b"".join(kept) + b"\r\n"


# Writing ----------------------------------------------------------------------------------------------------


def end_to_end(message: Request | Response) -> Fields:
    """The fields to pass on: without those of this hop and those its Connection field nominates, as far as it
    may.

    A new list, the caller's. Framing and hop fields of the next connection are the caller's to add:
    Content-Length passes, Transfer-Encoding does not.
    """
    dropped = message._dropped
    if not dropped:  # as in most: there was nothing of this hop
        return message.fields.copy()
    return [field for field in message.fields if field[0].lower() not in dropped]


def encode_request(method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request's head. What goes in was parsed here before, or is our own: nothing is checked."""
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *map(b": ".join, fields), b"", b""])


def encode_response(status: int, reason: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A response's head; as `encode_request`."""
    return b"\r\n".join([b"HTTP/1.1 %d %b" % (status, reason), *map(b": ".join, fields), b"", b""])


def error_response(status: int, message: str, *, close: bool) -> bytes:
    """A whole response with Piko's JSON for `message`. It has a body: not for an answer to HEAD that keeps
    alive."""
    body = json.dumps({"error": message}, separators=(",", ":")).encode() + b"\n"
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"X-Content-Type-Options", b"nosniff"),
    ]
    if close:
        fields.append((b"Connection", b"close"))
    try:
        reason = HTTPStatus(status).phrase.encode()
    except ValueError:
        reason = b""
    return encode_response(status, reason, fields) + body
