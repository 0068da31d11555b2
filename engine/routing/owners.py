"""Whose an endpoint is: of the principal that has registered it first, as long as a session of theirs lasts.

Endpoints go by their keys (see tenants): what is told below holds within one tenant, and between two nothing does.

A principal is whoever a token names (its `sub`), and all whose tokens name nobody are one. Sessions of one principal
share an endpoint, or have it one at a time. Another principal does not get it, and no name either that a reader would
take for it: `Shop` and `shop`, `häuser` and `xn--huser-gra`, full-width letters, a dot behind.

A node may consist of several workers. Then each knows what the others hold, and the supervisor, who hears of all in one
order, who was first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

from engine.routing import tenants

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


_UNSEEN: Final = dict.fromkeys(
    (
        *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
    )
)
"""Letters and marks that nobody sees (Unicode's Default_Ignorable_Code_Point, as far as it is printable)."""
_SEEN_AS: Final = str.maketrans("。｡", "..") | _UNSEEN


def likeness(key: str) -> str:
    """The same for all keys of one tenant whose names a reader would take for one another."""
    name, tenant = tenants.split(key)
    labels = _as_seen(name).split(".")
    return tenants.key(_as_seen(".".join(map(_decoded, labels))).rstrip("."), tenant)


def _as_seen(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_SEEN_AS)).translate(_SEEN_AS).casefold()


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
    """Who has which endpoint. `exclusive`: one session at a time, of those of a principal.

    `changed(endpoint, principal, held)` is called when the first session here has come, and when the last has gone.
    """

    def __init__(self, *, exclusive: bool = False) -> None:
        self.changed: Callable[[str, str, bool], None] = lambda endpoint, principal, held: None
        self._exclusive = exclusive
        self._held: dict[str, tuple[str, dict[str, int]]] = {}  # likeness -> principal, sessions by name
        self._elsewhere: dict[str, dict[tuple[str, str], str]] = {}  # likeness -> (worker, name) -> principal
        self._leaving: set[str] = set()  # workers

    def ask(self, endpoint: str, principal: str) -> Answer:
        """Whether a session of `principal` may have `endpoint` now."""
        like = likeness(endpoint)
        owner, sessions = self._held.get(like, (principal, {}))
        others = self._elsewhere.get(like, {})
        if owner != principal or any(one != principal for one in others.values()):
            return Answer.TAKEN
        there = any(name == endpoint and worker not in self._leaving for worker, name in others)
        return Answer.BUSY if self._exclusive and (sessions.get(endpoint) or there) else Answer.YES

    @contextmanager
    def hold(self, endpoint: str, principal: str) -> Iterator[None]:
        """A session of `principal` has `endpoint` within the context; it has asked, and nobody has come between."""
        like = likeness(endpoint)
        _, sessions = self._held.setdefault(like, (principal, {}))
        sessions[endpoint] = sessions.get(endpoint, 0) + 1
        if sessions[endpoint] == 1:
            self.changed(endpoint, principal, True)
        try:
            yield
        finally:
            sessions[endpoint] -= 1
            last = not sessions[endpoint]
            if last:
                del sessions[endpoint]
            if not sessions:
                del self._held[like]
            if last:
                self.changed(endpoint, principal, False)

    def held(self) -> dict[str, str]:
        """What is held here: the principal by endpoint."""
        return {endpoint: principal for principal, sessions in self._held.values() for endpoint in sessions}

    # -- what other workers hold

    def hold_elsewhere(self, worker: str, endpoint: str, principal: str) -> None:
        self._elsewhere.setdefault(likeness(endpoint), {})[worker, endpoint] = principal

    def free_elsewhere(self, worker: str, endpoint: str) -> None:
        like = likeness(endpoint)
        others = self._elsewhere.get(like, {})
        if others.pop((worker, endpoint), None) is not None and not others:
            del self._elsewhere[like]

    def held_elsewhere(self) -> dict[str, dict[str, str]]:
        """The principal by endpoint, by worker."""
        found: dict[str, dict[str, str]] = {}
        for others in self._elsewhere.values():
            for (worker, endpoint), principal in others.items():
                found.setdefault(worker, {})[endpoint] = principal
        return found

    def put_elsewhere(self, held: Mapping[str, Mapping[str, str]]) -> None:
        """All that others hold, in place of what was known of it."""
        self._elsewhere.clear()
        for worker, endpoints in held.items():
            for endpoint, principal in endpoints.items():
                self.hold_elsewhere(worker, endpoint, principal)

    def leaves(self, worker: str) -> None:
        """Its agents are asked to come elsewhere: what it still holds is not in their way."""
        self._leaving.add(worker)

    def forget(self, worker: str) -> None:
        """It is gone."""
        self._leaving.discard(worker)
        for endpoint in self.held_elsewhere().get(worker, {}):
            self.free_elsewhere(worker, endpoint)
