"""Trioduct and Piko: the same command line, so one class starts either, or two versions of one of them."""

import json
import shutil
import sys
from pathlib import Path

from perf.errors import MissingProgram
from perf.loads.target import Target
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, find_program, free_port, version_said
from perf.topologies.shape import Route, Service, Shape
from perf.topologies.tunnels.way import dialled_port, the_proxy

ENDPOINT = "lab"


class PikoLike:
    """A program with the commands `server`, `agent` and `forward` of Piko. `connect` are further words for an agent."""

    def __init__(
        self, name: str, *, variable: str | None = None, path: Path | None = None, connect: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self._path = path
        self._connect = connect
        self._variable = variable

    def program(self) -> Path:
        if self._path is not None:
            return self._path
        try:
            return find_program(self.name, variable=self._variable)
        except MissingProgram:
            # `python -m perf` without an activated environment: the command lies beside its interpreter.
            beside = shutil.which(self.name, path=str(Path(sys.executable).parent))
            if beside is None:
                raise
            return Path(beside)

    def version(self) -> str:
        return version_said(self.program(), "--version")

    async def start(self, ground: Ground, shape: Shape, service_port: int, via: tuple[str, ...]) -> Target:
        if self.name == "piko":
            the_proxy("piko", via, "http", "socks5")
        program = self.program()
        proxy_port, upstream_port, admin_port = free_port(), free_port(), free_port()
        quiet = [] if shape.access_log else ["--log.level", "warn"]  # access logs are of level info
        server: list[str | Path] = [program, "server", "--cluster.node-id", "lab", *quiet]
        server += ["--proxy.bind-addr", f"127.0.0.1:{proxy_port}"]
        server += ["--upstream.bind-addr", f"127.0.0.1:{upstream_port}"]
        server += ["--admin.bind-addr", f"127.0.0.1:{admin_port}"]
        server += ["--cluster.gossip.bind-addr", f"127.0.0.1:{free_port()}"]
        connect: list[str | Path] = [*self._connect]
        scheme = "http"
        if shape.secure:
            certificates = write_certificates(ground.directory)
            server += ["--upstream.tls.cert", certificates.chain, "--upstream.tls.key", certificates.key]
            connect += ["--connect.tls.root-cas", certificates.authority]
            scheme = "https"
        if via:
            connect += ["--connect.proxy-url", " -> ".join(via)]
        if any(url.startswith("https:") for url in via):
            connect += ["--connect.proxy.tls.root-cas", write_certificates(ground.directory).authority]
        if not shape.access_log:
            server += ["--proxy.access-log.disable"]
        node = await ground.start("node", server)
        await node.answers_at(upstream_port)
        await node.answers_at(proxy_port)

        dialled = await dialled_port(ground, shape, upstream_port)
        connect += ["--connect.url", f"{scheme}://127.0.0.1:{dialled}", *quiet]

        service = f"127.0.0.1:{service_port}"
        if shape.listeners:
            listeners = _listeners_file(ground.directory, shape.listeners, service)
            await ground.start("agent", [program, "agent", "start", "--config.path", listeners, *connect])
            return Target("127.0.0.1", admin_port, "/status/upstream/endpoints")
        protocol = "tcp" if shape.service == Service.RAW else "http"
        silent = [] if shape.access_log else ["--access-log.disable"]
        await ground.start("agent", [program, "agent", protocol, ENDPOINT, service, *silent, *connect])
        if shape.route != Route.FORWARD:
            return Target("127.0.0.1", proxy_port, headers=(("x-piko-endpoint", ENDPOINT),))

        forward_port = free_port()
        url = f"http://127.0.0.1:{proxy_port}"
        forward: list[str | Path] = [program, "forward", "tcp", f"127.0.0.1:{forward_port}", ENDPOINT]
        started = await ground.start("forward", [*forward, "--connect.url", url, *quiet])
        await started.answers_at(forward_port)
        return Target("127.0.0.1", forward_port)


def _listeners_file(directory: Path, count: int, service: str) -> Path:
    """A configuration with many listeners. JSON is YAML."""
    # Piko refuses a listener without a timeout.
    listeners = [
        {"endpoint_id": f"idle-{i}", "addr": service, "timeout": "10s", "access_log": {"disable": True}}
        for i in range(count)
    ]
    path = directory / "listeners.yaml"
    path.write_text(json.dumps({"listeners": listeners}))
    return path
