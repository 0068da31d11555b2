"""TLS as a layer: 256 KiB encrypted by one end and decrypted by the other."""

import ssl

import trustme

from engine.wire.tls import TLS
from perf.micro.benchmark import Benchmark, Run

READ = 1 << 18


def benchmarks() -> list[Benchmark]:
    return [Benchmark("tls-there", "256 KiB encrypted and decrypted", _there, READ)]


def _there() -> Run:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("lab.example").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    server = TLS.over(server_context, server_side=True)
    client = TLS.over(client_context, server_hostname="lab.example")
    done = False
    while not done:
        client.handshake(server.pending())
        done = server.handshake(client.pending())
    client.handshake(server.pending())
    payload, buffer = bytes(READ), memoryview(bytearray(2 * READ))
    client.receive(server.pending(), buffer)
    return lambda: server.receive(client.send([payload]), buffer)
