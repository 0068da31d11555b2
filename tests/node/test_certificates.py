"""Certificates that change while a node runs: the next handshake has the new ones, and no connection is lost."""

from __future__ import annotations

import json
import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme
from cryptography import x509
from trio.testing import MockClock

from engine.auth.authority import Authority
from engine.config import ClientTLS
from engine.config.tls import KeyPair
from engine.loop.certificates import DAY_SECONDS
from engine.loop.renewed import WATCH_SECONDS
from tests.node.conftest import Written
from tests.roles import GET, Roles, RunningNode, Talk, agent_config, answer, server_config, settle, tell_head

METRIC = "trioduct_certificate_expiry_timestamp_seconds"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Files:
    """A node's certificate, key, and the authority of its clients, which a test replaces."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.number = 0
        self.renew()

    def renew(self, *, only: str = "") -> None:
        """Another authority and what it has issued; `only` one of the files is written."""
        self.number += 1
        authority = trustme.CA()
        pair = authority.issue_cert("localhost", "127.0.0.1", common_name=f"cert {self.number}")
        for path, content in (
            (self.cert, b"".join(part.bytes() for part in pair.cert_chain_pems)),
            (self.key, pair.private_key_pem.bytes()),
            (self.ca, authority.cert_pem.bytes()),
        ):
            if not only or path.name == only:
                self.replace(path, content)

    def replace(self, path: Path, content: bytes) -> None:
        """As certbot does it: at once."""
        new = path.with_suffix(".new")
        new.write_bytes(content)
        os.replace(new, path)

    def client_context(self, *, certificate: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate:
            context.load_cert_chain(self.cert, self.key)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def start(roles: Roles, files: Files, *, mutual: bool = False) -> RunningNode:
    config = server_config()
    for section in (config.proxy, config.upstream, config.admin):
        section.tls.cert, section.tls.key = str(files.cert), str(files.key)
        section.tls.client_cas = str(files.ca) if mutual else ""
    return await roles.node(config)


async def looked(clock: MockClock) -> None:
    """Let the node look at its files."""
    await settle()
    clock.jump(WATCH_SECONDS)
    await settle()


async def shown(port: int, name: str | None = None) -> str:
    """The name in the certificate that a port shows who asks for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
        stream = trio.SSLStream(plain, context, server_hostname=name)
        await stream.do_handshake()
        der = stream.getpeercert(True)
        await trio.aclose_forcefully(stream)
    (called,) = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(called.value)


async def test_a_new_certificate_is_shown_on_every_port_and_nobody_is_cut_off(
    roles: Roles, files: Files, mock_clock: MockClock, written: Written
) -> None:
    may_answer = trio.Event()

    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            if b"/slow" in head:
                await may_answer.wait()
            await talk.say(answer(b"done"))

    node = await start(roles, files)
    config = agent_config(node.upstream, await roles.service(serve), scheme="https")
    config.connect.tls.root_cas = str(files.ca)
    await roles.agent_with(config)
    before, under_way = [await roles.dial(node.proxy, tls=files.client_context()) for _ in range(2)]
    assert (await before.ask()).body == b"done"
    await under_way.say(GET.replace(b"GET /", b"GET /slow"))
    await settle()
    for number in range(2, 5):
        files.renew()
        await looked(mock_clock)
        for port in (node.proxy, node.upstream, node.admin):
            assert await shown(port) == f"cert {number}"
        assert (await before.ask()).body == b"done"
        client = await roles.dial(node.proxy, tls=files.client_context())
        assert (await client.ask()).body == b"done"
    may_answer.set()
    assert (await under_way.answer()).body == b"done"
    assert [line["msg"] for line in written("files")] == ["files reloaded"] * 9


@pytest.mark.parametrize("only", ["cert.pem", "key.pem"])
async def test_a_certificate_without_its_key_changes_nothing_until_the_key_has_come(
    roles: Roles, files: Files, mock_clock: MockClock, written: Written, only: str
) -> None:
    node = await start(roles, files)
    files.renew(only=only)
    for _ in range(3):
        await looked(mock_clock)
        assert await shown(node.proxy) == "cert 1"
    assert [line["level"] for line in written("files")] == ["warn"] * 3  # once for each port
    files.renew()
    await looked(mock_clock)
    assert await shown(node.proxy) == "cert 3"


@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
async def test_a_file_that_is_broken_or_gone_changes_nothing(
    roles: Roles, files: Files, mock_clock: MockClock, content: bytes | None
) -> None:
    node = await start(roles, files, mutual=True)
    context = files.client_context(certificate=True)
    for path in (files.cert, files.key, files.ca):
        good = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            files.replace(path, content)
        await looked(mock_clock)
        client = await roles.dial(node.admin, tls=context)
        assert (await client.ask(HEALTH)).status == 200
        files.replace(path, good)
        await looked(mock_clock)


