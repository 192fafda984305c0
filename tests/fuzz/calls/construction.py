"""Cases of MLP and init."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from tests.fuzz.arguments import EITHER, FINE, POSITIVE, Setting, changed, fine, junk, pick
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import NETS

KEYS = Setting(
    right=(jax.random.key(1), jax.random.PRNGKey(1), np.array([0, 1], np.uint32)),
    wrong=(jax.random.split(jax.random.key(0), 2), np.array([0, 1]), [0, 1], np.zeros(3, np.uint32), 0),
    leave_out=("a key",),
)
KEY = fine(jax.random.key(0), "a key")
PENALTIES = Setting(
    right=(0, 0.1, np.float32(0.5), jnp.float32(2)),
    wrong=(-1, float("inf"), True, "0.1", [0.1], None),
    leave_out=(*POSITIVE, "0"),
)
RATES = Setting(
    right=(0, 0.1, np.float32(0.5)),
    wrong=(-1, 1, True, "0.1", [0.1, 0.2, 0.3, 0.4, 0, 0], [1.0], None),
    leave_out=("0",),
)


@draws("MLP", 6)
def mlp(rng) -> Case:
    own = NETS[pick(rng, NETS)]
    change = changed(rng, "sizes", "activations", "loss", "l2", "dropout")
    given = {"sizes": fine(own.sizes), "activations": fine(own.activations), "loss": fine(own.loss)}
    if "sizes" in change:
        given["sizes"] = sizes(rng, own.sizes).drawn(rng)
    if "activations" in change:
        given["activations"] = activations(rng, own.activations).drawn(rng)
    if "loss" in change:
        given["loss"] = losses(own).drawn(rng).refused_if("activations" in change, EITHER)
    if "l2" in change:
        given["l2"] = PENALTIES.drawn(rng)
    if "dropout" in change:
        given["dropout"] = RATES.drawn(rng).refused_if("sizes" in change, EITHER)

    def complaint(net):
        alike = net.sizes == own.sizes and net.activations == own.activations and isinstance(hash(net), int)
        return None if alike else f"got {net}"

    return Case("MLP", given, jaxnet.MLP, complaint)


def one_replaced(rng, values, *leave_out: str) -> tuple:
    """The values, one of them junk."""
    place, other = rng.integers(len(values)), junk(rng, *leave_out).value
    return tuple(other if i == place else value for i, value in enumerate(values))


def sizes(rng, own) -> Setting:
    """Widths that make that network, or none."""
    return Setting(
        right=(list(own), tuple(map(np.int64, own))),
        wrong=(
            (),
            own[:1],
            (*own[:-1], 0),
            (*own[:-1], 2.5),
            (*own[:-1], 10**30),
            one_replaced(rng, own, "3"),
            iter(own),
        ),
        either=(np.array(own),),
    )


def activations(rng, own) -> Setting:
    """Names that go with that network, or do not."""
    hidden = (("softmax", *own[1:]),) if len(own) > 1 else ()
    return Setting(
        right=(list(own),),
        wrong=((*own[:-1], "sigmiod"), (*own, "tanh"), own[:-1], own[-1], one_replaced(rng, own), *hidden),
        either=(np.array(own),),
    )


def losses(own) -> Setting:
    """Names of losses that go with that network, or do not."""
    other = "squared_error" if own.loss == "cross_entropy" else "cross_entropy"
    fits = own.activations[-1] == "sigmoid"
    return Setting(
        right=(own.loss, *((other,) if fits else ())),
        wrong=("mse", "Cross_entropy", *(() if fits else (other,))),
        optional=True,
    )


SCHEMES = Setting(
    right=("xavier", "lecun", "zeros", 0.01, 1, np.float32(2), jnp.float32(0.5)),
    wrong=("He", 0, -1.0, 1e300, 1e39, 1e-300, np.array([1.0, 2.0])),
    leave_out=POSITIVE,
)
FLOATS = Setting(
    right=("float16", jnp.bfloat16, np.dtype("float32"), "float32"),
    wrong=(np.float64, int, "foo", complex, object, "U3"),
    either=(None, float, ">f4", np.longdouble, jnp.float8_e4m3fn),
    leave_out=("None", "ShapeDtypeStruct", "float32 0-d", "jax 0-d"),
)


@draws("weights_only", 1)
def weights_only(rng) -> Case:
    params = jaxnet.init(NETS[pick(rng, NETS)], jax.random.key(0))
    given = {"params": junk(rng) if rng.random() < 0.8 else fine(params, "params")}
    mask = lambda got: None if got == tuple(type(layer)(True, False) for layer in params) else f"got {got}"
    return Case("weights_only", given, jaxnet.weights_only, mask)


@draws("init", 4)
def init(rng) -> Case:
    own = NETS[pick(rng, NETS)]
    change = changed(rng, "net", "key", "scheme", "scheme", "dtype")
    given = {
        "net": junk(rng) if "net" in change else fine(own),
        "key": KEYS.drawn(rng) if "key" in change else KEY,
        "scheme": SCHEMES.drawn(rng) if "scheme" in change else fine("he"),
        "dtype": FLOATS.drawn(rng) if "dtype" in change else fine(np.float32),
    }

    def complaint(params):
        scheme, dtype = given["scheme"].value, given["dtype"]
        largest = 6 * (1.5 if isinstance(scheme, str) else float(scheme))
        for layer, n_prev, n in zip(params, own.sizes, own.sizes[1:], strict=False):
            W, b = (np.asarray(leaf).astype(float) for leaf in layer)
            drawn = W.any() != (scheme == "zeros") and np.abs(W).max() <= largest
            if W.shape != (n, n_prev) or b.shape != (n, 1) or b.any() or not drawn:
                return f"got {layer}"
            if dtype.status == FINE and layer.W.dtype != jnp.dtype(dtype.value):
                return f"got {layer.W.dtype}"
        return None if len(params) == len(own.activations) else f"got {params}"

    return Case("init", given, jaxnet.init, complaint)
