"""HAProxy, twice: one in the node's place, one in the agent's, each a reverse proxy of the next.

This is no reverse tunnel: the first dials the second, which a firewall around the service would not allow. It stands
here as what two hops cost when they are written in C: the mark to come near to.
"""

from pathlib import Path

from perf.loads.target import Target
from perf.topologies.certificates import Certificates, write_certificates
from perf.topologies.processes import Ground, find_program, free_port, version_said
from perf.topologies.shape import Service, Shape
from perf.topologies.tunnels.way import dialled_port, refuse_unknown, the_proxy

CONFIGURATION = """
{log}
defaults
    mode {mode}
    {log_format}
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
listen {leg}
    bind 127.0.0.1:{port} {bind}
    server next 127.0.0.1:{next_port} {server}
"""
LOG = "global\n    log stdout format raw local0"


class HAProxy:
    name = "haproxy"

    def _program(self) -> Path:
        return find_program("haproxy", variable="HAPROXY")

    def version(self) -> str:
        return version_said(self._program(), "-v").removesuffix(" - https://haproxy.org/")

    async def start(self, ground: Ground, shape: Shape, service_port: int, via: tuple[str, ...]) -> Target:
        refuse_unknown(self.name, shape, access_log=True)
        the_proxy(self.name, via)
        public_port, inner_port = free_port(), free_port()
        outward, inward = "", ""
        if shape.secure:
            paths = write_certificates(ground.directory)
            outward, inward = f"ssl verify required ca-file {paths.authority}", f"ssl crt {_bundle(paths)}"
        await self._start_hop(ground, shape, "agent", inner_port, service_port, bind=inward)
        next_port = await dialled_port(ground, shape, inner_port)
        await self._start_hop(ground, shape, "node", public_port, next_port, server=outward)
        return Target("127.0.0.1", public_port)

    async def _start_hop(
        self, ground: Ground, shape: Shape, leg: str, port: int, next_port: int, *, bind: str = "", server: str = ""
    ) -> None:
        mode = "tcp" if shape.service == Service.RAW else "http"
        path = ground.directory / f"haproxy-{leg}.cfg"
        path.write_text(
            CONFIGURATION.format(
                log=LOG if shape.access_log else "",
                log_format=f"log global\n    option {mode}log" if shape.access_log else "",
                mode=mode,
                leg=leg,
                port=port,
                bind=bind,
                next_port=next_port,
                server=server,
            )
        )
        started = await ground.start(leg, [self._program(), "-db", "-f", path])
        await started.answers_at(port)


def _bundle(paths: Certificates) -> Path:
    """Certificate and key in the one file that HAProxy takes."""
    path = paths.key.with_name("bundle.pem")
    path.write_bytes(paths.chain.read_bytes() + paths.key.read_bytes())
    return path
