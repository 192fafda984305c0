"""Checks every case of the golden file again and prints what is said otherwise; exits with 1 if anything is.

`--write` writes the file anew, unless what is said is wrong: a mutant that passes, a right gradient that is refused.
"""

import argparse
import re
import sys

from tqdm import tqdm

from tests.verify.golden.process import checked, every
from tests.verify.golden.records import differences, read, write


def main() -> int:
    """Exit with 1 where anything is said otherwise, or is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.verify.golden", description=__doc__)
    parser.add_argument("--only", default="", metavar="REGEX", help="the cases in whose names this is found")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--write", action="store_true", help="write the file anew")
    options = parser.parse_args()
    chosen = [name for name in every() if re.search(options.only, name)]
    if not chosen:
        parser.error(f"--only: {options.only!r} is found in no case's name, such as {next(iter(every()))!r}")
    before, now, changed, wrong = read(), {}, 0, 0
    for name, said, fault in tqdm(checked(chosen, options.jobs), total=len(chosen), unit="case"):
        now[name] = said
        lines = differences(before.get(name), said)
        told = [*lines, *([f"WRONG: {fault}"] if fault else [])]
        if told:
            tqdm.write("\n    ".join([name, *told]))
        changed, wrong = changed + bool(lines), wrong + bool(fault)
    gone = [] if options.only else [name for name in before if name not in every()]
    for name in gone:
        print(name, "no longer a case", sep="\n    ")
    print(f"{len(chosen)} cases: {changed} differ, {len(gone)} are gone, {wrong} are wrong")
    if options.write and not wrong:
        kept = {name: {**before, **now}[name] for name in every() if name in now or name in before}
        write(kept)
        return 0
    return int(bool(changed or gone or wrong))


if __name__ == "__main__":
    sys.exit(main())
