"""`trioduct certs`."""

from __future__ import annotations

import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from engine.cli import main
from engine.config import AgentConfig, Draft, ForwardConfig, Section, ServerConfig
from tests.cli.command_line import Captured, complains

LEAVES = {"node": "node", "agent": "agent", "client": "client"}  # names of certificates, and of what issues them


def made(capsys: Captured, *argv: str) -> str:
    assert main(["certs", *argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("certs").iterdir()}


def read(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def test_each_end_has_a_certificate_of_its_own_authority_and_keys_are_their_owners(capsys: Captured) -> None:
    made(capsys)
    names = [f"{name}{part}" for name in LEAVES for part in ("", "-ca")]
    assert contents().keys() == {f"{name}.{end}" for name in names for end in ("pem", "key")}
    for name in names:
        assert stat.S_IMODE(Path(f"certs/{name}.key").stat().st_mode) == 0o600
        pair = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair.load_cert_chain(f"certs/{name}.pem", f"certs/{name}.key")


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("authority", LEAVES.values())
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_nobody_passes_for_somebody_else(capsys: Captured, leaf: str, authority: str, purpose: str) -> None:
    made(capsys)
    words = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", f"certs/{authority}-ca.pem"]
    verified = subprocess.run([*words, f"certs/{leaf}.pem"], capture_output=True, text=True, check=False)
    good = LEAVES[leaf] == authority and (purpose == "sslclient" or leaf == "node")
    assert (verified.returncode == 0) == good, verified.stdout + verified.stderr


def test_what_is_printed_is_what_each_configuration_takes(capsys: Captured) -> None:
    text = made(capsys, "--agents=shop,api", "--clients=alice")
    kinds: tuple[type[Section], ...] = (ServerConfig, AgentConfig, AgentConfig, ForwardConfig)
    for kind, document in zip(kinds, yaml.safe_load_all(text), strict=True):
        Path("file.yaml").write_text(yaml.safe_dump(document))
        draft = Draft(kind)
        draft.read_file("file.yaml", expand_env=False, environ={})
        draft.finish()
    assert "curl --cacert certs/node-ca.pem --cert certs/alice.pem --key certs/alice.key" in text
    assert "PRIVATE" not in text


def test_names_and_days_are_as_they_were_asked_for(capsys: Captured) -> None:
    made(capsys, "--names", "Tunnel.example.com,*.tunnel.example.com,bücher.test,::1,10.0.0.7", "--days=30")
    node = read("certs/node.pem")
    names = node.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "tunnel.example.com",
        "*.tunnel.example.com",
        "xn--bcher-kva.test",
    ]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["::1", "10.0.0.7"]
    assert abs(node.not_valid_after_utc - datetime.now(UTC) - timedelta(days=30)) < timedelta(hours=1)


@pytest.mark.parametrize("taken", ["agent.pem", "node-ca.key", "client.key"])
def test_nothing_is_overwritten_and_then_nothing_is_written(capsys: Captured, taken: str) -> None:
    Path("certs").mkdir()
    Path("certs", taken).write_bytes(b"mine")
    complains("certs", f"folder: 'certs/{taken}': File exists; nothing was written", capsys)
    assert contents() == {taken: b"mine"}


def test_an_authority_that_is_there_issues_what_is_missing(capsys: Captured) -> None:
    made(capsys)
    before = contents()
    made(capsys, "--names=", "--agents=second", "--clients=")
    after = contents()
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"second.pem", "second.key"}
    read("certs/second.pem").verify_directly_issued_by(read("certs/agent-ca.pem"))


def test_what_is_no_authority_issues_nothing(capsys: Captured) -> None:
    made(capsys)
    for end in ("pem", "key"):
        Path(f"certs/agent.{end}").rename(f"certs/agent-ca.{end}")
    argv = "certs --names= --clients="
    complains(argv, "folder: 'certs/agent-ca.pem': not an authority's certificate", capsys)
    Path("certs/agent-ca.pem").write_bytes(Path("certs/client-ca.pem").read_bytes())
    complains(argv, "folder: 'certs/agent-ca.pem': the key is not that of the certificate", capsys)
    Path("certs/agent-ca.key").write_text("rubbish")
    complains(argv, "folder: 'certs/agent-ca.pem': not the certificate and the key of an authority", capsys)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("certs --names=a_b", "--names: 'a_b': "),
        ("certs --names=a.*.test", "--names: 'a.*.test': "),
        ("certs --names=a..b", "--names: 'a..b': "),
        ("certs --agents=../x", "--agents: '../x': "),
        ("certs --agents=node-ca", "--agents: 'node-ca': there is a file of that name already"),
        ("certs --agents=x --clients=x", "--clients: 'x': there is a file of that name already"),
        (f"certs --agents={'x' * 65}", f"--agents: '{'x' * 65}': expected 64 characters at the most"),
        ("certs --days=0", "--days: '0': "),
        ("certs --days=4000", "--days: '4000': expected 3650 at the most"),
        ("certs --folder=/proc/none", "--folder: '/proc/none': No such file or directory"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(capsys: Captured, argv: str, line: str) -> None:
    complains(argv, line, capsys)
    assert not Path("certs").exists()
