"""The third port of a node: health, readiness, status and metrics, as an ASGI application."""
