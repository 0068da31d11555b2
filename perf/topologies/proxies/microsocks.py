"""microsocks: SOCKS5, a thread per connection."""

from perf.topologies.processes import Ground, find_program


async def start_microsocks(ground: Ground, leg: str, port: int) -> None:
    program = find_program("microsocks")
    await (await ground.start(leg, [program, "-i", "127.0.0.1", "-p", str(port)])).answers_at(port)
