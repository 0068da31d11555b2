"""The kinds of knobs: what a value may be, and how its text is read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec

from engine.config.address import split_address, split_store, split_url
from engine.config.duration import format_duration, parse_duration, parse_lifetime
from engine.config.knob import Kind

T = TypeVar("T")


def _only(parse: Callable[[str], T], accept: Callable[[T], object]) -> Callable[[str], T]:
    def parse_and_accept(text: str) -> T:
        value = parse(text)
        if not accept(value):
            raise ValueError(f"{value!r} is out of range")
        return value

    return parse_and_accept


def _one_of(*choices: str) -> Kind[str]:
    return Kind("|".join(choices), f"one of {', '.join(choices)}", _only(str, choices.__contains__), choices=choices)


# Text -------------------------------------------------------------------------------------------------------


Text = Annotated[str, Kind("TEXT", "text", str)]
Word = Annotated[str, Kind("TEXT", "text on one line", _only(str, str.isprintable))]
Texts = Annotated[list[str], Kind("LIST", "a list of texts", _only(str, str.isprintable), many=True)]
_field_name = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII).fullmatch
FieldNames = Annotated[list[str], Kind("LIST", "a list of names of headers", _only(str.strip, _field_name), many=True)]
FileName = Annotated[str, Kind("FILE", "the name of a file", _only(str, str.isprintable))]
Secret = Annotated[str, Kind("SECRET", "text", str, secret=True)]
_token = re.compile(r"[!-~]*").fullmatch
Token = Annotated[str, Kind("SECRET", "a token, no blanks in it", _only(str.strip, _token), secret=True)]
_segment = re.compile(r"(?!\.\.?$)[^/\x00-\x1f\x7f]+").fullmatch  # of a URL's path, and no way up
EndpointID = Annotated[str, Kind("TEXT", "a name without /", _only(str, _segment))]
EndpointIDs = Annotated[list[str], Kind("LIST", "a list of names without /", _only(str, _segment), many=True)]


def _switch(text: str) -> bool:
    # The words of Go's flags and those of YAML 1.1, both of which Piko knows.
    if text.lower() in ("true", "t", "1", "yes", "y", "on"):
        return True
    if text.lower() in ("false", "f", "0", "no", "n", "off"):
        return False
    raise ValueError("neither true nor false")


Switch = Annotated[bool, Kind("", "true or false", _switch)]
Level = Annotated[Literal["debug", "info", "warn", "error"], _one_of("debug", "info", "warn", "error")]
Protocol = Annotated[Literal["http", "h2", "tcp", "udp"], _one_of("http", "h2", "tcp", "udp")]
PortProtocol = Annotated[Literal["tcp", "udp"], _one_of("tcp", "udp")]
HealthCheck = Annotated[Literal["off", "tcp", "http"], _one_of("off", "tcp", "http")]
EventLoop = Annotated[Literal["asyncio", "trio"], _one_of("asyncio", "trio")]
Sharing = Annotated[Literal["balanced", "exclusive"], _one_of("balanced", "exclusive")]
Algorithm = Annotated[
    Literal["", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
    _one_of("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"),
]
StartRole = Annotated[Literal["", "node", "agent"], _one_of("node", "agent")]
Output = Annotated[Literal["", "table", "yaml", "json"], _one_of("table", "yaml", "json")]

# Numbers and durations --------------------------------------------------------------------------------------


def _integer(text: str) -> int:
    return int(text, 0)


Count = Annotated[int, Kind("INT", "a whole number, 0 or more", _only(_integer, lambda n: n >= 0))]
CountAboveZero = Annotated[int, Kind("INT", "a whole number, 1 or more", _only(_integer, lambda n: n > 0))]
_count = _only(_integer, lambda n: n >= 0)
MAX_WORKERS = 256


def _workers(text: str) -> int:
    return 0 if text == "auto" else _only(_integer, lambda n: 0 < n <= MAX_WORKERS)(text)


# auto is 0.
Workers = Annotated[
    int, Kind("INT", f"auto, or a whole number from 1 to {MAX_WORKERS}", _workers, lambda n: n or "auto")
]
CountOrDefault = Annotated[int, Kind("INT", "a whole number, 1 or more", _count, zero_is_default=True)]
_count_or_unlimited = _only(_integer, lambda n: n >= -1)
CountOrUnlimited = Annotated[
    int, Kind("INT", "a whole number, 1 or more, or -1", _count_or_unlimited, zero_is_default=True)
]


def _weight(text: str) -> int:
    from engine.wire.agents import MAX_WEIGHT

    return _only(_integer, lambda n: 0 <= n <= MAX_WEIGHT)(text)


Weight = Annotated[int, Kind("INT", "a whole number from 0 to 256", _weight)]
Ratio = Annotated[float, Kind("FLOAT", "a number, 0 or more", _only(float, lambda x: 0 <= x < math.inf))]
Fraction = Annotated[float, Kind("FLOAT", "a number from 0 to 1", _only(float, lambda x: 0 <= x <= 1))]


def _seconds(expected: str, accept: Callable[[float], bool], *, zero_is_default: bool = False) -> Kind[float]:
    return Kind("DURATION", expected, _only(parse_duration, accept), format_duration, zero_is_default=zero_is_default)


def _parse_limit(text: str) -> float:
    # Below zero there is no limit, and at zero in some places another one holds (Go's http.Server).
    seconds = parse_duration(text)
    return seconds if seconds >= 0 else math.inf


def _format_limit(seconds: float) -> str:
    return "-1s" if seconds == math.inf else format_duration(seconds)


Seconds = Annotated[float, _seconds("a duration such as 1m30s, 100ms or 0", lambda s: s >= 0)]
SecondsOrNever = Annotated[float, Kind("DURATION", "a duration such as 1m30s, 100ms or 0", _parse_limit, _format_limit)]
SecondsAboveZero = Annotated[float, _seconds("a duration above 0 such as 1m30s or 100ms", lambda s: s > 0)]
SecondsOrDefault = Annotated[
    float, _seconds("a duration such as 1m30s or 100ms", lambda s: s >= 0, zero_is_default=True)
]

Lifetime = Annotated[
    float,
    Kind(
        "DURATION",
        "a duration above 0 such as 30d or 12h",
        _only(parse_lifetime, lambda s: s > 0),
        lambda s: format_duration(s) if s else "",
    ),
]

# Retries ----------------------------------------------------------------------------------------------------


MAX_ATTEMPTS = 10
Attempts = Annotated[
    int, Kind("INT", f"a whole number from 1 to {MAX_ATTEMPTS}", _only(_integer, lambda n: 0 < n <= MAX_ATTEMPTS))
]


def _words(*choices: str, normal: Callable[[str], str] = str) -> Kind[str]:
    """A list of some of the `choices`."""
    return Kind("LIST", f"a list of {', '.join(choices)}", _only(normal, choices.__contains__), many=True, alone=True)


RetryCauses = Annotated[list[str], _words("lost", "timeout", "502", "503", "504")]
Methods = Annotated[
    list[str],
    _words("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", normal=str.upper),
]

# Addresses and URLs -----------------------------------------------------------------------------------------


def _url(expected: str, accept: Callable[[str], object] = str.isprintable) -> Kind[str]:
    return Kind("URL", expected, _only(str, accept), userinfo=True)


_listenable = _only(str, split_address)
BindAddr = Annotated[str, Kind("HOST:PORT", "host:port or :port, the port from 0 to 65535", _listenable)]
BindAddrOrNone = Annotated[
    str, Kind("HOST:PORT", "host:port or :port, or nothing", _only(str, lambda text: not text or split_address(text)))
]


def _local_address(text: str) -> str:
    host, port = split_address(f":{text}" if text.isdecimal() else text)
    if host not in ("", "localhost", "::1") and not host.startswith("127."):
        raise ValueError("an address that others reach")
    return f"{f'[{host}]' if ':' in host else host or '127.0.0.1'}:{port}"


LocalAddrOrNone = Annotated[
    str,
    Kind(
        "HOST:PORT",
        "a port from 0 to 65535, or host:port with localhost, 127.0.0.1 or [::1]",
        lambda text: text and _local_address(text),
    ),
]
_path_secret = re.compile(r"[\w-]{16,}|", re.ASCII).fullmatch
PathSecret = Annotated[str, Kind("SECRET", "16 or more letters, digits, - or _", _only(str, _path_secret), secret=True)]
_reachable = _only(str, lambda text: not text or split_address(text)[0])
Address = Annotated[str, Kind("HOST:PORT", "host:port", _reachable)]
_member = re.compile(r"[^\s/@]+").fullmatch
Members = Annotated[list[str], Kind("LIST", "a list of host or host:port", _only(str, _member), many=True)]
_node_url = _url("a URL such as https://host or http://host:port, port from 1 to 65535", split_url)
URL = Annotated[str, _node_url]
BenchURL = Annotated[str, msgspec.structs.replace(_node_url, variable=False)]
KeySetURL = Annotated[
    str,
    _url(
        "an https://, http:// or file:/// URL",
        lambda text: not text or text.startswith("file:///") or split_url(text, ("http", "https")),
    ),
]
StoreURL = Annotated[
    str,
    _url(
        "redis://HOST:PORT/DATABASE, rediss://HOST:PORT (TLS) or redis+sentinel://HOST:PORT,HOST:PORT/SERVICE",
        lambda text: not text or split_store(text),
    ),
]


def _collector_url(text: str) -> object:
    # Credentials belong into a header: a URL is logged.
    return not text or (split_url(text, ("http", "https")) and not re.search("[@?#]", text))


CollectorURL = Annotated[
    str,
    _url("an http:// or https:// URL without user and query; secrets go into headers", _collector_url),
]


def _public_url(text: str) -> object:
    from engine.wire.public_url import PublicURL as Parts

    return not text or Parts.parse(text)


PublicURL = Annotated[
    str, _url("a URL without a path, such as https://tunnel.example.com or https://*.example.com", _public_url)
]


def _origin(text: str) -> str:
    from engine.wire.origin import origin

    return origin(text)


def _network(text: str) -> str:
    from ipaddress import ip_network  # which only a node needs

    return str(ip_network(text))


Networks = Annotated[
    list[str],
    Kind("LIST", "a list of networks such as 10.0.0.0/8, and of addresses", _network, many=True, alone=True),
]
Origins = Annotated[
    list[str], Kind("LIST", "a list of https://host or http://host:port, or *", _origin, many=True, alone=True)
]
Service = Annotated[str, _url("a port, host:port or URL")]
_target = re.compile(r"/[!-~]*", re.ASCII).fullmatch
_prefix = re.compile(r"(?:/[!-.0-9-=>@-~]+)+|", re.ASCII).fullmatch
PathPrefix = Annotated[str, Kind("PATH", "a path such as /shop, without / at its end", _only(str, _prefix))]
_host_and_port = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?|", re.ASCII).fullmatch
HostAndPort = Annotated[str, Kind("HOST", "a host, or host:port", _only(str, _host_and_port))]
Target = Annotated[str, Kind("PATH", "a path that begins with /, without blanks", _only(str, _target))]


def _named_service(text: str) -> tuple[str, str, str]:
    name, _, addr = text.partition("=")
    tcp = addr.startswith("tcp://")
    addr = addr.removeprefix("tcp://").removesuffix("/")
    if not _segment(name) or "$" in text:
        raise ValueError("no name of an endpoint")
    if "://" in addr:
        split_url(addr, ("http", "https"))
    elif not split_address(f":{addr}" if addr.isdecimal() else addr)[1]:
        raise ValueError("nothing listens on port 0")
    return name, addr, "tcp" if tcp else "http"


# The name of an endpoint, the address of its service, and the protocol.
NamedService = Annotated[
    tuple[str, str, str],
    Kind(
        "NAME=ADDR",
        "NAME=PORT, NAME=HOST:PORT or NAME=http(s)://HOST; for TCP NAME=tcp://HOST:PORT",
        _named_service,
        lambda service: f"{service[0]}={'tcp://' if service[2] == 'tcp' else ''}{service[1]}",
    ),
]


def _application(text: str) -> bool:
    module, _, attribute = text.partition(":")
    return not text or all(part.isidentifier() for name in (module, attribute) for part in name.split("."))


ApplicationName = Annotated[str, Kind("MODULE:APP", "module:attribute such as shop:app", _only(str, _application))]


def _key_of_endpoint(text: str) -> str:
    """ENDPOINT, or TENANT/ENDPOINT where there are tenants."""
    if not _segment(text.rpartition("/")[2]) or text.startswith("/"):
        raise ValueError("no name of an endpoint")
    return text


def _port_of_endpoint(text: str) -> tuple[str, str]:
    where, _, endpoint = text.partition("=")
    split_address(f":{where}" if where.isdecimal() else where)
    return where, _key_of_endpoint(endpoint)


PortsOfEndpoints = Annotated[
    list[tuple[str, str]],
    Kind(
        "PORT=ENDPOINT",
        "a port from 0 to 65535, or host:port, and an endpoint: 5432=database, or in a file {5432: database}",
        _port_of_endpoint,
        many=True,
        pairs=True,
    ),
]


def _domain_of_endpoint(text: str) -> tuple[str, str]:
    where, _, endpoint = text.partition("=")
    return _domain(where), _key_of_endpoint(endpoint)


def _domain(text: str) -> str:
    from engine.wire.domains import is_domain

    wildcard, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    domain = f"{wildcard}{_host(name)}"
    if not is_domain(domain):
        raise ValueError("no domain")
    return domain


Domains = Annotated[
    list[str], Kind("LIST", "a list of domains such as shop.example.com", _domain, many=True, alone=True)
]
DomainsOfEndpoints = Annotated[
    list[tuple[str, str]],
    Kind(
        "DOMAIN=ENDPOINT",
        "a domain and an endpoint: shop.example.com=shop, or in a file {shop.example.com: shop}; *. for any label",
        _domain_of_endpoint,
        many=True,
        pairs=True,
    ),
]


def _sticky_of_endpoint(text: str) -> tuple[str, str]:
    name, _, by = text.rpartition("=")
    if not name or not name.isprintable() or by not in ("cookie", "client"):
        raise ValueError("no rule")
    return name, by


StickyOfEndpoints = Annotated[
    list[tuple[str, str]],
    Kind(
        "ENDPOINT=HOW",
        "an endpoint or a pattern, and cookie or client: shop=cookie, or in a file {shop: cookie}",
        _sticky_of_endpoint,
        many=True,
        pairs=True,
    ),
]


_of_pages = re.compile(r"([45](?:\d\d|xx))=(.+)").fullmatch


def _page(text: str) -> tuple[str, str]:
    found = _of_pages(text)
    if not found or not text.isprintable():
        raise ValueError("no status and file")
    return found[1], found[2]


ErrorPages = Annotated[
    list[tuple[str, str]],
    Kind(
        "STATUS=FILE",
        "a status from 400 to 599, or 4xx or 5xx, and a file: 502=/srv/502.html, or in a file {502: /srv/502.html}",
        _page,
        many=True,
        pairs=True,
    ),
]


def _host_pattern(text: str) -> object:
    from engine.routing.tenants import HostPattern as Pattern

    return Pattern(text) if text else True


HostPattern = Annotated[
    str,
    Kind("TEXT", "a host name with two places, as {endpoint}.{tenant}.example.com", _only(str, _host_pattern)),
]

# The way out ------------------------------------------------------------------------------------------------


# Without a variable: it would be that of proxy.url, which means the same.
Route = Annotated[str, Kind("URL", "the URL of a proxy", _only(str, str.isprintable), userinfo=True, variable=False)]
ProxyOrNone = Annotated[
    str, Kind("URL", "the URL of a proxy, with its port", _only(str, str.isprintable), userinfo=True)
]
_routes = _only(str.strip, lambda text: text and text.isprintable())
Routes = Annotated[
    list[str], Kind("LIST", "the URL of a proxy, or a list of them", _routes, many=True, alone=True, userinfo=True)
]
Exceptions = Annotated[
    list[str], Kind("LIST", "a list of hosts, domains and networks", _only(str, str.isprintable), many=True, alone=True)
]


def _host(name: str) -> str:
    from proxy_adapters.url import normal_host

    return normal_host(name)


HostNames = Annotated[list[str], Kind("LIST", "a list of host names", _only(str, lambda name: _host(name)), many=True)]
# Of a certificate. In other names of hosts there may be more than DNS allows.
_names = re.compile(
    r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|[0-9a-f]*:[0-9a-f:.]+"
).fullmatch
SubjectNames = Annotated[
    list[str],
    Kind("LIST", "a list of host names and IP addresses", _only(_host, _names), many=True),
]
Location = Annotated[str, _url("a URL or the name of a file")]
OnRefusal = Annotated[Literal["stop", "next"], _one_of("stop", "next")]
ProxyProtocol = Annotated[Literal["off", "1", "2"], _one_of("off", "1", "2")]
TLSVersion = Annotated[Literal["1.2", "1.3"], _one_of("1.2", "1.3")]


def _scheme_names() -> tuple[str, ...]:
    from proxy_adapters.auth.login import ORDER

    return ORDER


CARRIERS = ("websocket", "stream", "poll")
Carriers = Annotated[
    list[str], Kind("LIST", "a list of websocket, stream, poll", _only(str.lower, CARRIERS.__contains__), many=True)
]

_scheme = _only(str.lower, lambda name: name in _scheme_names())
Schemes = Annotated[
    list[str],
    Kind(
        "LIST",
        "a list of command, negotiate, digest-sha-256, ntlm, negotiate-ntlm, bearer, digest-md5, basic",
        _scheme,
        many=True,
    ),
]
_sha256 = re.compile(r"(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}|", re.ASCII | re.IGNORECASE).fullmatch
Pin = Annotated[str, Kind("SHA256", "a SHA-256 in hexadecimal", _only(str, _sha256))]


def split_command(text: str) -> list[str]:
    """The words of a command, by the rules of a shell's quotes. Raises ValueError."""
    import shlex

    if not text.isprintable():
        raise ValueError("control characters in a command")
    return shlex.split(text)


_command = _only(str, lambda text: not text or split_command(text))
Command = Annotated[str, Kind("COMMAND", "a command, quoted as in a shell", _command)]


def split_header(line: str) -> tuple[str, str]:
    """Name and value of a header field. Raises ValueError."""
    from proxy_adapters.http_connect import check_field

    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError("no colon behind the name")
    check_field(name, value.strip())
    return name, value.strip()


Headers = Annotated[
    list[str],
    Kind(
        "LIST",
        "a list of `Name: value`",
        _only(str, lambda line: split_header(line)),
        many=True,
        secret=True,  # what has to be said to a proxy may be a key
    ),
]
