"""`trioduct top`: what it prints once, and how it is in a terminal (tmux's)."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import jwt
import pytest
import trio

from engine.admin.tables import TABLES, Column
from engine.cli import main
from engine.cli.top import View, fitting, keys_in
from tests.cli.command_line import Captured, complains
from tests.programs import TRIODUCT, clean_environment, free_port, needs
from tests.roles import Roles, RunningNode, agent_config, roles, says, server_config

__all__ = ["roles"]

SECRET = "a secret of some forty characters, or more"
EVIL = "[red]evil[/red]"


async def top(capsys: Captured, *flags: str) -> tuple[int, str, str]:
    """The command in a thread, as in a process of its own: its exit code, and what it has written."""
    code = await trio.to_thread.run_sync(main, ["top", *flags])
    return code, *capsys.readouterr()


async def with_agents(roles: Roles, *endpoints: str) -> RunningNode:
    node = await roles.node()
    service = await roles.service(says(b"hello"))
    for endpoint in endpoints:
        await roles.agent_with(agent_config(node.upstream, service, endpoint=endpoint))
    return node


async def test_once_is_a_plain_printout(roles: Roles, capsys: Captured) -> None:
    node = await with_agents(roles, "shop", EVIL)
    code, said, _ = await top(capsys, "--once", f"--server.url=http://127.0.0.1:{node.admin}")
    assert code == 0
    assert "\x1b" not in said
    assert EVIL in said  # which rich does not read
    for words in ("Endpoints", "Sessions", "Nodes", "websocket", "direct", "0.1.0", "Requests/s"):
        assert words in said
    assert "Errors" not in said  # there were none
    assert "Principal" not in said  # nobody has one


async def test_what_is_wrong_is_one_sentence(roles: Roles, capsys: Captured) -> None:
    config = server_config()
    config.admin.auth.hmac_secret_key = SECRET
    node = await roles.node(config)
    url = f"http://127.0.0.1:{node.admin}"
    nobody = f"http://127.0.0.1:{free_port()}"
    for flags, line in (
        ((url,), f"{url}: 401: it requires a valid token; set TRIODUCT_TOKEN or --token"),
        ((url, "--token=x"), f"{url}: 401: it requires a valid token; set TRIODUCT_TOKEN or --token"),
        ((nobody,), f"{nobody}: Connection refused"),
        ((f"{url}/below",), f"{url}: 404 to /below/dashboard/live: no such node, or not an admin port"),
        ((f"http://127.0.0.1:{node.proxy}",), f"http://127.0.0.1:{node.proxy}: status 400 to /dashboard/live"),
        ((f"https://127.0.0.1:{node.admin}",), f"https://127.0.0.1:{node.admin}: TLS with"),
    ):
        code, said, complaint = await top(capsys, "--once", "--server.url", *flags)
        assert (code, said) == (1, "")
        (told,) = [one for one in complaint.splitlines() if not one.startswith("{")]  # beside the node's log
        assert told.startswith(f"trioduct: {line}")
    code, said, _ = await top(capsys, "--once", f"--server.url={url}", f"--token={jwt.encode({}, SECRET)}")
    assert code == 0
    assert "Nodes" in said


async def test_a_service_that_is_no_admin_port_is_told_from_one(roles: Roles, capsys: Captured) -> None:
    port = await roles.service(says(b"hello"))
    code, _, complaint = await top(capsys, "--once", f"--server.url=http://127.0.0.1:{port}")
    assert (code, complaint.count("\n")) == (1, 1)
    assert "status 200 to /dashboard/live" in complaint


def test_without_a_terminal_it_says_what_to_do(capsys: Captured) -> None:
    complains("top", "top: stdin and stdout are no terminal; expected one, or --once for one plain printout", capsys)


# The terminal -----------------------------------------------------------------------------------------------


class Terminal:
    """A window of tmux in which a command runs; what it says in the end stays there."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def tmux(self, *words: str) -> str:
        command = ["tmux", "-L", self._name, "-f", os.devnull, *words]
        environment = clean_environment() | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        done = await trio.run_process(command, capture_stdout=True, env=environment)
        return done.stdout.decode()

    async def press(self, *keys: str) -> None:
        await self.tmux("send-keys", *keys)

    async def wait(self, *words: str) -> str:
        """The screen, once all these are on it."""
        seen = ""
        with trio.move_on_after(15):
            while True:
                seen = await self.tmux("capture-pane", "-p")
                if all(word in seen for word in words):
                    return seen
                await trio.sleep(0.05)
        raise AssertionError(f"not on the screen: {words}\n{seen}")


