"""At the node: TLS with it, whether a WebSocket upgrade arrives there, and a registration.

Whether an upgrade arrives can be told without registering anything: a handshake for WebSocket version 0 is refused by
every server, and in other words if it has arrived as an upgrade (RFC 6455, 4.2.2: 426) than if a proxy that looks
into TLS has made a plain request of it. For a server without words, a second one of a browser's kind does it.

Where something fails whose cause is a guess, the guess is tested by one more connection: what comes if we say nothing,
TLS without the node's name in it, a request without an upgrade.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import trio

from engine.carriers.opening import open_websocket
from engine.config import ConnectConfig
from engine.doctor.certificate import Certificate
from engine.doctor.report import Report, words
from engine.doctor.session import Cut, Session, median
from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.log import printable
from engine.loop.connection import Connection
from engine.loop.dial import Server, connection_over
from engine.loop.reading import Reader, start_tls
from engine.wire import http1, piko, websocket
from engine.wire.http1 import Fields
from engine.wire.tls import TLS
from proxy_adapters import Tunnel, TunnelError
from proxy_adapters.http_connect import page_words

TLS_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 15.0
REST_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 5.0  # for TLS that comes about, or not
FIRST_WORDS_SECONDS: Final = 1.0  # for a server that speaks before it is spoken to
ROUND_TRIPS: Final = 5
EXCERPT: Final = 2000

NETWORK: Final = "whoever runs the network"
NODE: Final = "whoever runs the node"
YOU: Final = "you"

Leg = Literal["tls", "upgrade", "node", "session"]


class Stopped(Exception):
    """It went no further than this leg; the text says why, `who` can act by the `advice`.

    `certificate` is what was shown to us, if anything; `cure`, "http" or "https", is what its port seems to speak;
    `request` is what to ask of those who run the network.
    """

    def __init__(
        self, leg: Leg, fact: str, *, who: str = NETWORK, advice: str = "", request: str = "", cure: str = ""
    ) -> None:
        super().__init__(fact)
        self.leg = leg
        self.fact = fact
        self.who = who
        self.advice = advice
        self.request = request
        self.cure = cure
        self.when = datetime.now(UTC)
        self.certificate: Certificate | None = None

    def __str__(self) -> str:
        return self.fact


async def secure(tunnel: Tunnel, context: ssl.SSLContext | None, name: str) -> tuple[Connection, TLS | None]:
    """A connection to the node over the tunnel, with TLS if there is a context. Raises Stopped."""
    connection = connection_over(tunnel)
    if context is None:
        return connection, None
    try:
        with trio.fail_after(TLS_SECONDS):
            layer = await start_tls(connection, context, server_hostname=name)
    except BaseException as error:
        connection.abort()
        if isinstance(error, ssl.SSLError):
            plain = "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error)
            fact = "no TLS is spoken there" if plain else words(error).rstrip(".")
            raise Stopped("tls", fact, cure="http" if plain else "") from error
        if isinstance(error, OSError):
            raise Stopped("tls", f"the connection was closed during the TLS handshake ({words(error)})") from error
        if isinstance(error, trio.TooSlowError):
            raise Stopped("tls", f"no answer to the TLS handshake within {TLS_SECONDS:g} s") from error
        raise
    return connection, layer


async def explain(stopped: Stopped, open_again: Callable[[], Awaitable[Tunnel]], host: str, name: str) -> None:
    """Find out more of why TLS with the node, `name` in its certificate, failed. Raises TunnelError."""
    error = stopped.__cause__
    if isinstance(error, ssl.SSLCertVerificationError):
        stopped.certificate = await look(await open_again(), name)
        _explain_certificate(stopped, error.verify_code, host, name)
    elif stopped.cure:
        if said := await overhear(await open_again()):
            stopped.fact, stopped.cure, stopped.who = f"instead of TLS, this came: {said}", "", YOU
            stopped.advice = "if it is a login page (captive portal), log in with a browser on this machine"
            stopped.request = f"How does a machine without a browser get past this page, on its way to {host}?"
    else:
        stopped.request = f"Please let TLS to {host} pass."
        stopped.advice = "a filter on the way, or a proxy that says success before it has connected: is the node up?"
        if shown := await look(await open_again(), None):
            stopped.fact += f"; without the node's name (SNI) TLS works, with {shown.subject}"
            stopped.advice = f"something on the way cuts TLS connections with the name {name}"
            stopped.request += " It is cut because of the name in it (SNI): without that, TLS works."


_DATES: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_NAMES: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def _explain_certificate(stopped: Stopped, verify_code: int, host: str, name: str) -> None:
    shown = stopped.certificate
    whose = f"{shown.subject}, issued by {shown.issuer}" if shown else "nobody that could be read"
    if shown and verify_code in _DATES:
        stopped.fact = f"its certificate, of {whose}, is valid from {shown.valid}, and here it is {_today()}"
        stopped.who, stopped.advice = NODE, "renew it; or the clock of this machine is wrong"
        stopped.request = f"If that is not the certificate of {host} itself, please exempt it from TLS inspection."
    elif shown and verify_code in _NAMES:
        stopped.fact = f"its certificate is of {whose}, and not of {name}"
        stopped.who = YOU
        stopped.advice = "is connect.url right? If that name is the node's, give it as connect.tls.server_name"
        stopped.request = f"If that is not the certificate of {host} itself, please exempt it from TLS inspection."
    else:
        stopped.fact = f"its certificate, of {whose}, is not trusted ({stopped.fact})"
        stopped.advice = "set connect.tls.root_cas to the CA that issued it, if it is to be trusted"
        stopped.request = f"Please exempt {host} from TLS inspection, or give us the certificate of who inspects."


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


async def overhear(tunnel: Tunnel) -> str:
    """What the other end says before it is spoken to, in a few words."""
    connection = connection_over(tunnel)
    reader = Reader(connection)
    heard = b""
    try:
        with trio.move_on_after(FIRST_WORDS_SECONDS):
            while len(heard) < EXCERPT and (more := await reader.some()):
                heard += more
    except OSError:
        pass
    finally:
        connection.abort()
    return page_words(heard)


async def look(tunnel: Tunnel, name: str | None) -> Certificate | None:
    """The certificate that the other end shows, believed or not. `name` None: without a name in the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = connection_over(tunnel)
    try:
        with trio.fail_after(LOOK_SECONDS):
            layer = await start_tls(connection, context, server_hostname=name)
    except (OSError, ssl.SSLError, trio.TooSlowError):
        return None
    finally:
        connection.abort()
    return Certificate.read(layer.object.getpeercert(binary_form=True))


