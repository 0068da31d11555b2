"""PAC: the functions, the engine's limits, the list of answers, and where the script comes from."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_adapters import NoRoute, Router, open_tunnel, pac
from proxy_adapters.pac import PAC, parse_answer_list, run_script
from tests.conftest import Pki

OK = b"HTTP/1.1 200 OK\r\n\r\n"


def value(
    expression: str, *, dns: dict[str, list[str]] | None = None, mine: tuple[str, ...] = ("10.0.0.5", "fd00::5")
) -> str:
    """What a PAC file sees for an expression, as a string."""
    text = f"function FindProxyForURL(url, host) {{ return String({expression}); }}"
    answer, needed = run_script(text, "https://host.test/", "host.test", dns or {}, mine)
    assert needed == []
    return answer


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("isPlainHostName('www')", "true"),
        ("isPlainHostName('www.test')", "false"),
        ("isPlainHostName('::1')", "false"),
        ("dnsDomainIs('a.Corp.test', '.corp.TEST')", "true"),
        ("dnsDomainIs('corp.test.evil', '.corp.test')", "false"),
        ("localHostOrDomainIs('www', 'www.corp.test')", "true"),
        ("localHostOrDomainIs('www.corp.test', 'www.corp.test')", "true"),
        ("localHostOrDomainIs('ww', 'www.corp.test')", "false"),
        ("localHostOrDomainIs('www.other.test', 'www.corp.test')", "false"),
        ("dnsDomainLevels('a.b.c')", "2"),
        ("shExpMatch('http://a.test/x', '*/x')", "true"),
        ("shExpMatch('a', '?')", "true"),
        ("shExpMatch('b', '[a-c]')", "false"),
        ("shExpMatch('[a-c]', '[a-c]')", "true"),
        ("shExpMatch('a.b', 'a+b')", "false"),
        ("shExpMatch('ab', 'a.b')", "false"),
        ("dnsResolve('4.test')", "10.1.2.3"),
        ("dnsResolve('6.test')", "null"),
        ("dnsResolve('none.test')", "null"),
        ("dnsResolve('10.9.8.7')", "10.9.8.7"),
        ("dnsResolveEx('both.test')", "10.1.2.3;fd00::1"),
        ("isResolvable('4.test')", "true"),
        ("isResolvable('none.test')", "false"),
        ("isResolvable('6.test')", "false"),
        ("isResolvableEx('6.test')", "true"),
        ("isInNet('4.test', '10.0.0.0', '255.0.0.0')", "true"),
        ("isInNet('11.0.0.1', '10.0.0.0', '255.0.0.0')", "false"),
        ("isInNet('none.test', '10.0.0.0', '255.0.0.0')", "false"),
        ("isInNetEx('6.test', 'fd00::/8')", "true"),
        ("isInNetEx('4.test', '10.1.2.0/23')", "true"),
        ("isInNetEx('4.test', '10.1.0.0/23')", "false"),
        ("isInNetEx('6.test', 'fe00::/8')", "false"),
        ("isInNetEx('6.test', 'nonsense')", "false"),
        ("convert_addr('192.0.2.1')", "3221225985"),
        ("myIpAddress()", "10.0.0.5"),
        ("myIpAddressEx()", "10.0.0.5;fd00::5"),
        ("sortIpAddressList('10.2.0.1;fd00::2;10.1.0.1;fd00::1')", "fd00::1;fd00::2;10.1.0.1;10.2.0.1"),
        ("sortIpAddressList('x')", ""),
        ("getClientVersion()", "1.0"),
        ("alert('hello')", "undefined"),
        ("__bytes('::ffff:1.2.3.4').length", "16"),
        ("__bytes('1::2::3')", "null"),
        ("__bytes('256.1.1.1')", "null"),
    ],
)
def test_the_functions(expression: str, expected: str) -> None:
    dns = {"4.test": ["10.1.2.3"], "6.test": ["fd00::1"], "both.test": ["10.1.2.3", "fd00::1"], "none.test": []}
    assert value(expression, dns=dns) == expected


# Wednesday, 11 November 2026, 10:30:15 GMT.
NOW = 1794393015000


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("weekdayRange('WED', 'GMT')", True),
        ("weekdayRange('MON', 'FRI', 'GMT')", True),
        ("weekdayRange('SAT', 'TUE', 'GMT')", False),
        ("weekdayRange('FRI', 'WED', 'GMT')", True),
        ("weekdayRange('XXX', 'GMT')", False),
        ("dateRange(11, 'GMT')", True),
        ("dateRange('NOV', 'GMT')", True),
        ("dateRange(2026, 'GMT')", True),
        ("dateRange(11, 'NOV', 2026, 'GMT')", True),
        ("dateRange(12, 'NOV', 2026, 'GMT')", False),
        ("dateRange(1, 15, 'GMT')", True),
        ("dateRange('DEC', 'FEB', 'GMT')", False),
        ("dateRange('OCT', 'FEB', 'GMT')", True),
        ("dateRange(24, 'DEC', 2, 'JAN', 'GMT')", False),
        ("dateRange('JAN', 2026, 'DEC', 2026, 'GMT')", True),
        ("dateRange(1, 'NOV', 2026, 30, 'NOV', 2026, 'GMT')", True),
        ("dateRange('GMT')", False),
        ("timeRange(10, 'GMT')", True),
        ("timeRange(9, 11, 'GMT')", True),
        ("timeRange(8, 10, 'GMT')", False),
        ("timeRange(22, 6, 'GMT')", False),
        ("timeRange(22, 11, 'GMT')", True),
        ("timeRange(10, 0, 10, 30, 'GMT')", True),
        ("timeRange(10, 31, 11, 0, 'GMT')", False),
        ("timeRange(10, 30, 14, 10, 30, 16, 'GMT')", True),
        ("timeRange('x', 'GMT')", False),
    ],
)
def test_the_clock(expression: str, expected: bool) -> None:
    assert value(f"(__now = {NOW}, {expression})") == str(expected).lower()


@pytest.mark.parametrize(
    ("answer", "routes"),
    [
        ("PROXY p:3128; DIRECT", ["http://p:3128", "direct"]),
        ("proxy p:3128;;socks5 s:1 ; socks q", ["http://p:3128", "socks5h://s:1", "socks4://q:1080"]),
        ("HTTP a; HTTPS b; SOCKS4 c:2", ["http://a:80", "https://b:443", "socks4://c:2"]),
        ("PROXY [::1]; PROXY [::1]:3", ["http://[::1]:80", "http://[::1]:3"]),
        ("QUIC q:1; PROXY p:1", ["http://p:1"]),
        ("PROXY", []),
        ("NONSENSE", []),
        ("", ["direct"]),
        (" ;\t", ["direct"]),
    ],
)
def test_the_list_of_answers(answer: str, routes: list[str]) -> None:
    assert [str(route) for route in parse_answer_list(answer, source="a test")] == routes


def test_a_script_may_end_with_any_value() -> None:
    for last in "2n", "Symbol()", "({})", "undefined":
        script = f"function FindProxyForURL() {{ return 'DIRECT'; }}\n{last}"
        assert run_script(script, "http://h/", "h", {}, ()) == ("DIRECT", [])
    with pytest.raises(RuntimeError, match="replaced JSON"):
        run_script("JSON.stringify = () => 2n; function FindProxyForURL() {}", "http://h/", "h", {}, ())


def test_a_place_in_an_answer_is_one_proxy_and_no_chain() -> None:
    assert parse_answer_list("PROXY a.test:1->http://b.test:2; PROXY [::1]:1->[::1]:10", source="a test") == []


_PLACES = st.one_of(st.sampled_from(["a:1", "[::1]:3128", "[::1]", "b", ":0", "u:p@c:1", "x:99999"]), st.text())
_ANSWERS = st.lists(
    st.tuples(st.sampled_from(["PROXY", "SOCKS5", "direct", "HTTPS", ";", "QUIC"]), st.sampled_from(" ;\t"), _PLACES)
).map(lambda parts: "; ".join("".join(part) for part in parts))


@given(st.one_of(st.text(max_size=100), _ANSWERS))
def test_any_answer_is_a_list(answer: str) -> None:
    parse_answer_list(answer, source="a test")


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    assert len(parse_answer_list("PROXY a:1; " * 3_000_000, source="a test")) < 2000


# -- The engine ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "for (;;);",
        "return 'x'.repeat(1e9);",
        "var a = []; for (;;) a.push(new Array(100000).fill(1));",
        "function f() { return f() + 1; } return f();",
        "/(a+)+b/.test('a'.repeat(60)); return '';",
        "throw new Error('no')",
        "return undefinedName",
        "JSON.stringify = function () { return '{'; }; return ''",
        "__needed = 7; return missing()",
    ],
)
def test_a_hostile_script_ends_with_words_and_within_limits(body: str) -> None:
    with pytest.raises(RuntimeError):
        run_script(f"function FindProxyForURL(url, host) {{ {body} }}", "https://h/", "h", {}, ())


def test_an_answer_that_is_no_string_is_nothing() -> None:
    for answer in ("null", "7", "{}", "[]", "undefined", "{toString: function () { for (;;); }}"):
        assert run_script(f"function FindProxyForURL() {{ return {answer}; }}", "https://h/", "h", {}, ()) == ("", [])


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_script_is_an_answer_or_a_runtime_error(text: str) -> None:
    try:
        run_script(text, "https://h/", "h", {}, ())
    except RuntimeError:
        pass


# -- The whole -----------------------------------------------------------------------


def script(body: str) -> str:
    return "data:," + quote(f"function FindProxyForURL(url, host) {{ {body} }}")


async def routes(location: str, host: str = "host.test", port: int = 443, scheme: str = "https") -> list[str]:
    return [str(route) for route in await PAC(location).routes(host, port, scheme)]


async def test_the_script_sees_the_url_without_a_path_and_the_host_without_brackets() -> None:
    told = script("return 'PROXY p' + url.length + '.' + host.length + ':1'")
    assert await routes(told, "host.test", 443) == ["http://p18.9:1"]
    assert await routes(told, "host.test", 8443) == ["http://p23.9:1"]
    assert await routes(script("return host == '::1' && url == 'https://[::1]/' ? 'PROXY p:1' : ''"), "[::1]") == [
        "http://p:1"
    ]


async def test_a_script_that_knows_no_wss_is_asked_about_https() -> None:
    old = script("if (url.substring(0, 6) == 'https:') return 'PROXY p:1'; throw 'never heard of it'")
    assert await routes(old, scheme="wss") == ["http://p:1"]
    new = script("return url.substring(0, 4) == 'wss:' ? 'PROXY w:1' : 'PROXY p:1'")
    assert await routes(new, scheme="wss") == ["http://w:1"]


async def test_names_are_resolved_between_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
            asked.append(str(host, "ascii") if isinstance(host, bytes) else host)
            return [(2, 1, 6, "", ("10.1.2.3", 0))]

        async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    body = """
      try { var a = dnsResolve(host); } catch (error) { return 'PROXY swallowed:1'; }
      return isInNet('b.test', '10.0.0.0', '255.0.0.0') ? 'PROXY ' + a + ':1' : 'DIRECT';
    """
    assert await routes(script(body)) == ["http://10.1.2.3:1"]
    assert asked == ["host.test", "b.test"]
    with pytest.raises(NoRoute, match="more than 20 names"):
        await routes(script("for (var i = 0; ; i++) dnsResolve('h' + i);"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("throw new Error('broken')", "pac-eval: the script failed: Error: broken"),
        ("syntax error", "pac-eval: the script failed: SyntaxError"),
        ("return 'NONSENSE'", "pac-eval: its answer 'NONSENSE' has no route"),
    ],
)
async def test_what_is_wrong_with_a_script_is_said(body: str, words: str) -> None:
    with pytest.raises(NoRoute, match=words):
        await routes(script(body))


def test_a_location_must_be_one_that_can_be_read() -> None:
    with pytest.raises(ValueError, match="must be http"):
        PAC("ftp://wpad/wpad.dat")
    assert "s3cret" not in repr(PAC("http://alice:s3cret@wpad/wpad.dat"))


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "proxy.pac"
    source = PAC(str(file))
    with pytest.raises(NoRoute, match="pac-fetch: cannot read"):
        await source.routes("h.test", 443, "https")
    for number in (1, 2):
        file.write_text(f"function FindProxyForURL() {{ return 'PROXY p{number}:1'; }}")
        os.utime(file, (number, number))
        assert [str(route) for route in await source.routes("h.test", 443, "https")] == [f"http://p{number}:1"]


@pytest.mark.parametrize(
    "raw",
    ["return 'PROXY ü:1'".encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252")],
)
async def test_umlauts_arrive_in_any_encoding(raw: bytes) -> None:
    prefix = "function FindProxyForURL() { return 'PROXY ü:1'; }"
    encoding = {b"\xef\xbb": "utf-8-sig", b"\xff\xfe": "utf-16"}.get(raw[:2], "utf-8" if b"\xc3" in raw else "cp1252")
    location = "data:application/x-ns-proxy-autoconfig;base64," + b64encode(prefix.encode(encoding)).decode()
    assert await routes(location) == ["http://ü:1"]


class Server:
    """An HTTP server for PAC files: answers in order, and what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.requests, self.port = list(answers), list[str](), 0

    async def serve(self, stream: trio.SocketStream) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += await stream.receive_some()
        self.requests.append(request.decode())
        await stream.send_all(self.answers.pop(0))
        await stream.aclose()

    async def start(self, nursery: trio.Nursery) -> str:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, self.serve, listeners)
        return f"http://127.0.0.1:{self.port}"


