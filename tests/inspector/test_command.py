"""`trioduct agent … --inspect PORT`, the command itself."""

from __future__ import annotations

import socket
import sys

import httpx

from tests.inspector.inspected import TOKEN
from tests.programs import Programs, free_port


async def start(programs: Programs, *options: str) -> str:
    """What an agent without a node says until its inspector is served, or it ends."""
    words = ("agent", "http", "shop", "3000", "--connect.url", f"http://127.0.0.1:{free_port()}", *options)
    program = await programs.start(sys.executable, "-m", "engine", *words)
    try:
        await program.wait_line('"msg":"inspector is served"')
        if "--inspect.token" not in options:
            await program.wait_line("nobody is shown")
    except RuntimeError:
        assert await program.wait_end() == 2
    return program.text


async def test_a_port_in_use_ends_the_agent_with_a_sentence(programs: Programs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert (await start(programs, "--inspect", str(number))).splitlines() == [
            f"trioduct: --inspect: '127.0.0.1:{number}': Address already in use; "
            "expected a free port on an address of this machine"
        ]


async def test_an_address_that_others_reach_is_refused(programs: Programs) -> None:
    assert (await start(programs, "--inspect", "0.0.0.0:4040")).splitlines() == [
        "trioduct: --inspect: '0.0.0.0:4040': expected a port from 0 to 65535, or host:port with localhost, "
        "127.0.0.1 or [::1]"
    ]


async def test_without_a_terminal_the_token_is_not_told_and_one_of_the_configuration_is_used(
    programs: Programs,
) -> None:
    said = await start(programs, "--inspect", str(free_port()))
    assert "nobody is shown the inspector's URL, for stderr is no terminal; set inspect.token" in said
    port = free_port()
    said = await start(programs, "--inspect", str(port), "--inspect.token", TOKEN)
    assert TOKEN not in said
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/{TOKEN}/")).status_code == 200
