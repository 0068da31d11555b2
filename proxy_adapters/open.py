"""The only I/O of this package: dial the first hop, play one handshake after the other, hand over what is
open.

Theory. Hop k is reached *through* hop k-1, so reaching is recursive, and a script that asks for a fresh
connection gets one by the same recursion. Every leg has a deadline of its own, because "no answer within 65
s to our CONNECT" and "no answer within 10 s to our SYN" have different culprits; the deadline is moved from
leg to leg in one scope.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from proxy_adapters.auth.login import Login, Memory
from proxy_adapters.errors import NOBODY, TARGET_ADMIN, YOU, HopTLSError, HopUnreachable, NoRoute, TunnelError
from proxy_adapters.handshake import Hear, Leg, Player, Redial, Say, Script, Work
from proxy_adapters.http_connect import http_connect
from proxy_adapters.proxy_protocol import proxy_header
from proxy_adapters.route import Hop, Route
from proxy_adapters.router import Router
from proxy_adapters.socks4 import socks4
from proxy_adapters.socks5 import socks5_with
from proxy_adapters.tls import check_peer, default_context, default_proxy_context, explain
from proxy_adapters.tunnel import Tunnel
from proxy_adapters.url import ProxyURL, authority, normal_host

#: Opens the stream at the very bottom. `trio.open_tcp_stream` (happy eyeballs, all addresses) is one.
Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]

#: One negotiation goes down the list of schemes; no sane proxy needs more connections than that.
MAXIMUM_REDIALS = 12

#: Handshakes with one proxy, with a login, at the same time. An NTLM proxy queues what its helpers cannot
#: take.
PARALLEL_HANDSHAKES = 16

#: What was learned by all who do not bring a Memory of their own: an account is locked for the process, not
#: per call.
SHARED_MEMORY = Memory()


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that each leg may take.

    `proxy_request` and `proxy_auth` are long because squid itself waits 60 s for a destination before it
    says so. `work` is for what blocks outside the connection (Kerberos libraries, commands that print a
    password); when it is over, the next scheme is tried. `evidence` is how long a refusal's page is waited
    for.
    """

    tcp: float = 15.0
    target_dns: float = 5.0
    proxy_tls: float = 10.0
    proxy_request: float = 65.0
    proxy_auth: float = 65.0
    target_tls: float = 15.0
    work: float = 10.0
    evidence: float = 2.0


async def open_tunnel(
    host: str,
    port: int,
    *,
    route: Router | Route | ProxyURL | str | None = None,
    scheme: str = "https",
    tls: ssl.SSLContext | bool = False,
    server_hostname: str | None = None,
    deadlines: Deadlines | None = None,
    memory: Memory | None = None,
    dial: Dial = trio.open_tcp_stream,
    user_agent: str = "trioduct",
) -> Tunnel:
    """Open a way to `host:port`; the caller closes the tunnel.

    `route`: a Router decides and falls back; a Route, a ProxyURL or its text is gone as it is; None asks
    the environment. `scheme` is for sources that distinguish (https, http, wss, ws). `tls`: also do TLS
    with the destination, True for the system's trust. `memory` is what was learned about proxies; None
    shares one in the process. Raises TunnelError (see `errors`), ValueError for names and URLs that are
    none.
    """
    normal_host(host)
    if isinstance(route, str):
        route = Route.parse(route)
    elif isinstance(route, ProxyURL):
        route = Route((Hop(route),), "explicit")
    elif route is None:
        route = Router()
    context = default_context() if tls is True else tls or None
    go = partial(
        _go,
        target=_Target(host, port, context, server_hostname or host),
        deadlines=deadlines or Deadlines(),
        memory=memory or SHARED_MEMORY,
        dial=dial,
        user_agent=user_agent,
    )
    if isinstance(route, Route):
        return await go(route)
    errors: list[TunnelError] = []
    for candidate in await route.routes_to(host, port, scheme=scheme):
        try:
            tunnel = await go(candidate)
        except TunnelError as error:
            errors.append(error)
            if not route.went(candidate, error):
                break
        else:
            route.went(candidate, None)
            return tunnel
    else:
        route.all_failed()
    if len(errors) == 1:
        raise errors[0]
    failed = NoRoute(
        "; ".join(f"[{number}] {error}" for number, error in enumerate(errors, 1)),
        errors=tuple(errors),
        retryable=any(error.retryable for error in errors),
        who=errors[-1].who,
    )
    failed.trail = [line for error in errors for line in error.trail]
    raise failed from errors[-1]


