"""Man pages and shell completion for the packages, made of the command's own help.

A hook of hatchling's (https://hatch.pypa.io/latest/plugins/build-hook/custom/), on when HATCH_BUILD_HOOK_ENABLE_CUSTOM
is true: it needs help2man (Debian's package of that name) and everything that `trioduct --help` imports, which somebody
who only installs from the sources does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# help2man keeps a line as it is if it begins with a prompt, and runs the others together.
PROGRAM = """#!/bin/sh
"{python}" -m engine {words} "$@" | sed 's/^    \\(  *\\)\\?\\(.*trioduct \\|curl \\|eval \\|psql \\)/    $ \\2/'
"""
COMPLETIONS = {
    "bash": "share/bash-completion/completions/trioduct",
    "zsh": "share/zsh/site-functions/_trioduct",
    "fish": "share/fish/vendor_completions.d/trioduct.fish",
}


class Hook(BuildHookInterface[Any]):
    folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        self.folder = folder = Path(tempfile.mkdtemp())
        write_all(folder, Path(self.root), self.metadata.version)
        for path in folder.rglob("*"):
            if path.is_file():
                build_data["shared_data"][str(path)] = str(path.relative_to(folder))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder)


def write_all(folder: Path, root: Path, version: str) -> None:
    """Write share/man and the completion scripts into `folder`. `root` is where the sources are."""
    sys.path.insert(0, str(root))
    try:
        from engine.cli.root import trioduct
    finally:
        sys.path.remove(str(root))
    # With what pip has put beside us for the build.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path]), "COLUMNS": "100"}
    manual = folder / "share/man/man1"
    manual.mkdir(parents=True)
    for words, summary in commands(trioduct):
        (manual / f"{'-'.join(words)}.1").write_text(man_page(words, summary, version, environment))
    for shell, name in COMPLETIONS.items():
        path = folder / name
        path.parent.mkdir(parents=True)
        command = [sys.executable, "-m", "engine", "completion", shell]
        path.write_text(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def commands(command: Any, words: tuple[str, ...] = ("trioduct",)) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each command that is not hidden, in words, and what it is for."""
    if not command.hidden:
        yield words, summary_of(command)
        for name, below in getattr(command, "commands", {}).items():
            yield from commands(below, (*words, name))


def summary_of(command: Any) -> str:
    summary: str = command.get_short_help_str(200).rstrip(".")
    return summary[:1].lower() + summary[1:]


def man_page(words: tuple[str, ...], summary: str, version: str, environment: dict[str, str]) -> str:
    if shutil.which("help2man") is None:
        raise RuntimeError("no help2man; expected Debian's package help2man, or no HATCH_BUILD_HOOK_ENABLE_CUSTOM")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "-".join(words))
        program.write_text(PROGRAM.format(python=sys.executable, words=" ".join(words[1:])))
        program.chmod(0o755)
        said = f"{program.name} {version}"
        command = ["help2man", "--no-info", "--version-string", said, "--name", summary, str(program)]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
