"""dante: SOCKS4 and SOCKS5."""

from perf.topologies.processes import Ground, find_program

CONFIGURATION = """
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
client pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
}}
socks pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
  command: connect
}}
"""


async def start_dante(ground: Ground, leg: str, port: int) -> None:
    program = find_program("danted")
    path = ground.directory / f"dante-{port}.conf"
    path.write_text(CONFIGURATION.format(port=port))
    started = await ground.start(leg, [program, "-f", path, "-p", ground.directory / f"dante-{port}.pid"])
    await started.answers_at(port)
