"""Other tunnels beside ours: what each can do, what it says when it cannot, and the pages that hold the comparison."""

import contextlib
import os
import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import trio

from perf.bench import Options, load_row
from perf.contender import contenders_of, short_names
from perf.errors import MissingProgram, Unsupported
from perf.goals import peer_rows
from perf.loads.closed import Closed, varied_requests
from perf.loads.outcome import Watch
from perf.loads.target import Target
from perf.loads.wrk import Wrk
from perf.probes.machine import facts
from perf.record import Better, Figure, Plan, Record, Row, Sample, Side, Subject, load_record
from perf.reports.markdown import drifted, markdown_table, write_into
from perf.rows import LoadRow
from perf.topologies.build import topology
from perf.topologies.processes import find_program, open_ground
from perf.topologies.shape import Route, Service, Shape
from perf.topologies.tunnels import PEERS, tunnel_named

PROJECT = Path(__file__).parents[2]
PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))
OTHERS = [name for name in PEERS if name != "trioduct"]
TUNNEL, TCP = Shape(), Shape(route=Route.FORWARD, service=Service.RAW)


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "perf", *words]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=50, check=False, env={**os.environ, **environment}
    )


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "shape",
    [
        TUNNEL,
        TCP,
        Shape(secure=True),
        Shape(proxies=("pproxy",)),
        Shape(proxies=("pproxy:socks5",), secure=True),
        Shape(round_trip_seconds=0.02),
    ],
    ids=lambda shape: shape.name,
)
@pytest.mark.parametrize("name", OTHERS)
async def test_an_installed_peer_lets_an_answer_through(name: str, shape: Shape) -> None:
    tunnel = tunnel_named(name)
    try:
        assert tunnel.version()
    except MissingProgram as missing:
        pytest.skip(str(missing))
    if name == "haproxy" and shape.proxies:
        pytest.skip("haproxy is not put behind a forward proxy")
    async with topology(shape, tunnel) as running:  # ready when an answer came through
        assert {"node", "agent"} <= set(running.pids)


@pytest.mark.parametrize(
    ("name", "shape", "via", "sentence"),
    [
        ("frp", Shape(access_log=True), (), "frp has no access log"),
        ("chisel", Shape(listeners=9), (), "chisel is not asked here which of many listeners are there"),
        ("piko", TUNNEL, ("https://a:1",), "piko speaks http and socks5 to a forward proxy, not https"),
        ("rathole", TUNNEL, ("http://a:1", "http://b:2"), "rathole knows one forward proxy, not a chain of 2"),
        ("frp:tcp", TUNNEL, ("socks4://a:1",), "frp speaks http and socks5 to a forward proxy, not socks4"),
        ("haproxy", TUNNEL, ("http://a:1",), "haproxy is not put behind a forward proxy here"),
    ],
)
async def test_what_a_peer_cannot_do_is_a_sentence_before_anything_starts(
    name: str, shape: Shape, via: tuple[str, ...], sentence: str
) -> None:
    async with open_ground() as ground:
        with pytest.raises(Unsupported, match=sentence):
            await tunnel_named(name).start(ground, shape, 1, via)
        assert not ground.started


def test_a_blank_is_no_failure_and_missing_programs_are_left_out(tmp_path: Path) -> None:
    gone = dict.fromkeys(("PIKO", "CHISEL", "RATHOLE", "HAPROXY"), "/not-there")
    frp = executable(tmp_path / "frp", "#!/bin/sh\necho 0.0\n")  # enough for what it never starts
    words = ["peers", "--only", "access-log", "--rounds", "1", "--seconds", "0.2", "--warmup", "0"]
    answer = command(*words, "--output", str(tmp_path / "results"), FRPS=frp, FRPC=frp, **gone)
    assert answer.returncode == 0, answer.stderr
    missing = "without chisel: the program chisel is not installed; name it in the environment variable CHISEL"
    assert missing in answer.stderr
    record = load_record(tmp_path / "results")
    assert [subject.version for subject in record.subjects][1:] == ["frp 0.0", "frp 0.0"]
    ours, by_name, by_port = record.rows[0].sides
    assert ours.samples[0].figures["requests/s"] > 0
    assert (by_name.unsupported, by_name.failure) == ("frp has no access log", "")
    assert by_port.unsupported == "frp:tcp has no access log"


