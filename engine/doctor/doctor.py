"""The examination as a whole: the way to the node's port, then the node, then what follows from it.

It ends in a verdict for two readers. The one at the terminal gets a setting, if another one leads to the node. The
ones who run the network get a paragraph that tells what they need to find us in their logs: when, from where, to
where, and what their machine answered.
"""

from __future__ import annotations

import secrets
import ssl
from typing import Final

from engine.config import ConnectConfig, split_url
from engine.doctor.certificate import Certificate
from engine.doctor.cure import Cure, find_cure
from engine.doctor.letter import letter
from engine.doctor.node import Stopped, ask_for_upgrade, credentials, look, register, secure
from engine.doctor.report import Report, Verdict
from engine.doctor.way import Target, Way, described_object
from engine.errors import ConfigError
from engine.transport.connection import Connection
from engine.transport.dial import Server
from proxy_adapters import Route, Tunnel, TunnelError

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

    async def run(self, endpoint: str, *, silent_seconds: float, echo_seconds: float) -> Verdict:
        target, report = self._target, self._report
        context = self._connect.tls.client_context() if target.secure else None
        # Without the userinfo that connect.url may have.
        server = Server(target.url, context, self._connect.tls.server_name, self._router)
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
        except TunnelError as error:
            return await self._no_way(error)
        except Stopped as stopped:
            return await self._no_node(stopped)
        more = "" if endpoint else " (an ENDPOINT as argument tries a registration as well)"
        return Verdict("works", f"It works: an agent reaches {target.place} by this way: {route}{more}.")

    async def _at_node(self, route: Route, tunnel: Tunnel, server: Server, endpoint: str) -> None:
        place = self._target.place
        if server.tls is None:
            connection, _ = await secure(tunnel, None, self._name)
        else:
            with self._report.step("tls", place) as step:
                try:
                    connection, layer = await secure(tunnel, server.tls, self._name)
                except Stopped as stopped:
                    if isinstance(stopped.__cause__, ssl.SSLCertVerificationError):
                        stopped.certificate = await look(await self._way.open(route), self._name)
                        if shown := stopped.certificate:
                            step.text = f"{stopped}; it is {shown.subject}'s, issued by {shown.issuer}"
                    raise
                assert layer is not None
                der = layer.object.getpeercert(binary_form=True)
                step.text = described_object(layer.object.version(), der)
            if (shown := Certificate.read(der)) and shown.inspector:
                self._report.add_note("inspection", f"likely: {shown.inspector}", place)
        with self._report.step("upgrade", place) as step:

            async def again() -> Connection:
                connection, _ = await secure(await self._way.open(route), server.tls, self._name)
                return connection

            step.text = await ask_for_upgrade(connection, again, server, endpoint, credentials(self._connect))

    async def _no_way(self, error: TunnelError) -> Verdict:
        """No tunnel to the node."""
        advice = f" - {error.advice}" if error.advice else ""
        self._report.add_note("who can act", f"{error.who}{advice}", error.hop)
        if cure := await find_cure(self._connect, self._target, self._way.route, error, self._report):
            return _cured(cure, error.fact)
        return self._blocked(
            error, f"{error.hop or 'the way out'}{f' ({error.leg})' if error.leg else ''}", error.advice
        )

    async def _no_node(self, stopped: Stopped) -> Verdict:
        """The tunnel stands, and what is in it does not get through, or the node does not want it."""
        if cure := await find_cure(self._connect, self._target, self._way.route, stopped, self._report):
            return _cured(cure, str(stopped))
        if stopped.leg == "node":
            return Verdict("refused", f"The way is open as far as {self._target.place}, but {stopped}")
        blocker = {
            "tls": f"TLS with {self._target.place}",
            "upgrade": "what handles HTTP on the way",
        }.get(stopped.leg, "what ends connections that are silent or long")
        advice = "give the authority that issued it by connect.tls.root_cas, if it is to be believed"
        return self._blocked(stopped, blocker, advice if stopped.certificate else "")

    def _blocked(self, problem: TunnelError | Stopped, blocker: str, advice: str) -> Verdict:
        fact = problem.fact if isinstance(problem, TunnelError) else str(problem)
        text = f"Blocked by {blocker}: {fact}{f' - {advice}' if advice else ''}"
        return Verdict("blocked", text, [], letter(problem, self._target, self._way.route, self._way.local))


def _cured(cure: Cure, problem: str) -> Verdict:
    text = f"Not as it is configured ({problem}), but with this setting, by flags or in the file ({cure.effect}):"
    return Verdict("setting", text, [cure.flags, cure.yaml])
