"""HTTP CONNECT (RFC 9110, 9.3.6): ask an HTTP proxy for a tunnel, and understand it when it says no.

The reader is lenient where proxies are sloppy (bare LF, folded and colon-less lines, HTTP/1.0, a missing
reason) and strict where it is about us: sizes, counts, and that it is HTTP at all. h11 refuses half of
that, which is right for a server and no help to somebody who sits behind the only proxy there is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy_adapters.auth.challenge import Challenge, parse_challenges
from proxy_adapters.auth.login import Login, Memory
from proxy_adapters.auth.negotiation import Negotiation
from proxy_adapters.errors import (
    NOBODY,
    PROXY_ADMIN,
    TARGET_ADMIN,
    YOU,
    YOU_OR_PROXY_ADMIN,
    HopUnreachable,
    NotAProxy,
    TunnelRefused,
)
from proxy_adapters.handshake import EVIDENCE_BYTES, Hear, Leg, Redial, Say, Script, exactly, printable
from proxy_adapters.url import ProxyURL, authority

MAXIMUM_HEAD_BYTES = 65536
MAXIMUM_LINES = 256
MAXIMUM_INTERIM_ANSWERS = 10
MAXIMUM_DRAINED_BYTES = 262144


def http_connect(
    host: str,
    port: int,
    *,
    proxy: ProxyURL,
    login: Login | None = None,
    memory: Memory | None = None,
    headers: Sequence[tuple[str, str]] = (),
    user_agent: str = "trioduct",
    binding: Callable[[], bytes | None] = lambda: None,
) -> Script[None]:
    """Ask the proxy for a tunnel to `host:port`, authenticating as it demands.

    `headers` are added to the request. `binding` gives the certificate of a TLS proxy (channel binding).
    Raises ValueError for headers that could end a line, TunnelRefused, AuthenticationFailed, NotAProxy,
    HopUnreachable.
    """
    target = authority(host, port)
    negotiation = Negotiation(proxy, login or Login.of(proxy), memory or Memory(), target, binding=binding())
    value = yield from negotiation.first()
    asked_before = False  # on this connection
    while True:
        yield _request(target, value, negotiation.scheme, headers, user_agent)
        try:
            answer = yield from _hear_answer()
        except HopUnreachable as error:
            if value is not None and not error.heard:
                # pproxy does that after a good login, when it cannot reach the destination.
                error.advice = "it may refuse the login, or not reach the destination: is each of them right?"
            if error.heard or value is not None:
                raise
            raise TunnelRefused(
                "it closed the connection without an answer",
                advice="some proxies do that when they cannot reach the destination; or it is no HTTP proxy",
                retryable=True,
                tries_next=True,
                who=TARGET_ADMIN,
            ) from error
        if 200 <= answer.status < 300:
            # Framing fields of a 2xx mean nothing (RFC 9110, 9.3.6), nor does the "Connection: close" of
            # pproxy.
            yield from negotiation.accepted(_proofs(answer))
            return
        body, lives = yield from _hear_body(answer)
        if answer.status == 400 and asked_before and negotiation.may_repeat:
            # Some promise to keep the connection after a 407, and then do not like a second request on it.
            yield Redial()
            asked_before = False
            continue
        # tinyproxy answers 401 to a wrong password.
        if answer.status != 407 and not (answer.status == 401 and value is not None):
            if value is not None:
                yield Leg("proxy-request")  # what it refuses is not the login
            raise _refusal(answer, body, target)
        offers = parse_challenges(answer.all("proxy-authenticate"))
        value, fresh = yield from negotiation.next(offers, connection_lives=lives, status=answer.status)
        asked_before = not fresh
        if fresh:
            yield Redial()


def _request(target: str, value: str | None, scheme: str, headers: Sequence[tuple[str, str]], user_agent: str) -> Say:
    lines = [
        ("Host", target),
        ("User-Agent", user_agent),
        # No standard, but HTTP/1.0-minded proxies keep the connection for NTLM only if they see it.
        ("Proxy-Connection", "Keep-Alive"),
    ]
    head = f"CONNECT {target} HTTP/1.1\r\n" + "".join(f"{name}: {text}\r\n" for name, text in lines)
    shown = head
    for name, text in headers:  # which may be keys
        check_field(name, text)
        head += f"{name}: {text}\r\n"
        shown += f"{name}: ({len(text)} characters)\r\n"
    if value is not None:
        head += f"Proxy-Authorization: {value}\r\n"
        shown += f"Proxy-Authorization by {scheme}, {len(value)} characters"
    return Say(f"{head}\r\n".encode("latin-1"), shown=shown, scheme=scheme)


def check_field(name: str, text: str) -> None:
    """Raise ValueError if this is no header field, or one that could smuggle another."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"{name!r} is not the name of a header field (RFC 9110, 5.1)")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]", text):
        raise ValueError(f"the value of {name} has control characters or is not latin-1")


