"""Whether who asks is a browser, which shows pages, or a program, which reads JSON (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from typing import Final

from engine.wire.http1.message import Fields

_WEIGHT: Final = re.compile(rb"0(?:\.\d{0,3})?|1(?:\.0{0,3})?").fullmatch


def prefers_html(fields: Fields) -> bool:
    """Browsers name text/html; who says */* alone takes anything, and is given what programs read."""
    weights: dict[bytes, float] = {}
    for name, value in fields:
        if name.lower() == b"accept":
            for part in value.lower().split(b","):
                kind, *parameters = (piece.strip() for piece in part.split(b";"))
                weights[kind] = min((_weight(one) for one in parameters), default=1.0)
    html = weights.get(b"text/html", 0.0)
    return html > 0 and html >= weights.get(b"application/json", 0.0)


def _weight(parameter: bytes) -> float:
    name, _, value = parameter.partition(b"=")
    if name != b"q":
        return 1.0
    return float(value) if _WEIGHT(value) else 0.0
