"""Certificates that are renewed while a node runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from trio.testing import MockClock

from engine import log
from engine.node.certificates import LOOK_SECONDS
from tests.conftest import Pki
from tests.roles import GET, Roles, RunningNode, server_config, settle

Captured = pytest.CaptureFixture[str]


def renew(pki: Pki, folder: Path) -> trustme.LeafCert:
    """Another certificate of the same authority, in new files."""
    pair = pki.authority.issue_cert("localhost", "127.0.0.1")
    for name, data in {
        "cert.pem": b"".join(part.bytes() for part in pair.cert_chain_pems),
        "key.pem": pair.private_key_pem.bytes(),
    }.items():
        (folder / f"{name}.new").write_bytes(data)
        (folder / f"{name}.new").replace(folder / name)
    return pair


async def node_with(roles: Roles, folder: Path) -> RunningNode:
    config = server_config()
    for port in (config.proxy, config.upstream, config.admin):
        port.tls.cert, port.tls.key = str(folder / "cert.pem"), str(folder / "key.pem")
    return await roles.node(config)


async def shown(roles: Roles, pki: Pki, port: int) -> bytes:
    """The certificate that a new connection is shown."""
    talk = await roles.dial(port, tls=pki.client_context())
    der = talk.certificate()
    await talk.close()
    return der


def der(pair: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert_chain_pems[0].bytes().decode())


async def look(mock_clock: MockClock) -> None:
    await settle()
    mock_clock.jump(LOOK_SECONDS)
    await settle()


async def test_new_connections_are_shown_the_renewed_certificate_and_old_ones_go_on(
    roles: Roles, pki: Pki, tmp_path: Path, mock_clock: MockClock
) -> None:
    first = renew(pki, tmp_path)
    node = await node_with(roles, tmp_path)
    client = await roles.dial(node.proxy, tls=pki.client_context())
    assert (await client.ask(GET)).status == 502  # nobody serves it, but it is answered
    second = renew(pki, tmp_path)
    for port in (node.proxy, node.upstream, node.admin):
        assert await shown(roles, pki, port) == der(first)
    await look(mock_clock)
    for port in (node.proxy, node.upstream, node.admin):
        assert await shown(roles, pki, port) == der(second)
    assert (await client.ask(GET)).status == 502


async def test_a_certificate_without_its_key_changes_nothing_and_is_told_once(
    roles: Roles, pki: Pki, tmp_path: Path, mock_clock: MockClock, capsys: Captured
) -> None:
    log.configure("info")
    first = renew(pki, tmp_path)
    node = await node_with(roles, tmp_path)
    key = (tmp_path / "key.pem").read_bytes()
    second = renew(pki, tmp_path)
    new_key = (tmp_path / "key.pem").read_bytes()
    (tmp_path / "key.pem").write_bytes(key)
    for _ in range(3):
        await look(mock_clock)
        assert await shown(roles, pki, node.proxy) == der(first)
    (tmp_path / "key.pem").unlink()
    await look(mock_clock)
    assert await shown(roles, pki, node.proxy) == der(first)
    (tmp_path / "key.pem").write_bytes(new_key)
    await look(mock_clock)
    assert await shown(roles, pki, node.proxy) == der(second)
    log.flush()
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if '"msg":"cannot reload' in line or '"msg":"certificate re' in line
    ]
    assert [line.count("KEY_VALUES_MISMATCH") for line in lines] == [1] * 3 + [0] * 6  # of three ports each
    assert all("No such file or directory" in line for line in lines[3:6])
    assert all('"certificate reloaded"' in line for line in lines[6:])
