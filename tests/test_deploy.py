"""The units in deploy/: what they run before the start is silent for an example, and says what is wrong in another."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def unit(role: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(PROJECT / f"deploy/trioduct-{role}.service")
    return parser


def run(command: str, config: Path) -> subprocess.CompletedProcess[str]:
    """Run a unit's command with our interpreter, and `config` in the place of the one in /etc."""
    command = command.replace("/opt/trioduct/bin/trioduct", f"{shlex.quote(sys.executable)} -m engine")
    words = shlex.split(re.sub(r"/etc/trioduct/\w+\.yaml", shlex.quote(str(config)), command))
    env = os.environ | {"TRIODUCT_CONNECT_TOKEN": "a.b.c", "TRIODUCT_UPSTREAM_AUTH_HMAC_SECRET_KEY": "5ecret-" * 5}
    return subprocess.run(words, cwd=PROJECT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("role", ["agent", "server"])
def test_what_runs_before_the_start_is_silent_unless_something_is_wrong(role: str, tmp_path: Path) -> None:
    before = unit(role)["Service"]["ExecStartPre"]
    done = run(before, PROJECT / f"examples/{role}.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("log: {level: loud}")
    done = run(before, wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "log.level: 'loud'" in done.stderr


@pytest.mark.parametrize("role", ["agent", "server"])
def test_a_unit_that_fails_is_started_again_for_ever(role: str) -> None:
    parser = unit(role)
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert parser["Service"]["Restart"] == "on-failure"
    assert "--config.expand-env" in parser["Service"]["ExecStart"]


@pytest.mark.parametrize("role", ["agent", "server"])
def test_a_unit_is_confined_as_far_as_the_readme_says(role: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    path = PROJECT / f"deploy/trioduct-{role}.service"
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", path], capture_output=True, text=True)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    said = re.search(rf"([0-9.]+) for the {role}'s", (PROJECT / "README.md").read_text())
    assert said is not None
    assert float(found[1]) <= float(said[1])
