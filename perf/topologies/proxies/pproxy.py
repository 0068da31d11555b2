"""pproxy: always there, in Python; HTTP CONNECT, SOCKS4 and SOCKS5 on one port, or HTTP CONNECT in TLS."""

import sys

from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground


async def start_pproxy(ground: Ground, leg: str, port: int) -> None:
    await _start(ground, leg, port, f"http+socks4+socks5://127.0.0.1:{port}")


async def start_pproxy_tls(ground: Ground, leg: str, port: int) -> None:
    certificates = write_certificates(ground.directory)
    await _start(ground, leg, port, f"http+ssl://127.0.0.1:{port}", "--ssl", f"{certificates.chain},{certificates.key}")


async def _start(ground: Ground, leg: str, port: int, *listen: str) -> None:
    await (await ground.start(leg, [sys.executable, "-m", "pproxy", "-l", *listen])).answers_at(port)
