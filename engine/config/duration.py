"""Durations in Go's spelling, as Piko writes them: "1m30s", "100ms", "0"."""

from __future__ import annotations

import re

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "μs": 1_000,  # U+03BC, the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3600_000_000_000,
}
# Possessive: else each number would be split in as many ways as it has digits, and all of them in the product of these.
_DURATION = re.compile(r"([+-]?)((?:(?:\d++\.?+\d*+|\.\d++)(?:ns|us|µs|μs|ms|s|m|h))++|0)", re.ASCII)
_DURATION_PART = re.compile(r"(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """Go's spelling ("1m30s", "100ms", "-1.5h", "0") as seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"no duration: {text!r}")
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(match[2]):
        total += int(whole + fraction) * _NANOSECONDS[unit] // 10 ** len(fraction)
    if total >= 1 << 63:  # Go counts nanoseconds in 64 bits
        raise ValueError(f"longer than 292 years: {text!r}")
    return (-total if match[1] == "-" else total) / 1e9


def parse_lifetime(text: str) -> float:
    """A duration that may begin with days of 24 hours ("30d", "1d12h", "720h"), as seconds. Raises ValueError."""
    days, begun, rest = text.partition("d")
    if not begun:
        return parse_duration(text)
    if not (days.isascii() and days.isdecimal()):
        raise ValueError(f"no duration: {text!r}")
    return parse_duration(f"{int(days) * 24}h{rest}")


def format_duration(seconds: float) -> str:
    """Seconds in Go's spelling: 90.0 is "1m30s", 3600.0 is "1h0m0s"."""
    count = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 else ""
    if count == 0:
        return "0s"
    for unit in ("ns", "µs", "ms"):
        if count < 1000 * _NANOSECONDS[unit]:
            return f"{sign}{_decimal(count, _NANOSECONDS[unit])}{unit}"
    minutes, count = divmod(count, _NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{front}{_decimal(count, _NANOSECONDS['s'])}s"


def _decimal(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0").rstrip(".")
