"""The session of who dials: it goes on with the next carrier when its own is cut, and begins anew where it cannot."""

from __future__ import annotations

from perf.topologies.cutter import Cutter
from tests.roles import Roles, agent_config, says, server_config, settle


async def test_a_session_goes_on_with_the_next_carrier(roles: Roles) -> None:
    node = await roles.node()
    cutter = Cutter(node.upstream)
    port = await roles.nursery.start(cutter.run)
    await roles.agent_with(agent_config(port, await roles.service(says(b"hello")), resume=30))
    client = await roles.dial(node.proxy)
    for _ in range(3):
        assert (await client.ask()).body == b"hello"
        cutter.cut()
    assert (await client.ask()).body == b"hello"
    assert cutter.opened > 1


async def test_an_agent_that_is_cut_off_ends_when_it_is_told_to(roles: Roles) -> None:
    node = await roles.node()
    cutter = Cutter(node.upstream)
    port = await roles.nursery.start(cutter.run)
    agent = await roles.agent_with(agent_config(port, await roles.service(says(b"hello")), resume=30))
    client = await roles.dial(node.proxy)
    assert (await client.ask()).body == b"hello"
    with cutter.away():
        await settle()
        agent.tell_to_stop()
        await agent.ended.wait()


async def test_a_node_that_keeps_no_session_has_a_new_one_instead(roles: Roles) -> None:
    config = server_config()
    config.upstream.resume = 0
    node = await roles.node(config)
    await roles.agent_with(agent_config(node.upstream, await roles.service(says(b"hello")), resume=30))
    client = await roles.dial(node.proxy)
    assert (await client.ask()).body == b"hello"
