"""Calls of the public functions with arguments drawn at random, most of them wrong in some way.

`python -m tests.fuzz --calls 10000 --seed 3` prints a table of what came back; `--only INDEX` runs one call again.
"""
