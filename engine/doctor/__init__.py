"""`trioduct doctor`: connects to a node as an agent would, and says at which step that fails and who can change it."""
