"""A collector: OTLP over HTTP as OpenTelemetry's own schema (opentelemetry-proto) decodes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.roles import Roles, Talk, values_of

KINDS = {trace_pb2.Span.SPAN_KIND_SERVER: "server", trace_pb2.Span.SPAN_KIND_CLIENT: "client"}
Attributes = dict[str, str | int]


class Got(NamedTuple):
    """A span as a collector sees it; times are Unix nanoseconds, ids hexadecimal, `said` is the name of its service."""

    service: str
    resource: Attributes
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    failed: bool
    attributes: Attributes
    events: list[str]


def answered(status: bytes = b"200 OK", body: bytes = b"", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), fields, body)


def rejecting(count: int, why: str) -> bytes:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = count
    response.partial_success.error_message = why
    return answered(body=response.SerializeToString())


class Collector:
    """What it was sent, and what it says to that: `says` is one answer for all, `hears` may do something else."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.spans: list[Got] = []
        self.says = answered(body=ExportTraceServiceResponse().SerializeToString())
        self.hears: Callable[[Talk], object] | None = None
        self._more = trio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, roles: Roles, port: int = 0) -> Collector:
        self.port = await roles.service(self.serve, port=port)
        return self

    async def serve(self, talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            (length,) = values_of(head, b"content-length")
            body = await talk.exactly(int(length))
            self.heads.append(head)
            if b"\r\ncontent-type: application/x-protobuf\r\n" in head.lower() and self.says.startswith(b"HTTP/1.1 2"):
                self.spans += decoded(body)
            self._more.set()
            self._more = trio.Event()
            await talk.say(self.says)

    async def wait_for(self, count: int) -> list[Got]:
        """All spans, as soon as there are so many, in the order in which they began."""
        while len(self.spans) < count:
            await self._more.wait()
        return sorted(self.spans, key=lambda span: span.began)

    async def wait_asked(self, times: int = 1) -> None:
        while len(self.heads) < times:
            await self._more.wait()


def decoded(body: bytes) -> list[Got]:
    found = []
    for one in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = attributes_of(one.resource.attributes)
        for scope in one.scope_spans:
            assert scope.scope.name == "trioduct"
            for span in scope.spans:
                found.append(
                    Got(
                        str(resource["service.name"]),
                        resource,
                        span.name,
                        KINDS[span.kind],
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                        attributes_of(span.attributes),
                        [event.name for event in span.events],
                    )
                )
    return found


def attributes_of(pairs: list[KeyValue]) -> Attributes:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
