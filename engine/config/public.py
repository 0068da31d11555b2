"""What a node needs on the public Internet, gone through point by point: `trioduct server config check --public`.

SECURITY.md has the points in the same order, with their reasons. A point is about a key; its text says what was found,
and what to set where that is not enough. Nothing is asked of the network, and no secret is in a text.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Iterator
from enum import Enum
from typing import Final

import msgspec

from engine.config.address import is_loopback, split_address, split_store
from engine.config.auth import AuthConfig
from engine.config.draft import Draft
from engine.config.knob import Leaf, ListOf, MapOf, Section, members
from engine.config.mask import mask_userinfo
from engine.config.server import ServerConfig
from engine.config.tls import ServerTLS
from engine.loop.certificates import ends_in, first_end, next_end

DAYS: Final = 14  # a certificate that ends sooner should have been renewed
STRONG_BITS: Final = 96  # of chance in the letters of a secret; 32 hexadecimal digits have a little more
WIDEST: Final = {4: 8, 6: 32}  # the shortest prefix of a network of proxies that one operator may have, by IP version


class State(Enum):
    OK = "ok"
    RISKY = "risky"  # may be meant so
    MISSING = "missing"  # a must


class Point(msgspec.Struct, frozen=True):
    key: str
    state: State
    text: str


def checklist(draft: Draft[ServerConfig], path: str) -> list[Point]:
    """The points of a configuration that is finished; `path` is the file that it was read from, if there is one."""
    config = draft.config
    return [
        *_tls(config),
        *_certificates(config),
        _verification(config),
        _agents(config),
        _clients(config),
        _tenants(config),
        _revocation(config),
        _key_sets(config),
        _admin(config),
        _trusted(config),
        _origins(config),
        _public_url(config),
        _open_ports(config),
        *_limits(config),
        _clocks(config),
        *_cluster(config),
        _strength(config),
        _places(draft, path),
        _key_files(config),
        _logs(config),
        _traces(config),
    ]


def as_text(points: list[Point]) -> str:
    """A line for each point, and one for all of them."""
    width = max(len(point.key) for point in points)
    lines = [f"{point.state.value:<8} {point.key:<{width}}  {point.text}" for point in points]
    count = {state: sum(point.state is state for point in points) for state in State}
    lines.append(", ".join(f"{number} {state.value}" for state, number in count.items()))
    return "\n".join(lines)


# Who reads along ----------------------------------------------------------------------------------------------


def _ports(config: ServerConfig) -> Iterator[tuple[str, str, ServerTLS]]:
    """Name, address and TLS of each port that speaks HTTP."""
    for name in ("proxy", "upstream", "admin", "cluster"):
        section = getattr(config, name)
        if section.bind_addr:
            yield name, section.bind_addr, section.tls


def _here_alone(address: str) -> bool:
    return is_loopback(split_address(address)[0])


def _tls(config: ServerConfig) -> Iterator[Point]:
    proxy = config.proxy
    for name, address, tls in _ports(config):
        key = f"{name}.tls"
        if tls.pairs:
            yield Point(key, State.OK, "TLS")
        elif _here_alone(address):
            yield Point(key, State.OK, f"{address} is reached by this machine alone")
        elif name == "proxy" and proxy.public_url.startswith("https:") and proxy.trusted_proxies:
            yield Point(key, State.OK, f"something in front has the TLS of {proxy.public_url}")
        else:
            front = "; or, with TLS in front, proxy.public_url (https) and proxy.trusted_proxies"
            told = f"{address} is in clear text, tokens included; set {key}.cert and {key}.key"
            yield Point(key, State.MISSING, told + (front if name == "proxy" else ""))


def _certificates(config: ServerConfig) -> Iterator[Point]:
    now = time.time()
    for name, _, tls in _ports(config):
        ends = [(f"{name}.tls.cert", file, first_end(ends_in(file))) for file in tls.chains]
        if tls.client_cas:
            ends.append((f"{name}.tls.client_cas", tls.client_cas, next_end(ends_in(tls.client_cas), now)))
        for key, file, end in ends:
            days = (end - now) / 86400
            if days < 0:
                yield Point(key, State.MISSING, f"{file} has expired; renew it")
            elif days < DAYS:
                yield Point(key, State.RISKY, f"{file} expires in {days:.0f} days; renew it, a node reads it anew")
            else:
                yield Point(key, State.OK, f"{file} is valid for {days:.0f} days")


def _verification(config: ServerConfig) -> Point:
    clients = {
        "cluster.store_tls": config.cluster.store_tls,
        **{f"{name}.tls.client": tls.client for name, _, tls in _ports(config)},
    }
    if blind := [key for key, tls in clients.items() if tls.insecure_skip_verify]:
        told = f"{', '.join(blind)}: anybody on the way can answer in the other end's place; set root_cas instead"
        return Point("insecure_skip_verify", State.MISSING, told)
    return Point("insecure_skip_verify", State.OK, "the certificates of others are verified")


# Who may ------------------------------------------------------------------------------------------------------


def _agents(config: ServerConfig) -> Point:
    upstream = config.upstream
    if upstream.tenants:
        return Point("upstream.auth", State.OK, "agents need a token of their tenant")
    if upstream.auth.enabled:
        return Point("upstream.auth", State.OK, "agents need a token")
    if upstream.tls.client_cas:
        return Point("upstream.auth", State.OK, f"agents need a certificate of {upstream.tls.client_cas}")
    told = "anybody may register any endpoint; set upstream.auth.hmac_secret_key_file, see `trioduct token --help`"
    return Point("upstream.auth", State.MISSING, told)


def _clients_show_tokens(config: ServerConfig) -> bool:
    return config.proxy.auth.enabled or bool(config.proxy.tenants)


def _clients(config: ServerConfig) -> Point:
    proxy = config.proxy
    if _clients_show_tokens(config):
        return Point("proxy.auth", State.OK, "clients need a token")
    if proxy.tls.client_cas:
        return Point("proxy.auth", State.OK, f"clients need a certificate of {proxy.tls.client_cas}")
    told = "anybody may ask every endpoint, so each service has to ask who calls; or set a key of proxy.auth"
    return Point("proxy.auth", State.RISKY, told)


def _tenants(config: ServerConfig) -> Point:
    tenants = config.upstream.tenants
    if not tenants:
        return Point("upstream.tenants", State.OK, "none: whoever has a token of the port is one customer")
    if not _clients_show_tokens(config):
        told = f"{len(tenants)}, and a client may name each of them; set a key of proxy.auth, whose tokens name one"
        return Point("upstream.tenants", State.RISKY, told)
    return Point("upstream.tenants", State.OK, f"{len(tenants)}, each with keys of its own")


def _auths(config: ServerConfig) -> Iterator[tuple[str, AuthConfig]]:
    for name in ("proxy", "upstream", "admin"):
        yield f"{name}.auth", getattr(config, name).auth
    for name, tenants in (("proxy", config.proxy.tenants), ("upstream", config.upstream.tenants)):
        for index, tenant in enumerate(tenants):
            yield f"{name}.tenants[{index}].auth", tenant.auth


def _revocation(config: ServerConfig) -> Point:
    asking = [(key, auth) for key, auth in _auths(config) if auth.enabled]
    without = [key for key, auth in asking if not auth.revoked_file]
    if without:
        told = f"no token of {', '.join(without)} can be taken back before it expires; set revoked_file there"
        return Point("auth.revoked_file", State.RISKY, told)
    return Point("auth.revoked_file", State.OK, "each token can be taken back" if asking else "no port takes tokens")


def _key_sets(config: ServerConfig) -> Point:
    clear = [key for key, auth in _auths(config) if auth.jwks.endpoint.lower().startswith("http:")]
    if clear:
        told = f"the key set of {', '.join(clear)} comes over plain http: anybody on the way can put keys into it"
        return Point("auth.jwks.endpoint", State.MISSING, f"{told}; set an https or file URL")
    return Point("auth.jwks.endpoint", State.OK, "no key comes over plain http")


def _admin(config: ServerConfig) -> Point:
    admin = config.admin
    if _here_alone(admin.bind_addr):
        return Point("admin.bind_addr", State.OK, f"{admin.bind_addr} is reached by this machine alone")
    if admin.asks:
        return Point("admin.bind_addr", State.OK, f"{admin.bind_addr} wants a token or a certificate")
    told = f"{admin.bind_addr} tells everybody which endpoints there are; set 127.0.0.1:8002, or a key of admin.auth"
    return Point("admin.bind_addr", State.MISSING, told)


# What is believed ---------------------------------------------------------------------------------------------


def _trusted(config: ServerConfig) -> Point:
    from ipaddress import ip_network

    networks = [ip_network(one) for one in config.proxy.trusted_proxies]
    if everybody := [str(one) for one in networks if one.prefixlen == 0]:
        told = f"{', '.join(everybody)}: everybody says who calls, and no limit holds; set the proxies in front alone"
        return Point("proxy.trusted_proxies", State.MISSING, told)
    if wide := [str(one) for one in networks if one.prefixlen < WIDEST[one.version]]:
        told = f"{', '.join(wide)}: more than the proxies in front of one node; set those alone"
        return Point("proxy.trusted_proxies", State.RISKY, told)
    named = ", ".join(config.proxy.trusted_proxies)
    return Point("proxy.trusted_proxies", State.OK, named or "none: nobody's word counts for who a client is")


def _origins(config: ServerConfig) -> Point:
    origins = config.proxy.allowed_origins
    if "*" in origins:
        told = "each web page may open each TCP endpoint from the browsers of its visitors; set the pages by name"
        return Point("proxy.allowed_origins", State.RISKY, told)
    return Point("proxy.allowed_origins", State.OK, ", ".join(origins) or "none: no web page opens TCP endpoints")


def _public_url(config: ServerConfig) -> Point:
    url = config.proxy.public_url
    if not url:
        told = "agents cannot say where their services are reached; set https://*.HOST"
        return Point("proxy.public_url", State.RISKY, told)
    if not url.startswith("https:"):
        return Point(
            "proxy.public_url", State.RISKY, f"{url}: services send links and cookies in clear text; set https"
        )
    return Point("proxy.public_url", State.OK, url)


def _open_ports(config: ServerConfig) -> Point:
    ports = [f"{where}={endpoint}" for where, endpoint in config.proxy.tcp_ports() if not _here_alone(where)]
    if ports:
        told = f"{', '.join(ports)}: anybody may connect, so the service has to ask who calls"
        return Point("proxy.tcp", State.RISKY, f"{told}; or use `trioduct forward`, which has a token")
    return Point("proxy.tcp", State.OK, "no TCP port is open to others")


# How much -----------------------------------------------------------------------------------------------------


def _limits(config: ServerConfig) -> Iterator[Point]:
    for name, section in (("proxy", config.proxy.limits), ("upstream", config.upstream.limits)):
        values = {limit: getattr(section, limit) for limit in members(type(section))}
        # How many requests a service bears is not known here.
        needed = [limit for limit, value in values.items() if not value and not limit.endswith(("requests", "bytes"))]
        key = f"{name}.limits"
        if needed:
            told = f"{', '.join(needed)}: one stranger may take all; set a number"
            yield Point(key, State.MISSING, told)
        else:
            yield Point(key, State.OK, ", ".join(f"{limit} {value or 'unlimited'}" for limit, value in values.items()))


def _clocks(config: ServerConfig) -> Point:
    http = config.proxy.http
    # Zero is as the node takes it.
    lasting = {
        "read_timeout": http.read_timeout,
        "read_header_timeout": http.read_header_timeout or http.read_timeout,
        "write_timeout": http.write_timeout,
        "idle_timeout": http.idle_timeout or http.read_timeout,
    }
    endless = [name for name, seconds in lasting.items() if seconds in (0, math.inf)]
    if endless:
        told = f"{', '.join(endless)}: without an end, slow clients stay for ever; set a time"
        return Point("proxy.http", State.MISSING, told)
    return Point("proxy.http", State.OK, "slow and idle clients are closed")


# Other nodes --------------------------------------------------------------------------------------------------


def _cluster(config: ServerConfig) -> Iterator[Point]:
    from ipaddress import ip_network

    cluster = config.cluster
    if not cluster.store:
        yield Point("cluster.store", State.OK, "none: the node is alone")
        return
    place, store = split_store(cluster.store), mask_userinfo(cluster.store)
    if not (place.tls or all(is_loopback(host) for host, _ in place.hosts)):
        told = f"{store}: what nodes tell one another is signed, but not encrypted on its way; set rediss://"
        yield Point("cluster.store", State.RISKY, told)
    elif not (place.password or cluster.store_password_file or cluster.store_tls.cert):
        told = f"{store}: whoever reaches it may empty it; give it a password, and set cluster.store_password_file"
        yield Point("cluster.store", State.RISKY, told)
    else:
        yield Point("cluster.store", State.OK, store)
    everywhere = [one for one in cluster.allowed_networks if ip_network(one).prefixlen == 0]
    if everywhere:
        told = f"{', '.join(everywhere)}: a node is dialled wherever the store says; set the network of the nodes"
        yield Point("cluster.allowed_networks", State.RISKY, told)
    else:
        yield Point("cluster.allowed_networks", State.OK, "nodes are dialled there alone")


# Secrets ------------------------------------------------------------------------------------------------------


def _strength(config: ServerConfig) -> Point:
    """Their length is a condition of the start; what a person has made up is not seen by that."""
    secrets = [(key, auth.keys()["hmac_secret_key"]) for key, auth in _auths(config)]
    secrets.append(("cluster.secret", config.cluster.read_secret()))
    weak = [key for key, secret in secrets if secret and _bits(secret) < STRONG_BITS]
    if weak:
        told = f"what {', '.join(weak)} has looks made up; set what `openssl rand -hex 32` prints"
        return Point("secrets", State.RISKY, told)
    return Point("secrets", State.OK, "each looks random" if any(secret for _, secret in secrets) else "none")


def _bits(secret: str) -> float:
    """How much chance there may be in a text at most: by its length, its letters, and how often each comes.

    What has words in it is judged by less: a letter of a language is worth a bit or so (Shannon, 1951).
    """
    count = {letter: secret.count(letter) for letter in set(secret)}
    bits = -sum(number * math.log2(number / len(secret)) for number in count.values())
    return bits / 3 if " " in secret or any(word in secret.lower() for word in _WORDS) else bits


_WORDS: Final = ("secret", "passw", "change", "example", "token", "admin", "trioduct", "12345", "abcde", "qwert")


def _places(draft: Draft[ServerConfig], path: str) -> Point:
    said = [(key, draft.origin(key)) for key in _secret_keys(draft.config)]
    if shown := [origin for _, origin in said if origin.startswith("--")]:
        told = f"{', '.join(shown)}: each user of this machine can read a command line; set a file"
        return Point("secrets in files", State.MISSING, told)
    if path and _others_read(path) and any(origin.startswith(f"{path}:") for _, origin in said):
        told = f"others may read {path}, which has {', '.join(key for key, _ in said)}: chmod 600 {path}"
        return Point("secrets in files", State.MISSING, told)
    return Point("secrets in files", State.OK, "their owner alone reads them")


def _secret_keys(section: Section, prefix: str = "") -> Iterator[str]:
    """The keys of a configuration that have a secret as their value, or in it."""
    for name, member in members(type(section)).items():
        value, key = getattr(section, name), prefix + name
        if isinstance(member, Leaf):
            holds = bool(value) if member.kind.secret else member.kind.userinfo and mask_userinfo(value) != value
            if holds:
                yield key
        elif isinstance(member, ListOf):
            for index, item in enumerate(value):
                yield from _secret_keys(item, f"{key}[{index}].")
        elif isinstance(member, MapOf):
            for chosen, item in value.items():
                yield from _secret_keys(item, f"{key}.{chosen}.")
        else:
            yield from _secret_keys(value, f"{key}.")


def _key_files(config: ServerConfig) -> Point:
    """Files of secrets that others may read are refused at the start; private keys are not."""
    keys = dict.fromkeys(pair.key for _, _, tls in _ports(config) for pair in tls.pairs)
    if open_ones := [path for path in keys if _others_read(path)]:
        told = f"others may read {', '.join(open_ones)}: chmod 600 {' '.join(open_ones)}"
        return Point("tls.key", State.MISSING, told)
    return Point("tls.key", State.OK, "their owner alone reads them" if keys else "none")


def _others_read(path: str) -> bool:
    """A credential of systemd looks as if a group could read it, and none can."""
    from proxy_adapters.secret import is_credential

    return not is_credential(path) and bool(os.stat(path).st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _logs(config: ServerConfig) -> Point:
    if config.log.level == "debug" or config.log.subsystems:
        told = "debug: no secrets, but paths, names and addresses of each client; set log.level: info for every day"
        return Point("log.level", State.RISKY, told)
    if config.proxy.access_log.disable:
        return Point("log.level", State.RISKY, "proxy.access_log is off: who has asked for what cannot be found out")
    return Point("log.level", State.OK, config.log.level)


def _traces(config: ServerConfig) -> Point:
    tracing = config.tracing
    if not tracing.url:
        return Point("tracing.url", State.OK, "no traces")
    if tracing.is_clear():
        with_secrets = bool(tracing.headers or tracing.headers_file)
        told = f"paths and addresses of clients{', and the headers,' * with_secrets} go to {tracing.url} in clear text"
        return Point("tracing.url", State.MISSING if with_secrets else State.RISKY, f"{told}; set an https URL")
    if not tracing.rate:
        told = "a stranger may have each request traced, which costs half of the throughput; set tracing.rate"
        return Point("tracing.url", State.RISKY, told)
    return Point("tracing.url", State.OK, f"{tracing.rate} traces per second at most")