def credentials(connect: ConnectConfig) -> Fields:
    """What an agent shows to the node."""
    return piko.credentials(connect.read_token(), connect.tenant_id)


async def ask_for_upgrade(
    connection: Connection,
    again: Callable[[], Awaitable[Connection]],
    server: Server,
    endpoint: str,
    fields: Fields,
) -> str:
    """Ask for a WebSocket that no server gives: what the answer means, in words, if an upgrade arrives. Raises Stopped.

    The connection is closed; `again` opens another one, if one answer is not enough.
    """
    try:
        answer = await _ask(connection, server, endpoint, [(b"Sec-WebSocket-Version", b"0"), *fields])
    except Stopped as stopped:
        if stopped.leg == "upgrade" and not stopped.cure:
            with suppress(Stopped, TunnelError):
                plain = await _ask(await again(), server, endpoint, fields, upgrade=False)
                stopped.fact += f"; a request without an upgrade is answered ({plain.said}){plain.inspected}"
        raise
    if answer.status == 400 and answer.names_version and not re.search(r"upgrade|version", answer.text):
        # Go's gorilla, which has the same answer to a wrong version and to no upgrade at all. It looks at the origin
        # after both, and before it gives a WebSocket.
        foreign: Fields = [(b"Sec-WebSocket-Version", b"13"), (b"Origin", b"http://doctor.invalid"), *fields]
        second = await _ask(await again(), server, endpoint, foreign)
        if second.status in (101, 403):
            return f"the upgrade reaches the node{second.inspected}"
        if second.status == 400:
            raise Stopped("upgrade", f"it arrives without its `Upgrade: websocket`{second.inspected}")
        answer = second
    if answer.status in (400, 403) and not answer.text:
        # What refuses every WebSocket without a word, as a node's admin port, says of the path whether it knows that.
        with suppress(Stopped, TunnelError):
            plain = await _ask(await again(), server, endpoint, fields, upgrade=False)
            answer = plain if plain.status == 404 else answer
    return _meaning(answer)