@dataclass(frozen=True, slots=True)
class _Target:
    host: str
    port: int
    tls: ssl.SSLContext | None
    server_hostname: str


async def _go(
    route: Route, *, target: _Target, deadlines: Deadlines, memory: Memory, dial: Dial, user_agent: str
) -> Tunnel:
    return await _Attempt(route, target, deadlines, memory, dial, user_agent).run()


class _Attempt:
    """One attempt along one route."""

    def __init__(
        self, route: Route, target: _Target, deadlines: Deadlines, memory: Memory, dial: Dial, user_agent: str
    ) -> None:
        self._route, self._target, self._deadlines = route, target, deadlines
        self._memory, self._dial, self._user_agent = memory, dial, user_agent
        self._trail = [f"route: {route} (chosen by {route.source})"]
        self._redials = 0

    async def run(self) -> Tunnel:
        target, hops = self._target, self._route.hops
        place = authority(target.host, target.port)
        try:
            if hops:
                tunnel = await self._through(len(hops) - 1, target.host, target.port)
            else:
                tunnel = await self._connect(target.host, target.port, 1, place, "target")
            if target.tls is not None:
                position = len(hops) + 1
                await self._tls(tunnel, target.tls, target.server_hostname, None, position, place, "target-tls")
        except TunnelError as error:
            error.trail = self._trail + error.trail
            raise
        tunnel.trail = self._trail
        return tunnel

    async def _reach(self, index: int) -> Tunnel:
        """A tunnel that ends at proxy `index`, TLS with it included."""
        hop, position = self._route.hops[index], index + 1
        if index == 0:
            tunnel = await self._connect(hop.url.host, hop.url.port, position, str(hop.url), "proxy")
        else:
            tunnel = await self._through(index - 1, hop.url.host, hop.url.port)
        if hop.proxy_protocol:
            await _say(tunnel, proxy_header(hop.proxy_protocol, *(_ends(tunnel) if index == 0 else (None, None))))
        if hop.url.tls:
            context = hop.tls or default_proxy_context()
            await self._tls(tunnel, context, hop.url.host, hop.pin, position, str(hop.url), "proxy-tls")
        return tunnel

    async def _connect(self, host: str, port: int, position: int, name: str, role: str) -> Tunnel:
        started, leg = trio.current_time(), f"{role}-tcp"
        try:
            with trio.fail_after(self._deadlines.tcp):
                stream = await self._dial(host, port)
        except trio.TooSlowError:
            error = HopUnreachable(f"no connection within {self._deadlines.tcp:g} s", advice="a firewall on the way?")
            raise _placed(error, position, name, leg) from None
        except socket.gaierror as cause:
            error = HopUnreachable(f"cannot resolve {host}: {cause.strerror}", advice="is the name right?", who=YOU)
            raise _placed(error, position, name, f"{role}-dns") from cause
        except OSError as cause:
            raise _placed(HopUnreachable(_why(cause)), position, name, leg) from cause
        self._note(position, name, "tcp", started)
        return Tunnel(stream)

    async def _tls(
        self,
        tunnel: Tunnel,
        context: ssl.SSLContext,
        host: str,
        pin: str | None,
        position: int,
        name: str,
        leg: str,
    ) -> None:
        """Put TLS on the tunnel; closes it when that fails."""
        started = trio.current_time()
        seconds = self._deadlines.proxy_tls if leg == "proxy-tls" else self._deadlines.target_tls
        error: TunnelError
        try:
            with trio.fail_after(seconds):
                # Towards the destination a truncation must show; a proxy's layer only wraps what shows it
                # itself.
                layer = await tunnel.start_tls(context, host, strict=leg == "target-tls")
            check_peer(layer, pin=pin) if leg == "proxy-tls" else None
        except BaseException as cause:
            await trio.aclose_forcefully(tunnel)
            if isinstance(cause, trio.TooSlowError):
                error = HopUnreachable(f"no TLS handshake within {seconds:g} s", advice="is this a TLS port?")
            elif isinstance(cause, ssl.SSLError):
                error = explain(cause, getattr(cause, "layer", None), host)
            elif isinstance(cause, trio.BrokenResourceError):
                error = self._closed_early(position)
            elif isinstance(cause, HopTLSError):
                error = cause
            else:
                raise
            raise _placed(error, position, name, leg) from cause
        self._note(position, name, f"{layer.object.version()}", started)

    def _closed_early(self, position: int) -> TunnelError:
        if position > 1:
            return HopUnreachable(
                "the connection was closed right after the proxy's success",
                advice="some proxies say success before they have connected: is the destination up?",
                who=TARGET_ADMIN,
            )
        return HopUnreachable("the connection was closed during the TLS handshake", advice="is this a TLS port?")

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
        hop, memory = self._route.hops[index], self._memory
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
        hop, position = self._route.hops[index], index + 1
        started, name = trio.current_time(), str(hop.url)
        if hop.url.scheme in ("socks5", "socks4"):
            host = await self._resolve(host, port, position, name, ipv4_only=hop.url.scheme == "socks4")
        tunnel = await self._reach(index)
        leg, seconds = "proxy-request", 0.0
        try:
            player = Player(self._script(hop, host, port, lambda: _certificate(tunnel)))
            with trio.CancelScope() as scope:
                while (step := player.step) is not None:
                    match step:
                        case Leg():
                            leg = step.name
                            seconds = float(getattr(self._deadlines, leg.replace("-", "_")))
                            scope.deadline = trio.current_time() + seconds
                            player.advance()
                        case Redial():
                            scope.deadline = math.inf  # the legs in there have their own
                            await trio.aclose_forcefully(tunnel)
                            self._count_redial()
                            tunnel = await self._reach(index)
                            scope.deadline = trio.current_time() + seconds
                            player.redialled()
                        case Say():
                            await _say(tunnel, step.data)
                            player.advance()
                        case Hear():
                            await self._hear(tunnel, player, partial=step.partial)
                        case Work():
                            await self._work(player, step)
            if scope.cancelled_caught:
                raise HopUnreachable(f"no answer within {seconds:g} s")
        except BaseException as error:
            await trio.aclose_forcefully(tunnel)
            if isinstance(error, ssl.SSLError):
                raise _placed(explain(error, None, hop.url.host), position, name, leg) from error
            if isinstance(error, TunnelError):
                _placed(error, position, name, leg)
            raise
        tunnel.leftover = player.leftover
        self._note(position, name, f"{hop.url.scheme} to {authority(host, port)}", started)
        return tunnel

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
                user_agent=self._user_agent,
                binding=binding,
            )
        if url.scheme.startswith("socks4"):
            return socks4(host, port, user=url.user or (login.user if login else None) or "")
        return socks5_with(login or Login.of(url), url, self._memory, host, port)

    def _count_redial(self) -> None:
        self._redials += 1
        if self._redials > MAXIMUM_REDIALS:
            raise HopUnreachable(f"it made us connect more than {MAXIMUM_REDIALS} times", who=NOBODY)

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
        try:
            with trio.fail_after(self._deadlines.target_dns):
                family = socket.AF_INET if ipv4_only else socket.AF_UNSPEC
                found = await trio.socket.getaddrinfo(normal_host(host), port, family, socket.SOCK_STREAM)
        except (OSError, trio.TooSlowError) as cause:
            what = "IPv4 address" if ipv4_only else "address"
            error = HopUnreachable(
                f"this machine finds no {what} of {host}",
                advice="let the proxy resolve it: socks4a:// or socks5h://",
                tries_next=False,
                who=YOU,
            )
            raise _placed(error, position, name, "target-dns") from cause
        return str(found[0][4][0])

    def _note(self, position: int, name: str, what: str, started: float) -> None:
        self._trail.append(f"[{position}] {name}: {what} ok, {(trio.current_time() - started) * 1000:.0f} ms")


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
    return tunnel.socket.getsockname(), tunnel.socket.getpeername()


def _certificate(tunnel: Tunnel) -> bytes | None:
    return tunnel.tls_layers[-1].object.getpeercert(binary_form=True) if tunnel.tls_layers else None


def _placed(error: TunnelError, position: int, hop: str, leg: str) -> TunnelError:
    if not error.hop:
        error.position, error.hop, error.leg = position, hop, leg
    return error


def _why(error: OSError) -> str:
    """open_tcp_stream hides what each address died of in a group behind its own error."""
    group = error.__cause__
    parts = group.exceptions if isinstance(group, BaseExceptionGroup) else [group or error]
    return "; ".join(dict.fromkeys(getattr(part, "strerror", None) or str(part) for part in parts)) or str(error)
