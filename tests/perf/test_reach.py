"""Carriers beside WebSocket: who stands behind each side, what a cutter is asked, and a few cuts of a real tunnel."""

import pytest

from perf.errors import LabError, Unsupported
from perf.probes.machine import facts
from perf.reach.cuts import FailedRow, StandstillRow, cuts_found, longest_ms
from perf.reach.rows import CarriedRow, reach_rows
from perf.reach.sides import CARRIERS, carrier_of, reach_sides, with_carriers
from perf.record import Goal, Plan, Record, Side, Subject
from perf.rounds import measure_rows
from perf.rows import Measurable
from perf.statistics.histogram import encoded, histogram_of
from perf.topologies.shape import Middlebox, Shape
from tests.programs import TRIODUCT, needs


async def measured(*rows: Measurable) -> list[tuple[Side, Side]]:
    sides = reach_sides(str(TRIODUCT))
    record = Record([Subject(side.name) for side in sides], Plan(1, 1.0, 0.1), facts(), "")
    await measure_rows(record, rows, sides, tell=lambda _: None)
    return [(row.sides[0], row.sides[1]) for row in record.rows]


@needs("nginx")
async def test_a_carrier_goes_its_way_through_nginx_and_websocket_beside_it() -> None:
    rows = {row.name: row for row in reach_rows(str(TRIODUCT), "poll-nginx-one")}
    ((poll, websocket),) = await measured(rows["poll-nginx-one"])
    assert (poll.failure, websocket.failure) == ("", "")
    assert "--connect.carriers poll" in poll.commands["agent"]
    assert "--connect.carriers websocket" in websocket.commands["agent"]
    assert all("nginx" in side.commands["middlebox"] for side in (poll, websocket))
    assert all(value > 0 for side in (poll, websocket) for value in side.samples[0].figures.values())
    assert "middlebox" in poll.samples[0].legs


async def test_cuts_are_made_and_counted_and_each_is_a_standstill() -> None:
    sides = with_carriers(str(TRIODUCT))
    still = StandstillRow(name="s", title="", carrier="stream", sides=sides, cuts=3, every_seconds=0.3)
    failed = FailedRow(name="f", title="", carrier="websocket", sides=sides, cuts=3, every_seconds=0.3)
    (stream, websocket), (by_websocket, unsupported) = await measured(still, failed)
    for side in (stream, websocket):
        (sample,) = side.samples
        assert 0 < sample.figures["stands still ms"] <= sample.figures["longest ms"]
    (sample,) = by_websocket.samples
    assert sample.figures["cuts"] == 3
    assert sample.figures["failed"] == sum(sample.outcomes[0].errors.values())
    assert unsupported.unsupported == "it is about websocket itself"


def test_only_cuts_that_met_a_connection_count() -> None:
    assert cuts_found("relaying from 1 to 2\ncut 2\ncut 0\ncut 1\n3 connections, 3 of them cut\n") == 2


def test_the_longest_come_first() -> None:
    latency = encoded(histogram_of({100: 50, 7000: 2, 9000: 1}))
    assert longest_ms(latency, 2) == pytest.approx([9, 7], rel=0.01)
    assert longest_ms(latency, 4) == pytest.approx([9, 7, 7, 0.1], rel=0.01)


def test_each_row_is_about_one_carrier_and_promises_what_was_promised_of_it() -> None:
    rows = reach_rows(str(TRIODUCT))
    goals = {(row.name, figure.name): figure.goal for row in rows for figure in row.figures if figure.goal is not None}
    assert goals["stream-straight-down", "MB/s down"] == Goal(0.8)
    assert goals["stream-nginx-streaming-crowd", "requests/s"] == Goal(0.8)
    assert goals["poll-nginx-up", "MB/s up"] == Goal(50, absolute=True)
    assert goals["poll-nginx-one", "p50 ms"] == Goal(10, absolute=True)
    for carrier in CARRIERS:
        assert goals[f"{carrier}-standstill", "stands still ms"] == Goal(150, absolute=True)
        assert goals[f"{carrier}-cuts", "failed"] == Goal(0, absolute=True)
    behind_nginx = [row for row in rows if isinstance(row, CarriedRow) and row.name.startswith("poll-nginx")]
    assert {row.way[1:] for row in behind_nginx} == {(Middlebox.NGINX, Middlebox.NGINX_UPGRADE)}


def test_rows_are_chosen_by_how_they_start() -> None:
    assert [row.name for row in reach_rows(str(TRIODUCT), "websocket,poll-cuts")] == [
        "websocket-standstill",
        "websocket-cuts",
        "poll-cuts",
    ]
    with pytest.raises(LabError, match="no row starts with quic: there are stream-straight-crowd, "):
        reach_rows(str(TRIODUCT), "quic")


def test_a_program_of_one_carrier_has_no_rows() -> None:
    for program in ("piko", "frp"):
        with pytest.raises(LabError, match=f"{program} has one carrier"):
            reach_rows(program)


def test_the_second_side_is_always_websocket() -> None:
    carrier, websocket = reach_sides(str(TRIODUCT))
    assert (carrier_of("poll", carrier), carrier_of("poll", websocket)) == ("poll", "websocket")
    with pytest.raises(Unsupported, match="websocket itself"):
        carrier_of("websocket", websocket)


def test_a_middlebox_is_part_of_a_shapes_name() -> None:
    assert Shape(middlebox=Middlebox.NGINX, round_trip_seconds=0.1).name == "tunnel+nginx+100ms"
    assert Shape().name == "tunnel"
