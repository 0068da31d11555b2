"""HTTP/1.1 messages (RFC 9112): heads become objects and objects heads, where a body ends, what a hop may pass on.

Words: a *head* is everything up to and including the empty line. Its first line is the *request line* or the *status
line*, the others are *field lines*. A *body* ends by a length, by chunks, or with the connection.

    grammar     the patterns of the RFC and the limits
    message     Request, Response and Fields: what a head is after it was read
    known       heads that come again are read once
    defect      what is wrong with a head that does not match the grammar
    lines       field lines that come again are read once
    hop         fields that end at this hop, fields and trailers that go on
    claims      what somebody in front says about a client
    accept      whether who asks shows pages, or reads JSON
    read        head_end, parse_request, parse_response
    chunked     ChunkedBody: where a body of chunks ends, and what of it goes on
    body        Body: what of the bytes behind a head belongs to it
    summary     heads that another of ours has read need not be read again
    write       heads and error responses as bytes

Doubt about where a message ends is refused and never repaired (RFC 9112, 11.2). What is refused carries the status
that answers a request. If it was a response, the caller answers its own client with 502.
"""

from engine.wire.http1.body import Body
from engine.wire.http1.chunked import ChunkedBody
from engine.wire.http1.grammar import MAX_FIELDS, MAX_HEAD, MAX_LINE, PEER_FIELDS, PEER_HEAD
from engine.wire.http1.known import KNOWN_HEADS
from engine.wire.http1.message import CHUNKED, UNTIL_CLOSE, Fields, Mark, Request, Response
from engine.wire.http1.read import head_end, next_request, next_response, parse_request, parse_response
from engine.wire.http1.write import encode_lines, encode_request, encode_response, error_response

__all__ = [
    "CHUNKED",
    "KNOWN_HEADS",
    "MAX_FIELDS",
    "MAX_HEAD",
    "MAX_LINE",
    "PEER_FIELDS",
    "PEER_HEAD",
    "UNTIL_CLOSE",
    "Body",
    "ChunkedBody",
    "Fields",
    "Mark",
    "Request",
    "Response",
    "encode_lines",
    "encode_request",
    "encode_response",
    "error_response",
    "head_end",
    "next_request",
    "next_response",
    "parse_request",
    "parse_response",
]
