"""The way out: what it is measured by, what its sides share, what is said where something is missing."""

import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from perf.errors import LabError, LoadFailed, MissingProgram
from perf.loads.bulk import Download, Upload
from perf.loads.closed import Closed
from perf.loads.dial import open_non_blocking
from perf.loads.drive import drive
from perf.loads.fresh import Fresh
from perf.loads.layered import LayeredSocket
from perf.loads.load import Load
from perf.loads.raw import PingPong, RawDownload, RawUpload
from perf.loads.target import Target
from perf.loads.websocket import Echo
from perf.probes.machine import facts
from perf.record import Plan, Record, Row, Sample, Side, Subject, load_record
from perf.reports.plots import save_plots
from perf.rounds import measure_rows
from perf.topologies.build import topology
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, free_port, open_ground
from perf.topologies.proxies import start_proxies
from perf.topologies.shape import Route, Service, Shape
from perf.wayout.client import Client, Ours
from perf.wayout.curl import Curl
from perf.wayout.handshakes import HandshakeRow
from perf.wayout.realm import start_realm
from perf.wayout.rows import wayout_rows, wayout_sides
from perf.wayout.shared import Shared
from perf.wayout.trips import count_trips
from perf.wayout.way import DIRECT, Handshakes, Transfer, Way
from tests.programs import needs

CLIENTS = pytest.mark.parametrize("client", [Ours(), pytest.param(Curl(), marks=needs("curl"))], ids=["ours", "curl"])


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with open_ground() as opened:
        yield opened


async def own_service(ground: Ground) -> int:
    port = free_port()
    argv = [sys.executable, "-m", "perf.topologies.services.own", "--port", str(port)]
    await (await ground.start("service", argv)).answers_at(port)
    return port


async def pproxy(ground: Ground, scheme: str) -> Way:
    (url,) = await start_proxies(ground, (f"pproxy:{scheme}",))
    authority = str(write_certificates(ground.directory).authority) if scheme == "https" else ""
    return Way(scheme=scheme, port=int(url.rpartition(":")[2]), authority=authority)


# An https proxy on a load's own way


@pytest.mark.parametrize(
    ("load", "service"),
    [
        (Fresh(), Service.OWN),
        (Closed(connections=3), Service.OWN),
        (Closed(connections=2, body_bytes=300_000), Service.OWN),
        (Echo(connections=2, message_bytes=50_000), Service.OWN),
        (Download(path="/15mb"), Service.OWN),
        (Upload(body_bytes=10_000_000), Service.OWN),
        (RawDownload(), Service.RAW),
        (RawUpload(block_bytes=1_000_000), Service.RAW),
        (PingPong(), Service.RAW),
    ],
    ids=repr,
)
async def test_every_load_passes_an_https_proxy(load: Load, service: Service) -> None:
    shape = Shape(route=Route.PROXY, service=service, proxies=("pproxy:https",))
    async with topology(shape, None) as running:
        outcome = await drive(msgspec.structs.replace(load, seconds=0.2, warmup_seconds=0.05), running.target)
    assert outcome.errors == {}
    assert outcome.answers or outcome.bytes_down or outcome.bytes_up


