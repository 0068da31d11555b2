"""Every load against a service of ours: it finishes, counts, and says what went wrong."""

import math
import os
import signal
import sys
import time
from functools import partial

import msgspec
import pytest
import trio

from perf.errors import LoadFailed
from perf.loads.bulk import Download, Upload
from perf.loads.churn import Churn
from perf.loads.closed import Closed
from perf.loads.drive import drive
from perf.loads.fresh import Fresh
from perf.loads.load import Load, part
from perf.loads.open import Open
from perf.loads.outcome import Outcome, Watch, together
from perf.loads.raw import PingPong, RawDownload, RawUpload
from perf.loads.target import Target
from perf.loads.victim import Victim
from perf.loads.websocket import Echo
from perf.topologies.build import topology
from perf.topologies.processes import free_port, open_ground
from perf.topologies.shape import Route, Service, Shape

OWN = Shape(route=Route.DIRECT, service=Service.OWN)
RAW = Shape(route=Route.DIRECT, service=Service.RAW)


def brief(load: Load) -> Load:
    return msgspec.structs.replace(load, seconds=0.2, warmup_seconds=0.05)


async def applied(load: Load, shape: Shape) -> Outcome:
    async with topology(shape, None) as running:
        return await drive(load, running.target)


@pytest.mark.parametrize(
    "load",
    [
        brief(Closed(connections=4)),
        brief(Closed(connections=4, body_bytes=10_000)),
        brief(Closed(connections=5, processes=2)),
        brief(Closed(connections=4, varied=True)),
        brief(Open(rate=200, connections=4)),
        brief(Open(rate=200, connections=4, arrivals="poisson", processes=2)),
        brief(Churn(connections=4)),
        brief(Fresh()),
        brief(Echo(connections=4)),
        brief(Echo(connections=2, message_bytes=70_000)),
    ],
    ids=repr,
)
async def test_a_load_of_small_answers_counts_them_without_errors(load: Load) -> None:
    outcome = await applied(load, OWN)
    assert outcome.errors == {}
    assert outcome.answers > 10
    assert outcome.bytes_down >= outcome.answers * 127
    found = outcome.percentiles()
    assert found is not None
    assert found.count == outcome.answers == sum(outcome.timeline)


@pytest.mark.parametrize(
    "load", [brief(Download(path="/15mb")), Download(path="/15mb", once=True, seconds=20)], ids=repr
)
async def test_a_download_counts_the_bytes_that_came(load: Load) -> None:
    outcome = await applied(load, OWN)
    assert outcome.errors == {}
    assert outcome.bytes_down >= 15_000_000
    assert outcome.doubts() == []


@pytest.mark.parametrize(("load", "shape"), [(brief(Upload(body_bytes=1 << 20)), OWN), (brief(RawUpload()), RAW)])
async def test_an_upload_counts_what_was_acknowledged(load: Load, shape: Shape) -> None:
    outcome = await applied(load, shape)
    assert outcome.errors == {}
    assert outcome.bytes_up >= 1 << 20
    assert outcome.bytes_up % (1 << 20) == 0


@pytest.mark.parametrize("load", [brief(RawDownload()), brief(PingPong())], ids=repr)
async def test_raw_loads_run_on_the_raw_service(load: Load) -> None:
    outcome = await applied(load, RAW)
    assert outcome.errors == {}
    assert outcome.bytes_down > 1000


async def test_a_proxy_on_the_way_is_a_leg_of_its_own() -> None:
    shape = Shape(route=Route.PROXY, service=Service.OWN, proxies=("pproxy",))
    async with topology(shape, None) as running:
        assert set(running.pids) == {"service", "proxy"}
        outcome = await drive(brief(Fresh()), running.target)
    assert outcome.errors == {}
    assert {"tcp", "proxy", "first byte", "body"} == set(outcome.legs)


@pytest.mark.parametrize("load", [Closed(), Open(), Churn(), Fresh(), Echo(), Download(), PingPong()], ids=repr)
async def test_a_target_that_is_down_is_one_sentence(load: Load) -> None:
    with pytest.raises(LoadFailed, match="cannot connect to http://127"):
        await drive(load, Target("127.0.0.1", free_port()))


