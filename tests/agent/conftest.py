"""The fixtures that start roles, and play a node for agents."""

from tests.agent.upstream_port import port
from tests.roles import roles

__all__ = ["port", "roles"]
