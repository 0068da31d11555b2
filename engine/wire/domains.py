"""The domains that an agent claims for its endpoint, said in its registration:

    x-trioduct-domains: shop.example.com, *.shop.example.com

The agent's token has to permit them: `{"piko": {"domains": ["*.example.com"]}}`. A node that has given them to the
endpoint answers `x-trioduct-domains: kept`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from engine.errors import HTTPError
from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-domains"
KEPT: Final = b"kept"
MAX_BYTES: Final = 4096
is_domain: Final = re.compile(r"(?:\*\.)?(?=.*[^0-9.])[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})+", re.ASCII).fullmatch


def encode(domains: Sequence[str]) -> bytes:
    """The value of the field."""
    return ", ".join(domains).encode()


def domains_in(fields: Fields) -> list[str]:
    """What a registration says; empty if it says nothing. Raises HTTPError."""
    values = [value for name, value in fields if name.lower() == FIELD]
    if not values:
        return []
    names = values[0].decode("latin-1").split(", ")
    if len(values) > 1 or len(values[0]) > MAX_BYTES or not all(map(is_domain, names)):
        raise HTTPError(400, f"expected x-trioduct-domains once, with domains of at most {MAX_BYTES} bytes")
    return list(dict.fromkeys(names))


def are_kept(fields: Fields) -> bool:
    """Whether an answer says that the endpoint has them."""
    return any(name.lower() == FIELD and value == KEPT for name, value in fields)
