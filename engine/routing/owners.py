"""Whose an endpoint is: of the principal that has registered it first, as long as a session of theirs lasts.

A principal is whoever a token names (its `sub`), and all whose tokens name nobody are one. Sessions of one principal
share an endpoint, or have it one at a time. Another principal does not get it, and no name either that a reader would
take for it: `Shop` and `shop`, `häuser` and `xn--huser-gra`, full-width letters, a dot behind.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

MAX_BYTES: Final = 255


def defect_of_name(name: str) -> str:
    """What is wrong with the name of an endpoint; empty if nothing is."""
    if len(name.encode("utf-8", "replace")) > MAX_BYTES or not name.isprintable():
        return f"an endpoint id has at most {MAX_BYTES} printable bytes"
    if not name or name != name.strip() or name.endswith("."):
        return "an endpoint id has no blanks around it, and no dot at its end"
    if not unicodedata.is_normalized("NFC", name):
        return "an endpoint id is in the composed form of Unicode (NFC)"
    return ""


def likeness(name: str) -> str:
    """The same for all names that a reader would take for one another."""
    labels = unicodedata.normalize("NFKC", name).casefold().split(".")
    return unicodedata.normalize("NFKC", ".".join(map(_decoded, labels)).casefold())


def _decoded(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except ValueError:
        return label


class Answer(Enum):
    """What who wants to register is told."""

    YES = auto()
    TAKEN = auto()  # another principal has it, or a name like it
    BUSY = auto()  # another session of the same principal has it, and it is for one at a time


class Owners:
    """Who has which endpoint. `exclusive`: one session at a time, of those of a principal."""

    def __init__(self, *, exclusive: bool = False) -> None:
        self._exclusive = exclusive
        self._held: dict[str, tuple[str, dict[str, int]]] = {}  # likeness -> principal, sessions by name

    def ask(self, endpoint: str, principal: str) -> Answer:
        """Whether a session of `principal` may have `endpoint` now."""
        owner, sessions = self._held.get(likeness(endpoint), (principal, {}))
        if owner != principal:
            return Answer.TAKEN
        return Answer.BUSY if self._exclusive and sessions.get(endpoint) else Answer.YES

    @contextmanager
    def hold(self, endpoint: str, principal: str) -> Iterator[None]:
        """A session of `principal` has `endpoint` within the context; it has asked, and nobody has come between."""
        like = likeness(endpoint)
        _, sessions = self._held.setdefault(like, (principal, {}))
        sessions[endpoint] = sessions.get(endpoint, 0) + 1
        try:
            yield
        finally:
            sessions[endpoint] -= 1
            if not sessions[endpoint]:
                del sessions[endpoint]
            if not sessions:
                del self._held[like]
