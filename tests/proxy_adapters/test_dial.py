"""TCP with the first hop, by real sockets of this machine: who answers, who refuses, who swallows."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio
import trio.abc

from proxy_adapters import Deadlines, HopUnreachable, NoRoute, Route, Router, Seen, open_tunnel
from proxy_adapters.dial import unconnected
from proxy_adapters.errors import YOU, YOU_OR_PROXY_ADMIN, YOU_OR_TARGET_ADMIN
from tests.programs import free_port

REFUSED, NO_NETWORK = OSError(errno.ECONNREFUSED, "wrapped"), OSError(errno.ENETUNREACH, "wrapped")


class Names(trio.abc.HostnameResolver):
    """Knows the names of a test."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self._names = names

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
        await trio.lowlevel.checkpoint()
        name = host.decode() if isinstance(host, bytes) else host
        if name not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in self._names[name]]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise NotImplementedError


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.2 whose queue is full: the kernel drops every further SYN, as a firewall does."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_refused_connection_says_it_in_the_systems_words_and_who_can_act() -> None:
    port = free_port()
    with pytest.raises(HopUnreachable) as proxy:
        await open_tunnel("t.test", 1, route=f"http://127.0.0.1:{port}")
    assert str(proxy.value) == (
        f"hop 1, http://127.0.0.1:{port}, proxy-tcp: Connection refused - is the proxy up, and are host and port right?"
    )
    assert (proxy.value.who, proxy.value.retryable, proxy.value.tries_next) == (YOU_OR_PROXY_ADMIN, True, True)
    with pytest.raises(HopUnreachable, match=rf"^127.0.0.1:{port}: Connection refused - is it up") as target:
        await open_tunnel("127.0.0.1", port, route="direct")
    assert target.value.who == YOU_OR_TARGET_ADMIN


async def test_another_dial_is_told_about_in_the_same_words() -> None:
    with pytest.raises(HopUnreachable, match="proxy-tcp: Connection refused - is the proxy up"):
        await open_tunnel("t.test", 1, route=f"http://127.0.0.1:{free_port()}", dial=trio.open_tcp_stream)


async def test_each_address_has_its_own_words_if_they_differ(black_hole: int) -> None:
    trio.socket.set_custom_hostname_resolver(Names({"p.test": ["127.0.0.2", "127.0.0.1"]}))
    seen: list[Seen] = []
    deadlines = Deadlines(tcp=0.5)
    with pytest.raises(HopUnreachable) as caught:
        await open_tunnel("t.test", 1, route=f"http://p.test:{black_hole}", deadlines=deadlines, watch=seen.append)
    assert caught.value.fact == "127.0.0.2: no connection within 0.5 s; 127.0.0.1: Connection refused"
    assert [(one.leg, one.outcome) for one in seen] == [
        ("proxy-dns", "begun"),
        ("proxy-dns", "ok"),
        ("proxy-tcp", "begun"),
        ("proxy-tcp", "failed"),
    ]
    assert seen[1].addresses == ("127.0.0.2", "127.0.0.1")


async def test_an_address_that_swallows_gives_way_to_the_next(black_hole: int) -> None:
    trio.socket.set_custom_hostname_resolver(Names({"t.test": ["127.0.0.2", "127.0.0.1"]}))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", black_hole))
        listener.listen()
        async with await open_tunnel("t.test", black_hole, route="direct") as tunnel:
            assert tunnel.socket is not None
            assert tunnel.socket.getpeername() == ("127.0.0.1", black_hole)
            assert tunnel.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_name_that_nobody_knows_and_a_resolver_that_is_silent() -> None:
    trio.socket.set_custom_hostname_resolver(Names({}))
    with pytest.raises(HopUnreachable, match=r"proxy-dns: cannot resolve p\.test: Name or service not known") as caught:
        await open_tunnel("t.test", 1, route="http://p.test:1")
    assert caught.value.who == YOU

    class Silent(Names):
        async def getaddrinfo(self, *args, **more):  # type: ignore[no-untyped-def]
            await trio.sleep_forever()

    trio.socket.set_custom_hostname_resolver(Silent({}))
    with pytest.raises(HopUnreachable, match=r"proxy-dns: cannot resolve p\.test: no answer within 0\.1 s"):
        await open_tunnel("t.test", 1, route="http://p.test:1", deadlines=Deadlines(dns=0.1))


async def test_a_route_that_swallows_does_not_keep_the_next_one_waiting(
    black_hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy_adapters.open.HEAD_START_SECONDS", 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        router = Router([f"http://127.0.0.2:{black_hole}", "direct"], environ=None)
        async with await open_tunnel("127.0.0.1", port, route=router) as tunnel:
            assert tunnel.route == Route((), "explicit")
        assert str((await router.routes_to("127.0.0.1", port))[0]) == "direct"


async def test_when_all_refuse_or_swallow_each_is_told_about(black_hole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy_adapters.open.HEAD_START_SECONDS", 0.1)
    closed = free_port()
    router = Router([f"http://127.0.0.2:{black_hole}", f"http://127.0.0.1:{closed}"], environ=None)
    with pytest.raises(NoRoute) as caught:
        await open_tunnel("t.test", 1, route=router, deadlines=Deadlines(tcp=0.3))
    assert sorted(error.fact for error in caught.value.errors) == ["Connection refused", "no connection within 0.3 s"]


@pytest.mark.parametrize(
    ("died", "who", "advice"),
    [
        ({"a": NO_NETWORK}, YOU, "is this machine on the network?"),
        ({"a": NO_NETWORK, "b": REFUSED}, YOU_OR_PROXY_ADMIN, "is the proxy up, and are host and port right?"),
        ({"a": OSError(errno.EHOSTUNREACH, "")}, YOU_OR_PROXY_ADMIN, "firewall on the way"),
        ({"a": None}, YOU_OR_PROXY_ADMIN, "firewall on the way"),
        ({"a": OSError("no number")}, YOU_OR_PROXY_ADMIN, ""),
    ],
)
def test_who_can_act_follows_from_what_the_system_says(died: dict[str, OSError | None], who: str, advice: str) -> None:
    error = unconnected(died, 15, "proxy")
    assert error.who == who
    assert advice in error.advice
    for one in died.values():
        if one is not None and one.errno:
            assert os.strerror(one.errno) in error.fact
