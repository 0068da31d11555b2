"""squid with every authentication it has, verified for real."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from proxy_adapters import (
    AuthenticationFailed,
    Deadlines,
    Hop,
    HopTLSError,
    HopUnreachable,
    Login,
    Memory,
    ProxyURL,
    Route,
    Secret,
    TunnelRefused,
    open_tunnel,
)
from tests.conftest import Pki
from tests.proxy_adapters.beds.conftest import curl
from tests.proxy_adapters.beds.proxies import (
    KERBEROS_PASSWORD,
    PASSWORD,
    REALM,
    USER,
    Kerberos,
    Proxy,
    Squid,
    krb5_conf,
)

Get = Callable[..., Awaitable[list[str]]]


def by(squid: Squid, *, host: str = "127.0.0.1", user: str = USER, password: str = PASSWORD, **login: object) -> Route:
    url = ProxyURL("http", host, squid.port)
    return Route((Hop(url, Login(user=user, password=Secret.literal(password), **login)),))  # type: ignore[arg-type]


async def test_basic(squid_basic: Squid, get: Get, no_realm: None) -> None:
    memory = Memory()
    await get(by(squid_basic), memory=memory)
    await get(by(squid_basic), memory=memory, user_agent="again")
    assert await squid_basic.logged("again", 1) == ["alice TCP_TUNNEL/200"]  # one round: it was sent unasked


async def test_a_wrong_password_is_refused_once_and_never_sent_again(squid_basic: Squid, get: Get) -> None:
    memory = Memory()
    for _ in range(3):
        with pytest.raises(AuthenticationFailed, match=r"basic: refused") as caught:
            await get(by(squid_basic, password="wrong-secret"), memory=memory, user_agent="wrong")
        assert "wrong-secret" not in caught.value.report()
    assert (await squid_basic.logged("wrong", 4)).count("alice TCP_DENIED/407") == 1


async def test_a_password_that_rotates_between_two_407s_is_picked_up(
    squid_basic: Squid, get: Get, tmp_path: Path
) -> None:
    file, memory = tmp_path / "password", Memory()
    file.write_text("old\n")
    file.chmod(0o600)
    login = Login(user=USER, password=Secret.from_file(file))
    route = Route((Hop(ProxyURL("http", "127.0.0.1", squid_basic.port), login),))
    with pytest.raises(AuthenticationFailed):
        await get(route, memory=memory)
    file.write_text(PASSWORD + "\n")
    await get(route, memory=memory)


async def test_digest_keeps_its_nonce_and_a_stale_one_is_no_refusal(squid_digest: Squid, get: Get) -> None:
    memory = Memory()
    for _ in range(8):  # nonce_max_count is 3
        await get(by(squid_digest), memory=memory, user_agent="stale")
    lines = await squid_digest.logged("stale", 8, having="TCP_TUNNEL")
    assert 1 < sum("407" in line for line in lines) < 6
    with pytest.raises(AuthenticationFailed, match="digest-md5: refused for alice"):
        await get(by(squid_digest, password="wrong"), memory=memory)


async def test_digest_survives_a_restart_of_the_proxy(squid_digest: Squid, get: Get) -> None:
    memory = Memory()
    await get(by(squid_digest), memory=memory)
    squid_digest.stop()
    await trio.to_thread.run_sync(squid_digest.start)
    await get(by(squid_digest), memory=memory)


@pytest.mark.parametrize("user", ["alice", "CORP\\alice", "alice@corp.test"])
async def test_ntlm(squid_ntlm: Squid, get: Get, user: str) -> None:
    await get(by(squid_ntlm, user=user), user_agent=f"as-{len(user)}")
    *denied, tunnel = await squid_ntlm.logged(f"as-{len(user)}", 3)
    assert denied == ["- TCP_DENIED/407"] * 2
    assert "alice" in tunnel
    assert tunnel.endswith("TCP_TUNNEL/200")


async def test_ntlm_needs_two_legs_the_second_time(squid_ntlm: Squid, get: Get) -> None:
    memory = Memory()
    await get(by(squid_ntlm), memory=memory)
    await get(by(squid_ntlm), memory=memory, user_agent="two-legs")
    assert len(await squid_ntlm.logged("two-legs", 2)) == 2


async def test_ntlm_with_a_wrong_password_is_one_attempt(squid_ntlm: Squid, get: Get) -> None:
    memory = Memory()
    for text in ("ntlm: refused for alice", "ntlm: refused before for alice"):
        with pytest.raises(AuthenticationFailed, match=text):
            await get(by(squid_ntlm, password="wrong"), memory=memory, user_agent="wrong")
    # First contact: 407, type 1, type 3. Second: one 407.
    assert len(await squid_ntlm.logged("wrong", 4)) == 4


async def test_200_tunnels_at_once_through_4_ntlm_helpers(squid_ntlm: Squid, web: int) -> None:
    memory, tunnels, since = Memory(), [], trio.current_time()

    async def open_one() -> None:
        tunnels.append(await open_tunnel("127.0.0.1", web, route=squid_ntlm.route(), memory=memory, user_agent="200"))

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(open_one)
    print(f"200 tunnels in {trio.current_time() - since:.2f} s")
    for tunnel in tunnels:  # all are up, and up at the same time
        await tunnel.send_all(b"GET / HTTP/1.0\r\n\r\n")
    for tunnel in tunnels:
        assert await tunnel.receive_some()
        await tunnel.aclose()
    lines = await squid_ntlm.logged("200", 200, having="TCP_TUNNEL/200")
    # What is refused is a question without a login or with NTLM's type 1, which is none, either.
    assert {line for line in lines if "alice" not in line} == {"- TCP_DENIED/407"}
    assert sum("alice" in line for line in lines) == 200
    assert len(lines) <= 3 * 200


async def test_a_crowd_with_a_wrong_password_makes_one_attempt(squid_ntlm: Squid, get: Get) -> None:
    memory = Memory()

    async def fail() -> None:
        with pytest.raises(AuthenticationFailed):
            await get(by(squid_ntlm, password="wrong"), memory=memory, user_agent="crowd")

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(fail)
    assert len(await squid_ntlm.logged("crowd", 22)) == 20 + 2


# -- Kerberos -----------------------------------------------------------------------


def kerberos(squid: Squid, **login: object) -> Route:
    return Route((Hop(ProxyURL("http", "localhost", squid.port), Login(**login)),))  # type: ignore[arg-type]


async def test_kerberos_by_ticket_and_a_ticket_that_appears_later(
    squid_kerberos: Squid, get: Get, member: Kerberos, web: int
) -> None:
    memory = Memory()
    with pytest.raises(AuthenticationFailed, match=r"negotiate: .*(tickets|credential|cache)"):
        await get(kerberos(squid_kerberos), memory=memory)
    await trio.to_thread.run_sync(member.kinit)
    await get(kerberos(squid_kerberos), memory=memory)
    url = f"http://127.0.0.1:{web}/"
    assert not await trio.to_thread.run_sync(
        lambda: curl("-x", squid_kerberos.url, "--proxy-negotiate", "--proxy-user", ":", url)
    )
    await get(kerberos(squid_kerberos), memory=memory, user_agent="again")
    assert await squid_kerberos.logged("again", 1) == [f"{USER}@{REALM} TCP_TUNNEL/200"]


async def test_kerberos_by_password_and_by_keytab(squid_kerberos: Squid, get: Get, member: Kerberos) -> None:
    await get(kerberos(squid_kerberos, user=USER, password=Secret.literal(KERBEROS_PASSWORD)))
    await get(kerberos(squid_kerberos, user=USER, client_keytab=str(member.client_keytab)))
    with pytest.raises(AuthenticationFailed, match=r"negotiate: .*reauthentication failed"):
        await get(kerberos(squid_kerberos, user=USER, password=Secret.literal("wrong")))


async def test_a_service_that_kerberos_does_not_know_is_named(
    squid_kerberos: Squid, get: Get, member: Kerberos
) -> None:
    await trio.to_thread.run_sync(member.kinit)
    with pytest.raises(AuthenticationFailed, match=r"HTTP/127\.0\.0\.1.* not found in Kerberos database"):
        await get(Route((Hop(ProxyURL("http", "127.0.0.1", squid_kerberos.port)),)))
    named = Login(service_principal="HTTP/localhost")
    await get(Route((Hop(ProxyURL("http", "127.0.0.1", squid_kerberos.port), named),)))


async def test_a_kdc_that_swallows_packets_gives_way_to_the_next_scheme(
    squid_all_four: Squid, get: Get, member: Kerberos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        (tmp_path / "krb5.conf").write_text(krb5_conf(silent.getsockname()[1]))
        monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
        started = trio.current_time()
        await get(by(squid_all_four, host="localhost"), deadlines=Deadlines(work=1))
        assert trio.current_time() - started < 10


# -- All four at once: the proof ------------------------------------------------------


async def test_where_curl_anyauth_fails_we_connect_and_no_password_is_tried_twice(
    squid_all_four: Squid, get: Get, web: int, no_realm: None
) -> None:
    proxy, url = f"http://localhost:{squid_all_four.port}", f"http://127.0.0.1:{web}/"
    assert await trio.to_thread.run_sync(lambda: curl("-x", proxy, "--proxy-anyauth", "-U", f"{USER}:{PASSWORD}", url))
    assert not await trio.to_thread.run_sync(lambda: curl("-x", proxy, "--proxy-ntlm", "-U", f"{USER}:{PASSWORD}", url))
    await get(by(squid_all_four, host="localhost"), user_agent="ours")
    # 407, NTLM's type 1, then the one and only proof of the password.
    assert await squid_all_four.logged("ours", 3) == [
        "- TCP_DENIED/407",
        "- TCP_DENIED/407",
        r"\alice TCP_TUNNEL/200",
    ]


async def test_a_wrong_password_goes_down_the_whole_list_once(squid_all_four: Squid, get: Get, no_realm: None) -> None:
    memory = Memory()
    with pytest.raises(AuthenticationFailed) as caught:
        await get(by(squid_all_four, password="wrong"), memory=memory)
    assert [attempt.split(":")[0] for attempt in caught.value.attempts] == [
        "negotiate",
        "ntlm",
        "negotiate-ntlm",
        "digest-md5",
        "basic",
    ]
    with pytest.raises(AuthenticationFailed):
        await get(by(squid_all_four, password="wrong"), memory=memory, user_agent="once-more")
    assert await squid_all_four.logged("once-more", 1) == ["- TCP_DENIED/407"]


# -- What is not authentication ---------------------------------------------------------


async def test_a_forbidden_port(squid_open: Squid, get: Get) -> None:
    with pytest.raises(TunnelRefused, match=r"403 .*ERR_ACCESS_DENIED") as forbidden:
        await get(squid_open.route(), port=9)
    assert not forbidden.value.retryable


async def test_too_many_connections_look_like_a_ban_and_the_words_say_so(squid_open: Squid, web: int) -> None:
    async with trio.open_nursery() as nursery:
        tunnels = []
        for _ in range(3):
            tunnels.append(await open_tunnel("127.0.0.1", web, route=f"http://127.0.0.1:{squid_open.port}"))
        with pytest.raises(TunnelRefused, match="maybe too many connections"):
            await open_tunnel("127.0.0.1", web, route=f"http://127.0.0.1:{squid_open.port}")
        for tunnel in tunnels:
            nursery.start_soon(tunnel.aclose)


async def test_tls_to_the_proxy(squid_tls: Squid, get: Get, pki: Pki) -> None:
    trail = await get(squid_tls.route())
    assert "TLSv1.3 ok" in trail[2]
    with pytest.raises(HopTLSError, match="not issued by anyone we trust"):
        await get(squid_tls.url)
    with pytest.raises(HopUnreachable, match=r"closed|no answer"):
        await get(f"socks5h://127.0.0.1:{squid_tls.port}", deadlines=Deadlines(proxy_request=2))


@pytest.mark.parametrize("name", ["squid_hasty"])  # which ends what is silent for four seconds
async def test_a_tunnel_that_is_silent_too_long_is_ended_and_one_way_traffic_keeps_it(proxy: Proxy) -> None:
    async def tick(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(6):
                await trio.sleep(0.8)
                await stream.send_all(b".")
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, tick, listeners)
        port = listeners[0].socket.getsockname()[1]
        tunnel = await open_tunnel("127.0.0.1", port, route=proxy.route())
        with trio.fail_after(15):
            heard = b""
            while more := await tunnel.receive_some():
                heard += more
        assert heard == b"." * 6
        await tunnel.aclose()
        nursery.cancel_scope.cancel()
