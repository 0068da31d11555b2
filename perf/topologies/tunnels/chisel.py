"""chisel: reverse port forwarding as SSH in a WebSocket, so encrypted with and without TLS around it.

A port of the server for each service; neither HTTP nor a name is looked at, and TCP takes the same way.
"""

from pathlib import Path

from perf.loads.target import Target
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, find_program, free_port, version_said
from perf.topologies.shape import Shape
from perf.topologies.tunnels.way import dialled_port, refuse_unknown, the_proxy


class Chisel:
    name = "chisel"

    def _program(self) -> Path:
        return find_program("chisel", variable="CHISEL")

    def version(self) -> str:
        return f"chisel {version_said(self._program(), '--version')}"

    async def start(self, ground: Ground, shape: Shape, service_port: int, via: tuple[str, ...]) -> Target:
        refuse_unknown(self.name, shape)
        proxy = the_proxy(self.name, via, "http", "socks5")
        program = self._program()
        node_port, public_port = free_port(), free_port()
        server: list[str | Path] = [program, "server", "--reverse", "--host", "127.0.0.1", "--port", str(node_port)]
        client: list[str | Path] = [program, "client"]
        scheme = "http"
        if shape.secure:
            paths = write_certificates(ground.directory)
            server += ["--tls-cert", paths.chain, "--tls-key", paths.key]
            client += ["--tls-ca", paths.authority]
            scheme = "https"
        if proxy is not None:
            client += ["--proxy", proxy.replace("socks5://", "socks://")]
        await (await ground.start("node", server)).answers_at(node_port)
        client.append(f"{scheme}://127.0.0.1:{await dialled_port(ground, shape, node_port)}")
        await ground.start("agent", [*client, f"R:127.0.0.1:{public_port}:127.0.0.1:{service_port}"])
        return Target("127.0.0.1", public_port)
