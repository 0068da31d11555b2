"""The examination as a whole: the way to the node's port, then the node, then what follows from it.

It ends in a verdict for two readers. The one at the terminal gets a setting, if another one leads to the node. The
ones who run the network get a paragraph that tells what they need to find us in their logs: when, from where, to
where, and what their machine answered.
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from engine.carriers.carrier import Kind
from engine.config import ConnectConfig, split_url
from engine.doctor.advice import login_refused, next_step
from engine.doctor.carriers import Found, request, try_carriers
from engine.doctor.certificate import Certificate
from engine.doctor.cure import Cure, find_cure
from engine.doctor.curl import curl_command
from engine.doctor.letter import letter
from engine.doctor.node import NETWORK, NODE, Stopped, ask_for_upgrade, credentials, explain, register, secure
from engine.doctor.report import Failure, Report, Verdict
from engine.doctor.way import Target, Way, described
from engine.errors import ConfigError
from engine.loop.certificates import now
from engine.loop.connection import Connection
from engine.loop.dial import Server
from engine.loop.run import open_reactor
from proxy_adapters import AuthenticationFailed, NoRoute, Route, Tunnel, TunnelError

SILENT_SECONDS: Final = 90.0  # longer than most proxies' shortest timers; both ends ping every 20 s
ECHO_SECONDS: Final = 3.0


async def run_doctor(
    connect: ConnectConfig,
    endpoint: str,
    report: Report,
    *,
    patient: bool = False,
    measure: bool = False,
    silent_seconds: float = SILENT_SECONDS,
) -> Verdict:
    """Examine the way to the node and tell it to `report`, the verdict included, which is returned as well.

    `endpoint` empty: nothing is registered, and there is no session to be patient with or to measure. Raises
    ConfigError for an environment that names a proxy which is none.
    """
    url = split_url(connect.url)
    examination = _Examination(connect, Target(url.scheme, url.host, url.port, url.path), report)
    async with open_reactor():
        verdict = await examination.run(
            endpoint,
            silent_seconds=silent_seconds if patient else 0.0,
            echo_seconds=ECHO_SECONDS if measure else 0.0,
        )
    report.conclude(verdict)
    return verdict


class _Examination:
    def __init__(self, connect: ConnectConfig, target: Target, report: Report) -> None:
        self._connect, self._target, self._report = connect, target, report
        self._way = Way(target, report)
        self._router = connect.router()
        self._name = connect.tls.server_name or target.host
        self._pac = re.sub("//[^/]*@", "//", connect.proxy.pac)  # without userinfo

    async def run(self, endpoint: str, *, silent_seconds: float, echo_seconds: float) -> Verdict:
        target, report = self._target, self._report
        context = self._connect.tls.client_context() if target.secure else None
        # Without the userinfo that connect.url may have.
        server = Server(target.url, context, self._connect.tls.server_name, self._router)
        found: Found | None = None
        try:
            try:
                route, tunnel = await self._way.walk(self._router)
            except ValueError as error:  # a proxy of the environment that is none, for instance
                raise ConfigError(str(error)) from error
            await self._at_node(route, tunnel, server, endpoint or f"doctor-{secrets.token_hex(4)}")
            if endpoint:
                await register(
                    self._connect,
                    server,
                    endpoint,
                    report,
                    silent_seconds=silent_seconds,
                    echo_seconds=echo_seconds,
                )
            found = await try_carriers(self._connect, server, report)
            if found.blocked and not found.through:
                fact = "an upgrade reaches the node, and no carrier gets through"
                raise Stopped("session", fact, request=request(found.blocked, target.host))
        except TunnelError as error:
            return await self._no_way(error)
        except Stopped as stopped:
            if found is None and stopped.leg in ("upgrade", "session"):
                found = await try_carriers(self._connect, server, report)
                if stopped.leg == "upgrade":
                    stopped.request = stopped.request or request(found.blocked, target.host)
            verdict = await self._no_node(stopped)
            if found is None or not found.through or verdict.outcome != "blocked":
                return verdict
            return _carried(found.through[0], stopped, verdict)
        more = "" if endpoint else " Nothing was registered; with an ENDPOINT as argument, that is tried, too."
        way = f"through {route}" if route.hops else "without a proxy"
        way += f", by {found.through[0]}" if found.blocked else ""
        return Verdict("works", f"It works: an agent reaches {target.place} {way}.{more}")

    async def _at_node(self, route: Route, tunnel: Tunnel, server: Server, endpoint: str) -> None:
        place, shown, tls = self._target.place, None, now(server.tls)
        if tls is None:
            connection, _ = await secure(tunnel, None, self._name)
        else:
            with self._report.step("tls", place) as step:
                try:
                    connection, layer = await secure(tunnel, tls, self._name)
                except Stopped as stopped:
                    with suppress(TunnelError):
                        await explain(stopped, lambda: self._way.open(route), self._target.host, self._name)
                    raise
                assert layer is not None
                der = layer.object.getpeercert(binary_form=True)
                step.text = described(layer.object.version(), der)
            if (shown := Certificate.read(der)) and shown.inspector:
                self._report.add_note("inspection", f"likely: {shown.inspector}", place)
        with self._report.step("upgrade", place) as step:

            async def again() -> Connection:
                connection, _ = await secure(await self._way.open(route), tls, self._name)
                return connection

            try:
                step.text = await ask_for_upgrade(connection, again, server, endpoint, credentials(self._connect))
            except Stopped as stopped:
                if stopped.who == NODE and shown and shown.inspector:  # it is not the node that has answered
                    stopped.leg, stopped.who = "upgrade", NETWORK
                raise

    async def _no_way(self, error: TunnelError) -> Verdict:
        """No tunnel to the node."""
        when = datetime.now(UTC)
        # Of several ways that failed a refused login is what somebody can mend; else the last that was tried.
        failed = error.errors if isinstance(error, NoRoute) and error.errors else (error,)
        told = next((one for one in failed if isinstance(one, AuthenticationFailed)), failed[-1])
        if cure := await find_cure(self._connect, self._target, self._way.route, told, self._report):
            return _cured(cure, error)
        place = told.hop or (self._pac if told.leg.startswith("pac") else "the way out")
        leg = f" ({told.leg})" if told.leg else ""
        blocked = "No proxy leads there" if len(failed) > 1 else f"Blocked by {place}{leg}"
        if isinstance(told, AuthenticationFailed):
            said = "refused the credentials" if login_refused(told) else "requires authentication"
            blocked = f"The proxy {told.hop} {said} ({told.leg})"
        return Verdict(
            "blocked",
            f"{blocked}: {error.fact}",
            place,
            told.leg,
            told.status,
            *next_step(told),
            letter=letter(error, self._target, self._way.route, self._pac, self._way.local, when),
            curl=curl_command(self._connect, self._target, self._way.route),
            failures=[Failure(one.hop, one.leg, one.status, one.fact) for one in failed] if len(failed) > 1 else [],
        )

    async def _no_node(self, stopped: Stopped) -> Verdict:
        """The tunnel stands, and what is in it does not get through, or the node does not want it."""
        place = self._target.place
        if cure := await find_cure(self._connect, self._target, self._way.route, stopped, self._report):
            return _cured(cure, stopped)
        if stopped.leg == "node":
            text = f"{place} is reachable, but {stopped}"
            return Verdict("refused", text, place, stopped.leg, None, *next_step(stopped))
        blocker = {
            "tls": f"TLS with {place}",
            "upgrade": "a proxy on the way that handles HTTP",
        }.get(stopped.leg, "something on the way that ends sessions")
        return Verdict(
            "blocked",
            f"Blocked by {blocker}: {stopped}",
            place,
            stopped.leg,
            None,
            *next_step(stopped),
            letter=letter(stopped, self._target, self._way.route, "", self._way.local, stopped.when),
            curl=curl_command(self._connect, self._target, self._way.route),
        )


def _carried(kind: Kind, problem: Stopped, verdict: Verdict) -> Verdict:
    """WebSocket does not get through, and another carrier does: who can act need not, but may."""
    verdict.outcome = "works"
    verdict.text = f"It works: WebSocket does not get through ({problem.fact}), and agents use {kind}, which does"
    verdict.advice = "not needed, but with WebSocket requests cost less"
    return verdict


def _cured(cure: Cure, problem: TunnelError | Stopped) -> Verdict:
    if cure.reached:
        text = f"It does not work as configured ({problem.fact}), but with this setting it does"
    else:
        text = f"It does not work as configured ({problem.fact}). It gets further with this setting"
    settings = [cure.flags, cure.yaml]
    who, advice = next_step(problem)
    text = f"{text} ({cure.effect}){f'. {cure.warning}' if cure.warning else ''}:"
    return Verdict("setting", text, who=who if advice else "", advice=advice, settings=settings)
