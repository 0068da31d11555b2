"""NO_PROXY: which destinations go straight. There is no standard, and no two programs agree.

What people write is what counts, so all of these work: a name and its subdomains (`example.test`,
`.example.test`, `*.example.test`, with or without a trailing dot), a name or address with a port, blanks as
well as commas between entries, addresses (IPv6 with or without brackets, IPv4 inside IPv6), networks
(`10.0.0.0/8`, `::/0`, `[fd00::]/8`), patterns (`127.*`), `*` for everything and `<local>` for names without
a dot. Names are compared as A-labels. Nothing is resolved: a network entry matches a destination written as
an address.
"""

from __future__ import annotations

import ipaddress
import re

from proxy_adapters.url import normal_host


def match_no_proxy(host: str, port: int, entries: str) -> str | None:
    """The entry that sends `host:port` straight, or None."""
    name = normal_host(host)
    address = _address(name)
    for entry in re.split(r"[,\s]+", entries):
        if entry and _matches(entry, name, address, port):
            return entry
    return None


def _matches(entry: str, name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if entry.lower() == "<local>":
        return address is None and "." not in name
    bracketed = re.fullmatch(r"\[([^\]]+)\](/\d{1,3})?(?::(\d{1,5}))?", entry)
    if bracketed:
        body, wanted_port = bracketed[1] + (bracketed[2] or ""), bracketed[3]
    elif entry.count(":") == 1:
        body, _, wanted_port = entry.partition(":")
    else:
        body, wanted_port = entry, None
    if wanted_port and wanted_port.lstrip("0") != str(port):
        return False
    if address is not None:
        try:
            network = ipaddress.ip_network(body, strict=False)
        except ValueError:
            return "*" in body and _glob(body, name)
        inside = address.version == network.version and address in network
        # ::/0 is everything an IPv6 stack can name, IPv4 included (as ::ffff:0:0/96).
        return inside or (network.version == 6 and address.version == 4 and _mapped(address) in network)
    body = body.strip(".").removeprefix("*.")
    if "*" in body:
        return _glob(body.lower(), name)
    try:
        wanted = normal_host(body)
    except ValueError:
        return False
    return name == wanted or name.endswith("." + wanted)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(b"\x00" * 10 + b"\xff\xff" + address.packed)


def _glob(pattern: str, name: str) -> bool:
    """Only `*` is special: fnmatch would make sets of brackets, which IPv6 has, and a regex may take for ever."""
    first, *middle, last = pattern.split("*")
    position, end = len(first), len(name) - len(last)
    if position > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        position = name.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True
