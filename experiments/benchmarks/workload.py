"""What is trained in a benchmark: net, data, start and order of the examples, the same for every implementation."""

import dataclasses
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from jaxnet import datasets
from jaxnet._xla.permutation import random_permutation

DECAY = 1e-4  # AdamW's


@dataclasses.dataclass(frozen=True)
class Workload:
    """Training a net for some epochs; optimizer is "sgd", "adam" or "adamw", batch_size None is the full batch."""

    sizes: tuple[int, ...]
    X: np.ndarray = dataclasses.field(repr=False, hash=False, compare=False)  # (n_x, m)
    labels: np.ndarray = dataclasses.field(repr=False, hash=False, compare=False)  # (m,)
    batch_size: int | None
    epochs: int
    learning_rate: float
    optimizer: str = "sgd"
    precision: str = "float32"
    hidden: str = "relu"

    @property
    def m(self) -> int:
        """The number of examples."""
        return self.X.shape[1]

    @property
    def steps(self) -> int:
        """Steps in all; the batch size divides m."""
        return self.epochs * (self.m // self.batch_size if self.batch_size else 1)

    @cached_property
    def net(self) -> jaxnet.MLP:
        """The network."""
        output = "sigmoid" if self.sizes[-1] == 1 else "softmax"
        return jaxnet.MLP(self.sizes, (self.hidden,) * (len(self.sizes) - 2) + (output,))

    @cached_property
    def Y(self) -> np.ndarray:
        """The targets, (n_y, m): 0 or 1 for one output, one-hot for several."""
        if self.sizes[-1] == 1:
            return self.labels[None].astype(np.float32)
        return np.asarray(jaxnet.one_hot(self.labels, self.sizes[-1]))

    @cached_property
    def params(self) -> tuple[jaxnet.Layer, ...]:
        """The start of every implementation."""
        return jaxnet.init(self.net, jax.random.key(0))

    @cached_property
    def gradient_transformation(self) -> optax.GradientTransformation:
        """The optimizer, for all that use optax."""
        kinds = {"sgd": optax.sgd, "adam": optax.adam, "adamw": partial(optax.adamw, weight_decay=DECAY)}
        return kinds[self.optimizer](self.learning_rate)

    @cached_property
    def batches(self) -> list[np.ndarray]:
        """The examples of each step, in the order that `jaxnet.fit` draws from jax.random.key(1)."""
        if self.batch_size is None:
            return [np.arange(self.m)] * self.epochs
        key, orders = jax.random.split(jax.random.key(1))[1], []
        draw = jax.jit(lambda key: random_permutation(key, self.m))
        for _ in range(self.epochs):
            key, shuffle_key = jax.random.split(key)
            orders += [*np.asarray(draw(shuffle_key)).reshape(-1, self.batch_size)]
        return orders

    def cost(self, params) -> float:
        """The cost on all examples, in float32, of params laid out as ours."""
        as_float32 = lambda x: jnp.asarray(x, jnp.float32)
        return float(jaxnet.cost(self.net, *jax.tree.map(as_float32, (params, self.X, self.Y))))


def digits(sizes, batch_size, epochs, learning_rate, **options) -> Workload:
    """scikit-learn's digits, as many as the batch size divides."""
    split = datasets.digits(0)
    m = split.X.shape[1] // batch_size * batch_size
    return Workload(sizes, split.X[:, :m], split.labels[:m], batch_size, epochs, learning_rate, **options)


def clusters(sizes, m, batch_size, epochs, learning_rate, **options) -> Workload:
    """Normal clouds, one a class: for sizes that no data set here has."""
    rng = np.random.default_rng(0)
    classes = max(2, sizes[-1])
    labels = rng.integers(0, classes, m)
    centres = rng.normal(size=(classes, sizes[0])) * 2 / sizes[0] ** 0.5  # they overlap: no cost falls to nothing
    X = (centres[labels] + rng.normal(size=(m, sizes[0]))).T.astype(np.float32)
    return Workload(sizes, np.ascontiguousarray(X), labels, batch_size, epochs, learning_rate, **options)


def flower(epochs, learning_rate) -> Workload:
    """The notes' own classifier: 2-4-1 on the flower of 400 points, full batch."""
    X, Y = datasets.flower()
    return Workload((2, 4, 1), X.astype(np.float32), Y[0].astype(int), None, epochs, learning_rate, hidden="tanh")