# -- The answer --------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A response head, as sloppy as it came; field names in lower case."""

    version: tuple[int, int]
    status: int
    reason: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def get(self, name: str) -> str:
        return ", ".join(self.all(name))

    @property
    def persistent(self) -> bool:
        """Whether the connection may carry another request (RFC 9112, 9.3; 1.0 also by Proxy-Connection)."""
        options = f"{self.get('connection')},{self.get('proxy-connection')}".lower()
        words = {word.strip() for word in options.split(",")}
        return "close" not in words if self.version >= (1, 1) else "keep-alive" in words


def _hear_answer() -> Script[Answer]:
    for _ in range(MAXIMUM_INTERIM_ANSWERS + 1):
        answer = parse_answer((yield Hear(HeadEnd())))
        if answer.status == 101:
            raise NotAProxy("it answered 101 Switching Protocols to a CONNECT", advice="this is no forward proxy")
        if answer.status >= 200:
            return answer
    raise NotAProxy(f"more than {MAXIMUM_INTERIM_ANSWERS} interim (1xx) answers")


class HeadEnd:
    """An `Enough` for a head. It remembers how far it looked, so a head in single bytes costs no more."""

    def __init__(self) -> None:
        self._looked = 0

    def __call__(self, heard: bytearray) -> int:
        start = len(heard) - len(heard.lstrip(b"\r\n"))
        if start == len(heard):
            return _bounded(heard, 0)
        _must_be_http(bytes(heard[start : start + 64]))
        match = re.compile(rb"\n\r?\n").search(heard, max(start, self._looked - 3))
        self._looked = len(heard)
        return _bounded(heard, match.end() if match else 0)


def _bounded(heard: bytearray, end: int) -> int:
    if (end or len(heard)) > MAXIMUM_HEAD_BYTES:
        raise NotAProxy(f"its response headers have more than {MAXIMUM_HEAD_BYTES} bytes")
    return end


def _must_be_http(start: bytes) -> None:
    if start[:5] == b"HTTP/"[: len(start)]:
        return
    if start[0] in (0x15, 0x16):
        raise NotAProxy("it speaks TLS", advice="use https:// in the proxy URL")
    if start[0] in (0x00, 0x04, 0x05):
        raise NotAProxy("it looks like a SOCKS server", advice="use socks5h:// in the proxy URL")
    if len(start) < 4 and start.isascii():
        return  # too little to name it
    for banner, name in (
        (b"<", "a web page without HTTP"),
        (b"SSH-", "an SSH server"),
        (b"220", "a mail or FTP server"),
    ):
        if start.startswith(banner):
            raise NotAProxy(f"it is {name}, not an HTTP proxy", advice="is the port right?")
    raise NotAProxy(f"it speaks no HTTP: its answer begins with {printable(start[:16])!r}", advice="is the port right?")


def parse_answer(head: bytes) -> Answer:
    """Read one head; raises NotAProxy only for a status line that is none, or too many lines."""
    lines = head.strip(b"\r\n").decode("latin-1").split("\n")
    if len(lines) > MAXIMUM_LINES:
        raise NotAProxy(f"its answer has more than {MAXIMUM_LINES} lines")
    match = re.fullmatch(r"HTTP/(\d)(?:\.(\d))?[ \t]+(\d{3})(?:[ \t]+(.*?))?\s*", lines[0])
    if match is None:
        raise NotAProxy(f"no status line: {printable(lines[0][:80].encode('latin-1'))!r}")
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        line = line.rstrip("\r")
        if line[:1] in (" ", "\t") and fields:
            # Folding (RFC 9112, 5.2) is obsolete and alive: challenges come over several lines.
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}")
        elif ":" in line:
            name, _, value = line.partition(":")
            fields.append((name.strip().lower(), value.strip()))
    return Answer((int(match[1]), int(match[2] or 0)), int(match[3]), match[4] or "", fields)


def _proofs(answer: Answer) -> list[Challenge]:
    """What a proxy says of itself with its yes (RFC 7615, 4; RFC 4559, 5): Digest's has no name in front."""
    infos = answer.all("proxy-authentication-info")
    named = [info if info.lower().startswith("negotiate") else f"Digest {info}" for info in infos]
    return parse_challenges([*answer.all("proxy-authenticate"), *named])


# -- The body of a refusal --------------------------------


def _hear_body(answer: Answer) -> Script[tuple[bytes, bool]]:
    """The page, as far as it is worth having, and whether the connection can carry another request."""
    length = answer.get("content-length").split(",")[0].strip()
    if "chunked" in answer.get("transfer-encoding").lower():
        chunks = ChunksEnd()
        heard = yield Hear(chunks, partial=True)
        return bytes(chunks.body), chunks.whole and answer.persistent
    if length.isascii() and length.isdigit() and len(length) < 10:
        if not answer.persistent or int(length) > MAXIMUM_DRAINED_BYTES:
            return (yield Hear(exactly(min(int(length), EVIDENCE_BYTES)), partial=True)) if int(length) else b"", False
        heard = (yield Hear(exactly(int(length)), partial=True)) if int(length) else b""
        return heard, len(heard) == int(length)
    return (yield Hear(exactly(EVIDENCE_BYTES), partial=True)), False