async def test_tls_with_the_target_goes_through_tls_with_the_proxy(ground: Ground) -> None:
    way = await pproxy(ground, "https")
    certificates = write_certificates(ground.directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain, certificates.key)
    async with trio.open_nursery() as nursery:

        async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
            await stream.send_all(await stream.receive_some())

        listeners = await nursery.start(trio.serve_ssl_over_tcp, echo, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        target = Target("127.0.0.1", port, tls=True, via=(f"https://{way.place}",))
        connection = await open_non_blocking(target)
        assert isinstance(connection, LayeredSocket)
        with connection, trio.fail_after(10):
            connection.send(b"hello")
            heard = b""
            while not heard:
                await trio.lowlevel.wait_readable(connection)
                try:
                    heard = connection.recv(5)
                except BlockingIOError:
                    continue  # it was TLS's own
            assert heard == b"hello"
        nursery.cancel_scope.cancel()


# The two clients


@CLIENTS
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_client_tells_what_each_tunnel_took(client: Client, scheme: str, ground: Ground) -> None:
    port = await own_service(ground)
    spent = await client.spend(await pproxy(ground, scheme), Handshakes(port, 5, remembered=True, unmeasured=1))
    assert len(spent.seconds) == 5
    assert all(0 < seconds < 10 for seconds in spent.seconds)


@CLIENTS
async def test_a_refused_tunnel_is_told_in_the_clients_own_words(client: Client, ground: Ground) -> None:
    with pytest.raises(LoadFailed, match=r"closed the connection|CONNECT|Proxy|Empty|proxy"):
        await client.spend(await pproxy(ground, "http"), Handshakes(1, 1, remembered=False))


@pytest.mark.parametrize("detached", [False, True], ids=["stream", "socket"])
async def test_a_body_goes_up_whole(detached: bool, ground: Ground, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(3_000_000))
    errand = Transfer(await own_service(ground), "/sink", 3_000_000, upload=str(body), detached=detached)
    spent = await Ours().spend(await pproxy(ground, "http"), errand)
    assert spent.seconds[0] > 0


@needs("curl")
async def test_curl_sends_the_same_and_may_go_straight(ground: Ground, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(3_000_000))
    errand = Transfer(await own_service(ground), "/sink", 3_000_000, upload=str(body), headers=("x-lab: yes",))
    assert (await Curl().spend(DIRECT, errand)).seconds[0] > 0


# Round trips


@CLIENTS
@pytest.mark.parametrize(("scheme", "trips"), [("http", 2), ("socks5", 3)])
async def test_round_trips_are_those_somebody_waits_for(
    client: Client, scheme: str, trips: int, ground: Ground
) -> None:
    port, way = await own_service(ground), await pproxy(ground, scheme)
    errand = Handshakes(port, 1, remembered=True)
    counted = await count_trips(way.port, lambda near: client.spend(msgspec.structs.replace(way, port=near), errand))
    assert counted == trips + 1  # the request


async def test_what_fails_while_trips_are_counted_is_raised_as_it_is() -> None:
    async def fail(port: int) -> None:
        raise LoadFailed("no")

    with pytest.raises(LoadFailed, match="no"):
        await count_trips(1, fail)


# Rows


@needs("curl", "nginx", "squid", "openssl")
async def test_a_handshake_is_measured_for_both_sides_on_one_bed() -> None:
    record = Record([Subject("ours"), Subject("curl")], Plan(1, 0.02, 0), facts(), "")
    await measure_rows(record, wayout_rows("handshake-basic"), wayout_sides(), tell=lambda _: None)
    ours, curl = record.rows[0].sides
    assert (ours.failure, curl.failure) == ("", "")
    assert ours.commands == curl.commands
    assert [side.values("first round trips") for side in (ours, curl)] == [[3], [3]]
    assert [side.values("again round trips") for side in (ours, curl)] == [[2], [2]]


async def test_a_bed_is_made_once_for_those_who_are_in_it() -> None:
    made = 0

    @asynccontextmanager
    async def make() -> AsyncIterator[int]:
        nonlocal made
        made += 1
        yield made

    shared = Shared(make)
    async with shared.joined() as first, shared.joined() as second:
        assert (first, second) == (1, 1)
    async with shared.joined() as third:
        assert third == 2


def test_rows_are_chosen_by_how_they_start() -> None:
    assert len(wayout_rows("handshake")) == 10
    assert [row.name for row in wayout_rows("tls-up,handshake-ntlm")] == ["handshake-ntlm", "tls-up", "tls-up-agent"]
    with pytest.raises(LabError, match="no row starts with handshake-kerberos: there are handshake-none, "):
        wayout_rows("handshake-kerberos")


# What is missing


async def test_a_machine_without_a_kdc_is_told_what_to_install(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingProgram, match="no KDC here"):
        await start_realm(ground)


def test_without_any_program_every_row_has_its_sentence_and_nothing_is_left(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "perf", "wayout", "--quick", "--only", "handshake-ntlm,squid-down"]
    answer = subprocess.run(
        [*argv, "--output", str(tmp_path)], env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=50
    )
    assert answer.returncode == 2
    assert "the program nginx is not installed" in answer.stderr
    assert "Traceback" not in answer.stderr


# The picture


def test_handshakes_are_drawn_also_where_one_side_has_none(tmp_path: Path) -> None:
    sample = Sample({"first µs": 900.0, "again µs": 500.0})
    figures = list(HandshakeRow("ntlm", {}).figures)
    row = Row("handshake-ntlm", "NTLM", figures, [Side([sample, sample]), Side(failure="no")])
    record = Record([Subject("ours"), Subject("curl")], Plan(2), facts(), "", [row], complete=True)
    record.save(tmp_path)
    save_plots(load_record(tmp_path), tmp_path)
    assert (tmp_path / "handshakes.png").stat().st_size > 10_000
