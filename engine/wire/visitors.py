"""Whom an agent lets its node admit to the endpoint, said in its registration:

    x-trioduct-visitors: {"allow": ["10.0.0.0/8"], "deny": [], "users": {"alice": "$2y$..."}}

in JSON of ASCII, with the hashes of passwords. The node can only be stricter. One that keeps to it answers
`x-trioduct-visitors: kept`; an agent does not serve by a node that does not say so, as Piko's do not.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from engine.errors import HTTPError
from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-visitors"
KEPT: Final = b"kept"
MAX_BYTES: Final = 8192  # of the value: about a hundred users


class Visitors(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The networks that clients have to come from (none: any) and must not come from; the users, with their hashes."""

    allow: list[str] = []
    deny: list[str] = []
    users: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Visitors(allow={self.allow}, deny={self.deny}, users={len(self.users)})"

    def encode(self) -> bytes:
        """The value of the field; empty if all are let in."""
        said = msgspec.to_builtins(self)
        return json.dumps(said, separators=(",", ":")).encode() if said else b""


def visitors_in(fields: Fields) -> Visitors | None:
    """What a registration says; None if it says nothing. Raises HTTPError."""
    values = [value for name, value in fields if name.lower() == FIELD]
    if not values:
        return None
    if len(values) > 1 or len(values[0]) > MAX_BYTES:
        raise HTTPError(400, f"expected x-trioduct-visitors once, of at most {MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(values[0], type=Visitors)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise HTTPError(400, "expected the JSON of visitors in x-trioduct-visitors") from None


def are_kept(fields: Fields) -> bool:
    """Whether an answer says that the node keeps to it."""
    return any(name.lower() == FIELD and value == KEPT for name, value in fields)