def pac_answer(body: str, fields: str = "") -> bytes:
    text = f"function FindProxyForURL() {{ {body} }}"
    return f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {len(text)}\r\n\r\n{text}".encode()


async def test_over_http_it_is_fetched_once_then_conditionally_and_the_last_good_copy_serves(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    server = Server(
        b"HTTP/1.1 302 Found\r\nLocation: /there.pac\r\n\r\n",
        pac_answer("return 'PROXY one:1'", 'ETag: "a"\r\n'),
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
    )
    location = await server.start(nursery) + "/wpad.dat?x=y"
    source = PAC(location, keep=tmp_path / "kept.pac")

    async def ask() -> list[str]:
        return [str(route) for route in await source.routes("h.test", 443, "https")]

    for _ in range(2):
        assert await ask() == ["http://one:1"]
    for _ in range(2):
        source.distrust()
        assert await ask() == ["http://one:1"]
    first, *later = [request.split()[1] for request in server.requests]
    assert first == "/wpad.dat?x=y"
    assert later == ["/there.pac", "/wpad.dat?x=y", "/wpad.dat?x=y"]
    assert 'If-None-Match: "a"' in server.requests[2]
    server.answers = [b"HTTP/1.1 500 Oops\r\n\r\n"] * 2
    other = PAC(location, keep=tmp_path / "kept.pac")
    assert [str(route) for route in await other.routes("h.test", 443, "https")] == ["http://one:1"]
    with pytest.raises(NoRoute, match="pac-fetch: it answered 500 Oops"):
        await PAC(location).routes("h.test", 443, "https")


async def test_only_what_came_over_plain_http_is_untrusted(
    nursery: trio.Nursery, tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca))
    file, text = tmp_path / "proxy.pac", pac_answer("return 'PROXY p:1'")
    file.write_bytes(text.partition(b"\r\n\r\n")[2])
    plain, secure = Server(text), Server(text, b"HTTP/1.1 302 Found\r\nLocation: http://wpad/\r\n\r\n")
    kept = tmp_path / "kept.pac"
    at_plain = await plain.start(nursery)
    listeners = await trio.open_ssl_over_tcp_listeners(0, pki.server_context(), host="127.0.0.1", https_compatible=True)
    nursery.start_soon(trio.serve_listeners, secure.serve, listeners)
    below = listeners[0].transport_listener
    assert isinstance(below, trio.SocketListener)
    at_secure = f"https://127.0.0.1:{below.socket.getsockname()[1]}/"
    for location, untrusted in (
        (script("return 'PROXY p:1'"), False),
        (str(file), False),
        (at_plain, True),
        (at_plain, True),  # the copy
        (at_secure, False),
    ):
        if not plain.answers:
            plain.answers = [b"HTTP/1.1 500 Oops\r\n\r\n"]
        source = PAC(location, keep=kept if location == at_plain else None)
        (route,) = await source.routes("h.test", 443, "https")
        assert (str(route), route.untrusted) == ("http://p:1", untrusted), location
    with pytest.raises(NoRoute, match="redirects from https to where anybody may change it"):
        await PAC(at_secure).routes("h.test", 443, "https")


