"""`trioduct completion`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.cli import main
from tests.cli.command_line import Captured


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --no")])
def test_a_shell_can_complete(shell: str, words: str, capsys: Captured) -> None:
    assert main(["completion", shell]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("trioduct ag", "agent"),
        ("trioduct agent http --connect.token-f", "--connect.token-file"),
        ("trioduct server --log.level w", "warn"),
    ],
)
def test_commands_flags_and_choices_are_completed(typed: str, offered: str) -> None:
    environ = os.environ | {"_TRIODUCT_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    done = subprocess.run(
        [sys.executable, "-c", "from engine.cli import main; main([])"],
        env=environ | {"COMP_CWORD": str(typed.count(" "))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"plain,{offered}\n"
