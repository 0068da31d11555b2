"""What is read off processes: CPU, context switches, system calls."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from perf.errors import LabError
from perf.probes.calls import counted, parse_summary
from perf.probes.legs import Usage, read_leg, read_legs, used_between

SCRIPT = """
import os
print("up", flush=True)
while input() != "end":
    for _ in range(100):
        os.getppid()
    print("done", flush=True)
"""
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def test_waits_are_counted_of_all_threads_and_not_of_the_first_alone() -> None:
    here, there = socket.socketpair()

    def give_back() -> None:
        while ball := there.recv(1):
            there.send(ball)

    thread = threading.Thread(target=give_back)
    with here, there:
        before = _waits_of_first_thread(), read_leg(os.getpid())
        thread.start()
        for _ in range(200):
            here.send(b".")
            here.recv(1)
        of_all = read_leg(os.getpid()).since(before[1]).waits
        of_first = _waits_of_first_thread() - before[0]
        here.shutdown(socket.SHUT_WR)
        thread.join()
    assert of_all > of_first


def _waits_of_first_thread() -> int:
    return psutil.Process().num_ctx_switches().voluntary


def test_what_was_used_is_a_difference_but_memory_is_what_there_is() -> None:
    before = {"node": Usage(1.0, 10, 5, 1000, 2000)}
    after = {"node": Usage(1.5, 14, 6, 3000, 4000), "agent": Usage(0.25, 1, 1, 10, 20)}
    used = used_between(before, after)
    assert used == {"node": Usage(0.5, 4, 1, 3000, 4000), "agent": Usage(0.25, 1, 1, 10, 20)}


def test_a_process_has_had_at_least_what_it_has() -> None:
    usage = read_leg(os.getpid())
    assert usage.peak_bytes >= usage.resident_bytes > 0


def test_a_process_that_is_gone_reads_as_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert read_legs({"node": process.pid}) == {"node": Usage()}


def test_the_summary_of_strace_is_read_without_its_rules_and_total() -> None:
    text = (
        "syscall              calls\n---------------- ---------\nrecvfrom              1200\n"
        "epoll_wait              30\n---------------- ---------\ntotal                 1230\n"
    )
    assert parse_summary(text) == {"recvfrom": 1200, "epoll_wait": 30}
    assert parse_summary("") == {}


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """It calls getppid 100 times for each line but `end`."""
    argv = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "up\n"
        yield started
        started.kill()


@needs_strace
async def test_calls_are_counted_while_the_body_runs_and_the_process_goes_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    async with counted({"node": process.pid}) as found:
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
    process.stdin.write("end\n")
    process.stdin.close()
    assert process.wait() == 0
    assert found["node"]["getppid"] == 100


@needs_strace
async def test_what_strace_cannot_attach_to_is_a_sentence(process: subprocess.Popen[str]) -> None:
    async with counted({"node": process.pid}):
        with pytest.raises(LabError, match="strace cannot attach to node: "):
            async with counted({"node": process.pid}):  # a process has one tracer
                pass
