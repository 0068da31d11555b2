"""Whose word counts for who a client is: that of the proxies in front, by their networks.

A balancer or CDN in front of a node says in X-Forwarded-For where a request comes from. So may anybody; only what comes
from these networks is believed, and of the addresses that it names the last one that is not itself such a proxy: what
stands in front of that was said by a stranger.

A proxy passes on whatever it does not set itself, and each sets others: HAProxy's `option forwardfor` X-Forwarded-For
alone, nginx what its operator has written. So its word counts for the fields that are named, and not for their kin.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network


class Trust:
    """The networks of the proxies in front, as `10.0.0.0/8` or an address, and the names of the `fields` by which they
    say who a client is, and how it asked.
    """

    def __init__(self, networks: Sequence[str] = (), fields: Sequence[str] = ()) -> None:
        self.fields = frozenset(name.lower().encode() for name in fields)
        self._networks = [ip_network(network) for network in networks]
        self._known = lru_cache(4096)(self._look_up)  # the same few proxies, again and again

    def __bool__(self) -> bool:
        return bool(self._networks)

    def covers(self, address: str) -> bool:
        """Is the word of who has this address believed?"""
        return bool(self._networks) and bool(self._known(address))

    def client(self, peer: str, said: Sequence[bytes]) -> str:
        """The address of the client behind `peer`, which is covered, by what its X-Forwarded-For fields have `said`.

        What is no address is nobody's, and the client is whoever said it.
        """
        client = peer
        for word in reversed(b",".join(said).decode("latin-1").split(",")):
            address = _without_port(word.strip())
            known = self._known(address)
            if known is None:
                break
            client = address
            if not known:
                break
        return client

    def _look_up(self, address: str) -> bool | None:
        """None for what is no address."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return None
        mapped = parsed.ipv4_mapped if parsed.version == 6 else None
        return any((mapped or parsed) in network for network in self._networks)


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
