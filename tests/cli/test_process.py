"""What a process asks of the kernel before it runs a command. (Core files: tests/system/test_canary.py.)"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.programs import Program, Programs, free_port, get


async def start_node(programs: Programs, before: str = "", behind: str = "") -> tuple[Program, int]:
    """Run a node by a shell that does what is `before`. Returns it, and its admin port."""
    ports = {name: free_port() for name in ("proxy", "upstream", "admin")}
    flags = " ".join(f"--{name}.bind-addr 127.0.0.1:{port}" for name, port in ports.items())
    shell = f'{before} exec "{sys.executable}" -m engine server {flags} {behind}'
    return await programs.start("sh", "-c", shell, port=ports["admin"]), ports["admin"]


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
async def test_a_role_runs_with_a_standard_stream_closed_and_leaves_when_its_terminal_has_gone(
    programs: Programs, closed: str
) -> None:
    program, admin = await start_node(programs, behind=closed)
    assert (await get(admin, "/health"))[0] == 200
    streams = [os.readlink(f"/proc/{program.pid}/fd/{descriptor}") for descriptor in range(3)]
    assert not any(stream.startswith("socket:") for stream in streams)
    assert await program.stop(signal.SIGHUP) == 0
    if "2>" not in closed:
        assert '"msg":"node stopped"' in program.text


async def test_a_role_may_have_as_many_descriptors_as_the_hard_limit_allows(programs: Programs) -> None:
    program, _ = await start_node(programs, before="ulimit -Sn 256; ulimit -Hn 1000;")
    (line,) = (one for one in Path(f"/proc/{program.pid}/limits").read_text().splitlines() if "open files" in one)
    assert line.split()[3:5] == ["1000", "1000"]