async def test_where_a_login_page_stands_in_the_way_the_last_good_copy_serves_and_stays(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<!DOCTYPE html><title>Hotel</title>"
    server = Server(pac_answer("return 'PROXY one:1'"), page, page)
    location, kept = await server.start(nursery), tmp_path / "kept.pac"
    for _ in range(2):
        (route,) = await PAC(location, keep=kept).routes("h.test", 443, "https")
        assert str(route) == "http://one:1"
    with pytest.raises(NoRoute, match="a web page came in place of the script"):
        await PAC(location).routes("h.test", 443, "https")


async def test_a_server_that_makes_no_sense_is_named(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pac, "MAXIMUM_SCRIPT_BYTES", 1000)
    server = Server(
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
        *[b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n"] * 4,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000,
        b"<html>",
        b"",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"31\r\nfunction FindProxyForURL() {return 'PROXY c:1' ;}\r\n0\r\n\r\n",
    )
    location = await server.start(nursery)
    for words in (
        "cannot fetch file",
        "more than 3 redirects",
        "larger than 1000",
        "web page",
        "closed the connection",
    ):
        with pytest.raises(NoRoute, match=words):
            await PAC(location).routes("h.test", 443, "https")
    assert [str(route) for route in await PAC(location).routes("h.test", 443, "https")] == ["http://c:1"]


async def test_a_dead_first_proxy_of_the_list_gives_way_to_the_second() -> None:
    dialled: list[str] = []

    async def dial(host: str, port: int) -> trio.abc.Stream:
        dialled.append(host)
        if host == "dead":
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(OK)
        return ours

    router = Router(pac=PAC(script("return 'PROXY dead:1; PROXY alive:1'")), environ=None)
    for _ in range(2):
        tunnel = await open_tunnel("host.test", 443, route=router, dial=dial)
        assert "PROXY dead:1; PROXY alive:1)" in tunnel.trail[0]
    assert dialled == ["dead", "alive", "alive"]


async def test_a_pac_is_not_asked_about_this_machine_itself() -> None:
    router = Router(pac=PAC(script("return 'PROXY p:1'")), environ=None)
    for host in ("localhost", "a.localhost", "127.1.2.3", "::1", "169.254.1.1", "fe80::1"):
        assert [route.direct for route in await router.routes_to(host, 443)] == [True]
    assert [route.direct for route in await router.routes_to("10.0.0.1", 443)] == [False]
