"""pproxy: always there, in Python; HTTP CONNECT, SOCKS4 and SOCKS5 on one port."""

import sys

from perf.topologies.processes import Ground


async def start_pproxy(ground: Ground, leg: str, port: int) -> None:
    listen = f"http+socks4+socks5://127.0.0.1:{port}"
    await (await ground.start(leg, [sys.executable, "-m", "pproxy", "-l", listen])).answers_at(port)
