"""microsocks: SOCKS5, a thread per connection."""

from perf.topologies.processes import Ground, find_program


async def start_microsocks(ground: Ground, leg: str, port: int, *, account: tuple[str, str] | None = None) -> None:
    """`account`: the user and password to ask for."""
    login = ["-u", account[0], "-P", account[1]] if account else []
    program = find_program("microsocks")
    await (await ground.start(leg, [program, "-i", "127.0.0.1", "-p", str(port), *login])).answers_at(port)
