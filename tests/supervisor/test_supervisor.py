"""A supervisor and what it does with workers that serve, fail, lie, hang and die; they are played by a script."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from engine.cluster.messages import Sockets
from engine.config import ServerConfig
from engine.errors import ConfigError
from engine.loop.listen import open_shared_listeners
from engine.loop.memory import process_limit
from engine.node.node import Addresses
from engine.supervisor import process
from engine.supervisor.process import Phase, Worker
from engine.supervisor.supervisor import Supervisor, run_supervisor
from tests.roles import server_config
from tests.supervisor import played

WORKERS = 2


class Bed:
    """A supervisor that runs. `how` its workers are, from the next one on, stands in a file."""

    def __init__(self, supervisor: Supervisor, command: list[str]) -> None:
        self.supervisor = supervisor
        self.command = command  # which the supervisor starts anew for each

    def play(self, how: str) -> None:
        self.command[-1] = how

    @property
    def workers(self) -> list[Worker]:
        return [slot.worker for slot in self.supervisor._slots if slot.worker is not None]

    async def wait(self, what: Callable[[], bool]) -> None:
        while not what():  # noqa: ASYNC110
            await trio.sleep(0.01)

    async def wait_started_instead(self, index: int, before: Worker) -> Worker:
        """Return when another is in its place, which has its command; see `play`."""
        await self.wait(lambda: self.workers[index] is not before and self.workers[index].pid != 0)
        return self.workers[index]

    async def wait_ready(self) -> None:
        await self.wait(lambda: len(self.workers) == WORKERS and not self.supervisor.degraded)

    async def told(self, index: int) -> str:
        """All that a worker was told since it was ready."""
        await self.supervisor.refresh()
        return "\n".join(one.endpoint for one in self.workers[index].sessions)

    def value(self, name: str) -> float:
        samples = [sample for family in self.supervisor.metrics() for sample in family[3]]
        return sum(value for sample, _, value in samples if sample == name)


@asynccontextmanager
async def running(folder: Path, how: str, config: ServerConfig | None = None) -> AsyncIterator[Bed]:
    config = config or ServerConfig()
    config.cluster.node_id = "node"
    ports = [open_shared_listeners("127.0.0.1:0", WORKERS) for _ in range(2)]
    held = [sock for port in ports for each in port for sock in each]
    proxy, upstream = ([[one.fileno() for one in each] for each in port] for port in ports)
    sockets = [Sockets(proxy[index], upstream[index], []) for index in range(WORKERS)]
    address = ("127.0.0.1", 1)
    command = [sys.executable, played.__file__, how]
    async with trio.open_nursery() as nursery:
        addresses = Addresses(address, address, address)
        supervisor = Supervisor(config, command, addresses, address, sockets, held, folder, nursery)
        nursery.start_soon(supervisor.start)
        nursery.start_soon(supervisor.run)
        nursery.start_soon(supervisor.watch)
        try:
            yield Bed(supervisor, command)
        finally:
            nursery.cancel_scope.cancel()
    for sock in held:
        sock.close()


async def test_what_one_serves_is_told_to_all_others_and_counted_together(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        await bed.wait(lambda: bed.supervisor.status().endpoints == {"e0": 2, "e1": 2})
        first, second = bed.workers
        assert f"id='{second.id}'" in await bed.told(0)
        assert f"id='{first.id}'" in await bed.told(1)
        assert bed.supervisor.not_ready is None
        assert bed.value("trioduct_workers") == WORKERS
        assert bed.value("seen_total") == 2 * WORKERS
        assert bed.value("process_resident_memory_bytes") > 0


async def test_the_readings_of_all_are_one(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        reading, missing = await bed.supervisor.read()
        assert (reading.requests, reading.session_count, missing) == (30.0, 2, "")
        assert [(row.id, row.phase) for row in reading.workers] == [(one.id, "ready") for one in bed.workers]


async def test_one_whose_reading_is_none_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path, "reads") as bed:
        await bed.wait_ready()
        doomed = bed.workers
        bed.play("serves")
        await bed.supervisor.read()
        await bed.wait(lambda: all(one.phase is Phase.ENDED for one in doomed))


async def test_one_that_dies_is_replaced_its_sockets_are_anothers_meanwhile_and_its_counters_stay(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        await bed.supervisor.refresh()
        counted = bed.value("seen_total")
        first, second = bed.workers
        os.kill(second.pid, signal.SIGKILL)
        await second.ended.wait()
        assert second.code == -signal.SIGKILL
        assert bed.supervisor.degraded == "of 2 workers, not ready: 2"
        assert "Accept(of=[0, 1])" in await bed.told(0)
        assert f"Gone(id='{second.id}')" in await bed.told(0)
        await bed.wait_ready()
        assert (await bed.told(0)).rstrip().endswith("Accept(of=[0])") or "Accept(of=[0])" in await bed.told(0)
        assert bed.workers[0] is first
        assert bed.workers[1].id == "node.3"
        assert bed.supervisor.restarts == 1
        assert bed.value("seen_total") >= counted
        assert bed.supervisor.status().endpoints.get("e0") == 2


async def test_who_is_second_to_hold_an_endpoint_for_another_principal_loses_it(tmp_path: Path) -> None:
    async with running(tmp_path, "holds") as bed:
        await bed.wait_ready()
        while "Lose(endpoint='shop')" not in (await bed.told(0)) + (await bed.told(1)):  # noqa: ASYNC110
            await trio.sleep(0.01)
        told = [await bed.told(0), await bed.told(1)]
        (winner,) = [index for index in range(WORKERS) if "Lose" not in told[index]]
        assert bed.supervisor._owners.held_elsewhere() == {bed.workers[winner].id: {"shop": f"principal {winner}"}}


async def test_what_parties_have_with_one_worker_is_told_to_all_others_and_to_later_ones(tmp_path: Path) -> None:
    async with running(tmp_path, "counts") as bed:
        await bed.wait_ready()
        first, second = bed.workers
        known = {id: {"proxy.connections": {"192.0.2.7": 5}} for id in (first.id, second.id)}
        await bed.wait(lambda: bed.supervisor._counts == known)
        told = await bed.told(0)
        assert f"Count(id='{second.id}', limit='proxy.connections', party='192.0.2.7', count=5)" in told
        assert "Taken(limit='proxy.requests', party='web', amount=3.0)" in told
        os.kill(second.pid, signal.SIGKILL)
        await bed.wait(lambda: bed.workers[1] is not second)
        await bed.wait_ready()
        assert second.id not in bed.supervisor._counts
        assert f"Count(id='{first.id}'" not in await bed.told(1)  # it has heard of it as it began


async def test_one_that_may_hold_more_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        while not all(["Share(size=" in await bed.told(index) for index in range(WORKERS)]):  # noqa: ASYNC110
            await trio.sleep(0.05)
        assert f"Share(size={process_limit() // WORKERS})" in await bed.told(0)


async def test_one_that_was_behind_tells_all_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "catches up") as bed:
        await bed.wait_ready()
        await bed.wait(lambda: bed.supervisor.status().endpoints == {"shop": 6})
        assert set(bed.supervisor._owners.held_elsewhere()) == {worker.id for worker in bed.workers}


async def test_one_that_speaks_for_another_is_not_believed(tmp_path: Path) -> None:
    async with running(tmp_path, "lies") as bed:
        await bed.wait_ready()
        await bed.told(0)
        assert bed.supervisor.status().endpoints == {}


async def test_one_that_says_what_cannot_be_is_killed_and_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        bed.play("babbles")
        babbler = bed.workers[1]
        os.kill(babbler.pid, signal.SIGKILL)
        babbler = await bed.wait_started_instead(1, babbler)
        bed.play("serves")
        await babbler.ended.wait()
        assert babbler.code == -signal.SIGKILL
        await bed.wait_ready()


async def test_one_that_does_not_answer_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ANSWER_SECONDS", 0.2)
    async with running(tmp_path, "hangs") as bed:
        await bed.wait_ready()
        with trio.fail_after(20):
            said = await bed.supervisor.refresh()
        assert said == "not answered: worker 1, 2; their figures are of earlier"
        assert bed.value("trioduct_workers") == WORKERS
        assert bed.value("trioduct_workers_late") == WORKERS


async def test_one_that_has_died_is_not_waited_for_and_one_that_is_slow_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ANSWER_SECONDS", 0.5)
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        assert await bed.supervisor.refresh() == ""
        counted = bed.value("seen_total")
        slow, dead = bed.workers
        os.kill(slow.pid, signal.SIGSTOP)
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(2):  # who asks meanwhile is not forgotten either
                    nursery.start_soon(bed.supervisor.refresh)
                await trio.testing.wait_all_tasks_blocked(0.05)
                os.kill(dead.pid, signal.SIGKILL)
            assert slow.late
            assert not dead.late
            assert bed.value("trioduct_workers_late") == 1
            assert bed.value("seen_total") >= counted
        finally:
            os.kill(slow.pid, signal.SIGCONT)
        await bed.wait_ready()
        assert await bed.supervisor.refresh() == ""
        assert bed.value("trioduct_workers_late") == 0


async def test_one_that_is_stuck_gets_a_helper_and_is_killed_and_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        bed.play("is stuck")
        stuck = bed.workers[1]
        os.kill(stuck.pid, signal.SIGKILL)
        stuck = await bed.wait_started_instead(1, stuck)
        bed.play("serves")
        await bed.wait(lambda: stuck.phase is Phase.READY)
        await bed.wait(lambda: not stuck.answers)
        assert stuck.phase is Phase.READY
        assert bed.supervisor.degraded == "of 2 workers, not ready: 2"
        assert bed.workers[0]._accepts == [0, 1]
        await stuck.ended.wait()
        assert stuck.code == -signal.SIGKILL
        assert bed.supervisor.hung == bed.value("trioduct_workers_hung_total") == 1
        await bed.wait_ready()


async def test_one_that_was_silent_for_a_moment_goes_on_alone(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        os.kill(bed.workers[1].pid, signal.SIGSTOP)
        try:
            await bed.wait(lambda: bool(bed.supervisor.degraded))
        finally:
            os.kill(bed.workers[1].pid, signal.SIGCONT)
        await bed.wait_ready()
        await bed.wait(lambda: bed.workers[0]._accepts == [0])
        assert bed.supervisor.hung == bed.supervisor.restarts == 0


async def test_a_first_one_that_fails_is_the_end(tmp_path: Path) -> None:
    async with running(tmp_path, "fails") as bed:
        await bed.wait(lambda: bed.supervisor.code == 7)
        await bed.wait(lambda: not bed.supervisor._workers)
        assert bed.supervisor.restarts == 0


async def test_one_that_is_told_to_leave_by_another_is_replaced_before_it_has_ended(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        old = bed.workers[0]
        old.leave()  # as it would by SIGTERM: its supervisor has not decided it
        await old.ended.wait()
        await bed.wait_ready()
        assert bed.workers[0] is not old
        assert f"Leaves(id='{old.id}')" in await bed.told(1)
        assert bed.supervisor._owners._leaving == set()


async def test_all_leave_and_those_that_do_not_are_stopped(tmp_path: Path) -> None:
    config = ServerConfig(grace_period=0.1)
    async with running(tmp_path, "stays", config) as bed:
        await bed.wait_ready()
        workers = bed.workers
        bed.supervisor._insist()
        bed.supervisor._insist()  # the second signal
        for worker in workers:
            await worker.ended.wait()
        assert [worker.code for worker in workers] == [0, 0]
        assert bed.supervisor.not_ready == "leaving"
        assert bed.supervisor._held[0].fileno() == -1
        assert await bed.supervisor.reload() == "the node is shutting down"


async def test_where_no_folder_can_be_made_it_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    config = server_config()
    config.workers = WORKERS
    told = "no folder for the sockets between them: No such file or directory; set TMPDIR to one that this user may"
    with pytest.raises(ConfigError, match=f"^workers: there is {told}"):
        await run_supervisor(config)


async def test_a_command_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, "serves") as bed:
        await bed.wait_ready()
        good = bed.command[0]
        bed.command[0] = str(tmp_path / "none")
        lost = bed.workers[0]
        os.kill(lost.pid, signal.SIGKILL)
        await bed.wait(lambda: bed.supervisor.restarts >= 2)
        assert "cannot start" in await bed.supervisor.reload()
        bed.command[0] = good
        await bed.wait_ready()
        assert bed.workers[0].phase is Phase.READY


async def test_who_dials_its_link_needs_its_user() -> None:
    from engine.supervisor.supervisor import _folder

    with _folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(folder / "1"))
    assert not folder.exists()
