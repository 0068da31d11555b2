"""Open a tunnel: along the routes in their order, each by an attempt of its own, until one is all the way through.

A proxy that swallows what is sent to it would cost its whole deadline before the next is tried. So of several
routes the next begins to connect when the one before has had a head start and its first hop has not answered; the
first connection that stands decides who goes on, alone, so that no two ever show a secret at the same time.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import trio

from proxy_adapters.attempt import Attempt, Deadlines, Means, Target
from proxy_adapters.auth.login import Memory
from proxy_adapters.dial import Dial
from proxy_adapters.errors import HopUnreachable, NoRoute, TunnelError
from proxy_adapters.route import Hop, Route
from proxy_adapters.router import Router
from proxy_adapters.tls import default_context
from proxy_adapters.tunnel import Tunnel
from proxy_adapters.url import ProxyURL, normal_host
from proxy_adapters.watch import Seen, Watch

#: How long a route's first hop may be silent before the next route is tried beside it.
HEAD_START_SECONDS = 3.0

#: What was learned by all who do not bring a Memory of their own: an account is locked for the process, not
#: per call.
SHARED_MEMORY = Memory()


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
    dial: Dial | None = None,
    user_agent: str = "trioduct",
    watch: Watch | None = None,
) -> Tunnel:
    """Open a way to `host:port`; the caller closes the tunnel.

    `route`: a Router decides and falls back; a Route, a ProxyURL or its text is gone as it is; None asks
    the environment. `scheme` is for sources that distinguish (https, http, wss, ws). `tls`: also do TLS
    with the destination, True for the system's trust. `memory` is what was learned about proxies; None
    shares one in the process. `dial` opens the connection to the first hop in our place. `watch` is told of
    each leg as it happens. Raises TunnelError (see `errors`), ValueError for names and URLs that are none.
    """
    normal_host(host)
    if isinstance(route, str):
        route = Route.parse(route)
    elif isinstance(route, ProxyURL):
        route = Route((Hop(route),), "explicit")
    elif route is None:
        route = Router()
    elif not isinstance(route, Router | Route):
        # Not its text, which may hold passwords.
        raise TypeError(f"route is a Router, a Route, a ProxyURL or text, not {type(route).__name__}")
    context = default_context() if tls is True else tls or None
    target = Target(host, port, context, server_hostname or host)
    means = Means(deadlines or Deadlines(), memory or SHARED_MEMORY, dial, user_agent, watch)
    if isinstance(route, Route):
        return await Attempt(route, target, means).run()
    routes = await _routes(route, host, port, scheme, watch)
    return await _Search(route, [Attempt(way, target, means) for way in routes], (host, port)).run()


async def _routes(router: Router, host: str, port: int, scheme: str, watch: Watch | None) -> Sequence[Route]:
    since = trio.current_time()
    try:
        routes = await router.routes_to(host, port, scheme=scheme)
    except TunnelError as error:
        if watch is not None:
            watch(Seen(error.leg, "failed", text=error.fact, seconds=trio.current_time() - since, error=error))
        raise
    if watch is not None:
        text = f"{', else '.join(map(str, routes))} (chosen by {routes[0].source})"
        watch(Seen("route", "ok", text=text, seconds=trio.current_time() - since, route=routes[0]))
    return routes


class _Search:
    """Attempts, best first, until one succeeds, or one was told no."""

    def __init__(self, router: Router, attempts: list[Attempt], destination: tuple[str, int]) -> None:
        self._router, self._left, self._destination = router, attempts, destination
        self._errors: list[TunnelError] = []

    async def run(self) -> Tunnel:
        while self._left:
            attempt = self._left[0] if len(self._left) == 1 else await self._first_connected()
            if attempt is None:
                continue
            self._left.remove(attempt)
            try:
                tunnel = await attempt.run()
            except TunnelError as error:
                self._failed(attempt, error)
            else:
                self._router.went(attempt.route, None, to=self._destination)
                return tunnel
        raise self._failure()

    async def _first_connected(self) -> Attempt | None:
        """The attempt whose first hop is the first to answer; None if none does."""
        won: list[Attempt] = []
        started: list[Attempt] = []

        async def connect(attempt: Attempt, over: trio.Event) -> None:
            try:
                await attempt.connect()
            except TunnelError as error:
                if not won:
                    self._left.remove(attempt)
                    self._failed(attempt, error)
                    over.set()
            else:
                won.append(attempt)
            if won or not self._left:
                nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                for attempt in self._left.copy():
                    over = trio.Event()
                    started.append(attempt)
                    nursery.start_soon(connect, attempt, over)
                    with trio.move_on_after(HEAD_START_SECONDS):
                        await over.wait()
                    if not self._left:
                        break
            winner = won.pop(0) if won else None
        finally:
            with trio.CancelScope(shield=True):  # to close takes no time
                for attempt in won:  # in the same instant, or nobody wants any of them any more
                    await attempt.aclose()
        if winner is not None:
            self._set_aside([slow for slow in started[: started.index(winner)] if slow in self._left])
        return winner

    def _set_aside(self, silent: list[Attempt]) -> None:
        """These had their head start and did not use it; they come last, now and for a while."""
        for attempt in silent:
            error = HopUnreachable(f"no connection within {HEAD_START_SECONDS:g} s")
            error.position = 1
            self._router.went(attempt.route, error)
            self._left.remove(attempt)
            self._left.append(attempt)

    def _failed(self, attempt: Attempt, error: TunnelError) -> None:
        self._errors.append(error)
        if not self._router.went(attempt.route, error):
            self._left.clear()
        elif not self._left:
            self._router.all_failed()

    def _failure(self) -> TunnelError:
        errors = self._errors
        if len(errors) == 1:
            return errors[0]
        failed = NoRoute(
            "; ".join(f"[{number}] {error}" for number, error in enumerate(errors, 1)),
            errors=tuple(errors),
            retryable=any(error.retryable for error in errors),
            who=errors[-1].who,
        )
        failed.trail = [line for error in errors for line in error.trail]
        failed.__cause__ = errors[-1]
        return failed
