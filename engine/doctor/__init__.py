"""`trioduct doctor`: walks the way to a node as an agent would, and says where it ends and who can change that."""