class ChunksEnd:
    """An `Enough` for a chunked body (RFC 9112, 7.1) that keeps the first bytes of the content."""

    def __init__(self, *, keep: int = EVIDENCE_BYTES) -> None:
        self._keep = keep
        self.body = bytearray()
        self.whole = False
        self._next = 0  # where the next chunk line begins

    def __call__(self, heard: bytearray) -> int:
        while (end := heard.find(b"\n", self._next)) >= 0:
            size = heard[self._next : end].partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
                self.body += heard[self._next :][:EVIDENCE_BYTES]  # no chunk line: it is only evidence
                return len(heard)
            count = int(size, 16)
            if count == 0:
                last = re.compile(rb"\n\r?\n").search(heard, end)
                self.whole = last is not None
                return last.end() if last else 0
            if len(heard) < end + 1 + count + 1:
                break
            after = heard.find(b"\n", end + 1 + count)
            if after < 0:
                break
            self.body += heard[end + 1 : end + 1 + count][: self._keep - len(self.body)]
            self._next = after + 1
        return len(heard) if len(heard) > MAXIMUM_DRAINED_BYTES else 0


# -- A refusal in words --------------------------------


# How squid, RFC 9209, Apache, privoxy and others say that a name has no address.
_UNRESOLVED = re.compile(
    r"ERR_DNS_FAIL|dns_error|DNS lookup failure|no such (?:domain|host)|(?:cannot|could not|unable to) resolve"
    r"|could not be resolved|name or service not known|nodename nor servname",
    re.IGNORECASE,
)


def _refusal(answer: Answer, body: bytes, target: str) -> Exception:
    words = page_words(body)
    said = f"{answer.status} {printable(answer.reason.encode('latin-1'))[:120]}".strip() + (
        f" ({words})" if words else ""
    )
    # Their own ids help the network team to find us in their logs.
    for name in ("x-squid-error", "proxy-status", "via", "server", "proxy-agent", "x-request-id"):
        if value := answer.get(name):
            said += f"; {name}: {printable(value.encode('latin-1'))[:120]}"
    status = answer.status
    if status in (404, 500, 502, 503, 504) and _UNRESOLVED.search(said):  # privoxy says 404
        return TunnelRefused(
            f"it cannot resolve {target.rpartition(':')[0]}: {said}",
            advice="check the name; if it is right, the proxy's DNS does not know it",
            who=YOU_OR_PROXY_ADMIN,
            retryable=True,
            status=status,
        )
    # Web servers answer 400 to a CONNECT as well, and these are never forward proxies.
    web = re.match(r"nginx|openresty|lighttpd|caddy|cloudflare|microsoft-iis", answer.get("server").lower())
    if status in (401, 404, 405, 501) or (status == 400 and web):
        return NotAProxy(
            f"it answered {said}",
            advice="this seems to be a web server or reverse proxy, not a forward proxy",
            status=status,
        )
    if 300 <= status < 400:
        where = printable(answer.get("location").encode("latin-1"))[:200]
        return TunnelRefused(
            f"it redirects to {where or 'nowhere'}: {said}",
            advice="a captive portal: open a browser on this machine and log in there",
            who=YOU,
            retryable=True,
            status=status,
        )
    if status == 403:
        return TunnelRefused(
            f"it forbids {target}: {said}",
            advice="ask for this host and port to be allowed (or maybe too many connections are open)",
            status=status,
        )
    if status in (500, 502, 503, 504):
        return TunnelRefused(
            f"it could not reach {target}: {said}",
            advice="is the destination up, and can the proxy resolve its name?",
            who=TARGET_ADMIN,
            retryable=True,
            status=status,
            retry_after_seconds=_retry_after(answer),
        )
    if status in (408, 429):
        return TunnelRefused(
            f"it is overloaded: {said}",
            who=NOBODY,
            retryable=True,
            status=status,
            retry_after_seconds=_retry_after(answer),
        )
    advice = f"it does not like the way {target} is written, or the port" if status == 400 else ""
    return TunnelRefused(f"it answered {said}", advice=advice, who=PROXY_ADMIN, status=status)


def _retry_after(answer: Answer) -> float | None:
    """Seconds only: a date would need a clock, and proxies send seconds."""
    text = answer.get("retry-after")
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def page_words(body: bytes) -> str:
    """The title of an error page, or its first words: at most 160 characters, one line."""
    text = body[:EVIDENCE_BYTES].decode("utf-8", "replace")
    title = re.search(r"(?is)<title[^>]*>(.*?)</title", text)
    if title is None:
        text = re.sub(r"(?is)<(script|style)\b.*?(</\1>|$)|<[^>]*>?", " ", text)
    words = " ".join(html.unescape(title[1] if title else text).split())
    return printable(words.encode())[:160]