# What only somebody between us and a node adds, and what he is found by in his logs.
TRACES: Final = ("via", "x-cache", "x-squid-error", "proxy-status", "x-bluecoat-via", "x-zscaler-transaction-id")
IDS: Final = ("x-request-id", "x-correlation-id", "cf-ray", "server")


class _Answer(NamedTuple):
    status: int
    said: str  # for people
    text: str  # the body, in lower case
    names_version: bool  # of the WebSocket, which only a WebSocket server does
    inspected: str  # what only somebody inside TLS can have added


async def _ask(
    connection: Connection, server: Server, endpoint: str, fields: Fields, *, upgrade: bool = True
) -> _Answer:
    path = server.path + piko.upstream_path(endpoint)
    asked: Fields = [(b"Host", server.authority.encode()), (b"User-Agent", b"trioduct"), *fields]
    if upgrade:
        asked += [
            (b"Connection", b"Upgrade"),
            (b"Upgrade", b"websocket"),
            (b"Sec-WebSocket-Key", websocket.new_key()),
        ]
    connection.put(http1.encode_request(b"GET", path.encode(), asked))
    reader = Reader(connection)
    data = b""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            while (end := http1.head_end(data)) < 0:
                more = await reader.some()
                if not more:
                    raise ConnectionResetError("closed without an answer")
                data += more
        response = http1.parse_response(data[:end], b"GET")
        body = data[end:]
        with trio.move_on_after(REST_SECONDS):
            while len(body) < (response.body if 0 <= response.body < EXCERPT else EXCERPT):
                more = await reader.some()
                if not more:
                    break
                body += more
    except RemoteProtocolError as error:
        if data[:1] in (b"\x15", b"\x16"):
            raise Stopped("node", "it speaks TLS there", cure="https") from error
        raise Stopped("upgrade", f"no HTTP came back: {page_words(data) or error}") from error
    except (OSError, ssl.SSLError) as error:
        silent = not data and not server.secure  # many say nothing to those who do not begin with TLS
        raise Stopped(
            "upgrade", f"it was cut during the upgrade: {words(error)}", cure="https" if silent else ""
        ) from error
    except trio.TooSlowError as error:
        raise Stopped("upgrade", f"no answer to the upgrade within {ANSWER_SECONDS:g} s") from error
    finally:
        connection.abort()
    text = body[:EXCERPT].decode("utf-8", "replace")
    said = f"{response.status} {response.reason.decode('latin-1')}".rstrip()
    excerpt = page_words(body)
    found = [
        (name.decode("latin-1").lower(), printable(value.decode("latin-1"), 120)) for name, value in response.fields
    ]
    traces = [f"{name}: {value}" for name, value in found if name in TRACES or name in IDS]
    between = any(name in TRACES for name, _ in found)
    return _Answer(
        response.status,
        f"{said}: {excerpt}" if excerpt else said,
        text.lower(),
        any(name == "sec-websocket-version" for name, _ in found),
        f"; a proxy on the way inspects it ({', '.join(traces)})" if between else "",
    )


