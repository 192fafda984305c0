"""The examples that a network is trained on, in device memory, and the mini-batches of an epoch.

A full batch is columns, as everywhere else; a mini-batch is gathered from rows, (m, n_x), and transposed: three times
faster than gathering columns.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from jaxnet._xla.permutation import random_permutation
from jaxnet._xla.transpose import transposed
from jaxnet.parallel import meshes, placing

OVERFLOW = 1e-30  # the probability of a Poisson batch that is cut

Place = Callable[[Any], Any]  # a tree of host arrays to where it is computed with, such as jax.device_put


class Data(NamedTuple):
    """A data set in device memory: by columns for full batches, by rows for mini-batches.

    counting: how many examples mini-batches are of, where those of weight 0 stand behind them; None where it is all.
    """

    X: Float[Array, "..."]
    Y: Float[Array, "..."]
    weights: Float[Array, " m"] | None
    counting: UInt32[Array, ""] | None = None

    @classmethod
    def by_columns(cls, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None, place: Place) -> "Data":
        """Columns as they are, in copies: JAX on a CPU may work on the caller's own memory."""
        return cls(*place((X.copy(), Y.copy(), weights)))

    @classmethod
    def by_rows(cls, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None, place: Place) -> "Data":
        """Columns turned into rows, on the host."""
        counting = None
        if weights is not None and not weights.all():
            order, counting = np.argsort(weights == 0, kind="stable"), np.uint32(np.count_nonzero(weights))
            X, Y, weights = X[:, order], Y[:, order], weights[order]
        return cls(*place((transposed(X), transposed(Y), weights, counting)))


class Batch(NamedTuple):
    """One mini-batch as columns, and what each example counts; padding counts 0."""

    X: Float[Array, "n_x batch"]
    Y: Float[Array, "n_y batch"]
    weights: Float[Array, " batch"]


def padded_to(width: int, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None) -> tuple:
    """The columns, with examples of weight 0 up to that width; weights may be None where there are none."""
    pad = lambda array: np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])])
    return pad(X), pad(Y), None if weights is None else pad(weights)


def parts_on_mesh(mesh: Mesh, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None) -> tuple:
    """On the mesh the columns of all processes, of which these are one's: as many as each of the others has."""
    columns = meshes.columns(mesh)
    X, Y = placing.put_parts((X, Y), columns)
    if weights is not None:
        weights = placing.put_parts(weights, meshes.vector(mesh))
    return X, Y, placing.put(weights, meshes.replicated(mesh))


class Batches(NamedTuple):
    """An epoch's mini-batches, padded to one size: the examples of each, and 1 for an example, 0 for padding."""

    examples: Int[Array, "steps batch"]
    counts: Float[Array, "steps batch"]


def random_batches(key: PRNGKeyArray | Array, data: Data, batch_size: int | None, mesh: Mesh | None) -> Batches:
    """Return the mini-batches of an epoch over data by rows, in an order that depends on the key alone.

    Examples that do not count come in the last ones: the others' are as if there were none.
    """
    m = data.X.shape[0]
    order, counts = random_permutation(key, m, data.counting), jnp.ones(m, data.X.dtype)
    return Batches(_rows(order, batch_size or m, mesh), _rows(counts, batch_size or m, mesh))


def poisson_batches(key: PRNGKeyArray | Array, data: Data, batch_size: int | None) -> Batches:
    """Return the batches of an epoch of private training over data by rows: m / batch_size of them, rounded up.

    Each example is in each batch with probability q = batch_size / m, independently. The gap from one that is drawn to
    the next has the geometric distribution, 1 + ⌊E / -ln(1 - q)⌋ for an exponential E: a batch costs as many random
    numbers as it has room for, and not m.
    """
    m = data.X.shape[0]
    batch_size = batch_size or m
    steps, width = -(-m // batch_size), poisson_width(m, batch_size)
    bits = jax.random.bits(key, (steps, width), jnp.uint32)  # jax.random.exponential knows 2^23 numbers
    uniform = jnp.minimum(jnp.float32(2**-32) * (bits.astype(jnp.float32) + 0.5), jnp.float32(1 - 2**-24))
    rate = jnp.float32(math.inf if batch_size == m else -math.log1p(-batch_size / m))
    gaps = 1 + jnp.minimum(-jnp.log1p(-uniform) / rate, m).astype(jnp.uint32)
    numbers = jax.lax.associative_scan(lambda a, b: jnp.minimum(a + b, jnp.uint32(m + 1)), gaps, axis=1)
    drawn = numbers <= m
    examples = jnp.where(drawn, numbers - 1, 0).astype(jnp.int32)
    return Batches(examples, drawn.astype(data.X.dtype))


def poisson_width(m: int, batch_size: int) -> int:
    """For how many examples a Poisson batch has room: more are drawn with a probability below 1e-30.

    By Bernstein's inequality: P(K >= mean + t) <= exp(-t² / (2 (variance + t/3))).
    """
    log, variance = -math.log(OVERFLOW), batch_size * (1 - batch_size / m)
    return min(m, math.ceil(batch_size + log / 3 + math.sqrt((log / 3) ** 2 + 2 * log * variance)))


def usual_widths(m: int, batch_size: int | None) -> tuple[int, int]:
    """For how many examples nearly all Poisson batches need room, the mean and two standard deviations, and half."""
    batch_size = batch_size or m
    return math.ceil(batch_size + 2 * math.sqrt(batch_size * (1 - batch_size / m))), batch_size


def _rows(vector, batch_size, mesh):
    """The vector cut into rows of batch_size, each padded with zeros to what the mesh divides."""
    rows = jnp.pad(vector, (0, -vector.size % batch_size)).reshape(-1, batch_size)
    return jnp.pad(rows, ((0, 0), (0, meshes.padding(batch_size, mesh))))


def gather(data: Data, examples: Int[Array, " batch"], counts: Float[Array, " batch"], mesh: Mesh | None) -> Batch:
    """Return one mini-batch."""
    weights = counts if data.weights is None else counts * data.weights[examples]
    X, Y = (meshes.split_columns(rows[examples].T, mesh) for rows in (data.X, data.Y))
    return Batch(X, Y, weights)
