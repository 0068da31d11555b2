"""The public role, with real sockets."""
