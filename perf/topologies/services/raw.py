"""A TCP service: the first byte of a connection says what it does from then on.

`S` sends for ever. `E` sends back what it gets. `D` swallows: after each 8-byte length (big-endian) and
that many bytes it answers with one byte, so that the other side knows how much has *arrived*.

One blocking thread per connection: that is the cheapest thing there is for one stream, and answers the
fastest. Swallowed bytes are never copied out of the kernel (MSG_TRUNC).
"""

import contextlib
import socket
import threading

import click

CHUNK_BYTES = 1 << 20


@click.command()
@click.option("--port", type=int, required=True)
def main(port: int) -> None:
    """Serve on 127.0.0.1 until ended."""
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):  # the client may leave at any time
        match connection.recv(1):
            case b"S":
                chunk = bytes(CHUNK_BYTES)
                while True:
                    connection.sendall(chunk)
            case b"E":
                while data := connection.recv(CHUNK_BYTES):
                    connection.sendall(data)
            case b"D":
                _swallow(connection)


def _swallow(connection: socket.socket) -> None:
    buffer = bytearray(CHUNK_BYTES)
    while length := connection.recv(8, socket.MSG_WAITALL):
        left = int.from_bytes(length)
        while left:
            count = connection.recv_into(buffer, min(left, CHUNK_BYTES), socket.MSG_TRUNC)
            if not count:
                return
            left -= count
        connection.sendall(b".")


if __name__ == "__main__":
    main()
