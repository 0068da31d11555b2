"""Rules about the tree itself: who imports whom, and what must not stand in it."""
