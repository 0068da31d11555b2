"""rathole: a port of the server for each service, and a connection of its own between client and server for each
visitor, so that nothing is multiplexed.

Plain TCP between the two; its TLS where a row asks for wss. HTTP is not looked at, and TCP takes the same way.
"""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from perf.loads.target import Target
from perf.topologies.certificates import Certificates, write_certificates
from perf.topologies.processes import Ground, find_program, free_port, version_said
from perf.topologies.shape import Shape
from perf.topologies.tunnels.way import dialled_port, refuse_unknown, the_proxy

QUIET = {"RUST_LOG": "warn"}
PASSWORD = "lab"

SERVER = """
[server]
bind_addr = "127.0.0.1:{node_port}"
default_token = "lab"
[server.services.lab]
bind_addr = "127.0.0.1:{public_port}"
"""
SERVER_TLS = """
[server.transport]
type = "tls"
[server.transport.tls]
pkcs12 = "{identity}"
pkcs12_password = "{password}"
"""
CLIENT = """
[client]
remote_addr = "127.0.0.1:{node_port}"
default_token = "lab"
[client.services.lab]
local_addr = "127.0.0.1:{service_port}"
"""
CLIENT_TRANSPORT = """
[client.transport]
type = "{transport}"
"""
CLIENT_TLS = """
[client.transport.tls]
trusted_root = "{authority}"
hostname = "localhost"
"""
CLIENT_PROXY = """
[client.transport.tcp]
proxy = "{proxy}"
"""


class Rathole:
    name = "rathole"

    def _program(self) -> Path:
        return find_program("rathole", variable="RATHOLE")

    def version(self) -> str:
        return version_said(self._program(), "-V")

    async def start(self, ground: Ground, shape: Shape, service_port: int, via: tuple[str, ...]) -> Target:
        refuse_unknown(self.name, shape)
        proxy = the_proxy(self.name, via, "http", "socks5")
        program = self._program()
        node_port, public_port = free_port(), free_port()
        server = SERVER.format(node_port=node_port, public_port=public_port)
        transport = CLIENT_TRANSPORT.format(transport="tls" if shape.secure else "tcp")
        if shape.secure:
            paths = write_certificates(ground.directory)
            server += SERVER_TLS.format(identity=_identity(paths), password=PASSWORD)
            transport += CLIENT_TLS.format(authority=paths.authority)
        if proxy is not None:
            transport += CLIENT_PROXY.format(proxy=proxy)
        node = await ground.start("node", [program, "--server", _written(ground, "server", server)], environment=QUIET)
        await node.answers_at(node_port)
        client = CLIENT.format(node_port=await dialled_port(ground, shape, node_port), service_port=service_port)
        path = _written(ground, "client", client + transport)
        await ground.start("agent", [program, "--client", path], environment=QUIET)
        return Target("127.0.0.1", public_port)


def _identity(paths: Certificates) -> Path:
    """Certificate and key in the one file that rathole takes."""
    certificate = x509.load_pem_x509_certificate(paths.chain.read_bytes())
    key = load_pem_private_key(paths.key.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    path = paths.key.with_name("identity.p12")
    encryption = BestAvailableEncryption(PASSWORD.encode())
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"lab", key, certificate, None, encryption))
    return path


def _written(ground: Ground, name: str, content: str) -> Path:
    path = ground.directory / f"rathole-{name}.toml"
    path.write_text(content)
    return path
