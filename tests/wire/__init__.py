"""Bytes in, events out: fed whole, byte by byte, split anywhere, and fuzzed."""
