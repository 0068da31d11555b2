"""What stands behind the tunnel. Each program here must be faster than anything that leads to it."""
