"""TCP with the first hop: its name, its addresses, and in whose words it failed.

RFC 8305 as trio.open_tcp_stream does it (the addresses one after the other, a quarter of a second apart, the first
that answers wins), but name and connection are two legs, and when all have failed it is known what became of each.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import trio

from proxy_adapters.errors import YOU, YOU_OR_PROXY_ADMIN, YOU_OR_TARGET_ADMIN, HopUnreachable

#: Opens the stream at the very bottom in place of this module; raises OSError. `trio.open_tcp_stream` is one.
Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]

NEXT_ADDRESS_SECONDS = 0.25


class Address(NamedTuple):
    family: socket.AddressFamily
    socket_address: Any

    def __str__(self) -> str:
        return str(self.socket_address[0])


async def resolve(host: str, port: int, *, seconds: float) -> list[Address]:
    """The addresses of a name, in the order in which to try them. Raises HopUnreachable."""
    try:
        with trio.fail_after(seconds):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except trio.TooSlowError:
        fact, advice = f"cannot resolve {host}: no answer within {seconds:g} s", "does this machine's DNS work?"
        raise HopUnreachable(fact, advice=advice, who=YOU) from None
    except OSError as error:
        raise unresolved(host, error) from error
    addresses = [Address(family, address) for family, _, _, _, address in found]
    # The second one is of the other family, if there is one: a family that does not work costs one try (RFC 8305, 4).
    other = next((address for address in addresses if address.family != addresses[0].family), None)
    if other is not None:
        addresses.remove(other)
        addresses.insert(1, other)
    return addresses


def unresolved(host: str, error: OSError) -> HopUnreachable:
    return HopUnreachable(f"cannot resolve {host}: {error.strerror or error}", advice="check the name", who=YOU)


async def connect(addresses: list[Address], *, seconds: float, role: str) -> trio.SocketStream:
    """The first connection that stands. `role` is "proxy" or "target". Raises HopUnreachable."""
    won: list[trio.socket.SocketType] = []
    died: dict[str, OSError | None] = {}

    async def attempt(address: Address, failed: trio.Event) -> None:
        died[str(address)] = None  # for the time being it is silent
        sock = trio.socket.socket(address.family, socket.SOCK_STREAM)
        try:
            await sock.connect(address.socket_address)
        except OSError as error:
            died[str(address)] = error
            failed.set()
        else:
            won.append(sock)
            nursery.cancel_scope.cancel()
        finally:
            if sock not in won[:1]:
                sock.close()

    try:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    failed = trio.Event()
                    nursery.start_soon(attempt, address, failed)
                    with trio.move_on_after(NEXT_ADDRESS_SECONDS):
                        await failed.wait()
    except BaseException:
        for sock in won:
            sock.close()
        raise
    if not won:
        raise unconnected(died, seconds, role)
    return trio.SocketStream(won[0])


async def connect_by(dial: Dial, host: str, port: int, *, seconds: float, role: str) -> trio.abc.Stream:
    """What somebody else's `dial` gives. Raises HopUnreachable."""
    try:
        with trio.fail_after(seconds):
            return await dial(host, port)
    except trio.TooSlowError:
        raise unconnected({host: None}, seconds, role) from None
    except socket.gaierror as error:
        failed = unresolved(host, error)
        failed.leg = f"{role}-dns"
        raise failed from error
    except OSError as error:
        group = error.__cause__  # trio.open_tcp_stream keeps there what each address died of
        parts = group.exceptions if isinstance(group, BaseExceptionGroup) else [group or error]
        errors = [part for part in parts if isinstance(part, OSError)] or [error]
        raise unconnected({str(number): part for number, part in enumerate(errors, 1)}, seconds, role) from error


def unconnected(died: Mapping[str, OSError | None], seconds: float, role: str) -> HopUnreachable:
    """What became of each address (None: it was silent), in the system's words, and who can act."""
    silence = f"no connection within {seconds:g} s"
    words = {name: silence if error is None else _words(error) for name, error in died.items()}
    distinct = list(dict.fromkeys(words.values()))
    fact = distinct[0] if len(distinct) == 1 else "; ".join(f"{name}: {word}" for name, word in words.items())
    numbers = {errno.ETIMEDOUT if error is None else error.errno for error in died.values()}
    it, who = ("the proxy", YOU_OR_PROXY_ADMIN) if role == "proxy" else ("it", YOU_OR_TARGET_ADMIN)
    if numbers <= {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}:
        advice, who = "is this machine on the network?", YOU
    elif errno.ECONNREFUSED in numbers:
        advice = f"is {it} up, and are host and port right?"
    else:
        advice = f"is {it} up, are host and port right, is there a firewall on the way?"
    return HopUnreachable(fact, advice=advice, who=who)


def _words(error: OSError) -> str:
    """Of its number: Trio wraps them into a sentence of its own."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
