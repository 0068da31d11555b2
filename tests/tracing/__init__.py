"""Tests of engine.tracing, and a collector of OTLP over HTTP."""
