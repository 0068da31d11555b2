"""Attackers say what they should, and rows are found by the beginning of their names."""

from __future__ import annotations

import gc
import socket
import threading
import time

import pytest
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

from engine.wire.mux import PINGED, Mux, StreamState
from engine.wire.websocket import PING, WebSocket
from perf.attacks.rows import attack_rows
from perf.attacks.sink import serve
from perf.attacks.weapons import PING as YAMUX_PING
from perf.attacks.weapons import SLOWHTTPTEST, SYN, WEAPONS, YAMUX, Aim, flood, frame, keep_at_it
from perf.errors import LabError
from tests.programs import needs

AIM = Aim(0, 0, 0)


def test_a_frame_is_a_websocket_clients() -> None:
    pings = YAMUX.pack(0, YAMUX_PING, SYN, 0, 7) * 100
    (event,) = WebSocket(client=False).receive(memoryview(frame(pings)))
    mux = Mux(client=False, accepts=False, new_stream=StreamState)
    assert [what for what, _, _ in mux.receive(memoryview(event.data))] == [PINGED] * 100
    (event,) = WebSocket(client=False).receive(memoryview(frame(b"x" * 100, opcode=9)))
    assert event.opcode == PING


def test_a_flood_ends_when_its_time_is_over_or_its_peer_has_gone() -> None:
    near, far = socket.socketpair()
    far.close()
    with near, pytest.raises(BrokenPipeError):
        flood(near, Aim(0, 0, time.monotonic() + 60), b"x", read=False)
    near, far = socket.socketpair()
    with near, far:
        flood(near, Aim(0, 0, time.monotonic()), b"x")


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("resets", RstStreamFrame),
        ("continuations", ContinuationFrame),
        ("settings", SettingsFrame),
        ("slow-reads", HeadersFrame),
        ("requests", HeadersFrame),
    ],
)
def test_an_attack_by_http2_is_one(name: str, frame: type[Frame]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        aim = Aim(listener.getsockname()[1], 0, time.monotonic() + 0.5)
        attack = threading.Thread(target=keep_at_it, args=(WEAPONS[f"http2-{name}"], aim))
        attack.start()
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(5)
            said, seen = sock.recv(4096), 0
            assert said.startswith(b"PRI * HTTP/2.0\r\n")
            said = said[24:]
            while seen < 2:  # each connection begins with settings
                while len(said) < 9:
                    said += sock.recv(4096)
                found, length = Frame.parse_frame_header(memoryview(said[:9]))
                seen += isinstance(found, frame)
                said = said[9 + length :]
            time.sleep(max(0.0, aim.until - time.monotonic()))  # or it comes again
    attack.join()


@pytest.mark.parametrize("name", [name for name in WEAPONS if not name.startswith("slowhttptest")])
def test_an_attack_that_is_cut_off_leaves_no_socket(name: str) -> None:
    """The node takes one connection, and is gone before the next."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        attack = threading.Thread(target=keep_at_it, args=(WEAPONS[name], Aim(port, port, time.monotonic() + 0.2)))
        attack.start()
        sock, _ = listener.accept()
    sock.close()
    attack.join()
    gc.collect()  # what is left would be an error by now


@needs(SLOWHTTPTEST)
@pytest.mark.parametrize("mode", ["heads", "bodies", "reads"])
def test_slowhttptest_asks_the_node_for_the_attacked_endpoint(mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        aim = Aim(listener.getsockname()[1], 0, time.monotonic() + 2)
        attack = threading.Thread(target=WEAPONS[f"slowhttptest-{mode}"], args=(aim,))
        attack.start()
        first, _ = listener.accept()
        with first:
            head = first.recv(4096)
    attack.join()
    assert b"\r\nHost: attacked.test\r\n" in head
    assert head.split()[1].startswith(b"http://attacked.test/")


def test_the_sink_answers_swallows_and_sends() -> None:
    for said, heard in ((AIM.request("e") * 2, 2), (AIM.request("e", path="/bulk"), 1)):
        near, far = socket.socketpair()
        thread = threading.Thread(target=serve, args=(far,))
        thread.start()
        with near:
            near.sendall(said)
            answer = b""
            while answer.count(b"HTTP/1.1 200 OK") < heard:
                answer += near.recv(1 << 16)
        thread.join()


def test_rows_are_chosen_by_the_beginning_of_their_names() -> None:
    assert len(attack_rows()) == 2 * len(WEAPONS)
    assert [row.name for row in attack_rows("yamux-pings-deaf")] == ["yamux-pings-deaf-1", "yamux-pings-deaf-4"]
    with pytest.raises(LabError, match="no row starts with nothing"):
        attack_rows("nothing")


def test_a_token_is_shown_to_both_ports() -> None:
    assert b"\r\nAuthorization: Bearer a.b.c\r\n" in Aim(0, 0, 0, "a.b.c").request("e")
    assert b"Authorization" not in AIM.request("e")
