"""Walks of the doctor, to a node in this process, through real proxies; a fake one only where no real one errs so."""

from __future__ import annotations

import base64
import json
import re
import shlex
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path

import jwt
import pytest
import trio
import trustme

from engine.config import MASK, AgentConfig, AuthConfig, ConnectConfig, Draft
from engine.config.server import TenantConfig
from engine.doctor.certificate import Certificate, added_authorities
from engine.doctor.doctor import run_doctor
from engine.doctor.report import Machine, Terminal
from engine.errors import ConfigError
from tests.conftest import Pki, Web
from tests.doctor.conftest import Examine, connect_to
from tests.programs import PIKO, Node, Programs, free_port, get, needs_piko
from tests.proxy_adapters.beds.proxies import PASSWORD, USER, Squid
from tests.roles import Roles, RunningNode, Service, Talk, answer, join, says, server_config

MEASURED = re.compile(r"a round trip takes [0-9.]+ ms, [0-9.e+]+ MB/s down, [0-9.e+]+ MB/s up")
HMAC_KEY = "a secret of at least thirty-two bytes"


async def pproxy(programs: Programs, kinds: str) -> int:
    import sys

    port = free_port()
    await programs.start(sys.executable, "-m", "pproxy", "-l", f"{kinds}://127.0.0.1:{port}", port=port)
    return port


# It works ---------------------------------------------------------------------------------------------------


async def test_a_straight_way_is_told_step_by_step_and_nothing_is_registered(roles: Roles, examine: Examine) -> None:
    node = await roles.node()
    done = await examine(connect_to(node.upstream))
    assert (done.verdict.outcome, done.verdict.exit_code) == ("works", 0)
    assert done.names == ["route", "tcp", "upgrade", "carrier", "carrier", "carrier"]
    assert all(state == "ok" and MEASURED.search(text) for state, text in done.of("carrier"))
    assert "no proxy is configured" in done.text
    assert json.loads((await get(node.admin, "/status/upstream/endpoints"))[1]) == {}
    assert "ENDPOINT" in done.verdict.text


