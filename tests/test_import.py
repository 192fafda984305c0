"""`import jaxnet`: what it loads and what it leaves alone, the names it shows, and the packages it may lack."""

import ast
import importlib
import inspect
import json
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxnet
from tests.test_architecture import SOURCES, imported

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEVER = {
    "sklearn",
    "matplotlib",
    "orbax",
    "pandas",
    "tyro",
    "mlxtend",
    "IPython",
    "tqdm",
    "scipy",
    "tests",
    "experiments",
}
SCRIPT = """
import json, sys
import jax, optax

def loaded():
    return sorted({name.split(".")[0] for name in set(sys.modules) - before})

before = set(sys.modules)
import jaxnet
alone, modules = loaded(), sorted(name for name in sys.modules if name.startswith("jaxnet."))
for name in jaxnet.__all__:
    getattr(jaxnet, name)
from jax._src import xla_bridge
print(json.dumps([alone, modules, loaded(), sorted(xla_bridge._backends)]))
"""


@pytest.fixture(scope="module")
def imports():
    """What is loaded beside jax and optax: by the import, by all that is public; and the devices that are started."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_import_alone_loads_nothing_else(imports):
    alone, modules, _, _ = imports
    assert alone == ["jaxnet"] and modules == []


def test_no_public_name_loads_what_is_dear_or_may_be_missing(imports):
    assert not NEVER & set(imports[2]), imports[2]


def test_no_device_is_touched(imports):
    assert imports[3] == []


def test_the_names_are_the_public_ones_and_each_is_there():
    assert sorted(jaxnet.__all__) == sorted(set(jaxnet.__all__)) and "fit" in dir(jaxnet)
    assert {name for name in dir(jaxnet) if not name.startswith("_")} == set(jaxnet.__all__)
    assert all(getattr(jaxnet, name) is not None for name in dir(jaxnet))
    star = {}
    exec("from jaxnet import *", star)
    assert set(jaxnet.__all__) <= set(star)


def test_type_checkers_are_told_the_same_names():
    tree = ast.parse(Path(jaxnet.__file__).read_text())
    block, _ = (node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in block.body for alias in node.names}
    rooms = {name: "jaxnet" for name in jaxnet.__all__ if inspect.ismodule(getattr(jaxnet, name))}
    assert told == {name: f"jaxnet.{home}" for name, home in jaxnet._HOMES.items()} | rooms
    assert set(told) == set(jaxnet.__all__)


def test_no_public_name_is_a_modules_too():
    """Or `jaxnet.NAME` would be one or the other, by what was imported first."""
    assert not {path.stem for path in (ROOT / "jaxnet").iterdir()} & set(jaxnet._HOMES)


@pytest.mark.parametrize(
    "name",
    [*(name for name in jaxnet.__all__ if inspect.ismodule(getattr(jaxnet, name))), "estimator", "train.checkpoint"],
)
def test_a_public_module_shows_its_public_names_alone(name):
    module = importlib.import_module(f"jaxnet.{name}")
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, public).__doc__ for public in dir(module))


def test_modules_are_there_without_being_shown():
    assert inspect.ismodule(jaxnet.activations) and "activations" not in dir(jaxnet)
    assert dir(jaxnet.train) == ["checkpoint"] and inspect.ismodule(jaxnet.train.checkpoint)


@pytest.mark.parametrize("name", ["fitt", "__wrapped__", "_private", "no.name"])
def test_a_name_that_is_not_there_is_an_error_that_python_can_mend(name):
    with pytest.raises(AttributeError, match=re.escape(f"module 'jaxnet' has no attribute '{name}'")) as caught:
        getattr(jaxnet, name)
    assert (caught.value.name, caught.value.obj) == (name, jaxnet)
    with pytest.raises(AttributeError, match=r"module 'jaxnet\.train' has no attribute 'fitt'"):
        jaxnet.train.fitt  # noqa: B018


@pytest.mark.parametrize("name", [name for name in jaxnet.__all__ if inspect.isfunction(getattr(jaxnet, name))])
def test_help_comes_to_the_point(name):
    """Before the first sentence there is little to read: names, defaults, and types where they are few."""
    text = " ".join(pydoc.plain(pydoc.render_doc(getattr(jaxnet, name))).split())  # a newer Python writes lines of one
    signature = str(inspect.signature(getattr(jaxnet, name)))
    assert len(signature) < 450 and "numpy._typing" not in signature
    first = " ".join(inspect.getdoc(getattr(jaxnet, name)).splitlines()[0].split())
    assert first in text[: text.index(name + "(") + len(name) + len(signature) + 200]


# ---- packages that may be missing ----

CORE = {re.match(r"[\w-]+", requirement)[0] for requirement in PROJECT["dependencies"]}
ON_USE = {  # (package, the module that imports it where it is needed): the test that sees it missing
    ("sklearn", "datasets.py"): "test_datasets.py::test_a_package_that_is_not_installed_is_named_with_its_extra",
    ("sklearn", "estimator.py"): "test_estimator.py::test_without_scikit_learn_the_extra_is_named",
    ("mlxtend", "datasets.py"): "test_datasets.py::test_a_package_that_is_not_installed_is_named_with_its_extra",
    ("matplotlib", "plot/axes.py"): "test_plot.py::test_without_matplotlib_the_extra_is_named",
    ("orbax", "train/checkpoint_files.py"): "train/test_checkpoint.py::test_without_orbax_the_extra_is_named",
    ("dp_accounting", "train/privacy.py"): "train/test_privacy.py::test_without_dp_accounting_the_extra_is_named",
    ("pytest", "verify/pytest_plugin.py"): None,  # which pytest loads
}


def of_others(path):
    """The packages that a file imports, also inside functions and by name, but for Python's, ours and the core."""
    by_name = re.findall(r"import_module\(\"([\w.]+)\"\)", path.read_text())
    return {name.split(".")[0] for name in (*imported(path), *by_name)} - {*sys.stdlib_module_names, *CORE, "jaxnet"}


def test_each_package_that_may_be_missing_is_named_with_its_extra_where_it_is():
    found = {(name, str(path.relative_to(ROOT / "jaxnet"))) for path in SOURCES for name in of_others(path)}
    assert found == set(ON_USE)
    for file, name in (test.split("::") for test in ON_USE.values() if test):
        assert f"def {name}(" in (ROOT / "tests" / file).read_text()


def test_packages_that_may_be_missing_are_imported_where_they_are_needed():
    optional = {package for package, _ in ON_USE} - {"pytest"}
    for path in SOURCES:
        at_import = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {name.split(".")[0] for node in at_import for name in names_of(node)}
        assert not names & optional, path.name


def names_of(node):
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
