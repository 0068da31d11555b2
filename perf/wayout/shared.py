"""A bed that both sides of a row use: the first that comes makes it, and is the last that leaves."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Generic, TypeVar

from perf.errors import MissingProgram, Unsupported

T = TypeVar("T")


class Shared(Generic[T]):
    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._made: T | None = None

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[T]:
        """To be entered and left as the sides of a row are: last in, first out."""
        with blank_if_missing():
            if self._made is not None:
                yield self._made
                return
            async with self._make() as made:
                self._made = made
                try:
                    yield made
                finally:
                    self._made = None


@contextmanager
def blank_if_missing() -> Iterator[None]:
    """Nobody has every proxy: what is not installed leaves a blank and its sentence, and is no failure."""
    try:
        yield
    except MissingProgram as error:
        raise Unsupported(str(error)) from error