@pytest.mark.parametrize(
    ("words", "script", "sentence"),
    [
        (("peers", "rathole"), None, "the program rathole is not installed; name it in the environment variable"),
        (("compare", "trioduct", "chisel"), "no program\n", "Exec format error"),
        (
            ("peers", "chisel", "--only", "keepalive-1"),
            "#!/bin/sh\nexit 0\n",
            "node ended with code 0: it said nothing",
        ),
        (
            ("peers", "rathole", "--only", "keepalive-1,echo"),
            "#!/bin/sh\necho no such key; exit 3\n",
            "node ended with code 3: no such key",
        ),
        (("peers", "haproxy", "gopher"), "", "no tunnel program is called gopher: it is trioduct, piko, frp"),
        (("peers", "--only", "nothing"), "", "no row is called nothing"),
        (("table", "/not-there"), "", "no result folder at /not-there"),
    ],
)
def test_a_missing_or_wrong_program_is_a_sentence(
    words: tuple[str, ...], script: str | None, sentence: str, tmp_path: Path
) -> None:
    program = "/not-there" if script is None else executable(tmp_path / "program", script)
    answer = command(*words, CHISEL=program, RATHOLE=program)
    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_compare_takes_two_and_says_what_takes_more() -> None:
    answer = command("compare", "trioduct", "piko", "frp")
    assert answer.returncode == 2
    assert "A and B, got 3 names: `peers` takes more" in answer.stderr


@pytest.mark.parametrize(
    ("programs", "names"),
    [
        (("trioduct", "/opt/old/.venv/bin/piko"), ["trioduct", "piko"]),
        (("trioduct", "/opt/old/.venv/bin/trioduct"), ["trioduct", "trioduct (old)"]),
        (("/opt/old/.venv/bin/trioduct", "/opt/new/bin/trioduct"), ["trioduct (old)", "trioduct (new)"]),
        (("/a/x/bin/trioduct", "/b/x/bin/trioduct"), ["/a/x/bin/trioduct", "/b/x/bin/trioduct"]),
        (("/opt/x/trioduct", "/opt/x/trioduct"), ["trioduct (x)", "trioduct (x)"]),
        (("trioduct", "trioduct"), ["trioduct", "trioduct"]),
        (("/opt/old/trioduct", "git:feature/trioduct"), ["trioduct", "git:feature/trioduct"]),
    ],
)
def test_a_program_is_called_by_its_name_and_by_its_folder_only_beside_one_of_the_same_name(
    programs: tuple[str, ...], names: list[str]
) -> None:
    assert short_names(programs) == names


def test_a_program_given_by_its_path_is_found_there_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "old" / "bin" / "trioduct"
    path.parent.mkdir(parents=True)
    program = executable(path, "#!/bin/sh\necho 0.0\n")
    (mine, theirs) = contenders_of(("trioduct", program))
    assert (mine.name, theirs.name, theirs.version()) == ("trioduct", "trioduct (old)", "0.0")


def test_the_rows_of_all_tunnels_have_no_goals() -> None:
    rows = peer_rows()
    assert len({row.name for row in rows}) == len(rows)
    assert not [figure for row in rows for figure in row.figures if figure.goal]


# Heads that differ


def test_no_two_heads_of_a_varied_load_are_alike() -> None:
    requests = list(islice(varied_requests(Target("127.0.0.1", 1, headers=(("x-piko-endpoint", "lab"),))), 100))
    for part in (b"GET /varied/", b"Cookie: ", b"traceparent: "):
        values = {request.partition(part)[2].partition(b"\r\n")[0] for request in requests}
        assert len(values) == 100
    assert all(b"\r\nx-piko-endpoint: lab\r\n" in request for request in requests)
    assert all(request.count(b"\r\n") - 2 >= 12 for request in requests)


def test_a_crowd_at_somebodys_own_service_asks_for_the_path_that_was_given() -> None:
    row = load_row("crowd", Options(), abroad=True)
    assert isinstance(row, LoadRow)
    assert isinstance(row.load, Closed)
    for path, begins in (("/health", b"GET /health?page="), ("/a?b=c", b"GET /a?b=c&page=")):
        requests = list(islice(varied_requests(Target("127.0.0.1", 1, path), row.load.folder), 100))
        assert len(set(requests)) == 100
        assert all(request.startswith(begins) for request in requests)