async def test_a_variable_that_is_not_for_this_url_is_named(
    roles: Roles, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:5ecret@127.0.0.1:1")
    node = await roles.node()
    done = await examine(connect_to(node.upstream))
    assert done.verdict.outcome == "works"
    assert "no proxy is configured for http:// (HTTPS_PROXY is for https:// and wss:// only" in done.text
    assert "5ecret" not in done.text


async def test_an_endpoint_is_registered_for_a_moment(roles: Roles, examine: Examine) -> None:
    node = await roles.node()
    done = await examine(connect_to(node.upstream), "shop", patient=True, silent_seconds=0.3)
    assert done.verdict.outcome == "works"
    assert done.names == [
        *("route", "tcp", "upgrade", "registration", "round trip", "silence"),
        *("carrier", "carrier", "carrier"),
    ]
    with trio.fail_after(5):
        # Asked again and again: the node tells nobody when a session has ended.
        while json.loads((await get(node.admin, "/status/upstream/endpoints"))[1]):  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize("kind", ["http", "socks4", "socks5"])
async def test_a_proxy_is_walked_through(kind: str, roles: Roles, programs: Programs, examine: Examine) -> None:
    node, proxy = await roles.node(), await pproxy(programs, kind)
    done = await examine(connect_to(node.upstream, f"{kind}://127.0.0.1:{proxy}"), "shop")
    assert done.verdict.outcome == "works"
    assert ("ok", f"{kind}://127.0.0.1:{proxy} (connect.proxy.url)") in done.of("route")
    assert f"{kind}://127.0.0.1:{proxy}" in done.verdict.text


async def test_a_chain_is_walked_hop_by_hop(roles: Roles, programs: Programs, examine: Examine) -> None:
    node, first, second = await roles.node(), await pproxy(programs, "socks5"), await pproxy(programs, "http")
    done = await examine(connect_to(node.upstream, f"socks5h://127.0.0.1:{first} -> http://127.0.0.1:{second}"), "shop")
    assert done.verdict.outcome == "works"
    assert done.of("SOCKS5H") == [("ok", f"a tunnel to 127.0.0.1:{second}")]
    assert done.of("CONNECT") == [("ok", f"a tunnel to 127.0.0.1:{node.upstream}, without a login")]


async def test_the_second_proxy_of_a_list_is_gone_to_when_the_first_is_dead(
    roles: Roles, programs: Programs, examine: Examine
) -> None:
    node, proxy, dead = await roles.node(), await pproxy(programs, "http"), free_port()
    done = await examine(connect_to(node.upstream, f"http://127.0.0.1:{dead}", f"http://127.0.0.1:{proxy}"), "shop")
    assert done.verdict.outcome == "works"
    assert [state for state, _ in done.of("route")] == ["ok", "note"]
    assert done.of("tcp")[0] == ("failed", "Connection refused")


async def test_what_the_way_carries_is_measured(
    roles: Roles, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.doctor.doctor.ECHO_SECONDS", 0.1)
    node = await roles.node()
    done = await examine(connect_to(node.upstream), "shop", measure=True)
    ((state, text),) = done.of("throughput")
    assert state == "ok"
    assert float(text.split()[2]) > 0


# Logging in to proxies --------------------------------------------------------------------------------------


async def test_each_attempt_to_log_in_is_told(
    squid_all_four: Squid, roles: Roles, examine: Examine, no_realm: None
) -> None:
    node = await roles.node()
    proxy = f"http://localhost:{squid_all_four.port}"
    done = await examine(connect_to(node.upstream, proxy, user=USER, password=PASSWORD), "shop")
    assert done.verdict.outcome == "works"
    ((_, asked),) = done.of("CONNECT")
    assert "407, offers negotiate, ntlm, digest, basic" in asked
    assert [text.partition(":")[0] for _, text in done.of("authentication")] == ["negotiate", "ntlm"]
    assert [state for state, _ in done.of("authentication")] == ["note", "ok"]
    assert PASSWORD not in done.text


async def test_a_wrong_password_is_shown_once_and_told_by_nobody(
    squid_basic: Squid, roles: Roles, examine: Examine, no_realm: None
) -> None:
    node = await roles.node()
    proxy = f"http://127.0.0.1:{squid_basic.port}"
    done = await examine(connect_to(node.upstream, proxy, user="mallory", password="wr0ng-5ecret"))
    # The node is reached straight as well, but nobody has asked for that.
    assert (done.verdict.outcome, done.verdict.leg, done.verdict.settings) == ("blocked", "proxy-auth", [])
    assert done.verdict.text.startswith(f"The proxy {proxy} refused the credentials (proxy-auth): 407, offers basic")
    assert done.verdict.next_step.startswith("Who can act: you - check user and password: connect.proxy.user")
    assert "Is this account right and not locked" in done.verdict.letter
    assert done.of("authentication") == [("note", "basic: refused for mallory")]
    lines = await squid_basic.logged("trioduct", 1, having="mallory")
    assert [line for line in lines if "mallory" in line] == ["mallory TCP_DENIED/407"]
    for secret in ("wr0ng-5ecret", base64.b64encode(b"mallory:wr0ng-5ecret").decode()):
        assert secret not in done.text


@pytest.mark.parametrize("first", ["dead", "refusing"])
async def test_of_several_proxies_a_refused_login_is_what_is_told(
    squid_basic: Squid, roles: Roles, examine: Examine, no_realm: None, dead: int, first: str
) -> None:
    node = await roles.node()
    refusing, silent = f"http://127.0.0.1:{squid_basic.port}", f"http://127.0.0.1:{dead}"
    proxies = (silent, refusing) if first == "dead" else (refusing, silent)
    connect = connect_to(node.upstream, *proxies, user="mallory", password="wr0ng", on_refusal="next")
    done = await examine(connect)
    assert (done.verdict.outcome, done.verdict.settings) == ("blocked", [])
    assert done.verdict.text.startswith(f"The proxy {refusing} refused the credentials (proxy-auth)")
    assert done.verdict.next_step.startswith("Who can act: you - check user and password: connect.proxy.user")


async def test_a_refused_token_is_not_told_as_a_refused_password(roles: Roles, examine: Examine) -> None:
    async def refuse(talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            fields = b"Proxy-Authenticate: Bearer\r\n"
            await talk.say(answer(b"no", status=b"407 Proxy Authentication Required", fields=fields))

    proxy = f"http://127.0.0.1:{await roles.service(refuse)}"
    done = await examine(connect_to(9, proxy, auth__token="t0ken"))
    assert done.verdict.text.startswith(f"The proxy {proxy} refused the credentials")
    assert "bearer: the token was refused" in done.text
    assert "password" not in done.verdict.text
    assert "connect.proxy.user" not in done.verdict.advice


async def test_a_destination_that_is_down_is_not_told_as_a_refused_login(
    squid_basic: Squid, examine: Examine, dead: int, no_realm: None
) -> None:
    done = await examine(connect_to(dead, f"http://127.0.0.1:{squid_basic.port}", user=USER, password=PASSWORD))
    assert done.of("authentication") == [("ok", f"basic: accepted as {USER}")]
    assert [state for state, _ in done.of("CONNECT")] == ["ok", "failed"]
    assert (done.verdict.leg, done.verdict.status) == ("proxy-request", 503)
    assert "it could not reach" in done.verdict.text


async def test_what_a_pac_file_over_http_may_not_have_is_told_with_its_flag(
    squid_basic: Squid, roles: Roles, examine: Examine, no_realm: None
) -> None:
    script = f'function FindProxyForURL(url, host) {{ return "PROXY 127.0.0.1:{squid_basic.port}" }}'
    node, wpad = await roles.node(), await roles.service(says(script.encode()))
    connect = connect_to(node.upstream, pac=f"http://localhost:{wpad}/proxy.pac", user=USER, password=PASSWORD)
    connect.url = f"http://target.test:{node.upstream}"
    done = await examine(connect)
    assert "get that by https, or trust that name by --connect.proxy.auth.login-hosts 127.0.0.1" in done.text
    connect.proxy.auth.login_hosts = ["127.0.0.1"]
    assert (await examine(connect)).verdict.outcome == "works"


async def test_a_name_without_an_address_is_to_be_checked(examine: Examine, no_straight_way: None) -> None:
    connect = connect_to(8001)
    connect.url = "http://no-such-name.invalid:8001"
    done = await examine(connect)
    assert done.verdict.leg == "target-dns"
    assert done.verdict.advice == (
        "check the name; or is a proxy the only way out of this network (connect.proxy.url)?"
    )
    assert "Is no-such-name.invalid the right name?" in done.verdict.letter
    assert "Please allow" not in done.verdict.letter


async def test_a_forbidden_scheme_is_not_tried_and_named(
    squid_basic: Squid, roles: Roles, examine: Examine, no_realm: None
) -> None:
    node = await roles.node()
    proxy = f"http://trudy:{PASSWORD.replace('@', '%40')}@127.0.0.1:{squid_basic.port}"
    done = await examine(connect_to(node.upstream, proxy, auth__forbidden=["basic"]))
    assert "allow one of: basic" in done.text
    assert not any("trudy" in line for line in await squid_basic.logged("trioduct", 1))


async def test_a_proxy_behind_tls_says_who_it_is_and_wants_a_login(
    squid_tls: Squid,
    roles: Roles,
    examine: Examine,
    pki: Pki,
    no_realm: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    node = await roles.node()
    proxy = f"https://localhost:{squid_tls.port}"
    connect = connect_to(node.upstream, proxy, user=USER, password=PASSWORD, tls__root_cas=str(pki.ca))
    done = await examine(connect, "shop")
    assert done.verdict.outcome == "works"
    assert "TLSv1.3, certificate of" in done.text
    assert [text.partition(":")[0] for _, text in done.of("authentication")][-1] == "basic"

    connect.proxy.tls.root_cas = ""
    unknown = await examine(connect)
    assert unknown.of("tls")[0][0] == "failed"
    assert "not issued by anyone we trust" in unknown.text

    monkeypatch.setattr("engine.doctor.certificate.ADDED", (str(pki.ca.parent),))
    found = await examine(connect)
    assert pasted(found.verdict.settings, tmp_path).connect.proxy.tls.root_cas == str(pki.ca)


async def test_the_walk_is_one_attempt_as_an_agent_makes_it(
    squid_all_four: Squid, roles: Roles, examine: Examine, no_realm: None
) -> None:
    connections = 0

    async def count(near: Talk) -> None:
        nonlocal connections
        connections += 1
        await join(near, await roles.dial(squid_all_four.port))

    node, counted = await roles.node(), await roles.service(count)
    connect = connect_to(node.upstream, f"http://localhost:{counted}", user=USER, password=PASSWORD)
    connect.carriers = ["websocket"]
    done = await examine(connect)
    assert done.verdict.outcome == "works"
    assert connections == 2  # where NTLM goes on after the 407; the second is the carrier's


# Blocked ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_straight_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other settings lead nowhere, as in a network whose only way out is the proxy."""

    async def none(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("engine.doctor.doctor.find_cure", none)


async def test_who_forbids_it_is_told_with_the_ids_of_their_own_page(
    squid_open: Squid, examine: Examine, no_straight_way: None
) -> None:
    done = await examine(connect_to(9, f"http://127.0.0.1:{squid_open.port}"))
    assert (done.verdict.outcome, done.verdict.exit_code) == ("blocked", 1)
    letter = done.verdict.letter
    for words in (
        "127.0.0.1, TCP port 9",
        f"through http://127.0.0.1:{squid_open.port}",
        "403 Forbidden",
        "ERR_ACCESS_DENIED",
        "UTC",
        "Please allow a tunnel to 127.0.0.1:9",
        "Trioduct's agent, a reverse tunnel",
        "outbound connections only, to 127.0.0.1, TCP port 9:",
    ):
        assert words in letter
    assert done.verdict.next_step.startswith(
        "Who can act: the administrator of the proxy - ask for this host and port to be allowed"
    )


async def test_a_web_server_in_a_proxys_place_is_named(nginx: Web, examine: Examine, no_straight_way: None) -> None:
    done = await examine(connect_to(9, f"http://127.0.0.1:{nginx.port}"))
    assert done.verdict.next_step.endswith("this seems to be a web server or reverse proxy, not a forward proxy")
    assert "Which host, port and protocol does the proxy have?" in done.verdict.letter


async def test_a_dead_port_asks_for_the_firewall(dead: int, examine: Examine) -> None:
    done = await examine(connect_to(dead))
    assert done.verdict.outcome == "blocked"
    assert f"Please allow TCP to 127.0.0.1:{dead}, or tell us which proxy to use." in done.verdict.letter


async def tls_node(roles: Roles, pki: Pki) -> RunningNode:
    config = server_config()
    config.upstream.tls.cert, config.upstream.tls.key = str(pki.cert), str(pki.key)
    return await roles.node(config)


async def test_a_certificate_that_nobody_believes_is_named_with_its_issuer(
    roles: Roles, pki: Pki, examine: Examine
) -> None:
    node = await tls_node(roles, pki)
    connect = connect_to(node.upstream, scheme="https")
    done = await examine(connect)
    assert done.verdict.outcome == "blocked"
    assert "issued by trustme" in done.text
    assert "Please exempt 127.0.0.1 from TLS inspection" in done.verdict.letter

    connect.tls.root_cas = str(pki.ca)
    assert (await examine(connect, "shop")).verdict.outcome == "works"


async def test_an_authority_on_this_machine_is_found_and_proposed(
    roles: Roles, pki: Pki, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.doctor.certificate.ADDED", (str(pki.ca.parent),))
    node = await tls_node(roles, pki)
    done = await examine(connect_to(node.upstream, scheme="https"))
    assert (done.verdict.outcome, done.verdict.exit_code) == ("setting", 3)
    assert done.verdict.settings == [
        f"--connect.tls.root-cas {pki.ca}",
        f"connect:\n  tls:\n    root_cas: {pki.ca}",
    ]


async def inspect(node: int, outer: Talk) -> None:
    """What stands in for an inspecting proxy: in the middle of TLS, it passes requests on without their Upgrade."""
    head = await outer.until(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"upgrade:", b"connection:"))]
    async with await trio.open_tcp_stream("127.0.0.1", node) as inner:
        await inner.send_all(b"\r\n".join(lines))
        answer = bytes(await inner.receive_some())
    await outer.say(answer.replace(b"\r\n", b"\r\nVia: 1.1 inspector.corp\r\n", 1))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who answers neither a stream nor a poll."""
    monkeypatch.setattr("engine.doctor.carriers.SESSION_SECONDS", 1)


@pytest.mark.usefixtures("impatient")
async def test_an_upgrade_that_is_stripped_inside_tls_is_told(roles: Roles, pki: Pki, examine: Examine) -> None:
    node = await roles.node()
    inspector = await roles.service(partial(inspect, node.upstream), tls=pki.server_context())
    connect = connect_to(inspector, scheme="https")
    connect.tls.root_cas = str(pki.ca)
    done = await examine(connect)
    assert done.verdict.outcome == "blocked"
    assert "arrives without its `Upgrade: websocket`" in done.verdict.text
    assert "via: 1.1 inspector.corp" in done.verdict.text
    assert "http_upgrade_request_protocols" in done.verdict.letter


async def strip(roles: Roles, node: int, outer: Talk) -> None:
    """What stands in for a gateway that knows no WebSocket: all passes but Upgrade."""
    head = await outer.until(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"upgrade:", b"connection:"))]
    inner = await roles.dial(node)
    await inner.say(b"\r\n".join(lines))
    await join(outer, inner)


async def test_where_no_websocket_gets_through_the_carriers_that_do_are_told(roles: Roles, examine: Examine) -> None:
    node = await roles.node()
    done = await examine(connect_to(await roles.service(partial(strip, roles, node.upstream))), "shop")
    assert done.verdict.outcome == "works"
    assert "WebSocket does not get through" in done.verdict.text
    assert "agents use stream, which does" in done.verdict.text
    assert [state for state, _ in done.of("carrier")] == ["note", "ok", "ok"]
    assert "Please let WebSocket upgrades to 127.0.0.1 pass" in done.verdict.letter


async def test_what_each_carrier_needs_is_asked_of_the_network(roles: Roles, examine: Examine) -> None:
    """Nothing passes but the question whether an upgrade does."""
    node = await roles.node()

    async def serve(outer: Talk) -> None:
        head = await outer.until(b"\r\n\r\n")
        if b"/trioduct/v1/" in head or b"Version: 13" in head:
            await outer.say(answer(b"<html>no</html>", status=b"403 Forbidden"))
            return
        inner = await roles.dial(node.upstream)
        await inner.say(head)
        await join(outer, inner)

    done = await examine(connect_to(await roles.service(serve)))
    assert (done.verdict.outcome, done.verdict.leg) == ("blocked", "session")
    assert [state for state, _ in done.of("carrier")] == ["note"] * 3
    letter = done.verdict.letter
    places = [letter.index(word) for word in ("Please let WebSocket upgrades", "proxy_buffering off", "1024 KiB")]
    assert places == sorted(places)


async def test_a_token_for_other_endpoints_is_told_and_with_its_own_all_is_measured(
    roles: Roles, examine: Examine
) -> None:
    config = server_config()
    config.upstream.auth.hmac_secret_key = HMAC_KEY
    node = await roles.node(config)
    connect = connect_to(node.upstream)
    connect.token = jwt.encode({"piko": {"endpoints": ["shop"]}}, HMAC_KEY, "HS256")
    without = await examine(connect)
    assert without.verdict.outcome == "refused"
    assert "as ENDPOINT" in without.verdict.advice
    done = await examine(connect, "shop")
    assert [state for state, _ in done.of("carrier")] == ["ok"] * 3


@needs_piko
async def test_a_go_node_is_understood_although_it_has_no_words(
    programs: Programs, roles: Roles, pki: Pki, examine: Examine
) -> None:
    node = Node(programs, command=PIKO)
    await node.start()
    for endpoint in ("", "shop"):
        done = await examine(connect_to(node.upstream), endpoint)
        assert done.verdict.outcome == "works"
        ((state, text),) = done.of("carrier")
        assert (state, "is a Piko" in text) == ("note", True)
    assert (await examine(connect_to(node.proxy))).verdict.outcome == "refused"
    connect = connect_to(await roles.service(partial(inspect, node.upstream), tls=pki.server_context()), scheme="https")
    connect.tls.root_cas = str(pki.ca)
    stripped = await examine(connect)
    assert stripped.verdict.outcome == "blocked"
    assert "arrives without its `Upgrade: websocket`" in stripped.verdict.text


async def test_squid_that_inspects_is_named_and_then_what_it_does_to_an_upgrade(
    squid_inspecting: Squid, inspector: trustme.CA, roles: Roles, pki: Pki, examine: Examine, tmp_path: Path
) -> None:
    node = await tls_node(roles, pki)
    connect = connect_to(node.upstream, f"http://127.0.0.1:{squid_inspecting.port}", scheme="https")
    connect.url = f"https://localhost:{node.upstream}"
    untrusted = await examine(connect)
    assert "issued by Corp MITM CA" in untrusted.text.replace("trustme v", "")
    assert untrusted.of("CONNECT")[0][0] == "ok"

    connect.tls.root_cas = str(tmp_path / "corp.pem")
    inspector.cert_pem.write_to_path(connect.tls.root_cas)
    stripped = await examine(connect)
    assert [step.state for step in stripped.steps if step.name == "inspection"] == ["note"]
    assert "arrives without its `Upgrade: websocket`" in stripped.text
    assert "via: " in stripped.text


# Middleboxes, each with one defect ----------------------------------------------------------------------------


async def inspected(roles: Roles, pki: Pki, serve: Service) -> ConnectConfig:
    """The way to somebody in the middle of TLS."""
    connect = connect_to(await roles.service(serve, tls=pki.server_context()), scheme="https")
    connect.tls.root_cas = str(pki.ca)
    return connect


@pytest.mark.parametrize("status", [b"403 Forbidden", b"200 OK"])
async def test_a_page_in_place_of_a_websocket_is_told_by_its_title_and_its_ids(
    status: bytes, roles: Roles, pki: Pki, examine: Examine
) -> None:
    async def forbid(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        fields = b"Via: 1.1 gateway-7.corp\r\nX-Request-Id: 77aa\r\n"
        await talk.say(answer(b"<html><title>No tunnels</title><p>at all</html>", status=status, fields=fields))

    done = await examine(await inspected(roles, pki, forbid))
    assert (done.verdict.outcome, done.verdict.leg) == ("blocked", "upgrade")
    assert f"{status.decode()}: No tunnels;" in done.verdict.text
    for words in ("via: 1.1 gateway-7.corp", "x-request-id: 77aa", "Please let WebSocket upgrades to 127.0.0.1 pass"):
        assert words in done.verdict.letter


async def test_a_reset_at_the_upgrade_is_shown_to_be_about_the_upgrade(
    roles: Roles, pki: Pki, examine: Examine
) -> None:
    async def reset(talk: Talk) -> None:
        if b"upgrade:" in (await talk.until(b"\r\n\r\n")).lower():
            await talk.reset()
        else:
            await talk.say(answer(b"hello"))

    done = await examine(await inspected(roles, pki, reset))
    assert (done.verdict.outcome, done.verdict.leg) == ("blocked", "upgrade")
    assert "a request without an upgrade is answered (200 OK: hello)" in done.verdict.text


@pytest.mark.usefixtures("impatient")
async def test_a_websocket_that_dies_of_its_first_frame_is_told(roles: Roles, examine: Examine) -> None:
    node = await roles.node()

    async def pass_heads_only(near: Talk) -> None:
        far = await roles.dial(node.upstream)
        await far.say(await near.until(b"\r\n\r\n"))
        head = await far.until(b"\r\n\r\n")
        await near.say(head)
        if b" 101 " in head:
            await near.hear()
            await near.reset()
        else:
            await near.say(await far.hear())

    done = await examine(connect_to(await roles.service(pass_heads_only)), "shop")
    assert (done.verdict.outcome, done.verdict.leg) == ("blocked", "session")
    assert "the WebSocket was opened, and cut at its first frame" in done.verdict.text
    assert "Please let their frames pass" in done.verdict.letter


async def test_a_session_that_is_cut_while_it_is_silent_is_told_with_the_seconds(
    roles: Roles, examine: Examine
) -> None:
    node = await roles.node()

    async def cut_when_silent(near: Talk) -> None:
        far = await roles.dial(node.upstream)
        with trio.move_on_after(0.5):
            await join(near, far)
        await near.reset()

    done = await examine(connect_to(await roles.service(cut_when_silent)), "shop", patient=True, silent_seconds=20.0)
    assert done.verdict.leg == "session"
    assert "the session was cut after 0." in done.verdict.text
    assert "Please raise that timer" in done.verdict.letter


async def test_a_page_behind_the_yes_of_a_proxy_is_a_portal(roles: Roles, examine: Examine) -> None:
    async def welcome(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"<html><title>Welcome to our guest network</title></html>"))

    done = await examine(connect_to(1, f"http://127.0.0.1:{await roles.service(welcome)}", scheme="https"))
    assert (done.verdict.outcome, done.verdict.leg) == ("blocked", "tls")
    assert "instead of TLS, this came: Welcome to our guest network" in done.verdict.text
    assert "How does a machine without a browser get past this page" in done.verdict.letter


async def test_a_filter_that_goes_by_the_name_in_tls_is_found_out(roles: Roles, pki: Pki, examine: Examine) -> None:
    node = await tls_node(roles, pki)

    async def filter_names(near: Talk) -> None:
        await near.until(b"\r\n\r\n")
        await near.say(b"HTTP/1.1 200 OK\r\n\r\n")
        hello = await near.hear()
        if b"localhost" in hello:
            await near.reset()
            return
        far = await roles.dial(node.upstream)
        await far.say(hello)
        await join(near, far)

    connect = connect_to(1, f"http://127.0.0.1:{await roles.service(filter_names)}")
    connect.url = f"https://localhost:{node.upstream}"
    assert "without the node's name (SNI) TLS works" in (await examine(connect)).text


async def test_certificates_of_another_name_and_of_another_time_are_told_apart(
    roles: Roles, pki: Pki, examine: Examine, tmp_path: Path
) -> None:
    async def node_with(certificate: trustme.LeafCert) -> ConnectConfig:
        config = server_config()
        config.upstream.tls.cert, config.upstream.tls.key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
        (tmp_path / "cert.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        connect = connect_to((await roles.node(config)).upstream, scheme="https")
        connect.tls.root_cas = str(pki.ca)
        return connect

    done = await examine(await node_with(pki.authority.issue_cert("other.example.org")))
    assert "its certificate is of other.example.org" in done.verdict.text
    assert "connect.tls.server_name" in done.verdict.next_step
    day = datetime(2020, 1, 1, tzinfo=UTC)
    old = pki.authority.issue_cert("127.0.0.1", not_before=day, not_after=day + timedelta(days=30))
    done = await examine(await node_with(old))
    assert "is valid from 2020-01-01 to 2020-01-31, and here it is 2" in done.verdict.text
    assert done.verdict.who == "whoever runs the node"


# The node says no -------------------------------------------------------------------------------------------


async def test_a_node_that_wants_a_token_says_so_and_the_token_is_not_printed(roles: Roles, examine: Examine) -> None:
    config = server_config()
    config.upstream.auth.hmac_secret_key = HMAC_KEY
    node = await roles.node(config)
    connect = connect_to(node.upstream)
    assert (await examine(connect)).verdict.exit_code == 4
    connect.token = jwt.encode({"aud": "nobody"}, "another secret of thirty-two bytes ..", algorithm="HS256")
    refused = await examine(connect)
    assert refused.verdict.outcome == "refused"
    assert connect.token not in refused.text
    connect.token = jwt.encode({}, HMAC_KEY, algorithm="HS256")
    assert (await examine(connect, "shop")).verdict.outcome == "works"


async def test_a_tenant_that_is_missing_or_another_is_told_apart_from_a_bad_token(
    roles: Roles, examine: Examine
) -> None:
    config = server_config()
    config.upstream.tenants = [TenantConfig("acme", AuthConfig(hmac_secret_key=HMAC_KEY))]
    node = await roles.node(config)
    connect = connect_to(node.upstream)
    connect.token = jwt.encode({}, HMAC_KEY, algorithm="HS256")
    for tenant in ("", "other"):
        connect.tenant_id = tenant
        refused = await examine(connect)
        assert refused.verdict.outcome == "refused"
        assert "you - set connect.tenant_id" in refused.text
    connect.tenant_id = "acme"
    assert (await examine(connect, "shop")).verdict.outcome == "works"


async def test_the_proxy_port_of_a_node_is_told_from_its_upstream_port(roles: Roles, examine: Examine) -> None:
    node = await roles.node()
    done = await examine(connect_to(node.proxy))
    assert done.verdict.outcome == "refused"
    assert "that is a node's proxy port, for clients" in done.verdict.text


async def test_the_admin_port_of_a_node_is_told_from_its_upstream_port(roles: Roles, examine: Examine) -> None:
    node = await roles.node()
    done = await examine(connect_to(node.admin))
    assert done.verdict.outcome == "refused"
    assert "that is no upstream port of a node: 404" in done.verdict.text
    assert "you - an agent needs its upstream port (8001" in done.text


# Another setting --------------------------------------------------------------------------------------------


def pasted(settings: list[str], tmp_path: Path) -> AgentConfig:
    """What an agent makes of the setting, which is told as flags and for the file."""
    flags, text = settings
    (tmp_path / "pasted.yaml").write_text(text)
    by_file = Draft(AgentConfig)
    by_file.read_file(str(tmp_path / "pasted.yaml"))
    by_flags = Draft(AgentConfig)
    words = [word for flag in shlex.split(flags) for word in ([flag[:-1], ""] if flag.endswith("=") else [flag])]
    by_flags.read_flags(dict(zip(words[::2], ([word] for word in words[1::2]), strict=True)))
    assert by_file.finish() == by_flags.finish()
    return by_file.config


async def test_a_proxy_of_another_kind_is_recognised(
    roles: Roles, programs: Programs, examine: Examine, tmp_path: Path
) -> None:
    node, proxy = await roles.node(), await pproxy(programs, "http")
    done = await examine(connect_to(node.upstream, f"https://127.0.0.1:{proxy}"))
    assert (done.verdict.outcome, done.verdict.exit_code) == ("setting", 3)
    assert done.verdict.settings[0] == f"--connect.proxy.url http://127.0.0.1:{proxy}"
    assert pasted(done.verdict.settings, tmp_path).connect.proxy.url == [f"http://127.0.0.1:{proxy}"]


async def test_a_cure_does_not_put_a_placeholder_where_a_password_belongs(
    roles: Roles, programs: Programs, examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, proxy = await roles.node(), await pproxy(programs, "http")
    done = await examine(connect_to(node.upstream, f"https://CORP%5Calice:5ecret@127.0.0.1:{proxy}"))
    assert "5ecret" not in done.text
    assert MASK not in done.text
    assert "the password of CORP\\alice into the environment variable TRIODUCT_PROXY_PASSWORD" in done.verdict.text
    monkeypatch.setenv("TRIODUCT_PROXY_PASSWORD", "5ecret")
    found = pasted(done.verdict.settings, tmp_path).connect.proxy
    assert (found.url, found.user, found.password_env) == (
        [f"http://127.0.0.1:{proxy}"],
        "CORP\\alice",
        "TRIODUCT_PROXY_PASSWORD",
    )


async def test_a_cure_for_a_chain_says_where_passwords_are_missing_and_is_refused_without_them(
    roles: Roles, programs: Programs, examine: Examine, tmp_path: Path
) -> None:
    node, first, second = await roles.node(), await pproxy(programs, "socks5"), await pproxy(programs, "http")
    chain = f"socks5h://127.0.0.1:{first} -> https://alice:5ecret@127.0.0.1:{second}"
    done = await examine(connect_to(node.upstream, chain))
    assert "Write the passwords in the place of *** first" in done.verdict.text
    with pytest.raises(ConfigError, match=r"connect\.proxy\.url: \*\*\* is what is printed instead of a secret"):
        pasted(done.verdict.settings, tmp_path)


async def test_a_cure_shows_where_its_lines_go_in_a_file_that_exists(
    roles: Roles, programs: Programs, examine: Examine
) -> None:
    node, proxy = await roles.node(), await pproxy(programs, "http")
    done = await examine(connect_to(node.upstream, f"https://127.0.0.1:{proxy}"))
    assert (
        "As flags, where no file says otherwise:\n"
        f"  --connect.proxy.url http://127.0.0.1:{proxy}\n"
        "In the YAML file; where connect: is there already, add only the lines below it, and so on inside:\n"
        f"  connect:\n    proxy:\n      url: http://127.0.0.1:{proxy}\n"
    ) in done.text


async def test_a_proxy_that_listens_elsewhere_is_found(
    roles: Roles, programs: Programs, examine: Examine, dead: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node, proxy = await roles.node(), await pproxy(programs, "http")
    monkeypatch.setattr("engine.doctor.cure.USUAL_PORTS", ((proxy, "http"),))
    done = await examine(connect_to(node.upstream, f"http://127.0.0.1:{dead}"))
    assert done.of("other ports") == [("note", f"refused; but somebody listens at {proxy}")]
    assert pasted(done.verdict.settings, tmp_path).connect.proxy.url == [f"http://127.0.0.1:{proxy}"]


async def test_a_proxy_that_speaks_tls_with_an_unknown_authority_is_half_a_cure(
    squid_tls: Squid, roles: Roles, examine: Examine
) -> None:
    node = await roles.node()
    done = await examine(connect_to(node.upstream, f"http://localhost:{squid_tls.port}"))
    assert done.verdict.settings[0] == f"--connect.proxy.url https://localhost:{squid_tls.port}"
    assert "It gets further with this setting" in done.verdict.text
    assert "connect.proxy.tls.root_cas" in done.verdict.text


async def test_a_login_that_was_accepted_is_shown_again_with_another_url_of_the_node(
    squid_basic: Squid, roles: Roles, examine: Examine
) -> None:
    node = await roles.node()
    proxy = f"http://127.0.0.1:{squid_basic.port}"
    done = await examine(connect_to(node.upstream, proxy, scheme="https", user=USER, password=PASSWORD))
    assert done.verdict.settings[0] == f"--connect.url http://127.0.0.1:{node.upstream}"
    assert "the node answers" in done.verdict.text


async def test_an_exception_that_should_be_none_is_recognised(
    roles: Roles, squid_open: Squid, examine: Examine, tmp_path: Path
) -> None:
    node, proxy = await roles.node(), f"http://127.0.0.1:{squid_open.port}"
    connect = connect_to(node.upstream, proxy, no_proxy=[".test"])
    connect.url = f"http://target.test:{node.upstream}"  # a name that only this squid knows
    done = await examine(connect)
    assert "no_proxy entry '.test'" in done.text
    assert done.verdict.outcome == "setting"
    found = pasted(done.verdict.settings, tmp_path).connect.proxy
    assert (found.url, found.no_proxy) == ([proxy], [])


async def test_a_pac_file_that_is_broken_is_told_and_what_works_without_it(
    roles: Roles, examine: Examine, tmp_path: Path, squid_open: Squid, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "proxy.pac"
    script.write_text("function FindProxyForURL(")
    node = await roles.node()
    connect = connect_to(node.upstream, pac=str(script))
    connect.url = f"http://target.test:{node.upstream}"
    blocked = await examine(connect)
    assert blocked.of("route")[0][0] == "failed"
    assert "which PAC file" in blocked.verdict.letter
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{squid_open.port}")
    done = await examine(connect)
    found = pasted(done.verdict.settings, tmp_path).connect.proxy
    assert (found.url, found.pac) == ([f"http://127.0.0.1:{squid_open.port}"], "")


async def test_a_node_without_tls_is_recognised_and_one_with_it(roles: Roles, pki: Pki, examine: Examine) -> None:
    plain, secure = await roles.node(), await tls_node(roles, pki)
    without = connect_to(plain.upstream, scheme="https")
    assert "Warning: everybody on the way can then read what passes; " in (await examine(without)).verdict.text
    without.token = "t0ken"
    done = await examine(without)
    assert "can then read what passes, the token of connect.token included; " in done.verdict.text
    assert done.verdict.settings[0] == f"--connect.url http://127.0.0.1:{plain.upstream}"
    connect = connect_to(secure.upstream)
    connect.tls.root_cas = str(pki.ca)
    done = await examine(connect)
    assert done.verdict.settings[0] == f"--connect.url https://127.0.0.1:{secure.upstream}"


async def test_a_defect_of_the_environment_does_not_matter_where_it_is_not_asked(
    examine: Examine, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy-without-port")
    done = await examine(connect_to(dead, f"http://127.0.0.1:{dead}"))
    assert done.verdict.outcome == "blocked"
    assert [step.place for step in done.steps if step.name == "another setting"] == ["straight"]


async def test_no_other_setting_is_tried_with_a_secret(roles: Roles, examine: Examine) -> None:
    heard = bytearray()

    async def listen(talk: Talk) -> None:
        heard.extend(await talk.hear())
        await talk.say(b"SSH-2.0-nobody\r\n")

    proxy = await roles.service(listen)
    node = await roles.node()
    connect = connect_to(node.upstream, f"https://alice:5ecret@127.0.0.1:{proxy}", auth__token="t0ken-of-a-proxy")
    connect.proxy.headers = ["X-Key: t0ken-of-a-site"]
    connect.token = "t0ken-of-the-node"
    done = await examine(connect)
    assert done.of("another setting")
    for secret in (b"5ecret", base64.b64encode(b"alice:5ecret"), b"t0ken"):
        assert secret not in heard
    assert "5ecret" not in done.text
    assert "t0ken" not in done.text
    assert b"CONNECT" in heard  # but it was tried


# How it is told ---------------------------------------------------------------------------------------------


async def test_a_program_is_told_by_one_object(roles: Roles, examine: Examine) -> None:
    node, out = await roles.node(), StringIO()
    await run_doctor(connect_to(node.upstream), "", Machine(out))
    told = json.loads(out.getvalue())
    assert (told["outcome"], told["exit_code"]) == ("works", 0)
    assert [step["name"] for step in told["steps"]][:4] == ["route", "tcp", "upgrade", "carrier"]


async def test_a_program_is_told_all_that_a_person_is(
    squid_open: Squid, examine: Examine, no_straight_way: None
) -> None:
    out = StringIO()
    proxy = f"http://127.0.0.1:{squid_open.port}"
    await run_doctor(connect_to(9, proxy), "", Machine(out))
    told = json.loads(out.getvalue())
    assert (told["outcome"], told["exit_code"], told["status"]) == ("blocked", 1, 403)
    assert (told["place"], told["leg"], told["who"]) == (proxy, "proxy-request", "the administrator of the proxy")
    assert told["letter"].startswith("At 2")
    assert {"name", "place", "state", "text", "seconds"} == set(told["steps"][0])


async def test_a_program_is_told_what_each_of_several_proxies_died_of_and_which_can_be_mended(
    squid_basic: Squid, roles: Roles, no_realm: None, dead: int
) -> None:
    node, out = await roles.node(), StringIO()
    refusing, silent = f"http://127.0.0.1:{squid_basic.port}", f"http://127.0.0.1:{dead}"
    connect = connect_to(node.upstream, refusing, silent, user="mallory", password="wr0ng", on_refusal="next")
    await run_doctor(connect, "", Machine(out))
    told = json.loads(out.getvalue())
    assert (told["place"], told["leg"], told["status"]) == (refusing, "proxy-auth", 407)
    assert [(one["place"], one["leg"], one["status"]) for one in told["failures"]] == [
        (refusing, "proxy-auth", 407),
        (silent, "proxy-tcp", None),
    ]
    assert told["failures"][1]["text"] == "Connection refused"


async def test_several_proxies_none_of_which_is_there_are_told_together(
    roles: Roles, examine: Examine, dead: int, no_straight_way: None
) -> None:
    node = await roles.node()
    silent = f"http://127.0.0.1:{dead}"
    done = await examine(connect_to(node.upstream, silent, f"http://localhost:{dead}"))
    assert done.verdict.text.startswith("No proxy leads there: [1] hop 1, ")
    assert (done.verdict.place, done.verdict.leg) == (f"http://localhost:{dead}", "proxy-tcp")
    assert len(done.verdict.failures) == 2


async def test_curl_hears_the_same_from_the_same_proxy(
    squid_open: Squid, squid_basic: Squid, programs: Programs, examine: Examine, no_straight_way: None
) -> None:
    proxy = f"http://127.0.0.1:{squid_open.port}"
    done = await examine(connect_to(9, proxy, scheme="https"))
    curl = await programs.start(*shlex.split(done.verdict.curl))
    assert await curl.wait_end() == 56  # no tunnel
    assert "403 Forbidden" in curl.text
    assert "ERR_ACCESS_DENIED" in curl.text

    done = await examine(connect_to(9, f"http://127.0.0.1:{squid_basic.port}", user=USER, password="wr0ng"))
    assert f"--proxy-user {USER} " in done.verdict.curl
    assert "wr0ng" not in done.verdict.curl
    assert (await examine(connect_to(9, f"{proxy} -> {proxy}"))).verdict.curl == ""


async def test_a_terminal_is_told_and_reads_no_markup_in_what_others_say(
    roles: Roles, examine: Examine, dead: int
) -> None:
    async def refuse(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        page = b"<title>[red]no[/red] \x1b[31m</title>"
        await talk.say(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page))

    proxy, out = await roles.service(refuse), StringIO()
    await run_doctor(connect_to(dead, f"http://127.0.0.1:{proxy}"), "", Terminal(out))
    assert "[red]no[/red]" in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()
    assert "✗ CONNECT" in out.getvalue()


async def test_an_environment_with_a_proxy_that_is_none_is_a_mistake_in_the_configuration(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy-without-port")
    mistake = pytest.RaisesExc(ConfigError, match="environment variable http_proxy: name the port")
    with pytest.RaisesGroup(mistake, flatten_subgroups=True):
        await examine(connect_to(1))


def test_an_inspector_is_known_by_its_name_or_by_what_was_added_to_the_machine(pki: Pki, tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(
        pki.cert.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    shown = Certificate.read(der)
    assert shown is not None
    assert shown.issuer.startswith("trustme")
    assert shown.inspector == ""
    assert "'Zscaler'" in shown._replace(issuer="Zscaler Root CA").inspector
    (tmp_path / "corp.crt").write_bytes(pki.ca.read_bytes())
    (tmp_path / "notes.txt").write_text("nothing")
    assert [path for path, name in added_authorities((str(tmp_path),)) if name == shown.issuer_name] == [
        tmp_path / "corp.crt"
    ]
    assert Certificate.read(b"garbage") is None
