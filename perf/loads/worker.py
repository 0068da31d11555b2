"""A generator process: `python -m perf.loads.worker`.

It hears two lines on standard input, an `Order` as JSON and, when every generator has said `"ready"`, the
moment from which to measure. It says lines of JSON: `"ready"`, `"begin"` when its warm-up is over, `"end"`
when its load is, then the outcome; or `{"failed": sentence}`.
"""

import sys

import msgspec

from perf.errors import LabError
from perf.loads import AnyLoad
from perf.loads.load import Load
from perf.loads.outcome import Watch
from perf.loads.target import Target


class Order(msgspec.Struct):
    load: Load
    target: Target


class _Heard(msgspec.Struct):
    load: AnyLoad
    target: Target


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Heard)

    def say(thing: object) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(thing) + b"\n")
        sys.stdout.buffer.flush()

    say("ready")
    # A moment of the clock `time.monotonic`, which all processes of a machine share.
    watch = Watch(say, float(sys.stdin.buffer.readline()))
    try:
        say(order.load.generate(order.target, watch))
    except* LabError as group:
        error: BaseException = group  # nurseries may have wrapped it
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        say({"failed": str(error)})


if __name__ == "__main__":
    main()
