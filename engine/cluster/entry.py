"""What a node says of itself to its peers, and what changes."""

from __future__ import annotations

import msgspec


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One peer: a node of another machine, or a worker of this one.

    `addr` is where its peer link is dialled: host:port, or unix:PATH for a worker. `revision` counts its changes from
    its start on; `start` tells two lives of one id apart (drawn at random, so no clock has to be right). `endpoints`
    maps registry keys to the number of sessions that serve them there; minus their number if all of them have lost
    their carriers, and wait for others. `guarded`: those of them whose agents let in certain visitors only, which is
    decided there.
    """

    id: str
    start: str
    addr: str
    revision: int = 0
    endpoints: dict[str, int] = {}
    proxy_addr: str = ""
    admin_addr: str = ""
    version: str = ""
    guarded: set[str] = set()


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One endpoint of a peer has `count` sessions now (0: none; see Entry). `revision` is the one that it leads to."""

    id: str
    start: str
    revision: int
    endpoint: str
    count: int
    guarded: bool = False
