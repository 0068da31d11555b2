"""Proxy auto-configuration: a JavaScript function that answers with a list of proxies for a URL.

Theory. The script is somebody else's program, so it runs in quickjs-ng (the extra `pac`) with limits of
time, memory and stack, in a worker thread. It may ask for DNS in the middle of a run, but must not wait
there: an unknown name is noted, the run thrown away, the name resolved by Trio, and the script run again
from the start, as Chromium does it. A run costs a third of a millisecond; what it said is kept for a
minute.

The script is fetched straight, never through what it decides; the last good copy serves when it cannot be
had.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib.resources
import json
import re
import socket
import time
from base64 import b64decode
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urljoin, urlsplit

import trio

from proxy_adapters.attempt import Deadlines
from proxy_adapters.errors import PROXY_ADMIN, YOU, NoRoute, TunnelError
from proxy_adapters.handshake import printable
from proxy_adapters.http_connect import Answer, ChunksEnd, HeadEnd, parse_answer
from proxy_adapters.network import my_addresses
from proxy_adapters.open import open_tunnel
from proxy_adapters.route import Hop, Route
from proxy_adapters.url import ProxyURL, authority, normal_host

MAXIMUM_SCRIPT_BYTES = 1 << 20
MAXIMUM_REDIRECTS = 3
MAXIMUM_NAMES = 20
MAXIMUM_ANSWERS = 1000
MAXIMUM_LIST_CHARACTERS = 16384
MEMORY_BYTES = 64 << 20
STACK_BYTES = 512 << 10
FETCH_SECONDS = 5.0
RUN_SECONDS = 1.0
DNS_SECONDS = 5.0
EVALUATION_SECONDS = 15.0  # with all runs and names
REFRESH_SECONDS = 12 * 3600.0
ANSWER_SECONDS = 60.0

_KINDS = {  # word: scheme, the port if none is given
    "PROXY": ("http", 80),
    "HTTP": ("http", 80),
    "HTTPS": ("https", 443),
    "SOCKS": ("socks4", 1080),
    "SOCKS4": ("socks4", 1080),
    "SOCKS5": ("socks5h", 1080),
}


def parse_answer_list(text: str, *, source: str) -> list[Route]:
    """The routes of `PROXY a:1; SOCKS5 b:2; DIRECT`. Words that nobody knows are passed over; nothing means
    straight, and nobody reads on for ever.
    """
    routes = []
    text = text[:MAXIMUM_LIST_CHARACTERS]
    words = iter(re.split(r"[;\s]+", text.strip()))
    for word in map(str.upper, words):
        if word == "DIRECT":
            routes.append(Route((), source))
        elif word in _KINDS:
            scheme, port = _KINDS[word]
            place = next(words, "")
            if not re.search(r":\d+$", place) or place.endswith("]"):
                place = f"{place}:{port}"
            try:
                routes.append(Route((Hop(ProxyURL.parse(f"{scheme}://{place}")),), source))
            except ValueError:
                continue
    return routes if routes or text.strip(" ;\t\r\n") else [Route((), source)]


@dataclass(slots=True)
class _Script:
    text: str
    fresh_until: float
    validator: tuple[str, str] | None = None  # the conditional request's field and value
    changed: float = 0.0  # of a file


class PAC:
    """A PAC file, by URL (http, https, file, data) or path. Give it to `Router(pac=…)`.

    `keep` is a file for the last good copy. Raises ValueError if the engine or the scheme is missing.
    """

    def __init__(self, location: str, *, keep: str | Path | None = None) -> None:
        try:
            import quickjs  # noqa: F401  # only to say at once that it is missing
        except ImportError as error:
            raise ValueError("PAC files need the extra `pac`: pip install 'trioduct[pac]'") from error
        self._location = (
            location if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", location) else Path(location).absolute().as_uri()
        )
        self._scheme = self._location.partition(":")[0].lower()
        if self._scheme not in ("http", "https", "file", "data"):
            raise ValueError(f"PAC location {location!r}: it must be http, https, file, data or a path")
        self._keep = None if keep is None else Path(keep)
        self._script: _Script | None = None
        self._network: tuple[str, ...] = ()
        self._answers: dict[tuple[str, int, str], tuple[float, list[Route]]] = {}
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<PAC {self._shown}>"

    @property
    def _shown(self) -> str:
        return "data:…" if self._scheme == "data" else re.sub(r"//[^/@]*@", "//", self._location)

    def distrust(self) -> None:
        """Every route failed: fetch and ask again the next time."""
        self._answers.clear()
        if self._script is not None:
            self._script.fresh_until = 0

    async def routes(self, host: str, port: int, scheme: str) -> list[Route]:
        """What the script says about `scheme://host:port/`. Raises NoRoute."""
        async with self._lock:
            network = my_addresses()
            if network != self._network:
                self.distrust()
                self._network = network
            await self._refresh()
            name = normal_host(host)
            key, now = (name, port, scheme), trio.current_time()
            if key in self._answers and self._answers[key][0] > now:
                return self._answers[key][1]
            try:
                with trio.fail_after(EVALUATION_SECONDS):
                    answer = await self._ask(name, port, scheme)
            except trio.TooSlowError:
                words = f"no answer of the script within {EVALUATION_SECONDS:g} s"
                raise _failed(
                    "pac-eval", f"{words}; it may ask for names that this machine's DNS does not answer"
                ) from None
            words = printable(answer[:MAXIMUM_LIST_CHARACTERS].strip().encode("utf-8", "replace"))
            source = f"PAC {self._shown}: {words or 'nothing, which means direct'}"
            untrusted = self._scheme == "http"  # anybody on the way may have written it
            routes = [replace(route, untrusted=untrusted) for route in parse_answer_list(answer, source=source)]
            if not routes:
                raise _failed(
                    "pac-eval", f"its answer {answer[:200]!r} has no route that is known here", who=PROXY_ADMIN
                )
            if len(self._answers) >= MAXIMUM_ANSWERS:
                self._answers.clear()
            self._answers[key] = (now + ANSWER_SECONDS, routes)
            return routes

    # -- Asking ------------------------------------------------------------------------------------------

    async def _ask(self, name: str, port: int, scheme: str) -> str:
        """Many scripts look at the first letters of the URL and know no wss: those are asked about https."""
        schemes = [scheme, {"wss": "https", "ws": "http"}[scheme]] if scheme in ("wss", "ws") else [scheme]
        problem = ""
        for number, candidate in enumerate(schemes, 1):
            default = {"https": 443, "wss": 443}.get(candidate, 80)
            place = authority(name, port) if port != default else authority(name, port).rpartition(":")[0]
            try:
                answer = await self._evaluate(f"{candidate}://{place}/", name)
            except RuntimeError as error:
                problem = printable(str(error).encode("utf-8", "replace"))
                continue
            if answer.strip() or number == len(schemes):
                return answer
        raise _failed("pac-eval", f"the script failed: {problem}", who=PROXY_ADMIN)

    async def _evaluate(self, url: str, name: str) -> str:
        assert self._script is not None
        known: dict[str, list[str]] = {}
        for _ in range(MAXIMUM_NAMES + 1):
            answer, needed = await trio.to_thread.run_sync(
                run_script, self._script.text, url, name, known, self._network, abandon_on_cancel=True
            )
            if not needed:
                return answer
            for asked in needed:
                known[asked] = await _resolve(asked)
        raise RuntimeError(f"it asks for more than {MAXIMUM_NAMES} names")

    # -- Fetching ----------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        script, now = self._script, trio.current_time()
        if self._scheme == "file":
            path = trio.Path(_file_of(self._location))
            try:
                changed = (await path.stat()).st_mtime
                if script is None or script.changed != changed:
                    raw = await path.read_bytes()
                    self._take(_Script(_text(raw[:MAXIMUM_SCRIPT_BYTES], ""), float("inf"), changed=changed))
            except OSError as error:
                if script is None:
                    raise _failed("pac-fetch", f"cannot read {path}: {error.strerror}", who=YOU) from error
        elif script is None or script.fresh_until <= now:
            try:
                with trio.fail_after(FETCH_SECONDS):
                    self._take(await self._fetch())
            except (TunnelError, trio.TooSlowError, trio.BrokenResourceError, ValueError) as error:
                words = f"no answer within {FETCH_SECONDS:g} s" if isinstance(error, trio.TooSlowError) else str(error)
                if script is None and (script := self._last_good()) is None:
                    raise _failed("pac-fetch", words) from error
                script.fresh_until = now + ANSWER_SECONDS
                self._script = script

    def _take(self, script: _Script) -> None:
        if self._script is None or script.text != self._script.text:
            self._answers.clear()
            if self._keep is not None:
                self._keep.write_text(script.text, encoding="utf-8")
        self._script = script

    def _last_good(self) -> _Script | None:
        if self._keep is None or not self._keep.exists():
            return None
        return _Script(self._keep.read_text(encoding="utf-8"), 0)

    async def _fetch(self) -> _Script:
        if self._scheme == "data":
            return _Script(_of_data_url(self._location), float("inf"))
        location, validator = self._location, self._script.validator if self._script is not None else None
        for _ in range(MAXIMUM_REDIRECTS + 1):
            answer, body = await _get(location, validator)
            if answer.status == 304 and self._script is not None:
                return _Script(self._script.text, _fresh_until(answer), self._script.validator)
            if 300 <= answer.status < 400 and answer.get("location"):
                location = urljoin(location, answer.get("location"))
                if self._scheme == "https" and not location.lower().startswith("https:"):
                    raise ValueError("it redirects from https to where anybody may change it")
                continue
            if answer.status != 200:
                raise ValueError(f"it answered {answer.status} {printable(answer.reason.encode('latin-1'))}")
            found = None
            if tag := answer.get("etag"):
                found = ("If-None-Match", tag)
            elif modified := answer.get("last-modified"):
                found = ("If-Modified-Since", modified)
            charset = re.search(r'charset="?([A-Za-z0-9_.:-]+)', answer.get("content-type"))
            text = _text(body, charset[1] if charset else "")
            if re.match(r"\s*<(!doctype|html|head|body|\?xml)", text, re.IGNORECASE):
                raise ValueError("a web page came in place of the script: is this network's login page in the way?")
            return _Script(text, _fresh_until(answer), found)
        raise ValueError(f"more than {MAXIMUM_REDIRECTS} redirects")


def run_script(
    text: str, url: str, host: str, known: dict[str, list[str]], mine: tuple[str, ...]
) -> tuple[str, list[str]]:
    """One run: the answer, and the names that it needs first. Blocks; raises RuntimeError with the engine's
    words.
    """
    import quickjs

    context = quickjs.Context()  # belongs to this thread
    context.set_memory_limit(MEMORY_BYTES)
    context.set_max_stack_size(STACK_BYTES)
    context.set_time_limit(RUN_SECONDS)
    facts = f"var __dns = {json.dumps(known)}, __my = {json.dumps(mine)}, __now = {time.time() * 1000:.0f};"
    call = (
        "typeof FindProxyForURLEx == 'function' ? FindProxyForURLEx : FindProxyForURL",
        f"({json.dumps(url)}, {json.dumps(host)})",
    )
    problem = ""
    try:
        context.eval(facts + _functions())
        try:
            with contextlib.suppress(TypeError):  # the value of its last statement has no counterpart here, as 2n
                context.eval(text)
            # JSON, because the answer may be an object whose toString is another program of theirs.
            said = context.eval(f"JSON.stringify(({call[0]}){call[1]})")
        except quickjs.JSException as error:
            said, problem = "null", str(error).strip().partition("\n")[0]
        needed = json.loads(str(context.eval("JSON.stringify(__needed)")))
        answer = json.loads(said) if isinstance(said, str) else None
    except quickjs.JSException as error:
        raise RuntimeError(str(error).strip().partition("\n")[0]) from None
    except (ValueError, TypeError):
        raise RuntimeError("the script has replaced JSON") from None
    names = [str(name) for name in needed][:MAXIMUM_NAMES] if isinstance(needed, list) else []
    if names:
        return "", list(dict.fromkeys(names))
    if problem:
        raise RuntimeError(problem)
    return (answer if isinstance(answer, str) else ""), []


_loaded: list[str] = []


def _functions() -> str:
    if not _loaded:
        file = importlib.resources.files("proxy_adapters").joinpath("pac_functions.js")
        _loaded.append(file.read_text(encoding="utf-8"))
    return _loaded[0]


async def _resolve(name: str) -> list[str]:
    try:
        with trio.fail_after(DNS_SECONDS):
            found = await trio.socket.getaddrinfo(normal_host(name), None, type=socket.SOCK_STREAM)
    except (OSError, ValueError, trio.TooSlowError):
        return []
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


async def _get(location: str, validator: tuple[str, str] | None) -> tuple[Answer, bytes]:
    """One GET, straight; HTTP/1.0, so that the end of the connection is the end of the body."""
    url = urlsplit(location)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"cannot fetch {url.scheme}: URLs")
    port = url.port or (443 if url.scheme == "https" else 80)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if re.search(r"[\x00-\x20\x7f]", path):
        raise ValueError("blanks in the path")
    host = authority(url.hostname, port) if url.port else authority(url.hostname, port).rpartition(":")[0]
    condition = f"{validator[0]}: {validator[1]}\r\n" if validator else ""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\n{condition}\r\n"
    deadlines = Deadlines(tcp=FETCH_SECONDS)
    tunnel = await open_tunnel(url.hostname, port, route=Route(), tls=url.scheme == "https", deadlines=deadlines)
    async with tunnel:
        await tunnel.send_all(request.encode("latin-1"))
        heard, end, length = bytearray(), HeadEnd(), 0
        while not length:
            data = await tunnel.receive_some()
            if not data:
                raise ValueError("it closed the connection before its answer was complete")
            heard += data
            length = end(heard)
        answer = parse_answer(bytes(heard[:length]))
        del heard[:length]
        wanted = answer.get("content-length")
        limit = min(int(wanted), MAXIMUM_SCRIPT_BYTES + 1) if wanted.isdecimal() else MAXIMUM_SCRIPT_BYTES + 1
        while len(heard) < limit:
            try:
                data = await tunnel.receive_some()
            except trio.BrokenResourceError:
                break  # many servers end TLS by just closing; a script cut short will not parse
            if not data:
                break
            heard += data
    if len(heard) > MAXIMUM_SCRIPT_BYTES:
        raise ValueError(f"the script is larger than {MAXIMUM_SCRIPT_BYTES} bytes")
    if "chunked" in answer.get("transfer-encoding").lower():
        chunks = ChunksEnd(keep=MAXIMUM_SCRIPT_BYTES)
        chunks(heard)
        return answer, bytes(chunks.body)
    return answer, bytes(heard)


def _fresh_until(answer: Answer) -> float:
    age = re.search(r"max-age=(\d{1,9})", answer.get("cache-control").lower())
    return trio.current_time() + (max(float(age[1]), ANSWER_SECONDS) if age else REFRESH_SECONDS)


def _text(raw: bytes, charset: str) -> str:
    """By what the server says, a byte order mark, or trial: PAC files with umlauts in cp1252 are alive."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if raw.startswith(mark):
            return raw.decode(encoding, "replace")
    for encoding in (charset, "utf-8", "cp1252"):
        try:
            return raw.decode(encoding)
        except (UnicodeDecodeError, LookupError, ValueError):
            continue
    return raw.decode("latin-1")


def _of_data_url(location: str) -> str:
    kind, _, body = location.partition(":")[2].partition(",")
    raw = unquote_to_bytes(body)
    charset = re.search(r"charset=([A-Za-z0-9_.:-]+)", kind)
    return _text(b64decode(raw) if kind.endswith(";base64") else raw, charset[1] if charset else "")


def _file_of(location: str) -> str:
    return unquote(urlsplit(location).path)


def _failed(leg: str, fact: str, *, who: str | None = None) -> NoRoute:
    error = NoRoute(fact, who=who)
    error.leg = leg
    return error
