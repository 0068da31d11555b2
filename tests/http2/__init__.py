"""HTTP/2: a connection as streams, and what a peer may not do."""