async def test_a_target_that_dies_in_the_middle_leaves_errors_by_kind_and_what_came_before() -> None:
    async with topology(OWN, None) as running:
        stop = running.pids["service"]

        def kill() -> None:
            os.kill(stop, signal.SIGKILL)

        outcome = await drive(Closed(connections=2, seconds=0.5, warmup_seconds=0.1), running.target, begun=kill)
    assert outcome.errors.get("cannot connect")
    assert any(doubt.startswith("errors: ") for doubt in outcome.doubts())


async def test_answers_that_are_errors_are_not_counted_as_answers() -> None:
    script = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        self.send_response(503); self.send_header('Content-Length', '0'); self.end_headers()\n"
        "    def log_message(self, *_): pass\n"
        "h.ThreadingHTTPServer(('127.0.0.1', {port}), H).serve_forever()\n"
    )
    port = free_port()
    async with open_ground() as ground:
        await (await ground.start("service", [sys.executable, "-c", script.format(port=port)])).answers_at(port)
        outcome = await drive(brief(Closed(connections=1)), Target("127.0.0.1", port))
    assert outcome.answers == 0
    assert set(outcome.errors) == {"status 503"}


async def test_a_planted_delay_is_found_in_the_percentiles_where_it_belongs() -> None:
    shape = Shape(route=Route.DIRECT, service=Service.OWN, service_options=("--slow", "40ms@10%"))
    outcome = await applied(Open(rate=400, connections=64, seconds=0.5, warmup_seconds=0.05), shape)
    found = outcome.percentiles()
    assert found is not None
    assert found.p99 >= 40
    assert found.p50 < 40


async def test_a_stall_is_paid_by_everybody_in_an_open_loop_and_hidden_by_a_closed_one() -> None:
    shape = Shape(route=Route.DIRECT, service=Service.OWN, service_options=("--stall", "400ms"))
    opened = await applied(Open(rate=500, connections=64, seconds=1.4, warmup_seconds=0), shape)
    closed = await applied(Closed(connections=4, seconds=1.4, warmup_seconds=0), shape)
    open_found, closed_found = opened.percentiles(), closed.percentiles()
    assert open_found is not None
    assert closed_found is not None
    assert open_found.p90 > 50
    assert closed_found.maximum > 350
    assert closed_found.p90 < 50


def test_connections_are_dealt_out_to_processes_without_a_rest() -> None:
    assert [part(10, index, 4) for index in range(4)] == [3, 3, 2, 2]
    assert sum(Open(rate=900, processes=3).share(index).rate for index in range(3)) == pytest.approx(900)


def test_what_several_processes_did_is_added_and_their_histograms_are_merged() -> None:
    def outcome(latency_us: int) -> Outcome:
        watch = Watch(lambda _: None, 0.0)
        watch.begin()
        watch.answered(0.0, latency_us / 1e6, 10)
        return watch.end()

    both = together([outcome(1000), outcome(3000)])
    found = both.percentiles()
    assert both.answers == 2
    assert both.bytes_down == 20
    assert found is not None
    assert math.isclose(found.maximum, 3, rel_tol=0.01)


async def test_what_is_answered_late_is_an_error_only_to_who_does_not_wait_for_it() -> None:
    shape = Shape(route=Route.DIRECT, service=Service.OWN, service_options=("--slow", "300ms@100%"))
    hasty = Victim(rate=100, connections=64, seconds=0.5, warmup_seconds=0)
    patient = msgspec.structs.replace(hasty, patience_seconds=20)
    assert set((await applied(hasty, shape)).errors) == {"unanswered at the end"}
    outcome = await applied(patient, shape)
    assert outcome.errors == {}
    found = outcome.percentiles()
    assert found is not None
    assert found.p50 >= 300
    assert outcome.answers > 30


async def test_a_victim_whose_connections_are_closed_while_they_are_idle_asks_again_on_new_ones() -> None:
    async def answer_once(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await stream.receive_some()  # the next one gets no answer

    watch = Watch(lambda _: None, time.monotonic())
    victim = Victim(rate=50, connections=4, seconds=0.5, warmup_seconds=0, patience_seconds=5)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer_once, 0, host="127.0.0.1"))
        _, port = listener.socket.getsockname()
        outcome = await victim._generate(Target("127.0.0.1", port), watch)
        nursery.cancel_scope.cancel()
    assert outcome.errors == {}
    assert outcome.answers >= 20
    assert outcome.reconnects >= outcome.answers - 5
