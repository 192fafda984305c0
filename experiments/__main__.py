"""Run every experiment, or some, and write results/index.html: one page with each claim, figure and number.

An experiment is a module of this package with a line NOTES = "section ..."; the page follows the notes.
"""

import contextlib
import dataclasses
import importlib
import io
import re
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments import experiment
from experiments.page import page
from jaxnet import parallel

NOTES = re.compile(r'^NOTES = "(.+)"$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the whole run; all but the names go to each experiment."""

    only: tuple[str, ...] = ()
    """Names of the experiments to run; none given: all."""


def found() -> dict[str, str]:
    """The experiments' names in the order of the notes, each with its sections; the files are read, not imported."""
    sections = {}
    for path in Path(__file__).parent.glob("[a-z]*.py"):
        if match := NOTES.search(path.read_text()):
            sections[path.stem] = match[1]
    return dict(sorted(sections.items(), key=lambda item: ([int(n) for n in re.findall(r"\d+", item[1])], item[0])))


def run(name: str, config: Config) -> dict[str, Any]:
    """Run one experiment and return its record; of one that breaks, what is known and what was said."""
    began = time.perf_counter()
    try:
        module = importlib.import_module(f"experiments.{name}")
        common = {field.name: getattr(config, field.name) for field in dataclasses.fields(experiment.Config)}
        own = getattr(module, "for_page", module.Config)(**common)
        with contextlib.redirect_stdout(io.StringIO()):  # the page says it
            return experiment.perform(name, module.run, own) | {"about": module.__doc__}
    except (Exception, SystemExit) as error:
        return {
            "experiment": name,
            "claim": "This experiment broke before it could say anything.",
            "held": False,
            "error": experiment.said(error),
            "seconds": round(time.perf_counter() - began, 2),
            "command": f"python -m experiments.{name}",
        }


def main() -> None:
    """Run them all with a progress bar, write the page, and exit 1 if a claim failed or an experiment broke."""
    config = experiment.cli(Config, "python -m experiments", __doc__)
    sections = found()
    if unknown := [name for name in config.only if name not in sections]:
        sys.exit(f"--only: there is no experiment {', '.join(unknown)}; there are {', '.join(sections)}")
    names = [name for name in sections if not config.only or name in config.only]
    try:
        parallel.device(config.device)
    except ValueError as error:
        sys.exit(f"--device: {error}")
    experiment.writable(config.results)
    records = []
    with contextlib.suppress(KeyboardInterrupt), tqdm(names, unit="experiment", disable=None) as bar:
        for name in bar:
            bar.set_description(name)
            record = run(name, config)
            records.append(record | {"notes": sections[name]})
            state = "held" if record["held"] else "BROKEN" if "error" in record else "FAILED"
            with tqdm.external_write_mode():
                print(f"{state:6}  {name:16}{record['seconds']:7.1f} s  {record.get('error') or record['claim']}")
    file = config.results / "index.html"
    file.write_text(page(records, config.results))
    held = sum(record["held"] for record in records)
    print(f"\n{held} of {len(records)} claims held; see {file}")
    if len(records) < len(names):
        sys.exit(130)
    sys.exit(0 if held == len(records) else 1)


if __name__ == "__main__":
    main()
