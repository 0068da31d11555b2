"""What is said by a command, and what it would run with."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
import yaml

from engine.cli import main
from engine.cli.root import trioduct

Captured = pytest.CaptureFixture[str]


def effective(capsys: Captured, role: str, *argv: str) -> dict[str, object]:
    """The configuration that a command would run with."""
    assert main([role, "--config.check", *argv]) == 0, capsys.readouterr().err
    found = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def complains(argv: str, line: str, capsys: Captured) -> None:
    """Run a command whose line of argv is wrong: one line on stderr says so, which begins with `line`."""
    assert main(argv.split(" ")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"trioduct: {line}")
    assert said.err.count("\n") == 1


def value_of(config: object, flag: str) -> object:
    for name in flag.removeprefix("--").replace("-", "_").split("."):
        assert isinstance(config, dict)
        config = config[name]
    return config


def commands(group: click.Group = trioduct, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def flags_of(command: str) -> set[str]:
    found: click.Command = trioduct
    for name in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return {option.removeprefix("--") for param in found.params for option in param.opts}
