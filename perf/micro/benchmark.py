"""What a micro-benchmark is."""

from collections.abc import Callable
from typing import NamedTuple

Run = Callable[[], object]


class Benchmark(NamedTuple):
    """`prepare()` makes what is needed and returns the operation; it may be repeated without end."""

    name: str
    title: str
    prepare: Callable[[], Run]
    bytes_each: int = 0
