"""The way out: what proxies answer, what PAC files say, which destinations go straight."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from spnego._ntlm_raw import crypto

import proxy_adapters.pac
from proxy_adapters import Login, Memory, ProxyURL, Route, Secret, TunnelError
from proxy_adapters.auth.challenge import MAXIMUM_CHALLENGES, parse_challenges
from proxy_adapters.handshake import Hear, Player, Redial, Say, Script, Work
from proxy_adapters.http_connect import http_connect
from proxy_adapters.no_proxy import match_no_proxy
from proxy_adapters.pac import MAXIMUM_LIST_CHARACTERS, MEMORY_BYTES, parse_answer_list, run_script
from proxy_adapters.route import environment_route
from proxy_adapters.socks4 import socks4
from proxy_adapters.socks5 import socks5, socks5_with
from proxy_adapters.url import normal_host
from tests.fuzz.pieces import cut, singly

crypto.des = lru_cache(crypto.des)
"""NTLM's cipher, which pyspnego has in Python: most of a run was its, and it is not what is tried."""
proxy_adapters.pac.RUN_SECONDS = 0.05
"""Many scripts do not end."""

_PROXY: Final = ProxyURL.parse("http://proxy.test:3128")
_PASSWORD: Final = "cor3ectho2se"
# Without Kerberos, whose library asks a KDC.
_SCHEMES: Final = ("digest-sha-256", "ntlm", "negotiate-ntlm", "bearer", "digest-md5", "basic")
_ALICE: Final = Login(
    user="alice", password=Secret.literal(_PASSWORD), token=Secret.literal(_PASSWORD), schemes=_SCHEMES
)
_REDIALLED: Final = b"\n\xff\n"
_MAXIMUM_STEPS: Final = 500
"""A handshake that has not ended after these and all that was said, never ends."""


def _played(script: Callable[[], Script[None]], connections: list[list[bytes]]) -> tuple[str, int, int]:
    """How a handshake ends that hears these parts, then the end of the connection, and on the next one the next ones:
    by what, after how many messages of ours, and with how much behind it.
    """
    waiting, *further = [[part for part in parts if part] for parts in connections]
    said = 0
    try:
        player = Player(script())
        for _ in range(_MAXIMUM_STEPS + sum(map(len, connections))):
            match player.step:
                case None:
                    return "open", said, len(player.leftover) + sum(map(len, waiting))
                case Hear():
                    player.receive(waiting.pop(0) if waiting else b"")
                case Redial():
                    waiting = further.pop(0) if further else []
                    player.redialled()
                case Work() as step:
                    try:
                        result = step.function()
                    except Exception as error:  # as the driver does it
                        player.fail(error)
                    else:
                        player.advance(result)
                case Say():
                    said += 1
                    player.advance()
                case _:
                    player.advance()
    except TunnelError as error:
        assert _PASSWORD not in str(error) + error.said + error.heard
        return type(error).__name__, said, 0
    raise AssertionError("it does not end")


def connect(data: bytes) -> None:
    """What an HTTP proxy answers to CONNECT, and to logins, on one connection and on those that follow."""

    def script() -> Script[None]:
        return http_connect("t", 1, proxy=_PROXY, login=_ALICE, memory=Memory())

    connections = data.split(_REDIALLED)
    whole = _played(script, [[said] for said in connections])
    assert _played(script, [cut(said) for said in connections]) == whole
    assert _played(script, [singly(said) for said in connections]) == whole
    assert len(parse_challenges(data.decode("latin-1").split("\n"))) <= MAXIMUM_CHALLENGES


def socks(data: bytes) -> None:
    """What a SOCKS proxy answers, of either version, with and without a login."""
    scripts: list[Callable[[], Script[None]]] = [
        lambda: socks4("t.test", 1),
        lambda: socks5("t", 1),
        lambda: socks5_with(_ALICE, _PROXY, Memory(), "t", 1),
    ]
    for script in scripts:
        whole = _played(script, [[data]])
        assert _played(script, [singly(data)]) == whole
        assert _played(script, [cut(data)]) == whole


def pac(data: bytes) -> None:
    """A PAC file: a text within bounds, or the engine's complaint."""
    try:
        answer, needed = run_script(data.decode("latin-1"), "https://h.test/", "h.test", {}, ("10.0.0.5",))
    except RuntimeError:
        return
    assert len(answer) < MEMORY_BYTES
    assert len(needed) <= 20


def routes(data: bytes) -> None:
    """What a PAC file has answered, and how people name proxies: routes, without their passwords."""
    text = data.decode("utf-8", "replace")
    found = parse_answer_list(text, source="x")
    assert len(found) <= MAXIMUM_LIST_CHARACTERS
    for route in found:
        assert len(route.hops) <= 1
    try:
        way = Route.parse(text)
        environment_route("h.test", 443, scheme="https", environ={"https_proxy": text, "no_proxy": text})
    except ValueError:
        return
    again = Route.parse(str(way))
    assert [hop.url.place for hop in again.hops] == [hop.url.place for hop in way.hops]
    for hop in way.hops:
        if hop.url.password and len(hop.url.password) > 8:
            assert hop.url.password not in str(way) + repr(way) or hop.url.password in hop.url.place


def no_proxy(data: bytes) -> None:
    """A host, and behind a line feed which hosts go straight: one of these entries, or none."""
    host, _, entries = data.decode("utf-8", "replace").partition("\n")
    try:
        name = normal_host(host)
    except ValueError:
        name = "h.test"
    assert normal_host(name) == name
    for port in (1, 443):
        found = match_no_proxy(name, port, entries)
        assert found is None or found in entries
        if found is not None:
            assert match_no_proxy(name, port, found) == found
