"""What the inspector costs: `python -m perf.experiments.inspected --rounds 9`.

Agents of one node beside one nginx: without an inspector, with one, and with one whose list a browser has open. wrk
asks each in turn, a round at a time. `--beside TREE` adds an agent of another working tree, without an inspector: what
the hooks cost where nobody looks.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from os import getloadavg
from pathlib import Path

import click

from perf.experiments.cluster import wait_open
from perf.topologies.processes import free_port

TOKEN = "a-token-for-the-experiment"
NGINX = """daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 10000000;
server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{body}"; }} }} }}"""
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def start(stack: ExitStack, *command: str, tree: Path | None = None) -> None:
    """A process that ends with the stack."""
    process = subprocess.Popen(command, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def wait_answer(proxy: int, endpoint: str) -> None:
    """Until the endpoint's agent is there."""
    for _ in range(200):
        connection = HTTPConnection("127.0.0.1", proxy)
        connection.request("GET", "/", headers={"x-piko-endpoint": endpoint})
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return
        time.sleep(0.1)
    raise click.ClickException(f"{endpoint} does not come")


def ask(proxy: int, endpoint: str, connections: int, seconds: int) -> tuple[float, float, float]:
    """Requests per second, and milliseconds: the median and the 99th percentile."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-H", f"x-piko-endpoint: {endpoint}"]
    told = subprocess.run([*command, f"http://127.0.0.1:{proxy}/"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise click.ClickException(f"{endpoint}: {told}")
    rate = re.search(r"Requests/sec:\s*([\d.]+)", told)
    shares = dict(re.findall(r"(50|99)%\s+([\d.]+(?:us|ms|s))", told))
    assert rate is not None, told
    middle, last = (float(text.rstrip("mus")) * _MILLISECONDS[text.lstrip("0123456789.")] for text in shares.values())
    return float(rate[1]), middle, last


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--seconds", default=2, show_default=True, help="Of each in a round.")
@click.option("--connections", default=16, show_default=True)
@click.option("--beside", type=click.Path(path_type=Path), help="Another working tree.")
def main(rounds: int, seconds: int, connections: int, beside: Path | None) -> None:
    proxy, upstream, admin, port, inspected, shown = (free_port() for _ in range(6))
    engine = (sys.executable, "-m", "engine")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, port=port, body="0123456789abcdef" * 8))
        start(stack, "nginx", "-c", str(config), "-e", "stderr", "-p", folder)
        binds = zip(("proxy", "upstream", "admin"), (proxy, upstream, admin), strict=True)
        flags = [word for name, number in binds for word in (f"--{name}.bind-addr", f"127.0.0.1:{number}")]
        start(stack, *engine, "server", *flags, "--proxy.access-log.disable")
        wait_open(admin)
        agents: dict[str, tuple[Path | None, list[str]]] = {"off": (None, [])}
        for name, number in (("on", inspected), ("shown", shown)):
            agents[name] = None, ["--inspect", str(number), "--inspect.token", TOKEN]
        if beside is not None:
            agents["beside"] = beside, []
        url = f"http://127.0.0.1:{upstream}"
        for name, (tree, more) in agents.items():
            words = ("agent", "http", name, str(port), "--connect.url", url, "--access-log.disable", *more)
            start(stack, *engine, *words, tree=tree)
        for name in agents:
            wait_answer(proxy, name)
        browser = f"while sleep 0.1; do curl -sN http://127.0.0.1:{shown}/{TOKEN}/live; done"
        start(stack, "timeout", "3600", "sh", "-c", browser)
        figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in agents}
        for number in range(rounds + 1):
            for name in sorted(figures, reverse=bool(number % 2)):
                figure = ask(proxy, name, connections, seconds)
                if number:  # the first round warms up
                    figures[name].append(figure)
        click.echo(f"{connections} connections, {rounds} rounds of {seconds} s, load {getloadavg()[0]:.1f}")
        for name, rows in figures.items():
            if name == "off":
                continue
            for unit, mine, others in zip(
                ("requests/s", "p50", "p99"), zip(*rows, strict=True), zip(*figures["off"], strict=True), strict=True
            ):
                ratios = sorted(one / other for one, other in zip(mine, others, strict=True))
                low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
                click.echo(
                    f"{name:7} {unit:10} {statistics.median(mine):9.2f}, {statistics.median(ratios):.3f} of off "
                    f"(half of the rounds {low:.3f}–{high:.3f})"
                )


if __name__ == "__main__":
    main()
