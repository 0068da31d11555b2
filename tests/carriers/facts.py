"""What each middlebox does to HTTP: the table that test_beds proves and docs/middleboxes.md shows.

python -m tests.carriers.facts        prints the document's table
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
HELD = "held for more than 75 s"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """`upgrade`: the status that a client gets for an Upgrade which the node would answer with 101, or without it
    with 426.

    `down`, `up`: how many bytes of a body without a length a box keeps back (0: each part passes as it comes; None:
    all until the end). `early`: whether an answer passes while its request is still being sent. `longest`: the longest
    body of a request, if there is a limit. `reuse`: whether a client's connection serves a second request.
    `unanswered`: what becomes of a request that is not answered, by the settings here. `notes`: what else a carrier
    has to know. `carrier`: by which an agent and a forward come up there, which `test_through` proves.
    """

    box: str
    settings: str
    upgrade: int
    down: int | None = 0
    up: int | None = 0
    early: bool = True
    longest: int | None = None
    reuse: bool = True
    unanswered: str = "not tried"
    carrier: str = "stream"
    notes: str = ""


FACTS: dict[str, Facts] = {
    "squid_bumping": Facts(
        box="squid-openssl 5.7, forward proxy that inspects TLS",
        settings="`ssl_bump bump all`",
        upgrade=426,
        unanswered=HELD,
        notes="read_timeout is 15 minutes; the end of a client is told to the node at once",
    ),
    "squid_bumping_lifetime": Facts(
        box="the same with `client_lifetime`",
        settings="`client_lifetime 4 seconds`",
        upgrade=426,
        notes="ends a connection up to a second before 4 s from its request's head, with FIN, however busy it is",
    ),
    "haproxy_denying": Facts(
        carrier="poll",
        box="HAProxy 2.6",
        settings="`http-request deny deny_status 403 if { req.hdr(Upgrade) -m found }`, timeouts of 60 s",
        upgrade=403,
        unanswered="504 after 60 s",
        notes="each part of a body in chunks or with a length comes 200 ms late, both ways, until the body ends "
        "(not with `option http-no-delay`); an answer that ends with its connection is not delayed; "
        "the node does not hear that a client has gone",
    ),
    "nginx_buffering": Facts(
        carrier="poll",
        box="nginx 1.22 as it comes, no lines for Upgrade",
        settings="`proxy_buffering on; proxy_request_buffering on; proxy_ignore_headers X-Accel-Buffering`",
        upgrade=426,
        down=4096,
        up=None,
        early=False,
        longest=MIB,
        unanswered="504 after 60 s",
        notes="speaks HTTP/1.0 with the node, a new connection for each request; a body of 1 MiB + 1 gets 413; "
        "ends a client's connection at its 1000th request, and says so",
    ),
    "nginx_streaming": Facts(
        box="nginx 1.22, buffering off",
        settings="`proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off; client_max_body_size 0`",
        upgrade=426,
        unanswered="504 after 60 s",
        notes="a new connection to the node for each request; ends a client's at its 1000th request, and says so",
    ),
    "nginx_streaming_1m": Facts(
        box="the same with its default limit",
        settings="no `client_max_body_size`",
        upgrade=426,
        longest=MIB,
        unanswered="504 after 60 s",
        notes="a body in chunks that grows beyond 1 MiB gets 413 as well",
    ),
    "apache": Facts(
        carrier="poll",
        box="Apache 2.4 mod_proxy",
        settings="`ProxyPass / http://node/`",
        upgrade=426,
        up=16384,
        early=False,
        unanswered="502 after 60 s",
        notes="a request that is silent for 60 s gets 408; a connection without a request is closed after 5 s, and "
        "after 101 requests, which it says; the node does not hear that a client has gone",
    ),
    "varnish": Facts(
        box="Varnish 7.1",
        settings="`-b node`, the built-in policy",
        upgrade=426,
        early=False,
        unanswered="503 after 60 s",
        notes="a request's body that is silent for 5 s gets 503; a connection without a request is closed after 5 s; "
        "bodies with a length come after about 1 KiB, and as they come from then on; the node does not hear that a "
        "client has gone",
    ),
    "tinyproxy_reverse": Facts(
        box="tinyproxy 1.11, reverse",
        settings='`ReversePath "/" "http://node/"`, `Timeout 600`',
        upgrade=426,
        early=False,
        reuse=False,
        unanswered=HELD,
        notes="closes every connection after one answer, and does not say so before; the node does not hear that a "
        "client has gone",
    ),
    "squid_lifetime": Facts(
        carrier="websocket",
        box="squid 5.7, forward proxy",
        settings="`client_lifetime 4 seconds`",
        upgrade=101,
        notes="client_lifetime does not end CONNECT tunnels, at least not for 20 s",
    ),
    "mute": Facts(
        box="a box of our own",
        settings="passes 101, and nothing behind it",
        upgrade=101,
        notes="other requests pass as they are",
    ),
}


def table() -> str:
    """Markdown."""
    columns = (
        "box",
        "set up with",
        "Upgrade",
        "a stream down",
        "a stream up",
        "an answer before the end of its request",
        "longest body",
        "unanswered",
        "note",
        "carrier",
    )
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for facts in FACTS.values():
        cells = [
            facts.box,
            facts.settings,
            "passes" if facts.upgrade == 101 else "removed" if facts.upgrade == 426 else f"{facts.upgrade}",
            stream(facts.down),
            stream(facts.up),
            "passes" if facts.early else "waits",
            "no limit found" if facts.longest is None else f"{facts.longest >> 20} MiB",
            facts.unanswered,
            facts.notes,
            f"`{facts.carrier}`",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def stream(kept: int | None) -> str:
    if kept is None:
        return "kept until its end"
    return f"{kept >> 10} KiB kept" if kept else "yes"


if __name__ == "__main__":
    print(table(), end="")
