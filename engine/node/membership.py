"""How a node becomes one of a cluster: its store, what it says of itself, and where other nodes dial it."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from engine import __version__
from engine.cluster.directory import Directory, Membership, Own
from engine.cluster.entry import Entry
from engine.cluster.store import ANSWER_SECONDS, Client, Store
from engine.config.address import split_store
from engine.config.server import ClusterConfig
from engine.errors import ConfigError
from engine.loop.listen import join_address, split_address

if TYPE_CHECKING:
    from coredis import Redis


def join_by_store(
    config: ClusterConfig, *, links_at: str, proxy_at: str, admin_at: str, worker_of: str = "", workers: int = 1
) -> tuple[Membership, Store]:
    """What makes a node, or one of the `workers` of the node `worker_of`, part of the cluster that `config` names. The
    addresses are those it listens at, or advertises.

    Raises ConfigError.
    """
    toward = split_store(config.store).hosts[0]
    entry = Entry(
        config.choose_node_id(),
        secrets.token_hex(8),
        config.advertise_addr or _dialled(links_at, toward, "cluster.advertise_addr"),
        proxy_addr=_dialled(proxy_at, toward, ""),
        admin_addr=_dialled(admin_at, toward, ""),
        version=__version__,
        worker_of=worker_of,
        workers=workers,
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


def client_of(config: ClusterConfig) -> Client:
    """What makes clients of the store. Raises ConfigError."""
    try:
        from coredis import Redis, Sentinel
        from coredis.connection import TCPLocation
        from coredis.retry import NoRetryPolicy
    except ImportError:
        raise ConfigError("cluster.store: needs coredis; expected `pip install 'trioduct[cluster]'`") from None
    place = split_store(config.store)
    tls: ssl.SSLContext | None = config.store_tls.client_context() if place.tls else None

    def options(user: str, password: str) -> dict[str, Any]:
        return {
            "username": user or None,
            "password": password or None,
            "connect_timeout": ANSWER_SECONDS,
            "stream_timeout": ANSWER_SECONDS,
            "ssl_context": tls,
        }

    def of_store() -> dict[str, Any]:
        return options(place.user, config.read_store_password() or place.password)

    if not place.service:
        return lambda: Redis(*place.hosts[0], place.database, retry_policy=NoRetryPolicy(), **of_store())

    sentinels = [TCPLocation(*host) for host in place.hosts]

    @asynccontextmanager
    async def by_sentinel() -> AsyncIterator[Redis[bytes]]:
        theirs = options(config.sentinel.user, config.sentinel.read_password())
        sentinel: Sentinel[bytes] = Sentinel(sentinels, sentinel_kwargs=theirs, db=place.database, **of_store())
        async with sentinel, sentinel.primary_for(place.service) as redis:
            yield redis

    return by_sentinel
