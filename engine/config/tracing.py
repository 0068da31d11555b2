"""Traces: which requests, and where spans of them are sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from engine.config.address import is_loopback, split_url
from engine.config.check import Defect, read_secret_file
from engine.config.kinds import CollectorURL, Count, FileName, Fraction, Headers, Word, split_header
from engine.config.knob import Section

if TYPE_CHECKING:
    from engine.tracing.export import Exporter
    from engine.tracing.tracer import Tracer

SPANS_PATH = "/v1/traces"  # OTLP/HTTP's


class TracingConfig(Section):
    """Of a node."""

    title: ClassVar[str] = "Tracing (OpenTelemetry)"

    url: Annotated[CollectorURL, "Collector that spans are sent to by OTLP over HTTP; empty: no tracing."] = ""
    headers: Annotated[Headers, "Headers for the collector; best kept in the environment or in a file."] = []
    headers_file: Annotated[FileName, "File with such headers, one a line, which only its owner may read."] = ""
    sample: Annotated[Fraction, "Share of the requests without a traceparent that are traced."] = 1.0
    rate: Annotated[Count, "Maximum number of requests to trace per second (and worker); 0: no limit."] = 100
    service_name: Annotated[Word, "Name of the service in traces; empty: trioduct-node or trioduct-agent."] = ""

    def endpoint(self) -> str:
        """The URL that spans are posted to."""
        return self.url if split_url(self.url).path else self.url.rstrip("/") + SPANS_PATH

    def is_clear(self) -> bool:
        """Whether others can read what is sent there."""
        return split_url(self.url).scheme == "http" and not self.is_here()

    def is_here(self) -> bool:
        """Whether the collector is on this machine, to which no proxy leads."""
        return is_loopback(split_url(self.url).host)

    def open(self, now: float, *, service: str, instance: str, node: str = "") -> tuple[Tracer, Exporter]:
        """What traces requests from `now` on, and what exports the spans: as those of `service`, unless service_name or
        the environment has another name. `node` is the id of the node, if this is one.
        """
        from engine.loop.renewed import Renewed
        from engine.tracing.export import Exporter  # which takes half a second
        from engine.tracing.tracer import Tracer

        tracer = Tracer(self.sample, self.rate, now, node=node)
        exporter = Exporter(
            tracer,
            url=self.endpoint(),
            headers=self.read_headers(),
            service=self.service_name,
            otherwise=service,
            instance=instance,
            direct=self.is_here(),
        )
        if self.headers_file:
            read_again = Renewed("tracing.headers_file", [self.headers_file], lambda: exporter.use(self.read_headers()))
            exporter.look = read_again.refresh
        return tracer, exporter

    def verify(self) -> None:
        if self.headers and self.headers_file:
            raise Defect("headers_file", self.headers_file, "set as well as headers; expected one of the two")
        self.read_headers()
        if self.url:
            self._check_installed()

    def read_headers(self) -> dict[str, str]:
        """What is said to the collector beside spans. Raises Defect."""
        path = self.headers_file
        lines = read_secret_file("headers_file", path).splitlines() if path else self.headers
        try:
            return dict(split_header(line) for line in lines if line.strip())
        except ValueError:
            raise Defect("headers_file", path, "has a line that is no header; expected `Name: value`") from None

    def _check_installed(self) -> None:
        from importlib.util import find_spec

        try:
            found = find_spec("opentelemetry.exporter.otlp.proto.http")
        except ImportError:
            found = None
        if found is None:
            raise Defect("url", "", "needs OpenTelemetry; expected `pip install 'trioduct[otel]'`")

    def warnings(self, said: Collection[str]) -> Iterator[str]:
        if not self.url:
            usual = type(self)()
            names = [key.partition("tracing.")[2] for key in said]
            if idle := [f"tracing.{name}" for name in names if name and getattr(self, name) != getattr(usual, name)]:
                yield f"{', '.join(idle)}: of no effect without tracing.url"
        elif self.is_clear() and (self.headers or self.headers_file):
            yield f"tracing.url {self.url}: the headers are sent in clear text; https keeps them secret"


class AgentTracingConfig(TracingConfig):
    """Of an agent, which follows its node."""

    sample: Annotated[Fraction, "Share of the requests without a traceparent that are traced."] = 0.0
