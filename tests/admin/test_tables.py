"""Tables, and their values as people read them; dashboard.js writes the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import msgspec
import pytest

from engine.admin.live import OF_NOW
from engine.admin.pages import STATIC
from engine.admin.reading import EndpointRow, KindRow, SessionRow, WorkerRow
from engine.admin.tables import CARDS, TABLES, Kind, shown
from tests.programs import needs

SHOWN: list[tuple[object, Kind, str]] = [
    ("shop", "text", "shop"),
    ("", "text", "–"),
    (None, "seconds", "–"),
    (0.0, "seconds", "–"),
    (0.00042, "seconds", "0.42 ms"),
    (0.0125, "seconds", "12.5 ms"),
    (0.25, "seconds", "250 ms"),
    (2.5, "seconds", "2.50 s"),
    (0.0, "rate", "0"),
    (0.25, "rate", "0.25"),
    (1234.4, "rate", "1234"),
    (0, "count", "0"),
    (12, "count", "12"),
    ({"a": 1, "b": 2}, "count", "2"),
    (None, "count", "–"),
    (True, "yes", "yes"),
    (False, "yes", "–"),
    (0, "bytes", "0 B"),
    (262144, "bytes", "256 KiB"),
    (999.6, "bytes_rate", "1000 B/s"),
    (1500, "bytes_rate", "1.50 kB/s"),
    (2.5e12, "bytes_rate", "2500 GB/s"),
    (59.9, "age", "59s"),
    (61, "age", "1m 1s"),
    (7260, "age", "2h 1m"),
    (90000, "age", "1d 1h"),
]


@pytest.mark.parametrize(("value", "kind", "text"), SHOWN)
def test_values_are_written_for_people(value: object, kind: Kind, text: str) -> None:
    assert shown(value, kind) == text


@needs("node")
def test_the_page_writes_values_alike() -> None:
    script = (STATIC / "dashboard.js").read_text()
    found = re.search(r"(const digits = .*?)function say\(", script, re.DOTALL)
    assert found is not None
    given = json.dumps([[value, kind] for value, kind, _ in SHOWN])
    program = f"{found[1]}; console.log(JSON.stringify({given}.map(([value, kind]) => shown(value, kind))))"
    node = shutil.which("node")
    assert node is not None
    done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [text for _, _, text in SHOWN]


def test_every_column_is_a_field_of_its_row_and_every_field_a_column() -> None:
    rows: dict[str, type[msgspec.Struct]] = {
        "sessions": SessionRow,
        "endpoints": EndpointRow,
        "kinds": KindRow,
        "workers": WorkerRow,
    }
    for table in TABLES:
        keys = [column.key for column in table.columns]
        assert table.sort in keys
        if table.key in rows:
            assert set(keys) | set(table.id) == set(rows[table.key].__struct_fields__)
    assert {card.key for card in CARDS} == {*OF_NOW, "p50", "p99"}
