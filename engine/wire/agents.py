"""Which agent has a session, as it says in its registration, so that its other sessions are known for its own:

    x-trioduct-agent: 9f86d081884c7d65

It is drawn at the agent's start, and the same at each worker of a node and behind each loss.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-agent"
_name: Final = re.compile(rb"[0-9a-f]{16}").fullmatch


def new_name() -> bytes:
    return secrets.token_hex(8).encode()


def name_in(fields: Fields) -> bytes:
    """What a registration says; a new name if that is nothing, or none."""
    said = [value for name, value in fields if name.lower() == FIELD]
    return said[0] if len(said) == 1 and _name(said[0]) else new_name()
