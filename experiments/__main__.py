"""Run every experiment, or some, and write results/index.html: one page with each claim, figure and number.

The page follows the notes, with figures to handle, and shows all that the results directory holds: for experiments that
this run leaves out or does not reach, it keeps what earlier runs left, with their dates, and names those never run.
"""

import contextlib
import dataclasses
import re
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.page.assemble import page
from experiments.runner import experiment, options, performances, program, results
from jaxnet.atomic_files import NotSavedError
from jaxnet.parallel import meshes

PROGRAM = "python -m experiments"
NOTES = re.compile(r'^NOTES = "(.+)"$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the whole run; all but the names go to each experiment."""

    only: tuple[str, ...] = ()
    """Names of the experiments to run; none given: all. The page keeps what earlier runs left of the others."""


def sections() -> dict[str, str]:
    """The experiments' names in the order of the notes, each with its sections; the files are read, not imported."""
    here, by_name = Path(__file__).parent, {}
    for path in (*here.glob("[a-z]*.py"), *here.glob("[a-z]*/__main__.py")):
        if match := NOTES.search(path.read_text(encoding="utf-8")):
            by_name[path.parent.name if path.name == "__main__.py" else path.stem] = match[1]
    return dict(sorted(by_name.items(), key=lambda item: ([int(n) for n in re.findall(r"\d+", item[1])], item[0])))


def parse(by_name: dict[str, str]) -> Config:
    """The command line; a name that is no experiment's, or that stands where none is read, ends the program."""
    names = ", ".join(by_name)
    description = f"{experiment.docstring(sys.modules[__name__])}\n\nExperiments: {names}."
    _, words = options.parse(Config, PROGRAM, description, return_unknown_args=True)
    if words and not any(word.startswith("-") for word in words):
        sys.exit(
            f"{' '.join(words)}: run one experiment as {PROGRAM}.NAME, some on one page as {PROGRAM} --only NAME NAME;"
            f" there are {names}"
        )
    config = options.parse(Config, PROGRAM, description)  # which refuses unknown options
    if unknown := [name for name in config.only if name not in by_name]:
        sys.exit(f"--only: there is no experiment {', '.join(unknown)}; there are {names}")
    return config


def common(config: Config) -> dict[str, Any]:
    """The settings that go to each experiment."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(experiment.Config)}


def main() -> None:
    """Run them with a progress bar, write the page, and exit 1 if a claim failed or an experiment broke."""
    with program.running():
        experiment.require_extra()
        by_name = sections()
        config = parse(by_name)
        try:
            meshes.device(config.device)
        except ValueError as error:
            sys.exit(f"--device: {error}")
        with results.only_run(config.results):
            run(by_name, config)


def run(by_name: dict[str, str], config: Config) -> None:
    """Run them and write the page, also of what was done before Ctrl-C or SIGTERM."""
    names = [name for name in by_name if not config.only or name in config.only]
    index = config.results / "index.html"
    wanted = [file for name in names for file in results.files(config.results, name)]
    results.require_writable(config.results, index, *wanted)
    done, code, settings, start = {}, None, common(config), time.perf_counter()
    performed = performances.records({name: by_name[name] for name in names}, settings)
    try:
        with contextlib.closing(performed), tqdm(names, unit="experiment", disable=None) as bar:
            for name in bar:
                bar.set_description(name)
                done[name] = record = next(performed)
                state = "held" if record["held"] else "BROKEN" if "error" in record else "FAILED"
                with tqdm.external_write_mode():
                    print(f"{state:6}  {name:16}{record['seconds']:7.1f} s  {record.get('error') or record['claim']}")
    except KeyboardInterrupt as interrupt:
        code = program.exit_code(interrupt)
        print(f"interrupted before the end of {', '.join(names[len(done) :]) or 'the page'}", file=sys.stderr)
    cards = {
        name: done.get(name) or performances.earlier_record(name, notes, settings) for name, notes in by_name.items()
    }
    try:
        seconds = time.perf_counter() - start
        results.save({index: page(cards, config.results, interrupted=names[len(done) :], seconds=seconds)})
    except NotSavedError as error:
        sys.exit(str(error))
    held = sum(record["held"] for record in done.values())
    print(f"\n{held} of {len(done)} claims held; see {index}")
    sys.exit(code or held < len(done))


if __name__ == "__main__":
    main()
