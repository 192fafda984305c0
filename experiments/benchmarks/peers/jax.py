"""The work in JAX, as users of jax.grad, Equinox and Flax NNX write it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.benchmarks.benchmark import OTHER_ORDER, Implementation
from experiments.benchmarks.workload import Workload
from jaxnet import convert


def to_rows(params) -> list[tuple[jax.Array, jax.Array]]:
    """W (n_prev, n) and b (1, n) of each layer, for Z = A W + b with examples as rows; in memory of their own."""
    return [(jnp.asarray(W).T.copy(), jnp.asarray(b).T.copy()) for W, b in params]


def from_rows(pairs) -> tuple[jaxnet.Layer, ...]:
    """The params of layers W (n_prev, n), b (1, n)."""
    return tuple(jaxnet.Layer(W.T, b.T) for W, b in pairs)


def logits(work: Workload, params, X):
    """The logits of rows of examples, as most code has them; operands in the work's precision."""
    narrow = (lambda x: x.astype(jnp.bfloat16)) if work.precision == "bfloat16" else lambda x: x
    hidden = {"relu": jax.nn.relu, "tanh": jnp.tanh}[work.hidden]
    A = X
    for W, b in params[:-1]:
        A = hidden((narrow(A) @ narrow(W)).astype(jnp.float32) + b)
    W, b = params[-1]
    return (narrow(A) @ narrow(W)).astype(jnp.float32) + b


def loss_of_logits(Z, Y):
    """The mean cross-entropy of rows of logits, as optax has it."""
    if Y.shape[1] == 1:
        return optax.sigmoid_binary_cross_entropy(Z, Y).mean()
    return optax.softmax_cross_entropy(Z, Y).mean()


def gradient_step(work: Workload):
    """step(params, opt_state, X, Y) by jax.value_and_grad and optax."""
    optimizer = work.gradient_transformation

    def step(params, opt_state, X, Y):
        J, grads = jax.value_and_grad(lambda p: loss_of_logits(logits(work, p, X), Y))(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, J

    return step


def grad_in_scan(work: Workload) -> Implementation:
    """jax.grad in one scan over the steps of an epoch, the order by jax.random.permutation."""

    def prepare():
        X, Y, step = jnp.asarray(work.X.T), jnp.asarray(work.Y.T), gradient_step(work)
        size = work.batch_size or work.m

        def epoch(carry, key):
            def one(carry, i):
                params, opt_state = carry
                examples = (X, Y) if work.batch_size is None else (X[i], Y[i])
                params, opt_state, J = step(params, opt_state, *examples)
                return (params, opt_state), J

            order = jnp.zeros((1, 0), int) if work.batch_size is None else jax.random.permutation(key, work.m)
            return jax.lax.scan(one, carry, order.reshape(-1, size) if work.batch_size else order)

        @jax.jit
        def train(params, key):
            carry = params, work.gradient_transformation.init(params)
            (params, _), costs = jax.lax.scan(epoch, carry, jax.random.split(key, work.epochs))
            return params, costs

        start, key = to_rows(work.params), jax.random.key(1)

        def run():
            return jax.block_until_ready(train(start, key))[0]

        return run

    tolerance = OTHER_ORDER if work.batch_size else 1e-2
    return Implementation(
        "jax.grad in a scan", prepare, lambda params: work.cost(from_rows(params)), tolerance=tolerance
    )


def grad_in_loop(work: Workload) -> Implementation:
    """A Python loop of jitted steps, the states donated."""

    def prepare():
        X, Y, step = jnp.asarray(work.X.T), jnp.asarray(work.Y.T), gradient_step(work)
        at = jax.jit(lambda params, opt_state, i: step(params, opt_state, X[i], Y[i]), donate_argnums=(0, 1))
        whole = jax.jit(lambda params, opt_state: step(params, opt_state, X, Y), donate_argnums=(0, 1))
        start = to_rows(work.params)

        def run():
            params = jax.tree.map(jnp.copy, start)
            opt_state = work.gradient_transformation.init(params)
            for batch in work.batches:
                params, opt_state, _ = (
                    whole(params, opt_state) if work.batch_size is None else at(params, opt_state, batch)
                )
            return jax.block_until_ready(params)

        return run

    return Implementation(
        "jax.grad, jitted steps", prepare, lambda params: work.cost(from_rows(params)), tolerance=1e-2
    )


def equinox(work: Workload) -> Implementation:
    """Equinox as its documentation trains: filter_jit of a step, a loop in Python."""

    def prepare():
        import equinox as eqx

        X, Y, optimizer = jnp.asarray(work.X.T), jnp.asarray(work.Y.T), work.gradient_transformation
        start = convert.to_equinox(work.net, work.params, logits=True)

        @eqx.filter_jit
        def step(model, opt_state, i):
            x, y = (X, Y) if work.batch_size is None else (X[i], Y[i])
            grads = eqx.filter_grad(lambda m: loss_of_logits(jax.vmap(m)(x), y))(model)
            updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_inexact_array))
            return eqx.apply_updates(model, updates), opt_state

        def run():
            model, opt_state = start, optimizer.init(eqx.filter(start, eqx.is_inexact_array))
            for batch in work.batches:
                model, opt_state = step(model, opt_state, None if work.batch_size is None else batch)
            return jax.block_until_ready(model)

        return run

    cost = lambda model: work.cost(convert.from_equinox(model)[1])
    return Implementation("Equinox", prepare, cost, "equinox", tolerance=1e-2)


