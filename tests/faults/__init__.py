"""Defects and failing sockets, planted under load: what is hit ends visibly, everything else goes on.

switch    makes one of every so many calls raise, or sockets fail
chaos     clients that do whatever clients do: half heads, resets, closes, stalls
__main__  both for minutes, against roles in processes: `python -m tests.faults --minutes 5 --seed 1`
"""
