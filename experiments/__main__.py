"""Run every experiment, or some, and write results/index.html: one page with each claim, figure and number.

The page follows the notes and shows all that the results directory holds: of what this run leaves out or does not
reach, it keeps the cards of earlier runs, with their dates, and names what was never run.
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

from experiments.runner import experiment, results
from experiments.runner.report import page
from jaxnet import parallel

PROGRAM = "python -m experiments"
NOTES = re.compile(r'^NOTES = "(.+)"$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the whole run; all but the names go to each experiment."""

    only: tuple[str, ...] = ()
    """Names of the experiments to run; none given: all. The page keeps the others' cards of earlier runs."""


def found() -> dict[str, str]:
    """The experiments' names in the order of the notes, each with its sections; the files are read, not imported."""
    sections = {}
    for path in Path(__file__).parent.glob("[a-z]*.py"):
        if match := NOTES.search(path.read_text()):
            sections[path.stem] = match[1]
    return dict(sorted(sections.items(), key=lambda item: ([int(n) for n in re.findall(r"\d+", item[1])], item[0])))


def asked(sections: dict[str, str]) -> Config:
    """The command line; a name that is no experiment's, or that stands where none is read, ends the program."""
    names = ", ".join(sections)
    description = f"{__doc__}\nExperiments: {names}."
    _, words = experiment.tyro.cli(Config, prog=PROGRAM, description=description, return_unknown_args=True)
    if words and not any(word.startswith("-") for word in words):
        sys.exit(
            f"{' '.join(words)}: run one experiment as {PROGRAM}.NAME, some on one page as {PROGRAM} --only NAME NAME;"
            f" there are {names}"
        )
    config = experiment.cli(Config, PROGRAM, description)  # which refuses what is no option
    if unknown := [name for name in config.only if name not in sections]:
        sys.exit(f"--only: there is no experiment {', '.join(unknown)}; there are {names}")
    return config


def common(config: Config) -> dict[str, Any]:
    """The settings that go to each experiment."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(experiment.Config)}


def run(name: str, notes: str, config: Config) -> dict[str, Any]:
    """Run one experiment and return its record; of one that breaks, what is known and what was said."""
    began, settings = time.perf_counter(), common(config)
    own = experiment.Config(**settings)  # until its own are known
    try:
        module = importlib.import_module(f"experiments.{name}")
        own = getattr(module, "for_page", module.Config)(**settings)
        with contextlib.redirect_stdout(io.StringIO()):  # the page says it
            return experiment.perform(name, own)
    except (Exception, SystemExit) as error:
        found = broken(name, notes, error) | experiment.ran(name, own, began)
        if not isinstance(error, SystemExit):  # which says that nothing can be written
            results.write(found, config.results)
        return found


def broken(name: str, notes: str, error: BaseException) -> dict[str, Any]:
    """The record of an experiment that has nothing to show."""
    return {
        "experiment": name,
        "notes": notes,
        "about": "",
        "data": {},
        "claim": "This experiment broke before it could say anything.",
        "held": False,
        "error": experiment.said(error),
    }


def kept(name: str, notes: str, config: Config) -> dict[str, Any] | None:
    """What an earlier run left of an experiment, and that it did; None if there is nothing."""
    began, own = time.perf_counter(), experiment.Config(**common(config))
    try:
        found = results.earlier(config.results, name)
    except ValueError as error:
        found = broken(name, notes, error) | experiment.ran(name, own, began)
    return found and found | {"earlier": True}


def main() -> None:
    """Run them with a progress bar, write the page, and exit 1 if a claim failed or an experiment broke."""
    sections = found()
    config = asked(sections)
    names = [name for name in sections if not config.only or name in config.only]
    try:
        parallel.device(config.device)
    except ValueError as error:
        sys.exit(f"--device: {error}")
    index = config.results / "index.html"
    results.require_writable(index, *(file for name in names for file in results.files(config.results, name)))
    done = {}
    with contextlib.suppress(KeyboardInterrupt), tqdm(names, unit="experiment", disable=None) as bar:
        for name in bar:
            bar.set_description(name)
            done[name] = told = run(name, sections[name], config)
            state = "held" if told["held"] else "BROKEN" if "error" in told else "FAILED"
            with tqdm.external_write_mode():
                print(f"{state:6}  {name:16}{told['seconds']:7.1f} s  {told.get('error') or told['claim']}")
    cards = {name: done.get(name) or kept(name, notes, config) for name, notes in sections.items()}
    index.write_text(page(cards, config.results, interrupted=names[len(done) :]))
    held = sum(told["held"] for told in done.values())
    print(f"\n{held} of {len(done)} claims held; see {index}")
    if len(done) < len(names):
        sys.exit(130)
    sys.exit(0 if held == len(done) else 1)


if __name__ == "__main__":
    main()
