"""The house as it was drawn: imports point upwards, experiments are never imported, what is public is documented."""

import ast
import inspect
import re
import sys
from pathlib import Path

import jax.numpy as jnp
import jaxtyping
import pytest
from beartype.roar import BeartypeCallHintViolation

import jaxnet
import jaxnet.verify.sizes

ROOT = Path(__file__).parent.parent


def listed(readme):
    """The entries of a numbered list, each above those that it may not import."""
    lines = re.findall(r"^1\. (`[\w/]+`(?:, `[\w/]+`)*)", readme.read_text(), re.MULTILINE)
    return [name for line in lines for name in re.findall(r"`([\w/]+)`", line)]


ORDER = listed(ROOT / "jaxnet" / "README.md")
VERIFY = listed(ROOT / "jaxnet" / "verify" / "README.md")
ALONE = ("verify",)  # knows pytrees and functions, imports nothing else of jaxnet; so all may import it
SOURCES = sorted((ROOT / "jaxnet").rglob("*.py"))
PUBLIC = [name for name in jaxnet.__all__ if not inspect.ismodule(getattr(jaxnet, name))]


def imported(path):
    """The full names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; the house writes full names"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(*place):
    """The entry of the list that a module belongs to, a module itself or its folder; None for one that is in none."""
    entries = ["/".join(place[:length]) for length in range(len(place), 0, -1)]
    return next((entry for entry in entries if entry in (*ORDER, *ALONE)), None)


def place(path):
    """jaxnet/train/fit.py as ("train", "fit")."""
    return path.relative_to(ROOT / "jaxnet").with_suffix("").parts


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_imports_point_upwards(path):
    own = room(*place(path))
    above = () if own in ALONE else [*ALONE, *(ORDER[: ORDER.index(own)] if own else ORDER)]
    for name in imported(path):
        top, *rest = name.split(".")
        assert top not in ("experiments", "tests"), f"{path.name} imports {name}"
        if top == "jaxnet" and own and rest and (entry := room(*rest)):
            assert entry == own or entry in above, f"{path.name} imports {name}, which is not above it"


def test_the_verifiers_imports_point_upwards():
    folder = ROOT / "jaxnet" / "verify"
    names = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert {n for n in names if not n.startswith("_")} == {*VERIFY, "pytest_plugin"}
    for path in sorted(folder.rglob("*.py")):
        own = path.relative_to(folder).parts[0].removesuffix(".py")
        above = VERIFY[: VERIFY.index(own) + 1] if own in VERIFY else VERIFY
        used = {name.split(".")[2] for name in imported(path) if name.startswith("jaxnet.verify.")}
        assert used & {*VERIFY} <= {*above}, f"{path.relative_to(ROOT)} imports {sorted(used - {*above})}"


CODE_IN_FILES = {"pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle"}  # modules that run what they read
AS_USERS_WRITE = {f"experiments/benchmarks/csv_job/{name}.py" for name in ("ours", "scikit_learn", "keras_", "flax_")}


@pytest.mark.parametrize("folder", ["jaxnet", "experiments"])
def test_no_file_is_read_that_may_hold_code(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        if str(path.relative_to(ROOT)) in AS_USERS_WRITE:  # which read a pipeline that they have just written
            continue
        assert not {name.split(".")[0] for name in imported(path)} & CODE_IN_FILES, path
        assert "allow_pickle" not in path.read_text(), path


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    thing = getattr(jaxnet, name)
    own = inspect.getdoc(thing)
    assert own and own.split("\n")[0].rstrip().endswith((".", ":")), f"jaxnet.{name} has no sentence"
    assert not own.startswith(f"{name}("), f"jaxnet.{name} has only the docstring that Python made"


def used_by(path):
    """The names of jaxnet that a test file uses: jaxnet.NAME, or imported from one of its modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jaxnet":
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "jaxnet":
            yield from (alias.name for alias in node.names)


def test_every_public_name_is_tested():
    """Where the list of names itself is tested does not count."""
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if path.stem not in ("test_import", "test_types")]
    used = {name for path in paths for name in used_by(path)}
    assert set(PUBLIC) <= used, f"no test uses {sorted(set(PUBLIC) - used)}"


def test_the_top_level_is_bare():
    tracked = {path.name for path in ROOT.iterdir()} - {".git", ".venv", ".ci", ".gitignore"}
    visible = {name for name in tracked if not name.startswith(".") and name not in ("results", "dist", "__pycache__")}
    assert visible == {"pyproject.toml", "README.md", "jaxnet", "experiments", "tests"}


def test_every_module_of_the_order_is_there():
    """So that the list stays the house as it is."""
    listed = {room(*place(path)) for path in SOURCES}
    assert listed - {None} - set(ALONE) == set(ORDER) and len(ORDER) > 10
    assert {place(path)[-1] for path in SOURCES if room(*place(path)) is None} == {"__init__"}
    assert sys.modules["jaxnet"].__doc__


def test_signatures_are_checked_while_the_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        jaxnet.activations.tanh(jnp.zeros(3))  # one axis, and not two
    with pytest.raises(BeartypeCallHintViolation):
        jaxnet.verify.sizes.ratio("no number", 1.0)
