"""An agent's way out: what it does when a proxy dies, when a password changes, and when it is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from engine.config import ConnectConfig
from engine.errors import ConfigError, Unreachable
from engine.loop.dial import Server, dial_server
from tests.programs import Program, Programs, free_port
from tests.proxy_adapters.beds.conftest import dead, lab, no_realm, secure_web, squid_basic, squid_open, web
from tests.proxy_adapters.beds.proxies import PASSWORD, Squid
from tests.roles import GET, Roles, agent_config, roles, says

__all__ = ["dead", "lab", "no_realm", "roles", "secure_web", "squid_basic", "squid_open", "web"]


@pytest.fixture(autouse=True)
def patient_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real proxies may take longer than roles alone."""
    monkeypatch.setattr("tests.roles.HUNG_SECONDS", 50)


async def pproxy(programs: Programs, port: int) -> Program:
    return await programs.start(sys.executable, "-m", "pproxy", "-l", f"http://127.0.0.1:{port}", port=port)


async def test_the_loss_of_one_proxy_moves_its_tunnels_to_the_next(roles: Roles, programs: Programs) -> None:
    first, second = free_port(), free_port()
    doomed = await pproxy(programs, first)
    await pproxy(programs, second)
    node, service = await roles.node(), await roles.service(says(b"here"))
    config = agent_config(node.upstream, service)
    config.connect.proxy.url = [f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"]
    await roles.agent_with(config)
    assert (await (await roles.dial(node.proxy)).ask(for_web())).body == b"here"
    await doomed.stop()
    with trio.fail_after(20):
        # Asked again and again, as clients do, until the agent has found its other way out.
        while (await (await roles.dial(node.proxy)).ask(for_web())).status != 200:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_a_password_that_was_rotated_is_read_anew_when_the_agent_tries_again(
    squid_basic: Squid, roles: Roles, tmp_path: Path, no_realm: None
) -> None:
    file = tmp_path / "password"
    file.write_text("an old one\n")
    file.chmod(0o600)
    node, service = await roles.node(), await roles.service(says(b"here"))
    config = agent_config(node.upstream, service)
    config.connect.proxy.url = [f"http://127.0.0.1:{squid_basic.port}"]
    config.connect.proxy.user = "alice"
    config.connect.proxy.password_file = str(file)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(roles.agent_with, config)
            await squid_basic.logged("trioduct", 1, having="alice TCP_DENIED/407")
            file.write_text(PASSWORD)
        assert (await (await roles.dial(node.proxy)).ask(for_web())).body == b"here"


async def test_a_final_refusal_names_hop_leg_advice_and_who_can_act(squid_open: Squid) -> None:
    proxy = f"http://127.0.0.1:{squid_open.port}"
    router = ConnectConfig(url="http://127.0.0.1:9", proxy_url=proxy).router()
    with pytest.raises(Unreachable) as refused:
        await dial_server(Server("http://127.0.0.1:9", router=router))
    text = str(refused.value)
    assert text.startswith(f"hop 1, {proxy}, proxy-request: it forbids 127.0.0.1:9: 403 Forbidden")
    assert "ask for this host and port to be allowed" in text
    assert text.endswith("(permanent: the administrator of the proxy can change it)")


async def test_a_proxy_of_the_environment_that_is_none_is_a_mistake_of_who_set_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy-without-port")
    with pytest.raises(ConfigError, match="http_proxy: name the port of the proxy"):
        await dial_server(Server("http://127.0.0.1:9"))


def for_web() -> bytes:
    return GET.replace(b"\r\n", b"\r\nx-piko-endpoint: web\r\n", 1)
