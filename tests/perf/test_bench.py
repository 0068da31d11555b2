"""Names of topologies and loads, the promised rows, the command."""

import contextlib
import errno
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import psutil
import pytest

from perf import cli
from perf.bench import LOADS, Options, contender_named, contenders_at, load_row, mix_row
from perf.errors import LabError
from perf.goals import promised_rows
from perf.probes.machine import facts
from perf.record import (
    Better,
    Figure,
    Plan,
    Record,
    Row,
    Sample,
    Side,
    Subject,
    against_first,
    load_record,
)
from perf.topologies.shape import Route, Service, Shape


def command(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "perf", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)


def help_of(one: click.Command) -> str:
    return one.get_help(click.Context(one))


def test_a_topology_is_a_route_and_what_is_added_to_it() -> None:
    found = contender_named("tunnel+squid+pproxy:socks5+wss", proxy="pproxy", program="trioduct")
    assert (found.route, found.proxies, found.secure) == (Route.TUNNEL, ("squid", "pproxy:socks5"), True)
    assert contender_named("proxy", proxy="squid", program="trioduct").proxies == ("squid",)
    assert contender_named("proxy+dante", proxy="squid", program="trioduct").proxies == ("dante",)
    assert contender_named("tunnel+proxy", proxy="squid", program="trioduct").proxies == ("squid",)
    assert contender_named("direct", proxy="squid", program="trioduct").proxies == ()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tunel", "no route is called tunel: there are direct, proxy, tunnel, forward"),
        ("tunnel+squit", "no proxy program is called squit"),
        ("tunnel+squid:socks5", "squid does not speak socks5 here"),
        ("direct+wss", "wss is a matter of node and agent"),
    ],
)
def test_a_wrong_topology_is_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        contender_named(name, proxy="pproxy", program="trioduct")


def test_every_load_has_a_row_and_an_unknown_one_is_a_sentence() -> None:
    assert [load_row(name, Options()).name for name in LOADS] == list(LOADS)
    with pytest.raises(LabError, match="no load is called opne"):
        load_row("opne", Options())


def test_raw_loads_go_through_a_forward_where_there_is_a_tunnel() -> None:
    tunnel = contender_named("tunnel", proxy="pproxy", program="trioduct")
    assert tunnel.shape(Shape(service=Service.RAW)).route == Route.FORWARD
    assert tunnel.shape(Shape(service=Service.WEB)).route == Route.TUNNEL


def test_a_target_is_measured_straight_and_through_its_proxies() -> None:
    straight, via = contenders_at("https://service.example/path?q=1", ("http://127.0.0.1:3128",))
    assert straight.target is not None
    assert (straight.target.host, straight.target.port, straight.target.tls) == ("service.example", 443, True)
    assert straight.target.request().startswith(b"GET /path?q=1 HTTP/1.1\r\nHost: service.example\r\n")
    assert via.target is not None
    assert via.target.via == ("http://127.0.0.1:3128",)


@pytest.mark.parametrize("url", ["service.example", "ftp://service.example/", "http://:80/", "http://a:99999/"])
def test_what_is_no_url_is_a_sentence(url: str) -> None:
    with pytest.raises(LabError):
        contenders_at(url, ())


def test_the_promised_rows_have_names_of_their_own_and_figures() -> None:
    rows = promised_rows()
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.figures for row in rows)


@pytest.mark.parametrize("name", [name for name, one in cli.command.commands.items() if "--quick" in help_of(one)])
def test_a_first_look_is_shorter_than_what_a_command_does_by_itself(name: str) -> None:
    given = cli.command.commands[name].make_context(name, []).params
    look = re.search(r"--quick +(\d+) rounds? of ([\d.]+) s", help_of(cli.command.commands[name]))
    assert look is not None
    rounds, seconds, warmup = (given[part] for part in ("rounds", "seconds", "warmup"))
    assert int(look[1]) * (float(look[2]) + warmup) < rounds * (seconds + warmup)