async def test_an_authority_that_is_taken_away_lets_nobody_in_any_more(
    roles: Roles, files: Files, mock_clock: MockClock
) -> None:
    node = await start(roles, files, mutual=True)
    config = agent_config(node.upstream, await roles.service(tell_head), scheme="https")
    config.connect.tls = ClientTLS(root_cas=str(files.ca), cert=str(files.cert), key=str(files.key))
    await roles.agent_with(config)
    old = files.client_context(certificate=True)
    client = await roles.dial(node.proxy, tls=old)
    assert (await client.ask()).status == 200
    files.renew()
    await looked(mock_clock)
    assert (await client.ask()).status == 200  # it is in
    renewed = files.client_context(certificate=True)
    old.load_verify_locations(files.ca)
    for port, request in ((node.proxy, GET), (node.admin, HEALTH)):
        for context, status in ((renewed, 200), (old, 0)):
            try:
                got = (await (await roles.dial(port, tls=context)).ask(request)).status
            except (trio.BrokenResourceError, EOFError):
                got = 0
            assert got == status


async def test_no_request_fails_while_certificates_change_under_load(
    roles: Roles, files: Files, monkeypatch: pytest.MonkeyPatch, written: Written
) -> None:
    monkeypatch.setattr("engine.loop.renewed.WATCH_SECONDS", 0.001)
    node = await start(roles, files)
    config = agent_config(node.upstream, await roles.service(tell_head), scheme="https")
    config.connect.tls.insecure_skip_verify = True
    await roles.agent_with(config)
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    served, renewed = 0, False

    async def ask() -> None:
        nonlocal served
        kept = await roles.dial(node.proxy, tls=anybody)
        while not renewed:
            fresh = await roles.dial(node.proxy, tls=anybody)
            for client in (kept, fresh):
                assert (await client.ask()).status == 200
                served += 1
            await fresh.close()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask)
        for number in range(2, 12):
            files.renew()
            while await shown(node.proxy) != f"cert {number}":
                pass  # each is a handshake of its own
        renewed = True
    assert served > 0
    assert all(line["level"] == "info" or "another certificate" in str(line["error"]) for line in written("files"))


async def test_an_agent_that_dials_again_shows_its_new_certificate_and_believes_the_new_authority(
    roles: Roles, files: Files, mock_clock: MockClock
) -> None:
    first = await start(roles, files, mutual=True)
    service = await roles.service(tell_head)
    config = agent_config(first.upstream, service, scheme="https")
    config.connect.tls = ClientTLS(root_cas=str(files.ca), cert=str(files.cert), key=str(files.key))
    await roles.agent_with(config)
    await first.kill()
    files.renew()
    again = server_config()
    again.upstream.bind_addr = f"127.0.0.1:{first.upstream}"
    again.upstream.tls.cert, again.upstream.tls.key = str(files.cert), str(files.key)
    again.upstream.tls.client_cas = str(files.ca)
    node = await roles.node(again)
    client = await roles.dial(node.proxy)
    while (await client.ask()).status != 200:
        mock_clock.jump(1)
        await settle()


def issue(files: Files, days: int) -> float:
    """Have the node's certificate end in so many days; when that is, in Unix seconds."""
    chain, key = Authority.make("test").issue("node", ["localhost"], days=days)
    files.replace(files.cert, chain)
    files.replace(files.key, key)
    return x509.load_pem_x509_certificate(chain).not_valid_after_utc.timestamp()


async def test_when_a_certificate_ends_is_told_by_metrics_and_status_and_follows_its_file(
    roles: Roles, files: Files, mock_clock: MockClock
) -> None:
    config = server_config()
    config.proxy.tls.cert, config.proxy.tls.key = str(files.cert), str(files.key)
    for days in (300, 20):
        ends = issue(files, days)
        if days == 300:
            node = await roles.node(config)
        else:
            await looked(mock_clock)
        told = await (await roles.dial(node.admin)).ask(HEALTH.replace(b"/health", b"/metrics"))
        samples = [line.split() for line in told.body.decode().splitlines() if line.startswith(f"{METRIC}{{")]
        assert [(labels, float(value)) for labels, value in samples] == [
            (f'{METRIC}{{file="{files.cert}",port="proxy"}}', ends)
        ]
        told = await (await roles.dial(node.admin)).ask(HEALTH.replace(b"/health", b"/status/certificates"))
        expires = datetime.fromtimestamp(ends, UTC).isoformat().replace("+00:00", "Z")
        assert json.loads(told.body) == [{"port": "proxy", "file": str(files.cert), "expires": expires}]


