"""TLS as bytes in, plaintext out: handshakes, any split, tampering, the end, and one layer inside another."""

from __future__ import annotations

import ssl
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.wire.tls import TLS
from tests.conftest import Pki

BUFFER = 1 << 18


def shake_hands(client: TLS, server: TLS, step: int = 1 << 20) -> None:
    """Pass the handshake's bytes to and fro, at most `step` at a time."""
    ready = {client: client.handshake(), server: False}
    others = {client: server, server: client}
    while not all(ready.values()):
        moved = False
        for sender, receiver in others.items():
            data = sender.pending()
            for at in range(0, len(data), step):
                moved = True
                if ready[receiver]:
                    receiver.receive(data[at : at + step], memoryview(bytearray(BUFFER)))
                else:
                    ready[receiver] = receiver.handshake(data[at : at + step])
        assert moved, "neither end has anything to say"


def pair(pki: Pki, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[TLS, TLS]:
    context = pki.client_context()
    context.maximum_version = version
    client = TLS.over(context, server_hostname="localhost")
    server = TLS.over(pki.server_context(), server_side=True)
    shake_hands(client, server)
    client.receive(server.pending(), memoryview(bytearray(BUFFER)))  # session tickets
    return client, server


def plaintext(end: TLS, data: bytes, size: int = BUFFER) -> bytes:
    """All that `data` holds, taken in buffers of `size`."""
    buffer = memoryview(bytearray(size))
    count = end.receive(data, buffer)
    whole = bytes(buffer[:count])
    while end.more:
        count = end.receive(b"", buffer)
        whole += buffer[:count]
    return whole


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_hands_are_shaken_however_the_bytes_come(pki: Pki, version: ssl.TLSVersion, step: int) -> None:
    context = pki.client_context()
    context.maximum_version = version
    client = TLS.over(context, server_hostname="localhost")
    server = TLS.over(pki.server_context(), server_side=True)
    shake_hands(client, server, step)
    assert client.object.version() == server.object.version() == version.name.replace("_", ".")
    assert plaintext(server, client.send([b"hello"])) == b"hello"
    assert plaintext(client, server.pending() + server.send([b"hello", b" to you"])) == b"hello to you"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_parts_leave_whole_and_arrive_in_small_buffers(pki: Pki, version: ssl.TLSVersion) -> None:
    client, server = pair(pki, version)
    parts = [bytes([at]) * size for at, size in enumerate([1, 16384, 0, 16385, 1_000_000])]
    sent = client.send([memoryview(part) for part in parts])
    for size in BUFFER, 1000, 16384:
        assert plaintext(server, sent, size) == b"".join(parts)
        sent = client.send(parts)


def test_small_parts_share_a_record(pki: Pki) -> None:
    client, _ = pair(pki)
    assert len(client.send([b"x"] * 100)) == len(client.send([b"x" * 100]))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=5), st.lists(st.integers(0, 250_000), max_size=8))
def test_any_split_gives_the_same_plaintext(pki: Pki, sizes: list[int], places: list[int]) -> None:
    client, server = pair(pki)
    parts = [bytes([at]) * size for at, size in enumerate(sizes)]
    sent = b"".join(client.send([part]) for part in parts)
    at = [0, *sorted({place % (len(sent) + 1) for place in places}), len(sent)]
    assert b"".join(plaintext(server, sent[a:b], 5000) for a, b in pairwise(at)) == b"".join(parts)


def test_a_cut_record_is_not_there_yet(pki: Pki) -> None:
    client, server = pair(pki)
    sent = client.send([b"hello"])
    assert plaintext(server, sent[:-1]) == b""
    assert not server.ended
    assert plaintext(server, sent[-1:]) == b"hello"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_end_is_said_and_heard_behind_the_last_byte(pki: Pki, version: ssl.TLSVersion) -> None:
    client, server = pair(pki, version)
    assert plaintext(server, client.send([b"last"]) + client.close()) == b"last"
    assert server.ended
    assert not client.ended
    assert plaintext(client, server.close()) == b""
    assert client.ended


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("sizes", [[1] * 200, [16384] * 20], ids=["small records", "large records"])
def test_who_says_his_end_over_unread_records_may_go_on_reading(
    pki: Pki, version: ssl.TLSVersion, sizes: list[int]
) -> None:
    client, server = pair(pki, version)
    sent = b"".join(server.send([b"x" * size]) for size in sizes)
    buffer = memoryview(bytearray(100_000))
    count = client.receive(sent, buffer, 64)
    more = client.more
    client.close()
    while client.more:
        count += client.receive(b"", buffer, 64)
    assert more, "something was unread"
    assert count == sum(sizes)
    if version is ssl.TLSVersion.TLSv1_3:  # before, an end was the end of both (RFC 8446, 6.1)
        assert plaintext(client, server.send([b"y"]) + server.close()) == b"y"
        assert client.ended


def test_closing_before_or_in_the_handshake_and_twice_does_no_harm(pki: Pki) -> None:
    TLS.over(pki.client_context(), server_hostname="localhost").close()
    begun = TLS.over(pki.client_context(), server_hostname="localhost")
    begun.handshake()
    begun.close()
    client, _ = pair(pki)
    assert client.close()
    assert client.close() == b""


def test_a_changed_byte_is_refused_with_an_alert(pki: Pki) -> None:
    client, server = pair(pki)
    sent = bytearray(client.send([b"hello"]))
    sent[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        plaintext(server, bytes(sent))
    assert server.pending()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + bytes(100)])
def test_what_is_not_tls_is_refused(pki: Pki, data: bytes) -> None:
    server = TLS.over(pki.server_context(), server_side=True)
    with pytest.raises(ssl.SSLError):
        server.handshake(data)


@pytest.mark.parametrize("named", [False, True])
def test_a_stranger_is_refused_and_told(pki: Pki, named: bool) -> None:
    context = pki.client_context() if named else ssl.create_default_context()
    client = TLS.over(context, server_hostname="elsewhere.test" if named else "localhost")
    server = TLS.over(pki.server_context(), server_side=True)
    client.handshake()
    server.handshake(client.pending())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.handshake(server.pending())
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        server.handshake(client.pending())


def test_one_layer_fits_inside_another(pki: Pki) -> None:
    outer_client, outer_server = pair(pki)
    client = TLS.over(pki.client_context(), server_hostname="localhost")
    server = TLS.over(pki.server_context(), server_side=True)
    client.handshake()
    done = False
    while not done:
        server.handshake(plaintext(outer_server, outer_client.send([client.pending()])))
        done = client.handshake(plaintext(outer_client, outer_server.send([server.pending()])))
    server.handshake(plaintext(outer_server, outer_client.send([client.pending()])))
    sent = outer_client.send([client.send([bytes(100_000)])])
    assert plaintext(server, plaintext(outer_server, sent)) == bytes(100_000)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_noise_is_plaintext_or_an_ssl_error(pki: Pki, first: bytes, second: bytes) -> None:
    server = TLS.over(pki.server_context(), server_side=True)
    try:
        server.handshake(first)
        server.handshake(second)
    except ssl.SSLError:
        pass
    else:
        assert not server.ended
