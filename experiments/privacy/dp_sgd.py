"""Differentially private gradient descent (DP-SGD) on all examples at every step: training, guarantee and parts.

`jaxnet.Privacy` says what a step is and what T of them guarantee, and `fit` trains with it; here are the parts that the
guarantee rests on, each measured by itself.

Source: M. Abadi et al. 2016, arXiv 1607.00133.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.runner.experiment import distance

NET = jaxnet.MLP((64, 64, 10), ("tanh", "softmax"))
DELTA = 1e-5  # below 1/m, as is usual
LEFT_OUT = 20  # examples left out in turn, to see how far one can move the sum


def trained(steps: int, C: float, optimizer, sigma: float, params, key, X, Y) -> jaxnet.FitResult:
    """Train from these params on all examples at every step, with noise of that key."""
    settings = {"steps": steps, "batch_size": None, "optimizer": optimizer, "progress": False}
    return jaxnet.fit(NET, X, Y, key=key, params=params, privacy=jaxnet.Privacy(C, sigma, DELTA), **settings)


def gradients() -> dict:
    """Compiled functions (params, X, Y, key, C) -> gradients: plain, clipped, clipped and noisy, one by one."""
    functions = {
        "batch gradient": lambda params, X, Y, key, C: jaxnet.value_and_grad(NET, params, X, Y)[1],
        "clipped sum": lambda params, X, Y, key, C: jaxnet.clipped_grads(NET, params, X, Y, C),
        "clipped, noisy sum": lambda params, X, Y, key, C: jaxnet.clipped_grads(NET, params, X, Y, C, key, 1.0),
        "each gradient formed": lambda params, X, Y, key, C: by_example(params, X, Y, C),
    }
    return {name: jax.jit(function) for name, function in functions.items()}


def by_example(params, X, Y, C: float):
    """The clipped sum the plain way: every example's gradient formed, clipped and added."""
    grads = jaxnet.per_example_grads(NET, params, X, Y)
    norms = jax.vmap(optax.tree.norm)(grads)
    return jax.tree.map(lambda g: jnp.tensordot(jnp.minimum(1, C / norms), g, axes=1), grads)


norms = jax.jit(partial(jaxnet.per_example_norms, NET))


def error_of_the_clipped_sum(functions: dict, params, X, Y, key, C: float) -> float:
    """How far the clipped sum is from that of gradients formed one by one, relative to it."""
    total, plain = (functions[name](params, X, Y, key, C) for name in ("clipped sum", "each gradient formed"))
    return distance(total, plain) / distance(plain, jax.tree.map(np.zeros_like, plain))


def properties(functions: dict, C: float, params, X, Y, key) -> dict[str, float]:
    """What the guarantee rests on: the sum, how far one example moves it, and the noise."""
    clipped = functions["clipped sum"]
    total = clipped(params, X, Y, key, C)
    median = float(np.median(norms(params, X, Y)))  # at the start C clips nearly all
    without = ([np.delete(part, i, axis=1) for part in (X, Y)] for i in range(LEFT_OUT))
    moves = [distance(total, clipped(params, *others, key, C)) for others in without]
    noise = distance(functions["clipped, noisy sum"](params, X, Y, key, C), total)
    n = sum(leaf.size for leaf in jax.tree.leaves(params))
    return {
        "error_of_the_clipped_sum": error_of_the_clipped_sum(functions, params, X, Y, key, C),
        "error_where_half_are_clipped": error_of_the_clipped_sum(functions, params, X, Y, key, median),
        "largest_move_by_one_digit": max(moves),
        "measured_noise_multiplier": noise / C / math.sqrt(n),
    }