@asynccontextmanager
async def terminal(*flags: str, columns: int = 130, lines: int = 24) -> AsyncIterator[Terminal]:
    found = Terminal(f"trioduct-{free_port()}")
    top = shlex.join([TRIODUCT, "top", *flags])
    command = f"{top}; code=$?; stty -a | grep -Eo -- '-?(icanon|echo) '; echo ended with $code; exec sleep 60"
    await found.tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), command)
    try:
        yield found
    finally:
        with trio.CancelScope(shield=True):
            await found.tmux("kill-server")


@needs("tmux")
@pytest.mark.timeout(90)
async def test_tables_are_chosen_sorted_and_held_by_keys_and_the_terminal_is_as_before(roles: Roles) -> None:
    node = await with_agents(roles, "apple", "pear", EVIL)
    async with terminal(f"--server.url=http://127.0.0.1:{node.admin}") as window:
        await window.wait("Requests/s▼", "apple", "[red]evil", "q quit")
        await window.press("2")
        seen = await window.wait("Carrier", "Round trip", "Out▼", "direct")
        await window.press("Right")  # from the last to the first
        seen = await window.wait("Endpoint▼")
        assert seen.index("pear") < seen.index("apple")
        await window.press("r")
        seen = await window.wait("Endpoint▲")
        assert seen.index("apple") < seen.index("pear")
        await window.press("Tab", "Tab")
        await window.wait("Proxy", f"127.0.0.1:{node.proxy}")
        await window.press("1", "Space")
        await window.wait("held")
        await window.tmux("resize-window", "-x", "60", "-y", "12")
        seen = await window.wait("Endpoint ", "Requests/s▼", "held")
        assert max(map(len, seen.splitlines())) <= 60
        assert "…" not in seen
        await window.press("Space", "q")
        seen = await window.wait("ended with 0")
        assert seen.split() == ["icanon", "echo", "ended", "with", "0"]  # and the screen is as it was


@needs("tmux")
@pytest.mark.timeout(90)
async def test_a_node_that_goes_is_told_and_one_that_comes_again_is_shown(roles: Roles) -> None:
    config = server_config()
    node = await roles.node(config)
    url = f"http://127.0.0.1:{node.admin}"
    async with terminal(f"--server.url={url}") as window:
        await window.wait("Requests/s▼")
        await node.kill()
        await window.wait(url, "Requests/s▼")  # what was seen last, and what is wrong
        config.admin.bind_addr = f"127.0.0.1:{node.admin}"
        config.cluster.node_id = "the-next-one"
        await roles.node(config)
        await window.wait("the-next-one")
        await window.press("C-c")
        await window.wait("ended with")
    async with terminal(f"--server.url=http://127.0.0.1:{free_port()}") as window:
        await window.wait("Connection refused", "ended with 1")


# Its parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"\t1r ", ["tab", "1", "r", " "]),
        (b"\x1b[C\x1bOD", ["right", "left"]),
        (b"\x1b[15~q", ["\x1b[15~", "q"]),
        (b"\x1b", ["\x1b"]),
        (b"\xff", ["\xff"]),
    ],
)
def test_keys_are_told_apart(data: bytes, keys: list[str]) -> None:
    assert keys_in(data) == keys


def test_keys_that_mean_nothing_do_nothing() -> None:
    view = View()
    before = dict(vars(view))
    for key in ("9", "0", "x", "\x1b[15~", "²", ""):
        view.press(key)
    assert dict(vars(view)) == before


def test_in_a_narrow_terminal_the_columns_aside_go_first() -> None:
    sessions = next(table for table in TABLES if table.key == "sessions").columns
    widths = dict.fromkeys(sessions, 10)
    by = next(column for column in sessions if column.key == "stalls")
    fit = partial(fitting, sessions, widths, by)

    def keys(columns: list[Column]) -> list[str]:
        return [column.key for column in columns]

    assert keys(fit(1000)) == keys(list(sessions))
    assert not [column for column in fit(110) if column.aside and column is not by]
    assert keys(fit(34)) == ["endpoint", "client", "stalls"]
    assert keys(fit(1)) == ["endpoint", "stalls"]
