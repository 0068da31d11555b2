"""Networks, and whether an address is in one of them.

An address of IPv4 that is written as one of IPv6 (`::ffff:10.0.0.1`, as a port that is open to both shows it) counts as
what it stands for, in the names of networks as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from engine.wire.addresses import as_meant

KNOWN_ADDRESSES: Final = 4096
_MAPPED_BITS: Final = 96  # in front of the IPv4 address


class Networks:
    """Some networks, as `10.0.0.0/8` or an address. Raises ValueError for what is none."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = [_network(ip_network(network)) for network in networks]
        self.find = lru_cache(KNOWN_ADDRESSES)(self._find)  # the same few addresses come again and again

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _find(self, address: str) -> bool | None:
        """Is this address in one of them? None for what is no address."""
        try:
            parsed = as_meant(ip_address(address))
        except ValueError:
            return None
        return any(parsed in network for network in self._networks)


def _network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    first = as_meant(network.network_address)
    if isinstance(network, IPv6Network) and isinstance(first, IPv4Address) and network.prefixlen >= _MAPPED_BITS:
        return IPv4Network((int(first), network.prefixlen - _MAPPED_BITS))
    return network
