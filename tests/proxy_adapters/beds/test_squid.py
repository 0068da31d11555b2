"""squid with every authentication it has, verified for real."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial
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
from tests.proxy_adapters.beds.bed import free_port
from tests.proxy_adapters.beds.conftest import (
    KERBEROS_PASSWORD,
    PASSWORD,
    REALM,
    USER,
    Kerberos,
    Squid,
    curl,
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


async def test_ntlm_where_the_first_407_closes_the_connection(squid_ntlm_closing: Squid, get: Get) -> None:
    await get(by(squid_ntlm_closing))


async def test_ntlm_over_tls_is_bound_to_the_certificate_of_the_proxy(
    squid_tls_ntlm: Squid, get: Get, pki: Pki
) -> None:
    url = ProxyURL("https", "localhost", squid_tls_ntlm.port, "CORP\\alice", PASSWORD, tls=True)
    await get(Route((Hop(url, tls=pki.client_context()),)))


async def test_ntlm_inside_negotiate(squid_spnego_ntlm: Squid, get: Get, no_realm: None) -> None:
    await get(by(squid_spnego_ntlm, user="CORP\\alice"))
    with pytest.raises(AuthenticationFailed, match="negotiate-ntlm: refused"):
        await get(by(squid_spnego_ntlm, password="wrong"))


async def test_200_tunnels_at_once_through_4_ntlm_helpers(squid_ntlm: Squid, get: Get) -> None:
    memory = Memory()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(partial(get, by(squid_ntlm), memory=memory, user_agent="200"))
    assert len(await squid_ntlm.logged("200", 200, having="alice TCP_TUNNEL/200")) >= 200


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
    squid_kerberos: Squid, get: Get, member: Kerberos
) -> None:
    memory = Memory()
    with pytest.raises(AuthenticationFailed, match=r"negotiate: .*(tickets|credential|cache)"):
        await get(kerberos(squid_kerberos), memory=memory)
    await trio.to_thread.run_sync(member.kinit)
    await get(kerberos(squid_kerberos), memory=memory)
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


async def test_a_forbidden_port_a_dead_target_and_a_dead_proxy(squid_open: Squid, get: Get) -> None:
    route = f"http://127.0.0.1:{squid_open.port}"
    with pytest.raises(TunnelRefused, match=r"403 .*ERR_ACCESS_DENIED") as forbidden:
        await get(route, port=9)
    assert not forbidden.value.retryable
    with pytest.raises(TunnelRefused, match=r"503 .*ERR_CONNECT_FAIL 111") as dead:
        await get(route, port=free_port())
    assert dead.value.retryable
    with pytest.raises(HopUnreachable, match="refused"):
        await get(f"http://127.0.0.1:{free_port()}")


async def test_too_many_connections_look_like_a_ban_and_the_words_say_so(squid_open: Squid, web: int) -> None:
    async with trio.open_nursery() as nursery:
        tunnels = []
        for _ in range(3):
            tunnels.append(await open_tunnel("127.0.0.1", web, route=f"http://127.0.0.1:{squid_open.port}"))
        with pytest.raises(TunnelRefused, match="maybe too many connections"):
            await open_tunnel("127.0.0.1", web, route=f"http://127.0.0.1:{squid_open.port}")
        for tunnel in tunnels:
            nursery.start_soon(tunnel.aclose)


async def test_the_proxy_comes_back_and_so_do_we(squid_open: Squid, get: Get) -> None:
    route = f"http://127.0.0.1:{squid_open.port}"
    squid_open.stop()
    with pytest.raises(HopUnreachable):
        await get(route)
    await trio.to_thread.run_sync(squid_open.start)
    await get(route)


async def test_tls_to_the_proxy(squid_tls: Squid, get: Get, pki: Pki) -> None:
    url = ProxyURL("https", "localhost", squid_tls.port, USER, PASSWORD, tls=True)
    trail = await get(Route((Hop(url, tls=pki.client_context()),)))
    assert "TLSv1.3 ok" in trail[2]
    with pytest.raises(HopTLSError, match="not issued by anyone we trust"):
        await get(Route((Hop(url),)))
    with pytest.raises(HopUnreachable, match=r"closed|no answer"):
        await get(f"socks5h://127.0.0.1:{squid_tls.port}", deadlines=Deadlines(proxy_request=2))
