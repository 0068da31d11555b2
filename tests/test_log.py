"""Logs: levels, forms, harmless values, and a reader that stops reading."""

from __future__ import annotations

import io
import json
import os
import pty
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import log
from engine.log import configure, get_logger


@pytest.fixture(autouse=True)
def default_settings() -> Iterator[None]:
    yield
    configure("warn")


def lines_of(said: Callable[[], None], level: str = "info", *subsystems: str) -> list[dict[str, object]]:
    """What `said` logs, as JSON."""
    stream = io.StringIO()
    configure(level, subsystems, stream)
    said()
    assert log.flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_pikos_keys_and_the_fields() -> None:
    (line,) = lines_of(lambda: get_logger("proxy").info("started", addr="127.0.0.1:8000", port=8000))
    assert list(line) == ["level", "ts", "subsystem", "msg", "addr", "port"]
    assert (line["level"], line["subsystem"], line["msg"]) == ("info", "proxy", "started")
    assert line["port"] == 8000


def test_a_line_of_one_of_several_workers_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log._settings, "worker", 2)
    (line,) = lines_of(lambda: get_logger("proxy").info("started", worker="of the line"))
    assert (line["worker"], line["worker_"]) == (2, "of the line")


def say_at_every_level(subsystem: str) -> None:
    logger = get_logger(subsystem)
    logger.debug("d")
    logger.info("i")
    logger.warning("w")
    logger.error("e")
    logger.log("info", "i again")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["d", "i", "w", "e", "i again"]),
        ("info", ["i", "w", "e", "i again"]),
        ("warn", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_a_level_silences_what_is_below_it(level: str, written: list[str]) -> None:
    assert [line["msg"] for line in lines_of(lambda: say_at_every_level("proxy"), level)] == written


def test_a_named_subsystem_logs_everything_and_its_children_do_not() -> None:
    def said() -> None:
        say_at_every_level("proxy")
        say_at_every_level("proxy.http")

    lines = lines_of(said, "error", "proxy")
    assert [line["msg"] for line in lines if line["subsystem"] == "proxy"] == ["d", "i", "w", "e", "i again"]
    assert [line["msg"] for line in lines if line["subsystem"] == "proxy.http"] == ["e"]


def test_a_logger_made_before_configure_follows_it() -> None:
    logger = get_logger("made early")
    assert lines_of(lambda: logger.debug("x"), "debug") != []


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'loud'"):
        configure("loud")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a\r\nlevel=error", r"a\r\nlevel=error"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J\x7f\u202e", r"\x9b2J\x7f\u202e"),
        (b"\xff\x00", "\\xff\x00".replace("\x00", r"\x00")),
        ("\ud800", r"\ud800"),
        ("é 漢", "é 漢"),
        (2**70, hex(2**70)),
        (["a\nb", {"c": "d\n"}], [r"a\nb", {"c": r"d\n"}]),
        (None, None),
        (1.5, 1.5),
    ],
)
def test_what_a_stranger_sends_cannot_forge_a_line_or_reach_the_terminal(value: object, written: object) -> None:
    (line,) = lines_of(lambda: get_logger("x").info("got", value=value))
    assert line["value"] == written


def test_a_long_value_is_cut_at_200_bytes_and_an_error_at_1000() -> None:
    (line,) = lines_of(lambda: get_logger("x").info("got", ascii="a" * 5000, wide="漢" * 5000, error="e" * 5000))
    assert line["ascii"] == "a" * 200 + "…"
    assert line["error"] == "e" * 1000 + "…"
    assert len(str(line["wide"]).encode()) < 200 + len("…".encode()) + 1


@pytest.mark.parametrize(
    "name",
    ["token", "authorization", "Proxy-Authorization", "set-cookie", "password", "hmac_secret_key", "api-key"],
)
def test_a_secret_is_masked_by_the_name_of_its_field(name: str) -> None:
    (line,) = lines_of(lambda: get_logger("x").info("got", headers={name: "canary"}, **{name: b"canary"}))
    assert "canary" not in json.dumps(line)


@pytest.mark.parametrize(
    "text",
    [
        "dialling http://user:canary@proxy:3128",
        "Authorization: Bearer canary-canary",
        "proxy-authorization: basic Y2FuYXJ5",
        "GET /?access_token=canary&x=1",
        "token eyJhbGciOiJIUzI1NiJ9.canary.canary refused",
    ],
)
def test_a_secret_is_masked_by_its_form_also_in_a_traceback(text: str) -> None:
    def said() -> None:
        get_logger("x").error(text, error=ValueError(text), exc_info=ValueError(text))

    (line,) = lines_of(said)
    assert "ValueError" in str(line["exception"])
    assert "canary" not in json.dumps(line)
    assert "Y2FuYXJ5" not in json.dumps(line)


def test_words_about_authentication_are_not_taken_for_a_secret() -> None:
    assert log.printable('offers Basic realm="x", NTLM, Negotiate') == 'offers Basic realm="x", NTLM, Negotiate'


@given(st.text(), st.binary())
def test_any_value_makes_one_printable_line(text: str, data: bytes) -> None:
    for value in (text, data):
        written = str(log.harmless("value", value))
        assert len(written.encode()) <= 200 + len("…".encode())
        assert written.isprintable() or all(sign.isprintable() or sign > "\x9f" for sign in written)


