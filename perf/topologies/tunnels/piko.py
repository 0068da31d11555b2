"""Trioduct and Piko: the same command line, so one class starts either, or two versions of one of them."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from perf.errors import LabError, MissingProgram
from perf.loads.target import Target
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, find_program, free_port, version_said
from perf.topologies.shape import Route, Service, Shape
from perf.topologies.tunnels.way import dialled_port, the_proxy

ENDPOINT = "lab"


class NodePorts(NamedTuple):
    """Of 127.0.0.1, where a node listens."""

    proxy: int
    upstream: int
    admin: int


class PikoLike:
    """A program with the commands `server`, `agent` and `forward` of Piko. `server` and `connect` are further words for
    a node and for an agent.
    """

    def __init__(
        self,
        name: str,
        *,
        variable: str | None = None,
        path: Path | None = None,
        connect: tuple[str, ...] = (),
        server: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._path = path
        self._connect = connect
        self._server = server
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
        program, quiet = self.program(), _quiet(shape)
        connect: list[str | Path] = [*self._connect]
        scheme = "http"
        if shape.secure:
            connect += ["--connect.tls.root-cas", write_certificates(ground.directory).authority]
            scheme = "https"
        if via:
            connect += ["--connect.proxy-url", " -> ".join(via)]
        if any(url.startswith("https:") for url in via):
            connect += ["--connect.proxy.tls.root-cas", write_certificates(ground.directory).authority]
        node = await self.start_node(ground, shape)

        dialled = await dialled_port(ground, shape, node.upstream)
        connect += ["--connect.url", f"{scheme}://127.0.0.1:{dialled}", *quiet]

        service = f"127.0.0.1:{service_port}"
        if shape.listeners:
            listeners = _listeners_file(ground.directory, shape.listeners, service)
            await ground.start("agent", [program, "agent", "start", "--config.path", listeners, *connect])
            return Target("127.0.0.1", node.admin, "/status/upstream/endpoints")
        protocol = "tcp" if shape.service == Service.RAW else "http"
        silent = [] if shape.access_log else ["--access-log.disable"]
        await ground.start("agent", [program, "agent", protocol, ENDPOINT, service, *silent, *connect])
        if shape.route != Route.FORWARD:
            return Target("127.0.0.1", node.proxy, headers=(("x-piko-endpoint", ENDPOINT),))

        forward_port = free_port()
        url = f"http://127.0.0.1:{node.proxy}"
        forward: list[str | Path] = [program, "forward", "tcp", f"127.0.0.1:{forward_port}", ENDPOINT]
        started = await ground.start("forward", [*forward, "--connect.url", url, *quiet])
        await started.answers_at(forward_port)
        return Target("127.0.0.1", forward_port)

    async def start_node(self, ground: Ground, shape: Shape, leg: str = "node") -> NodePorts:
        """A node alone, named after its leg. It accepts when this returns."""
        ports = NodePorts(free_port(), free_port(), free_port())
        words: list[str | Path] = [self.program(), "server", "--cluster.node-id", leg, *_quiet(shape), *self._server]
        words += ["--proxy.bind-addr", f"127.0.0.1:{ports.proxy}"]
        words += ["--upstream.bind-addr", f"127.0.0.1:{ports.upstream}"]
        words += ["--admin.bind-addr", f"127.0.0.1:{ports.admin}"]
        words += ["--cluster.gossip.bind-addr", f"127.0.0.1:{free_port()}"]
        if shape.secure:
            certificates = write_certificates(ground.directory)
            words += ["--upstream.tls.cert", certificates.chain, "--upstream.tls.key", certificates.key]
        if not shape.access_log:
            words += ["--proxy.access-log.disable"]
        node = await ground.start(leg, words)
        await node.answers_at(ports.upstream)
        await node.answers_at(ports.proxy)
        return ports


def ports_of(command: str) -> NodePorts:
    """Those of a node that was started so. Raises LabError."""
    found = [re.search(rf"--{name}\.bind-addr 127\.0\.0\.1:(\d+)", command) for name in ("proxy", "upstream", "admin")]
    proxy, upstream, admin = (int(match[1]) if match else 0 for match in found)
    if not (proxy and upstream and admin):
        raise LabError(f"the node's ports are not in its command line: {command}")
    return NodePorts(proxy, upstream, admin)


def _quiet(shape: Shape) -> tuple[str, ...]:
    return () if shape.access_log else ("--log.level", "warn")  # access logs are of level info


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
