"""The golden file: what the verifier says of several hundred gradients, right and wrong, so that a change shows.

`cases` are the checks, `records` what is kept of a report and the files that hold it; `python -m tests.verify.golden`
compares all of them, and `--write` writes the files anew.
"""
