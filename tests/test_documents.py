"""What README and examples tell people to type is what the command takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.programs import TRIODUCT, Programs

PROJECT = Path(__file__).parent.parent
EXAMPLES = sorted((PROJECT / "examples").glob("*.yaml"))
SECRETS = {  # that an example reads from the environment
    "TRIODUCT_PROXY_PASSWORD": "s3cret",
    "TRIODUCT_CONNECT_TOKEN": "a.b.c",
    "TRIODUCT_CLUSTER_SECRET": "5ecret-5ecret-5ecret-5ecret-5ecret",
    "TRIODUCT_UPSTREAM_AUTH_HMAC_SECRET_KEY": "5ecret-5ecret-5ecret-5ecret-5ecret",
}


def typed_lines() -> list[str]:
    """Command lines that start a role, from the README's blocks and the first line of each example."""
    blocks = re.findall(r"```sh\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    lines = "\n".join(blocks).splitlines() + [path.read_text().partition("\n")[0][2:] for path in EXAMPLES]
    found = (re.search(r"\btrioduct (server|agent|forward) [^#]*|\btrioduct server(?= )", line) for line in lines)
    return [match.group().strip() for match in found if match and "server status" not in match.group()]


@pytest.mark.parametrize("line", typed_lines())
async def test_a_line_that_people_copy_is_a_valid_configuration(line: str, programs: Programs) -> None:
    words = shlex.split(line)[1:]
    if words[1:3] != ["config", "check"]:
        words.append("--config.check")
    command = await programs.start(TRIODUCT, *words, env=SECRETS)
    assert await command.wait_end() == 0, command.text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
async def test_an_example_passes_config_check(path: Path, programs: Programs) -> None:
    role = path.stem.partition("-")[0]
    words = (role, "config", "check", "--config.path", path, "--config.expand-env")
    command = await programs.start(TRIODUCT, *words, env=SECRETS)
    assert await command.wait_end() == 0, command.text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
async def test_an_example_whose_secrets_nobody_has_set_is_refused(path: Path, programs: Programs) -> None:
    role = path.stem.partition("-")[0]
    if "${" not in path.read_text():
        pytest.skip("it has no secret")
    for expanding in (["--config.expand-env"], []):
        command = await programs.start(TRIODUCT, role, "config", "check", "--config.path", path, *expanding)
        assert await command.wait_end() == 2, command.text
        assert ("is not set" if expanding else "nothing has replaced it") in command.text


@pytest.mark.parametrize("path", sorted((PROJECT / "deploy").glob("*.service")), ids=lambda path: path.name)
def test_a_unit_checks_the_very_command_that_it_starts(path: Path) -> None:
    (start,) = re.findall(r"^ExecStart=(.*)$", path.read_text(), re.M)
    (check,) = re.findall(r"^ExecStartPre=(.*)$", path.read_text(), re.M)
    assert check == f"/bin/sh -c 'exec {start} --config.check >/dev/null'"


@pytest.mark.parametrize("path", sorted((PROJECT / "deploy").glob("*.service")), ids=lambda path: path.name)
def test_a_unit_does_not_start_without_the_file_that_has_its_secrets(path: Path) -> None:
    assert re.findall(r"^EnvironmentFile=(.*)$", path.read_text(), re.M) == [
        f"/etc/trioduct/{path.stem.removeprefix('trioduct-')}.env"
    ]
