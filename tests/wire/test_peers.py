"""The words between nodes: proofs that hold for one opening only, and streams that say what they are for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import HTTPError, RemoteProtocolError
from engine.wire import peers
from engine.wire.peers import Handed, Hello, Port

SECRET = b"a secret of thirty-two characters"
HELLO = Hello("node a", "node/b", b"0" * 32)
NONCE = b"1" * 32


def test_both_ends_prove_that_they_know_the_secret() -> None:
    hello = peers.hello_in([(b"X-Trioduct-Peer", HELLO.encode())])
    assert hello == HELLO
    fields = [(b"X-Trioduct-Peer", peers.answer(SECRET, hello, NONCE))]
    assert peers.same(peers.check_answer(SECRET, HELLO, fields), peers.proof_of_dialler(SECRET, hello, NONCE))


@pytest.mark.parametrize(
    "other",
    [HELLO._replace(from_id="x"), HELLO._replace(to_id="x"), HELLO._replace(nonce=b"2" * 32)],
)
def test_a_proof_holds_for_one_opening_only(other: Hello) -> None:
    fields = [(peers.FIELD, peers.answer(SECRET, HELLO, NONCE))]
    with pytest.raises(RemoteProtocolError, match="secret"):
        peers.check_answer(SECRET, other, fields)
    assert not peers.same(peers.proof_of_dialler(SECRET, HELLO, NONCE), peers.proof_of_dialler(SECRET, other, NONCE))


def test_another_secret_is_found_out() -> None:
    with pytest.raises(RemoteProtocolError, match="secret"):
        peers.check_answer(b"other", HELLO, [(peers.FIELD, peers.answer(SECRET, HELLO, NONCE))])


def test_an_accepting_ends_proof_is_none_of_a_dialling_ends() -> None:
    accepting = bytes.fromhex(peers.answer(SECRET, HELLO, NONCE).split()[1].decode())
    assert not peers.same(accepting, peers.proof_of_dialler(SECRET, HELLO, NONCE))


@given(st.binary(max_size=200))
def test_any_value_is_a_hello_or_refused(value: bytes) -> None:
    try:
        hello = peers.hello_in([(peers.FIELD, value)])
    except HTTPError:
        return
    assert len(hello.nonce) == 32


def test_a_value_that_stands_there_twice_is_none() -> None:
    with pytest.raises(HTTPError):
        peers.hello_in([(peers.FIELD, HELLO.encode())] * 2)


@given(st.text(min_size=1, max_size=200), st.binary(max_size=50))
def test_a_stream_says_its_endpoint_whole_or_in_pieces(endpoint: str, behind: bytes) -> None:
    said = peers.opening(endpoint)
    for cut in range(len(said)):
        assert peers.read_opening(said[:cut]) is None
    assert peers.read_opening(memoryview(said + behind)) == (endpoint, len(said))


@pytest.mark.parametrize("said", [b"\0\0", b"\xff\xff", b"\0\x02\xff\xff"])
def test_what_names_nothing_is_an_error(said: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        peers.read_opening(said)


@pytest.mark.parametrize("endpoint", ["", "x" * (peers.MAX_NAME + 1)])
def test_a_name_that_is_none_is_not_said(endpoint: str) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        peers.opening(endpoint)


def test_a_connection_that_is_handed_over_says_where_it_came_from() -> None:
    handed = Handed(Port.UPSTREAM, ("2001:db8::1", 443))
    said = handed.encode()
    assert peers.read_opening(said[:-1]) is None
    assert peers.read_opening(said + b"more") == (handed, len(said))


@pytest.mark.parametrize("text", [b"admin 1.2.3.4 5", b"proxy 1.2.3.4", b"proxy a b 5"])
def test_a_connection_to_nowhere_is_an_error(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="no port"):
        peers.read_opening((len(text) | 0x8000).to_bytes(2) + text)
