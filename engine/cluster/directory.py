"""What every peer serves, in memory: kept current by whoever hears of it (a supervisor's channel, a store).

Sans-IO and synchronous. A request is routed by this alone, so nothing here is asked of anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from engine.cluster.entry import Change, Entry


class Watcher(Protocol):
    """Is told what changes, after it has."""

    def peer_changed(self, entry: Entry) -> None:
        """A peer is new, or has another life or address."""

    def peer_removed(self, entry: Entry) -> None: ...

    def endpoint_changed(self, peer: str, endpoint: str, count: int, guarded: bool) -> None:
        """`peer` serves `endpoint` by `count` sessions (0: no more). `guarded`: for certain visitors only."""


class Directory:
    """The peers of a node, itself not among them (`own_id`)."""

    def __init__(self, own_id: str) -> None:
        self.own_id = own_id
        self.watcher: Watcher | None = None
        self._peers: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def peers(self) -> list[Entry]:
        return list(self._peers.values())

    def get(self, id: str) -> Entry | None:
        return self._peers.get(id)

    def put(self, entry: Entry) -> None:
        """`entry` is the whole state of a peer. An older revision of the same life is passed over."""
        if entry.id == self.own_id:
            return
        before = self._peers.get(entry.id)
        same_life = before is not None and before.start == entry.start
        if before is not None and same_life and entry.revision < before.revision:
            return
        self._peers[entry.id] = entry
        watcher = self.watcher
        if watcher is None:
            return
        if before is None or not same_life or before.addr != entry.addr:
            watcher.peer_changed(entry)
        had, had_guarded = (before.endpoints, before.guarded) if before is not None else ({}, set())
        for endpoint in had.keys() - entry.endpoints.keys():
            watcher.endpoint_changed(entry.id, endpoint, 0, False)
        for endpoint, count in entry.endpoints.items():
            guarded = endpoint in entry.guarded
            if had.get(endpoint) != count or guarded != (endpoint in had_guarded):
                watcher.endpoint_changed(entry.id, endpoint, count, guarded)

    def change(self, change: Change) -> bool:
        """Take one change in. False: it does not follow on what is known, so the peer's whole state has to be read."""
        entry = self._peers.get(change.id)
        if change.id == self.own_id:
            return True
        if entry is None or entry.start != change.start:
            return False
        if change.revision <= entry.revision:
            return True  # known already
        if change.revision != entry.revision + 1:
            return False
        _apply(change, entry)  # which is this directory's: `put` has been given it for good
        self._peers[change.id] = msgspec.structs.replace(entry, revision=change.revision)
        if self.watcher is not None:
            self.watcher.endpoint_changed(change.id, change.endpoint, change.count, change.guarded)
        return True

    def remove(self, id: str) -> None:
        """The peer has left, or its lease has ended."""
        entry = self._peers.pop(id, None)
        if entry is None or self.watcher is None:
            return
        for endpoint in entry.endpoints:
            self.watcher.endpoint_changed(id, endpoint, 0, False)
        self.watcher.peer_removed(entry)


class Own:
    """What this node says of itself: an entry and its changes, each told to those who carry them on."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.is_guarded: Callable[[str], bool] = lambda endpoint: False  # does an agent admit certain visitors only?
        self.tell: list[Callable[[Change], None]] = []

    @property
    def id(self) -> str:
        return self._entry.id

    @property
    def now(self) -> Entry:
        """As it is now, and only for now: the next change is made in it."""
        return self._entry

    @property
    def entry(self) -> Entry:
        """As it is now; a copy."""
        entry = self._entry
        return msgspec.structs.replace(entry, endpoints=dict(entry.endpoints), guarded=set(entry.guarded))

    def changed(self, endpoint: str, count: int) -> None:
        """For `Registry.observe`."""
        entry = self._entry
        guarded = count != 0 and self.is_guarded(endpoint)
        if entry.endpoints.get(endpoint, 0) == count and guarded == (endpoint in entry.guarded):
            return
        change = Change(entry.id, entry.start, entry.revision + 1, endpoint, count, guarded)
        _apply(change, entry)
        self._entry = msgspec.structs.replace(entry, revision=change.revision)
        for tell in self.tell:
            tell(change)


def _apply(change: Change, entry: Entry) -> None:
    """Change what `entry` says of an endpoint, but for the revision."""
    if change.count:
        entry.endpoints[change.endpoint] = change.count
    else:
        entry.endpoints.pop(change.endpoint, None)
    if change.guarded:
        entry.guarded.add(change.endpoint)
    else:
        entry.guarded.discard(change.endpoint)


class Membership(NamedTuple):
    """What makes a node a peer of others: what it knows of them, what it tells them, and what all of them know."""

    directory: Directory
    own: Own
    secret: bytes
