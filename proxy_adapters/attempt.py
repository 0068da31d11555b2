"""One attempt along one route: dial the first hop, play one handshake after the other. All the I/O is here.

Theory. Hop k is reached *through* hop k-1, so reaching is recursive, and a script that asks for a fresh
connection gets one by the same recursion. Every leg has a deadline of its own, because "no answer within 30
s to our CONNECT" and "no answer within 10 s to our SYN" have different culprits; the deadline is moved from
leg to leg in one scope.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from proxy_adapters.auth.login import REVEALING, Login, Memory
from proxy_adapters.dial import Dial, connect, connect_by, resolve
from proxy_adapters.errors import (
    NOBODY,
    PROXY_ADMIN,
    TARGET_ADMIN,
    YOU,
    AuthenticationFailed,
    HopTLSError,
    HopUnreachable,
    TunnelError,
)
from proxy_adapters.handshake import Hear, Leg, Player, Redial, Say, Script, Work
from proxy_adapters.http_connect import http_connect
from proxy_adapters.proxy_protocol import proxy_header
from proxy_adapters.route import Hop, Route
from proxy_adapters.socks4 import socks4
from proxy_adapters.socks5 import socks5_with
from proxy_adapters.tls import check_peer, default_proxy_context, explain
from proxy_adapters.tunnel import Tunnel
from proxy_adapters.url import authority, normal_host
from proxy_adapters.watch import OpenLeg, Trail, Watch

#: One negotiation goes down the list of schemes; no sane proxy needs more connections than that.
MAXIMUM_REDIALS = 12

#: Handshakes with one proxy, with a login, at the same time. An NTLM proxy queues what its helpers cannot
#: take.
PARALLEL_HANDSHAKES = 16


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that each leg may take.

    `dns` leaves time for a second name server when the first is dead. `greeting` is for what a SOCKS5 proxy answers
    by itself. `proxy_request` and `proxy_auth` count from our last word. A proxy that is silent so long is dead, or
    still waits for the destination; squid says after 60 s that it could not reach it, and who wants to hear that gives
    65 s. `work` is for what blocks outside the connection (Kerberos libraries, commands that print a password); when it
    is over, the next scheme is tried. `evidence` is how long a refusal's page is waited for.
    """

    dns: float = 10.0
    tcp: float = 15.0
    proxy_tls: float = 10.0
    greeting: float = 10.0
    proxy_request: float = 30.0
    proxy_auth: float = 30.0
    target_tls: float = 15.0
    work: float = 10.0
    evidence: float = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    host: str
    port: int
    tls: ssl.SSLContext | None
    server_hostname: str


@dataclass(frozen=True, slots=True)
class Means:
    """What every attempt needs, whichever way it goes."""

    deadlines: Deadlines
    memory: Memory
    dial: Dial | None
    user_agent: str
    watch: Watch | None


