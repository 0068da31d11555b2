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

    def endpoint_changed(self, peer: str, endpoint: str, count: int) -> None:
        """`peer` serves `endpoint` by `count` sessions (0: no more)."""


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
        had = before.endpoints if before is not None else {}
        for endpoint in had.keys() - entry.endpoints.keys():
            watcher.endpoint_changed(entry.id, endpoint, 0)
        for endpoint, count in entry.endpoints.items():
            if had.get(endpoint) != count:
                watcher.endpoint_changed(entry.id, endpoint, count)

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
        # The one who owns the mapping is this directory: `put` has been given it for good.
        if change.count:
            entry.endpoints[change.endpoint] = change.count
        else:
            entry.endpoints.pop(change.endpoint, None)
        self._peers[change.id] = msgspec.structs.replace(entry, revision=change.revision)
        if self.watcher is not None:
            self.watcher.endpoint_changed(change.id, change.endpoint, change.count)
        return True

    def remove(self, id: str) -> None:
        """The peer has left, or its lease has ended."""
        entry = self._peers.pop(id, None)
        if entry is None or self.watcher is None:
            return
        for endpoint in entry.endpoints:
            self.watcher.endpoint_changed(id, endpoint, 0)
        self.watcher.peer_removed(entry)


class Own:
    """What this node says of itself: an entry and its changes, each told to those who carry them on."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
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
        return msgspec.structs.replace(self._entry, endpoints=dict(self._entry.endpoints))

    def changed(self, endpoint: str, count: int) -> None:
        """For `Registry.observe`."""
        entry = self._entry
        if entry.endpoints.get(endpoint, 0) == count:
            return
        if count:
            entry.endpoints[endpoint] = count
        else:
            entry.endpoints.pop(endpoint, None)
        self._entry = entry = msgspec.structs.replace(entry, revision=entry.revision + 1)
        change = Change(entry.id, entry.start, entry.revision, endpoint, count)
        for tell in self.tell:
            tell(change)


class Membership(NamedTuple):
    """What makes a node a peer of others: what it knows of them, what it tells them, and what all of them know."""

    directory: Directory
    own: Own
    secret: bytes
