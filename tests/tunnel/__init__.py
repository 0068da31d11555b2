"""Tests of engine.tunnel."""
