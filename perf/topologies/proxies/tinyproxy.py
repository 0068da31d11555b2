"""tinyproxy."""

from perf.topologies.processes import Ground, find_program

CONFIGURATION = """
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 2000
LogLevel Critical
"""


async def start_tinyproxy(ground: Ground, leg: str, port: int) -> None:
    program = find_program("tinyproxy")
    path = ground.directory / f"tinyproxy-{port}.conf"
    path.write_text(CONFIGURATION.format(port=port))
    await (await ground.start(leg, [program, "-d", "-c", path])).answers_at(port)