def _meaning(answer: _Answer) -> str:
    status, said, text, _, inspected = answer
    if status in (101, 426) or "version" in text:
        return f"the upgrade reaches the node{inspected}"
    if status == 400 and "upgrade" in text:
        raise Stopped("upgrade", f"it arrives without its `Upgrade: websocket`{inspected}; the node: {said}")
    if status == 401 and piko.UNKNOWN_TENANT in text:
        advice = "set connect.tenant_id to the tenant that the token is for; whoever runs the node knows its tenants"
        raise Stopped("node", f"the node does not know this tenant: {said}{inspected}", who=YOU, advice=advice)
    if status == 401 and piko.ENDPOINT_NOT_PERMITTED in text:
        advice = "give an endpoint that the token permits as ENDPOINT; whoever runs the node creates others"
        raise Stopped("node", f"the token does not permit this endpoint: {said}{inspected}", who=YOU, advice=advice)
    if status == 401:
        fact = f"the node requires a valid token: {said}{inspected}"
        advice = "set connect.token; whoever runs the node creates one with `trioduct token`"
        raise Stopped("node", fact, who=YOU, advice=advice)
    wrong = piko.wrong_port(piko.upstream_path(""), status, text)
    if wrong is not None and not (inspected and status == 404):
        what, advice = wrong
        raise Stopped("node", f"{what}: {said}", who=YOU, advice=advice)
    if inspected:
        raise Stopped("upgrade", f"it was answered by {said}{inspected}")
    raise Stopped("node", f"it was answered by {said}", who=NODE)


async def register(
    connect: ConnectConfig, server: Server, endpoint: str, report: Report, *, silent_seconds: float, echo_seconds: float
) -> None:
    """Register `endpoint` as an agent does, for a moment, and see what the session is worth. Raises Stopped."""
    path = piko.upstream_path(endpoint)
    with report.step("registration", endpoint) as step:
        try:
            connection, _ = await open_websocket(server, path, credentials(connect))
        except (Refused, Unreachable) as error:
            raise Stopped("node", str(error), who=NODE) from error
        step.text = "registered"
    session = Session(connection)
    try:
        with report.step("round trip") as step:
            with trio.fail_after(ANSWER_SECONDS):
                try:
                    trips = [await session.round_trip()]
                except (OSError, RemoteProtocolError, ssl.SSLError) as error:
                    raise _cut_at_once(error, server.host) from error
                trips += [await session.round_trip() for _ in range(ROUND_TRIPS - 1)]
            step.text = f"{median(trips) * 1000:.1f} ms, the median of {ROUND_TRIPS} pings"
            step.seconds = None
        if echo_seconds:
            with report.step("throughput") as step:
                with trio.fail_after(echo_seconds + ANSWER_SECONDS):
                    speed = await session.echo(echo_seconds)
                step.text = (
                    f"at least {speed / 1e6:.1f} MB/s each way at the same time. That is a lower bound: echoes of 125"
                    " bytes cost both ends more than the way, so a slow way is found, not how fast a fast one is"
                )
        if silent_seconds:
            with report.step("silence") as step:
                longest = await session.be_silent(silent_seconds)
                step.text = (
                    f"held for {silent_seconds:g} s. The longest silence in it was {longest:.1f} s, so no timer on the"
                    " way is shorter; a longer one does no harm, for each end pings every 20 s"
                )
    except Cut as cut:
        raise Stopped(
            "session",
            f"the session was cut after {cut.silence:.1f} s of silence: {cut}",
            advice="an agent that is cut like this twice pings sooner by itself; better is a longer timer on the way",
            request=f"Something ends connections to {server.host} that are silent for {cut.silence:.0f} s. Please raise"
            " that timer above 30 s for them; a ping goes each way every 20 s.",
        ) from cut
    except (OSError, RemoteProtocolError, trio.TooSlowError, ssl.SSLError) as error:
        raise Stopped("session", f"the session did not last: {words(error)}") from error
    finally:
        with trio.CancelScope(shield=True):
            await session.leave()


def _cut_at_once(error: BaseException, host: str) -> Stopped:
    return Stopped(
        "session",
        f"the WebSocket was opened, and cut at its first frame ({words(error)})",
        request=f"WebSocket upgrades to {host} are let pass, but not what follows them. Please let their frames pass.",
    )
