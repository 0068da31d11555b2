"""What it costs, and what it gives, to have more than one process: peers, workers (`trioduct-perf scale`).

Every row has the same two sides: `scaled`, what it is about, and `plain`, the same work without it.

two_nodes  a cluster of two nodes with one agent
sides      the programs that stand behind the sides of each row
rows       what is measured
"""
