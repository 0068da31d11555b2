"""What an error of the other end says, and to whom."""

from __future__ import annotations

from engine.errors import HTTPError, RemoteProtocolError, WebSocketError, YamuxError


def test_a_stranger_reads_less_than_the_log() -> None:
    for error in (HTTPError(400, "expected x", "'y'"), WebSocketError(1002, "expected x", "'y'")):
        assert (error.public, str(error)) == ("expected x", "expected x: 'y'")
    assert str(YamuxError(1, "expected x")) == "expected x"


def test_each_protocol_has_a_code_of_its_own() -> None:
    assert HTTPError(431, "x").status == 431
    assert WebSocketError(1002, "x").code == 1002
    assert YamuxError(1, "x").code == 1
    assert all(issubclass(kind, RemoteProtocolError) for kind in (HTTPError, WebSocketError, YamuxError))
