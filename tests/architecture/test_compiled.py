"""What is compiled keeps to what mypyc compiles rightly."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def patterns() -> list[str]:
    """Of the modules that the build hook compiles."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    found: list[str] = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["include"]
    return found


def test_every_pattern_names_a_module() -> None:
    assert [pattern for pattern in patterns() if not list(PROJECT.glob(pattern))] == []


def test_nothing_is_called_inside_a_slice() -> None:
    """mypyc evaluates the bounds of a slice twice where it does not know the type of what is cut."""
    found = [
        f"{path.relative_to(PROJECT)}:{node.lineno}: {ast.unparse(node)}"
        for pattern in patterns()
        for path in PROJECT.glob(pattern)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Slice)
        and any(isinstance(part, ast.Call | ast.NamedExpr | ast.Await) for part in ast.walk(node))
    ]
    assert found == []