def test_a_run_prints_a_table_and_leaves_a_folder(tmp_path: Path) -> None:
    answer = command(
        "run", "-t", "direct,proxy", "-l", "closed", "--rounds", "1", "--seconds", "0.2", "--output", str(tmp_path)
    )
    assert answer.returncode == 0, answer.stderr
    assert "closed" in answer.stdout
    record = load_record(tmp_path)
    assert record.complete
    assert [subject.name for subject in record.subjects] == ["direct", "proxy"]
    assert all(side.samples[0].figures["requests/s"] > 0 for side in record.rows[0].sides)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "-t", "nowhere"), "no route is called nowhere"),
        (("run", "-l", "nothing"), "no load is called nothing"),
        (("run", "--target", "http://127.0.0.1:1/", "-l", "closed"), "cannot connect to http://127.0.0.1:1/"),
        (("compare", "--only", "nothing"), "no row is called nothing"),
        (("compare", "/bin/not-there", "--only", "echo"), "not-there is not installed"),
        (("compare", "gopher"), "no tunnel program is called gopher"),
        (("plot", "/not-there"), "no result folder at /not-there"),
        (("run", "--output", "/proc/nothing"), "no results can be written to /proc/nothing"),
        (("micro", "--only", "nothing"), "no benchmark starts with nothing"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_exit_code_2(words: tuple[str, ...], sentence: str) -> None:
    answer = command(*words)
    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_strace_that_is_missing_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    answer = command("run", "-t", "direct", "--strace")
    assert (answer.returncode, answer.stderr) == (2, "the program strace is not installed\n")


def test_a_target_that_never_answers_is_a_sentence_and_no_figure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        answer = command("run", "--target", url, "-l", "closed", "--seconds", "0.2", "--rounds", "1")
    assert answer.returncode == 2
    assert "nothing was finished in 0.2 s" in answer.stderr


def test_a_load_of_errors_alone_is_told_by_their_kind(tmp_path: Path) -> None:
    with serving(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as port:
        words = ["-l", "closed", "--seconds", "0.2", "--rounds", "1", "--output", str(tmp_path)]
        answer = command("run", "--target", f"http://127.0.0.1:{port}/", *words)
    assert answer.returncode == 2
    assert "errors: status 503" in answer.stderr


def test_a_password_on_the_command_line_is_not_kept_in_the_results(tmp_path: Path) -> None:
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        words = ["--via", f"http://somebody:secret@127.0.0.1:{port}", "-l", "open", "--seconds", "0.2", "--rounds", "1"]
        answer = command("run", "--target", f"http://127.0.0.1:{port}/", *words, "--output", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert "secret" not in answer.stdout + answer.stderr + (tmp_path / "record.json").read_text()
    assert f"http://***@127.0.0.1:{port}" in load_record(tmp_path).command


@contextlib.contextmanager
def serving(answer: bytes) -> Iterator[int]:
    """A port on which every request is answered by the same bytes."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while self.request.recv(1 << 16):
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_another_machine_is_not_put_under_load_without_a_yes() -> None:
    answer = command("run", "--target", "http://192.0.2.1/")
    assert answer.returncode == 130
    assert "Put 192.0.2.1 under load?" in answer.stderr


def test_micro_measures_a_codec_and_two_folders_of_it_compare(tmp_path: Path) -> None:
    for name in ("before", "after"):
        answer = command(
            "micro", "--only", "mux", "--rounds", "3", "--seconds", "0.01", "--output", str(tmp_path / name)
        )
        assert answer.returncode == 0, answer.stderr
    answer = command("compare", str(tmp_path / "before"), str(tmp_path / "after"))
    assert answer.returncode == 0, answer.stderr
    assert "mux-open-end" in answer.stdout


def test_a_mix_of_loads_runs_at_once_and_names_each(tmp_path: Path) -> None:
    mix = tmp_path / "mix.yaml"
    mix.write_text("- {load: open, rate: 100}\n- {load: open, rate: 50}\n- {load: download, path: /15mb}\n")
    row = mix_row(mix)
    rates = [figure.name for figure in row.figures if figure.better == Better.HIGHER]
    assert rates == ["open-1: requests/s", "open-2: requests/s", "download: MB/s down"]
    words = ["-t", "direct", "--mix", str(mix), "--rounds", "1", "--seconds", "0.2", "--output", str(tmp_path / "out")]
    answer = command("run", *words)
    assert answer.returncode == 0, answer.stderr
    figures = load_record(tmp_path / "out").rows[0].sides[0].samples[0].figures
    assert figures["open-1: requests/s"] > figures["open-2: requests/s"] > 0
    assert figures["download: MB/s down"] > 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- {load: opn}", "Invalid value 'opn'"),
        ("- {load: open, rte: 5}", "unknown field `rte`"),
        ("- {load: open, rate: fast}", "Expected `float`"),
        ("[]", "names no load"),
        ("a: b: c", "mapping values are not allowed"),
    ],
)
def test_a_wrong_mix_is_a_sentence_with_its_place(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(text)
    with pytest.raises(LabError, match=sentence):
        mix_row(tmp_path / "mix.yaml")


def test_a_baseline_of_ratios_is_the_second_side_as_a_multiple_of_the_first() -> None:
    figures = [Figure("requests/s"), Figure("p99 ms", Better.LOWER), Figure("CPU s/million", Better.LOWER)]
    direct = Side([Sample({"requests/s": 100.0, "p99 ms": 1.0}), Sample({"requests/s": 200.0, "p99 ms": 2.0})])
    tunnel = Side([Sample({"requests/s": 50.0, "p99 ms": 3.0, "CPU s/million": 9.0}), Sample({"requests/s": 50.0})])
    rows = [Row("closed", "closed loop", figures, [direct, tunnel])]
    record = Record([Subject("direct"), Subject("tunnel")], Plan(2), facts(), "", rows)
    (row,) = against_first(record).rows
    assert [sample.figures for sample in row.sides[0].samples] == [
        {"requests/s": 0.5, "p99 ms": 3.0},
        {"requests/s": 0.25},
    ]


def test_ctrl_c_keeps_what_was_measured_and_leaves_nothing_running(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "perf", "run", "-t", "direct", "-l", "closed,open", "--rounds", "50"]
    argv += ["--seconds", "0.2", "--output", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as lab:
        assert lab.stderr is not None
        for line in lab.stderr:
            if "round 3 of 50" in line:
                break
        children = psutil.Process(lab.pid).children(recursive=True)
        ports = [c.laddr.port for child in children for c in child.net_connections("tcp") if c.status == "LISTEN"]
        assert ports
        lab.send_signal(signal.SIGINT)
        said = lab.communicate(timeout=40)[0]
    assert lab.returncode == 130
    assert "INTERRUPTED" in said
    assert len(load_record(tmp_path).rows[0].sides[0].samples) >= 2
    assert not [child for child in children if child.is_running()]
    for port in ports:
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