async def test_a_key_that_does_not_fit_leaves_the_end_of_the_certificate_in_use(
    roles: Roles, files: Files, mock_clock: MockClock
) -> None:
    ends = issue(files, 300)
    node = await start(roles, files)
    good = files.key.read_bytes()
    issue(files, 20)
    files.replace(files.key, good)
    await looked(mock_clock)
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    client = await roles.dial(node.admin, tls=anybody)
    told = (await client.ask(HEALTH.replace(b"/health", b"/metrics"))).body.decode()
    values = {float(line.split()[1]) for line in told.splitlines() if line.startswith(f"{METRIC}{{")}
    assert values == {ends}


@pytest.mark.parametrize(
    ("days", "says"), [(13, "certificate expires soon"), (0, "certificate has expired"), (15, None)]
)
async def test_a_certificate_that_ends_soon_is_warned_of_once_a_day(
    roles: Roles, files: Files, mock_clock: MockClock, written: Written, days: int, says: str | None
) -> None:
    issue(files, days)
    config = server_config()
    config.proxy.tls.cert, config.proxy.tls.key = str(files.cert), str(files.key)
    await roles.node(config)
    for day in range(1, 4):
        await settle()
        lines = written("tls")
        assert [line["msg"] for line in lines] == ([says] * day if says else [])
        assert all((line["level"], line["port"], line["file"]) == ("warn", "proxy", str(files.cert)) for line in lines)
        mock_clock.jump(DAY_SECONDS)


async def test_an_agent_warns_of_its_own_certificate(roles: Roles, files: Files, written: Written) -> None:
    issue(files, 13)
    node = await roles.node(server_config())
    config = agent_config(node.upstream, await roles.service(tell_head))
    config.connect.tls = ClientTLS(cert=str(files.cert), key=str(files.key))
    await roles.agent_with(config)
    assert [(line["msg"], line["port"]) for line in written("tls")] == [("certificate expires soon", "connect")]


class Several:
    """Certificates of one authority, each of which is called as its files are, and those of its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.of_clients = Authority.make("nodes"), Authority.make("clients")
        (folder / "clients.pem").write_bytes(self.of_clients.certificate)
        self._write("client", self.of_clients.issue("client", days=30))

    def make(self, file: str, *names: str, called: str = "") -> KeyPair:
        self._write(file, self.authority.issue(called or file, names, days=30))
        return KeyPair(cert=str(self.folder / f"{file}.pem"), key=str(self.folder / f"{file}.key"))

    def _write(self, file: str, pair: tuple[bytes, bytes]) -> None:
        for end, content in zip(("pem", "key"), pair, strict=True):
            (self.folder / f"{file}.{end}").write_bytes(content)


async def test_each_name_is_shown_its_own_certificate_on_every_port(
    roles: Roles, tmp_path: Path, mock_clock: MockClock
) -> None:
    several = Several(tmp_path)
    default = several.make("default", "node.test")
    more = [several.make("wild", "*.shop.test", "shop.test"), several.make("exact", "own.shop.test")]
    config = server_config()
    for section in (config.proxy, config.upstream, config.admin):
        section.tls.cert, section.tls.key, section.tls.certificates = default.cert, default.key, more
    node = await roles.node(config)
    for port in (node.proxy, node.upstream, node.admin):
        for name, expected in {
            "node.test": "default",
            "shop.test": "wild",
            "a.shop.test": "wild",
            "A.Shop.TEST": "wild",
            "own.shop.test": "exact",
            "a.b.shop.test": "default",  # a wildcard is one label
            "elsewhere.test": "default",
            None: "default",
        }.items():
            assert await shown(port, name) == expected
    several.make("wild", "*.shop.test", called="renewed")
    await looked(mock_clock)
    assert await shown(node.proxy, "a.shop.test") == "renewed"
    assert await shown(node.proxy, "shop.test") == "default"
    assert await shown(node.proxy, "own.shop.test") == "exact"
    Path(more[1].key).write_bytes(Path(default.key).read_bytes())
    await looked(mock_clock)
    assert await shown(node.proxy, "own.shop.test") == "exact"


async def test_a_client_needs_its_certificate_whatever_name_it_asks_for(roles: Roles, tmp_path: Path) -> None:
    several = Several(tmp_path)
    (tmp_path / "ca.pem").write_bytes(several.authority.certificate)
    several.make("stranger", "shop.test")  # of an authority that is not the clients'
    config = server_config()
    config.admin.tls.client_cas = str(tmp_path / "clients.pem")
    config.admin.tls.certificates = [several.make("one", "one.test"), several.make("two", "two.test")]
    node = await roles.node(config)
    for name in ("one.test", "two.test", "three.test"):
        for who, status in {"client": 200, "stranger": 0, None: 0}.items():
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            context.check_hostname = False
            if who:
                context.load_cert_chain(tmp_path / f"{who}.pem", tmp_path / f"{who}.key")
            try:
                got = (await (await roles.dial(node.admin, tls=context, server_name=name)).ask(HEALTH)).status
            except (trio.BrokenResourceError, EOFError):
                got = 0
            assert got == status, (name, who)
