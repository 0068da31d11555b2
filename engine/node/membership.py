"""How a node becomes one of a cluster: its store, what it says of itself, and where other nodes dial it."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from engine import __version__
from engine.cluster.directory import Directory, Membership, Own
from engine.cluster.entry import Entry
from engine.cluster.store import ANSWER_SECONDS, Client, Store
from engine.config.server import ClusterConfig
from engine.errors import ConfigError
from engine.loop.listen import join_address, split_address

if TYPE_CHECKING:
    from coredis import Redis

_URL: Final = re.compile(r"(rediss?)(\+sentinel)?://(?:([^@]*)@)?([^/]+)(?:/([^/]*))?(?:/(\d*))?/?")
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379


def join_by_store(config: ClusterConfig, *, links_at: str, proxy_at: str, admin_at: str) -> tuple[Membership, Store]:
    """What makes a node one of the cluster that `config` names. The addresses are those it listens at, or advertises.

    Raises ConfigError.
    """
    toward = _hosts(config)[0]
    entry = Entry(
        config.choose_node_id(),
        secrets.token_hex(8),
        config.advertise_addr or _dialled(links_at, toward, "cluster.advertise_addr"),
        proxy_addr=_dialled(proxy_at, toward, ""),
        admin_addr=_dialled(admin_at, toward, ""),
        version=__version__,
    )
    networks = [ipaddress.ip_network(one) for one in config.allowed_networks]
    directory, own = Directory(entry.id), Own(entry)
    secret = config.read_secret().encode()
    store = Store(client_of(config), config.name, secret, directory, own, networks)
    return Membership(directory, own, secret), store


def _dialled(address: str, toward: tuple[str, int], key: str) -> str:
    """`address`, with this machine's own towards the store if it names none; `key` is what may say it."""
    host, port = split_address(address)
    try:
        if host and not ipaddress.ip_address(host).is_unspecified:
            return address
    except ValueError:
        return address
    try:
        family, _, _, _, where = socket.getaddrinfo(*toward, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(where)  # which sends nothing
            host = str(probe.getsockname()[0])
    except OSError as error:
        if not key:
            return address
        problem = f"where other nodes can dial this machine is not known ({error.strerror}); expected it here"
        raise ConfigError(f"{key}: '': {problem}") from error
    return join_address(host, port)


def _hosts(config: ClusterConfig) -> list[tuple[str, int]]:
    """Of the store, or of its sentinels. Raises ConfigError."""
    found = _URL.fullmatch(config.store)
    assert found is not None
    usual = SENTINEL_PORT if found[2] else REDIS_PORT
    hosts = []
    for one in found[4].split(","):
        try:
            hosts.append(split_address(one if re.search(r":\d+$", one) else f"{one}:{usual}"))
        except ValueError:
            raise ConfigError(f"cluster.store: {one!r}: expected host or host:port") from None
    return hosts


def client_of(config: ClusterConfig) -> Client:
    """What makes clients of the store. Raises ConfigError."""
    try:
        from coredis import Redis, Sentinel
        from coredis.connection import TCPLocation
        from coredis.retry import NoRetryPolicy
    except ImportError:
        raise ConfigError("cluster.store: needs coredis; expected `pip install 'trioduct[cluster]'`") from None
    from urllib.parse import unquote

    found = _URL.fullmatch(config.store)
    assert found is not None
    scheme, by_sentinels, userinfo, _, path, number = found.groups()
    user, _, password = (unquote(part) for part in (userinfo or "").partition(":"))
    hosts = _hosts(config)
    database = (number if by_sentinels else path) or "0"
    if not database.isdecimal():
        raise ConfigError(f"cluster.store: {database!r}: expected the number of a database behind the last /")
    tls: ssl.SSLContext | None = config.store_tls.client_context() if scheme == "rediss" else None

    def options() -> dict[str, Any]:
        return {
            "username": user or None,
            "password": config.read_store_password() or password or None,
            "connect_timeout": ANSWER_SECONDS,
            "stream_timeout": ANSWER_SECONDS,
            "ssl_context": tls,
        }

    if not by_sentinels:
        return lambda: Redis(*hosts[0], int(database), retry_policy=NoRetryPolicy(), **options())
    if not path:
        raise ConfigError("cluster.store: expected the name that the sentinels have for the master behind a /")

    sentinels = [TCPLocation(*host) for host in hosts]

    @asynccontextmanager
    async def by_sentinel() -> AsyncIterator[Redis[bytes]]:
        patience = {"connect_timeout": ANSWER_SECONDS, "stream_timeout": ANSWER_SECONDS}
        sentinel: Sentinel[bytes] = Sentinel(sentinels, sentinel_kwargs=patience, db=int(database), **options())
        async with sentinel, sentinel.primary_for(path) as redis:
            yield redis

    return by_sentinel
