"""What a node says of itself to its peers, and what changes."""

from __future__ import annotations

import msgspec


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One peer: a node, or a worker of one, if the node has several.

    `addr` is where its peer link is dialled: host:port, which all workers of a node share, or unix:PATH within a node.
    `worker_of` is the node, and `workers` how many it has, where there are several. `revision` counts its changes from
    its start on; `start` tells two lives of one id apart (drawn at random, so no clock has to be right). `endpoints`
    maps registry keys to the number of sessions that serve them there; minus their number if all of them are standbys,
    or have lost their carriers and wait for others. `guarded`: those of them whose agents let in certain visitors only,
    which is decided there, or want to know who clients are.
    """

    id: str
    start: str
    addr: str
    revision: int = 0
    endpoints: dict[str, int] = {}
    proxy_addr: str = ""
    admin_addr: str = ""
    version: str = ""
    worker_of: str = ""
    workers: int = 1
    guarded: set[str] = set()

    @property
    def node(self) -> str:
        """The id of its node."""
        return self.worker_of or self.id

    @property
    def sessions(self) -> int:
        return sum(map(abs, self.endpoints.values()))


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One endpoint of a peer has `count` sessions now (0: none; see Entry). `revision` is the one that it leads to."""

    id: str
    start: str
    revision: int
    endpoint: str
    count: int
    guarded: bool = False