class Attempt:
    """One attempt along one route: `run()`, and maybe `connect()` before it."""

    def __init__(self, route: Route, target: Target, means: Means) -> None:
        self.route = route
        self._target, self._means = target, means
        self._deadlines, self._memory = means.deadlines, means.memory
        self._trail = Trail(route, means.watch)
        self._redials = 0
        self._connected: Tunnel | None = None

    async def connect(self) -> None:
        """Open the connection to the first hop, and no more, to be used by `run()`. Raises TunnelError."""
        try:
            self._connected = await self._dial_first()
        except TunnelError as error:
            error.trail = self._trail.lines + error.trail
            raise

    async def run(self) -> Tunnel:
        """Go all the way; the caller closes the tunnel. Raises TunnelError."""
        target, hops = self._target, self.route.hops
        try:
            if hops:
                tunnel = await self._through(len(hops) - 1, target.host, target.port)
            else:
                tunnel = await self._first()
            if target.tls is not None:
                place = authority(target.host, target.port)
                await self._tls(tunnel, target.tls, target.server_hostname, None, len(hops) + 1, place, "target-tls")
        except TunnelError as error:
            error.trail = self._trail.lines + error.trail
            raise
        finally:
            await self.aclose()
        tunnel.trail, tunnel.route = self._trail.lines, self.route
        return tunnel

    async def aclose(self) -> None:
        """Close what `connect()` has opened, if nobody uses it."""
        tunnel, self._connected = self._connected, None
        if tunnel is not None:
            await trio.aclose_forcefully(tunnel)

    async def _first(self) -> Tunnel:
        """A connection to the first hop: the one that is there, or a fresh one."""
        tunnel, self._connected = self._connected, None
        return tunnel or await self._dial_first()

    async def _dial_first(self) -> Tunnel:
        if self.route.hops:
            url = self.route.hops[0].url
            host, port, name, role = url.host, url.port, str(url), "proxy"
        else:
            host, port, role = self._target.host, self._target.port, "target"
            name = authority(host, port)
        dns, tcp = self._deadlines.dns, self._deadlines.tcp
        stream: trio.abc.Stream
        if self._means.dial is None:
            if _is_address(host):
                addresses = await resolve(host, port, seconds=dns)
            else:
                with self._trail.leg(f"{role}-dns", 1, name) as leg:
                    addresses = await resolve(host, port, seconds=dns)
                    leg.addresses = tuple(map(str, addresses))
        with self._trail.leg(f"{role}-tcp", 1, name) as leg:
            if self._means.dial is None:
                stream = await connect(addresses, seconds=tcp, role=role)
            else:
                stream = await connect_by(self._means.dial, host, port, seconds=tcp, role=role)
            tunnel = Tunnel(stream)
            here, there = _ends(tunnel)
            if here and there:
                leg.addresses = (str(there[0]), str(here[0]))
            leg.note = "tcp"
        return tunnel

    async def _reach(self, index: int) -> Tunnel:
        """A tunnel that ends at proxy `index`, TLS with it included."""
        hop, position = self.route.hops[index], index + 1
        if index == 0:
            tunnel = await self._first()
        else:
            tunnel = await self._through(index - 1, hop.url.host, hop.url.port)
        if hop.proxy_protocol:
            await _say(tunnel, proxy_header(hop.proxy_protocol, *(_ends(tunnel) if index == 0 else (None, None))))
        if hop.url.tls:
            context = hop.tls or default_proxy_context()
            await self._tls(tunnel, context, hop.url.host, hop.pin, position, str(hop.url), "proxy-tls")
        return tunnel

    async def _tls(
        self,
        tunnel: Tunnel,
        context: ssl.SSLContext,
        host: str,
        pin: str | None,
        position: int,
        name: str,
        leg_name: str,
    ) -> None:
        """Put TLS on the tunnel; closes it when that fails."""
        to_proxy = leg_name == "proxy-tls"
        seconds = self._deadlines.proxy_tls if to_proxy else self._deadlines.target_tls
        error: TunnelError
        with self._trail.leg(leg_name, position, name) as leg:
            try:
                with trio.fail_after(seconds):
                    # Towards the destination a truncation must show; a proxy's layer only wraps what shows it
                    # itself.
                    leg.tls = await tunnel.start_tls(context, host, strict=not to_proxy)
                check_peer(leg.tls, pin=pin) if to_proxy else None
            except BaseException as cause:
                await trio.aclose_forcefully(tunnel)
                if isinstance(cause, trio.TooSlowError):
                    who = PROXY_ADMIN if to_proxy else TARGET_ADMIN
                    fact = f"no TLS handshake within {seconds:g} s"
                    error = HopUnreachable(fact, advice="is this a TLS port?", who=who)
                elif isinstance(cause, ssl.SSLError):
                    error = explain(cause, getattr(cause, "layer", None), host, to_proxy=to_proxy)
                elif isinstance(cause, trio.BrokenResourceError):
                    error = _closed_early(position, to_proxy=to_proxy)
                elif isinstance(cause, HopTLSError):
                    error = cause
                else:
                    raise
                raise error from cause
            leg.note = leg.text = f"{leg.tls.object.version()}"

    async def _through(self, index: int, host: str, port: int) -> Tunnel:
        """A tunnel through proxy `index` to `host:port`."""
        async with self._turn(index):
            return await self._play(index, host, port)

    @asynccontextmanager
    async def _turn(self, index: int) -> AsyncIterator[None]:
        """Let one at a time show a secret to a proxy that has not accepted it yet, and then not too many at
        once.

        A crowd that comes back after a restart would else lock an account with one wrong password, and an
        NTLM proxy has a helper process busy for each handshake under way. The position is part of the key,
        so a chain that visits a proxy twice does not wait for itself.
        """
        hop, memory = self.route.hops[index], self._memory
        login = hop.login or Login.of(hop.url)
        if hop.url.scheme not in ("http", "https") or not login.has_secrets:
            yield
            return
        user = login.user or ""
        gate: _Gate = memory.gates.setdefault((hop.url.place, user, index), _Gate())
        if memory.what_worked(hop.url, user) is None:
            async with gate.first:
                if memory.what_worked(hop.url, user) is None:
                    yield
                    return
        async with gate.some:
            yield

    async def _play(self, index: int, host: str, port: int) -> Tunnel:
        hop, position = self.route.hops[index], index + 1
        started, name = trio.current_time(), str(hop.url)
        if hop.url.scheme in ("socks5", "socks4"):
            host = await self._resolve(host, port, position, name, ipv4_only=hop.url.scheme == "socks4")
        tunnel = await self._reach(index)
        leg: OpenLeg | None = None
        try:
            player = Player(self._script(hop, host, port, lambda: _certificate(tunnel) if hop.url.tls else None))
            seconds, greeting = 0.0, False
            with trio.CancelScope() as scope:
                while (step := player.step) is not None:
                    match step:
                        case Leg():
                            if leg is None or leg.name != step.name or step.before:
                                if leg is not None:
                                    leg.came_to_nothing(step.before) if step.before else leg.went_well()
                                leg = self._trail.begin(step.name, position, name, step.scheme)
                            seconds = float(getattr(self._deadlines, step.name.replace("-", "_")))
                            greeting = step.greeting
                            if greeting:
                                seconds = min(seconds, self._deadlines.greeting)
                            scope.deadline = trio.current_time() + seconds
                            player.advance()
                        case Redial():
                            scope.deadline = math.inf  # the legs in there have their own
                            await trio.aclose_forcefully(tunnel)
                            self._count_redial()
                            tunnel = await self._reach(index)
                            player.redialled()
                        case Say():
                            self._warn(hop, position, step.scheme)
                            scope.deadline = trio.current_time() + seconds
                            await _say(tunnel, step.data)
                            player.advance()
                        case Hear():
                            await self._hear(tunnel, player, partial=step.partial)
                        case Work():
                            await self._work(player, step)
            if scope.cancelled_caught:
                advice = "is the proxy alive? or it still waits for the destination"
                if greeting:
                    advice = "is it a SOCKS5 proxy? one would have answered: try http:// in its URL"
                raise HopUnreachable(f"no answer within {seconds:g} s", advice=advice)
        except BaseException as error:
            await trio.aclose_forcefully(tunnel)
            leg = leg or self._trail.begin("proxy-request", position, name)
            if isinstance(error, ssl.SSLError):
                explained = explain(error, None, hop.url.host, to_proxy=True)
                leg.died(explained)
                raise explained from error
            leg.died(error)
            raise
        tunnel.leftover = player.leftover
        place = authority(host, port)
        if leg is not None:
            leg.text = f"{leg.scheme}: accepted; a tunnel to {place}" if leg.scheme else f"a tunnel to {place}"
            leg.went_well()
        self._trail.note(position, name, f"{hop.url.scheme} to {place}", started)
        return tunnel

    def _warn(self, hop: Hop, position: int, scheme: str) -> None:
        """Once per proxy: that a secret can be read on the way to it, and that its source is not trusted."""
        url, login = hop.url, hop.login
        if scheme in REVEALING and not url.tls:
            text = (
                f"it is shown a password or token ({scheme}) in clear text, which everybody on the way can read; "
                "an https:// proxy or another scheme avoids that"
            )
            self._trail.warn(position, str(url), text, lambda: self._memory.warn_once(url, "clear text"))
        if hop.unsaid and login is not None:
            text = f"it is told nothing of who we are (login, headers), for {login.withheld}"
            self._trail.warn(position, str(url), text, lambda: self._memory.warn_once(url, "untrusted source"))

    def _script(self, hop: Hop, host: str, port: int, binding: Callable[[], bytes | None]) -> Script[None]:
        url, login = hop.url, hop.login
        if url.scheme in ("http", "https"):
            return http_connect(
                host,
                port,
                proxy=url,
                login=login,
                memory=self._memory,
                headers=hop.headers,
                user_agent=self._means.user_agent,
                binding=binding,
            )
        if url.scheme.startswith("socks4"):
            if login is not None and login.mutual:
                raise AuthenticationFailed("SOCKS4 has no mutual authentication, which is required (mutual)")
            if login is not None and login.withheld:
                return socks4(host, port, user="")
            return socks4(host, port, user=url.user or (login.user if login else None) or "")
        return socks5_with(login or Login.of(url), url, self._memory, host, port)

    def _count_redial(self) -> None:
        self._redials += 1
        if self._redials > MAXIMUM_REDIALS:
            raise HopUnreachable(f"it required more than {MAXIMUM_REDIALS} connections", who=NOBODY)

    async def _hear(self, tunnel: Tunnel, player: Player[None], *, partial: bool) -> None:
        scope = trio.move_on_after(self._deadlines.evidence) if partial else trio.CancelScope()
        data = b""
        with scope:
            try:
                data = await tunnel.receive_some()
            except trio.BrokenResourceError as error:
                # A reset says as little as an end of the stream; an alert of TLS says more.
                if isinstance(error.__cause__, ssl.SSLError):
                    raise error.__cause__ from None
        if scope.cancelled_caught:
            player.give_up_listening()
        else:
            player.receive(data)

    async def _work(self, player: Player[None], step: Work) -> None:
        try:
            with trio.fail_after(self._deadlines.work):
                result = await trio.to_thread.run_sync(step.function, abandon_on_cancel=True, limiter=_workers())
        except trio.TooSlowError:
            player.fail(TimeoutError(f"no result within {self._deadlines.work:g} s"))
        except Exception as error:  # the script that asked for the work knows what its failures mean
            player.fail(error)
        else:
            player.advance(result)

    async def _resolve(self, host: str, port: int, position: int, name: str, *, ipv4_only: bool) -> str:
        """For the SOCKS kinds that want an address: the first one of the name."""
        with self._trail.leg("target-dns", position, name) as leg:
            try:
                with trio.fail_after(self._deadlines.dns):
                    family = socket.AF_INET if ipv4_only else socket.AF_UNSPEC
                    found = await trio.socket.getaddrinfo(normal_host(host), port, family, socket.SOCK_STREAM)
            except (OSError, trio.TooSlowError) as cause:
                what = "IPv4 address" if ipv4_only else "address"
                raise HopUnreachable(
                    f"this machine finds no {what} of {host}",
                    advice="let the proxy resolve it: socks4a:// or socks5h://",
                    tries_next=False,
                    who=YOU,
                ) from cause
            leg.addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        return leg.addresses[0]


