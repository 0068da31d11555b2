"""HTTP/1.1: heads whole and by lines, bodies of chunks, summaries of heads."""

from __future__ import annotations

import struct

from engine.errors import HTTPError
from engine.wire import http1
from engine.wire.http1 import MAX_HEAD, PEER_FIELDS, PEER_HEAD, ChunkedBody, Request, read, summary
from engine.wire.http1.chunked import MAX_CHUNK_LINE, MAX_TRAILERS
from engine.wire.http1.hop import HOP_BY_HOP
from engine.wire.http1.message import fields_of
from tests.fuzz.pieces import cut, places, singly
from tests.wire.http1.whole import Read, read_request, read_response


def heads(data: bytes) -> None:
    """A head, as a request and as a response: the two readers agree, and the next hop reads what this one has read."""
    if not data:
        return
    end = _end(data)
    hopeless = False
    for place in places(data, 4):
        if place:
            early = _end(data[:place])
            hopeless = hopeless or early is None
            assert early in (None, end if end and 0 < end <= place else -1), "no beginning of a head is one"
    if not end or end < 0:
        assert not hopeless or end is None
        return
    head = data[:end]
    _request(head, hopeless)
    for method in (b"GET", b"HEAD"):
        _response(head, method, hopeless)


def _end(data: bytes) -> int | None:
    """None if it is refused."""
    try:
        return http1.head_end(data)
    except HTTPError:
        return None


def _request(head: bytes, hopeless: bool) -> None:
    read._known_requests.clear()
    expected = read_request(head)
    try:
        request = http1.parse_request(head)
    except HTTPError as error:
        assert 400 <= error.status < 600
        assert expected is None
        return
    assert not hopeless, "what cannot become a head is none"
    passed = fields_of(http1.encode_lines(request.lines))
    assert expected == Read((request.method, request.target), request.body, request.keep_alive, request.upgrade, passed)
    assert said(http1.parse_request(head)) == said(request), "known, it is what it was"
    # What goes on frames the same body, for the same host, and has nothing more that ends at this hop.
    again = http1.encode_lines(request.lines)
    assert len(again) <= len(head) + PEER_HEAD - MAX_HEAD
    if request.version == 10 and not request.host:
        return  # the role adds a Host
    next_hop = http1.parse_request(again, PEER_HEAD)
    assert (next_hop.method, next_hop.target, next_hop.host) == (request.method, request.target, request.host)
    assert next_hop.body == request.body
    assert next_hop.keep_alive
    assert not next_hop.upgrade
    names = {name.lower() for name, _ in next_hop.fields}
    assert len(next_hop.fields) <= PEER_FIELDS
    assert not names & (HOP_BY_HOP - {b"transfer-encoding", b"te"})


def _response(head: bytes, method: bytes, hopeless: bool) -> None:
    read._known_responses.clear()
    expected = read_response(head, method)
    try:
        response = http1.parse_response(head, method)
    except HTTPError:
        assert expected is None
        return
    assert not hopeless, "what cannot become a head is none"
    passed = fields_of(http1.encode_lines(response.lines))
    assert expected == Read(
        (response.status, response.reason), response.body, response.keep_alive, response.upgrade, passed
    )
    next_hop = http1.parse_response(http1.encode_lines(response.lines), method, PEER_HEAD)
    assert (next_hop.status, next_hop.body) == (response.status, response.body)
    assert next_hop.lines == response.lines


def said(request: Request) -> tuple[object, ...]:
    """All that a request is."""
    first = (request.method, request.target, request.version, request.host, request.body)
    return (*first, request.keep_alive, request.upgrade, request.expect_continue, request.fields, request.lines)


def chunked(data: bytes) -> None:
    """A body of chunks, and something behind it: however it comes, the same goes on, and means the same there."""
    whole, ended, rest = _body([data], decode=False)
    # A body that is broken has sent on what was right before; how far that is, depends on where it was cut.
    for parts in (singly(data), cut(data)):
        out, over, behind = _body(parts, decode=False)
        assert over == ended
        if over is not None:
            assert (out, behind) == (whole, rest)
    content, content_ended, content_rest = _body([data], decode=True)
    assert (content_ended, content_rest) == (ended, rest)
    limited = _by_lines(data)
    assert limited[1] == ended
    if ended:
        assert limited == (whole, ended, rest)
        assert _body([whole], decode=True) == (content, True, b"")
        assert _body([whole], decode=False) == (whole, True, b""), "what goes on is in plain form"


def _body(parts: list[bytes], *, decode: bool) -> tuple[bytes, bool | None, bytes]:
    """What goes on, whether the body has ended (None: it is broken), and what is behind it."""
    body = ChunkedBody(decode=decode)
    out = b""
    try:
        for at, part in enumerate(parts):
            if part:
                out += b"".join(body.receive(memoryview(part)))
            assert len(body._held) <= max(MAX_CHUNK_LINE, MAX_TRAILERS)
            if body.done:
                return out, True, bytes(body.rest) + b"".join(parts[at + 1 :])
    except HTTPError:
        return out, None, b""
    return out, False, b""


def _by_lines(data: bytes) -> tuple[bytes, bool | None, bytes]:
    """The same, of no more than two chunk lines at a time."""
    body = ChunkedBody()
    out = b""
    view = memoryview(data)
    try:
        while view:
            out += b"".join(body.receive(view, 2))
            assert body.taken or body.done, "it takes something"
            view = view[body.taken :]
            if body.done:
                return out, True, bytes(view)
    except HTTPError:
        return out, None, b""
    return out, False, b""


def summaries(data: bytes) -> None:
    """What a node puts in front of a head: whoever lies is refused, and where the message ends is in its head.

    The first two bytes are the body that the summary says, what follows is the head; or else all of it is as it came.
    """
    _summary(data)
    if len(data) < 3:
        return
    body = int.from_bytes(data[:2], "big", signed=True)
    _summary(struct.pack("!B3xIq", summary.MARK, len(data) - 2, body) + data[2:])
    try:
        request = http1.parse_request(data[2:], PEER_HEAD)
        head = http1.encode_lines(request.lines)
        alone = http1.parse_request(head, PEER_HEAD)
    except HTTPError:
        return
    found = summary.next_request(memoryview(summary.with_summary(request, head)), 0)
    assert found is not None
    assert said(found[0]) == said(alone)


def _summary(data: bytes) -> None:
    if not data:
        return
    summary._known_requests.clear()
    try:
        found = summary.next_request(memoryview(data), 0)
    except HTTPError:
        return
    if data[0] != summary.MARK or found is None:
        return
    request, end = found
    head = data[summary.SIZE : end]
    assert request.head == head == http1.encode_lines(request.lines)
    # The service has only the head. It ends there, and has the framing that was said.
    assert head.find(b"\r\n\r\n") == len(head) - 4
    names = [name.lower() for name, _ in request.fields]
    framing = [name for name in names if name in (b"content-length", b"transfer-encoding")]
    assert len(framing) <= 1
    assert bool(framing) == (request.body != 0) or request.fields[names.index(b"content-length")][1].strip(b"0") == b""
    for place in places(data, 3):
        if 0 < place < end:
            assert summary.next_request(memoryview(data[:place]), 0) is None