async def test_nor_are_those_of_wrk() -> None:
    try:
        find_program("wrk")
    except MissingProgram as missing:
        pytest.skip(str(missing))
    heads: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        # wrk may go in the middle of an answer, and then resets the connection.
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                while head := await stream.receive_some():
                    heads.append(bytes(head))
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        target = Target("127.0.0.1", listener.socket.getsockname()[1], headers=(("x-piko-endpoint", "lab"),))
        load = Wrk(connections=1, varied=True, seconds=1, warmup_seconds=0)
        outcome = await trio.to_thread.run_sync(load.generate, target, Watch(lambda _: None, 0.0))
        nursery.cancel_scope.cancel()
    assert outcome.answers > 10
    assert not outcome.errors
    assert len(set(heads)) == len(heads)
    assert all(b"x-piko-endpoint: lab\r\n" in head and head.startswith(b"GET /varied/") for head in heads)


@pytest.mark.parametrize("service", [Service.WEB, Service.OWN])
async def test_nor_are_the_answers_of_the_service(service: Service) -> None:
    async with topology(Shape(route=Route.DIRECT, service=service), None) as running:
        heads = set()
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", running.target.port) as stream:
                await stream.send_all(running.target.request("GET", "/varied/1?page=1", ("Connection", "close")))
                head, _, body = b"".join([bytes(chunk) async for chunk in stream]).partition(b"\r\n\r\n")
            assert body == b"x" * 128
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            heads.add(head)
        assert len(heads) == 3


# Tables in pages


@pytest.fixture
def record() -> Record:
    rate, p99 = Figure("requests/s"), Figure("p99 ms", Better.LOWER)

    def side(rates: list[float], *p99s: float) -> Side:
        samples = [Sample({rate.name: one, p99.name: two}) for one, two in zip(rates, p99s, strict=True)]
        return Side(samples, {"node": "/somewhere/bin/program"})

    sides = [
        side([100.0, 110.0, 105.0, 101.0], 1.0, 1.0, 1.0, 1.0),
        side([300.0, 330.0, 315.0, 303.0], 0.5, 3.0, 1.0, 1.0),
        Side(unsupported="haproxy has no access log"),
    ]
    rows = [Row("closed", "closed loop", [rate, p99], sides)]
    subjects = [Subject("trioduct", "trioduct 1"), Subject("rathole"), Subject("haproxy")]
    said = "/somewhere/perf/__main__.py peers --output /somewhere/results --rounds 4"
    return Record(subjects, Plan(4, 1.0), facts(), said, rows, complete=True)


def test_a_table_says_who_is_surely_better_who_cannot_be_told_and_who_cannot(record: Record) -> None:
    text = markdown_table(record)
    assert "| closed loop | requests/s | 103 ±5% | **309 ±5%<br>3.00×** | — |" in text
    assert "|  | p99 ms | 1 ±0% | 1 ±125%<br>~1.00× | — |" in text
    assert "- closed: haproxy has no access log" in text


def test_a_table_of_two_says_ratio_and_goal(record: Record) -> None:
    del record.subjects[2], record.rows[0].sides[2]
    text = markdown_table(record)
    assert "|  |  | trioduct | rathole | ratio |  | goal |" in text
    assert "0.33×" in text
    assert "| worse |" in text


def test_a_page_keeps_its_figures_and_tells_when_it_has_drifted(record: Record, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- begin figures/here -->\nbefore\n<!-- end figures/here -->\n![](figures/here/requests.png)\n"
    )
    written = write_into(page, record)
    assert [path.name for path in written] == ["page.md", "requests.png"]
    text = page.read_text()
    assert text.startswith("Before.\n<!-- begin figures/here -->\n`trioduct-perf peers --rounds 4`, ")
    assert "\nbefore\n" not in text
    assert "/somewhere" not in (tmp_path / "figures" / "here" / "record.json").read_text()
    assert not drifted(page)
    page.write_text(text.replace("309", "310"))
    assert drifted(page)


def test_a_page_without_a_place_for_a_table_is_a_sentence(record: Record, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Nothing here\n")
    record.save(tmp_path)
    for page, sentence in (("page.md", "has no place for a table"), ("none.md", "no page at")):
        answer = command("table", str(tmp_path), "--into", str(tmp_path / page))
        assert answer.returncode == 2
        assert sentence in answer.stderr


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "<!-- begin " in page.read_text()],
    ids=lambda page: page.name,
)
def test_the_figures_of_a_page_are_those_that_were_taken(page: Path) -> None:
    assert not drifted(page), f"trioduct-perf table FIGURES --into {page.name} writes its table again"