def _closed_early(position: int, *, to_proxy: bool) -> TunnelError:
    if position > 1:
        return HopUnreachable(
            "the connection was closed right after the proxy's success",
            advice="some proxies say success before they have connected: is the destination up?",
            who=TARGET_ADMIN,
        )
    who = PROXY_ADMIN if to_proxy else TARGET_ADMIN
    return HopUnreachable("the connection was closed during the TLS handshake", advice="is this a TLS port?", who=who)


_WORKERS: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("proxy_adapters workers")


def _workers() -> trio.CapacityLimiter:
    """Threads of our own: those that a silent KDC holds must not be missing where names are resolved."""
    try:
        return _WORKERS.get()
    except LookupError:
        limiter = trio.CapacityLimiter(PARALLEL_HANDSHAKES)
        _WORKERS.set(limiter)
        return limiter


class _Gate:
    def __init__(self) -> None:
        self.first = trio.Lock()
        self.some = trio.CapacityLimiter(PARALLEL_HANDSHAKES)


async def _say(tunnel: Tunnel, data: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # it hung up, maybe after saying why: that is heard next
        await tunnel.send_all(data)


def _ends(tunnel: Tunnel) -> tuple[tuple[str, int], tuple[str, int]] | tuple[None, None]:
    if tunnel.socket is None:
        return None, None
    try:
        return tunnel.socket.getsockname(), tunnel.socket.getpeername()
    except OSError:  # it was reset already: whoever uses it next will say so
        return None, None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _certificate(tunnel: Tunnel) -> bytes | None:
    return tunnel.tls_layers[-1].object.getpeercert(binary_form=True) if tunnel.tls_layers else None
