"""Trioduct as it was at a commit, installed into an environment of its own, which is kept for the next time."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from perf.errors import LabError


def program_at(revision: str) -> Path:
    """The installed command of a revision of the repository one stands in. Raises LabError.

    Installing takes its dependencies from wherever pip is told to take them.
    """
    commit = _said("git", "rev-parse", "--verify", f"{revision}^{{commit}}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    environment = cache / "trioduct-perf" / commit
    program = environment / "bin" / "trioduct"
    if not program.exists():
        with tempfile.TemporaryDirectory(prefix="trioduct-perf-") as source:
            _said("git", "worktree", "add", "--detach", f"{source}/tree", commit)
            try:
                _said(sys.executable, "-m", "venv", "--clear", str(environment))
                _said(str(environment / "bin" / "pip"), "install", "--quiet", f"{source}/tree")
            finally:
                _said("git", "worktree", "remove", "--force", f"{source}/tree")
    return program


def last_release() -> str:
    """The newest tag that leads to where one stands. Raises LabError."""
    try:
        return _said("git", "describe", "--tags", "--abbrev=0", "HEAD")
    except LabError as error:
        raise LabError(f"there is no last release to measure beside, name a program by --against: {error}") from error


def _said(*argv: str) -> str:
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{argv[0]} failed: {error}") from error
    if answer.returncode:
        words = (answer.stderr or answer.stdout).strip().splitlines()
        raise LabError(f"{' '.join(argv[:3])} failed: {words[-1] if words else answer.returncode}")
    return answer.stdout.strip()
