"""What a request's head asks for: an endpoint, with which credentials, and how it goes on to the agent."""

from __future__ import annotations

from urllib.parse import quote

from engine.gateway.head import request_head
from engine.wire import http1, piko
from engine.wire.http1 import Fields, Request


class Asked:
    """What a request's head asks for, and how it goes on: the same for every request with this head and connection."""

    __slots__ = ("credentials", "endpoint", "head", "is_tcp", "own_credentials", "request", "tenants")

    def __init__(self, request: Request, client: str, proto: bytes, *, takes_tokens: bool) -> None:
        """`client` is the address that the request comes from, `proto` http or https, whether by TLS; `takes_tokens`:
        an Authorization field is the node's to look at.
        """
        self.request = request
        self.credentials: list[bytes] = []
        self.own_credentials: list[bytes] = []
        self.tenants: list[bytes] = []
        tcp_endpoint = piko.endpoint_of_tcp_path(request.target) if request.method == b"GET" else None
        self.is_tcp = tcp_endpoint is not None
        named = b""
        fields: Fields = []
        forwarded_for: list[bytes] = []
        for field in http1.end_to_end(request):
            name = field[0].lower()
            if name[:2] == b"x-":
                if name[:7] == piko.PREFIX:
                    if name == piko.ENDPOINT:
                        named = field[1]
                    elif name == piko.AUTHORIZATION:
                        self.own_credentials.append(field[1])
                    elif name == piko.TENANT_ID:
                        self.tenants.append(field[1])
                    continue
                if name == b"x-forwarded-for":
                    forwarded_for.append(field[1])
                    continue
                if name in (b"x-forwarded-proto", b"x-forwarded-host"):
                    continue
            elif name == b"authorization" and takes_tokens:
                self.credentials.append(field[1])
                continue
            fields.append(field)
        self.endpoint = tcp_endpoint or named.decode("utf-8", "replace") or piko.endpoint_of_host(request.host)
        if any(self.own_credentials):
            # The service's own credentials, which were not ours to look at.
            own = self.own_credentials
            fields += [(b"Authorization", value) for value in self.credentials if value not in own]
        forwarded_for.append(client.encode())
        fields.append((b"X-Forwarded-For", b", ".join(forwarded_for)))
        if request.host:
            fields.append((b"X-Forwarded-Host", request.host))
        else:  # HTTP/1.0 can do without; 1.1, in which the request goes on, cannot (RFC 9112, 3.2)
            fields.append((b"Host", quote(self.endpoint, safe="").encode()))
        fields.append((b"X-Forwarded-Proto", proto))
        self.head = request_head(request, fields)
