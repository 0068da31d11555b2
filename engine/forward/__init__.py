"""The role beside a TCP client: listens locally and carries each connection to an endpoint."""
