"""The command `trioduct` itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine import __version__
from engine.cli import main
from engine.cli.root import BUILD
from tests.cli.command_line import Captured, complains


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("nonsense", "No such command 'nonsense' (trioduct --help)"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)


@pytest.mark.parametrize("argv", [[], ["agent"], ["forward"], ["server", "status"]])
def test_a_group_alone_shows_its_help(argv: list[str], capsys: Captured) -> None:
    assert main(argv) == 2
    assert "Commands:" in capsys.readouterr().err


def test_help_is_a_command_as_well(capsys: Captured) -> None:
    assert main(["help", "agent", "http"]) == 0
    helped = capsys.readouterr().out
    assert main(["agent", "http", "--help"]) == 0
    assert capsys.readouterr().out == helped


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_is_told(flag: str, capsys: Captured) -> None:
    assert main([flag]) == 0
    assert capsys.readouterr().out == f"trioduct {__version__} ({BUILD})\n"


def test_help_imports_nothing_that_takes_long() -> None:
    program = """
import sys
from engine.cli import main
from engine.cli.root import BUILD
main(["--help"]), main(["server", "--help"])
heavy = {"trio", "yaml", "ssl", "rich", "structlog", "jwt", "cryptography", "starlette", "hypercorn", "http.client"}
sys.exit(", ".join(sorted(heavy & sys.modules.keys())) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
