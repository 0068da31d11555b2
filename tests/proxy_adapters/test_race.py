"""Several routes: one whose first hop is silent does not keep the next one waiting, and only one shows secrets."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from proxy_adapters import HopUnreachable, NoRoute, Router, Seen, TunnelRefused, open_tunnel
from proxy_adapters.open import HEAD_START_SECONDS
from proxy_adapters.router import BAD_SECONDS, STICKY_SECONDS
from tests.proxy_adapters.test_open import OK, Serve, assert_echoes, echo, hear, http_proxy, stall


class World:
    """A `dial` by host: each takes its time to connect (None: for ever), and is served by its own."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.hosts: dict[str, tuple[float | None, Serve]] = {}
        self.dialled: list[tuple[str, float]] = []
        self.open = 0
        self.since = trio.current_time()

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        self.dialled.append((host, trio.current_time() - self.since))
        if host not in self.hosts:
            raise ConnectionRefusedError(111, "Connection refused")
        seconds, serve = self.hosts[host]
        await trio.sleep(math.inf if seconds is None else seconds)
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, serve, theirs)
        return ours

    async def _serve(self, serve: Serve, stream: trio.abc.Stream) -> None:
        self.open += 1
        try:
            await serve(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1


async def in_a_world(test: Callable[[World], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        await test(World(nursery))
        nursery.cancel_scope.cancel()


async def test_the_next_route_starts_beside_one_that_is_silent_and_the_silent_one_is_set_aside(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def test(world: World) -> None:
        world.hosts = {"hole": (None, stall), "alive": (0.1, http_proxy())}
        router = Router(["http://hole:1", "http://alive:1"], environ=None)
        for _ in range(2):
            tunnel = await open_tunnel("t", 1, route=router, dial=world.dial)
            assert str(tunnel.route) == "http://alive:1"
            await assert_echoes(tunnel)
            await tunnel.aclose()
        assert [host for host, _ in world.dialled] == ["hole", "alive", "alive"]
        assert world.dialled[1][1] == pytest.approx(HEAD_START_SECONDS)
        await trio.sleep(max(BAD_SECONDS, STICKY_SECONDS) + 1)
        assert str((await router.routes_to("t", 1))[0]) == "http://hole:1"

    await in_a_world(test)


async def test_the_first_that_answers_goes_on_and_the_others_are_closed(autojump_clock: trio.testing.MockClock) -> None:
    async def test(world: World) -> None:
        world.hosts = {"slow": (HEAD_START_SECONDS + 1, http_proxy()), "slower": (2, http_proxy())}
        router = Router(["http://slow:1", "http://slower:1"], environ=None)
        tunnel = await open_tunnel("t", 1, route=router, dial=world.dial)
        assert str(tunnel.route) == "http://slow:1"
        await trio.testing.wait_all_tasks_blocked()
        assert world.open == 1
        assert [str(route) for route in await router.routes_to("t", 1)] == ["http://slow:1", "http://slower:1"]

    await in_a_world(test)


async def test_two_that_answer_in_the_same_instant_are_not_both_kept(autojump_clock: trio.testing.MockClock) -> None:
    async def test(world: World) -> None:
        world.hosts = {"a": (HEAD_START_SECONDS + 1, http_proxy()), "b": (1, http_proxy())}
        tunnel = await open_tunnel("t", 1, route=Router(["http://a:1", "http://b:1"], environ=None), dial=world.dial)
        await assert_echoes(tunnel)
        await trio.testing.wait_all_tasks_blocked()
        assert world.open == 1

    await in_a_world(test)


async def test_one_that_lost_in_the_same_instant_is_dialled_anew_if_the_winner_is_no_proxy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def test(world: World) -> None:
        world.hosts = {"a": (HEAD_START_SECONDS + 1, http_proxy(b"SSH-2.0-x\r\n")), "b": (1, http_proxy())}
        tunnel = await open_tunnel("t", 1, route=Router(["http://a:1", "http://b:1"], environ=None), dial=world.dial)
        assert str(tunnel.route) == "http://b:1"
        await assert_echoes(tunnel)

    await in_a_world(test)


async def test_whoever_is_cancelled_leaves_nothing_open(autojump_clock: trio.testing.MockClock) -> None:
    async def test(world: World) -> None:
        world.hosts = {"hole": (None, stall), "slow": (2, stall)}
        with trio.move_on_after(HEAD_START_SECONDS + 1):
            await open_tunnel("t", 1, route=Router(["http://hole:1", "http://slow:1"], environ=None), dial=world.dial)
        await trio.testing.wait_all_tasks_blocked()
        assert world.open == 0

    await in_a_world(test)


async def test_a_proxy_that_connects_and_then_is_slow_is_waited_for_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def test(world: World) -> None:
        async def slow(stream: trio.abc.Stream) -> None:
            await hear(stream, b"\r\n\r\n")
            await trio.sleep(25)
            await stream.send_all(OK)
            await echo(stream)

        world.hosts = {"slow": (0.1, slow), "other": (0.1, http_proxy())}
        router = Router(["http://slow:1", "http://other:1"], environ=None)
        assert str((await open_tunnel("t", 1, route=router, dial=world.dial)).route) == "http://slow:1"
        assert [host for host, _ in world.dialled] == ["slow"]

    await in_a_world(test)


async def test_a_refusal_stops_even_if_others_are_under_way(autojump_clock: trio.testing.MockClock) -> None:
    async def test(world: World) -> None:
        no = http_proxy(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        world.hosts = {"hole": (None, stall), "no": (0.1, no), "alive": (0.1, http_proxy())}
        router = Router(["http://hole:1", "http://no:1", "http://alive:1"], environ=None)
        with pytest.raises(TunnelRefused):
            await open_tunnel("t", 1, route=router, dial=world.dial)
        assert [host for host, _ in world.dialled] == ["hole", "no"]

    await in_a_world(test)


async def test_when_what_answered_first_is_no_proxy_the_others_are_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def test(world: World) -> None:
        world.hosts = {"hole": (None, stall), "ssh": (0, http_proxy(b"SSH-2.0-x\r\n")), "alive": (0, http_proxy())}
        router = Router(["http://hole:1", "http://ssh:1", "http://alive:1"], environ=None)
        assert str((await open_tunnel("t", 1, route=router, dial=world.dial)).route) == "http://alive:1"
        assert [host for host, _ in world.dialled] == ["hole", "ssh", "alive"]

    await in_a_world(test)


async def test_nobody_answers_and_each_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async def test(world: World) -> None:
        world.hosts = {"hole": (None, stall), "pit": (None, stall)}
        router = Router(["http://hole:1", "http://dead:1", "http://pit:1"], environ=None)
        with pytest.raises(NoRoute) as caught:
            await open_tunnel("t", 1, route=router, dial=world.dial)
        assert [type(error) for error in caught.value.errors] == [HopUnreachable] * 3
        assert trio.current_time() - world.since < 20

    await in_a_world(test)


async def test_straight_is_a_route_too_but_its_failure_is_final(autojump_clock: trio.testing.MockClock) -> None:
    async def test(world: World) -> None:
        world.hosts = {"hole": (None, stall)}
        with pytest.raises(HopUnreachable, match=r"^t:1: Connection refused"):
            await open_tunnel("t", 1, route=Router(["direct", "http://hole:1"], environ=None), dial=world.dial)
        assert [host for host, _ in world.dialled] == ["t"]

    await in_a_world(test)


async def test_what_carried_the_last_tunnel_stays_the_first_choice_for_its_destination(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def test(world: World) -> None:
        no = http_proxy(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        world.hosts = {"no": (0, no), "yes": (0, http_proxy())}
        router = Router(["http://no:1", "http://yes:1"], environ=None, on_refusal="next")
        for _ in range(2):
            await open_tunnel("t", 1, route=router, dial=world.dial)
        assert [host for host, _ in world.dialled] == ["no", "yes", "yes"]
        assert [str(route) for route in await router.routes_to("elsewhere", 1)] == ["http://no:1", "http://yes:1"]
        await trio.sleep(STICKY_SECONDS + 1)
        assert [str(route) for route in await router.routes_to("t", 1)] == ["http://no:1", "http://yes:1"]

    await in_a_world(test)


async def test_whoever_looks_on_is_told_of_each_route_that_is_tried(autojump_clock: trio.testing.MockClock) -> None:
    async def test(world: World) -> None:
        world.hosts = {"hole": (None, stall), "alive": (0, http_proxy())}
        seen: list[Seen] = []
        router = Router(["http://hole:1", "http://alive:1"], environ=None)
        await open_tunnel("t", 1, route=router, dial=world.dial, watch=seen.append)
        assert (seen[0].leg, seen[0].text) == ("route", "http://hole:1, else http://alive:1 (chosen by explicit)")
        assert [(one.leg, one.hop, one.outcome, str(one.route)) for one in seen[1:]] == [
            ("proxy-tcp", "http://hole:1", "begun", "http://hole:1"),
            ("proxy-tcp", "http://alive:1", "begun", "http://alive:1"),
            ("proxy-tcp", "http://alive:1", "ok", "http://alive:1"),
            ("proxy-tcp", "http://hole:1", "next", "http://hole:1"),
            ("proxy-request", "http://alive:1", "begun", "http://alive:1"),
            ("proxy-request", "http://alive:1", "ok", "http://alive:1"),
        ]

    await in_a_world(test)
