"""The table of attacks in docs/security.md is the tests' own, and each of its tests is there."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.security.lines import DOCUMENT, in_document, lines, table

TESTS = Path(__file__).parents[1]


def test_the_document_has_the_tests_table() -> None:
    assert in_document(DOCUMENT.read_text()) == table(), "python -m tests.security.lines writes it"


def test_each_line_has_an_attack() -> None:
    assert {line.number for line in lines()} == set(range(1, 53))


def test_each_test_of_the_table_is_there() -> None:
    named = {test.partition("::") for line in lines() for test in line.tests}
    found = {
        (file, "::", node.name)
        for file in {file for file, _, _ in named}
        for node in ast.parse((TESTS / file).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert named - found == set()
