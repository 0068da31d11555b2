"""A tunnel's TLS, one layer and two: 112 KiB encrypted by one end and decrypted by the other."""

import ssl
from functools import partial

import trustme

from perf.micro.benchmark import Benchmark, Run
from proxy_adapters import TLSLayer

PIECE = 112 << 10  # as a tunnel sends it


def benchmarks() -> list[Benchmark]:
    return [Benchmark(f"layers-{count}", f"TLS × {count}, 112 KiB", partial(_there, count), PIECE) for count in (1, 2)]


def _there(count: int) -> Run:
    pairs = [_pair() for _ in range(count)]
    plain = bytes(PIECE)

    def run() -> bytes:
        data = plain
        for _, server in reversed(pairs):
            data = server.encrypt(data)
        for client, _ in pairs:
            data = client.decrypt(data)
        return data

    return run


def _pair() -> tuple[TLSLayer, TLSLayer]:
    """Two ends that have shaken hands."""
    authority = trustme.CA()
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("lab.example").configure_cert(server_context)
    authority.configure_trust(client_context)
    client = TLSLayer.over(client_context, "lab.example")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = TLSLayer(server_context.wrap_bio(incoming, outgoing, server_side=True), incoming, outgoing)
    client.handshake(b"")
    server.handshake(client.encrypt(b""))
    client.handshake(server.encrypt(b""))
    server.handshake(client.encrypt(b""))
    client.decrypt(server.encrypt(b""))  # its tickets
    return client, server
