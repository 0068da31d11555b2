"""What pages and examples tell people to type is what the command takes.

Each block of commands is run here, as far as a command goes without starting anything, or there stands above it who
runs it (`<!-- run by tests/… -->`), or why nobody does (`<!-- not run: … -->`).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.cli import main
from engine.config import expand
from tests.cli.command_line import Captured
from tests.programs import clean_environment

PROJECT = Path(__file__).parent.parent
EXAMPLES = sorted((PROJECT / "examples").glob("*.yaml"))
SECRET = "5ecret-5ecret-5ecret-5ecret-5ecret"
SECRETS = {  # that an example reads from the environment
    "TRIODUCT_PROXY_PASSWORD": "s3cret",
    "TRIODUCT_CONNECT_TOKEN": "a.b.c",
    "TRIODUCT_CLUSTER_SECRET": SECRET,
    "TRIODUCT_UPSTREAM_AUTH_HMAC_SECRET_KEY": SECRET,
    "TRIODUCT_TOKEN_KEY": SECRET,
}


PAGES = [PROJECT / name for name in ("README.md", "SECURITY.md", "deploy/README.md")]
PAGES += sorted((PROJECT / "docs").rglob("*.md"))
# What stands above a block: a comment, which Markdown does not show.
MARK = re.compile(r"<!-- (?:run by (?P<tests>tests/\S+(?:, tests/\S+)*)|not run: (?P<reason>.+)) -->\Z")
# Their `--config.check` says whether they could start; the others are run as they are.
STARTING = ("server", "agent", "forward", "top", "doctor", "demo", "bench")
CHECKLIST = "--public"  # ends with 1 where a node lacks something


class Block(NamedTuple):
    """A block of commands of a page, and the comment above it."""

    page: str
    line: int
    mark: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines, without comments, variables that are set in front, and where the output goes."""
        lines = self.text.replace("\\\n", " ").splitlines()
        found = (re.sub(r"^(?:export )?(?:\w+=(?:\$\([^)]*\)|\S+)\s*)+", "", line.partition(" #")[0]) for line in lines)
        return [re.sub(r" >\S+", "", line).strip() for line in found if line.strip() and not line.startswith("#")]


def blocks() -> Iterator[Block]:
    for path in PAGES:
        text = path.read_text()
        for match in re.finditer(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            before = text[: match.start()].rstrip()
            above = before.rpartition("\n")[2]
            place = text.count("\n", 0, match.start()) + 1
            yield Block(str(path.relative_to(PROJECT)), place, above if above.startswith("<!--") else "", match[1])


def name_of(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What people are told to have by then: files, and secrets in the environment."""
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for name in ("tunnel.key", "clients.key", "cluster.secret", "agent.token"):
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o600)
    for name in ("server", "agent", "forward"):
        (tmp_path / f"{name}.yaml").write_text(expand((PROJECT / f"examples/{name}.yaml").read_text(), SECRETS))
    (tmp_path / "htpasswd").write_text("alice:$2y$05$ADMC4jZZ3RB0sgYEI8PgJOoW1NHZlp0bSYAIrXLyHBaE0.Acs4HLy\n")
    (tmp_path / "htpasswd").chmod(0o600)
    (tmp_path / "examples").symlink_to(PROJECT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", list(blocks()), ids=name_of)
def test_a_command_that_people_copy_can_start(block: Block, folder: Path, capsys: Captured) -> None:
    assert block.commands
    for line in block.commands:
        program, *words = shlex.split(line, comments=True)
        ours, starts = Path(program).name == "trioduct", words[:1] != [] and words[0] in STARTING
        if block.mark and not (ours and starts):
            continue
        assert ours, f"{line}: above the block has to stand which test runs it, or why none can"
        words = [word.replace("/etc/trioduct/", "").replace("tunnel/", "") for word in words]
        if starts and words[1:3] != ["config", "check"]:
            words.append("--config.check")
        code = main(words)
        assert code == 0 or (code == 1 and CHECKLIST in words), capsys.readouterr().err


@pytest.mark.parametrize("block", [block for block in blocks() if block.mark], ids=name_of)
def test_who_runs_the_other_commands_is_there(block: Block) -> None:
    mark = MARK.match(block.mark)
    assert mark, f"{block.mark}: expected `run by tests/…` or `not run: why`"
    for name in (mark["tests"] or "").split(", "):
        path, _, function = name.partition("::")
        assert not name or (PROJECT / path).is_file()
        assert f"def {function}(" in (PROJECT / path).read_text() if function else True


def test_the_hook_of_certbot_brings_what_was_renewed(tmp_path: Path) -> None:
    (text,) = (block.text for block in blocks() if block.page == "docs/https.md" and "RENEWED_LINEAGE" in block.text)
    text = text.replace("/etc/trioduct/tls", str(tmp_path / "tls")).replace("trioduct-tls", str(os.getgid()))
    for folder in ("tls", "live"):
        (tmp_path / folder).mkdir()
    for day in ("today", "tomorrow"):
        for file in ("fullchain", "privkey", "chain"):
            (tmp_path / f"live/{file}.pem").write_text(f"{file} of {day}")
        subprocess.run(["sh", "-c", text], env=os.environ | {"RENEWED_LINEAGE": str(tmp_path / "live")}, check=True)
        found = {path.name: path.read_text() for path in (tmp_path / "tls").iterdir()}
        assert found == {"fullchain.pem": f"fullchain of {day}", "privkey.pem": f"privkey of {day}"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "tls").iterdir()} == {0o640}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_passes_config_check(path: Path, folder: Path, capsys: Captured) -> None:
    role = path.stem.partition("-")[0]
    code = main([role, "config", "check", "--config.path", str(path), "--config.expand-env"])
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_whose_secrets_nobody_has_set_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    role = path.stem.partition("-")[0]
    if "${" not in path.read_text():
        pytest.skip("it has no secret")
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    for expanding in (["--config.expand-env"], []):
        assert main([role, "config", "check", "--config.path", str(path), *expanding]) == 2
        said = capsys.readouterr().err
        assert ("is not set" if expanding else "nothing has replaced it") in said


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


def test_the_metrics_that_an_operator_is_told_to_watch_are_there() -> None:
    told = re.findall(r"`((?:trioduct|piko)_\w+)`", (PROJECT / "docs/operations.md").read_text())
    sources = "\n".join(path.read_text() for path in (PROJECT / "engine").rglob("*.py"))
    assert len(told) > 10
    for name in told:
        family = name.removesuffix("_total")
        common = family.replace("piko_proxy_", "{prefix}_")  # what node and agent count alike
        assert f'"{family}"' in sources or f'"{common}"' in sources, name
