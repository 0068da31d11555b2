"""A client's connection that speaks HTTP/2: each of its streams is a client's request like any other."""

from __future__ import annotations

from engine import http2
from engine.gateway.inbound import Inbound
from engine.http2.connection import Timeouts
from engine.http2.stream import Stream
from engine.loop.connection import Connection
from engine.node.client import Client, Clients
from engine.node.traced import TracedClient
from engine.wire.http2 import Field


def converse(connection: Connection, port: Clients, *, seen: int) -> http2.Connection:
    """Speak HTTP/2 on `connection` from now on. So much of the client's preface has been `seen` by somebody else."""

    def begin(stream: Stream, fields: list[Field]) -> None:
        made = Client if port.tracer is None else TracedClient
        client = made(connection, port, stream=stream, streams_body=is_grpc(fields))
        Inbound(stream, client, port.reactor)

    def ended(reason: str) -> None:
        if reason:
            port.http2_ended[reason] += 1

    limits = port.timeouts
    return http2.Connection(
        connection,
        port.reactor,
        timeouts=Timeouts(limits.head, limits.idle, limits.stall),
        on_end=ended,
        on_stream=begin,
        max_head=port.max_head,
        seen=seen,
    )


def is_grpc(fields: list[Field]) -> bool:
    """Whether its body is a conversation, which may rest: a call of gRPC has a deadline of its own."""
    return any(name == b"content-type" and value.startswith(b"application/grpc") for name, value in fields)
