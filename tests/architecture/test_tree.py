"""What is in the tree is for everybody: nothing in it knows the machine that it was written on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]

# In pieces, or this file would find itself.
MACHINE = re.compile(
    "|".join(["/" + "work/", "/" + "root/", r"/home/\w+/\.", "pypi" + r"\.org", "pythonhosted" + r"\.org"])
)
TEXTS = {
    ".py",
    ".toml",
    ".ini",
    ".md",
    ".yaml",
    ".yml",
    ".service",
    ".cfg",
    ".sh",
    ".txt",
    ".go",
    ".html",
    "",
}


def texts() -> Iterator[Path]:
    """Every text of the project; hidden folders are tools', but for the gate's."""
    for path in [*PROJECT.glob("*"), *PROJECT.glob("[!.]*/**/*"), *PROJECT.glob(".ci/*")]:
        if path.is_file() and path.suffix in TEXTS and not path.name.startswith("."):
            yield path


def test_no_text_names_a_path_or_registry_of_one_machine() -> None:
    found = [
        f"{path.relative_to(PROJECT)}: {match.group()}"
        for path in texts()
        if (match := MACHINE.search(path.read_text("utf-8", "replace")))
    ]
    assert found == []
