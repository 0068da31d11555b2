"""HTTP/2 (RFC 9113): one connection as many duplexes, each of which carries one request and its answer in HTTP/1.1.

    floods      what a peer may send of what costs it nothing; pure
    stream      a stream, as a duplex
    connection  the connection: frames in and out, by the `h2` library

    a client's connection -> Connection -> Stream -> gateway.inbound            at a node
    gateway.outbound -> Stream -> Connection -> the service's connection        at an agent

So everything that knows requests knows those of HTTP/2: limits, tokens, the access log, retries. In between, on the
streams of a session, it is HTTP/1.1 anyway.
"""

from engine.http2.connection import Connection
from engine.http2.stream import Stream

__all__ = ["Connection", "Stream"]
