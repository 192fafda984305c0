"""A name outside of JAX's stable API that has moved costs the verifier a feature, said on use, and never the import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNSTABLE = ("jax.core", "jax.experimental", "jax.extend", "jax._src", "jax.interpreters")
KNOWN_INSIDE = re.compile(r"jax\.core\.|jax\.__file__|[\w.]*\bparams(\[['\"]|\.get\()|.*\.debug_info\b")
# The verifier by itself: a bare package in jaxnet's place, for what else jaxnet imports is not the subject.
BY_ITSELF = f"""
import sys, types
sys.modules["jaxnet"] = types.ModuleType("jaxnet")
sys.modules["jaxnet"].__path__ = [{str(ROOT / "jaxnet")!r}]
import jax, jax.numpy as jnp, numpy as np, jax.extend.core, jax.interpreters.ad

def hide_module(name):
    for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
        sys.modules[module] = None
    parent, _, last = name.rpartition(".")
    vars(sys.modules[parent]).pop(last, None)

def hide_name(module, name):
    delattr(sys.modules[module], name)

def check():
    from jaxnet.verify import check_gradients
    return check_gradients(lambda w: jnp.sum(w**2), lambda w: 2 * w, np.ones(3, np.float32))
"""
REFUSED = """
from jaxnet.verify import GradientMismatch, Report, check_gradients, check_vjp
for ask in (check, lambda: check_vjp(jnp.sin, np.ones(3, np.float32))):
    try:
        ask()
    except ImportError as error:
        print(error)
"""


def run(program):
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", BY_ITSELF + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("hidden", "named"),
    [
        ('hide_module("jax.extend"), hide_module("jax.experimental"), hide_module("jax.interpreters")', "ClosedJaxpr"),
        ('hide_name("jax.extend.core", "Literal")', "Literal"),
    ],
    ids=["whole modules", "one name"],
)
def test_without_what_reads_programs_the_import_works_and_a_check_is_refused(hidden, named):
    refusals = run(hidden + REFUSED).splitlines()
    assert len(refusals) == 2
    for refusal in refusals:
        assert f"the verifier needs jax.extend.core.{named}, which jax" in refusal


def test_without_what_only_a_feature_needs_the_report_names_the_feature():
    report = run(
        'hide_module("jax.interpreters.ad")\nhide_name("jax._src.config", "traceback_filtering")\nprint(check())'
    )
    assert "PASS" in report
    for name in ("jax.interpreters.ad.primitive_jvps", "jax._src.config.traceback_filtering"):
        assert f"has no {name}" in " ".join(report.split())


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_without_the_tables_of_derivatives_nobody_s_primitive_is_trusted(factor):
    """Its derivative may be the user's: differences judge it, as where the table tells so."""
    made = f"""
from jax.interpreters import ad, mlir
made = jax.extend.core.Primitive("made")
made.def_impl(jnp.sin)
made.def_abstract_eval(lambda x: x)
mlir.register_lowering(made, mlir.lower_fun(jnp.sin, multiple_results=False))
ad.defjvp(made, lambda t, x: {factor} * t * jnp.cos(x))
hide_module("jax.interpreters.ad")
from jaxnet.verify import check_gradients
loss = lambda w: jnp.sum(made.bind(w))
print(check_gradients(loss, jax.grad(loss), np.arange(1, 4, dtype=np.float32), raise_=False))
"""
    report = run(made)
    assert report.startswith("PASS" if factor == 1 else "FAIL") and "made (" in report, report


def test_no_other_module_of_the_verifier_knows_jaxs_inside():
    """Its unstable modules, the parameters of its equations by name, the files of its package."""
    paths = [path for path in (ROOT / "jaxnet" / "verify").rglob("*.py") if path.name != "jaxprs.py"]
    assert len(paths) > 30
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.startswith(UNSTABLE)], path.name
            known = ast.unparse(node) if isinstance(node, (ast.Subscript, ast.Call, ast.Attribute)) else ""
            assert not KNOWN_INSIDE.match(known), (path.name, known)
