"""Programs are started, watched and stopped; none is left behind."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio

from perf.errors import LabError, MissingProgram
from perf.topologies.processes import clean_environment, find_program, free_port, open_ground

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = "import subprocess, sys, time; " + (
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(child.pid, flush=True); "
    "time.sleep(60)"
)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child that ended and was inherited by somebody who does not wait is dead too.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def test_everything_started_is_gone_when_the_ground_is_left_and_so_are_its_files() -> None:
    async with open_ground() as ground:
        pids = [(await ground.start(leg, SLEEPER)).pid for leg in ("one", "two")]
        directory = ground.directory
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)
    assert not directory.exists()


async def test_children_of_a_program_are_gone_with_it_also_when_cancelled() -> None:
    child = 0
    with trio.CancelScope() as scope:
        async with open_ground() as ground:
            started = await ground.start("parent", [sys.executable, "-c", PARENT])
            while not started.output.read_text().endswith("\n"):
                await trio.lowlevel.checkpoint()
            child = int(started.output.read_text())
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    while alive(child):  # the kernel takes a moment to bury it
        await trio.lowlevel.checkpoint()


async def test_a_program_that_ends_early_is_told_with_its_last_words() -> None:
    async with open_ground() as ground:
        started = await ground.start("node", [sys.executable, "-c", "print('no such key'); raise SystemExit(2)"])
        with pytest.raises(LabError, match="node ended with code 2: no such key"):
            await started.answers_at(free_port())


@pytest.mark.parametrize("module", ["own", "raw"])
async def test_a_port_that_was_taken_is_told_by_the_program_that_wanted_it(module: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with open_ground() as ground:
            argv = [sys.executable, "-m", f"perf.topologies.services.{module}", "--port", port]
            started = await ground.start("service", argv)
            await started.process.wait()
            with pytest.raises(LabError, match=r"service ended with code 1: .*Address already in use"):
                started.check()


async def test_a_program_that_was_killed_is_told_by_its_signal() -> None:
    async with open_ground() as ground:
        started = await ground.start("node", SLEEPER)
        os.kill(started.pid, signal.SIGKILL)
        await started.process.wait()
        with pytest.raises(LabError, match="SIGKILL"):
            started.check()


def test_a_missing_program_is_told_with_the_variable_that_could_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(MissingProgram, match=r"not-there is not installed; name it in .* NOT_THERE"):
        find_program("not-there", variable="NOT_THERE")


def test_the_users_proxies_do_not_reach_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "example")
    assert not {"HTTPS_PROXY", "no_proxy"} & set(clean_environment())
