"""An agent's token is replaced before it expires: a new session first, and then the end of the old one."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from engine.agent.token import AHEAD_SECONDS, RETRY_SECONDS, expiry_of
from engine.config import AgentConfig, ConnectConfig
from engine.errors import ConfigError
from tests.node.test_tokens import client_is_told, protected, token
from tests.roles import GET, Roles, Talk, agent_config, answer, settle, tell_head

HOUR = 3600


class Source:
    """A file with the token, or a command that prints it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "token"

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, self.path)

    def configure(self, config: AgentConfig, kind: str) -> None:
        if kind == "file":
            config.connect.token_file = str(self.path)
        else:
            program = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"
            config.connect.token_command = f"{sys.executable} -c '{program}' {self.path}"


async def passes(clock: MockClock, seconds: float) -> None:
    """Let time pass; what is read in a thread arrives meanwhile."""
    await settle()
    clock.jump(seconds)
    await settle()
    for _ in range(20):
        await trio.to_thread.run_sync(time.sleep, 0.02)
        await settle()


@pytest.mark.parametrize("kind", ["file", "command"])
async def test_a_new_session_stands_before_the_old_one_ends(
    roles: Roles, mock_clock: MockClock, tmp_path: Path, kind: str
) -> None:
    may_answer, asked = trio.Event(), trio.Event()

    async def serve(talk: Talk) -> None:
        while True:
            if b"/slow" in await talk.until(b"\r\n\r\n"):
                asked.set()
                await may_answer.wait()
            await talk.say(answer(b"done"))

    source = Source(tmp_path)
    source.write(token(exp=time.time() + HOUR, sub="a"))
    node = await roles.node(protected("upstream"))
    config = agent_config(node.upstream, await roles.service(serve))
    source.configure(config, kind)
    await roles.agent_with(config)
    await passes(mock_clock, HOUR - AHEAD_SECONDS - 5)
    slow = await roles.dial(node.proxy)
    await slow.say(GET.replace(b"GET /", b"GET /slow"))
    await asked.wait()
    source.write(token(exp=time.time() + 3 * HOUR, sub="a"))
    await passes(mock_clock, 6)
    assert await client_is_told(roles, node, GET) == (200, "")
    may_answer.set()
    assert (await slow.answer()).body == b"done"
    await passes(mock_clock, AHEAD_SECONDS + 5)  # the old token has expired
    assert await client_is_told(roles, node, GET) == (200, "")


async def test_a_source_that_has_none_yet_is_asked_again(roles: Roles, mock_clock: MockClock, tmp_path: Path) -> None:
    source = Source(tmp_path)
    source.write(token(exp=time.time() + HOUR))
    node = await roles.node(protected("upstream"))
    config = agent_config(node.upstream, await roles.service(tell_head))
    source.configure(config, "command")
    await roles.agent_with(config)
    await passes(mock_clock, HOUR - AHEAD_SECONDS + 1)
    source.path.unlink()  # the command fails
    await passes(mock_clock, RETRY_SECONDS)
    source.write(token(exp=time.time() + 3 * HOUR))
    await passes(mock_clock, RETRY_SECONDS)
    await passes(mock_clock, AHEAD_SECONDS)
    assert await client_is_told(roles, node, GET) == (200, "")


async def test_a_new_token_that_is_refused_does_not_end_what_the_old_one_permits(
    roles: Roles, mock_clock: MockClock, tmp_path: Path
) -> None:
    source = Source(tmp_path)
    source.write(token(exp=time.time() + HOUR))
    node = await roles.node(protected("upstream"))
    config = agent_config(node.upstream, await roles.service(tell_head))
    source.configure(config, "file")
    await roles.agent_with(config)
    source.write(token(exp=time.time() + 3 * HOUR, piko={"endpoints": ["other"]}))
    await passes(mock_clock, HOUR - AHEAD_SECONDS + 1)
    assert await client_is_told(roles, node, GET) == (200, "")
    source.write(token(exp=time.time() + 4 * HOUR))
    for _ in range(4):
        await passes(mock_clock, 10)
    await passes(mock_clock, AHEAD_SECONDS)
    assert await client_is_told(roles, node, GET) == (200, "")


def test_what_is_no_token_says_no_end() -> None:
    assert expiry_of(token(exp=17)) == 17
    for text in ("", "opaque", "a.b.c", token()):
        assert expiry_of(text) is None


def test_a_token_has_one_source() -> None:
    for connect in (
        ConnectConfig(url="http://node", token_command="print-token", token="x"),
        ConnectConfig(url="http://node", token_command="print-token", token_file="/x"),
    ):
        with pytest.raises(ConfigError, match="set as well as"):
            connect.verify()


@pytest.mark.parametrize(
    ("command", "problem"), [("/no/where", "No such file"), ("false", "exit code 1"), ("true", "printed nothing")]
)
def test_a_command_that_prints_no_token_is_told(command: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"token_command: '{command}': .*{problem}"):
        ConnectConfig(url="http://node", token_command=command).read_token()
