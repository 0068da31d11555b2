"""Whose word counts for who a client is: that of the proxies in front, by their networks.

A balancer or CDN in front of a node says in X-Forwarded-For where a request comes from. So may anybody; only what comes
from these networks is believed, and of the addresses that it names the last one that is not itself such a proxy: what
stands in front of that was said by a stranger.

A proxy passes on whatever it does not set itself, and each sets others: HAProxy's `option forwardfor` X-Forwarded-For
alone, nginx what its operator has written. So its word counts for the fields that are named, and not for their kin.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.auth.networks import Networks
from engine.wire.http1 import Fields, claims


class Trust:
    """The networks of the proxies in front, as `10.0.0.0/8` or an address, and the names of the `fields` by which they
    say who a client is, and how it asked.
    """

    def __init__(self, networks: Sequence[str] = (), fields: Sequence[str] = ()) -> None:
        self.fields = frozenset(name.lower().encode() for name in fields)
        self._networks = Networks(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def covers(self, address: str) -> bool:
        """Is the word of who has this address believed?"""
        return bool(self._networks) and bool(self._networks.find(address))

    def client_of(self, peer: str, fields: Fields) -> str:
        """The address of the client whose request with these fields has come from `peer`."""
        if not self.covers(peer):
            return peer
        return self.client(peer, [value for name, value in fields if name.lower() == claims.FOR])

    def client(self, peer: str, said: Sequence[bytes]) -> str:
        """The address of the client behind `peer`, which is covered, by what its X-Forwarded-For fields have `said`.

        What is no address is nobody's, and the client is whoever said it.
        """
        client = peer
        for word in reversed(b",".join(said).decode("latin-1").split(",")):
            address = _without_port(word.strip())
            known = self._networks.find(address)
            if known is None:
                break
            client = address
            if not known:
                break
        return client


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
