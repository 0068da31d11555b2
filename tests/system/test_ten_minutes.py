"""docs/start.md: what a newcomer types in the first ten minutes, as it is written."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.programs import TRIODUCT, Programs, needs

PAGE = (Path(__file__).parents[2] / "docs/start.md").read_text()
BLOCKS = re.findall(r"<!-- run by tests/system/test_ten_minutes.py -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
# What stays, and how it is seen that it is there.
STAYS = {
    "trioduct server --config.path": "curl -sf http://127.0.0.1:8002/ready",
    "python3 -m http.server": "curl -sf http://127.0.0.1:3000/",
    "trioduct agent start": "curl -sf -H 'x-piko-endpoint: shop' http://127.0.0.1:8000/",
}
# Ports of a network of its own: those of the page may be somebody's here.
OWN_NETWORK = "unshare --net --pid --fork --kill-child bash -euc"


def script() -> str:
    """The page's lines, each that stays in the background until what it offers is there."""
    lines = ["ip link set lo up"]
    for line in "".join(BLOCKS).splitlines():
        there = next((there for begin, there in STAYS.items() if line.startswith(begin)), "")
        lines += [f"echo '$' {shlex.quote(line)}", f"{line} >log 2>&1 &" if there else line]
        if there:
            lines.append(f"for try in {{1..100}}; do {there} >/dev/null 2>&1 && break; sleep 0.1; done")
    return "\n".join(lines)


@needs("unshare", "ip", "curl")
@pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")
async def test_the_first_page_runs_as_it_is_written(programs: Programs, tmp_path: Path) -> None:
    path = f"{Path(TRIODUCT).parent}:{os.environ['PATH']}"
    words = [*OWN_NETWORK.split(), f"cd {tmp_path}\n{script()}"]
    newcomer = await programs.start(*words, env={"PATH": path})
    assert await newcomer.wait_end() == 0, newcomer.text
    shell, table = newcomer.text.split("$ curl -H ")[1].split("$ trioduct server status")
    assert "Directory listing for /" in shell
    assert "shop" in table
    assert (tmp_path / "tunnel/tunnel.key").stat().st_mode & 0o777 == 0o600
