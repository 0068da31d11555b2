"""How a command ends: the exit code, and one line that says why."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from engine.cli.launch import run
from engine.config import AgentConfig, Draft, ForwardConfig, ServerConfig
from engine.errors import ConfigError, Refused, Unreachable
from engine.loop.listen import open_listeners
from tests.cli.command_line import Captured
from tests.programs import Programs


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Refused("node: 401 invalid token"), 1, "node: 401 invalid token"),
        (Unreachable("node: nobody there"), 1, "node: nobody there"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (ConfigError("proxy.tls.cert: gone"), 2, "proxy.tls.cert: gone"),
        (ExceptionGroup("", [Refused("a"), ExceptionGroup("", [Unreachable("b"), Refused("a")])]), 1, "a; b"),
        (ExceptionGroup("", [Refused("a"), ConfigError("b")]), 2, "b"),
    ],
)
def test_what_ends_a_role_is_told_in_one_line(error: Exception, code: int, line: str, capsys: Captured) -> None:
    async def role() -> None:
        raise error

    assert run(role, Draft(AgentConfig)) == code
    assert capsys.readouterr().err == f"trioduct: {line}\n"


def test_a_role_that_is_done_ends_with_0(capsys: Captured) -> None:
    assert run(trio.lowlevel.checkpoint, Draft(ServerConfig)) == 0
    assert capsys.readouterr().err == ""


@pytest.fixture
def control_c() -> Iterator[None]:
    """Ctrl-C is heard, which a shell's background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("control_c")
def test_control_c_ends_with_130(capsys: Captured) -> None:
    async def role() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    assert run(role, Draft(ServerConfig)) == 130
    assert capsys.readouterr().err == ""


def test_a_defect_of_ours_is_not_hidden() -> None:
    async def role() -> None:
        raise RuntimeError("never")

    with pytest.raises(RuntimeError, match="never"):
        run(role, Draft(ServerConfig))


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_in_use_is_told_with_its_key_and_address(host: str, capsys: Captured) -> None:
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        draft = Draft(ServerConfig)
        draft.read_flags({"--proxy.bind-addr": ["127.0.0.1:0"], "--admin.bind-addr": [f"127.0.0.1:{port}"]})

        async def role() -> None:
            open_listeners(f"127.0.0.1:{port}")

        assert run(role, draft) == 2
    assert capsys.readouterr().err == (
        f"trioduct: --admin.bind-addr: '127.0.0.1:{port}': Address already in use; "
        "expected a free port on an address of this machine\n"
    )


def test_an_address_of_another_machine_is_told_with_its_key(capsys: Captured) -> None:
    draft = Draft(ForwardConfig)
    Path("forward.yaml").write_text("ports:\n- {endpoint_id: a, addr: '192.0.2.1:80'}")
    draft.read_file("forward.yaml")

    async def role() -> None:
        open_listeners("192.0.2.1:80")

    assert run(role, draft) == 2
    assert capsys.readouterr().err == (
        "trioduct: forward.yaml:2: ports[0].addr: '192.0.2.1:80': Cannot assign requested address; "
        "expected a free port on an address of this machine\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "server config check --upstream.bind-addr=127.0.0.1:8001",
        "agent http shop 3000 --config.check",
    ],
)
async def test_what_cannot_be_written_is_one_line(programs: Programs, tmp_path: Path, command: str) -> None:
    # No file may grow: a full disk for every user, and on machines without /dev/full.
    shell = f'ulimit -f 0; exec "{sys.executable}" -m engine {command} 2>&1 >"{tmp_path}/out"'
    program = await programs.start("sh", "-c", shell)
    assert await program.wait_end() == 1
    assert program.lines == [f"trioduct: cannot write: {os.strerror(errno.EFBIG)}"]
