"""The codecs alone, to locate a regression: nanoseconds per operation, bytes per second.

The only room of the lab that sees inside the engine, and only what needs no socket; and the TLS of `proxy_adapters`.
One file per codec; each has `benchmarks()`.
"""

import time

from perf.micro import heads, http1, layers, mux, relay, tls, websocket
from perf.micro.benchmark import Benchmark, Run
from perf.record import Better, Figure, Record, Row, Sample, Side

CODECS = (heads, http1, websocket, mux, relay, tls, layers)
TIME = Figure("ns/operation", Better.LOWER)
BYTES = Figure("MB/s")


def all_benchmarks() -> list[Benchmark]:
    return [benchmark for codec in CODECS for benchmark in codec.benchmarks()]


def measure_benchmarks(record: Record, benchmarks: list[Benchmark]) -> None:
    """Measure into the record, round by round over all benchmarks, so that a noisy moment does not hit one alone."""
    prepared = [(benchmark, benchmark.prepare()) for benchmark in benchmarks]
    for benchmark, _ in prepared:
        figures = [TIME, BYTES] if benchmark.bytes_each else [TIME]
        record.rows.append(Row(benchmark.name, benchmark.title, figures, [Side()]))
    calls = [_calls_in(run, record.plan.seconds) for _, run in prepared]
    for _ in range(record.plan.rounds):
        for row, (benchmark, run), count in zip(record.rows, prepared, calls, strict=True):
            seconds = _time(run, count) / count
            values = {TIME.name: seconds * 1e9}
            if benchmark.bytes_each:
                values[BYTES.name] = benchmark.bytes_each / seconds / 1e6
            row.sides[0].samples.append(Sample(values))
    record.complete = True


def _calls_in(run: Run, seconds: float) -> int:
    """How many calls take about so long."""
    count = 1
    while (took := _time(run, count)) < 0.02:
        count *= 4
    return max(1, int(count * seconds / took))


def _time(run: Run, count: int) -> float:
    """Processor time, because others use this machine too."""
    begun_at = time.process_time()
    for _ in range(count):
        run()
    return time.process_time() - begun_at
