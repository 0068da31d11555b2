"""The services behind the tunnel; each must be faster than what leads to it."""
