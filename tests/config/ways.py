"""The routes that a configuration of the way out leads to."""

from __future__ import annotations

from engine.config import ConnectConfig
from proxy_adapters import Login, Route


async def ways(*, host: str = "node.test", **proxy: object) -> list[Route]:
    """The routes of `connect.proxy` with these keys, in which __ stands for a dot."""
    config = ConnectConfig(url="http://node")
    for key, value in proxy.items():
        section, _, name = key.rpartition("__")
        setattr(getattr(config.proxy, section) if section else config.proxy, name, value)
    config.verify()
    config.proxy.verify()
    return await config.router().routes_to(host, 443)


def login_of(route: Route, index: int = 0) -> Login:
    login = route.hops[index].login
    assert login is not None
    return login
