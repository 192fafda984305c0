"""The work in JAX: ours, and as users of jax.grad, Equinox and Flax NNX write it."""

import jax
import jax.numpy as jnp
import optax

import jaxnet
from experiments.benchmarks.benchmark import Contestant
from experiments.benchmarks.workload import Workload

OTHER_ORDER = 0.25  # an order of its own: the final costs agree only so far


def ours(work: Workload, device=None, name="jaxnet.fit") -> Contestant:
    """`jaxnet.fit`, all of it: checks, transfers, history."""

    def prepare():
        def run():
            result = jaxnet.fit(
                work.net,
                work.X,
                work.Y,
                key=jax.random.key(1),
                optimizer=work.gradient_transformation,
                epochs=work.epochs,
                batch_size=work.batch_size,
                params=work.params,
                precision=work.precision,
                progress=False,
                device=device,
            )
            return jax.block_until_ready(result.params)

        return run

    return Contestant(name, prepare, work.cost)


def plain_forward(work: Workload, params, X):
    """Rows of examples, as most code has them, to logits; operands in the work's precision."""
    narrow = (lambda x: x.astype(jnp.bfloat16)) if work.precision == "bfloat16" else lambda x: x
    hidden = {"relu": jax.nn.relu, "tanh": jnp.tanh}[work.hidden]
    A = X
    for W, b in params[:-1]:
        A = hidden((narrow(A) @ narrow(W)).astype(jnp.float32) + b)
    W, b = params[-1]
    return (narrow(A) @ narrow(W)).astype(jnp.float32) + b


def loss_of_logits(Z, Y):
    """Mean cross-entropy of rows of logits, as optax has it."""
    if Y.shape[1] == 1:
        return optax.sigmoid_binary_cross_entropy(Z, Y).mean()
    return optax.softmax_cross_entropy(Z, Y).mean()


def by_rows(params):
    """Our params as (n_prev, n) and (1, n)."""
    return [(jnp.asarray(W).T.copy(), jnp.asarray(b).T.copy()) for W, b in params]


def by_columns(params):
    """And back."""
    return tuple(jaxnet.Layer(W.T, b.T) for W, b in params)


def _step(work):
    optimizer = work.gradient_transformation

    def step(params, opt_state, X, Y):
        J, grads = jax.value_and_grad(lambda p: loss_of_logits(plain_forward(work, p, X), Y))(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, J

    return step


def grad_in_scan(work: Workload) -> Contestant:
    """jax.grad in one scan over the steps of an epoch, the order by jax.random.permutation."""

    def prepare():
        X, Y, step = jnp.asarray(work.X.T), jnp.asarray(work.Y.T), _step(work)
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

        start, key = by_rows(work.params), jax.random.key(1)

        def run():
            return jax.block_until_ready(train(start, key))[0]

        return run

    tolerance = OTHER_ORDER if work.batch_size else 1e-2
    return Contestant("jax.grad in a scan", prepare, lambda params: work.cost(by_columns(params)), tolerance=tolerance)


def grad_in_a_loop(work: Workload) -> Contestant:
    """A Python loop of jitted steps, the states donated."""

    def prepare():
        X, Y, step = jnp.asarray(work.X.T), jnp.asarray(work.Y.T), _step(work)
        at = jax.jit(lambda params, opt_state, i: step(params, opt_state, X[i], Y[i]), donate_argnums=(0, 1))
        whole = jax.jit(lambda params, opt_state: step(params, opt_state, X, Y), donate_argnums=(0, 1))
        start = by_rows(work.params)

        def run():
            params = jax.tree.map(jnp.copy, start)
            opt_state = work.gradient_transformation.init(params)
            for batch in work.batches:
                params, opt_state, _ = (
                    whole(params, opt_state) if work.batch_size is None else at(params, opt_state, batch)
                )
            return jax.block_until_ready(params)

        return run

    return Contestant("jax.grad, jitted steps", prepare, lambda params: work.cost(by_columns(params)), tolerance=1e-2)


def equinox(work: Workload) -> Contestant:
    """Equinox as its documentation trains: filter_jit of a step, a loop in Python."""

    def prepare():
        import equinox as eqx

        X, Y, optimizer = jnp.asarray(work.X.T), jnp.asarray(work.Y.T), work.gradient_transformation
        hidden = {"relu": jax.nn.relu, "tanh": jnp.tanh}[work.hidden]
        width = work.sizes[1]
        mlp = eqx.nn.MLP(work.sizes[0], work.sizes[-1], width, len(work.sizes) - 2, hidden, key=jax.random.key(0))
        if any(n != width for n in work.sizes[1:-1]):
            raise ValueError("eqx.nn.MLP has one width")
        leaves = lambda model: [p for layer in model.layers for p in (layer.weight, layer.bias)]  # noqa: E731
        start = eqx.tree_at(leaves, mlp, [p for W, b in work.params for p in (W, b[:, 0])])

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
            params = jax.block_until_ready([(layer.weight, layer.bias[:, None]) for layer in model.layers])
            return tuple(jaxnet.Layer(*p) for p in params)

        return run

    return Contestant("Equinox", prepare, work.cost, "equinox", tolerance=1e-2)


def nnx(work: Workload) -> Contestant:
    """Flax NNX as its documentation trains where a step is short: nnx.jit, nnx.cached_partial, a loop in Python."""

    def prepare():
        from flax import nnx

        X, Y = jnp.asarray(work.X.T), jnp.asarray(work.Y.T)
        hidden = {"relu": jax.nn.relu, "tanh": jnp.tanh}[work.hidden]

        dtype = jnp.bfloat16 if work.precision == "bfloat16" else None  # of the products; params are float32

        class Net(nnx.Module):
            def __init__(self):
                rngs = nnx.Rngs(0)
                pairs = zip(work.sizes[:-1], work.sizes[1:], strict=True)
                self.layers = nnx.List([nnx.Linear(n_prev, n, dtype=dtype, rngs=rngs) for n_prev, n in pairs])
                for layer, (W, b) in zip(self.layers, work.params, strict=True):
                    layer.kernel[...], layer.bias[...] = jnp.asarray(W).T, jnp.asarray(b)[:, 0]

            def __call__(self, A):
                for layer in self.layers[:-1]:
                    A = hidden(layer(A))
                return self.layers[-1](A)

        @nnx.jit
        def step(model, optimizer, i):
            x, y = (X, Y) if work.batch_size is None else (X[i], Y[i])
            grads = nnx.grad(lambda m: loss_of_logits(m(x).astype(jnp.float32), y))(model)
            optimizer.update(model, grads)

        def run():
            model = Net()
            optimizer = nnx.Optimizer(model, work.gradient_transformation, wrt=nnx.Param)
            at = nnx.cached_partial(step, model, optimizer)  # 2.9x as fast for 64-32-10
            for batch in work.batches:
                at(None if work.batch_size is None else batch)
            params = [(layer.kernel[...].T, layer.bias[...][:, None]) for layer in model.layers]
            return tuple(jaxnet.Layer(*p) for p in jax.block_until_ready(params))

        return run

    tolerance = 2e-2 if work.precision == "bfloat16" else 1e-2
    return Contestant("Flax NNX", prepare, work.cost, "flax", tolerance=tolerance)
