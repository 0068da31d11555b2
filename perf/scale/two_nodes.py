"""Two nodes of a cluster, and one agent at one of them."""

import msgspec

from perf.loads.target import Target
from perf.topologies.processes import Ground, find_program, free_port
from perf.topologies.shape import Shape
from perf.topologies.tunnels.piko import PikoLike

SECRET = "a secret of thirty-two characters and more"


class TwoNodes:
    """Load comes to the agent's node, or to its peer (`by_peer`), which asks that. All else is the same."""

    def __init__(self, program: PikoLike, *, by_peer: bool) -> None:
        self.name = program.name
        self._program = program
        self._by_peer = by_peer

    def version(self) -> str:
        return self._program.version()

    async def start(self, ground: Ground, shape: Shape, service_port: int, via: tuple[str, ...]) -> Target:
        port = free_port()
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(ground.directory)]
        store = await ground.start("store", [find_program("redis-server"), *words])
        await store.answers_at(port)
        secret = ground.directory / "cluster.secret"
        secret.touch(0o600)
        secret.write_text(SECRET)
        joined = ("--cluster.store", f"redis://127.0.0.1:{port}", "--cluster.secret-file", str(secret))
        nodes = PikoLike(self.name, path=self._program.program(), server=joined)
        target = await nodes.start(ground, shape, service_port, via)
        peer = await nodes.start_node(ground, shape, "peer")
        return msgspec.structs.replace(target, port=peer.proxy) if self._by_peer else target