def nnx(work: Workload) -> Implementation:
    """Flax NNX as its documentation trains where a step is short: nnx.jit, nnx.cached_partial, a loop in Python."""

    def prepare():
        from flax import nnx

        X, Y = jnp.asarray(work.X.T), jnp.asarray(work.Y.T)

        def net():
            model = convert.to_nnx(work.net, work.params, logits=True)
            for layer in model.layers:
                if work.precision == "bfloat16" and isinstance(layer, nnx.Linear):
                    layer.dtype = jnp.bfloat16  # of the products; params are float32
            return model

        @nnx.jit
        def step(model, optimizer, i):
            x, y = (X, Y) if work.batch_size is None else (X[i], Y[i])
            grads = nnx.grad(lambda m: loss_of_logits(m(x).astype(jnp.float32), y))(model)
            optimizer.update(model, grads)

        def run():
            model = net()
            optimizer = nnx.Optimizer(model, work.gradient_transformation, wrt=nnx.Param)
            at = nnx.cached_partial(step, model, optimizer)  # without it each call splits the model anew
            for batch in work.batches:
                at(None if work.batch_size is None else batch)
            jax.block_until_ready(nnx.state(model))
            return model

        return run

    tolerance = 2e-2 if work.precision == "bfloat16" else 1e-2
    cost = lambda model: work.cost(convert.from_nnx(model)[1])
    return Implementation("Flax NNX", prepare, cost, "flax", tolerance=tolerance)


def vmap_of_grad(work: Workload, learning_rates: np.ndarray) -> Implementation:
    """vmap of a training by jax.grad, a net for each learning rate; the cost is the median of their last ones."""

    def prepare():
        X, Y = jnp.asarray(work.X.T), jnp.asarray(work.Y.T)

        def train(key, learning_rate):
            init_key, key = jax.random.split(key)
            params = to_rows(jaxnet.init(work.net, init_key))

            def step(params, i):
                loss = lambda p: loss_of_logits(logits(work, p, X[i]), Y[i])
                J, grads = jax.value_and_grad(loss)(params)
                return jax.tree.map(lambda p, g: p - learning_rate * g, params, grads), J

            def epoch(params, key):
                order = jax.random.permutation(key, work.m).reshape(-1, work.batch_size)
                params, costs = jax.lax.scan(step, params, order)
                return params, costs.mean()

            return jax.lax.scan(epoch, params, jax.random.split(key, work.epochs))[1][-1]

        n, train_all = len(learning_rates), jax.jit(jax.vmap(train))
        return lambda: jax.block_until_ready(train_all(jax.random.split(jax.random.key(0), n), learning_rates))

    return Implementation("vmap of jax.grad", prepare, np.median, tolerance=OTHER_ORDER)


def private_in_scan(work: Workload, max_norm: float, noise_multiplier: float) -> Implementation:
    """optax.contrib.dpsgd on vmap(jax.grad), in one scan over the steps of an epoch: batches of one size, shuffled."""
    optimizer = optax.contrib.dpsgd(work.learning_rate, max_norm, noise_multiplier, seed=0)

    def prepare():
        X, Y = jnp.asarray(work.X.T), jnp.asarray(work.Y.T)
        of_one = jax.grad(lambda params, x, y: loss_of_logits(logits(work, params, x[None]), y[None]))

        def step(carry, examples):
            params, state = carry
            each = jax.vmap(of_one, in_axes=(None, 0, 0))(params, X[examples], Y[examples])
            updates, state = optimizer.update(each, state, params)
            return (optax.apply_updates(params, updates), state), None

        def epoch(carry, key):
            order = jax.random.permutation(key, work.m).reshape(-1, work.batch_size)
            return jax.lax.scan(step, carry, order)

        @jax.jit
        def train(params, key):
            carry = params, optimizer.init(params)
            return jax.lax.scan(epoch, carry, jax.random.split(key, work.epochs))[0][0]

        start, key = to_rows(work.params), jax.random.key(1)
        return lambda: jax.block_until_ready(train(start, key))

    cost = lambda pairs: work.cost(from_rows(pairs))
    return Implementation("optax.contrib.dpsgd in a scan", prepare, cost, tolerance=float("inf"))  # noise of its own
