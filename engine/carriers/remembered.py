"""Which carrier got through the last time, in a file (`connect.memory`): so the next start does not try in vain.

The file is a JSON object: a key says which node by which way out, its value is the name of a carrier. Several processes
may have one file; who writes last wins. It is only ever a hint: what is in it is tried first, and nothing else.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.carriers.carrier import Kind
from engine.log import get_logger

MAX_BYTES: Final = 64 * 1024
MAX_WAYS: Final = 100

log = get_logger("client")


class Remembered:
    """What `file` says of `way`. A file that cannot be read or written is warned of, and does no other harm."""

    def __init__(self, file: str, way: str) -> None:
        self._path = Path(file)
        self._way = way
        found = self._read().get(way, "")
        self.kind = Kind(found) if found in tuple(Kind) else None

    def keep(self, kind: Kind) -> None:
        """`kind` has got through: write it down, if that is news."""
        if kind is self.kind:
            return
        self.kind = kind
        known = self._read()
        known.pop(self._way, None)
        known[self._way] = kind  # the latest at the end
        try:
            self._write(json.dumps(dict(list(known.items())[-MAX_WAYS:]), indent=1))
        except OSError as error:
            log.warning("cannot write connect.memory", file=str(self._path), error=str(error))

    def _read(self) -> dict[str, str]:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            found = json.loads(data)
            if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
                raise ValueError("it is not an object of names of carriers")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            log.warning("connect.memory is not used as it stands", file=str(self._path), error=str(error))
            return {}
        return found

    def _write(self, text: str) -> None:
        """All of it or nothing; only its owner may read it (mkstemp's 0600)."""
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text + "\n")
            os.replace(name, self._path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
