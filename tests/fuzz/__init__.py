"""Calls of the public functions with arguments drawn at random, most of them wrong in one way.

`python -m tests.fuzz --calls 10000 --seed 3` prints a table of the outcomes; `--only INDEX` makes one call again.
"""
