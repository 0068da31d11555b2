"""frp: a frps that is public and a frpc beside the service, on one connection with yamux in it.

By name, which is what Piko's kind does: HTTP is routed by Host (type `http`), and TCP goes through a second frpc beside
the client, a *visitor* of the service's name (type `stcp`), in the part of our forward. By port (`frp:tcp`): a port of
the frps for each service, its bytes copied and never read. Its TLS, on unless told otherwise, is on where a row asks
for wss; the configuration is JSON, which frp reads as it reads TOML.
"""

from pathlib import Path

import msgspec

from perf.loads.target import Target
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, find_program, free_port, version_said
from perf.topologies.shape import Service, Shape
from perf.topologies.tunnels.way import dialled_port, refuse_unknown, the_proxy

DOMAIN = "lab.test"
SECRET = "lab"
PLAIN: dict[str, object] = {"tls": {"enable": False}}
QUIET = {"level": "warn", "disablePrintColor": True}  # at info, each connection is a line


class Frp:
    def __init__(self, *, by_name: bool = True) -> None:
        self.name = "frp" if by_name else "frp:tcp"
        self._by_name = by_name

    def version(self) -> str:
        find_program("frpc", variable="FRPC")
        return f"frp {version_said(find_program('frps', variable='FRPS'), '--version')}"

    async def start(self, ground: Ground, shape: Shape, service_port: int, via: tuple[str, ...]) -> Target:
        refuse_unknown(self.name, shape)
        proxy = the_proxy("frp", via, "http", "socks5")
        frps, frpc = find_program("frps", variable="FRPS"), find_program("frpc", variable="FRPC")
        node_port, public_port = free_port(), free_port()

        node: dict[str, object] = {"bindAddr": "127.0.0.1", "bindPort": node_port, "log": QUIET}
        transport: dict[str, object] = PLAIN
        if shape.secure:
            paths = write_certificates(ground.directory)
            node["transport"] = {"tls": {"certFile": str(paths.chain), "keyFile": str(paths.key)}}
            transport = {"tls": {"enable": True, "trustedCaFile": str(paths.authority), "serverName": "127.0.0.1"}}
        if proxy is not None:
            transport = transport | {"proxyURL": proxy}
        offered: dict[str, object] = {"name": "lab", "localIP": "127.0.0.1", "localPort": service_port}
        raw = shape.service == Service.RAW
        if not self._by_name:
            offered |= {"type": "tcp", "remotePort": public_port}
        elif raw:
            offered |= {"type": "stcp", "secretKey": SECRET}
        else:
            offered |= {"type": "http", "customDomains": [DOMAIN]}
            node["vhostHTTPPort"] = public_port

        started = await ground.start("node", [frps, "-c", _written(ground, "frps", node)])
        await started.answers_at(node_port)
        client: dict[str, object] = {"serverAddr": "127.0.0.1", "log": QUIET}
        agent_port = await dialled_port(ground, shape, node_port)
        agent = client | {"serverPort": agent_port, "transport": transport, "proxies": [offered]}
        await ground.start("agent", [frpc, "-c", _written(ground, "frpc", agent)])
        if not self._by_name:
            return Target("127.0.0.1", public_port)
        if not raw:
            return Target("127.0.0.1", public_port, authority=DOMAIN)

        visitor: dict[str, object] = {"name": "visitor", "type": "stcp", "serverName": "lab", "secretKey": SECRET}
        visitor |= {"bindAddr": "127.0.0.1", "bindPort": public_port}
        visiting = client | {"serverPort": node_port, "transport": PLAIN, "visitors": [visitor]}
        forward = await ground.start("forward", [frpc, "-c", _written(ground, "visitor", visiting)])
        await forward.answers_at(public_port)
        return Target("127.0.0.1", public_port)


def _written(ground: Ground, name: str, content: dict[str, object]) -> Path:
    path = ground.directory / f"{name}.json"
    path.write_bytes(msgspec.json.encode(content))
    return path
