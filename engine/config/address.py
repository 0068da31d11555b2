"""Addresses and URLs: their text, and the host and port in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^\[\]:/@\s\x00-\x1f\x7f]*)):(\d{1,5})", re.ASCII)


def split_address(text: str) -> tuple[str, int]:
    """Host and port: ":8000" is ("", 8000), "[::1]:80" is ("::1", 80). Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"no host:port: {text!r}")
    return match[1] or match[2] or "", int(match[3])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches who listens on this host. No name but localhost is believed to be so."""
    import ipaddress  # which only a node needs

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Target(NamedTuple):
    """What a URL or an address leads to. `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str


_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def split_url(text: str, schemes: Sequence[str] = ("http", "https", "ws", "wss")) -> Target:
    """The parts of a URL with one of these schemes, its port filled in. Raises ValueError."""
    url = urlsplit(text)
    if url.scheme not in schemes or not url.hostname or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError("no URL of these schemes")
    port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if port == 0:
        raise ValueError("nothing listens on port 0")
    return Target(url.scheme, url.hostname, port, url.path.rstrip("/"))


class StorePlace(NamedTuple):
    """Where a Redis or Valkey is: at the first of `hosts`, or where the sentinels at `hosts` say that `service` is."""

    tls: bool
    hosts: list[tuple[str, int]]
    service: str
    user: str
    password: str
    database: int

    def __repr__(self) -> str:
        return f"StorePlace({self.hosts}, {self.service!r})"


_STORE = re.compile(r"redis(s?)(\+sentinel)?://(?:([^@/?#]*)@)?([^@/?#]+)((?:/[^/?#]*){0,2})")
_STORE_PORT = 6379
_SENTINEL_PORT = 26379


def split_store(text: str) -> StorePlace:
    """The parts of redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], with rediss for TLS, or of
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],.../SERVICE[/DATABASE]. Raises ValueError.
    """
    found = _STORE.fullmatch(text)
    if found is None:
        raise ValueError("no URL of a store")
    tls, sentinels, userinfo, hosts, path = found.groups()
    user, _, password = (unquote(part) for part in (userinfo or "").partition(":"))
    usual = _SENTINEL_PORT if sentinels else _STORE_PORT
    addresses = [split_address(one if re.search(r":\d+$", one) else f"{one}:{usual}") for one in hosts.split(",")]
    service, _, database = path[1:].partition("/") if sentinels else ("", "", path[1:].rstrip("/"))
    if bool(sentinels) != bool(service) or (len(addresses) > 1 and not sentinels):
        raise ValueError("a service is what sentinels know")
    if not all(host for host, _ in addresses) or not (database or "0").isdecimal():
        raise ValueError("no host, or no number of a database")
    return StorePlace(bool(tls), addresses, service, user, password, int(database or "0"))
