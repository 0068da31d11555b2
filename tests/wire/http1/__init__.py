"""HTTP/1.1: what is grammar, what decides, what goes on, and what is refused with which status."""
