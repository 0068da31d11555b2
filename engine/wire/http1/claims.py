"""What somebody in front says about a client, or about how it asked: X-Forwarded-For, Forwarded, X-Real-IP, their kin.

Anybody can send such a field. A service believes it, for it cannot know who wrote it: who may log in from where, whose
requests are counted, which path is asked for (X-Original-URL) hang on it. So a node passes on only what proxies that it
trusts have said, and says itself what it knows.
"""

from __future__ import annotations

from typing import Final

FOR: Final = b"x-forwarded-for"
HOST: Final = b"x-forwarded-host"
PROTO: Final = b"x-forwarded-proto"

# In lower case. RFC 7239 (Forwarded), RFC 9440 (Client-Cert), and what proxies, clouds and frameworks have made up.
NAMES: Final = frozenset(
    b"forwarded forwarded-for forwarded-host forwarded-proto x-forwarded"
    b" x-real-ip x-real-port true-client-ip client-ip x-client-ip x-client-port x-cluster-client-ip x-originating-ip"
    b" cf-connecting-ip cf-connecting-ipv6 cf-pseudo-ipv4 cf-visitor fastly-client-ip fly-client-ip"
    b" x-azure-clientip x-azure-socketip x-appengine-user-ip x-envoy-external-address x-proxyuser-ip wl-proxy-client-ip"
    b" x-original-url x-original-uri x-original-host x-original-method x-original-for x-original-forwarded-for"
    b" x-rewrite-url x-host x-scheme x-url-scheme x-proto front-end-https"
    b" client-cert client-cert-chain x-client-cert x-arr-clientcert x-arr-ssl".split()
)
PREFIXES: Final = (b"x-forwarded-", b"x-remote-", b"x-ssl-", b"ssl-client-")


def is_claim(name: bytes) -> bool:
    """Is the field with this name, in lower case, one of them?"""
    return name in NAMES or name.startswith(PREFIXES)
