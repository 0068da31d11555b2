"""A collector to look at: takes spans by OTLP over HTTP, and draws each trace when its last span has come.

    pip install 'trioduct[otel]'
    python examples/spans.py            # on 127.0.0.1:4318
    trioduct server --tracing.url http://127.0.0.1:4318

It keeps nothing. For every day there are Jaeger, Grafana Tempo and the OpenTelemetry Collector.
"""

import sys
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

WIDTH = 30
QUIET_SECONDS = 1.5  # node and agent send theirs once a second
SHOWN = ("http.response.status_code", "url.full", "url.path", "trioduct.endpoint", "trioduct.carrier", "trioduct.peer")

traces: defaultdict[bytes, list[tuple[str, Span]]] = defaultdict(list)
changed: dict[bytes, float] = {}
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with lock:
            for one in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {pair.key: pair.value.string_value for pair in one.resource.attributes}
                for span in (span for scope in one.scope_spans for span in scope.spans):
                    traces[span.trace_id].append((named["service.name"], span))
                    changed[span.trace_id] = time.monotonic()
        self.send_response(200)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None: ...


def draw(trace: bytes, spans: list[tuple[str, Span]]) -> str:
    """A line for each span: who, what, when within the trace, and what it says."""
    spans = sorted(spans, key=lambda one: one[1].start_time_unix_nano)
    begin = spans[0][1].start_time_unix_nano
    whole = max(span.end_time_unix_nano for _, span in spans) - begin or 1
    lines = [f"trace {trace.hex()}"]
    for service, span in spans:
        left = (span.start_time_unix_nano - begin) * WIDTH // whole
        size = max((span.end_time_unix_nano - span.start_time_unix_nano) * WIDTH // whole, 1)
        said = {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in span.attributes}
        kind = "server" if span.kind == Span.SPAN_KIND_SERVER else "client"
        bar = (" " * left + "█" * size).ljust(WIDTH)
        took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        told = " ".join(said[key] for key in SHOWN if key in said)
        if span.status.code == Status.STATUS_CODE_ERROR:
            told += f" (error {said['error.type']})"
        lines.append(f"  {service:14} {kind} {span.name:4} {bar} {took:6.2f} ms  {told}")
    return "\n".join(lines)


def main(port: int) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"waiting for spans at http://127.0.0.1:{server.server_port}", flush=True)
    while True:
        time.sleep(0.1)
        with lock:
            for trace in [one for one, at in changed.items() if time.monotonic() - at > QUIET_SECONDS]:
                del changed[trace]
                print(draw(trace, traces.pop(trace)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4318)
