"""The role beside a service, with real sockets."""
