"""What a request's head asks for: an endpoint, with which credentials, and how it goes on to the agent."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote_to_bytes

from engine.gateway.head import head_for_go, request_head
from engine.node.trust import Trust
from engine.routing import tenants
from engine.routing.domains import Domains
from engine.routing.tenants import HostPattern
from engine.tracing.tracer import Trace
from engine.wire import clients, http1, piko
from engine.wire.http1 import Request, claims
from engine.wire.http1.summary import with_summary
from engine.wire.trace_context import replaced

_ONE_SPELLING: Final = bytes.maketrans(b"+/\t\"',;", b"-_     ")  # of base64, and of what stands around it


class Asked:
    """What a request's head asks for, and how it goes on: the same for every request with this head and connection."""

    __slots__ = (
        "_with_summary",
        "client",
        "credentials",
        "defect",
        "domains_then",
        "endpoint",
        "head",
        "is_tcp",
        "key",
        "own_credentials",
        "request",
        "tenants",
    )

    def __init__(
        self,
        request: Request,
        peer: str,
        proto: bytes,
        *,
        takes_tokens: bool,
        trust: Trust | None = None,
        hosts: HostPattern | None = None,
        domains: Domains | None = None,
    ) -> None:
        """`peer` is the address that the request comes from, `proto` http or https, whether by TLS; `takes_tokens`:
        an Authorization field is the node's to look at. With `trust`, the peer is a proxy whose word counts for who
        the client is; what others say of that is dropped (see wire.http1.claims). `hosts` are those that name a
        tenant; None where there are no tenants. `domains` are those that endpoints have, which come before the first
        label of the Host, but behind x-piko-endpoint; `domains_then`: how many changes of theirs there had been.

        `key` is the endpoint's in the tenant that the request names; that of its token is not looked at here. `defect`
        says why the request cannot be meant; empty if it can.
        """
        self.request = request
        self.client = peer
        self.credentials: list[bytes] = []
        self.own_credentials: list[bytes] = []
        self.tenants: list[bytes] = []
        tcp_endpoint = piko.endpoint_of_tcp_path(request.target) if request.method == b"GET" else None
        self.is_tcp = tcp_endpoint is not None
        named: bytes | None = None
        self.defect = ""
        lines = as_they_came = request.lines
        forwarded_for: list[bytes] = []
        host_told = proto_told = False  # by a proxy that is believed
        for name, value, line in request.for_node:
            if name == b"authorization":
                self.credentials.append(value)
                if not takes_tokens:
                    continue
            elif name == piko.ENDPOINT:
                if named is not None and named != value:
                    self.defect = "x-piko-endpoint names two endpoints"
                named = value
            elif name == piko.AUTHORIZATION:
                self.own_credentials.append(value)
            elif name == piko.TENANT_ID:
                self.tenants.append(value)
            elif trust is not None and name in trust.fields:
                if name == claims.FOR:
                    forwarded_for.append(value)
                else:
                    host_told = host_told or name == claims.HOST
                    proto_told = proto_told or name == claims.PROTO
                    continue
            if lines is as_they_came:
                lines = lines.copy()
            lines.remove(line)
        self.endpoint = tcp_endpoint or (named or b"").decode("utf-8", "replace")
        self.domains_then = 0 if domains is None else domains.changes
        mapped = domains.find(request.host) if domains and not self.is_tcp else None
        by_host = hosts.parse(request.host) if hosts is not None else None
        if mapped is not None:
            by_host = tenants.split(mapped)
        if by_host is not None:
            self.tenants.append(by_host[1].encode())
        if not self.endpoint:
            self.endpoint = by_host[0] if by_host is not None else piko.endpoint_of_host(request.host)
        self.key = tenants.key(self.endpoint)
        if hosts is not None and self.tenants:
            try:
                self.key = tenants.key(self.endpoint, tenants.the_one(self.tenants))
            except ValueError as error:
                self.defect = str(error)
        added: list[bytes] = []
        if takes_tokens and any(self.own_credentials):
            # The service's own credentials, which were not ours to look at; but not ours once more.
            own = set().union(*map(_tokens, self.own_credentials))
            added += [b"Authorization: " + value for value in self.credentials if own.isdisjoint(_tokens(value))]
        address = peer.encode()
        if forwarded_for and trust is not None:
            self.client = trust.client(peer, forwarded_for)
            address = b", ".join([*forwarded_for, address])
        added.append(b"X-Forwarded-For: " + address)
        if request.host:
            if not host_told:
                added.append(b"X-Forwarded-Host: " + request.host)
        else:  # HTTP/1.0 can do without; 1.1, in which the request goes on, cannot (RFC 9112, 3.2)
            added.append(b"Host: " + quote(self.endpoint, safe="").encode())
        if not proto_told:
            added.append(b"X-Forwarded-Proto: " + proto)
        self.head = request_head(request, lines + added)
        self._with_summary = b""

    def head_for(self, *, summaries: bool, hides: bool = False, client: bytes = b"") -> bytes:
        """The head for an agent of ours, which understands summaries, or for one that may be Piko's; it `hides` what
        was shown to the node as Authorization, and tells of the `client` (see wire.clients).
        """
        head = self.head
        if hides or client:
            return self._changed(head.split(b"\r\n")[:-2], summaries=summaries, hides=hides, client=client)
        if not summaries:
            return head_for_go(self.request, head)
        if not self._with_summary:
            self._with_summary = with_summary(self.request, head)
        return self._with_summary

    def traced_head_for(self, trace: Trace, span: bytes, *, summaries: bool, hides: bool, client: bytes = b"") -> bytes:
        """`head_for`, as it is sent by a `span` of the trace."""
        lines = replaced(self.head.split(b"\r\n")[:-2], trace.id, span, trace.flags, begins=not trace.parent)
        return self._changed(lines, summaries=summaries, hides=hides, client=client)

    def _changed(self, lines: list[bytes], *, summaries: bool, hides: bool, client: bytes) -> bytes:
        if hides:
            lines = [line for line in lines if line[:14].lower() != b"authorization:"]
        if client:
            lines = [*lines, b"%b: %b" % (clients.OF_REQUEST, client)]
        head = http1.encode_lines(lines)
        return with_summary(self.request, head) if summaries else head_for_go(self.request, head)


def _tokens(value: bytes) -> set[bytes]:
    """What a value of credentials says, however it is spelled: its words, and of a JWT what is signed.

    `Bearer`, blanks, quotes, percent signs, and the padding and both alphabets of base64 may be written in several
    ways, and who reads them next may take them all.
    """
    words = unquote_to_bytes(value).translate(_ONE_SPELLING).split()
    said = [word for word in words if word.lower() != b"bearer"]
    return {word.rpartition(b".")[0].replace(b"=", b"") or word.rstrip(b"=") for word in said}
