"""Spans of what passes, for a collector (OpenTelemetry, https://opentelemetry.io/docs/specs/).

    tracer      which requests are traced, and the queue of spans that are over
    span        one span, and what it says of an HTTP exchange
    export      hands the queue to OpenTelemetry's exporter, in a thread

Only the last needs what `trioduct[otel]` installs.
"""
