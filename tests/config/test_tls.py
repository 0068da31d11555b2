"""TLS: certificates, keys and authorities."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from engine.auth.authority import Authority
from engine.config import AgentConfig, ClientTLS, Section, ServerConfig, ServerTLS
from engine.config.tls import KeyPair
from engine.errors import ConfigError
from tests.config.reading import NO_FILE, RSA_KEY, Write, mistake
from tests.conftest import Pki

WRONG = [
    (
        ServerConfig,
        "proxy: {tls: {cert: /no/cert, key: /no/key}}",
        f"1: proxy.tls.cert: '/no/cert': {NO_FILE}; expected a file of PEM certificates",
    ),
    (
        ServerConfig,
        "proxy: {tls: {cert: /no/cert}}",
        "1: proxy.tls.cert: '/no/cert': set without a key; expected key as well",
    ),
    (
        ServerConfig,
        "proxy: {tls: {key: /no/key}}",
        "1: proxy.tls.key: '/no/key': set without a certificate; expected cert as well",
    ),
    (
        ServerConfig,
        "proxy: {tls: {client_cas: /no/ca}}",
        "1: proxy.tls.client_cas: '/no/ca': needs TLS; expected cert and key as well",
    ),
    (
        ServerConfig,
        "proxy: {tls: {certificates: [{}]}}",
        "1: proxy.tls.certificates[0].cert: missing; expected cert and key",
    ),
    (
        ServerConfig,
        "proxy: {tls: {certificates: [{cert: /no/cert}]}}",
        "1: proxy.tls.certificates[0].cert: '/no/cert': set without a key; expected key as well",
    ),
    (
        AgentConfig,
        "connect: {tls: {root_cas: /no/ca}}",
        f"1: connect.tls.root_cas: '/no/ca': {NO_FILE}; expected a file of PEM certificates",
    ),
    (
        AgentConfig,
        "connect: {tls: {cert: /no/cert}}",
        "1: connect.tls.cert: '/no/cert': set without a key; expected key as well",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_mistake_about_tls_is_told_in_one_line(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake. Raises what either end raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ends[0].write(b"x")
    assert ends[1].read(1) == b"x"  # in TLS 1.3 a client learns only now that its certificate is not wanted
    return ends


def test_a_port_without_a_certificate_speaks_no_tls() -> None:
    assert ServerTLS().server_context() is None


def test_a_port_and_a_client_of_theirs_agree(pki: Pki) -> None:
    server = ServerTLS(cert=str(pki.cert), key=str(pki.key)).server_context()
    assert server is not None
    client = ClientTLS(root_cas=str(pki.ca)).client_context()
    ends = handshake(server, client)
    assert ends[0].selected_alpn_protocol() == "http/1.1"
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "elsewhere.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ClientTLS().client_context())
    handshake(server, ClientTLS(insecure_skip_verify=True).client_context(), "elsewhere.example.com")
    handshake(server, ClientTLS(insecure_skip_verify=True, root_cas=str(pki.ca)).client_context(), "elsewhere")


def test_a_port_with_client_cas_wants_a_certificate(pki: Pki) -> None:
    server = ServerTLS(cert=str(pki.cert), key=str(pki.key), client_cas=str(pki.ca)).server_context()
    assert server is not None
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(server, ClientTLS(root_cas=str(pki.ca)).client_context())
    handshake(server, ClientTLS(root_cas=str(pki.ca), cert=str(pki.cert), key=str(pki.key)).client_context())


def test_certificates_and_keys_that_do_not_fit_are_told_apart(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    def private(key: rsa.RSAPrivateKey, encryption: BestAvailableEncryption | NoEncryption, name: str) -> str:
        Path(name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return name

    monkeypatch.chdir(tmp_path)  # a long path would be shortened in what is said

    other = private(RSA_KEY, NoEncryption(), "other.pem")
    locked = private(RSA_KEY, BestAvailableEncryption(b"5ecret"), "locked.pem")
    cert, key, ca = str(pki.cert), str(pki.key), str(pki.ca)
    for tls, problem in [
        (
            ServerTLS(cert=cert, key=other),
            f"key: '{other}': does not match the certificate; expected the key of {cert}",
        ),
        (ServerTLS(cert=cert, key=locked), f"key: '{locked}': encrypted"),
        (ServerTLS(cert=cert, key=ca), f"key: '{ca}': contains no private key"),
        (ServerTLS(cert=key, key=key), f"cert: '{key}': contains no certificate"),
        (ServerTLS(cert=cert, key=key, client_cas=key), f"client_cas: '{key}': contains no certificate"),
        (ClientTLS(root_cas=key), f"root_cas: '{key}': contains no certificate"),
        (
            ClientTLS(cert=cert, key=other),
            f"key: '{other}': does not match the certificate; expected the key of {cert}",
        ),
    ]:
        with pytest.raises(ConfigError) as raised:
            tls.verify()
        assert str(raised.value).startswith(problem)


def test_a_certificate_that_no_client_can_ask_for_is_none_of_several(tmp_path: Path) -> None:
    for names in (["127.0.0.1"], []):
        for path, content in zip(("cert", "key"), Authority.make("x").issue("node", names, days=1), strict=True):
            (tmp_path / path).write_bytes(content)
        with pytest.raises(ConfigError, match="has no DNS name"):
            KeyPair(cert=str(tmp_path / "cert"), key=str(tmp_path / "key")).verify()
