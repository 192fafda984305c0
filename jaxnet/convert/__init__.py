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

from jaxnet.convert.equinox import from_equinox as from_equinox
from jaxnet.convert.equinox import to_equinox as to_equinox
from jaxnet.convert.keras import from_keras as from_keras
from jaxnet.convert.keras import to_keras as to_keras
from jaxnet.convert.linen import from_linen as from_linen
from jaxnet.convert.linen import to_linen as to_linen
from jaxnet.convert.nnx import from_nnx as from_nnx
from jaxnet.convert.nnx import to_nnx as to_nnx
from jaxnet.convert.sklearn import from_sklearn as from_sklearn
from jaxnet.convert.sklearn import to_sklearn as to_sklearn
from jaxnet.convert.torch import from_torch as from_torch
from jaxnet.convert.torch import from_torch_state as from_torch_state
from jaxnet.convert.torch import to_torch as to_torch