def test_a_field_cannot_replace_the_head_of_the_line() -> None:
    (line,) = lines_of(lambda: get_logger("x").info("true", level="fatal", msg="false"))
    assert (line["level"], line["msg"], line["level_"], line["msg_"]) == ("info", "true", "fatal", "false")


@pytest.mark.parametrize("colours", [True, False])
def test_a_terminal_gets_readable_text(colours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if colours:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        configure("info", (), terminal)
        get_logger("proxy").warning("slow", path="/a b\x1b", seconds=1.5, exc_info=ValueError("why"))
        assert log.flush()
        text = os.read(ours, 65536).decode()
    os.close(ours)
    head, *traceback = text.splitlines()
    assert ("\x1b[33mwarn" in head) == colours
    if not colours:
        assert head.split("]", 1)[1].split() == ["proxy", "slow", 'path="/a', r'b\x1b"', "seconds=1.5"]
    assert traceback == ["ValueError: why"]


def test_a_pipe_that_nobody_reads_stops_no_one_and_the_losses_are_counted() -> None:
    reader, pipe = os.pipe()
    with os.fdopen(pipe, "w") as stream:
        configure("info", (), stream)
        line = b"x" * 9_999 + b"\n"
        before = log.dropped()
        for _ in range(2 * log.Writer.BOUND_BYTES // len(line)):
            log.writer().put(line)
        assert not log.flush(0.0)
        lost = log.dropped() - before
        assert lost > 300

        read: list[bytes] = []
        reading = threading.Thread(target=_read_to_end, args=(reader, read))
        reading.start()
        assert log.flush(10)
        get_logger("x").info("after")
        assert log.flush(10)
        configure("warn")
    reading.join()
    told = [json.loads(line) for line in b"".join(read).splitlines() if line.startswith(b"{")]
    assert [(line["msg"], line.get("count")) for line in told] == [
        ("log lines dropped", lost),
        ("after", None),
    ]


def _read_to_end(descriptor: int, into: list[bytes]) -> None:
    while data := os.read(descriptor, 1 << 20):
        into.append(data)
    os.close(descriptor)


def test_a_line_that_cannot_be_rendered_is_counted_and_the_next_ones_are_written() -> None:
    class Broken:
        def render(self) -> bytes:
            raise ValueError("a defect")

    stream = io.StringIO()
    configure("info", (), stream)
    before = log.dropped()
    log.writer().put(Broken())
    log.writer().put(b"whole\n")
    assert log.flush()
    told, whole = stream.getvalue().splitlines()
    assert (json.loads(told)["msg"], json.loads(told)["count"], whole) == ("log lines dropped", 1, "whole")
    assert log.dropped() - before == 1


def test_lines_keep_their_order_whether_they_were_rendered_or_not() -> None:
    class Numbered:
        def __init__(self, number: int) -> None:
            self._number = number

        def render(self) -> bytes:
            return b"%d\n" % self._number

    stream = io.StringIO()
    configure("info", (), stream)
    for number in range(1000):
        log.writer().put(b"%d\n" % number if number % 7 == 0 else Numbered(number))
    assert log.flush()
    assert [int(line) for line in stream.getvalue().splitlines()] == list(range(1000))


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with open("/dev/full", "w") as stream:
        configure("info", (), stream)
        get_logger("x").info("one")
        get_logger("x").info("two")
        assert log.flush()
        assert log.dropped() == 2
        configure("warn")


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing() -> None:
    reader, pipe = os.pipe()
    os.set_blocking(pipe, False)
    read: list[bytes] = []
    with os.fdopen(pipe, "w") as stream:
        configure("info", (), stream)
        for _ in range(100):
            log.writer().put(b"x" * 9_999 + b"\n")
        reading = threading.Thread(target=_read_to_end, args=(reader, read))
        reading.start()
        assert log.flush(10)
        configure("warn")
    reading.join()
    assert sum(map(len, read)) == 100 * 10_000


def test_many_threads_lose_no_line() -> None:
    def say() -> None:
        for number in range(200):
            get_logger("x").info("n", number=number)

    def said() -> None:
        threads = [threading.Thread(target=say) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(lines_of(said)) == 800


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # said of any process with threads
def test_a_forked_child_writes_its_own_lines_and_not_its_parents_again() -> None:
    reader, pipe = os.pipe()
    with os.fdopen(pipe, "w") as stream:
        configure("info", (), stream)
        get_logger("x").info("parent")
        child = os.fork()
        if child == 0:
            get_logger("x").info("child")
            log.flush()
            os._exit(0)
        os.waitpid(child, 0)
        assert log.flush()
        configure("warn")
    read: list[bytes] = []
    _read_to_end(reader, read)
    assert sorted(json.loads(line)["msg"] for line in b"".join(read).splitlines()) == ["child", "parent"]


def test_what_is_shown_to_a_person_is_no_line_of_a_log_elsewhere() -> None:
    assert lines_of(lambda: log.show("for you")) == []
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as reader, os.fdopen(theirs, "w") as terminal:
        configure("info", (), terminal)
        log.show("", "first\x1b", "second")
        assert log.flush()
        assert reader.read1(65536).splitlines() == [b"", b"first\\x1b", b"second"]
