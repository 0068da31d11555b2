"""Fetch a page through whichever proxy leads there.

    python examples/way_out.py https://example.org/ http://proxy-a.example.com:3128 http://proxy-b.example.com:3128
    python examples/way_out.py https://example.org/ --pac http://wpad.example.com/proxy.pac --user alice

The password of --user is taken from PROXY_PASSWORD. Without proxies and PAC file, HTTPS_PROXY and NO_PROXY decide.
"""

from __future__ import annotations

import argparse
import sys
from urllib.parse import urlsplit

import trio

from proxy_adapters import PAC, Deadlines, Hop, Login, ProxyURL, Router, Secret, Seen, TunnelError, open_tunnel


def router_of(options: argparse.Namespace) -> Router:
    """Which proxies there are, and who we are to them. Raises ValueError for a URL that cannot be read."""
    default = None
    if options.user:
        # Strongest first. Basic, which shows the password to everybody on the way, is left out; squid and others that
        # take nothing else want "basic" here.
        schemes = ("negotiate", "digest-sha-256", "ntlm", "digest-md5", *(["basic"] if options.basic else []))
        login = Login(user=options.user, password=Secret.from_environment("PROXY_PASSWORD"), schemes=schemes)
        default = Hop(ProxyURL("http", "any", 1), login)  # what each hop gets; its URL does not count
    return Router(options.proxy, pac=PAC(options.pac) if options.pac else None, default=default)


def tell(seen: Seen) -> None:
    """One line for each leg of the way that has ended."""
    if seen.outcome != "begun":
        print(f"{seen.outcome:8}{seen.leg:15}{seen.hop} {seen.text}", file=sys.stderr)


async def fetch(url: str, router: Router) -> bytes:
    """The answer to GET, head and body. Raises TunnelError."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    tunnel = await open_tunnel(
        host,
        parts.port or (443 if secure else 80),
        route=router,
        scheme=parts.scheme,
        tls=secure,
        deadlines=Deadlines(tcp=5.0),  # seconds; the other legs keep their defaults
        watch=tell,
    )
    async with tunnel:
        await tunnel.send_all(f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        return b"".join([chunk async for chunk in tunnel])


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch a page through whichever proxy leads there.")
    parser.add_argument("url")
    parser.add_argument("proxy", nargs="*", help="of several the first that works; A -> B is a chain")
    parser.add_argument("--pac", default="", help="URL or file of a PAC file, in the place of proxies")
    parser.add_argument("--user", default="", help="for all proxies; its password is in PROXY_PASSWORD")
    parser.add_argument("--basic", action="store_true", help="show the password itself, if that is all a proxy takes")
    options = parser.parse_args()
    try:
        answer = trio.run(fetch, options.url, router_of(options))
    except TunnelError as error:
        print(f"{error.report()}\nagain later may help: {error.retryable}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
