"""Networks from and to other libraries: `from_torch(module)` is (net, params), `to_torch(net, params)` a module.

| library            | what it holds                              | of each layer                                    |
|--------------------|--------------------------------------------|--------------------------------------------------|
| jaxnet             | `MLP` and `Layer`s, examples as columns    | W (n, n_prev), b (n, 1)                          |
| PyTorch            | `nn.Sequential`, examples as rows          | weight (n, n_prev), bias (n,)                    |
| Keras              | `Sequential`, rows                         | kernel (n_prev, n), bias (n,)                    |
| Flax linen, NNX    | `nn.Sequential`, `nnx.Sequential`, rows    | kernel (n_prev, n), bias (n,)                    |
| Equinox            | `nn.MLP`, one example: `jax.vmap` it       | weight (n, n_prev), bias (n,)                    |
| scikit-learn       | `MLPClassifier`, `MLPRegressor`, rows      | coefs_ (n_prev, n), intercepts_ (n,)             |

Predictions are the same: `predict(net, params, X)` is the module of X.T, transposed. Whatever else a module holds, a
loss or an optimizer's state, stays behind; dropout does nothing in prediction, and is left out. What an `MLP` cannot be
is refused by its place in the module. An activation is known by its values and not by its name, so that a library's
"gelu" or "leaky_relu" may be ours or not.

Where a module ends with logits, for its loss applies softmax, `from_...(module, output="softmax")` puts it in place;
`to_...(net, params, logits=True)` leaves the output's activation out.

Params are in the dtype of the module's weights, or in float32 where those have 64 bits and JAX's 64-bit is off, as
`fit` reads them. A library is imported where it is asked for.
"""

from jaxnet.convert.equinox import from_equinox, to_equinox
from jaxnet.convert.keras import from_keras, to_keras
from jaxnet.convert.linen import from_linen, to_linen
from jaxnet.convert.nnx import from_nnx, to_nnx
from jaxnet.convert.sklearn import from_sklearn, to_sklearn
from jaxnet.convert.torch import from_torch, from_torch_state, to_torch

__all__ = [
    "from_equinox",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_sklearn",
    "from_torch",
    "from_torch_state",
    "to_equinox",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_sklearn",
    "to_torch",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
