"""Cases of one_hot and accuracy."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from tests.fuzz import reference
from tests.fuzz.arguments import EITHER, FINE, WRONG, Given, Setting, changed, fine, pick
from tests.fuzz.arrays import DTYPES, INTEGERS, array_like, in_range, plain, sums_too_high
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import usual_weights, weights_like


@draws("one_hot", 10)
def one_hot(rng) -> Case:
    n = int(rng.integers(1, 5))
    labels = rng.integers(n, size=3)
    change = changed(rng, *("labels",) * 4, "n_classes", "n_classes", "dtype")
    counts = Setting(
        right=(np.int64(n), n + 1, np.uint8(n)),
        wrong=(float(n), 10**11, 2**31, 2**62, -n, str(n), [n]),
        either=(jnp.int32(n), np.array(n)),
        leave_out=("3", "jax 0-d", "float32 0-d"),
    )
    dtypes = Setting(
        right=("float16", jnp.bfloat16, np.dtype("float32")),
        wrong=("foo", object, str, "U3", "datetime64[s]", complex),
        either=(float, np.float64, int, bool, None),
        leave_out=("None", "'a'", "ShapeDtypeStruct", "float32 0-d", "jax 0-d", "a key"),
    )
    given = {
        "labels": labels_like(rng, labels, n) if "labels" in change else Given(labels, FINE, "int64", labels),
        "n_classes": counts.drawn(rng) if "n_classes" in change else fine(n),
        "dtype": dtypes.drawn(rng) if "dtype" in change else fine(np.float32),
    }
    if {"labels", "n_classes"} <= change:  # then the labels may be wrong for one number, and right for the other
        given["labels"] = given["labels"].refused_if(True, EITHER)
        readable = given["labels"].meaning is not None and given["labels"].meaning.ndim == 1
        given["labels"] = given["labels"]._replace(status=EITHER if readable else WRONG)

    def complaint(Y):
        rows, dtype = np.arange(int(given["n_classes"].value)), given["dtype"]
        want = rows[:, None] == given["labels"].meaning[None, :]
        if not isinstance(Y, jax.Array) or Y.shape != want.shape or not (np.asarray(Y).astype(float) == want).all():
            return f"got {Y}"
        right = dtype.status == EITHER or Y.dtype == jax.dtypes.canonicalize_dtype(dtype.value)
        return None if right else f"got {Y.dtype}"

    return Case("one_hot", given, jaxnet.one_hot, complaint, {"labels": labels, "n_classes": n})


def labels_like(rng, labels, n: int) -> Given:
    """Labels as somebody may give them: integers from 0 to n - 1 are right."""
    if rng.random() < 0.1:
        return Given(range(n), FINE, "range", np.arange(n))
    given = array_like(rng, labels.astype(float), "int64", (*INTEGERS * 2, *DTYPES))
    values = given.meaning
    if values is None:
        return given
    given = given.refused_if(values.ndim != 1 or ((values < 0) | (values >= n)).any())
    return given.refused_if(not given.of_integers).refused_if(values.size == 0, EITHER)


@draws("accuracy", 10)
def accuracy(rng) -> Case:
    n_y, m = pick(rng, ((1, 1), (1, 3), (2, 3), (3, 3), (2, 1)))
    A, weights, one_class = rng.random((n_y, m)), rng.uniform(0.2, 2, m), rng.random() < 0.5
    Y = np.eye(n_y)[:, rng.integers(n_y, size=m)] if n_y > 1 and one_class else rng.integers(2, size=(n_y, m)) + 0.0
    change = changed(rng, "A", "Y", "weights")
    given = {
        "A": array_like(rng, A) if "A" in change else plain(rng, A),
        "Y": array_like(rng, Y) if "Y" in change else plain(rng, Y),
        "weights": weights_like(rng, weights) if "weights" in change else usual_weights(rng, weights),
    }
    given = compared(given, m)

    def complaint(got):
        if not isinstance(got, jax.Array) or got.shape != ():
            return f"got {got!r}"
        A, Y, w = (given[name].meaning for name in ("A", "Y", "weights"))
        wants = reference.accuracies(A, Y, None if w is None else w / w.max())
        narrow = [each.value.dtype.itemsize < 4 for each in given.values() if hasattr(each.value, "dtype")]
        tolerance = 1e-2 if any(narrow) else 1e-5
        if any(abs(float(got) - want) < tolerance for want in wants):
            return None
        return f"got {float(got):.6g}; expected {' or '.join(f'{want:.6g}' for want in wants)}"

    usual = {"A": A.astype(np.float32), "Y": Y.astype(np.float32)}
    usual |= {} if given["weights"].value is None else {"weights": weights.astype(np.float32)}
    return Case("accuracy", given, jaxnet.accuracy, complaint, usual)


def compared(given: dict[str, Given], m: int) -> dict[str, Given]:
    """The arguments, those refused that do not fit each other; of JAX arrays only A is not read."""
    A, Y, w = (each.meaning for each in given.values())
    narrowest = np.float16 if getattr(given["A"].value, "dtype", None) == np.float16 else np.float32
    if A is not None:
        given["A"] = given["A"].refused_if(A.ndim != 2 or A.size == 0)
        given["A"] = in_range(given["A"], np.float32)
    if Y is not None:
        other = A is not None and A.shape != Y.shape
        given["A"] = given["A"].refused_if(other, EITHER)
        given["Y"] = given["Y"].refused_if(other or Y.ndim != 2 or Y.size == 0)
        given["Y"] = in_range(given["Y"]._replace(on_host=True), np.float64).refused_if(((Y < 0) | (Y > 1)).any())
    if w is not None:
        columns = (m,) if A is None else A.shape[-1:]
        given["weights"] = in_range(given["weights"]._replace(on_host=True), np.float64)
        given["weights"] = given["weights"].refused_if(w.shape != columns or (w < 0).any() or not w.any())
        rounded = w.astype(narrowest)  # beyond its range their ratios need not be kept
        unclear = not np.isfinite(rounded).all() or not rounded.any() or sums_too_high(w, np.float32)
        given["weights"] = given["weights"].refused_if(unclear, EITHER)
    return given
