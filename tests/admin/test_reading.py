"""The readings of several workers as one."""

from __future__ import annotations

from engine.admin.reading import MOST_ROWS, EndpointRow, KindRow, Reading, SessionRow, WorkerRow, join


def test_what_workers_have_is_added_up_by_endpoint_and_kind() -> None:
    readings = [
        Reading(
            [SessionRow(f"{pid}.1", "shop", bytes_in=pid)],
            [EndpointRow("shop", "", 1, 2.0, served=5), EndpointRow("shop", "acme", 1)],
            [KindRow("answer", "502", 0.5, 3)],
            [WorkerRow(f"n.{pid}", pid, "ready")],
            latencies=[1, 0, pid],
            seconds=1.0,
            requests=2.0,
            session_count=2,
            endpoint_count=2,
        )
        for pid in (1, 2)
    ]
    joined = join(readings)
    assert [row.id for row in joined.sessions] == ["2.1", "1.1"]  # the busiest first
    assert [(row.endpoint, row.tenant, row.sessions, row.requests, row.served) for row in joined.endpoints] == [
        ("shop", "", 2, 4.0, 10),
        ("shop", "acme", 2, 0.0, 0),
    ]
    assert joined.kinds == [KindRow("answer", "502", 1.0, 6)]
    assert joined.latencies == [2, 0, 3]
    assert (joined.requests, joined.session_count, joined.endpoint_count, joined.seconds) == (4.0, 4, 2, 1.0)
    assert len(joined.workers) == 2


def test_a_worker_that_was_not_read_yet_adds_nothing() -> None:
    assert join([Reading(latencies=[1]), Reading()]).latencies == [1]
    assert join([]) == Reading()


def test_rows_are_bounded() -> None:
    many = [Reading([SessionRow(f"{n}.{m}", "e") for m in range(MOST_ROWS)]) for n in range(3)]
    assert len(join(many).sessions) == MOST_ROWS
