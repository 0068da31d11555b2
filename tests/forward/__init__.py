"""The role beside a TCP client, with real sockets."""
