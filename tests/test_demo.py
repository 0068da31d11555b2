"""The first thing that a newcomer runs."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import trio
import yaml

from tests.programs import TRIODUCT, Programs, accepts, needs


async def test_demo_once_shows_an_answer_and_where_its_time_went(programs: Programs) -> None:
    demo = await programs.start(TRIODUCT, "demo", "--once")
    assert await demo.wait_end() == 0, demo.text
    assert "GET / through the tunnel: 200" in demo.text
    for leg in ("client to node", "tunnel", "service"):
        assert re.search(rf"{leg} +\d+\.\d\d ms", demo.text)
    assert "Traceback" not in demo.text


@needs("curl")
async def test_the_curl_line_of_the_demo_works_until_ctrl_c(programs: Programs) -> None:
    demo = await programs.start(TRIODUCT, "demo")
    with trio.fail_after(30):
        await demo.wait_line("Ctrl-C")
    line = await demo.wait_line(r"curl -H '(x-piko-endpoint: demo)' (http://127.0.0.1:(\d+)/)$")
    curl = await programs.start("curl", "-sS", "-H", line[1], line[2])
    assert await curl.wait_end() == 0
    assert curl.lines[0] == "Hello from the service behind the tunnel."

    with trio.fail_after(10):
        assert await demo.stop(signal.SIGINT) == 0
    ports = [int(port) for port in re.findall(r":(\d{4,5})\b", demo.text)]
    assert len(set(ports)) == 4
    for port in ports:
        assert not await accepts(port), f"something still listens on {port}"


async def test_config_check_shows_both_configurations_and_starts_nothing(programs: Programs) -> None:
    demo = await programs.start(TRIODUCT, "demo", "--config.check")
    assert await demo.wait_end() == 0, demo.text
    node, agent = yaml.safe_load_all("\n".join(demo.lines))
    assert node["proxy"]["bind_addr"] == "127.0.0.1:0"
    assert agent["listeners"][0]["endpoint_id"] == "demo"
    assert agent["connect"]["proxy_url"].startswith("http://127.0.0.1:")


@needs("redis-server")
async def test_a_cluster_survives_that_a_node_is_killed(programs: Programs) -> None:
    demo = await programs.start(TRIODUCT, "demo", "--cluster", "--once")
    assert await demo.wait_end() == 0, demo.text
    assert "kill -9 of node 2" in demo.text
    assert re.search(r"\d+ requests succeeded, \d failed", demo.text)


async def test_a_cluster_says_what_it_lacks(programs: Programs, tmp_path: Path) -> None:
    demo = await programs.start(TRIODUCT, "demo", "--cluster", env={"PATH": str(tmp_path)})
    assert await demo.wait_end() == 1
    assert demo.lines == [
        "trioduct: nodes of a cluster share a Redis, and redis-server is not installed (apt install redis-server)"
    ]
