"""What nodes share: who serves what (a directory), and links by which one sends another what that serves."""
