"""Secrets that a run writes down fail it, wherever they stand."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canary import CANARY, found_below, found_in

PROJECT = Path(__file__).parent.parent
CONFTEST = """
from tests import canary
from tests.conftest import programs

def pytest_configure(config):
    canary.watch(config)
"""
TESTS = """
import sys
from tests.canary import CANARY

def test_a_file(tmp_path):
    (tmp_path / "agent.log").write_text(f"one\\ntwo {CANARY}\\n")

def test_a_file_for_its_owner_alone(tmp_path):
    file = tmp_path / "password"
    file.write_text(CANARY)
    file.chmod(0o600)

def test_stderr():
    print(f"said {CANARY}", file=sys.stderr)

async def test_an_output(programs):
    await (await programs.start("echo", "-n", "one")).wait_end()
    await (await programs.start("cat", __file__)).wait_end()
    await (await programs.start("sh", "-c", "echo c4nary; echo quite c4nary''7Q2x")).wait_end()

async def test_an_argument(programs):
    await (await programs.start("true", f"--token={CANARY}")).wait_end()
"""
FOUND = [  # in the order of the summary, in which paths stand in front
    r"test_it\.py::test_stderr: Captured stderr call, line 1, behind 'said '$",
    r"/programs\d/\d+\.txt: line 3, behind 'quite '$",
    r"/programs\d/\d+\.txt: line 1, behind 'true --token='$",
    r"/test_a_file0/agent\.log: line 2, behind 'two '$",
]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that this run does not look into."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("workers", [0, 2])
def test_secrets_that_were_written_down_fail_the_run_and_are_told_by_file_and_line(
    workers: int, elsewhere: Path
) -> None:
    (elsewhere / "conftest.py").write_text(CONFTEST)
    (elsewhere / "test_it.py").write_text(TESTS)
    (elsewhere / "pytest.ini").write_text("[pytest]\ntrio_mode = true\ntimeout = 60\n")
    words = ["-q", "-p", "no:cacheprovider", f"--basetemp={elsewhere}/tmp", f"-n{workers}", str(elsewhere)]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    told = done.stdout.partition("secrets that were written down")[2].splitlines()
    told = [line for line in told if ", behind " in line]
    assert len(told) == len(FOUND), told
    for pattern in FOUND:
        assert any(re.search(pattern, line) for line in told), told
    assert CANARY not in done.stdout


@pytest.mark.parametrize("before", ["", "a", "ab", "user:", "Bearer {"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_secret_is_found_however_it_is_written(before: str, encoding: str) -> None:
    secret = f"{before}{CANARY}-and-more".encode(encoding)
    assert found_in(secret)
    assert found_in(base64.b64encode(secret))
    assert found_in(base64.urlsafe_b64encode(secret).rstrip(b"="))
    assert found_in(secret.hex().encode())
    assert found_in("".join(f"%{byte:02X}" for byte in secret).encode())
    assert found_in(b"a\nb\n" + secret)[0].startswith("line 3, behind ") or encoding != "utf-8"
    assert not found_in(CANARY[:-1].encode(encoding))


def test_a_core_file_is_no_place_for_secrets(elsewhere: Path) -> None:
    for name in ("core", "secret"):
        (elsewhere / name).write_text(CANARY)
        (elsewhere / name).chmod(0o600)
    assert len(list(found_below(elsewhere))) == 1
