"""The service behind the attacked endpoint: answers small GETs, sends without end, leaves what comes for /unread in the
kernel, and swallows the rest.

A thread for each connection: it is not what is measured.
"""

import contextlib
import socket
import threading
import time

import click

SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40)
ZEROS = bytes(1 << 18)
UNREAD_SECONDS = 3600


def serve(connection: socket.socket) -> None:
    """Answer one connection until it ends."""
    with connection, contextlib.suppress(OSError):
        said = b""
        while data := connection.recv(1 << 16):
            said += data
            if said.startswith(b"GET /bulk"):
                connection.sendall(LARGE)
                while True:
                    connection.sendall(ZEROS)
            if said.startswith(b"POST /unread"):
                time.sleep(UNREAD_SECONDS)
            if not said.startswith(b"GET"):
                said = b"POST"  # swallowed
                continue
            heads = said.count(b"\r\n\r\n")
            said = said.rpartition(b"\r\n\r\n")[2]
            connection.sendall(SMALL * heads)


@click.command()
@click.option("--port", type=int, required=True)
def main(port: int) -> None:
    """Serve 127.0.0.1 until ended."""
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
